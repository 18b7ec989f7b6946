"""Cleaning up beside processes that log files, and die: no reference is without its content."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer

from neptune_async import Experiment, File, delete_experiment, list_experiments

from .harness import Child, Store, Tally, trials
from .servers import ServerStore

Start = Callable[..., Child]

LOGS_AND_LETS_GO = """
    import random, sys
    from child import experiment, say
    from neptune_async import File
    writer, number, durability = sys.argv[1:]
    chance = random.Random(f'{writer} {number}')
    # What others log, too, and let go of.
    contents = [b'%d ' % n * times for n in range(3) for times in (10, 40_000)]
    exp = experiment(f'EXP-{writer}', flush_interval=0.002, durability=durability)
    n = 0
    while True:
        content = chance.choice(contents)
        exp['atom'].assign(File(content))
        exp['series'].log(File(content))
        with open(f'source-{writer}', 'wb') as file:
            file.write(content)
        exp['copied'].assign(File(f'source-{writer}'))
        if chance.random() < 0.3:
            exp.flush()
            exp['series'].delete()
        n += 1
        say('logged', n)
"""
CLEANS = """
    import os
    from child import say
    from neptune_async._engine.store import opened
    with opened(os.environ['STORE']) as store:
        while True:
            store.clean()
            say('cleaned')
