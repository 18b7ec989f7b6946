"""Opening and closing, forking and deleting: one coroutine each, run on the worker's loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import anyio

from neptune_async._engine import lifecycle
from neptune_async._engine.entries import VariableIds
from neptune_async._engine.journal import Journal
from neptune_async._engine.queue import Queue
from neptune_async._engine.sending import attempt, attempt_twice, found_or_made
from neptune_async._engine.state import ExperimentState
from neptune_async._engine.unlocked import calls_end
from neptune_async._engine.worker import Worker
from neptune_async._model import messages
from neptune_async._storage.base import ExperimentRecord
from neptune_async.exceptions import ExperimentNotFoundError, NeptuneAsyncError, StorageError

logger = logging.getLogger('neptune_async')

Mode: TypeAlias = Literal['resume', 'create', 'read', 'disabled']
Durability: TypeAlias = Literal['interval', 'call', 'power']


@dataclass(frozen=True, slots=True)
class Options:
    """How an experiment's queue is kept; the first that opens it decides, but for the durability,
    which others may raise.
    """

    flush_interval: float
    max_pending: int
    durability: Durability


async def open_experiment(
    worker: Worker, name: str | None, mode: Mode, options: Options, numbers_steps: bool
) -> ExperimentState:
    """Return the state of an experiment, shared with all that have it open.

    Each is to call ``Closing``, or ``give_back``, in the end.

    :raises ExperimentExistsError: in mode 'create', of a known name.
    :raises ExperimentNotFoundError: in mode 'read', of an unknown name.
    :raises StorageError: when the store cannot be opened.
    """
    while True:
        async with worker.opening:
            await worker.connection.open(writable=mode != 'read')
            # From here to where it is held nothing is awaited, in which the others may close it.
            state = worker.states.get(name) if name else None
            if state is None or not state.is_closed:
                return await _held(worker, state, name, mode, options, numbers_steps)
        await worker.removal(state)


async def _held(
    worker: Worker,
    state: ExperimentState | None,
    name: str | None,
    mode: Mode,
    options: Options,
    numbers_steps: bool,
) -> ExperimentState:
    if state is None:
        record = await _record(worker, name, mode)
        queue = Queue(record.name, options.max_pending, worker)
        state = ExperimentState(record, queue, worker.ids, options.flush_interval)
        worker.add(state)
    elif mode == 'create':
        raise messages.experiment_exists(state.name, worker.location)
    state.users += 1
    try:
        if mode != 'read' and not state.is_loaded:
            state.load(await attempt(worker.storage.list_variables, state.id, None))
        if numbers_steps and not state.numbers_steps:
            await number_steps(worker, state)
        if mode != 'read':
            _make_durable(worker, state, options.durability)
    except BaseException:
        give_back(worker, state)
        raise
    return state


async def _record(worker: Worker, name: str | None, mode: Mode) -> ExperimentRecord:
    """Return the experiment that is to be opened, found or made."""
    if name is None or mode == 'create':
        made = await attempt(worker.storage.create_experiment, name)
        if made is None:
            raise messages.experiment_exists(str(name), worker.location)
        return made
    if mode == 'read':
        found = await attempt(worker.storage.find_experiment, name)
        if found is None:
            raise await _not_found(worker, name)
        return found
    return await found_or_made(worker.storage, name)


def _make_durable(worker: Worker, state: ExperimentState, durability: Durability) -> None:
    folder = worker.storage.spill_folder
    if durability == 'power':
        state.is_synced = True
    elif durability == 'call' and folder is not None:
        points = state.queue.hurry_at
        make = partial(Journal, folder, state.id, state.name, points)
        try:
            state.queue.keep_journal(make)
        except OSError as error:
            raise StorageError(f'cannot make a journal in {folder}: {error}') from error


async def number_steps(worker: Worker, state: ExperimentState) -> None:
    """Have automatic steps counted, to be shown, from where each series stands."""
    while True:
        await worker.flush(state)
        offered = state.queue.offered
        largest = await attempt(worker.storage.largest_steps, state.id)
        with state.queue.lock:
            if state.queue.offered == offered:
                state.number_steps({path: step + 1.0 for path, step in largest.items()})
                return


def give_back(worker: Worker, state: ExperimentState) -> None:
    """Let go of an experiment at once; what the last leaves in the queue is spilled."""
    state.users -= 1
    if state.users == 0:
        state.close()
        _end(worker, state)


def _end(worker: Worker, state: ExperimentState) -> None:
    if state.queue.pending:
        lifecycle.spill(worker, [state])
    state.queue.end()
    worker.remove(state)


class Closing:
    """Stores what an experiment has, and lets go of it; the last to do so spills what is left.

    :ivar ended: what to wait for, even if that is interrupted: after ``give_up`` it is soon over.

    :param timeout: seconds that storage may take; None for any.
    """

    def __init__(self, worker: Worker, state: ExperimentState, timeout: float | None) -> None:
        self._worker = worker
        self._state = state
        self._timeout = timeout
        self.ended = worker.call(self._close)

    def give_up(self) -> None:
        """Have it end now, with what was not stored in a file."""
        self._worker.call(self._stop)

    async def _stop(self) -> None:
        self._scope.cancel()

    async def _close(self) -> None:
        worker, state = self._worker, self._state
        state.users -= 1
        is_last = state.users == 0
        if is_last:
            state.close()
        try:
            with anyio.move_on_after(self._timeout) as self._scope:
                await calls_end()
                await worker.flush(state)
            if self._scope.cancelled_caught:
                raise messages.flush_timeout(state.name, state.queue.pending, self._timeout)
        finally:
            if is_last:
                _end(worker, state)
        if is_last:
            with anyio.CancelScope(deadline=self._scope.deadline) as self._scope:
                await worker.connection.tidy()


async def retire(worker: Worker, state: ExperimentState, then: Callable[[], object]) -> None:
    """Flush and close an experiment that nobody holds any more, and nobody waits for."""
    try:
        await worker.flush(state)
        give_back(worker, state)
        await worker.connection.tidy()
    except NeptuneAsyncError as error:
        # The experiment stays: the end of the process stores or spills what it has.
        logger.debug('%s was not closed when it was let go: %s', state.name, error)
    else:
        then()


async def fork(
    worker: Worker,
    state: ExperimentState,
    _: str | None,
    name: str,
    step: float | None,
    mark: bytes,
) -> None:
    """Make an experiment that begins as a copy of this one, with all that was enqueued, unless it
    was made under that mark.

    :raises ExperimentExistsError: there is one of that name.
    :raises RejectedOperationsError: storage refused some operations before; no copy is made.
    """
    await worker.connection.open(writable=True)
    await worker.flush(state)
    state.raise_rejections()
    draw_id = VariableIds().draw  # its own: storage draws on another thread
    copy = worker.storage.fork_experiment
    if not await attempt_twice(copy, state.id, name, step, draw_id, mark):
        raise messages.fork_exists(name, worker.location)


async def list_experiments(worker: Worker) -> list[str]:
    """Return the names of all experiments in the store."""
    return await worker.connection.ask(lambda storage: storage.list_experiments())


async def delete_experiment(worker: Worker, name: str) -> None:
    """Delete an experiment and all that it holds.

    :raises ExperimentNotFoundError: when there is none of that name.
    """
    await worker.connection.open(writable=True)
    if name in worker.states:
        raise StorageError(
            f'experiment {name!r} is open in this process; close it before it is deleted'
        )
    if not await attempt(worker.storage.delete_experiment, name):
        raise await _not_found(worker, name)


async def _not_found(worker: Worker, name: str) -> ExperimentNotFoundError:
    known = await attempt(worker.storage.list_experiments)
    return messages.experiment_not_found(name, worker.location, known)
