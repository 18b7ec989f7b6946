"""Whether the process of a session lives."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from neptune_async._engine.sessions.processes import lives
from neptune_async._model.states import State, state_of
from neptune_async._storage.sessions import FoundSession

LONGEST_SILENCE = 120.0
"""Seconds without a sign of life after which a process counts as dead, where nothing else tells.
It gives a sign at least every 25 seconds.
"""


def is_live(found: FoundSession) -> bool:
    """Tell whether the process of a session lives.

    On its own machine the system tells that at once. Anywhere else a process lives that has given
    a sign of life lately.
    """
    known = lives(found.session.process)
    return found.silent <= LONGEST_SILENCE if known is None else known


def states_of(
    experiment_ids: Collection[int], sessions: Iterable[FoundSession]
) -> dict[int, State]:
    """Return the state of each experiment.

    :param sessions: all sessions of these experiments.
    """
    live: dict[int, list[bool]] = {experiment_id: [] for experiment_id in experiment_ids}
    for found in sessions:
        live[found.session.experiment_id].append(is_live(found))
    return {experiment_id: state_of(known) for experiment_id, known in live.items()}
