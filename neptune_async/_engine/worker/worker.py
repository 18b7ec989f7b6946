"""The worker of one store: its thread takes what is queued, and tries until it is stored."""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Literal, TypeVar

import anyio

from neptune_async._engine.durability.overlaid_storage import overlaid
from neptune_async._engine.durability.recovery import Recovery
from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.locks import is_held_here, locks_of_threading
from neptune_async._engine.queueing.variable_ids import VariableIds
from neptune_async._engine.storing.batches import refused_whole
from neptune_async._engine.storing.retries import Patience, attempt
from neptune_async._engine.storing.uploads import discard_files, keep_again, keep_files
from neptune_async._engine.worker.connection import TIDY_SECONDS, Connection
from neptune_async._engine.worker.faults import Faults
from neptune_async._engine.worker.heartbeats import AT_REST, WITH_A_FLUSH, Heartbeats
from neptune_async._engine.worker.loop_thread import Event, Function, LoopThread
from neptune_async._engine.worker.outbox import Outbox
from neptune_async._engine.worker.reply import Reply
from neptune_async._engine.worker.sent_batch import SentBatch
from neptune_async._engine.worker.wakeups import GLANCE, Wakeups
from neptune_async._messenger import is_own_thread, messenger
from neptune_async._model import messages
from neptune_async._model.operations import Batch
from neptune_async._patching import late_patch
from neptune_async._storage.base import (
    Changed,
    MissingFiles,
    Receipt,
    StaleEpoch,
    Storage,
    VariableConflict,
)
from neptune_async._storage.forking import FORK_GUARD, leak
from neptune_async.exceptions import StorageBusyError, StorageError, WorkerThreadError

T = TypeVar('T')

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0


