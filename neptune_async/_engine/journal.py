"""A journal: what was accepted and is not stored yet, in files that outlive the process.

With ``durability='call'`` a write is in it when the call returns. It needs no
disk for that: what a process has put into a mapped file, or given to the
kernel, is there when the process is killed. (A power failure is another
matter, see ``durability='power'``.)

A journal is a folder beside the spill files, with a file ``lock`` that its
owner holds a lock on for as long as it lives, and segments. A segment holds
what is to become the share of the experiment in one batch; there are two, one
that is filled while the other is on its way, unless storage is slow, or a
rewind has cut off what comes before it. A segment
``N`` is two files:

``N.points``
    Mapped. A header (``_STATE``, ``_OWNER``), then float points as they are in the queue.
    They are written without a lock, by one call into C; the first zero key
    tells where they end. The points of one call belong together: all but the
    last have a negative key.
``N.operations``
    Appended to, under the queue's lock: frames (see ``records``), each a list
    of operations and a list of points of texts and datetimes.

Once a segment is taken into a batch, its header names writer and number of
that batch, so that it is known whether storage has it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import uuid
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import neg
from pathlib import Path

from neptune_async._engine.records import (
    DECODING_ERRORS,
    DamagedFrame,
    frame,
    listed,
    payloads,
    unlisted,
)
from neptune_async._model.operations import (
    POINT,
    POINT_FIELDS,
    Batch,
    CreateVariable,
    Operation,
    Part,
    TextPoint,
)
from neptune_async._model.values import decode, encode_points
from neptune_async.exceptions import StorageFormatError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]  # IS_AVAILABLE is asked before it is used

IS_AVAILABLE = fcntl is not None
"""Whether the system has what a journal needs."""

_STATE = struct.Struct('<16s Q Q 16s I')
"""What begins a file of points: what it is; the number of the batch that the segment became, 0
while it is none; the position before which every point is whole; the batch's writer; the CRC-32 of
``_OWNER`` and the name."""
_NUMBER, _WHOLE, _WRITER = 16, 24, 32
_OWNER = struct.Struct('<16s Q q I')
"""What follows: whom to store the segment for if it became no batch; its place in the order of
segments; the experiment's id; the length of its name, which comes next."""
_MAGIC = b'neptune journal1'
_FIRST = 4096
"""Where the points begin."""
_NUMBERS = struct.Struct('<Q')
_FLOCK = struct.Struct('@hhqqi4x')
"""What Linux tells of a lock: how it is held, whence, from where, how far, and by whom."""

_live: set[Path] = set()
"""The journals of this process, which its own locks do not keep it out of."""


