"""The files of a journal."""

from __future__ import annotations

import mmap
import os
import struct
import uuid
import zlib
from array import array
from collections.abc import Sequence
from operator import neg
from pathlib import Path

from neptune_async._engine.durability.frames import frame, listed
from neptune_async._model.operations import POINT, POINT_FIELDS, Operation, TextPoint
from neptune_async._model.values import encode_points

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]  # IS_AVAILABLE is asked before it is used

STATE = struct.Struct('<16s Q Q 16s I')
"""The first part of the header of a file of points: ``MAGIC``; the number of the batch that the
segment became, or 0 if it became none; the position before which every point is complete; the
writer of the batch; the CRC-32 of ``OWNER`` and the name.
"""
NUMBER_AT, WHOLE_AT, WRITER_AT = 16, 24, 32
OWNER = struct.Struct('<16s Q q I')
"""The second part of the header: the writer to store the segment for, if it became no batch; its
place in the order of segments; the id of the experiment; the length of the experiment's name in
bytes. The name follows.
"""
MAGIC = b'neptune journal1'
FIRST = 4096
"""The byte where the points begin."""
_NUMBER_FORM = struct.Struct('<Q')


class SegmentFiles:
    """The files of a segment.

    :ivar map: the mapped file of the points.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._points, self._operations = files_of(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        self._file = os.open(self._points, flags, 0o666)
        self._appended = os.open(self._operations, flags | os.O_APPEND, 0o666)
        self._closed_at: int | None = None
        try:
            self.map = self._mapped(FIRST + capacity)
        except OSError:
            self.remove()
            raise

    def _mapped(self, size: int) -> mmap.mmap:
        # Write zeros first: SIGBUS ends a process that writes to a mapped page for which the disk
        # has no room.
        there = os.fstat(self._file).st_size
        while there < size:
            there += os.pwrite(self._file, bytes(size - there), there)
        return mmap.mmap(self._file, size)

    def begin(self, order: int, experiment_id: int, name: str) -> None:
        """Become the current segment, which is empty."""
        encoded = name.encode()
        owner = OWNER.pack(uuid.uuid4().bytes, order, experiment_id, len(encoded)) + encoded
        content = STATE.pack(MAGIC, 0, FIRST, bytes(16), zlib.crc32(owner)) + owner
        # Without the magic bytes the file is no segment: they go first, and come last.
        self.map[: len(MAGIC)] = bytes(len(MAGIC))
        self.map[len(MAGIC) : len(content)] = content[len(MAGIC) :]
        self.map[: len(MAGIC)] = MAGIC
        self.map.seek(FIRST)
        self._closed_at = None

    @property
    def end(self) -> int:
        """The byte where the points end."""
        closed_at = self._closed_at
        return self.map.tell() if closed_at is None else closed_at

    @property
    def is_empty(self) -> bool:
        """Whether the segment has no points and no operations."""
        return self.end == FIRST and os.fstat(self._appended).st_size == 0

    def points(self) -> array[float]:
        """Return a copy of all points."""
        points = array('d')
        points.frombytes(self.map[FIRST : self.end])
        return points

    def close(self) -> None:
        """Take no more points from any thread."""
        end = self._closed_at = self.map.tell()
        self.map.seek(len(self.map))
        # Between the two lines another thread may have written points.
        while end < len(self.map) and any(self.map[end : end + 8]):
            end += POINT.size
        self._closed_at = end

    def reopen(self) -> None:
        """Take points again after ``close``."""
        self.map.seek(self.end)
        self._closed_at = None

    def enlarge(self, more: int) -> None:
        """Make room for more bytes of points."""
        self.close()
        # A thread that still calls the old map's write gets the error that there is no room.
        enlarged = self._mapped(len(self.map) + more)
        enlarged.seek(self.end)
        self.map, self._closed_at = enlarged, None

    def put(self, operations: Sequence[Operation], texts: Sequence[TextPoint]) -> None:
        """Append operations and points of texts to the file of operations."""
        record = frame(encode_points([[*map(listed, operations)], [*map(list, texts)]]))
        if os.write(self._appended, record) < len(record):
            raise OSError(f'there is no room for {self._operations}')

    def mark_whole(self) -> None:
        """Record in the header that all points up to here are complete."""
        _NUMBER_FORM.pack_into(self.map, WHOLE_AT, self.map.tell())

    def seal(self, writer: bytes, number: int) -> None:
        """Record in the header which batch the segment became."""
        self.map[WRITER_AT : WRITER_AT + len(writer)] = writer
        # The number comes last: with another writer it would name another batch.
        _NUMBER_FORM.pack_into(self.map, NUMBER_AT, number)

    def clear(self) -> None:
        """Remove all points and operations. Until ``begin``, the header says that all is stored."""
        os.ftruncate(self._appended, 0)
        # First: points that are said to be complete, and are zeros, would be damage.
        _NUMBER_FORM.pack_into(self.map, WHOLE_AT, FIRST)
        self.map[FIRST : self.end] = bytes(self.end - FIRST)
        self._closed_at = FIRST

    def remove(self) -> None:
        """Remove the files."""
        # Points first: a file of operations alone is ignored.
        for path in (self._points, self._operations):
            path.unlink(missing_ok=True)
        os.close(self._file)
        os.close(self._appended)


def files_of(segment: Path) -> tuple[Path, Path]:
    return segment.with_suffix('.points'), segment.with_suffix('.operations')


def grouped(points: bytes) -> bytes:
    """Return the points of one call, marked as one group: all keys but the last are negative."""
    if len(points) == POINT.size:
        return points
    marked = array('d', points)
    marked[:-POINT_FIELDS:POINT_FIELDS] = array('d', map(neg, marked[:-POINT_FIELDS:POINT_FIELDS]))
    return marked.tobytes()


def ungrouped(points: bytes) -> bytes:
    """Return points without the marks of ``grouped``."""
    return without_marks(array('d', points)).tobytes()


def without_marks(points: array[float]) -> array[float]:
    keys = points[::POINT_FIELDS]
    if keys and min(keys) < 0:
        points[::POINT_FIELDS] = array('d', map(abs, keys))
    return points
