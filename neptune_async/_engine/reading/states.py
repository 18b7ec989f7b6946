"""Whether experiments run."""

from __future__ import annotations

from collections.abc import Collection

from neptune_async._engine.sessions.liveness import is_live, states_of
from neptune_async._engine.worker.worker import Worker
from neptune_async._model.states import State
from neptune_async._storage.sessions import FoundSession


async def states(worker: Worker, experiment_ids: Collection[int]) -> dict[int, State]:
    """Return the state of each experiment, in one statement."""
    found = await worker.connection.ask(lambda storage: storage.find_sessions(experiment_ids))
    return states_of(experiment_ids, found)


async def dead_sessions(worker: Worker, experiment_ids: Collection[int]) -> list[FoundSession]:
    """Return the sessions of experiments whose processes have died, in one statement."""
    found = await worker.connection.ask(lambda storage: storage.find_sessions(experiment_ids))
    return [session for session in found if not is_live(session)]
