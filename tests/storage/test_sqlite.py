"""The file: what is in it, what is never done to it, and how it is kept small."""

from __future__ import annotations

import os
import sqlite3
import zlib
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import numpy as np
import pytest
import pytest_asyncio
from faults.child import wait_until

from neptune_async import Experiment, compare, delete_experiment, fetch_metrics, list_experiments
from neptune_async._engine.durability.spill_files import write_spill
from neptune_async._model.operations import Assign, Batch, CreateVariable, Part, Variable, point_key
from neptune_async._model.values import encode
from neptune_async._storage.sqlite import APPLICATION_ID, SCHEMA_VERSION, SQLiteStorage
from neptune_async._storage.sqlite import storage as storage_module
from neptune_async._storage.sqlite.compaction import compact_log
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async.cli import without_extras
from neptune_async.exceptions import RejectedOperationsError, StorageError, StorageFormatError

from .batches import part, values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'experiments.db'


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStorage]:
    storage = SQLiteStorage(str(path))
    await storage.open(writable=True)
    yield storage
    await storage.close()


def rows(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.mark.failure('F31', 'the file is no database')
@pytest.mark.parametrize('content', [b'not a database' * 100, b'x'])
def test_a_file_of_something_else_is_never_touched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for mode in ('resume', 'read'):
        with pytest.raises(StorageError, match='experiments.db'):
            Experiment('a', storage=path, mode=mode)  # type: ignore[arg-type]
    assert path.read_bytes() == content


@pytest.mark.failure('F31', 'the file is a database of something else')
def test_a_sqlite_file_of_something_else_is_never_touched(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute('CREATE TABLE theirs (x)')
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageFormatError, match='something else'):
        Experiment('a', storage=path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.failure('F35', 'the store was made by a newer version')
def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    Experiment('a', storage=path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f'PRAGMA user_version = {SCHEMA_VERSION + 1}')
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageFormatError, match='upgrade'):
        Experiment('a', storage=path)
    assert path.read_bytes() == before


def test_a_store_names_itself(path: Path) -> None:
    Experiment('a', storage=path).close()
    assert rows(path, 'PRAGMA application_id') == [(APPLICATION_ID,)]
    assert rows(path, 'PRAGMA user_version') == [(SCHEMA_VERSION,)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_store_that_is_gone_with_something_left_to_store_says_where_that_is_and_what_to_do(
    path: Path,
) -> None:
    folder = path.with_name(f'{path.name}.spilled')
    operations = [CreateVariable(Variable(1, 'x', 'atom', 'int')), Assign(1, 'int', encode(7))]
    folder.mkdir()
    write_spill(folder, [Batch(bytes(16), 1, [Part(1, 'a', None, operations)])])
    with pytest.raises(StorageError) as raised:
        list_experiments(path)
    assert f'what was not stored in it yet is in {folder}' in str(raised.value)
    assert f'python -m neptune_async recover --storage {path}' in str(raised.value)
    assert not path.exists()
    assert without_extras.run(['recover', '--storage', str(path)]) == 0
    with Experiment('a', storage=path, mode='read') as exp:
        assert exp['x'].read() == 7


def test_a_store_that_cannot_be_opened_says_where_and_why(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r'missing\.db: there is no such file'):
        list_experiments(tmp_path / 'missing.db')
    with pytest.raises(StorageError, match=r'missing\.db: there is no such file'):
        compare(storage=tmp_path / 'missing.db')
    assert not (tmp_path / 'missing.db').exists()
    (tmp_path / 'missing.db.spilled').mkdir()
    with pytest.raises(StorageError, match='no such file; name one, or log to it first'):
        list_experiments(tmp_path / 'missing.db')
    with pytest.raises(StorageError, match='it is a folder'):
        Experiment('a', storage=tmp_path)
    (tmp_path / 'file').write_text('')
    with pytest.raises(StorageError, match='file'):
        Experiment('a', storage=tmp_path / 'file' / 'below.db')


def test_missing_folders_are_made(tmp_path: Path) -> None:
    Experiment('a', storage=tmp_path / 'new' / 'folder' / 'runs.db').close()
    assert list_experiments(tmp_path / 'new' / 'folder' / 'runs.db') == ['a']


def test_reading_writes_nothing(path: Path) -> None:
    with Experiment('a', storage=path) as exp:
        exp['x'].log(1.0)
    before = path.read_bytes()
    with Experiment('a', storage=path, mode='read') as exp:
        assert exp['x'].all() == [1.0]
        assert list_experiments(path) == ['a']
    assert compare(storage=path).x.tolist() == fetch_metrics(storage=path).value.tolist() == [1.0]
    assert path.read_bytes() == before


def test_a_stranger_reads_a_chunk_with_numpy(path: Path) -> None:
    logged = np.random.default_rng(0).normal(size=1_000)
    with Experiment('a', storage=path) as exp:
        for value in logged.tolist():
            exp['x'].log(value)
        points = exp['x'].all(with_timestamps=True)
    ((raw_values, form, times, times_form),) = rows(
        path, 'SELECT "values", values_form, times, times_form FROM chunks WHERE first = 0'
    )
    assert times_form == 'ulp'
    read = np.frombuffer(zlib.decompress(raw_values) if form == 'f8+zlib' else raw_values, '<f8')
    raw = np.frombuffer(zlib.decompress(times), 'u1')
    read_times = raw.reshape(8, -1).T.copy().view('<i8').cumsum().view('<f8')
    assert read.tolist() == logged.tolist()
    assert read_times.tolist() == [time for time, _ in points]


def test_a_slow_run_ends_as_compact_as_a_fast_one(path: Path) -> None:
    for _ in range(40):
        with Experiment('slow', storage=path) as exp:
            for value in range(5):
                exp['x'].log(value / 3)
                exp.flush()
    with Experiment('slow', storage=path, mode='read') as exp:
        assert exp['x'].all(with_steps=True) == [(i, i % 5 / 3) for i in range(200)]
    assert rows(path, 'SELECT count(*) FROM log') == [(0,)]
    assert rows(path, 'SELECT count(*) < 8 FROM chunks') == [(1,)]
    assert rows(path, 'PRAGMA freelist_count') == [(0,)]


def test_a_deleted_experiment_leaves_nothing_behind(path: Path) -> None:
    with Experiment('kept', storage=path) as exp:
        exp['x'].log(1.0)
    with Experiment('doomed', storage=path) as exp:
        exp['x'].log(1.0)
        exp['t'].log('text')
        exp['a'].assign(1)
        exp['s'].add(1)
        exp.flush()
    delete_experiment('doomed', path)
    for table in ('variables', 'chunks', 'log', 'atoms', 'members'):
        assert rows(path, f'SELECT count(*) FROM {table}') == [
            (table in ('variables', 'chunks', 'atoms'),)
        ]


@pytest.mark.failure('F31', 'a row of the store is damaged')
def test_damage_is_told_and_not_read(path: Path) -> None:
    with Experiment('a', storage=path) as exp:
        exp['x'].extend([float(value) for value in range(1_000)])
    with sqlite3.connect(path) as connection:
        connection.execute('UPDATE chunks SET "values" = CAST(zeroblob(length("values")) AS BLOB)')
    connection.close()
    exp = Experiment('a', storage=path, mode='read')
    with exp, pytest.raises(StorageFormatError, match='damaged'):
        exp['x'].all()


@pytest.mark.asyncio
async def test_a_batch_that_does_not_follow_the_last_is_refused(store: SQLiteStorage) -> None:
    experiment = await store.create_experiment('a')
    await store.write(Batch(b'w' * 16, 1, [part(experiment, [1.0], creates=True)]))
    with pytest.raises(StorageError, match='does not follow'):
        await store.write(Batch(b'w' * 16, 3, [part(experiment, [3.0])]))
    assert await values(store, experiment) == [1.0]


@pytest.mark.asyncio
async def test_a_synced_write_and_a_sync_change_nothing_that_is_read(
    path: Path, store: SQLiteStorage
) -> None:
    experiment = await store.create_experiment('a')
    for number, synced in enumerate([False, True, True, False], 1):
        batch = Batch(b'w' * 16, number, [part(experiment, [number], creates=number == 1)])
        await store.write(batch, synced=synced)
        await store.sync()
    assert await values(store, experiment) == [1.0, 2.0, 3.0, 4.0]
    assert rows(path, 'PRAGMA application_id') == [(APPLICATION_ID,)]


@pytest.mark.asyncio
async def test_an_operation_that_fails_does_not_take_others_along(store: SQLiteStorage) -> None:
    experiment = await store.create_experiment('a')
    good, bad = Variable(2, 'good', 'atom', 'int'), Variable(3, 'bad', 'atom', 'int')
    poisoned = part(experiment, [1.0], creates=True)
    poison: Any = object()
    poisoned.operations += [
        CreateVariable(good), CreateVariable(bad),
        Assign(3, 'int', poison), Assign(2, 'int', b'7'),
    ]  # fmt: skip
    with pytest.raises(TypeError):
        await store.write(Batch(b'w' * 16, 1, [poisoned]))
    receipt = await store.write(Batch(b'w' * 16, 1, [poisoned]), careful=True)
    assert [(r.path, r.operation) for r in receipt.rejections] == [('bad', 'Assign')]
    assert await values(store, experiment) == [1.0]
    read = await store.read_atom(experiment.id, 'good')
    assert read is not None
    assert read[1] == b'7'


def test_a_rewind_of_what_is_damaged_is_rejected_and_takes_nothing_else_along(path: Path) -> None:
    with Experiment('a', storage=path) as exp:
        exp['x'].extend([float(value) for value in range(1_000)])
        exp['y'].extend([0.0, 1.0])
    with sqlite3.connect(path) as connection:
        connection.execute(
            'UPDATE chunks SET "values" = CAST(zeroblob(length("values")) AS BLOB) '
            'WHERE count = 1000'
        )
    connection.close()
    with Experiment('a', storage=path) as exp:
        exp.rewind(0)
        exp['y'].log(2.0)
        with pytest.raises(RejectedOperationsError, match='Rewind.*damaged'):
            exp.flush()
        # All of it or nothing: what is whole was not rewound either.
        assert exp['y'].all(with_steps=True) == [(0, 0.0), (1, 1.0), (2, 2.0)]
        assert (exp.stats().rejected, exp.stats().committed) == (1, 1)
        with pytest.raises(StorageFormatError, match='damaged'):
            exp.fork('b')
        exp.rewind(1, 'y')
        assert exp['y'].all() == [0.0, 1.0]
    assert list_experiments(path) == ['a']


class Delayed(StoreConnection):
    """A connection to which something happens before each write transaction begins."""

    before: Callable[[], object]

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == 'BEGIN IMMEDIATE':
            self.before()
        return super().execute(sql, *parameters)


def test_a_compaction_that_was_prepared_before_a_rewind_does_nothing_after_it(path: Path) -> None:
    with Experiment('a', storage=path) as exp:
        exp['x'].extend([0.0, 1.0, 2.0, 3.0])
        exp.flush()
        with closing(sqlite3.connect(path, isolation_level=None, factory=Delayed)) as connection:
            connection.before = lambda: (exp.rewind(1), exp['x'].log(4.0), exp.flush())
            compact_log(connection, 1, 10, lambda: False)
        assert exp['x'].all(with_steps=True) == [(0, 0.0), (1, 1.0), (2, 4.0)]


def test_chunks_that_were_cut_are_packed_as_if_nothing_had_been_cut(path: Path) -> None:
    with Experiment('cut', storage=path) as exp:
        exp['x'].extend([0.5] * 20_000, timestamps=[float(n) for n in range(20_000)])
    with Experiment('cut', storage=path) as exp:
        exp.rewind(9_999)
        exp.fork('fork').close()
    with Experiment('short', storage=path) as exp:
        exp['x'].extend([0.5] * 10_000, timestamps=[float(n) for n in range(10_000)])
    columns = (
        'first, count, first_step, stride, largest_step, last_time, values_form, "values", '
        'steps_form, steps, times_form, times, crc32'
    )
    cut, fork, short = (
        rows(
            path,
            f'SELECT {columns} FROM chunks WHERE variable_id IN (SELECT v.id FROM variables v '
            f"JOIN experiments e ON e.id = experiment_id WHERE e.name = '{name}') ORDER BY first",
        )
        for name in ('cut', 'fork', 'short')
    )
    assert len(cut) == 2
    assert cut == fork == short


@pytest.mark.asyncio
async def test_a_compaction_that_is_interrupted_changes_nothing(
    path: Path, store: SQLiteStorage
) -> None:
    experiment = await store.create_experiment('a')
    many = [float(value) for value in range(30_000)]
    await store.write(Batch(b'w' * 16, 1, [part(experiment, many, creates=True)]))
    asked = iter([False, False, True])
    assert await store.compact('everything', lambda: next(asked, True))
    assert rows(path, 'SELECT sum(count) FROM log') == [(30_000,)]
    assert rows(path, 'SELECT count(*) FROM chunks') == [(0,)]
    assert not await store.compact('everything')
    assert rows(path, 'SELECT count(*) FROM log') == [(0,)]
    assert await values(store, experiment) == many


@pytest.mark.asyncio
async def test_a_batch_of_points_is_one_statement(store: SQLiteStorage) -> None:
    experiment = await store.create_experiment('a')
    await store.write(Batch(b'w' * 16, 1, [part(experiment, [1.0], creates=True)]))
    statements: list[str] = []
    assert store._connection is not None
    await store._connection.set_trace_callback(statements.append)
    await store.write(Batch(b'w' * 16, 2, [part(experiment, [2.0, 3.0])]))
    await store._connection.set_trace_callback(None)
    # It is traced once more for each statement of its trigger.
    assert len(set(statements)) == 1
    assert await values(store, experiment) == [1.0, 2.0, 3.0]


def test_what_is_due_is_merged_once_nothing_is_logged(path: Path) -> None:
    with Experiment('a', storage=path, flush_interval=0.01) as exp:
        for value in range(70_000):
            exp['x'].log(value)
        exp.flush()
        wait_until(lambda: rows(path, 'SELECT count(*) > 0 FROM chunks') == [(1,)])


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the log be merged ten points at a time."""
    monkeypatch.setattr(storage_module, '_LOG_POINTS', 10)
    monkeypatch.setattr(storage_module, '_POINTS_A_SERIES', 10)


@pytest.mark.usefixtures('small_pieces')
def test_what_is_overdue_is_merged_while_more_is_logged(path: Path) -> None:
    with Experiment('a', storage=path, flush_interval=60.0) as exp:
        for value in range(100):
            exp['x'].extend(range(25 * value, 25 * value + 25))
            exp.flush()
        ((logged,),) = rows(path, 'SELECT total(count) FROM log')
        assert logged <= 2 * 10 * storage_module._OVERDUE
        assert exp['x'].all() == [*range(2_500)]


@pytest.mark.usefixtures('small_pieces')
def test_of_a_series_that_is_read_meanwhile_less_may_be_in_the_log(path: Path) -> None:
    with Experiment('a', storage=path, flush_interval=60.0) as exp:
        for value in range(200):
            exp['x'].log(value)
            assert exp['x'].tail(1) == [value]
        ((logged,),) = rows(path, 'SELECT total(count) FROM log')
        assert logged <= 2 * 10 * storage_module._OVERDUE_TO_READ


@pytest.mark.usefixtures('small_pieces')
def test_closing_merges_what_others_left_too(path: Path) -> None:
    other = Experiment('a', storage=path, flush_interval=60.0)
    for value in range(10):
        other['x'].extend(range(15 * value, 15 * value + 15))
        other.flush()
    copy = path.with_name('copy.db')
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    other.close()
    with Experiment('a', storage=copy) as exp:
        exp['x'].log(150)
    assert rows(copy, 'SELECT count(*) FROM log') == [(0,)]


@pytest.mark.usefixtures('small_pieces')
@pytest.mark.asyncio
async def test_damage_in_one_log_does_not_keep_others_from_being_merged(
    path: Path, store: SQLiteStorage
) -> None:
    damaged = await store.create_experiment('damaged')
    await store.write(Batch(b'w' * 16, 1, [part(damaged, [1.0] * 20, creates=True)]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('UPDATE log SET crc32 = crc32 + 1')
    whole = await store.create_experiment('whole')
    loss = Variable(2, 'loss', 'series', 'float')
    other = part(whole, [2.0] * 20)
    other.operations = [CreateVariable(loss)]
    other.points[::4] = array('d', [point_key(loss.id)]) * 20
    await store.write(Batch(b'w' * 16, 2, [other]))
    with pytest.raises(StorageFormatError):
        await store.compact()
    while await store.compact():
        pass
    assert rows(path, 'SELECT experiment_id FROM log') == [(damaged.id,)]


@pytest.mark.asyncio
async def test_closing_a_file_that_was_cut_to_nothing_writes_nothing_to_it(path: Path) -> None:
    storage = SQLiteStorage(str(path))
    await storage.open(writable=True)
    await storage.create_experiment('a')
    os.truncate(path, 0)
    with pytest.raises(StorageError, match='was cut to nothing'):
        await storage.list_experiments()
    await storage.close()
    assert os.stat(path).st_size == 0


@pytest.mark.asyncio
async def test_the_last_close_leaves_nothing_beside_the_file(path: Path) -> None:
    storage = SQLiteStorage(str(path))
    await storage.open(writable=True)
    await storage.create_experiment('a')
    await storage.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.asyncio
async def test_run_uses_aiosqlite_as_it_is(store: SQLiteStorage) -> None:
    # What relies on what aiosqlite does not promise: SQLiteStorage._run, and _reopened.
    async with aiosqlite.connect(':memory:') as connection:
        assert isinstance(connection._conn, sqlite3.Connection)
        assert connection._connection is connection._conn
        assert await connection._execute(lambda value: value + 1, 1) == 2  # type: ignore[no-untyped-call]


STRANGE = {
    'trigger': 'CREATE TRIGGER theirs AFTER INSERT ON log BEGIN DELETE FROM chunks; END',
    'view': 'CREATE VIEW theirs AS SELECT load_extension(name) FROM experiments',
    'table': 'CREATE TABLE theirs (x, y AS (abs(x)))',
    'index': 'CREATE INDEX theirs ON experiments (lower(name))',
}


@pytest.mark.failure('F61', 'a store that a stranger has given something that runs')
@pytest.mark.parametrize('kind', STRANGE)
def test_a_store_that_a_stranger_has_added_to_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 's.db'
    with Experiment('a', storage=path) as exp:
        exp['loss'].log(1.0)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(STRANGE[kind])
    before = path.read_bytes()
    for open_it in (lambda: Experiment('a', storage=path), lambda: list_experiments(path)):
        with pytest.raises(StorageFormatError, match=f"changed .* \\({kind} 'theirs'\\)"):
            open_it()
    assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f'DROP {kind} theirs')
    with Experiment('a', storage=path) as exp:
        assert exp['loss'].all() == [1.0]


@pytest.mark.failure('F61', 'a view in the place of a table')
def test_a_view_in_the_place_of_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 's.db'
    with Experiment('a', storage=path):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('ALTER TABLE chunks RENAME TO whole')
        connection.execute('CREATE VIEW chunks AS SELECT * FROM whole')
    with pytest.raises(StorageFormatError, match="view 'chunks'"):
        list_experiments(path)


def test_what_sqlite_adds_for_itself_is_no_reason_to_refuse_a_store(tmp_path: Path) -> None:
    path = tmp_path / 's.db'
    with Experiment('a', storage=path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript('ANALYZE; VACUUM')
    assert list_experiments(path) == ['a']
