"""The state of an experiment, from whether the processes live that had it open."""

from __future__ import annotations

import pytest

from neptune_async._model.states import State, state_of


@pytest.mark.parametrize(
    ('lives', 'state'),
    [
        ([], 'closed'),
        ([True], 'running'),
        ([False, True, False], 'running'),
        ([False], 'lost'),
        ([False, False], 'lost'),
    ],
)
def test_an_experiment_runs_while_one_process_lives(lives: list[bool], state: State) -> None:
    assert state_of(lives) == state
