"""The queue of one experiment: what was accepted and is not committed yet."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from neptune_async._engine.buffers import Buffer, JournaledBuffer, MemoryBuffer
from neptune_async._engine.journal import Journal
from neptune_async._engine.locks import is_held_here
from neptune_async._model.operations import (
    POINT_FIELDS,
    CreateVariable,
    Operation,
    Part,
    TextPoint,
)
from neptune_async.exceptions import QueueFullError

logger = logging.getLogger('neptune_async')

Overflow: TypeAlias = Literal['block', 'drop', 'raise']
Policy: TypeAlias = Overflow | Literal['head-room']
"""``head-room`` is ``block`` for a caller that must not wait: it may pass the
limit by as much again, and raises beyond that."""

_HURRY = 2**16
"""Points after which the worker is woken before its interval is over."""


@dataclass(frozen=True)
class Stats:
    """What became of the operations of an experiment, in this process.

    ``accepted == committed + pending + rejected + dropped`` at any time.

    :ivar accepted: operations that were offered, and not refused by an exception.
    :ivar committed: those that are in a committed transaction.
    :ivar pending: those that wait, in memory or in a spill file.
    :ivar rejected: those that were counted instead of stored: refused by
        storage, or with ``strict=False`` by a check.
    :ivar dropped: those that ``overflow='drop'`` dropped, or that came after
        the interpreter had ended.
    :ivar retries: how often writing a batch was tried again.
    :ivar last_error: the last fault, None if there was none.
    :ivar oldest_pending_age: seconds that the oldest pending operation has
        waited, or up to ``flush_interval`` more; 0.0 if none is pending.
    """

    accepted: int
    committed: int
    pending: int
    rejected: int
    dropped: int
    retries: int
    last_error: Exception | None
    oldest_pending_age: float


class Consumer(Protocol):
    """Whoever empties a queue."""

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the consumer itself, which must never wait for room."""

    def wake(self, hurry: bool) -> None:
        """Have the queue emptied once the interval is over, or now, and again and again until
        ``rest`` is called.
        """


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
    :ivar hurry_at: how many operations wake the worker before its interval is over.
    :ivar settled: how many of the taken operations are committed or rejected.
    :ivar spilled: how many of those that are not settled wait in a file instead of memory.
    """

    __slots__ = (
        '_buffer',
        '_consumer',
        '_dropped',
        '_full_reported',
        '_has_room',
        '_in_flight_since',
        '_is_awake',
        '_is_finished',
        '_is_hurried',
        '_make_journal',
        '_operations',
        '_others',
        '_refused',
        '_sealed',
        '_since',
        '_spilled_since',
        '_taken',
        '_texts',
        '_unjournaled',
        'append_point',
        'append_points',
        'committed',
        'hurry_at',
        'lock',
        'mark',
        'max_pending',
        'name',
        'points',
        'rejected',
        'settled',
        'spilled',
        'writing',
    )

    def __init__(self, name: str, max_pending: int, consumer: Consumer) -> None:
        self.name = name
        self.max_pending = max_pending
        # Woken at the limit, the worker would come too late for a policy that does not wait.
        self.hurry_at = min(_HURRY, max(1, max_pending // 2))
        self._consumer = consumer
        self._make_journal: Callable[[], Journal] | None = None
        self.reset()

    def reset(self) -> None:
        """Become empty and uncounted: what a forked child starts with."""
        # The lock may be held by a thread that the child does not have.
        self.lock = threading.RLock()
        self._has_room = threading.Condition(self.lock)
        self.writing: AbstractContextManager[object] = self.lock
        self._unjournaled: tuple[list[Operation], list[TextPoint]] | None = None
        self._use(MemoryBuffer(self.lock))
        self._texts: list[TextPoint] = []
        self._operations: list[Operation] = []
        self._others = 0
        self._sealed: deque[tuple[list[Operation], list[TextPoint], int]] = deque()
        self._taken = self.settled = self.committed = self.spilled = 0
        self.rejected = self._refused = self._dropped = 0
        self._since = self._in_flight_since = self._spilled_since = 0.0
        self._is_awake = self._is_hurried = False
        self._full_reported = self._is_finished = False
        self.mark = 0

    def _use(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.points = buffer.points
        self.append_point, self.append_points = buffer.append_point, buffer.append_points

    # ── The journal ──────────────────────────────────────────────────────────

    def keep_journal(self, make: Callable[[], Journal]) -> None:
        """Have all that is put from now on be in a journal at once, in forked children, too.

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
        self._unjournaled = ([], [])
        self.writing = _Journaling(self)

    def _begin_journal_in_child(self, make: Callable[[], Journal]) -> None:
        try:
            self._begin_journal(make())
        except OSError as error:
            logger.warning(
                'experiment %r: no journal can be made (%s); what is logged survives the death of '
                'this process only once it is stored',
                self.name, error,
            )  # fmt: skip
            self._make_journal = None

    def write_journal(self) -> None:
        """Write to the journal what was put since the last call; the caller holds the lock."""
        if self._unjournaled is not None and any(self._unjournaled):
            (operations, texts), self._unjournaled = self._unjournaled, ([], [])
            self._buffer.put(operations, texts)

    def put_in_journal(self, operation: Operation) -> None:
        """Have a journal know what storage knows already; the caller holds the lock."""
        if self._unjournaled is not None:
            self._buffer.put([operation], [])

    def release(self, writer: bytes, number: int) -> None:
        """Have a journal forget a batch that is stored, or kept elsewhere."""
        with self.lock:
            self._buffer.release(writer, number)

    def end(self) -> None:
        """Let go of the journal. It stays where it has something that is kept nowhere else."""
        with self.lock:
            self._buffer.end()
            self._make_journal = self._unjournaled = None
            self.writing = self.lock
            self._use(MemoryBuffer(self.lock))

    # ── The caller's side ────────────────────────────────────────────────────

    def admit(self, count: int, policy: Policy) -> bool:
        """Make sure that there is room for operations, and that the worker will come for them.

        :param policy: what to do when there is none.
        :returns: False when they are to be dropped, and were counted as dropped.
        :raises QueueFullError: when there is no room, and the policy is 'raise'.
        """
        with self.lock:
            if self._is_finished:
                self._report_late()
            if self._make_journal is not None and self._unjournaled is None:
                self._begin_journal_in_child(self._make_journal)
            has_room = not self._is_finished and (
                self._has_room_for(count) or self._make_room(count, policy)
            )
            # Once more: it may have waited for room until the end.
            if self._is_finished or not has_room:
                self._dropped += count
                return False
            self._rouse(count)
            return True

    def waits(self, policy: Policy) -> bool:
        """Whether ``admit`` waits for room where there is none."""
        return policy == 'block' and not self._consumer.is_current_thread

    def _has_room_for(self, count: int, limits: int = 1) -> bool:
        # One call may bring more than the limit; it has to wait for an empty queue only.
        waiting = self.in_memory
        return waiting + count <= limits * self.max_pending or waiting == 0

    def _make_room(self, count: int, policy: Policy) -> bool:
        self._consumer.wake(True)
        if policy == 'head-room' and self._has_room_for(count, limits=2):
            return True
        if self.waits(policy):
            self._report_full('log waits until storage has taken some of them')
            while not self._has_room_for(count):
                self._wait_for_room()
                self._consumer.wake(True)
            return True
        if policy == 'drop':
            self._report_full('operations are dropped until storage has taken some of them')
            return False
        if count > self.max_pending:
            remedy = f'flush first: {count:,} more need an empty queue'
        elif policy == 'head-room':
            remedy = 'await drain() now and then, or raise max_pending'
        else:
            remedy = "log less, raise max_pending, or choose overflow='block'"
        raise QueueFullError(
            f'experiment {self.name!r}: {self.in_memory:,} operations wait for storage, the limit '
            f'is max_pending={self.max_pending:,}; {remedy}'
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
            logger.warning(
                'experiment %r: %d operations wait for storage, the most that max_pending '
                'allows; %s',
                self.name, self.in_memory, consequence,
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
            logger.warning(
                'experiment %r: what is logged after the end of the process is dropped', self.name
            )

    def _rouse(self, count: int) -> None:
        """Wake the worker if it sleeps, or has to hurry with so many more; set the next mark."""
        # First the call, then the note of it: a Ctrl-C between them wakes it once too often.
        if not self._is_awake:
            self._since = time.monotonic()
            self._consumer.wake(False)
            self._is_awake = True
        if len(self) + count > self.hurry_at and not self._is_hurried:
            self._consumer.wake(True)
            self._is_hurried = True
        self._set_mark()

    def _set_mark(self) -> None:
        elsewhere = self.in_memory - len(self.points) // POINT_FIELDS
        room = self.max_pending - elsewhere
        if not self._is_hurried:
            room = min(room, self.hurry_at - self._others)
        self.mark = POINT_FIELDS * max(0, room)

    def put_operation(self, operation: Operation) -> None:
        """Append an operation; the caller holds the lock and has been admitted."""
        self._operations.append(operation)
        if self._unjournaled is not None:
            self._unjournaled[0].append(operation)
        if not isinstance(operation, CreateVariable):
            self._others += 1

    def put_text(self, point: TextPoint) -> None:
        """Append a point of a str or datetime series, under the same conditions."""
        self._texts.append(point)
        if self._unjournaled is not None:
            self._unjournaled[1].append(point)
        self._others += 1

    def put_points(self, points: bytes) -> None:
        """Append the points of one call, under the same conditions; all of them, or none."""
        self.append_points(points)
        self._buffer.mark_whole()

    def seal(self) -> None:
        """Have what is put from now on be of another batch than all so far, for an operation
        that points so far come before; under the same conditions.
        """
        if self._operations or len(self):
            self.write_journal()
            self._buffer.seal()
            others = self._others - sum(before for *_, before in self._sealed)
            self._sealed.append((self._operations, self._texts, others))
            self._operations, self._texts = [], []
            # Made of the length that the buffer had.
            self.mark = 0

    def count_refused(self, count: int = 1) -> None:
        """Count operations that a check refused and that did not raise."""
        with self.lock:
            self._refused += count

    # ── The worker's side ────────────────────────────────────────────────────

    def __len__(self) -> int:
        """How many operations were not taken yet."""
        return self._buffer.count + self._others

    @property
    def batches(self) -> int:
        """How many times to take until everything is taken."""
        return len(self._sealed) + 1

    def take(self, part: Part, writer: bytes, number: int) -> bool:
        """Move everything, or what was sealed first, into a part of a batch; False if there was
        nothing.
        """
        with self.lock:
            if self._operations or len(self):
                part.points = self._buffer.take(writer, number)
            if self._sealed:
                part.operations, part.texts, others = self._sealed.popleft()
                self._consumer.wake(True)
            else:
                part.operations, part.texts, others = self._operations, self._texts, self._others
                self._operations, self._texts = [], []
            self._others -= others
            part.count = len(part.points) // POINT_FIELDS + others
            self._taken += part.count
            self._is_hurried = False
            found = bool(part.count or part.operations)
            if found:
                self._in_flight_since = self._since
            if self._is_awake and not self._is_finished:
                # The consumer comes again in an interval: what follows need not wake it.
                self._since = time.monotonic()
                self._set_mark()
            return found

    def rest(self) -> None:
        """Have the next operation wake the consumer, if none is there now."""
        with self.lock:
            if not len(self):
                self._is_awake = False
                self.mark = 0

    def settle(self, count: int, rejected: int, *, spilled: bool = False) -> None:
        """Count operations that were taken as committed, but for some that were rejected.

        :param spilled: whether they had been spilled.
        """
        with self.lock:
            self.settled += count
            self.committed += count - rejected
            self.rejected += rejected
            if spilled:
                self.spilled -= count
                self._spilled_since = self._spilled_since if self.spilled else 0.0
            else:
                self._in_flight_since = 0.0
            self._has_room.notify_all()

    def spill(self, count: int) -> None:
        """Count operations that were taken as kept in a file until storage takes them."""
        with self.lock:
            self.spilled += count
            self._spilled_since = self._spilled_since or self._in_flight_since
            self._in_flight_since = 0.0
            self._has_room.notify_all()

    # ── Counters ─────────────────────────────────────────────────────────────

    @property
    def offered(self) -> int:
        """How many operations were ever put in: the barrier that a flush waits for."""
        # The worker may be just about to take some: they would be counted neither here nor there.
        with self.lock:
            return self._taken + len(self)

    @property
    def pending(self) -> int:
        """How many operations are not stored yet, those in flight or spilled included."""
        with self.lock:
            return self.offered - self.settled

    @property
    def in_memory(self) -> int:
        """How many operations wait in memory, those in flight included."""
        return self.pending - self.spilled

    @property
    def is_pressing(self) -> bool:
        """Whether so much waits in memory that the limit is near."""
        return self._is_hurried or self.in_memory >= self.hurry_at

    def concerns(self, variable_id: int | None) -> bool:
        """Whether an operation that was not taken yet may concern a variable, or any if None."""
        with self.lock:
            # What was sealed concerns all: the operation that it was sealed for does.
            waiting = Part(0, '', None, self._operations, self._buffer.content(), self._texts)
            return waiting.concerns(variable_id)

    def stats(self, retries: int, last_error: Exception | None) -> Stats:
        """Return the counters, all of one moment."""
        with self.lock:
            offered = self.offered
            pending = offered - self.settled
            since = self._spilled_since or self._in_flight_since or self._since
            return Stats(
                accepted=offered + self._refused + self._dropped,
                committed=self.committed,
                pending=pending,
                rejected=self.rejected + self._refused,
                dropped=self._dropped,
                retries=retries,
                last_error=last_error,
                oldest_pending_age=time.monotonic() - since if pending else 0.0,
            )


class _Journaling:
    """A queue's lock, and what was put while it was held is in the journal once it is free."""

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
