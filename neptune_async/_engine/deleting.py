"""Delete and rewind: writes that first ask storage what exists."""

from __future__ import annotations

from contextlib import suppress

from neptune_async._engine.lifecycle.opening import number_steps
from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.writes import Origin
from neptune_async._engine.reading.values import exists, known_paths, require
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async.exceptions import StorageError

_BESIDES = Origin('head-room')
"""The origin of writes that the worker's thread makes. They must not wait for room in the queue."""


async def delete(worker: Worker, state: ExperimentState, path: str) -> None:
    """Delete a variable, or all variables of a namespace. Any process may have written them.

    :raises VariableNotFoundError: there is nothing at the path.
    :raises RejectedOperationsError: storage refused some operations before. Nothing is deleted.
    """
    await worker.drain(state)
    state.raise_rejections()
    if not state.writes.delete(path, _BESIDES):
        if not await exists(worker, state, path):
            raise messages.variable_not_found(state.name, path, await known_paths(worker, state))
        state.writes.put_delete(path, _BESIDES)


async def rewind(worker: Worker, state: ExperimentState, path: str, step: float) -> None:
    """Drop the points after a step from the series at a path and below it. An empty path means all
    series.

    :raises RejectedOperationsError: storage refused some operations before. Nothing is dropped.
    """
    await worker.drain(state)
    state.raise_rejections()
    if not state.writes.rewind(path, step, _BESIDES):
        if not await exists(worker, state, path):
            raise messages.nothing_found(state.name, path, await known_paths(worker, state))
        variable = await worker.query(state, worker.storage.find_variable, state.id, path)
        if variable is not None:
            await require(worker, state, path, variable, 'series', 'rewind')
        state.writes.put_rewind(path, step, _BESIDES)
    if state.numbers_steps:
        # If storage fails, it numbers the steps later. They just cannot be printed now.
        with suppress(StorageError):
            await number_steps(worker, state)
