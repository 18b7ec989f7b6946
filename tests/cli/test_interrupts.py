"""Ctrl-C while verbs that take long are at work: what they say, and that it is so."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from neptune_async import Experiment, delete_experiment

from .conftest import CommandLine, Ended
from .contents import contents
from .exporter import points, write

GOES_ON = 'neptune-async: interrupted; the same command goes on where it stopped\n'
SERIES, POINTS = 12, 50_000


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Return a store that takes seconds to copy."""
    path = tmp_path / 'full.db'
    for name in ('a', 'b'):
        with Experiment(name, storage=path, echo=False) as exp:
            for number in range(SERIES):
                exp[f'x/{number}'].extend([float(n) for n in range(POINTS)])
                exp.flush()
    return path


def interrupted(process: subprocess.Popen[str], is_at_work: Callable[[], object]) -> Ended:
    """Return how a command ends that Ctrl-C meets at its work."""
    with process:
        end = time.monotonic() + 60
        while not is_at_work():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.001)  # between two looks at the condition
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, err)


@contextmanager
def held_once(store: Path, has_begun: str) -> Iterator[Callable[[], bool]]:
    """Give what holds a store, so that nobody stores more, once a query says that it is time."""
    Experiment('first', storage=store, echo=False).close()
    delete_experiment('first', store)
    with closing(sqlite3.connect(store, isolation_level=None)) as holder:

        def hold() -> bool:
            (found,) = holder.execute(has_begun).fetchone()
            if found:
                holder.execute('BEGIN IMMEDIATE')
            return bool(found)

        yield hold


def test_an_import_goes_on_where_ctrl_c_stopped_it(run: CommandLine) -> None:
    values = [n / 3 for n in range(4_000)]
    rows = points('x', 'float', 'float_value', values, *map(str, range(4_000)))
    write(run.folder / 'export', rows, row_group=20)
    command = ['import', 'neptune-export', 'export', '--json', '--storage']
    store = run.folder / 'runs.db'
    with held_once(store, 'SELECT count(*) >= 5 FROM writers') as is_held:
        ended = interrupted(run.start(*command, store), is_held)
    assert (ended.code, ended.out, ended.err) == (130, '', GOES_ON)

    again = run(*command, store).json
    assert again['known'] >= 100 and again['known'] + again['stored'] == 4_000
    assert run(*command, 'whole.db').json['stored'] == 4_000
    assert contents(store) == contents(run.folder / 'whole.db')


def test_a_sync_goes_on_where_ctrl_c_stopped_it(run: CommandLine, full: Path) -> None:
    target = run.folder / 'target.db'
    with held_once(target, 'SELECT max(last_batch) >= 2 FROM writers') as is_held:
        ended = interrupted(run.start('sync', full, target), is_held)
    assert (ended.code, ended.out, ended.err) == (130, '', GOES_ON)

    again = run('sync', full, target)
    first, second = (int(line.split()[3].replace(',', '')) for line in again.out.splitlines())
    assert first < second == SERIES * POINTS
    assert contents(target) == contents(full)


def test_an_export_that_ctrl_c_ends_leaves_no_part_of_a_file(run: CommandLine, full: Path) -> None:
    command = ['export', '--storage', full, '--format', 'csv']
    exporting = run.start(*command, '--out', 'all.csv')
    ended = interrupted(exporting, lambda: [*run.folder.glob('all.csv.*.tmp')])
    told = 'nothing was written to all.csv; the same command begins anew'
    assert (ended.code, ended.err) == (130, f'neptune-async: interrupted; {told}\n')
    assert [file.name for file in run.folder.glob('all*')] == []

    printing = run.start(*command)
    assert printing.stdout is not None
    begins = printing.stdout.readline()
    ended = interrupted(printing, lambda: True)
    assert begins.startswith('experiment,path')
    told = 'what was printed is not all'
    assert (ended.code, ended.err) == (130, f'neptune-async: interrupted; {told}\n')


def test_a_folder_has_whole_experiments_after_ctrl_c(run: CommandLine, full: Path) -> None:
    command = ['export', '--storage', full, '--format', 'neptune-export', '--out', 'folder']
    folder = run.folder / 'folder'
    ended = interrupted(run.start(*command), lambda: [*folder.rglob('a-*.parquet')])
    told = 'folder has the experiments that were done; to begin anew, say --force'
    assert (ended.code, ended.err) == (130, f'neptune-async: interrupted; {told}\n')
    assert len([*folder.rglob('a-*.parquet')]) == 1 and not [*folder.rglob('b-*.parquet')]

    assert run(*command, '--force').code == 0
    assert len([*folder.rglob('*.parquet')]) == 2
