"""Runs scripts in processes of their own, and judges what they leave in the store."""

from __future__ import annotations

import os
import queue
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import pytest

import neptune_async
from neptune_async import Experiment
from neptune_async.exceptions import ExperimentNotFoundError, VariableNotFoundError

from .child import MARK, mark

LIMIT = 60.0
"""Seconds after which a process that has not ended hangs."""

LOGS_ON = """
    from child import experiment, hear, log_numbers, say, wait_until
    from neptune_async.exceptions import StorageError
    errors = []
    exp = experiment(flush_interval=0.01, on_error=errors.append)
    log_numbers(exp, range(1000))
    exp.flush()
    say('open')
    hear()
    log_numbers(exp, range(1000, 2000))
    wait_until(lambda: errors)
    try:
        exp.flush()
    except StorageError as error:
        say('raised', error)
    say('pending', exp.pending)
    hear()
"""
"""A script that logs 0 to 999, waits, logs 1000 to 1999 into a store that does not take them,
waits, and ends.
"""

BUSY = 'from busy import stay_busy; stay_busy()\n'
"""What a script begins with whose process is busy by itself."""


def trials(number: int) -> int:
    """Return how often to try what is left to chance: a number, or a multiple of it."""
    return max(1, round(number * float(os.environ.get('NEPTUNE_ASYNC_TRIALS', '1'))))


@dataclass
class Tally:
    """What the trials of one test came to."""

    trials: int = 1
    lost: int = 0
    doubled: int = 0
    hung: int = 0


class Hung(AssertionError):
    """A process did not end, or did not say what was waited for; tells where its threads were."""


@dataclass(frozen=True)
class Ended:
    """How a process ended, and all that it wrote."""

    code: int
    lines: list[str]
    errors: str

    def numbers(self, word: str) -> list[int]:
        """Return the numbers of the lines that begin with a word."""
        return [int(line.split()[1]) for line in self.lines if line.split()[:1] == [word]]

    def number(self, word: str) -> int:
        """Return the last such number."""
        assert self.numbers(word), f'the child did not say {word!r}: {self.lines}\n{self.errors}'
        return self.numbers(word)[-1]