class Journal:
    """The journal of one queue. All but ``write`` is called under the queue's lock.

    :ivar write: appends points that take bytes of ``POINT``; raises ``ValueError``
        where there is no room for them left, or the segment is closed.
    :param points: how many points a segment has room for at first.
    :raises OSError: the files cannot be made.
    """

    write: Callable[[bytes], int]

    def __init__(self, folder: Path, experiment_id: int, name: str, points: int) -> None:
        self._experiment = (experiment_id, name)
        self._capacity = points * POINT.size
        self._folder = folder / f'{uuid.uuid4().hex}.journal'
        self._free: list[_Segment] = []
        self._cut: deque[_Segment | None] = deque()
        self._sealed: dict[tuple[bytes, int], _Segment] = {}
        self._segments = 0
        unfinished = self._folder.with_suffix('.part')
        unfinished.mkdir(mode=0o700, parents=True)
        self._lock = os.open(unfinished / 'lock', os.O_RDWR | os.O_CREAT, 0o600)
        # Not inherited by a fork, unlike what flock() takes.
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        _live.add(self._folder)
        unfinished.rename(self._folder)
        self._current: _Segment | None = None
        try:
            self.begin()
        except OSError:
            self.remove()
            raise

    @property
    def points(self) -> array[float]:
        """The points of the current segment."""
        return _abs_keys(self._current.points()) if self._current else array('d')

    @property
    def count(self) -> int:
        """How many points are in the current segment."""
        return (self._current.end - _FIRST) // POINT.size if self._current else 0

    def enlarge(self, more: int) -> None:
        """Make room for so many bytes of points.

        :raises OSError: there is none.
        """
        if self._current is None:
            raise OSError('a segment could not be made')
        self._current.enlarge(more + self._capacity)
        self.write = self._current.map.write

    def put(self, operations: Sequence[Operation], texts: Sequence[TextPoint]) -> None:
        """Append operations and texts, all or none of them.

        :raises OSError: there is no room.
        """
        if self._current is None:
            raise OSError('a segment could not be made')
        self._current.put(operations, texts)

    def mark_whole(self) -> None:
        """Note that all points so far are whole, for some that do not show it themselves."""
        if self._current is not None:
            self._current.mark_whole()

    def cut(self) -> array[float]:
        """Close the segment; ``begin`` has to follow.

        :returns: its points.
        """
        segment, self._current = self._current, None
        self._cut.append(segment)
        if segment is None:
            return array('d')
        segment.close()
        return _abs_keys(segment.points())

    def seal(self, writer: bytes, number: int) -> None:
        """Have the segment that was cut first become a part of that batch."""
        segment = self._cut.popleft()
        if segment is not None:
            segment.seal(writer, number)
            self._sealed[writer, number] = segment

    def begin(self) -> None:
        """Begin another segment.

        :raises OSError: it cannot be made.
        """
        self._segments += 1
        if self._free:
            segment = self._free.pop()
        else:
            path = self._folder / str(self._segments)
            segment = _Segment(path, self._capacity, *self._experiment)
        segment.begin(self._segments)
        self._current = segment
        self.write = segment.map.write

    def release(self, writer: bytes, number: int) -> None:
        """Forget the segment of a batch that is stored, or kept elsewhere."""
        segment = self._sealed.pop((writer, number), None)
        if segment is not None:
            segment.clear()
            self._free.append(segment)

    @property
    def is_empty(self) -> bool:
        """Whether all that was ever in it is stored, or kept elsewhere."""
        kept = (*self._cut, *self._sealed.values())
        return not any(kept) and (self._current is None or self._current.is_empty)

    def remove(self) -> None:
        """Remove the files."""
        for segment in (self._current, *self._cut, *self._sealed.values(), *self._free):
            if segment is not None:
                segment.remove()
        _remove_folder(self._folder)
        _live.discard(self._folder)
        os.close(self._lock)