class Worker:
    """Writes the operations that the experiments of one store queue, and reads for them.

    The first call that needs the worker starts its daemon thread. Other threads may call the
    methods under "From any thread"; everything else belongs to the thread of the loop.

    :ivar storage: the store itself; only for the loop's thread.
    :ivar connection: opens the store; only for the loop's thread.
    :ivar heartbeats: tell others that the experiments are open; only for the loop's thread.
    :ivar states: the open experiments by name.
    :ivar opening: held on the loop while an experiment is opened.
    :ivar writing: held on the loop while a batch is on its way to storage.
    :ivar ids: the ids for the variables that the experiments create.
    :ivar users: how many ``Experiment`` objects hold the worker. The registry's lock guards it
        (see ``lifecycle``).
    """

    def __init__(
        self,
        url: str,
        make_storage: Callable[[str], Storage],
        is_shared: bool,
        on_use: Callable[[], object],
        registry_lock: Callable[[], threading.RLock],
    ) -> None:
        self.url = url
        self.is_shared = is_shared
        self.users = 0
        self.states: dict[str, ExperimentState] = {}
        self._make_storage = make_storage
        self._on_use = on_use
        self._registry_lock = registry_lock
        self._begin()

    def _begin(self) -> None:
        self.storage: Storage = overlaid(
            self._make_storage(self.url), lambda path: self._outbox.has_spilled_to(path)
        )
        self._outbox = Outbox(self.storage)
        self._faults = Faults(self.storage.location)
        recovery = Recovery(
            self.storage, self._outbox.has_spilled_to, lambda: self._faults.current is not None
        )
        self.connection = Connection(self.storage, recovery)
        self.heartbeats = Heartbeats(self.storage, self.connection, lambda: self.states.values())
        self.thread = LoopThread(
            f'neptune_async {self.storage.location}',
            self._main,
            self.connection.close,
        )
        self.ids = VariableIds()
        self._stops = False
        self._finished: Reply[None] | None = None

    def abandon(self) -> None:
        """Start again in a forked child. The store and the thread of the parent are left alone."""
        leak((self.storage, self.thread))
        self._begin()
        # The parent was closing these experiments. Nobody would close them in the child.
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
    ) -> Reply[T]:
        """Run a coroutine function on the worker's loop, for a caller that waits for its result.

        :param undo: as ``LoopThread.call``.
        :raises WorkerThreadError: as ``require_waitable``.
        """
        self.require_waitable()
        self._on_use()
        return self.thread.call(function, *args, undo=undo)

    def require_waitable(self) -> None:
        """Check that the caller may wait for the worker.

        :raises WorkerThreadError: the wait would never end: the caller is on the worker's own
            thread, or in a signal handler or finalizer that interrupts a thread which holds a lock
            that the worker needs.
        :raises StorageError: gevent or eventlet has replaced threads too late.
        """
        if why := late_patch():
            raise StorageError(why)
        if is_own_thread():
            raise WorkerThreadError(
                'flush, close, reads, and the opening of an experiment cannot be called in a '
                'finalizer on a thread that would have to do them; note what happened and do them '
                'elsewhere'
            )
        if any(map(is_held_here, self.locks)):
            raise WorkerThreadError(
                'flush, close, reads, and the opening of an experiment cannot be called in a '
                f'signal handler or finalizer that interrupts a write to {self.location}; note '
                'what happened and do them elsewhere'
            )

    @property
    def locks(self) -> list[threading.RLock]:
        """The locks that the worker takes, and so may have to wait for."""
        queues = map(attrgetter('queue.lock'), [*self.states.values()])
        of_others = [self._registry_lock(), FORK_GUARD.lock, *locks_of_threading()]
        return [self.thread.lock, self._outbox.lock, *of_others, *queues]

    def wake(self, hurry: bool) -> None:
        """Empty the queues after the interval.

        :param hurry: True to empty them now.
        """
        self._on_use()
        try:
            self.thread.post(self._rouse, hurry)
        except RuntimeError as error:
            messenger.debug('%s stays asleep: %s', self.location, error)

    def finish(self, timeout: float) -> None:
        """Store what is pending, close the store, and end the thread; once, if called again.

        :param timeout: the longest time to wait, in seconds.
        :raises TimeoutError: it takes longer than that. The thread goes on trying.
        """
        if self.thread.is_running or self._is_anything_pending():
            self._finished = self._finished or self.call(self._finish)
            self._finished.result(timeout)

    def flush_all(self, timeout: float) -> None:
        """Store what is pending.

        :param timeout: the longest time to wait, in seconds.
        :raises TimeoutError: it takes longer than that. The thread goes on trying.
        :raises StorageError: an attempt to write fails while this waits.
        """
        if self._is_anything_pending():
            self.call(self._flush_all).result(timeout)

    def _is_anything_pending(self) -> bool:
        # A copy, because the loop may open and close experiments at the same time.
        return any(state.queue.pending for state in [*self.states.values()])

    def stop(self) -> None:
        """Close the store and end the thread. Operations that are still queued are lost."""
        if self.thread.is_running:
            self.thread.post(self._stop)

    def spill(self, states: Sequence[ExperimentState], *, at_the_end: bool = False) -> None:
        """Move what experiments have in memory to a spill file. Then call ``name_spills``.

        :param at_the_end: True if nobody will try again to store the spilled batches.
        """
        self._outbox.spill(states, at_the_end=at_the_end)
        if self._outbox.has_spilled and self.thread.is_running:
            self.wake(False)

    def name_spills(self) -> None:
        """Print which spill files there are, and what is in them, if no line has named them."""
        self._outbox.name_spilled(self._faults.current or 'it took too long')

    # ── On the loop ──────────────────────────────────────────────────────────

    def add(self, state: ExperimentState) -> None:
        """Add an experiment, whose queue the worker empties from now on."""
        self.states[state.name] = state
        self._rouse(True)  # the worker may wait for the longer interval of another experiment

    def remove(self, state: ExperimentState) -> None:
        """Remove an experiment. The worker does not look at its queue any more."""
        if self.states.get(state.name) is state:
            del self.states[state.name]
        self._step()

    def rename(self, state: ExperimentState, name: str) -> None:
        """Take over the name that storage has for an experiment now."""
        # Another thread may be going through the experiments.
        self.states = {(name if s is state else n): s for n, s in self.states.items()}
        state.rename(name)

    def has_spilled_of(self, state: ExperimentState) -> bool:
        """Whether spilled batches of an experiment wait to be stored."""
        return self._outbox.has_spilled_of(state.name)

    async def removal(self, state: ExperimentState) -> None:
        """Return once an experiment that is being closed has been removed."""
        while self.states.get(state.name) is state:
            await self._progress.wait()

    async def read(
        self,
        state: ExperimentState,
        path: str | None,
        query: Callable[..., Awaitable[T]],
        *args: object,
    ) -> T:
        """Query storage after all that this process queued for a path is committed.

        :param path: None for a query about namespaces.
        """
        if self._concerns(state, state.known_id(path)):
            await self.flush(state)
        return await self.query(state, query, *args)

    async def query(
        self, state: ExperimentState, query: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        """Query storage as it is now, without a flush."""
        state.require_open()
        await self.connection.open(writable=False)
        return await attempt(query, *args)

    async def next_commit(self, changed: Changed) -> None:
        """Return after the next commit of this process or of another one.

        :param changed: returns after a commit of another process.
        """
        async with anyio.create_task_group() as tasks:

            async def wait_for_others() -> None:
                await changed()
                tasks.cancel_scope.cancel()

            tasks.start_soon(wait_for_others)
            await self._progress.wait()
            tasks.cancel_scope.cancel()

    async def flush(self, state: ExperimentState) -> None:
        """Return once all that was queued before this call is committed.

        :raises StorageError: an attempt to write fails while this waits.
        """
        target = state.queue.offered
        faults = self._faults.count
        while state.queue.counters.settled < target or self._outbox.has_spilled_of(state.name):
            if self._stops:
                raise messages.closed(state.name)
            self._rouse(True)
            await self._progress.wait()
            if self._faults.count != faults and self._faults.current is not None:
                raise self._faults.current

    async def sync(self, state: ExperimentState) -> None:
        """Flush, and return once the data survives a power failure.

        :raises StorageError: an attempt to write fails while this waits.
        """
        await self.flush(state)
        await self.connection.open(writable=True)
        await attempt(self.storage.sync)

    async def drain(self, state: ExperimentState) -> None:
        """Return once the queue of an experiment is below its limit."""
        while state.queue.is_full and not self._stops:
            self._rouse(True)
            await self._progress.wait()

    async def store(self, batch: Batch) -> Receipt:
        """Store a batch that comes from no queue and creates all its variables itself. To store
        the same batch again changes nothing.
        """
        receipt = await self.connection.store(batch)
        await self._compact('due')
        return receipt

    def _concerns(self, state: ExperimentState, variable_id: int | None) -> bool:
        # Only reading a spill file would tell which variables are in it.
        if self._outbox.has_spilled_of(state.name):
            return True
        if state.queue.pending == 0:
            return False
        in_flight = self._outbox.in_flight
        parts = in_flight.batch.parts if in_flight else []
        return state.queue.concerns(variable_id) or any(
            part.concerns(variable_id) for part in parts if part.name == state.name
        )

    async def _flush_all(self) -> None:
        for state in [*self.states.values()]:
            await self.flush(state)

    # ── The thread and its loop ──────────────────────────────────────────────

    async def _main(self) -> None:
        self._wakeups = Wakeups()
        self._progress = Event()
        self.opening = anyio.Lock()
        self.writing = anyio.Lock(fast_acquire=True)
        self.connection.begin()
        # If the loop died before, go on with the batch that was on its way.
        if self._outbox.in_flight:
            await self._commit(self._outbox.in_flight)
        if self._outbox.has_spilled or self._is_anything_pending():
            self._rouse(True)
        while not self._stops:
            is_hurried = await self._wakeups.turn(self._interval(), self._look)
            if await self._write_pending():
                await self.heartbeats.beat_if_due(WITH_A_FLUSH)
                await self._compact('overdue' if is_hurried else 'due')
            elif not is_hurried:
                await self._rest()
        self._step()
        await self.heartbeats.end_all(Patience(0.0))

    async def _rest(self) -> None:
        """Merge chunks after an interval without writes, and sleep until the next write.

        While the program logs, nobody wakes the worker: it looks at the queues once in each
        interval. To wake it each time would cost the caller a switch between threads.
        """
        self._wakeups.fall_asleep()
        for state in self.states.values():
            state.queue.rest()
        await self._compact('due')
        # A thread may have appended just now without waking the worker, because it saw the queue
        # before the queue rested.
        await self._wakeups.sleep(self._interval(), self._look)
        while not (self._wakeups.is_awake or self._is_anything_queued()):
            # It may have seen the queue long before.
            await self._wakeups.sleep(GLANCE, self._look)
        if not self._wakeups.is_awake:
            self._wakeups.rouse(True)  # the points have waited for an interval already

    async def _look(self) -> None:
        """Give a sign of life if one is due although nothing is logged."""
        if await self.heartbeats.beat_if_due(AT_REST):
            await self._compact('due')  # or the -wal would grow for as long as nothing is logged

    def _is_anything_queued(self) -> bool:
        return any(len(state.queue) for state in self.states.values())

    def _interval(self) -> float:
        return min((state.flush_interval for state in self.states.values()), default=0.0)

    def _rouse(self, hurry: bool) -> None:
        self._wakeups.rouse(hurry)

    def _stop(self) -> None:
        self._stops = True
        self._rouse(True)

    async def _finish(self) -> None:
        patience = Patience(TIDY_SECONDS)
        await self._flush_all()
        await self.connection.tidy()
        # When the queues were closed, a thread may have been in the middle of a write.
        await self._flush_all()
        await self.heartbeats.end_all(patience)
        await self.connection.close()
        self._stop()

    # ── Writing ──────────────────────────────────────────────────────────────

    async def _write_pending(self) -> bool:
        """Write all that waits. Return False if nothing waited."""
        async with self.writing:
            sent = self._outbox.take([*self.states.values()])
            if sent.batch.parts or self._outbox.has_spilled:
                await self._commit(sent)
                return True
            self._outbox.in_flight = None
            return False

    async def _commit(self, sent: SentBatch) -> None:
        """Write a batch. Try again until storage takes it or refuses it, or the worker stops."""
        careful = False
        busy, pause = Patience(), _FIRST_PAUSE
        while not self._stops:
            try:
                await self.connection.open_for_batches()
                await self._outbox.store_spilled(self._step)
                receipt = Receipt()
                if sent.batch.parts:
                    await keep_files(self.storage, sent.batch, synced=sent.is_synced)
                    receipt = await self.storage.write(
                        sent.batch, careful=careful, synced=sent.is_synced
                    )
            except VariableConflict as conflict:
                sent.give_way(conflict, self._outbox.renames)
            except MissingFiles as error:
                await keep_again(self.storage, sent.batch, error.missing)
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
                await self._wakeups.turn(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception as error:  # a bad batch must not end the worker
                if careful:
                    self._settle(sent, refused_whole(sent.batch, error))
                    return
                careful = True
            else:
                self._settle(sent, receipt)
                return

    def _is_pressed(self) -> bool:
        return any(state.queue.is_pressing for state in self.states.values())

    def _report(self, sent: SentBatch, error: StorageError) -> None:
        """Report that storage fails. Those who wait for a flush hear of each failure."""
        self._faults.begin(sent, error)
        self._step()

    def _step(self) -> None:
        """Wake all tasks that wait for progress."""
        progress, self._progress = self._progress, Event()
        progress.set()

    def _settle(self, sent: SentBatch, receipt: Receipt) -> None:
        self._outbox.settle(sent)
        self._faults.end()
        sent.adopt(receipt)
        for part in sent.batch.parts:
            state = sent.states[part.name]
            state.settle(part.count, [r for r in receipt.rejections if r.experiment == part.name])
            state.queue.free(discard_files(part))
            state.queue.release(sent.batch.writer, sent.batch.number)
        self._step()

    async def _compact(self, need: Literal['due', 'overdue']) -> None:
        """Merge chunks. What is 'due' is merged until there is something else to do; what is
        'overdue' is merged to the end.
        """

        def is_urged() -> bool:
            return need == 'due' and self._wakeups.is_hurried

        while await self.connection.compact(need, is_urged):
            if need == 'due' and (self._wakeups.is_hurried or self._is_anything_queued()):
                return

    def _spill_over(self, sent: SentBatch) -> SentBatch:
        """Make room in memory while storage fails. Return the batch to go on with."""
        spilled = self._outbox.spill_over(sent, [*self.states.values()])
        if spilled is None:
            return sent
        self._faults.tell_of_spill(spilled)
        return self._outbox.next_batch()
