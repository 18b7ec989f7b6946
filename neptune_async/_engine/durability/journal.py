"""A journal: files with what is accepted and not stored yet. They outlive the process.

With ``durability='call'`` a write is in the journal when the call returns. The call does not wait
for the disk: what a process has written into a mapped file, or given to the kernel, stays there
when the process is killed. (To survive a power failure, see ``durability='power'``.)

A journal is a folder beside the spill files. It has a file ``lock``, which its owner keeps locked
as long as it lives, and segments. A segment has the operations of one experiment that go into one
batch. Usually there are two: one is filled while the batch of the other is on its way. There are
more if storage is slow, or after a rewind, which begins a new segment. A segment ``N`` is two
files:

``N.points``
    A mapped file. It has a header (``STATE``, ``OWNER``), then float points as in the queue.
    They are written without a lock, by one call into C. The first key that is zero marks their
    end. The points of one call belong together: all but the last have a negative key.
``N.operations``
    A file of frames (see ``frames``), which are appended under the queue's lock. Each has a list
    of operations and a list of points of texts and datetimes.

When a segment goes into a batch, its header gets the writer and the number of that batch. They
tell later whether storage has it.
"""

from __future__ import annotations

import os
import uuid
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from neptune_async._model.operations import POINT, Operation, TextPoint

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]  # IS_AVAILABLE is asked before it is used
from neptune_async._engine.durability.journal_segments import FIRST, SegmentFiles, without_marks

IS_AVAILABLE = fcntl is not None
"""Whether this system has what a journal needs."""

own_journals: set[Path] = set()
"""The journals of this process. The system lets a process take a lock again that it holds itself,
so the locks do not show which journals are its own.
"""


class Journal:
    """The journal of one queue. The caller holds the queue's lock, except for ``write``.

    :ivar write: appends points, packed as ``POINT``. It raises ``ValueError`` if there is no room
        left for them, or the segment is closed.
    :param points: how many points a segment has room for at first.
    :raises OSError: the files cannot be created.
    """

    write: Callable[[bytes], int]

    def __init__(self, folder: Path, experiment_id: int, name: str, points: int) -> None:
        self._experiment = (experiment_id, name)
        self._capacity = points * POINT.size
        self._folder = folder / f'{uuid.uuid4().hex}.journal'
        self._free: list[SegmentFiles] = []
        self._cut: deque[SegmentFiles | None] = deque()
        self._sealed: dict[tuple[bytes, int], SegmentFiles] = {}
        self._segments = 0
        unfinished = self._folder.with_suffix('.part')
        # All users whom the umask lets write to the store may write here: one of them may have to
        # recover the journal.
        unfinished.mkdir(parents=True)
        self._lock = os.open(unfinished / 'lock', os.O_RDWR | os.O_CREAT, 0o666)
        # A forked child does not inherit this lock. It would inherit a lock of flock().
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        own_journals.add(self._folder)
        unfinished.rename(self._folder)
        self._current: SegmentFiles | None = None
        try:
            self.begin()
        except OSError:
            self.remove()
            raise

    @property
    def points(self) -> array[float]:
        """The points of the current segment."""
        return without_marks(self._current.points()) if self._current else array('d')

    @property
    def count(self) -> int:
        """How many points are in the current segment."""
        return (self._current.end - FIRST) // POINT.size if self._current else 0

    def enlarge(self, more: int) -> None:
        """Make room for more points.

        :param more: bytes to make room for, at least.
        :raises OSError: there is no room.
        """
        if self._current is None:
            raise OSError('a segment could not be made')
        self._current.enlarge(more + self._capacity)
        self.write = self._current.map.write

    def put(self, operations: Sequence[Operation], texts: Sequence[TextPoint]) -> None:
        """Append operations and points of texts: all of them, or none.

        :raises OSError: there is no room.
        """
        if self._current is None:
            raise OSError('a segment could not be made')
        self._current.put(operations, texts)

    def mark_whole(self) -> None:
        """Record in the header that all points so far are complete. Some points do not show it
        themselves.
        """
        if self._current is not None:
            self._current.mark_whole()

    def cut(self) -> array[float]:
        """Close the current segment. The caller calls ``begin`` next.

        :returns: the points of the segment.
        """
        segment, self._current = self._current, None
        self._cut.append(segment)
        if segment is None:
            return array('d')
        segment.close()
        return without_marks(segment.points())

    def seal(self, writer: bytes, number: int) -> None:
        """Mark the oldest closed segment as a part of a batch."""
        segment = self._cut.popleft()
        if segment is not None:
            segment.seal(writer, number)
            self._sealed[writer, number] = segment

    def begin(self) -> None:
        """Begin another segment.

        :raises OSError: the segment cannot be created.
        """
        self._segments += 1
        if self._free:
            segment = self._free.pop()
        else:
            path = self._folder / str(self._segments)
            segment = SegmentFiles(path, self._capacity)
        segment.begin(self._segments, *self._experiment)
        self._current = segment
        self.write = segment.map.write

    def rename(self, name: str) -> None:
        """Take what comes from now on for an experiment of another name. If the current segment has
        something, it keeps the old name until it becomes a part of a batch.
        """
        self._experiment = (self._experiment[0], name)
        segment = self._current
        if segment is None:
            return
        # A thread that appends without the lock gets an error meanwhile, and waits for the lock.
        segment.close()
        if segment.is_empty:
            segment.begin(self._segments, *self._experiment)
        else:
            segment.reopen()

    def release(self, writer: bytes, number: int) -> None:
        """Clear the segment of a batch that is stored, or is in a spill file."""
        segment = self._sealed.pop((writer, number), None)
        if segment is not None:
            segment.clear()
            self._free.append(segment)

    @property
    def is_empty(self) -> bool:
        """Whether all that was ever in the journal is stored, or is in a spill file."""
        kept = (*self._cut, *self._sealed.values())
        return not any(kept) and (self._current is None or self._current.is_empty)

    def remove(self) -> None:
        """Remove the files."""
        for segment in (self._current, *self._cut, *self._sealed.values(), *self._free):
            if segment is not None:
                segment.remove()
        remove_folder(self._folder)
        own_journals.discard(self._folder)
        os.close(self._lock)


def forget_parent() -> None:
    """In a forked child, forget the journals of the parent: they belong to another process now."""
    own_journals.clear()


def remove_folder(folder: Path) -> None:
    (folder / 'lock').unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
