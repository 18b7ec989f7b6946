"""Windows: the points between two steps or two times, read without the others."""

from __future__ import annotations

import random
import tracemalloc
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from neptune_async._storage import samples
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.sqlite import series
from neptune_async.exceptions import (
    InvalidArgumentError,
    InvalidStepError,
    InvalidTimestampError,
)

pytestmark = pytest.mark.anyio

PATHS = ('auto', 'floats', 'back', 'mixed')
COUNT = 3 * CHUNK_POINTS + 50


def log_some(exp: Any, count: int) -> None:
    """Log series whose steps ascend, descend, or are in any order, with some more than once."""
    rng = random.Random(1)
    parts = 4
    for part in range(parts):
        some = range(count * part // parts, count * (part + 1) // parts)
        times = [1000.0 + n / 2 for n in some]
        exp['auto'].extend(map(float, some), timestamps=times)
        exp['floats'].extend(map(float, some), steps=[n / 64 for n in some], timestamps=times)
        exp['back'].extend(map(float, some), steps=[count - n for n in some], timestamps=times)
        exp['mixed'].extend(
            map(float, some),
            steps=[rng.randrange(count) for _ in some],
            timestamps=[1000 + rng.randrange(count) for _ in some],
        )
    exp['texts'].extend(map(str, range(100)), timestamps=range(1000, 1100))


def between(points: Any, window: dict[str, float]) -> Any:
    """Return the points that a window asks for, in the order in which they were logged."""
    for column, first, last in (
        ('step', 'first_step', 'last_step'), ('timestamp', 'first_time', 'last_time'),
    ):  # fmt: skip
        points = points[points[column] >= window.get(first, -np.inf)]
        points = points[points[column] <= window.get(last, np.inf)]
    return points


WINDOWS: list[dict[str, float]] = [
    {},
    {'first_step': 100, 'last_step': 120},
    {'first_step': 8191, 'last_step': 8193},
    {'last_step': 4.5},
    {'first_step': 1e9},
    {'first_time': 2000.25, 'last_time': 2017.5},
    {'first_time': 3000.0, 'last_time': 1e5, 'first_step': 50, 'last_step': 9000.5},
]


@pytest.mark.parametrize('search', ['of long series', 'of all'])
async def test_a_window_holds_the_points_between_its_bounds(
    face: Any, search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if search == 'of all':
        monkeypatch.setattr(series, '_SEARCHED', 0)
    async with face.open() as exp:
        log_some(exp, COUNT)
        await face.get(exp.flush)
    async with face.open() as exp:
        exp['auto'].extend([0.5, 0.25], timestamps=[2000.5, 5000.0])
        for path in PATHS:
            view = exp[path]
            every = await face.get(view.to_numpy)
            assert len(every) >= COUNT
            for window in WINDOWS:
                expected = between(every, window)
                found = await face.get(view.to_numpy, **window)
                assert found.tolist() == expected.tolist()
                frame = await face.get(view.to_pandas, **window)
                assert frame.reset_index().to_numpy().tolist() == [[*p] for p in expected.tolist()]
                table = await face.get(view.to_arrow, **window)
                assert table.to_pydict()['value'] == expected['value'].tolist()
        frame = await face.get(exp['texts'].to_pandas, first_step=97, last_time=1098.0)
        assert frame.value.tolist() == ['97', '98']
        fetched = await face.fetch_metrics('*', [*PATHS], first_time=2000.0, last_time=2100.0,
            duplicates='all')  # fmt: skip
        for path in PATHS:
            every = await face.get(exp[path].to_numpy)
            expected = between(every, {'first_time': 2000.0, 'last_time': 2100.0})
            own = fetched[fetched.path == path]
            assert own.value.tolist() == expected['value'].tolist()


async def test_max_points_of_a_window_loses_no_peak(face: Any) -> None:
    async with face.open() as exp:
        values = [float(n == 700) - float(n == 600) for n in range(1000)]
        exp['x'].extend(values)
        found = await face.get(exp['x'].to_numpy, first_step=500, last_step=899, max_points=10)
        assert len(found) <= 10
        assert (found['step'][0], found['step'][-1]) == (500, 899)
        assert {600, 700} <= {*found['step']}


async def test_few_points_of_a_long_series_are_those_of_all_its_points(
    face: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [*PATHS, 'noise']
    async with face.open() as exp:
        log_some(exp, COUNT)
        exp['noise'].extend(np.random.default_rng(1).normal(size=COUNT))
        await face.get(exp.flush)

    async def read(exp: Any) -> list[list[Any]]:
        found: list[list[Any]] = []
        for few in ({'max_points': 50}, {'max_points': 9, 'first_step': 90, 'last_step': 17_000}):
            for path in paths:
                points = (await face.get(exp[path].to_numpy, **few)).tolist()
                frame = await face.get(exp[path].to_pandas, **few)
                table = await face.get(exp[path].to_arrow, **few)
                assert len(points) <= few['max_points']
                assert frame.reset_index().to_numpy().tolist() == [[*point] for point in points]
                assert table['value'].to_pylist() == [point[2] for point in points]
                found.append(points)
            for which in ('first', 'last', 'all'):
                some = await face.fetch_metrics('*', paths, duplicates=which, **few)
                found.append(some.to_numpy().tolist())
        return found

    async with face.open() as exp:
        exp['noise'].extend([0.5, 100.0, 0.25])
        expected = await read(exp)
        monkeypatch.setattr(samples, '_SHORT', 0)
        assert await read(exp) == expected


async def test_times_may_be_datetimes(face: Any) -> None:
    async with face.open() as exp:
        noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
        exp['x'].extend([1.0, 2.0, 3.0], timestamps=[noon.timestamp() + n for n in (-1, 0, 1)])
        found = await face.get(exp['x'].to_numpy, first_time=noon)
        assert found['value'].tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        ({'first_step': 3, 'last_step': 2}, InvalidArgumentError),
        ({'first_time': 3, 'last_time': 2}, InvalidArgumentError),
        ({'first_step': 'a'}, InvalidStepError),
        ({'last_step': float('nan')}, InvalidStepError),
        ({'first_time': 'yesterday'}, InvalidTimestampError),
        ({'last_time': float('inf')}, InvalidTimestampError),
        ({'max_points': 0}, InvalidArgumentError),
        ({'max_points': 2.5}, InvalidArgumentError),
    ],
)
async def test_a_window_that_cannot_be_is_refused(
    face: Any, arguments: dict[str, Any], error: type[Exception]
) -> None:
    async with face.open() as exp:
        exp['x'].log(1.0)
        for method in (exp['x'].to_numpy, exp['x'].to_pandas, exp['x'].to_arrow):
            with pytest.raises(error):
                await face.get(method, **arguments)
        with pytest.raises(error):
            await face.fetch_metrics('*', 'x', **arguments)


@pytest.mark.parametrize('storage', ['sqlite'], indirect=True)
async def test_of_a_long_series_only_the_chunks_of_the_window_are_unpacked(
    face: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with face.open() as exp:
        log_some(exp, COUNT)
        await face.get(exp.flush)
    unpacked: list[int] = []
    unpack = series.unpack_chunk

    def noted(chunk: Any, *columns: bool) -> Any:
        unpacked.append(chunk.first)
        return unpack(chunk, *columns)

    monkeypatch.setattr(series, 'unpack_chunk', noted)
    async with face.open() as exp:
        for path in ('auto', 'floats', 'back'):
            every = await face.get(exp[path].to_numpy)
            assert len(unpacked) > 3
            unpacked.clear()
            step = float(every['step'][CHUNK_POINTS + 10])
            found = await face.get(exp[path].to_numpy, first_step=step, last_step=step)
            assert found['value'].tolist() == [CHUNK_POINTS + 10]
            assert len(unpacked) == 1
            unpacked.clear()
            await face.get(exp[path].to_numpy, first_time=1e6)
            assert unpacked == []


@pytest.mark.parametrize('storage', ['sqlite'], indirect=True)
async def test_a_whole_series_is_read_into_one_buffer(face: Any) -> None:
    count = 30 * CHUNK_POINTS
    async with face.open() as exp:
        exp['x'].extend(np.arange(float(count)), steps=range(1, count + 1))
        await face.get(exp.flush)
    async with face.open() as exp:
        exp['x'].log(-1.0, step=0)
        await face.get(exp['x'].to_numpy)
        tracemalloc.start()
        try:
            found = await face.get(exp['x'].to_numpy)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert found.dtype.names == ('step', 'timestamp', 'value')
    assert found['step'].dtype == 'int64' and found['step'][-1] == 0
    assert np.array_equal(found['value'][:-1], np.arange(float(count)))
    assert peak < 1.3 * found.nbytes


@pytest.mark.parametrize(
    ('steps', 'kind'),
    [
        ([0, 1, 2], 'int64'),
        ([5.0, -3.0, 5.0], 'int64'),
        ([0.5, 1, 2], 'float64'),
        ([-(2.0**53), 7, 2.0**53], 'int64'),
    ],
)
async def test_steps_of_an_array_are_integers_if_all_of_them_are(
    face: Any, steps: list[float], kind: str
) -> None:
    async with face.open() as exp:
        exp['x'].extend([1.0, 2.0, 3.0], steps=steps)
        found = await face.get(exp['x'].to_numpy)
        assert (found['step'].dtype, found['step'].tolist()) == (kind, steps)
        empty = await face.get(exp['x'].to_numpy, first_step=2**53 - 1, last_step=2**53 - 1)
        assert len(empty) == 0
