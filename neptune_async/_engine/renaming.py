"""Renaming an experiment, while nothing is on its way to storage under the old name."""

from __future__ import annotations

import anyio

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.sessions.liveness import is_live
from neptune_async._engine.storing.retries import attempt, attempt_twice
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages


async def rename(worker: Worker, state: ExperimentState, _: str | None, name: str) -> None:
    """Give an experiment another name. Who logs to it in this process goes on under that name.

    Batches, journals and spill files have the name of their experiment. So whatever waits under the
    old name is stored first, and other processes must not have the experiment open.

    :raises ExperimentExistsError: another experiment has that name.
    :raises StorageBusyError: another process has the experiment open for writing.
    """
    await worker.connection.open(writable=True)
    # Nobody may open the experiment meanwhile, under either name.
    async with worker.opening:
        is_renamed = name == state.name
        while not is_renamed:
            await worker.flush(state)
            async with worker.writing:
                # Storage may have failed in between.
                if not worker.has_spilled_of(state):
                    await _rename(worker, state, name)
                    is_renamed = True
    # The journal has it under the old name still, if somebody has logged meanwhile.
    await worker.flush(state)


async def _rename(worker: Worker, state: ExperimentState, name: str) -> None:
    await _refuse_if_open_elsewhere(worker, state)
    await worker.connection.take_in()
    # A cancel in between would leave it open under a name that it does not have any more.
    with anyio.CancelScope(shield=True):
        if not await attempt_twice(worker.storage.rename_experiment, state.id, name):
            raise messages.name_taken(state.name, name, worker.location)
        worker.rename(state, name)


async def _refuse_if_open_elsewhere(worker: Worker, state: ExperimentState) -> None:
    own = worker.heartbeats.session_of(state)
    for found in await attempt(worker.storage.find_sessions, [state.id]):
        if (own is None or found.session.id != own.id) and is_live(found):
            process = found.session.process
            raise messages.open_elsewhere(state.name, process.pid, process.host)
