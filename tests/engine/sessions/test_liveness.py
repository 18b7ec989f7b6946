"""Whether the process of a session lives, and what that makes of an experiment."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from neptune_async._engine.sessions.liveness import is_live, states_of
from neptune_async._engine.sessions.processes import this_process
from neptune_async._storage.sessions import FoundSession, Process, Session

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux tells when a process was started'
)

HERE = this_process()
DEAD = replace(HERE, started='1')
THERE = Process('node-2', 'machine-2', 42, '2000')


def found(process: Process, silent: float, experiment_id: int = 1) -> FoundSession:
    return FoundSession(Session(b'1' * 16, experiment_id, process), 0.0, 0.0, silent)


@pytest.mark.parametrize(
    ('process', 'silent', 'live'),
    [
        (THERE, 0.0, True),
        (THERE, 119.0, True),
        (THERE, 121.0, False),
        (THERE, -1000.0, True),  # the clock was put back
        (HERE, 10_000.0, True),
        (DEAD, 0.0, False),
    ],
)
def test_silence_tells_of_other_machines_and_the_system_of_this_one(
    process: Process, silent: float, live: bool
) -> None:
    assert is_live(found(process, silent)) is live


def test_each_experiment_has_the_state_of_its_own_sessions() -> None:
    sessions = [found(HERE, 0.0, 1), found(DEAD, 0.0, 1), found(DEAD, 0.0, 2), found(THERE, 9e9, 2)]
    assert states_of([1, 2, 3], sessions) == {1: 'running', 2: 'lost', 3: 'closed'}