class _Segment:
    """The files of a segment.

    :ivar map: the points' file.
    """

    def __init__(self, path: Path, capacity: int, experiment_id: int, name: str) -> None:
        self._experiment = (experiment_id, name.encode())
        self._points, self._operations = _files_of(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        self._file = os.open(self._points, flags, 0o600)
        self._appended = os.open(self._operations, flags | os.O_APPEND, 0o600)
        self._closed_at: int | None = None
        try:
            self.map = self._mapped(_FIRST + capacity)
        except OSError:
            self.remove()
            raise

    def _mapped(self, size: int) -> mmap.mmap:
        # Written, since a page that the disk has no room for would end the process by SIGBUS.
        there = os.fstat(self._file).st_size
        while there < size:
            there += os.pwrite(self._file, bytes(size - there), there)
        return mmap.mmap(self._file, size)

    def begin(self, order: int) -> None:
        """Become the current segment, an empty one."""
        experiment_id, name = self._experiment
        owner = _OWNER.pack(uuid.uuid4().bytes, order, experiment_id, len(name)) + name
        content = _STATE.pack(_MAGIC, 0, _FIRST, bytes(16), zlib.crc32(owner)) + owner
        # Last what makes it a segment.
        self.map[len(_MAGIC) : len(content)] = content[len(_MAGIC) :]
        self.map[: len(_MAGIC)] = _MAGIC
        self.map.seek(_FIRST)
        self._closed_at = None

    @property
    def end(self) -> int:
        """Where the points end."""
        closed_at = self._closed_at
        return self.map.tell() if closed_at is None else closed_at

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self.end == _FIRST and os.fstat(self._appended).st_size == 0

    def points(self) -> array[float]:
        """Return a copy of all points."""
        points = array('d')
        points.frombytes(self.map[_FIRST : self.end])
        return points

    def close(self) -> None:
        """Have no room any more, for any thread."""
        end = self._closed_at = self.map.tell()
        self.map.seek(len(self.map))
        # Another thread may have come between the two.
        while end < len(self.map) and any(self.map[end : end + 8]):
            end += POINT.size
        self._closed_at = end

    def enlarge(self, more: int) -> None:
        """Have room for so many bytes more."""
        self.close()
        # Who still has the old map's write is told that there is no room.
        enlarged = self._mapped(len(self.map) + more)
        enlarged.seek(self.end)
        self.map, self._closed_at = enlarged, None

    def put(self, operations: Sequence[Operation], texts: Sequence[TextPoint]) -> None:
        """Append to the other file."""
        record = frame(encode_points([[*map(listed, operations)], [*map(list, texts)]]))
        if os.write(self._appended, record) < len(record):
            raise OSError(f'there is no room for {self._operations}')

    def mark_whole(self) -> None:
        """Note where the points end."""
        _NUMBERS.pack_into(self.map, _WHOLE, self.map.tell())

    def seal(self, writer: bytes, number: int) -> None:
        """Note which batch it became."""
        self.map[_WRITER : _WRITER + len(writer)] = writer
        # Last: a number without its writer would be taken for another batch.
        _NUMBERS.pack_into(self.map, _NUMBER, number)

    def clear(self) -> None:
        """Become empty; until that is done, the header says that all is stored."""
        os.ftruncate(self._appended, 0)
        self.map[_FIRST : self.end] = bytes(self.end - _FIRST)
        _NUMBERS.pack_into(self.map, _WHOLE, _FIRST)
        self._closed_at = _FIRST

    def remove(self) -> None:
        """Remove the files."""
        # First the points: operations alone are nothing.
        for path in (self._points, self._operations):
            path.unlink(missing_ok=True)
        os.close(self._file)
        os.close(self._appended)


def _files_of(segment: Path) -> tuple[Path, Path]:
    return segment.with_suffix('.points'), segment.with_suffix('.operations')


def grouped(points: bytes) -> bytes:
    """Return the points of one call, marked as such."""
    if len(points) == POINT.size:
        return points
    marked = array('d', points)
    marked[:-POINT_FIELDS:POINT_FIELDS] = array('d', map(neg, marked[:-POINT_FIELDS:POINT_FIELDS]))
    return marked.tobytes()


def ungrouped(points: bytes) -> bytes:
    """Return points without the marks of ``grouped``."""
    return _abs_keys(array('d', points)).tobytes()


def _abs_keys(points: array[float]) -> array[float]:
    keys = points[::POINT_FIELDS]
    if keys and min(keys) < 0:
        points[::POINT_FIELDS] = array('d', map(abs, keys))
    return points


# ── What others left ─────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Segment:
    """What is in a segment whose owner has died.

    :ivar number: of the batch that it became; 0 if it became none.
    :ivar batch: what to store if storage does not have that batch.
    """

    writer: bytes
    number: int
    batch: Batch


class AbandonedJournal:
    """The journal of a process that has died, which nobody else takes in meanwhile."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.path = folder
        self._lock = lock

    def segments(self) -> list[Segment]:
        """Return what is in it, in order.

        :raises StorageFormatError: when it is damaged.
        :raises OSError: when it cannot be read.
        """
        return segments_of(self.path)

    def remove(self) -> None:
        """Remove it, once storage has all that is in it."""
        for path in sorted(self.path.iterdir(), reverse=True):
            if path.name != 'lock':
                path.unlink(missing_ok=True)
        _remove_folder(self.path)

    def let_go(self) -> None:
        """Leave what is there to others."""
        os.close(self._lock)


def find_journals(folder: Path) -> Iterator[AbandonedJournal]:
    """Yield the journals beside a store whose owners have died."""
    for path in sorted(folder.glob('*.journal')) if IS_AVAILABLE else ():
        if path in _live:
            continue
        try:
            lock = os.open(path / 'lock', os.O_RDWR)
        except OSError:
            with suppress(OSError):
                path.rmdir()  # its remover was killed before it came to that
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


def see_journals(folder: Path) -> list[Path]:
    """Return the journals beside a store whose owners have died; nothing is locked or removed.

    Only on Linux can that be told: elsewhere there is none.
    """
    if not sys.platform.startswith('linux'):
        return []
    found = sorted(folder.glob('*.journal'))
    return [path for path in found if path not in _live and not _is_held(path)]


def _is_held(journal: Path) -> bool:
    """Whether another process holds a journal. To try the lock would be to have it for a moment,
    in which who wants to take the journal in leaves it.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        lock = os.open(journal / 'lock', os.O_RDONLY)
        try:
            answer = fcntl.fcntl(lock, fcntl.F_GETLK, asked)
        finally:
            os.close(lock)
    except OSError:
        return True  # it is being made, or removed
    held_as, *_ = _FLOCK.unpack(answer)
    return bool(held_as != fcntl.F_UNLCK)


def segments_of(journal: Path) -> list[Segment]:
    """Return what is in a journal, in order.

    :raises StorageFormatError: when it is damaged.
    :raises OSError: when it cannot be read.
    """
    found = [_read(path) for path in journal.glob('*.points')]
    return [segment for _, segment in sorted(filter(None, found), key=lambda item: item[0])]


def forget_parent() -> None:
    """In a forked child: what was the process's own is another's now."""
    _live.clear()


def _remove_folder(folder: Path) -> None:
    (folder / 'lock').unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _read(path: Path) -> tuple[int, Segment] | None:
    """Return order and content of a segment; None if its owner died before it was made."""
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        return None
    try:
        _, number, whole, writer, crc32 = _STATE.unpack_from(content)
        identity, order, experiment_id, length = _OWNER.unpack_from(content, _STATE.size)
        end = _STATE.size + _OWNER.size + length
        points = array('d', content[_FIRST:])
        known = (whole - _FIRST) // 8
        if zlib.crc32(content[_STATE.size : end]) != crc32 or end > _FIRST:
            raise ValueError('the checksum of its head differs')
        if known % POINT_FIELDS or len(points) % POINT_FIELDS:
            raise ValueError('a part of a point is missing')
        if not 0 <= known <= len(points) or not all(points[:known:POINT_FIELDS]):
            raise ValueError('points are missing')
        part = Part(experiment_id, content[end - length : end].decode(), None)
        _read_operations(_files_of(path.with_suffix(''))[1], part)
    except DECODING_ERRORS as error:
        raise StorageFormatError(f'the journal {path} is damaged: {error}') from error
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
        pass  # its owner died while it wrote that, before the call returned


def _whole_points(points: array[float], whole: int) -> array[float]:
    """Return the points of all calls that had returned.

    :param whole: how many of the numbers are known to be there.
    """
    end = whole
    while end < len(points) and points[end]:
        end += POINT_FIELDS
    del points[end:]
    begin = max(whole, _last_call(points, end))
    is_cut = begin < end and points[end - POINT_FIELDS] < 0
    # Of a point that was being copied time and value are missing: they are copied together.
    torn = any(
        points[time] == points[time + 1] == 0.0 for time in range(begin + 2, end, POINT_FIELDS)
    )
    if is_cut or torn:
        del points[begin:]
    return _abs_keys(points)


def _last_call(points: array[float], end: int) -> int:
    """Return where the points of the last call begin, which may not be all there."""
    begin = end - POINT_FIELDS
    while begin >= POINT_FIELDS and points[begin - POINT_FIELDS] < 0:
        begin -= POINT_FIELDS
    return max(begin, 0)
