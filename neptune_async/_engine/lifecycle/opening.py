"""Opening an experiment: a coroutine on the worker's loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from neptune_async._engine.durability.journal import Journal
from neptune_async._engine.lifecycle.closing import give_back
from neptune_async._engine.lifecycle.experiments import not_found
from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.queue import DEFAULT_PENDING_BYTES, Queue
from neptune_async._engine.storing.retries import attempt, found_or_made
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async._storage.base import ExperimentRecord
from neptune_async.exceptions import StorageError

Mode: TypeAlias = Literal['resume', 'create', 'read', 'disabled']
Durability: TypeAlias = Literal['interval', 'call', 'power']


@dataclass(frozen=True, slots=True)
class Options:
    """How the queue of an experiment works. The first object that opens the experiment in this
    process decides. A later one can only raise the durability.

    :ivar flush_interval: seconds after which queued operations are stored.
    :ivar max_pending: how many operations may wait in memory.
    :ivar max_pending_bytes: how many bytes the files that wait may have in memory.
    """

    flush_interval: float
    max_pending: int
    durability: Durability
    max_pending_bytes: int = DEFAULT_PENDING_BYTES


async def open_experiment(
    worker: Worker, name: str | None, mode: Mode, options: Options, numbers_steps: bool
) -> ExperimentState:
    """Return the state of an experiment. All who have it open in this process share it.

    Each of them calls ``Closing`` or ``give_back`` at the end.

    :param numbers_steps: whether the steps are needed at once, to print them.
    :raises ExperimentExistsError: the mode is 'create', and there is an experiment of that name.
    :raises ExperimentNotFoundError: the mode is 'read', and there is no experiment of that name.
    :raises StorageError: the store cannot be opened.
    """
    while True:
        async with worker.opening:
            await worker.connection.open(writable=mode != 'read')
            # There is no await between this line and the one that counts the user: during an await
            # the other users could close the experiment.
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
        queue = Queue(record.name, options.max_pending, worker, options.max_pending_bytes)
        state = ExperimentState(record, queue, worker.ids, options.flush_interval)
        state.writes.folder = worker.storage.spill_folder
        worker.add(state)
    elif mode == 'create':
        raise messages.experiment_exists(state.name, worker.location)
    is_writer = mode != 'read'
    state.users += 1
    state.writers += is_writer
    try:
        if is_writer and not state.is_loaded:
            state.load(await attempt(worker.storage.list_variables, state.id, None))
        if numbers_steps and not state.numbers_steps:
            await number_steps(worker, state)
        if is_writer:
            _make_durable(worker, state, options.durability)
            await worker.heartbeats.begin(state)
    except BaseException:
        give_back(worker, state, is_writer)
        raise
    return state


async def _record(worker: Worker, name: str | None, mode: Mode) -> ExperimentRecord:
    """Return the experiment to open. Create it if the mode says so."""
    if name is None or mode == 'create':
        made = await attempt(worker.storage.create_experiment, name)
        if made is None:
            raise messages.experiment_exists(str(name), worker.location)
        return made
    if mode == 'read':
        found = await attempt(worker.storage.find_experiment, name)
        if found is None:
            raise await not_found(worker, name)
        return found
    return await found_or_made(worker.storage, name)


def _make_durable(worker: Worker, state: ExperimentState, durability: Durability) -> None:
    folder = worker.storage.spill_folder
    if durability == 'power':
        state.is_synced = True
    elif durability == 'call' and folder is not None:
        points = state.queue.hurry_at
        try:
            # A forked child makes one, too, and then the experiment may have another name.
            state.queue.keep_journal(lambda: Journal(folder, state.id, state.name, points))
        except OSError as error:
            raise StorageError(f'cannot make a journal in {folder}: {error}') from error


async def number_steps(worker: Worker, state: ExperimentState) -> None:
    """Count automatic steps in this process, after the last step of each series, for echo."""
    while True:
        await worker.flush(state)
        offered = state.queue.offered
        largest = await attempt(worker.storage.largest_steps, state.id)
        with state.queue.lock:
            if state.queue.offered == offered:
                state.number_steps({path: step + 1.0 for path, step in largest.items()})
                return
