"""Reading many variables at a time finds what reading each of them finds."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from neptune_async import Experiment
from neptune_async._model.operations import (
    AUTOMATIC_STEP,
    Batch,
    CreateVariable,
    Operation,
    Part,
    Variable,
    point_key,
)
from neptune_async._storage.base import Damaged, LastPoint, Window
from neptune_async._storage.points import Points, expanded
from neptune_async._storage.sqlite import SQLiteStorage
from neptune_async.exceptions import StorageFormatError

NOON = datetime(2020, 7, 6, 12, tzinfo=timezone.utc)
WINDOWS = [Window(), Window(last=1), Window(last=700), Window(first=3), Window(first=550, last=60)]


def log_some(exp: Experiment, start: int, stop: int) -> None:
    for n in range(start, stop):
        exp['regular'].log(n * 1.5, timestamp=n)
        exp['irregular'].log(n, step=n * n % 97 / 2, timestamp=-n)
        exp['noise'].log(n * 0.1 % 1.0)
        exp['texts'].log(f'text {n}')
        exp['times'].log(NOON, step=n)
    exp.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with what is in chunks, in the log, in both, and in neither."""
    path = tmp_path / 'experiments.db'
    with Experiment('closed', storage=path) as exp:
        log_some(exp, 0, 600)
        exp['params'].assign({'lr': 0.1, 'layers': [1, 2], 'none': None})
        exp['tags'].add('a', 'b')
        exp['empty'].add(1)
        exp['empty'].remove(1)
    copy = path.with_name('copy.db')
    with Experiment('mixed', storage=path) as exp:
        log_some(exp, 0, 300)
    with Experiment('mixed', storage=path) as exp, Experiment('fresh', storage=path) as fresh:
        log_some(exp, 300, 310)
        log_some(exp, 310, 320)
        log_some(fresh, 0, 5)
        fresh['only'].log('here')
        fresh.flush()
        # As it is now: to close them makes chunks of the log.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    return copy


@asynccontextmanager
async def opened(path: Path, *, writable: bool = False) -> AsyncIterator[SQLiteStorage]:
    storage = SQLiteStorage(str(path))
    await storage.open(writable=writable)
    try:
        yield storage
    finally:
        await storage.close()


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStorage]:
    async with opened(path) as storage:
        yield storage


async def variables_of(store: SQLiteStorage, *names: str, paths: Any = None) -> Any:
    experiments = await store.find_experiments(names or None)
    return await store.find_variables([experiment.id for experiment in experiments], paths)


def points_of(pieces: Any) -> list[tuple[Any, ...]]:
    def rows(points: Points) -> list[tuple[Any, ...]]:
        return list(zip(expanded(points.steps), points.times, points.values, strict=True))

    return [row for piece in pieces for row in rows(piece)]


@pytest.mark.asyncio
async def test_experiments_are_found_by_name_or_all(store: SQLiteStorage) -> None:
    every = await store.find_experiments()
    assert [e.name for e in every] == ['closed', 'mixed', 'fresh']
    assert all(abs(e.created - datetime.now().timestamp()) < 600 for e in every)
    assert await store.find_experiments(['fresh', 'nobody', 'closed']) == [every[0], every[2]]
    assert await store.find_experiments([]) == []


@pytest.mark.asyncio
async def test_variables_are_found_by_experiment_and_path(store: SQLiteStorage) -> None:
    every = await variables_of(store)
    for experiment_id, found in every.items():
        assert found == await store.list_variables(experiment_id, None)
    some = await variables_of(store, 'fresh', 'closed', paths=['only', 'params/lr', 'nowhere'])
    assert [[v.path for v in found] for found in some.values()] == [['params/lr'], ['only']]
    assert await store.find_variables([], ['only']) == {}


@pytest.mark.asyncio
@pytest.mark.parametrize('window', WINDOWS, ids=repr)
async def test_many_series_read_as_each_of_them_does(store: SQLiteStorage, window: Window) -> None:
    variables = await variables_of(store)
    readings = await store.read_many_series(variables, window, True, True)
    count = 0
    for experiment_id, found in variables.items():
        for variable in found:
            if variable.container != 'series':
                assert variable.id not in readings
                continue
            alone = await store.read_series(experiment_id, variable.path, window, True, True)
            together = readings[variable.id]
            assert alone is not None
            assert together.variable == variable
            assert (together.first, together.end) == (alone.first, alone.end)
            assert points_of(together.pieces) == points_of(alone.pieces)
            count += len(points_of(alone.pieces))
    assert count


@pytest.mark.asyncio
async def test_the_latest_is_what_each_variable_reads(store: SQLiteStorage) -> None:
    variables = await variables_of(store)
    latest = await store.read_latest(variables)
    for experiment_id, found in variables.items():
        for variable in found:
            path = variable.path
            if variable.container == 'atom':
                atom = await store.read_atom(experiment_id, path)
                assert atom == (variable, latest.atoms[variable.id])
            elif variable.container == 'set':
                members = await store.read_set(experiment_id, path)
                assert members is not None
                assert sorted(members[1]) == sorted(latest.sets.get(variable.id, []))
            else:
                reading = await store.read_series(experiment_id, path, Window(), True, True)
                assert reading is not None
                last = points_of(reading.pieces)[-1]
                assert latest.series[variable.id] == LastPoint(reading.end, *last)


