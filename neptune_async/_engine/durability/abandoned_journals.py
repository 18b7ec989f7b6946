"""The journals of dead processes: how to find them, and how to read them."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from array import array
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neptune_async._engine.durability.frames import (
    DECODING_ERRORS,
    DamagedFrame,
    payloads,
    unlisted,
)
from neptune_async._engine.durability.temporary_folder import temporary_of
from neptune_async._engine.storing.uploads import pending_in
from neptune_async._model.operations import POINT_FIELDS, Batch, CreateVariable, Part
from neptune_async._model.values import decode
from neptune_async.exceptions import StorageFormatError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]  # IS_AVAILABLE is asked before it is used
from neptune_async._engine.durability.journal import IS_AVAILABLE, own_journals, remove_folder
from neptune_async._engine.durability.journal_segments import (
    FIRST,
    MAGIC,
    OWNER,
    STATE,
    files_of,
    without_marks,
)

_FLOCK = struct.Struct('@hhqqi4x')
"""``struct flock`` of Linux: the type of the lock, the origin of its start, its start, its length,
and the process that holds it.
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """The content of a segment whose owner has died.

    :ivar writer: the writer of the batch that the segment became.
    :ivar number: the number of that batch; 0 if the segment became no batch.
    :ivar batch: what to store, if storage does not have that batch.
    """

    writer: bytes
    number: int
    batch: Batch


class AbandonedJournal:
    """The journal of a dead process. It is locked, so that no other process recovers it, too."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.path = folder
        self._lock = lock

    def segments(self) -> list[Segment]:
        """Return the segments in order.

        :raises StorageFormatError: the journal is damaged.
        :raises OSError: the journal cannot be read.
        """
        return segments_of(self.path)

    def remove(self) -> None:
        """Remove the files. Storage must have all that is in them."""
        for path in sorted(self.path.iterdir(), reverse=True):
            if path.name != 'lock':
                path.unlink(missing_ok=True)
        remove_folder(self.path)

    def let_go(self) -> None:
        """Unlock the journal. Other processes may recover it then."""
        os.close(self._lock)


def find_journals(folder: Path) -> Iterator[AbandonedJournal]:
    """Yield the journals in a store's folder whose owners have died. Each is locked."""
    for path in sorted(folder.glob('*.journal')) if IS_AVAILABLE else ():
        if path in own_journals:
            continue
        try:
            lock = os.open(path / 'lock', os.O_RDWR)
        except OSError:
            with suppress(OSError):
                path.rmdir()  # the process that removed it was killed before this step
            continue
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.fstat(lock).st_nlink > 0
        except OSError:
            is_there = False
        if is_there:
            yield AbandonedJournal(path, lock)
        else:
            os.close(lock)


def see_journals(folder: Path, known: Container[Path] = ()) -> list[Path]:
    """Return the journals in a store's folder whose owners have died. Lock and remove nothing.

    Only Linux can tell which owners have died. On other systems the list is empty.

    :param known: journals whose owners are known to have died. Who holds one recovers it.
    """
    if not sys.platform.startswith('linux'):
        return []
    found = sorted(folder.glob('*.journal'))
    return [
        path for path in found if path not in own_journals and (path in known or not _is_held(path))
    ]


def _is_held(journal: Path) -> bool:
    """Whether another process holds a journal.

    This does not try to take the lock. To take it, even for a moment, could make another process
    that wants to recover the journal skip it.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        lock = os.open(journal / 'lock', os.O_RDONLY)
        try:
            answer = fcntl.fcntl(lock, fcntl.F_GETLK, asked)
        finally:
            os.close(lock)
    except OSError:
        return True  # another process is creating or removing it
    held_as, *_ = _FLOCK.unpack(answer)
    return bool(held_as != fcntl.F_UNLCK)


def segments_of(journal: Path) -> list[Segment]:
    """Return the segments of a journal in order.

    :raises StorageFormatError: the journal is damaged.
    :raises OSError: the journal cannot be read.
    """
    found = [_read(path) for path in journal.glob('*.points')]
    return [segment for _, segment in sorted(filter(None, found), key=lambda item: item[0])]


def _read(path: Path) -> tuple[int, Segment] | None:
    """Return the order and the content of a segment; None if its owner died while it created it."""
    content = path.read_bytes()
    if not content.startswith(MAGIC):
        return None
    try:
        _, number, whole, writer, crc32 = STATE.unpack_from(content)
        identity, order, experiment_id, length = OWNER.unpack_from(content, STATE.size)
        end = STATE.size + OWNER.size + length
        points = array('d', content[FIRST:])
        known = (whole - FIRST) // 8
        if zlib.crc32(content[STATE.size : end]) != crc32 or end > FIRST:
            raise ValueError('the checksum of its head differs')
        if known % POINT_FIELDS or len(points) % POINT_FIELDS:
            raise ValueError('a part of a point is missing')
        if not 0 <= known <= len(points) or not all(points[:known:POINT_FIELDS]):
            raise ValueError('points are missing')
        part = Part(experiment_id, content[end - length : end].decode(), None)
        _read_operations(files_of(path.with_suffix(''))[1], part)
    except DECODING_ERRORS as error:
        raise StorageFormatError(f'the journal {path} is damaged: {error}') from error
    for file in pending_in(part):
        folder = path.parent.parent
        file.look_in(folder, temporary_of(folder))
    part.points = _whole_points(points, known)
    creations = sum(isinstance(operation, CreateVariable) for operation in part.operations)
    part.count = len(part.points) // POINT_FIELDS + len(part.texts)
    part.count += len(part.operations) - creations
    return order, Segment(writer, number, Batch(identity, 1, [part]))


def _read_operations(path: Path, part: Part) -> None:
    content = path.read_bytes() if path.exists() else b''
    try:
        for payload in payloads(content):
            operations, texts = decode(payload)
            part.operations += [unlisted(*operation) for operation in operations]
            part.texts += [(text[0], text[1], text[2], text[3]) for text in texts]
    except DamagedFrame:
        pass  # the owner died while it wrote this frame, so the call never returned


def _whole_points(points: array[float], whole: int) -> array[float]:
    """Return the points of all calls that had returned.

    :param whole: how many of the numbers are known to be complete.
    """
    end = whole
    while end < len(points) and points[end]:
        end += POINT_FIELDS
    del points[end:]
    begin = max(whole, _last_call(points, end))
    is_cut = begin < end and points[end - POINT_FIELDS] < 0
    # If the owner died while a point was copied, both time and value are zero: they are copied
    # together.
    torn = any(
        points[time] == points[time + 1] == 0.0 for time in range(begin + 2, end, POINT_FIELDS)
    )
    if is_cut or torn:
        del points[begin:]
    return without_marks(points)


def _last_call(points: array[float], end: int) -> int:
    """Return where the points of the last call begin. Not all of them may be there."""
    begin = end - POINT_FIELDS
    while begin >= POINT_FIELDS and points[begin - POINT_FIELDS] < 0:
        begin -= POINT_FIELDS
    return max(begin, 0)
