"""The worker of one store: a thread that takes what is queued, and writes it until it is stored."""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from operator import attrgetter
from pathlib import Path
from typing import Literal, TypeVar

import anyio

from neptune_async._engine.connection import Connection
from neptune_async._engine.entries import VariableIds
from neptune_async._engine.kept import Kept, told_at_the_end, told_on_the_way
from neptune_async._engine.locks import is_held_here
from neptune_async._engine.loop import Function, LoopThread
from neptune_async._engine.recovery import Recovery
from neptune_async._engine.sending import Patience, Renames, Sent, attempt, refused_whole
from neptune_async._engine.state import ExperimentState
from neptune_async._model import messages
from neptune_async._model.operations import Batch
from neptune_async._storage.base import Changed, Receipt, StaleEpoch, Storage, VariableConflict
from neptune_async._storage.forking import FORK_GUARD, leak
from neptune_async.exceptions import StorageBusyError, StorageError, WorkerThreadError

logger = logging.getLogger('neptune_async')

T = TypeVar('T')

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_GLANCE = 5.0
"""Seconds after which a worker that rests looks for points of threads that were held up."""


class Worker:
    """Writes what the experiments of one store enqueue, and reads for them.

    Started by the first call that needs it, on a daemon thread of its own. What
    other threads may touch is said so; all else belongs to the loop's thread.

    :ivar storage: the store itself, for the loop's thread only.
    :ivar connection: what opens the store, for the same thread.
    :ivar states: the open experiments by name.
    :ivar opening: held while an experiment is opened; on the loop.
    :ivar ids: those of the variables that the experiments make.
    :ivar users: how many ``Experiment`` objects hold the worker; guarded by the
        registry's lock (see ``lifecycle``).
    """

    def __init__(
        self,
        url: str,
        make_storage: Callable[[str], Storage],
        is_shared: bool,
        on_use: Callable[[], object],
    ) -> None:
        self.url = url
        self.is_shared = is_shared
        self.users = 0
        self.states: dict[str, ExperimentState] = {}
        self._make_storage = make_storage
        self._on_use = on_use
        self._begin()

    def _begin(self) -> None:
        self.storage = self._make_storage(self.url)
        recovery = Recovery(self.storage, self._has_kept, lambda: self._fault is not None)
        self.connection = Connection(self.storage, recovery)
        self.thread = LoopThread(
            f'neptune_async {self.storage.location}',
            self._main,
            self.connection.close,
        )
        # Held while operations move from the queues into a batch. A signal handler may enter it
        # again.
        self._taking = threading.RLock()
        self._writer = uuid.uuid4().bytes
        self._batches = 0
        self.ids = VariableIds()
        self._in_flight: Sent | None = None
        self._kept: deque[Kept] = deque()
        self._renames = Renames()
        self._faults = 0
        self._fault: StorageError | None = None
        self._stops = False

    def abandon(self) -> None:
        """In a forked child: leave to the parent all that is the parent's, and begin anew."""
        leak((self.storage, self.thread))
        self._begin()
        # What the parent was about to close, nobody closes here.
        self.states = {n: state for n, state in self.states.items() if not state.is_closed}
        for state in self.states.values():
            state.begin_in_child(self.ids)

    @property
    def location(self) -> str:
        """Where the store is, for people to read."""
        return self.storage.location

    # ── From any thread ──────────────────────────────────────────────────────

    def call(
        self, function: Function[T], *args: object, undo: Callable[[T], object] | None = None
    ) -> Future[T]:
        """Run a coroutine function on the worker's loop, for a caller that waits for its result.

        :param undo: as ``LoopThread.call``.
        :raises WorkerThreadError: as ``require_waitable``.
        """
        self.require_waitable()
        self._on_use()
        return self.thread.call(function, *args, undo=undo)

    def require_waitable(self) -> None:
        """:raises WorkerThreadError: where a wait for the worker would never end: on its own
        thread, and in a signal handler or finalizer that interrupts what the worker waits for.
        """
        if self.thread.is_current:
            raise WorkerThreadError(
                'flush, close and reads cannot be called from on_error, on the thread that '
                'would have to do them; note what happened and do them elsewhere'
            )
        if any(map(is_held_here, self.locks)):
            raise WorkerThreadError(
                'flush, close, reads, and the opening of an experiment cannot be called in a '
                f'signal handler or finalizer that interrupts a write to {self.location}; note '
                'what happened and do them elsewhere'
            )

    @property
    def locks(self) -> list[threading.RLock]:
        """What the worker waits for while another thread holds it."""
        queues = map(attrgetter('queue.lock'), [*self.states.values()])
        return [self.thread.lock, self._taking, FORK_GUARD.lock, *queues]

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is on the worker's thread."""
        return self.thread.is_current

    def wake(self, hurry: bool) -> None:
        """Have the queues emptied once the interval is over, or now."""
        self._on_use()
        try:
            self.thread.post(self._rouse, hurry)
        except RuntimeError as error:
            logger.debug('%s stays asleep: %s', self.location, error)

    def finish(self, timeout: float) -> None:
        """Store what is pending, close the store, end the thread.

        :raises FutureTimeoutError: when that takes longer; the thread goes on trying.
        """
        if self.thread.is_running or self._is_anything_pending():
            self.call(self._finish).result(timeout)

    def flush_all(self, timeout: float) -> None:
        """Store what is pending.

        :raises FutureTimeoutError: when that takes longer; the thread goes on trying.
        :raises StorageError: when an attempt to write fails meanwhile.
        """
        if self._is_anything_pending():
            self.call(self._flush_all).result(timeout)

    def _is_anything_pending(self) -> bool:
        # A copy: the loop opens and closes experiments meanwhile.
        return any(state.queue.pending for state in [*self.states.values()])

    def stop(self) -> None:
        """Have the store closed and the thread end; what is still queued is given up."""
        if self.thread.is_running:
            self.thread.post(self._stop)

    def spill(self, states: Sequence[ExperimentState], *, at_the_end: bool = False) -> str:
        """Keep what experiments have in memory in a spill file.

        :param at_the_end: whether nobody will try again to store what was spilled before.
        :returns: what was done, for people to read; empty if there was nothing.
        """
        with self._taking:
            sent = self._in_flight
            ahead = [] if sent is None else [sent.copied(states)]
            kept = Kept(ahead, self._taken_from(states))
            if kept.count:
                kept.write(self.storage.spill_folder)
                self._kept.append(kept)
            left = [*self._kept] if at_the_end else [kept] if kept.count else []
        if kept.count and self.thread.is_running:
            self.wake(False)
        return told_at_the_end(left, self.location, self._fault or 'it took too long')

    # ── On the loop ──────────────────────────────────────────────────────────

    def add(self, state: ExperimentState) -> None:
        """Take what is queued for one more experiment."""
        self.states[state.name] = state
        self._rouse(True)  # it may be in the middle of another's longer interval

    def remove(self, state: ExperimentState) -> None:
        """Take nothing of an experiment any more."""
        if self.states.get(state.name) is state:
            del self.states[state.name]
        self._step()

    async def removal(self, state: ExperimentState) -> None:
        """Return once an experiment that is being closed is removed."""
        while self.states.get(state.name) is state:
            await self._progress.wait()

    async def read(
        self,
        state: ExperimentState,
        path: str | None,
        query: Callable[..., Awaitable[T]],
        *args: object,
    ) -> T:
        """Query storage once all that this process enqueued of a path is committed.

        :param path: None for a query about namespaces.
        """
        if self._concerns(state, state.known_id(path)):
            await self.flush(state)
        return await self.query(state, query, *args)

    async def query(
        self, state: ExperimentState, query: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        """Query storage as it is."""
        state.require_open()
        await self.connection.open(writable=False)
        return await attempt(query, *args)

    async def next_commit(self, changed: Changed) -> None:
        """Return after the next commit of this process, or of another."""
        async with anyio.create_task_group() as tasks:

            async def wait_for_others() -> None:
                await changed()
                tasks.cancel_scope.cancel()

            tasks.start_soon(wait_for_others)
            await self._progress.wait()
            tasks.cancel_scope.cancel()

    async def flush(self, state: ExperimentState) -> None:
        """Return once all that was enqueued before is committed.

        :raises StorageError: when an attempt to write fails meanwhile.
        """
        target = state.queue.offered
        faults = self._faults
        while state.queue.settled < target or self._keeps_some_of(state):
            if self._stops:
                raise messages.closed(state.name)
            self._rouse(True)
            await self._progress.wait()
            if self._faults != faults and self._fault is not None:
                raise self._fault

    async def sync(self, state: ExperimentState) -> None:
        """Flush, and return once a power failure does not take it away any more.

        :raises StorageError: when an attempt to write fails meanwhile.
        """
        await self.flush(state)
        await self.connection.open(writable=True)
        await attempt(self.storage.sync)

    async def drain(self, state: ExperimentState) -> None:
        """Return once the queue of an experiment is below its limit."""
        while state.queue.in_memory >= state.queue.max_pending and not self._stops:
            self._rouse(True)
            await self._progress.wait()

    async def store(self, batch: Batch) -> Receipt:
        """Store a batch that comes from no queue and brings its variables along; twice is once."""
        receipt = await self.connection.store(batch)
        await self._compact('due')
        return receipt

    def _concerns(self, state: ExperimentState, variable_id: int | None) -> bool:
        # Which variables a file is about, only reading it would tell.
        if self._keeps_some_of(state):
            return True
        if state.queue.pending == 0:
            return False
        parts = self._in_flight.batch.parts if self._in_flight else []
        return state.queue.concerns(variable_id) or any(
            part.concerns(variable_id) for part in parts if part.name == state.name
        )

    def _keeps_some_of(self, state: ExperimentState) -> bool:
        """Whether something of an experiment waits outside of its queue, since before it was opened
        anew, it may be.
        """
        # A copy: other threads spill meanwhile.
        return any(state.name in kept.names for kept in [*self._kept])

    async def _flush_all(self) -> None:
        for state in [*self.states.values()]:
            await self.flush(state)

    # ── The thread and its loop ──────────────────────────────────────────────

    async def _main(self) -> None:
        self._awake, self._hurried = anyio.Event(), anyio.Event()
        self._progress = anyio.Event()
        self.opening = anyio.Lock()
        self.connection.begin()
        # A worker that died before goes on with what it had in hand.
        if self._in_flight:
            await self._commit(self._in_flight)
        if self._kept or self._is_anything_pending():
            self._rouse(True)
        while not self._stops:
            with anyio.move_on_after(self._interval()):
                await self._hurried.wait()
            is_hurried = self._hurried.is_set()
            self._hurried = anyio.Event()
            if await self._write_pending():
                await self._compact('overdue' if is_hurried else 'due')
            elif not is_hurried:
                await self._rest()
        self._step()

    async def _rest(self) -> None:
        """Tidy up, since nothing was logged for an interval, and sleep until something is.

        While something is, the worker looks for it by itself once an interval: to be woken
        each time would cost the caller a switch between threads.
        """
        self._awake = anyio.Event()
        for state in self.states.values():
            state.queue.rest()
        await self._compact('due')
        # A thread that found the queue awake may have appended just after that.
        with anyio.move_on_after(self._interval()):
            await self._awake.wait()
        while not (self._awake.is_set() or self._is_anything_queued()):
            with anyio.move_on_after(_GLANCE):
                await self._awake.wait()
        if not self._awake.is_set():
            self._hurried.set()  # it has waited for an interval already

    def _is_anything_queued(self) -> bool:
        return any(len(state.queue) for state in self.states.values())

    def _interval(self) -> float:
        return min((state.flush_interval for state in self.states.values()), default=0.0)

    def _rouse(self, hurry: bool) -> None:
        self._awake.set()
        if hurry:
            self._hurried.set()

    def _stop(self) -> None:
        self._stops = True
        self._rouse(True)

    async def _finish(self) -> None:
        await self._flush_all()
        await self.connection.tidy()
        # A thread may have been in the middle of a write when the queues were closed.
        await self._flush_all()
        await self.connection.close()
        self._stop()

    # ── Writing ──────────────────────────────────────────────────────────────

    async def _write_pending(self) -> bool:
        """Write all that waits; return whether anything did."""
        with self._taking:
            # In flight before it is taken: should the worker die on the way, nothing is lost.
            sent = self._in_flight = self._next_batch()
            self._take(sent, [*self.states.values()])
        if sent.batch.parts or self._kept:
            await self._commit(sent)
            return True
        self._in_flight = None
        return False

    def _next_batch(self) -> Sent:
        return Sent(Batch(self._writer, self._batches + 1, []), {})

    def _take(self, sent: Sent, states: Sequence[ExperimentState]) -> None:
        """Take what experiments have queued, and put right what was queued too early."""
        for state in states:
            part = sent.new_part(state)
            if state.take(part, sent.batch):
                self._renames.apply(part)
            else:
                sent.drop_last_part()

    async def _commit(self, sent: Sent) -> None:
        """Write a batch, however often that has to be tried."""
        careful = False
        busy, pause = Patience(), _FIRST_PAUSE
        while not self._stops:
            try:
                await self.connection.open_for_batches()
                await self._take_back()
                receipt = Receipt()
                if sent.batch.parts:
                    receipt = await self.storage.write(
                        sent.batch, careful=careful, synced=sent.is_synced
                    )
            except VariableConflict as conflict:
                sent.give_way(conflict, self._renames)
            except StaleEpoch as stale:
                sent.bring_variables(stale.experiment_id)
            except StorageBusyError as error:
                sent.count_retry()
                if busy.is_over():
                    self._report(sent, error)
                await anyio.sleep(busy.pause())
            except StorageError as error:
                sent.count_retry()
                self._report(sent, error)
                if self.storage.spill_folder and self._is_pressed():
                    sent = self._spill_over(sent)
                await self._pause(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception as error:  # what storage cannot digest must not end the worker
                if careful:
                    self._settle(sent, refused_whole(sent.batch, error))
                    return
                careful = True
            else:
                self._settle(sent, receipt)
                return

    def _is_pressed(self) -> bool:
        return any(state.queue.is_pressing for state in self.states.values())

    async def _take_back(self) -> None:
        """Write what left memory while storage failed, before anything that came after it."""
        while self._kept:
            await self._kept[0].store(self.storage, self._renames)
            self._kept.popleft()
            self._step()

    def _has_kept(self, path: Path) -> bool:
        """Whether a spill file is this process's own: its turn is before the next batch."""
        return any(path == kept.path for kept in [*self._kept])

    async def _pause(self, seconds: float) -> None:
        """Wait, until somebody waits for the worker."""
        with anyio.move_on_after(seconds):
            await self._hurried.wait()
        self._hurried = anyio.Event()

    def _report(self, sent: Sent, error: StorageError) -> None:
        """Say that storage fails: once in the log and to ``on_error``, until it
        works again, and each time to those who wait.
        """
        is_new = self._fault is None
        self._fault = error
        self._faults += 1
        if is_new:
            logger.warning(
                '%s; what is logged waits in memory, and is tried again until it is stored', error
            )
        for state in sent.states.values():
            state.last_error = error
            if is_new:
                state.tell(error)
        self._step()

    def _step(self) -> None:
        """Let those who wait look again."""
        progress, self._progress = self._progress, anyio.Event()
        progress.set()

    def _settle(self, sent: Sent, receipt: Receipt) -> None:
        if sent.batch.parts:
            self._batches = sent.batch.number
        self._in_flight = None
        if self._fault is not None:
            logger.warning('%s takes what is logged again', self.location)
            self._fault = None
        sent.adopt(receipt)
        for part in sent.batch.parts:
            state = sent.states[part.name]
            state.settle(part.count, [r for r in receipt.rejections if r.experiment == part.name])
            state.queue.release(sent.batch.writer, sent.batch.number)
        self._step()

    async def _compact(self, need: Literal['due', 'overdue']) -> None:
        """Merge what is due until something else is to be done, or what is overdue until it is no
        more.
        """

        def is_urged() -> bool:
            return need == 'due' and self._hurried.is_set()

        while await self.connection.compact(need, is_urged):
            if need == 'due' and (self._hurried.is_set() or self._is_anything_queued()):
                return

    # ── Spilling ─────────────────────────────────────────────────────────────

    def _spill_over(self, sent: Sent) -> Sent:
        """Make room in memory while storage fails; return the batch to go on with, an empty one."""
        with self._taking:
            sent.bring_all_variables()
            kept = Kept([sent], self._taken_from([*self.states.values()]), is_handed_over=True)
            kept.write(self.storage.spill_folder)
            self._kept.append(kept)
            self._in_flight = None
            # What comes next must not depend on a file that somebody may delete.
            self._writer, self._batches = uuid.uuid4().bytes, 0
        logger.warning('%s', told_on_the_way(kept, self.location, self._fault))
        return self._next_batch()

    def _taken_from(self, states: Sequence[ExperimentState]) -> list[Sent]:
        """Return all that experiments have queued, in batches that need no state to be applied."""
        batches = max((state.queue.batches for state in states), default=0)
        return [self._taken_once_from(states) for _ in range(batches)]

    def _taken_once_from(self, states: Sequence[ExperimentState]) -> Sent:
        sent = Sent(Batch(uuid.uuid4().bytes, 1, []), {})
        self._take(sent, states)
        sent.bring_all_variables()
        return sent
