"""Whether an experiment runs, as others see it while this process opens and closes it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from faults.child import wait_until
from sessions_in import change_sessions, sessions_in, states_in

from neptune_async import Experiment
from neptune_async._engine.worker import wakeups, worker
from neptune_async._engine.worker.heartbeats import Heartbeats

from .conftest import Face

pytestmark = pytest.mark.anyio


async def test_an_experiment_runs_from_its_opening_to_its_end(face: Face) -> None:
    async with face.open() as exp:
        assert states_in(face.storage) == {'NPT-1': 'running'}
        exp['loss'].log(1.0)
    assert states_in(face.storage) == {'NPT-1': 'closed'}
    async with face.open():
        assert states_in(face.storage) == {'NPT-1': 'running'}
    assert states_in(face.storage) == {'NPT-1': 'closed'}


async def test_it_runs_until_the_last_one_that_writes_has_closed_it(face: Face) -> None:
    async with face.open(mode='resume') as first:
        second = face.open()
        await second.__aenter__()
        reader = face.open(mode='read')
        await reader.__aenter__()
        assert len(sessions_in(face.storage, 'NPT-1')) == 1
        await second.__aexit__(None, None, None)
        assert states_in(face.storage) == {'NPT-1': 'running'}
        await face.close(first)
        assert states_in(face.storage) == {'NPT-1': 'closed'}
        await reader.__aexit__(None, None, None)


async def test_who_only_reads_has_no_session_and_ends_none(face: Face) -> None:
    async with face.open():
        pass
    async with face.open(mode='read'):
        assert states_in(face.storage) == {'NPT-1': 'closed'}
    async with face.open():
        change_sessions(face.storage, started="'1'")
        async with face.open('NPT-1', mode='read'):
            assert states_in(face.storage) == {'NPT-1': 'lost'}
        assert states_in(face.storage) == {'NPT-1': 'lost'}


async def test_each_experiment_of_a_process_has_a_session_of_its_own(face: Face) -> None:
    async with face.open('a'), face.open('b') as b:
        assert states_in(face.storage) == {'a': 'running', 'b': 'running'}
        await face.close(b)
        assert states_in(face.storage) == {'a': 'running', 'b': 'closed'}


async def test_a_fork_runs_by_itself_and_a_deleted_experiment_does_not(face: Face) -> None:
    async with face.open('a') as exp:
        fork = await face.get(exp.fork, 'b')
        assert states_in(face.storage) == {'a': 'running', 'b': 'running'}
        await face.close(exp)
        assert states_in(face.storage) == {'a': 'closed', 'b': 'running'}
        await face.close(fork)
    await face.delete('a')
    assert states_in(face.storage) == {'b': 'closed'}


async def test_an_opening_that_fails_leaves_no_session(face: Face) -> None:
    async with face.open('a') as exp:
        with pytest.raises(ValueError, match='there is an experiment'):
            async with face.open('a', mode='create'):
                pass
        await face.close(exp)
    assert states_in(face.storage) == {'a': 'closed'}


def test_one_that_nobody_holds_any_more_is_closed(storage: str) -> None:
    Experiment('a', storage=storage, echo=False)
    wait_until(lambda: states_in(storage) == {'a': 'closed'})


@pytest.mark.parametrize('flush_interval', [0.01, 3600.0], ids=['at rest', 'between two flushes'])
def test_a_process_that_logs_nothing_gives_signs_of_life(
    storage: str, flush_interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, 'GLANCE', 0.01)
    monkeypatch.setattr(worker, 'GLANCE', 0.01)
    monkeypatch.setattr(worker, 'AT_REST', 0.0)

    def seen() -> float:
        (found,) = sessions_in(storage, 'a')
        return found.seen

    with Experiment('a', storage=storage, echo=False, flush_interval=flush_interval) as exp:
        exp['loss'].log(1.0)
        for _ in range(3):
            before = seen()
            wait_until(lambda before=before: seen() > before)  # type: ignore[misc]


def test_a_flush_brings_a_sign_of_life_and_seldom_one(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[float] = []
    beat_if_due = Heartbeats.beat_if_due

    async def counted(heartbeats: Heartbeats, seconds: float) -> bool:
        is_due = await beat_if_due(heartbeats, seconds)
        beats.extend([seconds] * is_due)
        return is_due

    monkeypatch.setattr(Heartbeats, 'beat_if_due', counted)
    with Experiment('a', storage=storage, echo=False) as exp:
        for _ in range(20):
            exp['loss'].log(1.0)
            exp.flush()
        assert beats == []
        monkeypatch.setattr(worker, 'WITH_A_FLUSH', 0.0)
        exp['loss'].log(1.0)
        exp.flush()
        wait_until(lambda: beats == [0.0])


async def test_who_goes_on_after_a_deletion_runs_under_the_new_id(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, 'WITH_A_FLUSH', 0.0)
    async with face.open('a') as exp:
        delete_elsewhere(face.storage, 'a')
        exp['loss'].log(1.0)
        await face.get(exp.flush)
        wait_until(lambda: states_in(face.storage) == {'a': 'running'})
    assert states_in(face.storage) == {'a': 'closed'}


def delete_elsewhere(storage: str, name: str) -> None:
    code = f'from neptune_async import delete_experiment; delete_experiment({name!r}, {storage!r})'
    subprocess.run([sys.executable, '-c', code], check=True)
