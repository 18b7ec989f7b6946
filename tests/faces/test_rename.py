"""An experiment gets another name, and whoever logs to it goes on."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from faults.child import wait_until
from sessions_in import age_sessions, change_sessions, states_in

from neptune_async import Experiment
from neptune_async.exceptions import (
    ContainerTypeError,
    ExperimentClosedError,
    ExperimentExistsError,
    ExperimentNotFoundError,
    InvalidNameError,
    ReadOnlyError,
    StorageBusyError,
    UnsupportedValueError,
)

from .conftest import Face

pytestmark = pytest.mark.anyio


@contextmanager
def opened_elsewhere(storage: str, name: str, **arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """Have another process keep an experiment open until it reads a line, or is killed."""
    code = (
        'import sys; from neptune_async import Experiment\n'
        f'exp = Experiment({name!r}, storage={storage!r}, echo=False, **{arguments!r})\n'
        "print('open', flush=True); sys.stdin.readline(); exp.close()"
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == 'open\n'
        yield process
        if process.poll() is None:
            process.communicate('\n')


def run_killed(code: str) -> None:
    """Run a program that kills itself at its end."""
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL


async def test_what_was_logged_before_and_after_is_under_the_new_name(face: Face) -> None:
    async with face.open('old') as exp:
        exp['loss'].log(1.0)
        exp['lr'].assign(0.1)
        await face.get(exp.rename, 'new')
        assert exp.name == 'new'
        exp['loss'].log(2.0)
        exp['acc'].log(3.0)
        assert await face.get(exp['loss'].all) == [1.0, 2.0]
        assert await face.list() == ['new']
        assert states_in(face.storage) == {'new': 'running'}
    assert states_in(face.storage) == {'new': 'closed'}
    async with face.open('new', mode='read') as exp:
        assert await face.get(exp['loss'].all, with_steps=True) == [(0, 1.0), (1, 2.0)]
        assert await face.get(exp['acc'].all) == [3.0]
        assert await face.get(exp['lr'].read) == 0.1
    with pytest.raises(ExperimentNotFoundError):
        async with face.open('old', mode='read'):
            pass


async def test_all_that_have_it_open_here_see_the_new_name(face: Face) -> None:
    async with face.open('old') as exp, face.open('old') as other:
        async with face.open('old', mode='read') as reader:
            other['loss'].log(1.0)
            await face.get(exp.rename, 'new')
            other['loss'].log(2.0)
            assert other.name == reader.name == 'new'
            assert await face.get(reader['loss'].all) == [1.0, 2.0]
        async with face.open('new') as again, face.open('old', mode='create') as made:
            again['loss'].log(3.0)
            made['loss'].log(4.0)
        assert await face.get(exp['loss'].all) == [1.0, 2.0, 3.0]
    assert await face.list() == ['new', 'old']


async def test_errors_say_the_new_name(face: Face) -> None:
    async with face.open('old') as exp:
        exp['loss'].log(1.0)
        await face.get(exp.rename, 'new')
        with pytest.raises(UnsupportedValueError, match="experiment 'new'"):
            exp['lr'].assign(object())
        with pytest.raises(ContainerTypeError, match="experiment 'new'"):
            exp['loss'].assign(1)
        assert "'new'" in repr(exp) and "'new'" in repr(exp['loss'])
    with pytest.raises(ExperimentClosedError, match="'new'"):
        await face.get(exp.rename, 'newer')


async def test_a_name_that_is_taken_or_none_is_refused(face: Face) -> None:
    async with face.open('taken'):
        pass
    async with face.open('old') as exp, face.open('open'):
        exp['loss'].log(1.0)
        for name in ('taken', 'open'):
            with pytest.raises(ExperimentExistsError, match=f"'old' cannot.*{name!r}.*already"):
                await face.get(exp.rename, name)
        for bad in ('', 'a\n', None, 3):
            with pytest.raises(InvalidNameError):
                await face.get(exp.rename, bad)
        await face.get(exp.rename, 'old')
        assert exp.name == 'old'
        exp['loss'].log(2.0)
        assert await face.get(exp['loss'].all) == [1.0, 2.0]
    async with face.open('old', mode='read') as exp:
        with pytest.raises(ReadOnlyError):
            await face.get(exp.rename, 'new')


async def test_in_mode_disabled_it_has_another_name_too(face: Face) -> None:
    async with face.open('old', mode='disabled') as exp:
        exp['loss'].log(1.0)
        await face.get(exp.rename, 'new')
        exp['loss'].log(2.0)
        assert exp.name == 'new'
        assert await face.get(exp['loss'].all) == [1.0, 2.0]


async def test_it_is_refused_while_another_process_has_it_open(face: Face) -> None:
    with opened_elsewhere(face.storage, 'old') as other:
        async with face.open('old') as exp:
            with pytest.raises(StorageBusyError, match=f"'old'.*process {other.pid} on"):
                await face.get(exp.rename, 'new')
            assert exp.name == 'old'
            exp['loss'].log(1.0)
            other.communicate('\n')
            await face.get(exp.rename, 'new')
    assert await face.list() == ['new']


async def test_a_reader_elsewhere_and_a_process_that_died_are_in_nobodys_way(face: Face) -> None:
    with opened_elsewhere(face.storage, 'old') as dead:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
    async with face.open('old') as exp:
        exp['loss'].log(1.0)
        await face.get(exp.flush)
        with opened_elsewhere(face.storage, 'old', mode='read'):
            await face.get(exp.rename, 'new')
    assert await face.list() == ['new']


def test_a_process_elsewhere_counts_as_dead_once_it_is_silent(storage: str) -> None:
    with opened_elsewhere(storage, 'old') as dead:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
    change_sessions(storage, machine="'another'")
    with Experiment('old', storage=storage, echo=False) as exp:
        with pytest.raises(StorageBusyError):
            exp.rename('new')
        age_sessions(storage, 200)
        exp.rename('new')
    assert states_in(storage) == {'new': 'closed'}


def test_nothing_that_other_threads_log_meanwhile_is_lost(storage: str) -> None:
    with Experiment('0', storage=storage, echo=False, flush_interval=0.001) as exp:
        logged, stop = [0, 0], threading.Event()

        def log(number: int) -> None:
            view = exp[f'loss/{number}']
            while not stop.is_set():
                view.log(float(logged[number]))
                logged[number] += 1

        threads = [threading.Thread(target=log, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for name in range(1, 21):
            before = sum(logged)
            wait_until(lambda before=before: sum(logged) > before)  # type: ignore[misc]
            exp.rename(str(name))
        stop.set()
        for thread in threads:
            thread.join()
        for number in range(2):
            assert exp[f'loss/{number}'].all() == [float(n) for n in range(logged[number])]
    assert states_in(storage) == {'20': 'closed'}


def test_what_is_in_the_journal_is_stored_under_the_new_name(storage: str) -> None:
    run_killed(f"""
        import os, signal
        from neptune_async import Experiment
        exp = Experiment('old', storage={storage!r}, echo=False, durability='call',
                         flush_interval=3600)
        for value in (1.0, 2.0):
            exp['loss'].log(value)
            exp['text'].log(str(value))
        exp.rename('new')
        for value in (3.0, 4.0):
            exp['loss'].log(value)
            exp['text'].log(str(value))
        exp['acc'].log(5.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    with Experiment('new', storage=storage, echo=False) as exp:
        assert exp['loss'].all() == [1.0, 2.0, 3.0, 4.0]
        assert exp['text'].all() == ['1.0', '2.0', '3.0', '4.0']
        assert exp['acc'].all() == [5.0]
    assert states_in(storage) == {'new': 'closed'}


def test_a_journal_that_was_left_meanwhile_is_stored_before(storage: str) -> None:
    with Experiment('old', storage=storage, echo=False) as exp:
        exp.flush()
        run_killed(f"""
            import os, signal
            from neptune_async import Experiment
            exp = Experiment('old', storage={storage!r}, echo=False, durability='call',
                             flush_interval=3600)
            exp['loss'].log(1.0)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
        exp.rename('new')
        assert exp['loss'].all() == [1.0]
    assert states_in(storage) == {'new': 'closed'}


def test_pickled_it_opens_under_the_new_name(storage: str) -> None:
    with Experiment('old', storage=storage, mode='create', echo=False) as exp:
        exp['loss'].log(1.0)
        exp.rename('new')
        with pickle.loads(pickle.dumps(exp)) as again:
            assert again['loss'].all() == [1.0]


def test_echo_says_the_new_name(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Experiment('old', storage=storage, echo=True) as exp:
        exp.rename('old')
        exp.rename('new')
        exp['lr'] = 0.1
    assert capsys.readouterr().out.splitlines() == [
        'Experiment new: it was old before',
        'Experiment new: lr: assign 0.1',
    ]
