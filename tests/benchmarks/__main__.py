"""Runs workloads on systems that take turns, prints the tables and writes ``results.md``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import date
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from .figures import COLUMNS, GOALS, US, Results
from .measuring import Measured, Stage
from .peers import PEERS
from .plots import draw_all
from .systems import FLOOR, FLOORS, OURSELVES, SERVER, System
from .workloads import WORKLOADS, Workload

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
INSTALLING = 600.0
"""Seconds that the installation of a peer may take."""
_WAITING = 10
"""Stages that mostly wait, and so run at a time."""


class Bench:
    """Systems, each with the Python of the environment that it is installed in."""

    def __init__(self, runs: int, share: float, scratch: Path, environments: Path) -> None:
        self._runs = runs
        self._share = share
        self._scratch = scratch
        self._environments = environments
        self._pythons = dict.fromkeys([*FLOORS, *OURSELVES], sys.executable)
        self._filled: dict[tuple[type[System], Stage], Path] = {}
        self.failures: list[str] = []
        self.versions: dict[str, str] = {}

    def install(self, peer: type[System]) -> None:
        """Make an environment for a peer; one that fails to install is named in the results."""
        package = peer.requirements[0].partition('<')[0]
        folder = self._environments / package
        python = folder / 'bin' / 'python'
        commands: list[list[str | Path]] = [
            [sys.executable, '-m', 'venv', folder],
            [python, '-m', 'pip', 'install', '--quiet', *peer.requirements],
        ]
        for command in commands:
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING)
            except subprocess.TimeoutExpired:
                self.failures.append(f'{peer.name} was not installed within {INSTALLING:.0f} s')
                return
            if done.returncode:
                self.failures.append(f'{peer.name} was not installed: {_last_line(done.stderr)}')
                return
        code = f'from importlib.metadata import version; print(version({package!r}))'
        version = subprocess.run([python, '-c', code], capture_output=True, text=True)
        self.versions[peer.name] = version.stdout.strip()
        self._pythons[peer] = str(python)

    def run(self, name: str) -> dict[str, Measured]:
        """Run a workload on all systems that take part; return the medians by system."""
        workload = WORKLOADS[name]
        systems = [system for system in self._pythons if name in system.workloads.split()]
        measured: dict[type[System], list[Measured]] = {system: [] for system in systems}
        prepared = {
            system: self._prepared(system, workload, workload.prepare)
            for system in systems
            if workload.prepare
        }
        turns = [
            (system, stage)
            for _ in range(self._runs if workload.repeats else 1)
            for system in systems
            for stage in workload.stages
        ]

        def take(turn: tuple[type[System], Stage]) -> None:
            system, stage = turn
            _progress(f'{name} {stage.__name__}: {system.name}')
            folder = prepared.get(system) or self._folder()
            found = self._stage(system, workload, stage, folder)
            if found is not None:
                measured[system].append(found)
            if not workload.prepare:
                shutil.rmtree(folder)

        with ThreadPoolExecutor(_WAITING if workload.waits else 1) as pool:
            [*pool.map(take, turns)]
        return {system.name: _medians(found) for system, found in measured.items() if found}

    def _prepared(self, system: type[System], workload: Workload, prepare: Stage) -> Path:
        """Return a folder that is made once, also for other workloads that read the same."""
        folder = self._filled.get((system, prepare))
        if folder is None:
            _progress(f'{prepare.__name__}: {system.name}')
            folder = self._filled[system, prepare] = self._folder()
            self._stage(system, workload, prepare, folder)
        return folder

    def _folder(self) -> Path:
        return Path(mkdtemp(dir=self._scratch))

    def _stage(
        self, system: type[System], workload: Workload, stage: Stage, folder: Path
    ) -> Measured | None:
        result = folder.with_suffix('.json')
        command = [self._pythons[system], '-m', 'tests.benchmarks.child', system.name,
                   stage.__name__, folder, str(system.share * self._share), result]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=workload.limit
            )
        except subprocess.TimeoutExpired:
            self._fail(f'{system.name} took over {workload.limit:.0f} s in {stage.__name__}')
            return None
        if done.returncode:
            self._fail(f'{system.name} failed in {stage.__name__}: {_last_line(done.stderr)}')
            return None
        found: Measured = json.loads(result.read_text())
        return found

    def _fail(self, failure: str) -> None:
        if failure not in self.failures:
            self.failures.append(failure)


def _medians(found: Sequence[Measured]) -> Measured:
    keys = {key: None for measured in found for key in measured}
    return {key: statistics.median(m[key] for m in found if key in m) for key in keys}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ['no message'])[-1][:200]


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ── The report ───────────────────────────────────────────────────────────────


def _tables(results: Results) -> Iterator[str]:
    for name, by_system in results.items():
        columns = COLUMNS[name]
        yield f'## {WORKLOADS[name].title}\n'
        yield '| | ' + ' | '.join(column.title for column in columns) + ' |'
        yield '| --- |' + ' ---: |' * len(columns)
        for system, measured in by_system.items():
            yield f'| {system} | ' + ' | '.join(c.shown(measured) for c in columns) + ' |'
        yield from _ratios(name, by_system)
        yield ''


def _ratios(name: str, by_system: dict[str, Measured]) -> Iterator[str]:
    """Yield rows that set ourselves against the floor and the best peer of the same run."""
    if US not in by_system:
        return
    ours = by_system[US]
    peers = {peer.name for peer in PEERS}
    others = {
        'ours / floor': [m for system, m in by_system.items() if system == FLOOR],
        'ours / best peer': [m for system, m in by_system.items() if system in peers],
    }
    for title, measured in others.items():
        cells = []
        for column in COLUMNS[name]:
            found = [m[column.key] for m in measured if column.key in m]
            if found and column.key in ours:
                best = max(found) if column.key.endswith(('rate', 'kept')) else min(found)
                cells.append(f'{ours[column.key] / best:,.2f}' if best else '-')
            else:
                cells.append('-')
        if any(cell != '-' for cell in cells):
            yield f'| *{title}* | ' + ' | '.join(cells) + ' |'


def _goals(results: Results) -> Iterator[str]:
    yield '## Figures to reach\n'
    yield '| figure | reach | reached | |'
    yield '| --- | ---: | ---: | --- |'
    for goal in GOALS:
        limit = f'{">=" if goal.at_least else "<="} {goal.limit:g}'
        try:
            value = goal.of(results)
        except KeyError:
            yield f'| {goal.title} | {limit} | not measured | |'
        else:
            verdict = 'yes' if goal.is_reached(value) else 'no'
            yield f'| {goal.title} | {limit} | {value:,.2f} | {verdict} |'
    yield ''


def _report(bench: Bench, results: Results, options: argparse.Namespace) -> str:
    lines = ['# Results\n', *_conditions(bench.versions, options), *_goals(results)]
    lines += _tables(results)
    if bench.failures:
        lines += ['## What failed\n', *(f'- {failure}' for failure in bench.failures), '']
    return '\n'.join(lines)


def _conditions(versions: dict[str, str], options: argparse.Namespace) -> Iterator[str]:
    yield f'{date.today()}, {platform.platform()}, {os.cpu_count()} cores, '
    yield f'Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, '
    yield ', '.join(
        f'{package} {metadata.version(package)}'
        for package in ('neptune-async', 'anyio', 'aiosqlite')
    )
    if versions:
        yield 'Peers: ' + ', '.join(f'{name} {version}' for name, version in versions.items())
    share = '' if options.share == 1.0 else f', of {options.share:g} of the points'
    yield f'Medians of {options.runs} runs{share}, systems taking turns.\n'


@contextmanager
def _server() -> Iterator[None]:
    """Run a PostgreSQL server, which the children find in their environment."""
    command = [sys.executable, ROOT / 'tests' / 'postgres_server.py']
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        os.environ[SERVER] = process.stdout.readline().strip()
        yield
        process.stdin.close()


def main(arguments: Iterable[str] | None = None) -> int:
    """Run what the command line names; 1 if something could not be measured."""
    parser = argparse.ArgumentParser(prog='python -m tests.benchmarks', description=__doc__)
    parser.add_argument('--workloads', nargs='+', choices=WORKLOADS, default=[*WORKLOADS])
    parser.add_argument('--peers', nargs='*', choices=['all', *(p.name for p in PEERS)], default=[])
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument(
        '--share', type=float, default=1.0, help='of the points: 0.01 for a look at whether it runs'
    )
    parser.add_argument(
        '--environments', type=Path, help='where to keep the environments of peers for another time'
    )
    parser.add_argument('--output', type=Path, default=HERE / 'results.md')
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as scratch:
        environments = options.environments or Path(scratch, 'environments')
        bench = Bench(options.runs, options.share, Path(scratch), environments.absolute())
        for peer in PEERS:
            if 'all' in options.peers or peer.name in options.peers:
                _progress(f'installing {peer.name}')
                bench.install(peer)
        results: dict[str, dict[str, Measured]] = {}
        for name in options.workloads:
            start = time.monotonic()
            with _server() if WORKLOADS[name].served else nullcontext():
                results[name] = bench.run(name)
            _progress(f'{name} took {time.monotonic() - start:.0f} s')
            # Written again after each: a run with all peers takes long, and may be cut short.
            options.output.write_text(_report(bench, results, options))
    print(options.output.read_text())
    draw_all(results, options.output.parent)
    return 1 if any(name in failure for failure in bench.failures for name in (US, FLOOR)) else 0


if __name__ == '__main__':
    sys.exit(main())
