"""What the scripts share that the tests run in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from neptune_async import Experiment, list_experiments
from neptune_async.exceptions import StorageError


def experiment(name: str = 'EXP', **options: Any) -> Experiment:
    """Open an experiment in the store of the test."""
    return Experiment(name, **{'storage': os.environ['STORE'], **options})


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


MARK = 10**9


def mark(writer: int, number: int) -> float:
    """Return the value that says who logged it, and as which of its values."""
    return float(writer * MARK + number)


def log_marked(exp: Experiment, writer: int, numbers: Iterable[int]) -> None:
    """Log numbers to 'loss', one by one, each with the mark of a writer."""
    for number in numbers:
        exp['loss'].log(mark(writer, number))


def log_numbers(exp: Experiment, numbers: Iterable[int], flush_every: int | None = None) -> None:
    """Log numbers to 'loss', one by one.

    :param flush_every: also flush after each number that this divides.
    """
    for number in numbers:
        exp['loss'].log(number)
        if flush_every is not None and number % flush_every == 0:
            exp.flush()


def fill_disk() -> Path:
    """Fill the disk of the store; return the file that fills it, which may be deleted."""
    other = Path(os.environ['STORE']).with_name('other')
    with other.open('wb', buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return other


def fail_writes(is_failing: Callable[[], object]) -> None:
    """Make storage refuse batches with points.

    :param is_failing: tells for each of them whether it is refused.
    """
    # Here: a script that patches threads has to do so before aiosqlite is loaded.
    from neptune_async._storage.sqlite.storage import SQLiteStorage

    write = SQLiteStorage.write

    async def failing(self: SQLiteStorage, batch: Any, **options: bool) -> Any:
        if any(part.points for part in batch.parts) and is_failing():
            raise StorageError('injected')
        return await write(self, batch, **options)

    SQLiteStorage.write = failing  # type: ignore[method-assign]


def wait_for_storage(how: str, other: Experiment) -> None:
    """Wait for storage in one of the ways in which a signal handler may."""

    def open_another() -> None:
        with experiment('ANOTHER') as another:
            another['loss'].log(0)

    calls: dict[str, Callable[[], object]] = {
        'flush': other.flush,
        'read': lambda: other['loss'].tail(1),
        'open': open_another,
        'list': lambda: list_experiments(os.environ['STORE']),
    }
    calls[how]()


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