@pytest.mark.asyncio
async def test_what_is_gone_or_empty_is_left_out(store: SQLiteStorage) -> None:
    variables = await variables_of(store, 'closed', paths=['regular', 'params/lr', 'tags'])
    gone = {
        experiment_id: [
            type(v)(v.id + 2**40, v.path, v.container, v.content) for v in found
        ]
        for experiment_id, found in variables.items()
    }  # fmt: skip
    latest = await store.read_latest(gone)
    assert (latest.atoms, latest.sets, latest.series) == ({}, {}, {})
    (reading,) = (await store.read_many_series(gone, Window(), True, True)).values()
    assert (reading.first, [*reading.pieces]) == (0, [])


@pytest.mark.asyncio
async def test_the_last_point_is_read_from_the_last_chunk_alone(tmp_path: Path) -> None:
    path = tmp_path / 'long.db'
    with Experiment('long', storage=path) as exp:
        exp['x'].extend([float(n) for n in range(20_000)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('UPDATE chunks SET "values" = zeroblob(8) WHERE first < 16384')
    async with opened(path) as storage:
        variables = await variables_of(storage)
        (last,) = (await storage.read_latest(variables)).series.values()
        assert (last.count, last.step, last.value) == (20_000, 19_999.0, 19_999.0)
        (reading,) = (await storage.read_many_series(variables, Window(), True, True)).values()
        with pytest.raises(StorageFormatError, match='damaged'):
            points_of(reading.pieces)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ('damaged', 'is_known'),
    [(['values', 'times'], True), (['summary'], True), (['summary', 'values'], False)],
    ids=repr,
)
async def test_the_last_point_is_known_by_the_summary_of_its_chunk_or_by_its_points(
    tmp_path: Path, damaged: list[str], is_known: bool
) -> None:
    path = tmp_path / 'experiments.db'
    with Experiment('a', storage=path) as exp:
        exp['x'].extend([0.5, 1.5, 2.5], timestamps=[3.0, 4.0, 5.0])
    with closing(sqlite3.connect(path)) as connection, connection:
        for column in damaged:
            connection.execute(f'UPDATE chunks SET "{column}" = zeroblob(8)')
    async with opened(path) as storage:
        latest = await storage.read_latest(await variables_of(storage))
    (last,) = latest.series.values()
    assert (last == LastPoint(3, 2.0, 5.0, 2.5)) == is_known
    assert isinstance(last, LastPoint if is_known else Damaged)


@pytest.mark.asyncio
async def test_a_missing_chunk_is_told(tmp_path: Path) -> None:
    path = tmp_path / 'long.db'
    with Experiment('long', storage=path) as exp:
        exp['x'].extend([float(n) for n in range(30_000)])
        exp['y'].extend([1.0])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('DELETE FROM chunks WHERE first = 8192')
    async with opened(path) as storage:
        variables = await variables_of(storage)
        readings = await storage.read_many_series(variables, Window(), True, True)
        x, y = sorted(readings.values(), key=lambda reading: reading.variable.path)
        with pytest.raises(StorageFormatError, match='some of its chunks are missing'):
            points_of(x.pieces)
        assert len(points_of(y.pieces)) == 1


@pytest.mark.asyncio
async def test_a_thousand_experiments_take_a_handful_of_statements(tmp_path: Path) -> None:
    statements: list[str] = []
    async with opened(tmp_path / 'many.db', writable=True) as storage:
        await storage.write(Batch(b'w' * 16, 1, [full_part(f'run-{n}') for n in range(1_000)]))
        while await storage.compact('everything'):
            pass
        await storage.write(Batch(b'w' * 16, 2, [full_part('run-7')]))
        await storage._run(lambda connection: connection.set_trace_callback(statements.append))
        variables = await variables_of(storage)
        latest = await storage.read_latest(variables)
        readings = await storage.read_many_series(variables, Window(), True, True)
    assert len(latest.series) == len(readings) == 20_000
    assert {(last.step, last.value) for last in latest.series.values()} == {(2, 2.5), (5, 2.5)}
    assert len(statements) <= 16


def full_part(name: str) -> Part:
    """Return an experiment of twenty series; the ids are those of the name, whenever it is made."""
    first = 20 * int(name.partition('-')[2])
    variables = [Variable(first + n, f'x{n}', 'series', 'float') for n in range(20)]
    points = array('d')
    for value in (0.5, 1.5, 2.5):
        for variable in variables:
            points.extend([point_key(variable.id), AUTOMATIC_STEP, value, value])
    operations: list[Operation] = [CreateVariable(variable) for variable in variables]
    return Part(-1 - first, name, None, operations, points, count=60)
