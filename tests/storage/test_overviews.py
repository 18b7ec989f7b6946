"""Overviews, held against what all the points say."""

from __future__ import annotations

import math
import random
import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgres_server import PostgresServer, session

from neptune_async import Experiment
from neptune_async._engine.reading import overviews
from neptune_async._engine.store import opened
from neptune_async._storage import chunks, registry, summaries
from neptune_async._storage import overviews as overviews_of_points
from neptune_async._storage.base import Damaged, Examinable, Storage
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.grid import Axis, Grid
from neptune_async._storage.overviews import Buckets, OverviewMaker
from neptune_async._storage.points import Points, Stride, expanded
from neptune_async._storage.sqlite import overviews as sqlite_overviews

from .test_chunks import points

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(params=['with NumPy', 'with it, of few', 'without'], autouse=True)
def numpy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == 'without':
        # Not taken out of sys.modules: NumPy cannot be imported twice.
        for module in (chunks, overviews_of_points, summaries):
            monkeypatch.setattr(module, 'loaded_numpy', lambda: None)
        return
    pytest.importorskip('numpy')
    if request.param == 'with it, of few':
        # As if they were many, of which one is made at a time.
        monkeypatch.setattr(overviews_of_points, 'FEW_SUMMARIES', 0)


def require_right(found: Buckets, axis: Sequence[float], values: Sequence[Any]) -> None:
    """Hold buckets against all points of a series, in the order in which they were logged."""
    grid = found.grid
    expected: list[list[Any]] = [[] for _ in range(grid.size)]
    for x, value in zip(axis, values, strict=True):
        if grid.first <= x <= grid.last:
            expected[math.floor(x / grid.width) - grid.origin].append(value)
    for place, own in enumerate(expected):
        numbers = [value for value in own if isinstance(value, float) and math.isfinite(value)]
        assert found.points[place] == len(own)
        assert found.nan[place] == sum(value != value for value in own)
        assert found.positive_infinite[place] == own.count(math.inf)
        assert found.negative_infinite[place] == own.count(-math.inf)
        assert found.least[place] == min(numbers, default=math.inf)
        assert found.greatest[place] == max(numbers, default=-math.inf)
        if own and isinstance(own[-1], float):
            assert repr(found.last[place]) == repr(own[-1])
        mean = math.fsum(value / len(numbers) for value in numbers)
        size = max(map(abs, numbers), default=0.0)
        assert found.mean[place] == pytest.approx(mean, rel=1e-9, abs=max(1e-9 * size, 5e-324))


# ── Grids ────────────────────────────────────────────────────────────────────


@given(finite, finite, st.integers(1, 3000))
def test_a_grid_spans_a_range_with_no_more_buckets_than_asked(
    one: float, other: float, most: int
) -> None:
    first, last = sorted([one, other])
    grid = Grid.over('step', first, last, most)
    assert 1 <= grid.size <= max(most, 2)
    assert grid.place(first) == 0 and grid.place(last) == grid.size - 1
    assert math.frexp(grid.width)[0] == 0.5 or grid.width == math.inf


@pytest.mark.parametrize('most', [10, 500, 2000])
def test_a_grid_is_fine_enough(most: int) -> None:
    for last in (9_999.0, 10_000_000.0, 0.37):
        assert Grid.over('step', 0.0, last, most).size > most / 2 - 1


def test_the_buckets_of_a_run_that_grows_stay_or_become_one_with_their_neighbour() -> None:
    before = Grid.over('step', 3.0, 10.0, 100)
    for last in range(11, 5000, 7):
        grid = Grid.over('step', 3.0, float(last), 100)
        assert grid.width in (before.width, 2 * before.width, 4 * before.width)
        edges = {(grid.origin + n) * grid.width for n in range(1, before.size)}
        assert {edge for edge in edges if edge % before.width} == set()
        before = grid


def test_a_grid_of_one_place_has_one_bucket() -> None:
    for x in (0.0, 7.0, -3.5, 1.7e9, 5e-324):
        grid = Grid.over('time', x, x, 100)
        assert (grid.size, grid.place(x)) == (1, 0)