"""


@pytest.fixture(params=['sqlite', 'postgres'])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """A store that does not exist yet, of either kind."""
    if request.param == 'sqlite':
        return Store(tmp_path / 'experiments.db', tally)
    monkeypatch.chdir(tmp_path)  # where what it cannot store is spilled
    server: PostgresServer = request.getfixturevalue('postgres')
    return ServerStore(server.url(), tmp_path, tally)


def clean(store: Store, *options: str) -> dict[str, Any]:
    """Clean a store, and return what that says."""
    done = subprocess.run(
        [sys.executable, '-m', 'neptune_async', 'clean', '--json', '--storage', store.path,
         *options],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def staged(store: Store) -> list[Path]:
    return [path for path in store.spills if path.suffix == '.staged']


def kept_beside(store: Store) -> list[Path]:
    """Return the files in the folder of the large contents of a store in SQLite."""
    return [path for path in Path(f'{store.path}.files').rglob('*') if path.is_file()]


def forget_contents(store: Store) -> None:
    if isinstance(store, ServerStore):
        for table in ('files', 'file_pieces'):
            store._query(f'DELETE FROM {table}')
        return
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute('DELETE FROM files')
    shutil.rmtree(f'{store.path}.files')


def require_contents(store: Store) -> int:
    """Every file that something refers to is there, and whole; return how many there are."""
    count = 0
    for name in list_experiments(store.path):
        with store.reading(name) as exp:
            for path in ('atom', 'copied', 'series'):
                if not exp[path].exists():
                    continue
                files = exp[path].all() if path == 'series' else [exp[path].read()]
                for file in files:
                    assert len(file.bytes()) == file.size
                count += len(files)
    ((rejected,),) = store._query('SELECT count(*) FROM rejected')
    assert rejected == 0
    return count


@pytest.mark.unmeasured
@pytest.mark.parametrize('durability', ['interval', 'call'])
@pytest.mark.failure('F56', 'processes store one file at once, others clean, and any are killed')
def test_cleaning_takes_no_content_from_those_that_log(
    start: Start, store: Store, durability: str
) -> None:
    rounds = store.tally.trials = trials(2)
    chance = random.Random(3)
    for number in range(rounds):
        children = [start(LOGS_AND_LETS_GO, n, number, durability) for n in range(2)]
        for child in children:
            child.wait_for('logged')
        cleaners = [start(CLEANS) for _ in range(2)]
        for _ in range(3):
            for child in (*cleaners, *children):
                child.wait_for('cleaned' if child in cleaners else 'logged')
        time.sleep(chance.uniform(0, 0.02))
        for child in chance.sample(children + cleaners, 4):
            child.send(signal.SIGKILL)
            child.finish(code=-signal.SIGKILL)
        require_contents(store)  # of what the dead left in journals, too
        clean(store)
        assert require_contents(store) > 0
        assert staged(store) == []
    for name in list_experiments(store.path):
        delete_experiment(name, store.path)
    clean(store)
    assert store._query('SELECT count(*) FROM files') == [(0,)]
    assert clean(store)['contents'] == clean(store)['copies'] == {'count': 0, 'bytes': 0}
    unfinished = kept_beside(store)
    assert {path.suffix for path in unfinished} <= {'.part'}
    for path in unfinished:  # which who was killed had not finished: an hour later they go
        os.utime(path, (1, 1))
    assert clean(store)['contents']['count'] == len(unfinished)
    assert kept_beside(store) == []


@pytest.mark.failure('F53', 'what is left of a killed process that had logged files')
def test_what_the_dead_have_left_goes_and_what_the_living_need_stays(
    start: Start, store: Store
) -> None:
    script = """
        import sys
        from child import experiment, fork, hear, reap, say
        from neptune_async import File
        exp = experiment(sys.argv[1], flush_interval=3600.0)
        open(f'source-{sys.argv[1]}', 'wb').write(b'%d' % len(sys.argv) * 300_000)
        exp['x'].log(0.0)
        exp.flush()
        exp['copied'].assign(File(f'source-{sys.argv[1]}'))
        say('staged')
        hear()
        exp.flush()
        say('stored')
    """
    dead, living = start(script, 'dead'), start(script, 'living')
    for child in (dead, living):
        child.wait_for('staged')
    dead.send(signal.SIGKILL)
    dead.finish(code=-signal.SIGKILL)
    assert len(staged(store)) == 2
    expected = {'count': 1, 'bytes': 300_000}
    assert clean(store, '--dry-run')['copies'] == expected
    assert len(staged(store)) == 2
    assert clean(store)['copies'] == expected
    assert len(staged(store)) == 1
    living.tell()
    living.wait_for('stored')
    living.finish()
    with store.reading('living') as exp:
        assert exp['copied'].read().size == 300_000
    assert staged(store) == []


@pytest.mark.failure('F56', 'a spill file refers to what is cleaned away')
def test_what_a_spill_file_refers_to_is_there_when_it_is_taken_in(
    start: Start, store: Store
) -> None:
    child = start("""
        import os
        from child import experiment, hear, say, wait_until
        from neptune_async import File
        from neptune_async._engine.lifecycle import running_workers
        from neptune_async._storage import registry
        from neptune_async.exceptions import StorageError
        running_workers.EXIT_TIMEOUT = 0.5
        exp = experiment(flush_interval=0.002)
        exp['x'].log(0.0)
        exp.flush()
        kind = type(registry.create(registry.resolve(os.environ['STORE'])))
        refused = []
        async def refuse(self, batch, **options):
            refused.append(batch)
            raise StorageError('injected')
        kind.write = refuse
        exp['copied'].assign(File(b'large' * 60_000))
        # Once storage has the content, and not what refers to it.
        wait_until(lambda: refused)
        say('kept')
        hear()
    """)
    child.wait_for('kept')
    child.tell()
    child.finish()
    assert store._query('SELECT count(*) FROM files') == [(1,)]
    assert sorted(path.suffix for path in store.spills) == ['.spill', '.staged']
    assert clean(store, '--dry-run')['contents'] == {'count': 0, 'bytes': 0}
    # As it would be if it had been cleaned away just before the spill file was written.
    forget_contents(store)
    assert clean(store)['contents'] == {'count': 0, 'bytes': 0}
    with store.reading() as exp:
        assert exp['copied'].read().bytes() == b'large' * 60_000
    assert store.spills == []


IN_A_FILE = pytest.mark.parametrize('store', ['sqlite'], indirect=True)


@IN_A_FILE
@pytest.mark.failure('F53', 'a process is killed while it cleans')
def test_who_is_killed_between_rows_and_files_leaves_the_files_to_the_next(
    start: Start, store: Store
) -> None:
    with Experiment('EXP', storage=store.path, echo=False) as exp:
        exp['large'].assign(File(bytes(300_000)))
        exp['small'].assign(File(b'small'))
        exp['large'].assign(0)
        exp['small'].assign(0)
    start("""
        import os, signal
        from neptune_async._storage.sqlite import cleaning
        from neptune_async._engine.store import opened
        cleaning._remove_files = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        with opened(os.environ['STORE']) as store:
            store.clean()
    """).finish(code=-signal.SIGKILL)
    assert store._query('SELECT count(*) FROM files') == [(0,)]
    with Experiment('EXP', storage=store.path, echo=False) as exp:
        exp['again'].assign(File(bytes(300_000)))
        exp.flush()
        assert clean(store)['contents'] == {'count': 0, 'bytes': 0}
        assert exp['again'].read().bytes() == bytes(300_000)
        exp['again'].assign(0)
    assert clean(store)['contents'] == {'count': 1, 'bytes': 300_000}
    assert kept_beside(store) == []


@IN_A_FILE
def test_copies_of_which_nothing_tells_whose_they_are_wait_a_week(store: Store) -> None:
    Experiment('EXP', storage=store.path, echo=False).close()
    folder = Path(f'{store.path}.spilled')
    folder.mkdir()
    elsewhere = folder / f'{"0" * 32}-{"a" * 16}-1-1.staged'
    unnamed = folder / 'x.staged'
    for path in (elsewhere, unnamed):
        path.write_bytes(b'copy')
    assert clean(store)['copies']['count'] == 0
    old = time.time() - 8 * 86_400
    for path in (elsewhere, unnamed):
        os.utime(path, (old, old))
    (folder / 'kept.spill').write_bytes(b'damaged, but it says "x.staged"')
    (folder / 'link.staged').symlink_to(elsewhere)
    assert clean(store)['copies'] == {'count': 1, 'bytes': 4}
    assert sorted(path.name for path in folder.iterdir()) == [
        'kept.spill', 'link.staged', 'x.staged'
    ]  # fmt: skip
