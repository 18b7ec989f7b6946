"""What tells a process from others, and whether it lives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from neptune_async._engine.sessions.processes import lives, this_machine, this_process
from neptune_async._storage.sessions import Process

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux tells when a process was started'
)

CHILD = """
from dataclasses import astuple
from neptune_async._engine.sessions.processes import this_process
print(astuple(this_process()), flush=True)
input()
"""


@contextmanager
def another() -> Iterator[tuple[subprocess.Popen[str], Process]]:
    child = subprocess.Popen(
        [sys.executable, '-c', CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        yield child, Process(*eval(child.stdout.readline()))
        child.kill()


def test_this_process_lives() -> None:
    assert this_process().pid == os.getpid()
    assert lives(this_process()) is True


def test_another_process_lives_until_it_is_killed_even_if_nobody_waits_for_it() -> None:
    with another() as (child, process):
        assert process.pid == child.pid
        assert lives(process) is True
        child.kill()
        # Not reaped: it stays a zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert lives(process) is False
        child.wait()
        assert lives(process) is False


def test_a_pid_that_another_process_has_got_is_no_sign_of_life() -> None:
    assert lives(replace(this_process(), started='1')) is False


@pytest.mark.parametrize('pid', [0, -1, 2**31, 2**63])
def test_what_is_no_pid_is_no_process(pid: int) -> None:
    assert lives(replace(this_process(), pid=pid)) is False


@pytest.mark.parametrize('machine', ['', 'another'])
def test_nothing_is_known_of_a_process_on_another_machine(machine: str) -> None:
    assert lives(replace(this_process(), machine=machine)) is None


def test_a_container_is_a_machine_of_its_own() -> None:
    unshare = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--mount-proc']
    code = 'from neptune_async._engine.sessions.processes import *; print(this_machine())'
    ended = subprocess.run([*unshare, sys.executable, '-c', code], capture_output=True, text=True)
    if ended.returncode:
        pytest.skip(f'no namespace can be made here: {ended.stderr.strip()}')
    machine = ended.stdout.strip()
    assert machine != this_machine()
    assert machine.split()[0] == this_machine().split()[0]