@given(points(), points(), st.integers(1, 40), st.sampled_from(['step', 'time']), st.data())
def test_points_come_into_their_buckets(
    one: Points, other: Points, most: int, axis: Axis, data: st.DataObject
) -> None:
    if isinstance(one.values, array) != isinstance(other.values, array):
        return
    both = [
        x for some in (one, other) for x in (expanded(some.steps) if axis == 'step' else some.times)
    ]
    first, last = sorted(
        [data.draw(st.sampled_from(both), 'first'), data.draw(st.sampled_from(both), 'last')]
    )
    if last - first == math.inf:
        return
    buckets = Buckets(Grid.over(axis, first, last, most))
    buckets.add_points(0, one)
    buckets.add_points(len(one), other)
    require_right(buckets, both, [*one.values, *other.values])


# ── In a store ───────────────────────────────────────────────────────────────


def odd(n: int) -> float:
    return {500: math.nan, 501: math.inf, 9000: -math.inf}.get(n, math.sin(n / 50) + n % 3)


def fill(url: str, count: int) -> None:
    """Log series whose points are in several chunks, and some in the log."""
    rng = random.Random(1)
    with Experiment('a', storage=url) as exp:
        for start in range(0, count, count // 3 + 1):
            some = range(start, min(count, start + count // 3 + 1))
            times = [1.7e9 + 0.01 * n + rng.random() * 0.005 for n in some]
            exp['from 0'].extend([odd(n) for n in some], timestamps=times)
            exp['from 1'].extend(map(float, some), steps=[n + 1 for n in some], timestamps=times)
            exp['by 7'].extend(
                [odd(n) for n in some], steps=[7 * n - 300 for n in some], timestamps=times
            )
            exp['epochs'].extend(map(odd, some), steps=[n / 64 for n in some], timestamps=times)
            exp['back'].extend(map(odd, some), steps=[count - n for n in some], timestamps=times)
            exp['mixed'].extend(
                map(odd, some),
                steps=[rng.randrange(count) for _ in some],
                timestamps=[1.7e9 + rng.randrange(100) for _ in some],
            )
            exp['texts'].extend([f'text {n}' for n in some], timestamps=times)
            exp.flush()
    with Experiment('a', storage=url) as exp:
        exp['from 0'].extend([0.25, math.nan], timestamps=[2e9, 2e9 + 1])
    with Experiment('b', storage=url) as exp:
        exp['few'].extend([1.0, 3.0, 2.0], steps=[5, 5, 40], timestamps=[1.7e9, 1.8e9, 1.7e9])
        exp['param'].assign(1)


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in SQLite with series of several full chunks."""
    url = registry.resolve(tmp_path_factory.mktemp('overviews') / 'experiments.db')
    fill(url, 3 * CHUNK_POINTS + 100)
    return url


async def require_overviews(storage: Storage, url: str, axis: Axis, most: int) -> None:
    experiments = await storage.find_experiments()
    variables = await storage.find_variables([each.id for each in experiments])
    read: dict[int, list[tuple[float, float, Any]]] = {}
    for each in experiments:
        with Experiment(each.name, storage=url, mode='read') as exp:
            for variable in variables[each.id]:
                if variable.container == 'series':
                    view = exp[variable.path]
                    read[variable.id] = view.all(with_steps=True, with_timestamps=True)
    summaries = await storage.read_summaries(variables)
    assert summaries.keys() == read.keys()
    column = 0 if axis == 'step' else 1
    places = [point[column] for points in read.values() for point in points]
    low, high = min(places), max(places)
    for first, last in ((low, high), (low + (high - low) / 3, low + (high - low) / 2)):
        grid = Grid.over(axis, first, last, most)
        found = await storage.read_overviews(variables, grid)
        assert found.keys() == read.keys()
        for variable_id, own in read.items():
            assert not found[variable_id].damaged
            axis_column = [float(point[column]) for point in own]
            require_right(found[variable_id].buckets, axis_column, [point[2] for point in own])


@pytest.mark.asyncio
@pytest.mark.parametrize('axis', ['step', 'time'])
@pytest.mark.parametrize('most', [1, 7, 300])
async def test_overviews_are_those_of_all_points(url: str, axis: Axis, most: int) -> None:
    fill(url, 1500)
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        await require_overviews(storage, url, axis, most)
    finally:
        await storage.close()


@pytest.mark.asyncio
@pytest.mark.parametrize('axis', ['step', 'time'])
@pytest.mark.parametrize('most', [1, 20, 2000])
async def test_overviews_of_full_chunks_are_those_of_all_points(
    whole: str, axis: Axis, most: int
) -> None:
    storage = registry.create(whole)
    await storage.open(writable=False)
    try:
        await require_overviews(storage, whole, axis, most)
    finally:
        await storage.close()


@pytest.mark.asyncio
async def test_summaries_are_those_of_all_points(url: str) -> None:
    fill(url, 1500)
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        (experiment, _) = await storage.find_experiments()
        variables = await storage.find_variables([experiment.id], ['from 0', 'texts'])
        found = await storage.read_summaries(variables)
        floats, texts = (found[variable.id] for variable in variables[experiment.id])
    finally:
        await storage.close()
    values = [odd(n) for n in range(1500)]
    numbers = [value for value in [*values, 0.25] if math.isfinite(value)]
    assert floats is not None
    assert repr(floats.first) == repr(values[0])  # type: ignore[union-attr]
    whole = floats.whole  # type: ignore[union-attr]
    assert (whole.points, whole.nan, whole.positive_infinite) == (1502, 2, 1)
    assert (whole.least, whole.greatest) == (min(numbers), max(numbers))
    assert whole.mean == pytest.approx(math.fsum(numbers) / len(numbers))
    assert (whole.least_step, whole.greatest_step, whole.greatest_time) == (0, 1501, 2e9 + 1)
    assert texts.whole.points == 1500  # type: ignore[union-attr]


@pytest.mark.parametrize(('path', 'most'), [('from 0', 12), ('from 1', 12), ('by 7', 6)])
def test_an_overview_of_regular_steps_reads_no_point_of_a_chunk(
    whole: str, path: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError('points were read')

    monkeypatch.setattr(sqlite_overviews, 'unpack_chunk', refuse)
    with opened(whole) as store:
        experiment = store.find('a')
        variables = {experiment.id: store.variables(experiment, path)}
        found = store.call(overviews.overviews, variables, 'step', most)
    (overview,) = found.series.values()
    assert overview.damaged == []
    assert sum(overview.buckets.points) >= 3 * CHUNK_POINTS


@pytest.mark.parametrize('step', [1, 2, 64])
@pytest.mark.parametrize('first', [0, 1, 700, -5])
def test_chunks_of_regular_steps_end_where_buckets_do(
    tmp_path: Path, first: int, step: int
) -> None:
    path = tmp_path / 'experiments.db'
    count = 3 * CHUNK_POINTS
    with Experiment('a', storage=path) as exp:
        steps = [first + step * n for n in range(count)]
        exp['x'].extend(map(float, range(count)), steps=steps)
        exp['by 7'].extend([0.0] * count, steps=[7 * n for n in range(count)])
    with closing(sqlite3.connect(path)) as connection:
        chunks = connection.execute(
            'SELECT count, least_step, greatest_step '
            "FROM chunks JOIN variables ON id = variable_id WHERE path = 'x' ORDER BY first"
        ).fetchall()
        others = connection.execute(
            'SELECT count FROM chunks JOIN variables ON id = variable_id '
            "WHERE path = 'by 7' ORDER BY first"
        ).fetchall()
    width = step * CHUNK_POINTS
    assert sum(chunk[0] for chunk in chunks) == count
    assert len(chunks) == (3 if first // step == 0 else 4)
    for _, least, greatest in chunks:
        assert least // width == greatest // width
    assert others == [(CHUNK_POINTS,)] * 3
    with Experiment('a', storage=path) as exp:
        exp['x'].extend([7.0] * 100)
        assert [*exp['x'].to_numpy()['step'][[0, -1]]] == [steps[0], steps[-1] + 100]


def test_summaries_that_do_not_sum_up_are_not_made_sums_of(whole: str) -> None:
    grid = Grid.over('step', 0.0, 9999.0, 10)
    some = Points(Stride(0.0, 1.0, 2000), array('d', range(2000)), array('d', range(2000)))
    stored = summaries.packed_summary(summaries.summarised(some, summaries.NO_POINTS, True))
    maker = OverviewMaker(grid)
    maker.add_summary(0, 2000, 0.0, 1999.0, stored)
    maker.add_summary(2000, 2100, 0.0, 2099.0, stored)
    assert [*maker.settle()] == [2000]
    maker.add_points(2000, Points(Stride(0.0, 1.0, 2100), array('d'), array('d', range(2100))))
    assert sum(maker.buckets.points) == 4100


@pytest.mark.asyncio
@pytest.mark.parametrize('change', ['none', 'fork', 'rewind', 'more'])
async def test_a_server_keeps_summaries_of_rows_that_are_full(
    postgres: PostgresServer, change: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    url = postgres.url()
    name = 'a'
    with Experiment('a', storage=url) as exp:
        exp['x'].extend(map(float, range(20_000)), timestamps=range(20_000))
        exp['y'].extend(map(str, range(1000)))
    if change != 'none':
        with Experiment('a', storage=url) as exp:
            if change == 'fork':
                exp.fork('b').close()
                name = 'b'
            elif change == 'rewind':
                exp.rewind(14_999)
            else:
                exp['x'].extend([0.5] * 2000)
    with Experiment(name, storage=url, mode='read') as exp:
        every = exp['x'].all(with_steps=True, with_timestamps=True)
        window = exp['x'].to_numpy(first_step=9000, last_step=9001)
    assert window['value'].tolist() == [9000.0, 9001.0]
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        (experiment,) = await storage.find_experiments([name])
        variables = await storage.find_variables([experiment.id], ['x', 'y'])
        for size in (1, 4, 33):
            grid = Grid.over('step', 0.0, every[-1][0], size)
            found = await storage.read_overviews(variables, grid)
            x, y = (found[variable.id] for variable in variables[experiment.id])
            require_right(x.buckets, [p[0] for p in every], [p[2] for p in every])
            assert sum(y.buckets.points) == 1000 and not x.damaged
        assert isinstance(storage, Examinable)
        assert not [found for found in await storage.examine() if found.level == 'wrong']
        # From here on there are no points any more; what is left are summaries.
        with session(url) as server:
            if change == 'rewind':
                assert server.value('SELECT count(*) FROM chunks WHERE summary IS NULL') == 1
            server.execute(
                'UPDATE chunks SET "values" = NULL, steps = NULL WHERE summary IS NOT NULL'
            )
        found = await storage.read_overviews(variables, Grid.over('step', 0.0, 4096.0 * 8 - 1, 8))
        summaries = await storage.read_summaries(variables)
        x, y = (found[variable.id] for variable in variables[experiment.id])
        assert sum(x.buckets.points) == len(every) and not x.damaged
        whole = summaries[variables[experiment.id][0].id]
        assert not isinstance(whole, Damaged)
        assert whole.whole.points == len(every)
        assert whole.whole.greatest == max(p[2] for p in every)
    finally:
        await storage.close()


def test_the_engine_spans_all_series_or_the_part_that_is_wanted(whole: str) -> None:
    with opened(whole) as store:
        a, b = store.find('a'), store.find('b')
        variables = {a.id: store.variables(a, 'from 1'), b.id: store.variables(b)}
        found = store.call(overviews.overviews, variables, 'step', 10)
        assert found.grid.first == 1 and found.grid.last == 3 * CHUNK_POINTS + 100
        assert len(found.series) == 2
        part = store.call(overviews.overviews, variables, 'step', 10, 100.0, 131.0)
        assert (part.grid.first, part.grid.last) == (100, 131)
        assert sorted(sum(one.buckets.points) for one in part.series.values()) == [0, 32]
        nothing = store.call(overviews.overviews, variables, 'step', 10, 1e9)
        assert nothing.grid is None and not nothing.series
