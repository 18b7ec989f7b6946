"""Experiments of a store: fork, list and delete. Each is a coroutine on the worker's loop."""

from __future__ import annotations

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.variable_ids import VariableIds
from neptune_async._engine.storing.retries import attempt, attempt_twice
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async.exceptions import ExperimentNotFoundError, StorageError


async def fork(
    worker: Worker,
    state: ExperimentState,
    _: str | None,
    name: str,
    step: float | None,
    mark: bytes,
) -> None:
    """Create an experiment as a copy of this one, with all that this process has queued.

    :param name: the name of the copy.
    :param step: the last step to copy; None copies all points.
    :param mark: identifies this fork. If the copy exists with the same mark, this does nothing.
    :raises ExperimentExistsError: another experiment has that name.
    :raises RejectedOperationsError: storage refused some operations before. No copy is made.
    """
    await worker.connection.open(writable=True)
    await worker.flush(state)
    state.raise_rejections()
    draw_id = VariableIds().draw  # a new object, because storage draws ids on another thread
    copy = worker.storage.fork_experiment
    if not await attempt_twice(copy, state.id, name, step, draw_id, mark):
        raise messages.fork_exists(name, worker.location)


async def list_experiments(worker: Worker) -> list[str]:
    """Return the names of all experiments in the store."""
    return await worker.connection.ask(lambda storage: storage.list_experiments())


async def delete_experiment(worker: Worker, name: str) -> None:
    """Delete an experiment with all its variables.

    :raises ExperimentNotFoundError: there is no experiment of that name.
    :raises StorageError: the experiment is open in this process, or the store fails.
    """
    await worker.connection.open(writable=True)
    if name in worker.states:
        raise StorageError(
            f'experiment {name!r} is open in this process; close it before it is deleted'
        )
    if not await attempt(worker.storage.delete_experiment, name):
        raise await not_found(worker, name)


async def not_found(worker: Worker, name: str) -> ExperimentNotFoundError:
    known = await attempt(worker.storage.list_experiments)
    return messages.experiment_not_found(name, worker.location, known)
