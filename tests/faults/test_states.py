"""Whether an experiment runs, when processes die, fork, or cannot reach the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from sessions_in import age_sessions, change_sessions, sessions_in, states_in

from neptune_async import Experiment

from .child import wait_until
from .harness import Child, Ended, Store

Run = Callable[..., Ended]
Start = Callable[..., Child]

RUNS = """
    from child import experiment, hear, say
    exp = experiment()
    exp['loss'].log(1.0)
    exp.flush()
    say('open')
    hear()
"""


@pytest.fixture(params=['sqlite', 'postgres'])
def url(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of each kind."""
    if request.param == 'sqlite':
        return str(store.path)
    monkeypatch.chdir(store.path.parent)
    server: PostgresServer = request.getfixturevalue('postgres')
    return server.url()


def killed(child: Child) -> None:
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)


@pytest.mark.failure('F1', 'SIGKILL: the experiment is lost at once, and runs when it is reopened')
def test_a_killed_experiment_is_lost_until_it_is_opened_again(start: Start, url: str) -> None:
    child = start(RUNS, env={'STORE': url})
    child.wait_for('open')
    assert states_in(url) == {'EXP': 'running'}
    child.send(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert states_in(url) == {'EXP': 'lost'}  # still a zombie
    child.finish(-signal.SIGKILL)
    assert states_in(url) == {'EXP': 'lost'}
    with Experiment('EXP', storage=url, mode='read', echo=False):
        assert states_in(url) == {'EXP': 'lost'}

    with Experiment('EXP', storage=url, echo=False):
        assert states_in(url) == {'EXP': 'running'}
        assert len(sessions_in(url, 'EXP')) == 2
    assert states_in(url) == {'EXP': 'closed'}
    assert sessions_in(url, 'EXP') == []


@pytest.mark.failure('F1', 'SIGKILL of one of two processes that log to an experiment')
def test_it_runs_while_one_of_its_processes_lives(start: Start, url: str) -> None:
    children = [start(RUNS, env={'STORE': url}) for _ in range(2)]
    for child in children:
        child.wait_for('open')
    killed(children[0])
    assert states_in(url) == {'EXP': 'running'}
    killed(children[1])
    assert states_in(url) == {'EXP': 'lost'}


def test_on_another_machine_a_process_is_dead_after_two_minutes_of_silence(
    start: Start, url: str
) -> None:
    child = start(RUNS, env={'STORE': url})
    child.wait_for('open')
    killed(child)
    change_sessions(url, machine="'another'")
    assert states_in(url) == {'EXP': 'running'}
    age_sessions(url, 110.0)
    assert states_in(url) == {'EXP': 'running'}
    age_sessions(url, 15.0)
    assert states_in(url) == {'EXP': 'lost'}


def test_a_pid_that_went_to_another_process_is_no_sign_of_life(start: Start, url: str) -> None:
    child = start(RUNS, env={'STORE': url})
    child.wait_for('open')
    killed(child)
    change_sessions(url, pid=str(os.getpid()))
    assert states_in(url) == {'EXP': 'lost'}


@pytest.mark.busy
@pytest.mark.parametrize(
    ('end', 'code'),
    [
        ('pass', 0),
        ('sys.exit(3)', 3),
        ('raise RuntimeError', 1),
        ('os.kill(os.getpid(), signal.SIGINT)', None),
    ],
)
def test_a_process_that_ends_without_closing_closes_all_the_same(
    run: Run, store: Store, end: str, code: int | None
) -> None:
    run(
        f"""
        import os, signal, sys
        from child import experiment
        exp = experiment(flush_interval=60)
        exp['loss'].log(1.0)
        {end}
        """,
        code=code,
    )
    assert states_in(str(store.path)) == {'EXP': 'closed'}
    store.require('loss', [1.0])


@pytest.mark.busy
@pytest.mark.failure('F16', 'the parent closes while its child goes on, and the child is killed')
def test_a_forked_child_has_a_session_of_its_own(start: Start, store: Store) -> None:
    url = str(store.path)
    child = start(
        """
        import os, signal
        from child import experiment, fork, hear, reap, say
        exp = experiment()

        def body():
            exp['loss'].log(1.0)
            exp.flush()
            say('flushed')
            signal.pause()

        forked = fork(body, limit=60)
        hear()
        exp.close()
        say('closed')
        hear()
        os.kill(forked, signal.SIGKILL)
        say('code', *reap(forked))
        hear()
        """
    )
    child.wait_for('flushed')
    wait_until(lambda: len(sessions_in(url, 'EXP')) == 2)
    child.tell()
    child.wait_for('closed')
    (found,) = sessions_in(url, 'EXP')
    assert found.session.process.pid != child.pid
    assert states_in(url) == {'EXP': 'running'}
    child.tell()
    child.wait_for('code')
    assert states_in(url) == {'EXP': 'lost'}
    child.tell()
    child.finish()


@pytest.mark.busy
def test_a_child_that_was_killed_does_not_make_its_parents_experiment_lost(
    run: Run, store: Store
) -> None:
    run(
        """
        import os, signal
        from child import experiment, fork, reap
        with experiment() as exp:

            def body():
                exp['loss'].log(1.0)
                exp.flush()
                os.kill(os.getpid(), signal.SIGKILL)

            reap(fork(body, limit=60))
            exp['loss'].log(2.0)
        """
    )
    assert states_in(str(store.path)) == {'EXP': 'closed'}


def test_a_store_that_is_held_makes_no_opening_fail_and_gets_the_session_later(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    url = str(store.path)
    store.open_once()
    with store.held():
        exp = Experiment('EXP', storage=url, echo=False)
        assert states_in(url) == {'EXP': 'closed'}
    with exp:
        exp['loss'].log(1.0)
        exp.flush()
        wait_until(lambda: states_in(url) == {'EXP': 'running'})
    assert states_in(url) == {'EXP': 'closed'}
    assert caplog.records == []


@pytest.mark.busy
def test_an_experiment_whose_last_points_were_spilled_is_lost_until_they_are_taken_in(
    start: Start, store: Store
) -> None:
    child = start(
        """
        from child import experiment, hear, say
        exp = experiment(flush_interval=60)
        say('open')
        hear()
        exp['loss'].log(1.0)
        try:
            exp.close(timeout=0.1)
        except TimeoutError:
            say('spilled')
        """
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('spilled')
        child.finish()
    assert states_in(str(store.path)) == {'EXP': 'lost'}
    assert len(store.spills) == 1
    store.open_once()
    assert states_in(str(store.path)) == {'EXP': 'closed'}
    store.require('loss', [1.0])


def test_a_copy_has_no_session(start: Start, store: Store, tmp_path: Path) -> None:
    child = start(RUNS)
    child.wait_for('open')
    target = tmp_path / 'target.db'
    command = [sys.executable, '-m', 'neptune_async', 'sync', store.path, target]
    subprocess.run(command, check=True, capture_output=True)
    assert states_in(str(store.path)) == {'EXP': 'running'}
    assert states_in(str(target)) == {'EXP': 'closed'}
