"""The queue of one experiment: what was accepted and is not committed yet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, TypeAlias

from neptune_async._engine.durability.journal import Journal
from neptune_async._engine.queueing.alarm import Alarm, Consumer
from neptune_async._engine.queueing.backlog import Backlog
from neptune_async._engine.queueing.buffers import Buffer, JournaledBuffer, MemoryBuffer
from neptune_async._engine.queueing.counters import Counters, Stats
from neptune_async._engine.queueing.locks import is_held_here
from neptune_async._messenger import may_wait_for_room, messenger
from neptune_async._model.operations import POINT_FIELDS, Operation, Part, TextPoint
from neptune_async.exceptions import QueueFullError

Overflow: TypeAlias = Literal['block', 'drop', 'raise']
Policy: TypeAlias = Overflow | Literal['head-room']
"""``head-room`` is ``block`` for a caller that must not wait: it may pass the
limit by as much again, and raises beyond that. ``block`` is the same where the
caller may not wait for room: on the worker's thread, say, or in ``on_error``."""


DEFAULT_PENDING_BYTES = 2**28
"""Bytes that the files that wait may have in memory, if nothing is said."""


class Queue:
    """Operations in the order of the calls, filled by any thread, emptied by the worker.

    Float points are 32 bytes each at the end of one buffer. Appending them is
    a single call into C that no other thread, signal handler or interrupt can
    come between, and the worker removes them from the front; so the hot path
    takes no lock, which would cost it as much as all else it does. Everything
    else happens under ``lock``, which a signal handler or a finalizer may
    enter again.

    :ivar points, append_point, append_points: those of the buffer.
    :ivar writing: what to hold while operations are put: the lock; and with a
        journal, what writes them to it before the lock is free again.
    :ivar mark: the length of ``points`` from which on a caller has to go
        through ``admit``: 0 while the worker rests or the queue is closed.
    :ivar bytes: how many bytes the files that wait have in memory.
    :ivar counters: how many operations were taken, and how they ended.
    """

    __slots__ = (
        '_alarm',
        '_backlog',
        '_buffer',
        '_consumer',
        '_full_reported',
        '_has_room',
        '_is_finished',
        '_make_journal',
        'append_point',
        'append_points',
        'bytes',
        'counters',
        'lock',
        'mark',
        'max_pending',
        'max_pending_bytes',
        'name',
        'points',
        'writing',
    )

    def __init__(
        self,
        name: str,
        max_pending: int,
        consumer: Consumer,
        max_pending_bytes: int = DEFAULT_PENDING_BYTES,
    ) -> None:
        self.name = name
        self.max_pending = max_pending
        self.max_pending_bytes = max_pending_bytes
        self._consumer = consumer
        self._make_journal: Callable[[], Journal] | None = None
        self.reset()

    def reset(self) -> None:
        """Become empty and uncounted: what a forked child starts with."""
        # The lock may be held by a thread that the child does not have.
        self.lock = threading.RLock()
        self._has_room = threading.Condition(self.lock)
        self.writing: AbstractContextManager[object] = self.lock
        self._use(MemoryBuffer(self.lock))
        self._backlog = Backlog()
        self._alarm = Alarm(self._consumer, self.max_pending)
        self.counters = Counters()
        self.bytes = 0
        self._full_reported = self._is_finished = False
        self.mark = 0

    def _use(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.points = buffer.points
        self.append_point, self.append_points = buffer.append_point, buffer.append_points

    # ── The journal ──────────────────────────────────────────────────────────

    def keep_journal(self, make: Callable[[], Journal]) -> None:
        """Write all that is put from now on to a journal at once, in forked children, too.

        :raises OSError: it cannot be made.
        """
        with self.lock:
            if self._make_journal is None:
                self._begin_journal(make())
                self._make_journal = make

    def _begin_journal(self, journal: Journal) -> None:
        before = self._buffer
        assert isinstance(before, MemoryBuffer)
        self._use(JournaledBuffer(self.name, self.lock, journal, before))
        self._backlog.begin_journal()
        self.writing = _Journaling(self)

    def _begin_journal_in_child(self, make: Callable[[], Journal]) -> None:
        try:
            self._begin_journal(make())
        except OSError as error:
            messenger.warning(
                'experiment %r: no journal can be made (%s); what is logged survives the death of '
                'this process only once it is stored',
                self.name, error,
            )  # fmt: skip
            self._make_journal = None

    def write_journal(self) -> None:
        """Write to the journal what was put since the last call; the caller holds the lock."""
        share = self._backlog.take_unjournaled()
        if share is not None:
            self._buffer.put(share.operations, share.texts)

    @property
    def is_journaled(self) -> bool:
        """Whether what is put is written to a journal before the call returns."""
        return self._backlog.is_journaled

    def put_in_journal(self, operation: Operation) -> None:
        """Write to a journal what storage has already; the caller holds the lock."""
        if self._backlog.is_journaled:
            self._buffer.put([operation], [])

    def release(self, writer: bytes, number: int) -> None:
        """Remove from a journal a batch that is stored, or kept elsewhere."""
        with self.lock:
            self._buffer.release(writer, number)

    def rename(self, name: str) -> None:
        """Take over the new name of the experiment; the caller holds the lock."""
        self.name = name
        self._buffer.rename(name)

    def end(self) -> None:
        """Close the journal. Its files stay if they have something that is kept nowhere else."""
        with self.lock:
            self._buffer.end()
            self._make_journal = None
            self._backlog.end_journal()
            self.writing = self.lock
            self._use(MemoryBuffer(self.lock))

    # ── The caller's side ────────────────────────────────────────────────────

    def admit(self, count: int, policy: Policy, size: int = 0) -> bool:
        """Make sure that there is room for operations, and that the worker will come for them.

        :param size: bytes that their files have in memory.
        :param policy: what to do when there is none.
        :returns: False when they are to be dropped, and were counted as dropped.
        :raises QueueFullError: when there is no room, and the policy is 'raise'.
        """
        with self.lock:
            if self._is_finished:
                self._report_late()
            if self._make_journal is not None and not self._backlog.is_journaled:
                self._begin_journal_in_child(self._make_journal)
            has_room = not self._is_finished and (
                self._has_room_for(count, size) or self._make_room(count, policy, size)
            )
            # Once more: it may have waited for room until the end.
            if has_room and not self._is_finished:
                self._rouse(count)
                return True
            self.counters.dropped += count
        if self._is_finished:
            messenger.drain()  # nobody else waits for what was said after the end
        return False

    def waits(self, policy: Policy) -> bool:
        """Whether ``admit`` waits for room where there is none."""
        return policy == 'block' and may_wait_for_room()

    def _has_room_for(self, count: int, size: int, limits: int = 1) -> bool:
        # One call may bring more than the limit; it has to wait for an empty queue only.
        waiting = self.in_memory
        fits = waiting + count <= limits * self.max_pending
        if size and self.bytes:
            fits = fits and self.bytes + size <= limits * self.max_pending_bytes
        return fits or waiting == 0

    def _make_room(self, count: int, policy: Policy, size: int) -> bool:
        self._alarm.insist()
        waits = self.waits(policy)
        takes_more = policy in ('block', 'head-room') and not waits
        if takes_more and self._has_room_for(count, size, limits=2):
            return True
        if waits:
            self._report_full('log waits until storage has taken some of them')
            while not self._has_room_for(count, size):
                self._wait_for_room()
                self._alarm.insist()
            return True
        if policy == 'drop':
            self._report_full('operations are dropped until storage has taken some of them')
            return False
        if count > self.max_pending:
            remedy = f'flush first: {count:,} more need an empty queue'
        elif policy == 'head-room':
            remedy = 'await drain() now and then, or raise max_pending'
        elif policy == 'block':
            remedy = (
                'raise max_pending: what is written by on_error, a handler of logging or a '
                'finalizer may not wait'
            )
        else:
            remedy = "log less, raise max_pending, or choose overflow='block'"
        raise QueueFullError(
            f'experiment {self.name!r}: {self.in_memory:,} operations and {self.bytes:,} bytes of '
            f'files wait for storage, the limits are max_pending={self.max_pending:,} and '
            f'max_pending_bytes={self.max_pending_bytes:,}; {remedy}'
        )

    def _wait_for_room(self) -> None:
        try:
            self._has_room.wait(1.0)
        except KeyboardInterrupt:
            # Between two lines of Condition.wait, it comes out of it without the lock.
            if not is_held_here(self.lock):
                self.lock.acquire()
            raise

    def _report_full(self, consequence: str) -> None:
        if not self._full_reported:
            self._full_reported = True
            messenger.warning(
                'experiment %r: %d operations and %d bytes of files wait for storage, the most '
                'that max_pending and max_pending_bytes allow; %s',
                self.name, self.in_memory, self.bytes, consequence,
            )  # fmt: skip

    def finish(self) -> None:
        """Drop, and count as dropped, what comes after the process has stored its last."""
        with self.lock:
            self._is_finished = True
            self.mark = 0

    @property
    def is_finished(self) -> bool:
        """Whether the process has stored its last."""
        return self._is_finished

    def _report_late(self) -> None:
        if not self._full_reported:
            self._full_reported = True
            messenger.warning(
                'experiment %r: what is logged after the end of the process is dropped', self.name
            )

    def _rouse(self, count: int) -> None:
        """Wake the worker if it sleeps, or has to hurry with so many more; set the next mark."""
        if not self._alarm.is_awake:
            self.counters.note_arrival()
            self._alarm.wake()
        are_many = len(self) + count > self._alarm.hurry_at or self._has_many_bytes
        if are_many and not self._alarm.is_hurried:
            self._alarm.hurry()
        self._set_mark()

    def _set_mark(self) -> None:
        elsewhere = self.in_memory - len(self.points) // POINT_FIELDS
        room = self.max_pending - elsewhere
        if not self._alarm.is_hurried:
            room = min(room, self._alarm.hurry_at - self._backlog.others)
        self.mark = POINT_FIELDS * max(0, room)

    def put_operation(self, operation: Operation) -> None:
        """Append an operation; the caller holds the lock and has been admitted."""
        self._backlog.put_operation(operation)

    def put_text(self, point: TextPoint) -> None:
        """Append a point of a str or datetime series, under the same conditions."""
        self._backlog.put_text(point)

    def put_points(self, points: bytes) -> None:
        """Append the points of one call, under the same conditions; all of them, or none."""
        self.append_points(points)
        self._buffer.mark_whole()

    def seal(self) -> None:
        """Put all that comes from now on into another batch than what is there: the next operation
        must come after the points that are there. The same conditions hold.
        """
        if self._backlog.current.operations or len(self):
            self.write_journal()
            self._buffer.seal()
            self._backlog.seal()
            # Made of the length that the buffer had.
            self.mark = 0

    def count_refused(self, count: int = 1) -> None:
        """Count operations that a check refused and that did not raise."""
        with self.lock:
            self.counters.refused += count

    # ── The worker's side ────────────────────────────────────────────────────

    def __len__(self) -> int:
        """How many operations were not taken yet."""
        return self._buffer.count + self._backlog.others

    @property
    def batches(self) -> int:
        """How many times to take until everything is taken."""
        return self._backlog.shares

    def take(self, part: Part, writer: bytes, number: int) -> bool:
        """Move all operations, or the share that was sealed first, into a part of a batch; return
        False if there were none.
        """
        with self.lock:
            if self._backlog.current.operations or len(self):
                part.points = self._buffer.take(writer, number)
            if self._backlog.is_sealed:
                self._alarm.insist()
            others = self._backlog.take(part)
            part.count = len(part.points) // POINT_FIELDS + others
            self.counters.take(part.count)
            self._alarm.is_hurried = False
            found = bool(part.count or part.operations)
            if found:
                self.counters.note_departure()
            if self._alarm.is_awake and not self._is_finished:
                # The consumer comes again in an interval: what follows need not wake it.
                self.counters.note_arrival()
                self._set_mark()
            return found

    def rest(self) -> None:
        """If the queue is empty, let the next operation wake the consumer."""
        with self.lock:
            if not len(self):
                self._alarm.is_awake = False
                self.mark = 0

    def hold(self, size: int) -> None:
        """Count bytes of files that were put; the caller holds the lock and has been admitted."""
        self.bytes += size

    def free(self, size: int) -> None:
        """Count bytes of files as in memory no more."""
        if size:
            with self.lock:
                self.bytes -= size
                self._has_room.notify_all()

    def settle(self, count: int, rejected: int, *, spilled: bool = False) -> None:
        """Count taken operations as committed, and some of them as rejected.

        :param spilled: whether they had been spilled.
        """
        with self.lock:
            self.counters.settle(count, rejected, spilled=spilled)
            self._has_room.notify_all()

    def spill(self, count: int) -> None:
        """Count operations that were taken as kept in a file until storage takes them."""
        with self.lock:
            self.counters.spill(count)
            self._has_room.notify_all()

    # ── Counters ─────────────────────────────────────────────────────────────

    @property
    def offered(self) -> int:
        """How many operations were ever put in: the barrier that a flush waits for."""
        # The worker may be just about to take some: they would be counted neither here nor there.
        with self.lock:
            return self.counters.taken + len(self)

    @property
    def pending(self) -> int:
        """How many operations are not stored yet, those in flight or spilled included."""
        with self.lock:
            return self.offered - self.counters.settled

    @property
    def in_memory(self) -> int:
        """How many operations wait in memory, those in flight included."""
        return self.pending - self.counters.spilled

    @property
    def is_full(self) -> bool:
        """Whether as much waits in memory as may."""
        return self.in_memory >= self.max_pending or self.bytes >= self.max_pending_bytes

    @property
    def hurry_at(self) -> int:
        """How many operations wake the worker before its interval is over."""
        return self._alarm.hurry_at

    @property
    def is_pressing(self) -> bool:
        """Whether so much waits in memory that the limit is near."""
        are_many = self.in_memory >= self.hurry_at or self._has_many_bytes
        return self._alarm.is_hurried or are_many

    @property
    def _has_many_bytes(self) -> bool:
        return self.bytes >= self.max_pending_bytes // 2

    def concerns(self, variable_id: int | None) -> bool:
        """Whether an operation that was not taken yet may concern a variable, or any if None."""
        with self.lock:
            # What was sealed concerns all: the operation that it was sealed for does.
            share = self._backlog.current
            waiting = Part(0, '', None, share.operations, self._buffer.content(), share.texts)
            return waiting.concerns(variable_id)

    def stats(self, retries: int, last_error: Exception | None) -> Stats:
        """Return the counters, all of one moment."""
        with self.lock:
            return self.counters.stats(self.offered, retries, last_error)


class _Journaling:
    """A queue's lock. What was put while it was held is in the journal before it is released."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._lock = queue.lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        try:
            self._queue.write_journal()
        finally:
            self._lock.release()