class Child:
    """A script in a process of its own, which is killed when its time is over.

    Its standard output is a list of lines, which survive it.
    """

    def __init__(
        self,
        folder: Path,
        script: str,
        *arguments: object,
        tally: Tally,
        limit: float = LIMIT,
        options: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        stderr: int | None = None,
        busy: bool = False,
    ) -> None:
        self._tally = tally
        self._deadline = time.monotonic() + limit
        self._limit = limit
        file = folder / f'child_{time.monotonic_ns()}.py'
        file.write_text((BUSY if busy else '') + textwrap.dedent(script))
        self.process = subprocess.Popen(
            # On SIGABRT, faulthandler shows where each thread is.
            [sys.executable, '-X', 'faulthandler', *options, file, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stderr is None else stderr,
            text=True,
            cwd=folder,
            env=_environment(env or {}),
            start_new_session=True,
        )
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lines: list[str] = []
        self._errors: list[str] = []
        self._readers = [
            self._reader(self.process.stdout, self._said.put),
            self._reader(self.process.stderr, self._errors.append),
        ]

    def _reader(self, stream: IO[str] | None, take: Any) -> threading.Thread:
        def read() -> None:
            if stream is not None:
                with stream:
                    for line in stream:
                        take(line)
            take(None if take == self._said.put else '')

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    @property
    def pid(self) -> int:
        """The process, for a signal."""
        return self.process.pid

    def wait_for(self, *words: object) -> str:
        """Wait until the child says a line that begins with the words, and return the line."""
        wanted = [*map(str, words)]
        while True:
            line = self._next_line()
            if line is None:
                raise AssertionError(
                    f'the child ended before it said {wanted}:\n{self.errors}\n{self._lines[-20:]}'
                )
            if line.split()[: len(wanted)] == wanted:
                return line

    def has_said(self, word: str) -> bool:
        """Look, without waiting, whether the child has said a line that begins with the word."""
        with suppress(queue.Empty):
            while True:
                line = self._said.get_nowait()
                if line is None:
                    self._said.put(None)
                    break
                self._lines.append(line.rstrip('\n'))
        return any(line.split()[:1] == [word] for line in self._lines)

    def _next_line(self) -> str | None:
        try:
            line = self._said.get(timeout=self._left())
        except queue.Empty:
            raise self._hung() from None
        if line is None:
            self._said.put(None)
            return None
        self._lines.append(line.rstrip('\n'))
        return self._lines[-1]

    def tell(self, word: str = 'go') -> None:
        """Send the child a line, for which it waits with ``hear``."""
        assert self.process.stdin is not None
        self.process.stdin.write(f'{word}\n')
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send the child a signal."""
        self.process.send_signal(number)

    def finish(self, code: int | None = 0) -> Ended:
        """Wait for the end of the process and of all that it started.

        :param code: what it must end with; negative for a signal, None for anything.
        """
        with suppress(BrokenPipeError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        while self._next_line() is not None:
            pass
        for reader in self._readers:
            reader.join(self._left())
        try:
            ended = self.process.wait(self._left())
        except subprocess.TimeoutExpired:
            raise self._hung() from None
        if code is not None and ended != code:
            raise AssertionError(f'the child ended with {ended}, not {code}:\n{self.errors}')
        return Ended(ended, self._lines, self.errors)

    @property
    def errors(self) -> str:
        """What it wrote to stderr so far."""
        return ''.join(self._errors)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _hung(self) -> Hung:
        self._tally.hung += 1
        self.end(signal.SIGABRT)
        return Hung(f'the child hung for {self._limit} seconds:\n{self.errors}')

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill the process, and what it started."""
        for sent in (number, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, sent)
            for reader in self._readers:
                reader.join(2.0)
        self.process.wait()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()


@contextmanager
def mounted_disk(folder: Path, megabytes: int, failure: str) -> Iterator[Path]:
    """Mount a small file system below a folder; where that is not allowed, skip the test.

    :param failure: what cannot be injected without it.
    """
    disk = folder / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'none', str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f'{failure} cannot be injected: {mounted.stderr.strip()}')
    try:
        yield disk
    finally:
        subprocess.run(['umount', '-l', disk], check=True)


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment of a child; a change to None takes a variable away."""
    here, package = Path(__file__).parent, Path(neptune_async.__file__).parent.parent
    path = os.pathsep.join(map(str, [package, here, here.parent]))
    wanted = {**os.environ, 'PYTHONPATH': path, **changes}
    return {name: value for name, value in wanted.items() if value is not None}


class Store:
    """The store that the processes of a test share, and the oracle that judges it."""

    def __init__(self, path: Path, tally: Tally) -> None:
        self.path = path
        self.tally = tally

    # ── What is in it ────────────────────────────────────────────────────────

    def reading(self, name: str = 'EXP') -> Experiment:
        """Open an experiment to read it, which changes nothing."""
        return Experiment(name, storage=self.path, mode='read')

    def values(self, path: str, name: str = 'EXP') -> list[Any]:
        """Return a series as the library reads it back; empty if there is none."""
        try:
            with self.reading(name) as exp:
                return exp[path].all()
        except (ExperimentNotFoundError, VariableNotFoundError):
            return []

    def steps(self, path: str, name: str = 'EXP') -> list[int | float]:
        """Return the steps of a series."""
        with self.reading(name) as exp:
            return [step for step, _ in exp[path].all(with_steps=True)]

    def points(self) -> int:
        """Return how many points it holds, as SQLite sees it."""
        ((in_chunks, in_log),) = self._query(
            'SELECT (SELECT coalesce(sum(count), 0) FROM chunks), '
            '(SELECT coalesce(sum(count), 0) FROM log)'
        )
        return int(in_chunks + in_log)

    def variables(self) -> int:
        """Return how many variables it holds, as SQLite sees it."""
        ((count,),) = self._query('SELECT count(*) FROM variables')
        return int(count)

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    @property
    def spills(self) -> list[Path]:
        """The spill files that wait beside it."""
        return sorted(Path(f'{self.path}.spilled').glob('*'))

    def open_once(self, name: str = 'EXP') -> None:
        """Open it for writing, which takes the spill files in."""
        Experiment(name, storage=self.path).close()

    # ── The oracle ───────────────────────────────────────────────────────────

    def require_whole(self) -> None:
        """The store is sound, and the library reads every point that is in it."""
        self.require_sound()
        series = self._query(
            'SELECT e.name, v.path FROM variables v JOIN experiments e '
            "ON e.id = v.experiment_id WHERE v.container = 'series' ORDER BY e.id"
        )
        readable = 0
        for name, variables in groupby(series, itemgetter(0)):
            with self.reading(name) as exp:
                readable += sum(len(exp[path].all()) for _, path in variables)
        assert readable == self.points()

    def require_sound(self) -> None:
        """SQLite finds no fault in the file."""
        assert self._query('PRAGMA integrity_check') == [('ok',)]

    def require(self, path: str, expected: Sequence[Any], name: str = 'EXP') -> None:
        """The store is whole, and a series is exactly what was logged to it."""
        self.require_whole()
        self.require_equal(self.values(path, name), [*expected])

    def require_prefix(
        self, path: str, acknowledged: int, announced: int, name: str = 'EXP'
    ) -> int:
        """The store is whole, and a series into which 0, 1, 2... was logged has
        a prefix of that: no less than was acknowledged, no more than was announced.

        :returns: its length.
        """
        self.require_whole()
        found = self.values(path, name)
        self.require_equal(found, [*range(max(len(found), acknowledged))])
        assert len(found) <= announced, f'{len(found)} stored, {announced} announced'
        return len(found)

    def require_interleaved(self, path: str, writers: Mapping[int, int], name: str = 'EXP') -> None:
        """The store is whole, and a series has all of each writer, in the writer's own order.

        :param writers: for each how many values ``mark(writer, 0)``, ``mark(writer, 1)``...
            it has logged.
        """
        self.require_whole()
        self.require_equal(
            sorted(self.values(path, name), key=lambda value: value // MARK),
            [mark(writer, n) for writer, count in sorted(writers.items()) for n in range(count)],
        )

    def require_equal(self, found: Sequence[Any], expected: Sequence[Any]) -> None:
        """Nothing is lost or doubled, and all is in order."""
        if found == expected:
            return
        there, wanted = Counter(found), Counter(expected)
        lost, doubled = [*(wanted - there).elements()], [*(there - wanted).elements()]
        self.tally.lost += len(lost)
        self.tally.doubled += len(doubled)
        if lost or doubled:
            raise AssertionError(
                f'{len(found)} stored, {len(expected)} expected; '
                f'lost {len(lost)}: {lost[:10]}; too many {len(doubled)}: {doubled[:10]}'
            )
        first = next(n for n, value in enumerate(found) if value != expected[n])
        raise AssertionError(f'out of order from {first} on: {[*found[first : first + 10]]}')

    # ── Other processes that hold it ─────────────────────────────────────────

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the write lock, as another process would."""
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=LIMIT)
        try:
            connection.execute('BEGIN EXCLUSIVE')
            yield
            connection.execute('ROLLBACK')
        finally:
            connection.close()
