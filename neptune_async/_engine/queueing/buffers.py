"""Where the float points of a queue are until the worker takes them."""

from __future__ import annotations

import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from neptune_async._engine.durability.journal import Journal
from neptune_async._engine.durability.journal_segments import grouped, ungrouped
from neptune_async._messenger import messenger
from neptune_async._model.operations import POINT_FIELDS, Operation, TextPoint

Append: TypeAlias = Callable[[bytes], object]


class Buffer(Protocol):
    """``POINT`` records in the order of the calls. All but ``append_point`` and
    ``append_points`` is called under the queue's lock.

    :ivar points: as long as there are points in the buffer; for the hot path, which can ask
        nothing cheaper.
    :ivar append_point: takes the bytes of ``POINT.pack``, from any thread, without a lock.
    :ivar append_points: takes those of the points of one call, all of them or none.
    """

    points: array[float]
    append_point: Append
    append_points: Append

    @property
    def count(self) -> int:
        """How many points are in the buffer."""

    def content(self) -> array[float]:
        """Return a copy of the points."""

    def seal(self) -> None:
        """Put what is appended from now on into another batch than what is there."""

    def take(self, writer: bytes, number: int, /) -> array[float]:
        """Return the points, or those that were sealed first; they become a part of a batch."""

    def put(self, operations: Sequence[Operation], texts: Sequence[TextPoint]) -> None:
        """Take note of what is put into the queue beside the points."""

    def mark_whole(self) -> None:
        """Take note that the points of all calls so far are complete."""

    def release(self, writer: bytes, number: int) -> None:
        """Forget a batch that is stored, or kept elsewhere."""

    def rename(self, name: str) -> None:
        """Take what comes from now on for an experiment of another name."""

    def end(self) -> None:
        """Close everything."""


class MemoryBuffer:
    """One array. To append to it is a single call into C, which nothing can come between."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._sealed: deque[array[float]] = deque()
        self.points = array('d')
        append = self.points.frombytes if _gil_is_enabled() else self._append_locked
        self.append_point: Append = append
        self.append_points: Append = append

    def _append_locked(self, points: bytes) -> None:
        with self._lock:
            self.points.frombytes(points)

    @property
    def count(self) -> int:
        return (_total(self._sealed) + len(self.points)) // POINT_FIELDS

    @property
    def is_sealed(self) -> bool:
        """Whether something waits that was sealed."""
        return bool(self._sealed)

    def content(self) -> array[float]:
        return _joined(self._sealed) + self.points

    def seal(self) -> None:
        self._sealed.append(self.cut())

    def take(self, _writer: bytes, _number: int, /) -> array[float]:
        return self._sealed.popleft() if self._sealed else self.cut()

    def cut(self) -> array[float]:
        """Return the points that are not sealed, and have them no more."""
        # Points that other threads append meanwhile stay: only what was copied is removed.
        points = self.points[:]
        del self.points[: len(points)]
        return points

    def put(self, operations: Sequence[Operation], texts: Sequence[TextPoint]) -> None:
        pass

    def mark_whole(self) -> None:
        pass

    def release(self, writer: bytes, number: int) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def end(self) -> None:
        pass


class JournaledBuffer:
    """A journal's mapped file, which is as safe to append to as an array.

    Where the journal has no room, since the disk has none, points stay in
    memory until the next batch, and that is warned of.

    :param before: what was in use before there was a journal.
    """

    def __init__(
        self, name: str, lock: threading.RLock, journal: Journal, before: MemoryBuffer
    ) -> None:
        self._name = name
        self._lock = lock
        self._journal = journal
        self._write = journal.write
        self._before = before
        self._sealed: deque[array[float]] = deque()
        # What the journal had no room for.
        self._beyond = array('d')
        self._has_warned = False
        self.points = array('d')
        self._count_point = self.points.frombytes
        self.append_point: Append = self._append if _gil_is_enabled() else self._append_slowly
        self.append_points: Append = self._append_group

    def _append(self, points: bytes) -> None:
        try:
            self._write(points)
        except ValueError:  # there is no room, or the worker has just taken what is there
            self._append_slowly(points)
        else:
            self._count_point(points)

    def _append_group(self, points: bytes) -> None:
        self.append_point(grouped(points))

    def _append_slowly(self, points: bytes) -> None:
        with self._lock:
            self._count_point(points)
            while not self._beyond:
                try:
                    self._journal.write(points)
                except ValueError:
                    try:
                        self._journal.enlarge(len(points))
                    except OSError as error:
                        self._warn(error)
                        break
                    self._write = self._journal.write
                else:
                    return
            self._beyond.frombytes(ungrouped(points))

    @property
    def count(self) -> int:
        in_memory = _total(self._sealed) + len(self._beyond)
        return self._before.count + self._journal.count + in_memory // POINT_FIELDS

    def content(self) -> array[float]:
        sealed = _joined(self._sealed)
        return self._before.content() + sealed + self._journal.points + self._beyond

    def take(self, writer: bytes, number: int, /) -> array[float]:
        if self._before.is_sealed:
            return self._before.take(writer, number)
        if not self._sealed:
            self.seal()
        self._journal.seal(writer, number)
        return self._sealed.popleft()

    def seal(self) -> None:
        points = self._before.cut()
        points += self._journal.cut()
        points += self._beyond
        try:
            self._journal.begin()
        except OSError as error:
            self._warn(error)
        self._write = self._journal.write
        del self._beyond[:]
        del self.points[:]
        self._sealed.append(points)

    def put(self, operations: Sequence[Operation], texts: Sequence[TextPoint]) -> None:
        try:
            self._journal.put(operations, texts)
        except OSError as error:
            self._warn(error)

    def mark_whole(self) -> None:
        self._journal.mark_whole()

    def release(self, writer: bytes, number: int) -> None:
        self._journal.release(writer, number)

    def rename(self, name: str) -> None:
        self._name = name
        self._journal.rename(name)

    def end(self) -> None:
        # Else its files wait for the next process that opens the store.
        if self._journal.is_empty:
            self._journal.remove()
        # They refer to this object, and would keep the files open until garbage is collected.
        del self.append_point, self.append_points

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            messenger.warning(
                'experiment %r: the journal cannot be written to (%s); what it has no room for '
                'survives the death of the process only once it is stored',
                self._name, error,
            )  # fmt: skip


def _total(sealed: Iterable[array[float]]) -> int:
    return sum(map(len, sealed))


def _joined(sealed: Iterable[array[float]]) -> array[float]:
    return sum(sealed, array('d'))


def _gil_is_enabled() -> bool:
    # Without it, neither array.frombytes nor mmap.write is atomic.
    return getattr(sys, '_is_gil_enabled', lambda: True)()
