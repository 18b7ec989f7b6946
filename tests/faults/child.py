"""What the scripts share that the tests run in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from neptune_async import Experiment


def experiment(name: str = 'EXP', **options: Any) -> Experiment:
    """Open an experiment in the store of the test."""
    return Experiment(name, storage=os.environ['STORE'], **options)


def say(*words: object) -> None:
    """Tell the test something: one line that has left this process when the call returns."""
    os.write(1, (' '.join(map(str, words)) + '\n').encode())


def hear() -> str:
    """Wait for a line from the test; empty if the test has ended."""
    return sys.stdin.readline().strip()


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll a condition; it has to hold before the time is up."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError('what was waited for did not happen')
        time.sleep(0.002)  # between two looks at a condition, which has a bound


def fork(body: Callable[[], object], limit: int = 0) -> int:
    """Run a function in a forked child, which then ends as a Python program does.

    :param limit: seconds after which SIGALRM kills a child that hangs.
    :returns: the child's process id.
    """
    pid = os.fork()
    if pid:
        return pid
    if limit:
        signal.alarm(limit)
    body()
    sys.exit()


def reap(*pids: int) -> list[int]:
    """Wait for forked children; return how each ended, negative for a signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
