"""A store in PostgreSQL: how it is named and opened, what is in it, and that SQLite equals it."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest
import pytest_asyncio
from faults.child import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres_server import PASSWORD, PostgresServer, free_port, session

from neptune_async import Experiment, delete_experiment, list_experiments
from neptune_async._engine.store import opened
from neptune_async._model.operations import (
    AUTOMATIC_STEP,
    Assign,
    Batch,
    CreateVariable,
    Part,
    Variable,
    point_key,
)
from neptune_async._storage import registry
from neptune_async._storage.base import Examinable, Storage, Window
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.points import expanded
from neptune_async._storage.postgres import SCHEMA_VERSION, PostgresStorage, watching
from neptune_async._storage.postgres.faults import OperationFault
from neptune_async._storage.postgres.url import parsed
from neptune_async.exceptions import InvalidStorageError, StorageError, StorageFormatError

from .batches import LOSS, part, values

SECRET = 'open%20sesame%2F1%402'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # where what a store cannot take is spilled
    return tmp_path


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.url()


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[PostgresStorage]:
    storage = PostgresStorage(url)
    await storage.open(writable=True)
    yield storage
    await storage.close()


# ── The URL ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    'given_url',
    [
        f'postgresql://ada:{SECRET}@db.lab:5433/runs',
        f'postgres://ada:{SECRET}@db.lab:5433/runs',
        f'postgresql://ada@db.lab:5433/runs?password={SECRET}',
        f'postgresql://ada@db.lab:5433/runs?sslpassword={SECRET}',
        # Wrongly quoted, and so not to be understood; but not to be shown either.
        'postgresql://ada:sesame/1@db.lab:5433/runs',
        'postgresql://ada:ses@me@db.lab:5433/runs',
    ],
)
def test_a_password_is_never_shown(given_url: str) -> None:
    storage = registry.create(registry.resolve(given_url))
    assert storage.location == 'postgresql://ada@db.lab:5433/runs'
    shown = f'{storage.location} {storage.spill_folder} {parsed(given_url)!r}'
    assert 'sesame' not in shown and 'ses@me' not in shown


def test_a_url_says_what_libpq_would_understand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PGAPPNAME', 'from the environment')
    monkeypatch.setenv('PGCONNECT_TIMEOUT', '3')
    address = parsed(
        'postgresql://ada@h/db?sslmode=require&keepalives=1&tcp_user_timeout=9&options=-c%20a%3Db'
        '&command_timeout=7&work_mem=8MB'
    )
    assert address.url == 'postgresql://ada@h/db?sslmode=require&options=-c%20a%3Db&work_mem=8MB'
    assert address.settings['application_name'] == 'from the environment'
    assert (address.connect_timeout, address.command_timeout) == (3.0, 7.0)
    assert parsed('postgresql://h/db?connect_timeout=5').connect_timeout == 5.0
    assert parsed('postgresql://h/db?application_name=mine').settings['application_name'] == 'mine'


@pytest.mark.parametrize(
    ('query', 'told'),
    [
        ('schema=a%22b', 'schema'),
        ('connect_timeout=soon', 'connect_timeout'),
        ('channel_binding=require', 'channel_binding'),
        ('no-value', 'name=value'),
    ],
)
def test_a_url_that_cannot_be_kept_to_is_refused(query: str, told: str) -> None:
    with pytest.raises(InvalidStorageError, match=told) as refused:
        parsed(f'postgresql://ada:{SECRET}@h/db?{query}')
    assert 'sesame' not in str(refused.value)
    with pytest.raises(InvalidStorageError, match='ada@h/db') as refused:
        parsed('postgresql://ada:open?sesame@h/db')
    assert 'sesame' not in str(refused.value)


def test_each_store_has_a_spill_folder_of_its_own(folder: Path) -> None:
    names = ['h/a', 'h/b', 'h:5433/a', 'h/a?schema=other', 'i/a']
    spill_folders = {PostgresStorage(f'postgresql://{name}').spill_folder for name in names}
    assert len(spill_folders) == len(names)
    assert {place and place.parent for place in spill_folders} == {folder / '.neptune_async'}
    same = {PostgresStorage(f'postgresql://{user}@h/a').spill_folder for user in ('ada', 'bob')}
    assert len(same) == 1


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.startswith('neptune_async._storage.postgres'):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'asyncpg', None)
    with pytest.raises(InvalidStorageError, match=r"pip install 'neptune-async\[postgres\]'"):
        registry.create('postgresql://h/db')


# ── Opening ──────────────────────────────────────────────────────────────────


def refusal(url: str, mode: Any = 'resume') -> StorageError:
    """Return the error of an experiment that cannot be opened; it names the URL, no password."""
    with pytest.raises(StorageError) as refused:
        Experiment('a', storage=url, mode=mode)
    text = str(refused.value)
    assert 'postgresql://' in text and 'wrong' not in text and 'sesame' not in text
    return refused.value


@pytest.mark.failure('F41', 'nobody answers, or not for this user and database')
def test_a_server_that_lets_nobody_in_says_why(postgres: PostgresServer) -> None:
    with session(postgres.url()) as asked:
        asked.execute('DROP ROLE IF EXISTS guarded')
        quoted = PASSWORD.replace("'", "''")
        asked.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{quoted}' SUPERUSER")
    assert 'password' in str(refusal(postgres.url(user='guarded:wrong')))
    missing = postgres.url().replace('/postgres?', '/nowhere?')
    assert 'create the database' in str(refusal(missing))
    assert 'cannot be reached' in str(refusal(postgres.url(port=free_port())))
    with Experiment('a', storage=postgres.url(user=f'guarded:{SECRET}')) as exp:
        assert 'sesame' not in repr(exp)
        exp['x'].log(1.0)
        assert exp['x'].all() == [1.0]


@pytest.mark.failure('F41', 'the server is read-only')
def test_a_read_only_server_is_read_and_not_written_to(url: str) -> None:
    with Experiment('a', storage=url) as exp:
        exp['x'].log(1.0)
    read_only = f'{url}&default_transaction_read_only=on'
    assert "read-only, a standby perhaps; name the primary, or open with mode='read'" in str(
        refusal(read_only)
    )
    with Experiment('a', storage=read_only, mode='read') as exp:
        assert exp['x'].all() == [1.0]


@pytest.mark.failure('F41', 'the role has no right to make tables, or to write')
def test_a_role_that_may_not_make_tables_writes_to_those_there_are(
    postgres: PostgresServer,
) -> None:
    admin = postgres.url()
    schema = admin.partition('schema=')[2]
    with session(admin) as asked:
        asked.execute('DROP OWNED BY trainer; DROP ROLE trainer') if asked.rows(
            "SELECT FROM pg_roles WHERE rolname = 'trainer'"
        ) else None
        asked.execute('CREATE ROLE trainer LOGIN')
    trainer = postgres.url(user='trainer', schema=schema)
    assert 'may not make' in str(refusal(trainer))
    Experiment('a', storage=admin).close()
    with session(admin) as asked:
        asked.execute(f'GRANT USAGE ON SCHEMA {schema} TO trainer')
        asked.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO trainer')
    assert 'GRANT' in str(refusal(trainer))
    assert list_experiments(trainer) == ['a']
    with session(admin) as asked:
        asked.execute(
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO trainer'
        )
    with Experiment('a', storage=trainer) as exp:
        exp['x'].log(1.0)
        assert exp['x'].all() == [1.0]


@pytest.mark.failure('F35', 'the store was made by a newer version')
def test_a_newer_schema_is_refused(url: str) -> None:
    Experiment('a', storage=url).close()
    with session(url) as asked:
        asked.execute('UPDATE store SET version = $1', SCHEMA_VERSION + 1)
    assert 'upgrade' in str(refusal(url))
    assert 'upgrade' in str(refusal(url, 'read'))


@pytest.mark.failure('F35', 'a newer version takes the store over during a run')
def test_a_new_connection_finds_a_newer_schema_and_writes_nothing(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Experiment('a', storage=url) as exp, session(url) as asked:
        exp['x'].log(1.0)
        exp.flush()
        asked.execute('UPDATE store SET version = $1', SCHEMA_VERSION + 1)
        asked.execute(
            'SELECT pg_terminate_backend(pid) FROM pg_stat_activity '
            "WHERE application_name = 'neptune_async'"
        )
        exp['x'].log(2.0)

        def is_refused() -> bool:
            with pytest.raises(StorageError) as refused:  # the first may be of what was ended
                exp.flush()
            return 'upgrade neptune_async' in str(refused.value)

        wait_until(is_refused)
        assert exp.pending == 1
        asked.execute('UPDATE store SET version = $1', SCHEMA_VERSION)
        while exp.pending:
            with suppress(StorageError):
                exp.flush()
        assert exp['x'].all() == [1.0, 2.0]


def test_a_schema_of_something_else_is_left_alone(url: str) -> None:
    with session(url) as asked:
        schema = url.partition('schema=')[2]
        asked.execute(f'CREATE SCHEMA {schema}; CREATE TABLE experiments (theirs integer)')
        assert 'something else' in str(refusal(url))
        tables = asked.rows(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
        assert tables == [('experiments',)]


def test_reading_makes_nothing(url: str) -> None:
    assert isinstance(refusal(url, 'read'), StorageFormatError)
    with session(url) as asked:
        schema = url.partition('schema=')[2]
        assert not asked.rows(f"SELECT FROM pg_namespace WHERE nspname = '{schema}'")


@pytest.mark.asyncio
async def test_many_that_make_the_store_at_once_make_one(url: str) -> None:
    stores = [PostgresStorage(url) for _ in range(10)]
    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(lambda opening=store: opening.open(writable=True))
    for store in stores:
        assert await store.list_experiments() == []
        await store.close()


def test_a_database_that_cannot_hold_all_texts_is_refused(postgres: PostgresServer) -> None:
    url = postgres.url()
    with session(url) as asked:
        if not asked.rows("SELECT FROM pg_database WHERE datname = 'ascii'"):
            asked.execute(
                "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
            )
    assert 'UTF8' in str(refusal(url.replace('/postgres?', '/ascii?')))


# ── What is in it ────────────────────────────────────────────────────────────


def test_sql_sees_one_row_a_point(url: str) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    with Experiment('a', storage=url) as exp:
        exp['loss'].extend([0.5, 0.25], timestamps=[10.0, 11.0])
        exp['loss'].log(0.125, step=10, timestamp=12.0)
        exp['says'].log('hello', timestamp=1.0)
        exp['says'].log('zero \0', timestamp=2.0)
        exp['when'].log(moment, timestamp=3.0)
    with session(url) as asked:
        found = asked.rows(
            'SELECT experiment, path, index, step, time, value, text FROM points '
            'ORDER BY path, index'
        )
    assert found == [
        ('a', 'loss', 0, 0.0, 10.0, 0.5, None),
        ('a', 'loss', 1, 1.0, 11.0, 0.25, None),
        ('a', 'loss', 2, 10.0, 12.0, 0.125, None),
        ('a', 'says', 0, 0.0, 1.0, None, 'hello'),
        ('a', 'says', 1, 1.0, 2.0, None, None),  # no text of the server's can hold it
        ('a', 'when', 0, 0.0, 3.0, None, '2026-01-02T03:04:05+00:00'),
    ]


def test_a_slow_run_ends_as_compact_as_a_fast_one(url: str) -> None:
    for _ in range(10):
        with Experiment('slow', storage=url) as exp:
            for value in range(20):
                exp['x'].log(value / 3)
                exp['s'].log(float(value), step=10 * value)
                exp['t'].log('odd \0' if value == 7 else 'plain')
                exp.flush()
    with Experiment('slow', storage=url, mode='read') as exp:
        assert exp['x'].all(with_steps=True) == [(i, i % 20 / 3) for i in range(200)]
        assert [step for step, _ in exp['s'].tail(20, with_steps=True)] == [*range(0, 200, 10)]
        assert [i for i, text in enumerate(exp['t'].all()) if text == 'odd \0'] == [
            *range(7, 200, 20)
        ]
    with session(url) as asked:
        assert asked.rows('SELECT count, stride FROM chunks JOIN variables '
                          'ON id = variable_id ORDER BY path') == [
            (200, None), (200, 1.0), (200, 1.0),
        ]  # fmt: skip


@pytest.mark.parametrize(
    'steps', [[2**53, 0.5], [-(2**53), 2**53 - 1], [2**53, 0.5, -(2**53)], [2**53, 0, -(2**53)]]
)
def test_steps_that_are_far_apart_are_merged_as_they_are(url: str, steps: list[float]) -> None:
    with Experiment('far', storage=url) as exp:
        for step in steps:
            exp['x'].log(1.0, step=step)
            exp.flush()
    with session(url) as asked:
        assert asked.value('SELECT count(*) FROM chunks') == 1
    with Experiment('far', storage=url, mode='read') as exp:
        assert [step for step, _ in exp['x'].all(with_steps=True)] == steps


def test_a_long_run_is_merged_on_the_way(url: str) -> None:
    with Experiment('long', storage=url) as exp:
        for value in range(300):
            exp['x'].log(float(value))
            exp.flush()
        with session(url) as asked:
            wait_until(lambda: asked.value('SELECT count(*) FROM chunks') < 100)
        assert exp['x'].all(with_steps=True) == [(n, float(n)) for n in range(300)]


@pytest.mark.asyncio
async def test_a_batch_is_one_round_trip(store: PostgresStorage) -> None:
    parts = []
    for name in ('a', 'b', 'c'):
        parts.append(part(await store.create_experiment(name), [1.0, 2.0], creates=True))
        parts[-1].operations += [
            CreateVariable(Variable(3, 'atom', 'atom', 'int')), Assign(3, 'int', b'7'),
            CreateVariable(TEXTS),
        ]  # fmt: skip
        parts[-1].texts.append((point_key(TEXTS.id), AUTOMATIC_STEP, 1.0, 'text'))
    await store.write(Batch(b'w' * 16, 1, parts))
    for each in parts:
        each.operations.pop(0)
    sent: list[Any] = []
    assert store._server is not None and store._server._connection is not None
    with store._server._connection.query_logger(sent.append):
        await store.write(Batch(b'w' * 16, 2, parts))
        await store.list_experiments()
        await anyio.lowlevel.checkpoint()  # what was sent is told soon
    assert len(sent) == 2, sent  # one of them is the list


def test_a_deleted_experiment_leaves_only_its_writers(url: str) -> None:
    with Experiment('doomed', storage=url) as exp:
        exp['x'].log(1.0)
        exp['t'].log('text')
        exp['a'].assign(1)
        exp['s'].add(1)
    delete_experiment('doomed', url)
    with session(url) as asked:
        for table in ('experiments', 'epochs', 'variables', 'chunks', 'series', 'atoms', 'members'):
            assert asked.value(f'SELECT count(*) FROM {table}') == 0


def test_what_was_stored_and_is_gone_is_told(url: str) -> None:
    with Experiment('a', storage=url) as exp:
        exp['x'].log(1.0)
        exp.flush()
        with session(url) as asked:
            asked.execute('CREATE TABLE kept AS SELECT * FROM writers; DELETE FROM writers')
            exp['x'].log(2.0)
            with pytest.raises(StorageFormatError, match='older copy'):
                exp.flush()
            asked.execute('INSERT INTO writers SELECT * FROM kept')
        exp.flush()
        assert exp['x'].all() == [1.0, 2.0]


def test_what_is_left_of_a_rewind_and_what_a_fork_copies_is_merged(url: str) -> None:
    with Experiment('a', storage=url) as exp:
        for value in range(10):
            exp['x'].log(value / 3, timestamp=float(value))
            exp['t'].log('odd \0' if value == 2 else 'plain', step=2 * value)
            exp.flush()
        exp.rewind(6)
        exp['x'].log(7.0)
        with exp.fork('b', 3) as fork:
            assert fork['x'].all(with_steps=True) == [(n, n / 3) for n in range(4)]
            assert fork['t'].all(with_steps=True) == [(0, 'plain'), (2, 'plain')]
            fork['t'].log('next')
            assert fork['t'].tail(1, with_steps=True) == [(3, 'next')]
        assert exp['x'].tail(2, with_steps=True) == [(6, 2.0), (7, 7.0)]
        assert exp['t'].all() == ['plain', 'plain', 'odd \0', 'plain']
    with session(url) as asked:
        wrong = (
            'SELECT count(*) FROM series s WHERE count <> (SELECT coalesce(sum(count), 0) '
            'FROM chunks c WHERE c.experiment_id = s.experiment_id '
            'AND c.variable_id = s.variable_id)'
        )
        assert asked.value(wrong) == 0
        assert asked.value('SELECT max(n) FROM (SELECT count(*) AS n FROM chunks '
                           'GROUP BY experiment_id, variable_id) AS rows') == 1  # fmt: skip


def rows_of(url: str, path: str) -> dict[int, str]:
    """Return where each row of a series is, by its first point: another place once rewritten."""
    with session(url) as asked:
        return dict(
            asked.rows(
                'SELECT first, c.ctid::text FROM chunks c JOIN variables v ON v.id = variable_id '
                'AND v.experiment_id = c.experiment_id WHERE path = $1 ORDER BY first',
                path,
            )
        )


def logged(exp: Experiment, path: str, steps: Sequence[float], rows: Sequence[int]) -> None:
    """Log points whose values are their numbers, in rows of so many."""
    first = 0
    for count in rows:
        some = range(first, first + count)
        exp[path].extend(some, steps=steps[first : first + count], timestamps=some)
        exp.flush()
        first += count


SQUARES = [n * n for n in range(20_000)]
ODD_END = [10**9 if 4_990 <= n < 5_000 else n for n in range(20_000)]
ODD_ONE = [10**9 if n == 7_000 else n for n in range(20_000)]


@pytest.mark.parametrize(
    ('steps', 'rows', 'last', 'left', 'rewritten'),
    [
        (range(20_000), [5_000] * 4, 19_989, range(19_990), 15_000),
        (SQUARES, [5_000] * 4, 19_989**2, range(19_990), 15_000),
        # The last is one more than all before, and from another row.
        (SQUARES, [5_000] * 4, 14_999**2, range(15_000), 15_000),
        (ODD_ONE, [5_000] * 4, 19_989, [n for n in range(19_990) if n != 7_000], 5_000),
        (ODD_END, [5_000] * 4, 19_989, [*range(4_990), *range(5_000, 19_990)], 0),
        # Small rows before are merged with it, but not many points.
        (range(5_003), [5_000, 1, 1, 1], 5_001, range(5_002), 5_000),
        (range(18_000), [3_000] * 6, 17_989, range(17_990), 9_000),
        (range(5_003), [5_000, 1, 1, 1], -1, [], 0),
        (range(5_003), [5_000, 1, 1, 1], 5_002, range(5_003), 5_003),
    ],
)
def test_a_rewind_writes_only_the_end_of_a_series_anew(
    url: str,
    steps: Sequence[int],
    rows: Sequence[int],
    last: int,
    left: Sequence[int],
    rewritten: int,
) -> None:
    with Experiment('a', storage=url) as exp:
        logged(exp, 'x', steps, rows)
        before = rows_of(url, 'x')
        exp.rewind(last)
        exp.flush()
        after = rows_of(url, 'x')
        kept = {first: place for first, place in before.items() if first < rewritten}
        assert {first: after.get(first) for first in kept} == kept
        # The others are merged.
        assert len(after) - len(kept) == math.ceil((len(left) - rewritten) / CHUNK_POINTS)
        assert not {*after.values()} & {*before.values()} - {*kept.values()}
        exp['x'].log(-1.0, timestamp=0.0)
        points = [(steps[n], float(n), float(n)) for n in left]
        points.append((points[-1][0] + 1 if points else 0, 0.0, -1.0))
        assert exp['x'].all(with_steps=True, with_timestamps=True) == points


@pytest.mark.asyncio
@pytest.mark.failure('F43', 'an operation that the server refuses')
async def test_what_the_server_refuses_does_not_take_others_along(url: str, store: Storage) -> None:
    experiment = await store.create_experiment('a')
    good, bad = Variable(2, 'good', 'atom', 'int'), Variable(3, 'bad', 'atom', 'int')
    worse = Variable(4, 'worse', 'series', 'float')
    with session(url) as asked:
        asked.execute("ALTER TABLE atoms ADD CHECK (value <> '13')")
        asked.execute('ALTER TABLE chunks ADD CHECK ("values" <> ARRAY[13.0::float8])')
    batch = part(experiment, [1.0], creates=True)
    batch.operations += [CreateVariable(good), CreateVariable(bad), CreateVariable(worse)]
    batch.operations += [Assign(3, 'int', b'13'), Assign(2, 'int', b'7')]
    batch.points += array('d', [point_key(worse.id), AUTOMATIC_STEP, 1.0, 13.0])
    with pytest.raises(OperationFault):
        await store.write(Batch(b'w' * 16, 1, [batch]))
    assert await values(store, experiment) == []
    receipt = await store.write(Batch(b'w' * 16, 1, [batch]), careful=True)
    refused = [('bad', 'Assign', 1), ('worse', 'log', 1)]
    assert [(r.path, r.operation, r.count) for r in receipt.rejections] == refused
    assert await values(store, experiment) == [1.0]
    read = await store.read_atom(experiment.id, 'good')
    assert read is not None and read[1] == b'7'
    with session(url) as asked:
        assert asked.rows('SELECT path, operation, count FROM rejected') == refused


@pytest.mark.asyncio
@pytest.mark.parametrize('code', ['58030', '55P03', '22003', 'NA004'])
async def test_what_a_server_says_on_several_lines_is_told_on_one(
    store: PostgresStorage, code: str
) -> None:
    async def fail(connection: asyncpg.Connection) -> None:
        await connection.execute(
            f"DO $$ BEGIN RAISE E'first\nmore' USING ERRCODE = '{code}', DETAIL = E'why\nwhere', "
            "HINT = 'what to do'; END $$"
        )

    with pytest.raises((StorageError, OperationFault)) as raised:
        await store._open_server.run(fail)
    told = 'first; more; DETAIL:  why; where; HINT:  what to do'
    assert told in str(raised.value) and '\n' not in str(raised.value)


@pytest.mark.asyncio
async def test_what_ends_a_transaction_and_its_connection_is_told(store: PostgresStorage) -> None:
    async def end(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await connection.execute('SELECT pg_terminate_backend(pg_backend_pid())')

    with pytest.raises(StorageError, match='terminating connection due to'):
        await store._open_server.run(end)
    assert await store.list_experiments() == []


# ── It equals one in SQLite ──────────────────────────────────────────────────

steps = st.one_of(
    st.just(AUTOMATIC_STEP), st.just(AUTOMATIC_STEP), st.integers(-5, 20).map(float),
    st.sampled_from([0.5, 0.1, -0.0, 1e300, 2.0**53, 2.0**53 - 2, -(2.0**53)]),
)  # fmt: skip
# No -0.0: where a series stands, SQLite keeps no sign of a zero.
times = st.sampled_from([-5.0, 0.0, 1.0, 2.0, 2.5, 3.0, 1e9])
floats = st.sampled_from([0.0, -0.0, 1.5, float('nan'), float('inf'), 5e-324])
texts = st.sampled_from(['', 'plain', 'nul \0', '\ud800', '\ud83d\ude00', 'ü'])
TEXTS = Variable(2, 'texts', 'series', 'str')
batches = st.lists(
    st.tuples(
        st.lists(st.tuples(steps, times, st.booleans(), floats), max_size=6),
        st.lists(st.tuples(steps, times, st.booleans(), texts), max_size=4),
        st.booleans(),
    ),
    max_size=5,
)


def batch_of(experiment: Any, number: int, floats: Any, texts: Any) -> Batch:
    creations: list[Any] = [CreateVariable(LOSS), CreateVariable(TEXTS)]
    whole = Part(experiment.id, experiment.name, experiment.epoch, creations)
    for step, time, explicit, value in floats:
        whole.points += array('d', [point_key(LOSS.id, explicit), step, time, value])
    for step, time, explicit, value in texts:
        whole.texts.append((point_key(TEXTS.id, explicit), step, time, value))
    return Batch(b'w' * 16, number, [whole])


async def all_points(storage: Storage, experiment: Any, window: Window) -> list[Any]:
    found: list[Any] = []
    for path in ('loss', 'texts'):
        reading = await storage.read_series(experiment.id, path, window, True, True)
        if reading is None:
            continue
        rows: list[Any] = []
        for piece in reading.pieces:
            rows += zip(expanded(piece.steps), piece.times, piece.values, strict=True)
        wanted = rows[max(0, window.first - reading.first) :]
        wanted = wanted if window.last is None else wanted[max(0, len(wanted) - window.last) :]
        found.append((path, reading.end, [*map(bits, wanted)]))
    return found


def bits(point: Sequence[Any]) -> tuple[Any, ...]:
    # A step's zero has no sign: steps at a stride are computed.
    step, time, value = point
    shown = struct.pack('<d', value) if isinstance(value, float) else value
    return step, struct.pack('<d', time), shown


async def agree(url: str, drawn: Any) -> None:
    pair: list[tuple[Storage, Any]] = []
    for storage in (registry.create(registry.MEMORY), PostgresStorage(url)):
        await storage.open(writable=True)
        pair.append((storage, await storage.create_experiment(None)))
    try:
        for number, (floats, texts, merges) in enumerate(drawn, 1):
            for storage, experiment in pair:
                await storage.write(batch_of(experiment, number, floats, texts))
                while merges and await storage.compact('everything'):
                    pass
        for window in (Window(), Window(first=3), Window(last=2), Window(first=1, last=4)):
            left, right = [await all_points(*one, window) for one in pair]
            assert left == right
        left_steps, right_steps = [await s.largest_steps(e.id) for s, e in pair]
        assert left_steps == right_steps
        for storage, _ in pair:
            assert isinstance(storage, Examinable)
            assert not [found for found in await storage.examine() if found.level == 'wrong']
    finally:
        for storage, _ in pair:
            await storage.close()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=batches)
def test_both_stores_make_the_same_of_any_batches(url: str, drawn: Any) -> None:
    anyio.run(agree, url, drawn)


@pytest.mark.asyncio
async def test_nothing_is_kept_in_mind_of_what_is_merged_or_gone(store: PostgresStorage) -> None:
    for name in ('kept', 'deleted'):
        experiment = await store.create_experiment(name)
        for number in (1, 2):
            one = part(experiment, [float(number)], creates=number == 1)
            await store.write(Batch(b'w' * 16, number, [one]))
    await store.delete_experiment('deleted')
    while await store.compact('everything'):
        pass
    assert store._batches._rows == {}


# ── A watch ──────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_watch_ends_as_soon_as_another_process_commits(
    url: str, store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, '_INTERVAL', 60.0)
    experiment = await store.create_experiment('a')
    other = PostgresStorage(url)
    await other.open(writable=True)
    try:
        async with store.watch(experiment.id) as changed:
            await changed()
            for number in (1, 2, 3):
                one = part(experiment, [float(number)], creates=number == 1)
                with anyio.fail_after(30):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(changed)
                        await other.write(Batch(b'w' * 16, number, [one]))
    finally:
        await other.close()
    with session(url) as asked:
        assert asked.rows("SELECT FROM pg_locks WHERE locktype = 'advisory'") == []


@pytest.mark.asyncio
async def test_a_watch_survives_its_connection(
    url: str, store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, '_INTERVAL', 0.5)
    experiment = await store.create_experiment('a')
    async with store.watch(experiment.id) as changed:
        await changed()
        with session(url) as asked:
            asked.execute(
                'SELECT pg_terminate_backend(pid) FROM pg_stat_activity '
                "WHERE application_name = 'neptune_async'"
            )
        with anyio.fail_after(30):
            for _ in range(4):
                await changed()
    assert await store.list_experiments() == ['a']


@pytest.fixture(scope='module')
def standby(postgres: PostgresServer) -> Iterator[PostgresServer]:
    server = PostgresServer(primary=postgres)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.mark.failure('F41', 'the server is a standby')
def test_a_standby_is_read_and_followed_and_not_written_to(
    url: str, standby: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, '_INTERVAL', 60.0)  # it is not waited for what is never told
    with Experiment('a', storage=url) as exp:
        exp['x'].log(1.0)
        exp.flush()
        copy = replica(url, standby)
        with Experiment('a', storage=copy, mode='read') as reader:
            points = reader['x'].follow(timeout=30.0)
            for value in (1.0, 2.0, 3.0):
                assert next(points).value == value
                exp['x'].log(value + 1)
    assert 'the server is read-only, a standby perhaps' in str(refusal(copy))


def replica(url: str, standby: PostgresServer) -> str:
    """Return the URL of a store on the standby, once that has it."""
    copy = standby.url(schema=url.partition('schema=')[2])

    def is_there() -> bool:
        try:
            return list_experiments(copy) != []
        except StorageFormatError:
            return False

    wait_until(is_there)
    return copy


def test_doctor_knows_a_standby(url: str, standby: PostgresServer) -> None:
    Experiment('a', storage=url).close()
    with opened(replica(url, standby)) as store:
        found = {finding.what: finding.remedy for finding in store.ask(lambda s: s.examine())}
    assert 'name the primary' in found['the server is a standby: it is only read from']
    assert 'primary' in found['the server does not notify: who follows a series looks by itself']


def test_nobody_is_told_where_nobody_watches(url: str) -> None:
    with session(url) as asked, Experiment('a', storage=url) as exp:
        experiment_id = asked.value('SELECT id FROM experiments')
        heard: list[object] = []
        asked.listen(f'neptune_async_{experiment_id}', heard.append)
        exp['x'].log(1.0)
        exp.flush()
        assert asked.value('SELECT 1') == 1  # after which what was told is there
        assert heard == []
        asked.execute('SELECT pg_advisory_lock_shared($1)', experiment_id)
        exp['x'].log(2.0)
        exp.flush()
        assert asked.value('SELECT 1') == 1
        assert len(heard) == 1


def test_who_may_only_read_is_told_too(url: str) -> None:
    with Experiment('a', storage=url) as exp:
        exp['x'].log(1.0)
    with Experiment('a', storage=url) as exp, Experiment(
        'a', storage=f'{url}&default_transaction_read_only=on', mode='read'
    ) as reader:  # fmt: skip
        points = reader['x'].follow(timeout=30.0)
        assert next(points).value == 1.0
        exp['x'].log(2.0)
        assert next(points).value == 2.0
