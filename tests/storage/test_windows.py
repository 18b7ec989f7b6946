"""Windows of long series: few chunks are looked at, and no damage makes points go missing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from neptune_async import Experiment
from neptune_async._storage.base import Span
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.sqlite import series, windows
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.opening import connected
from neptune_async._storage.sqlite.windows import Skipped, chunks_within
from neptune_async.exceptions import StorageFormatError

CHUNKS = 20
COUNT = CHUNKS * CHUNK_POINTS
MIDDLE = COUNT // 2 + 100


@pytest.fixture(scope='module')
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of series of 20 chunks."""
    path = tmp_path_factory.mktemp('long') / 'experiments.db'
    numbers = [float(n) for n in range(COUNT)]
    with Experiment('a', storage=path) as exp:
        exp['by step'].extend(numbers, timestamps=[1e9 + n % 3 for n in range(COUNT)])
        exp['by time'].extend(
            numbers, steps=[n ^ 1 for n in range(COUNT)], timestamps=[1e9 + n for n in range(COUNT)]
        )
        exp['equal'].extend(numbers, steps=[n // 20_000 for n in range(COUNT)])
        exp['none'].extend(
            numbers, steps=[-n for n in range(COUNT)], timestamps=[2e9 - n for n in range(COUNT)]
        )
    for start in range(0, COUNT, CHUNK_POINTS):
        with Experiment('a', storage=path) as exp:  # packed when it ends, each with a stride of 0
            some = numbers[start : start + CHUNK_POINTS]
            exp['one step a chunk'].extend(some, steps=[start] * CHUNK_POINTS)
    return path


@pytest.fixture
def connection(long: Path) -> Iterator[StoreConnection]:
    with closing(connected(str(long), writable=False)) as opened:
        yield opened


def id_of(connection: sqlite3.Connection, path: str) -> int:
    ((found,),) = connection.execute('SELECT id FROM variables WHERE path = ?', [path]).fetchall()
    return int(found)


def numbers(points: Any) -> list[float]:
    return [float(value) for value in points['value']]


@pytest.mark.parametrize(
    ('path', 'span', 'expected'),
    [
        ('by step', Span(MIDDLE, MIDDLE + 9), [(10, 11)]),
        ('by step', Span(MIDDLE, MIDDLE + 9, 1e9, 1e9 + 1), [(10, 11)]),
        ('by step', Span(8 * CHUNK_POINTS - 1, 9 * CHUNK_POINTS), [(7, 10)]),
        ('by step', Span(0, 0), [(0, 1)]),
        ('by step', Span(last_step=CHUNK_POINTS), [(0, 2)]),
        ('by step', Span(first_step=COUNT - 1), [(19, 20)]),
        ('by step', Span(first_step=COUNT), []),
        ('by step', Span(last_step=-1), []),
        ('by step', Span(8 * CHUNK_POINTS - 0.5, 8 * CHUNK_POINTS - 0.25), []),
        ('by time', Span(first_time=1e9 + MIDDLE, last_time=1e9 + MIDDLE), [(10, 11)]),
        ('by time', Span(MIDDLE, MIDDLE, 1e9 + MIDDLE, 1e9 + MIDDLE + 9), [(10, 11)]),
        ('by time', Span(0, 0, 1e9 + MIDDLE, 1e9 + COUNT), []),
        ('equal', Span(1, 1), [(2, 5)]),
        ('one step a chunk', Span(CHUNK_POINTS, 3 * CHUNK_POINTS - 1), [(1, 3)]),
    ],
)
def test_the_chunks_of_a_window_are_found(
    connection: StoreConnection, path: str, span: Span, expected: Sequence[tuple[int, int]]
) -> None:
    found = chunks_within(connection, id_of(connection, path), span)
    assert found is not None
    position = 0
    wanted = []
    for first, chunk in found:
        assert first == position
        position += chunk.count
        if not isinstance(chunk, Skipped):
            wanted.append(first // CHUNK_POINTS)
    assert position == COUNT
    assert wanted == [number for start, stop in expected for number in range(start, stop)]


@pytest.mark.parametrize(
    ('path', 'span'),
    [
        ('by step', Span(first_time=1e9)),
        ('by time', Span(MIDDLE, MIDDLE)),
        ('none', Span(-MIDDLE, -MIDDLE, 1e9, 2e9)),
    ],
)
def test_nothing_is_told_of_what_is_in_no_order(
    connection: StoreConnection, path: str, span: Span
) -> None:
    assert chunks_within(connection, id_of(connection, path), span) is None


def test_few_chunks_are_looked_at(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    holding = windows._holding

    def noted(connection: Any, variable_id: int, position: int, *columns: str) -> Any:
        looked.append(position)
        return holding(connection, variable_id, position, *columns)

    monkeypatch.setattr(windows, '_holding', noted)
    with Experiment('a', storage=long, mode='read') as exp:
        found = exp['by step'].to_numpy(first_step=MIDDLE, last_step=MIDDLE + 9)
        assert numbers(found) == [*range(MIDDLE, MIDDLE + 10)]
        assert 0 < len(looked) <= 8
        looked.clear()
        found = exp['none'].to_numpy(first_step=-MIDDLE, last_step=-MIDDLE)
        assert numbers(found) == [MIDDLE]
        assert looked == []


@pytest.fixture
def hurt(long: Path, tmp_path: Path) -> Callable[[str, int], Path]:
    """Return a function that makes a copy in which a chunk was changed, by its number."""

    def change(statement: str, number: int) -> Path:
        path = tmp_path / 'hurt.db'
        path.write_bytes(long.read_bytes())
        with closing(sqlite3.connect(path)) as writer, writer:
            where = 'WHERE variable_id = ? AND first = ?'
            done = writer.execute(
                f'{statement} {where}', [id_of(writer, 'by step'), number * CHUNK_POINTS]
            )
            assert done.rowcount == 1
        return path

    return change


DAMAGES = [
    *(
        f'UPDATE chunks SET {column} = {column} + {by}'
        for column in ('least_step', 'greatest_step', 'largest_step', 'least_time', 'count')
        for by in (-1e6, 1e6)
    ),
    'UPDATE chunks SET first = first + 1',
    'UPDATE chunks SET head_crc32 = head_crc32 + 1',
    'UPDATE chunks SET "values" = zeroblob(9)',
    'DELETE FROM chunks',
]


@pytest.mark.parametrize('number', [10, 11])
@pytest.mark.parametrize('statement', DAMAGES)
def test_a_window_of_a_damaged_chunk_is_an_error(
    hurt: Callable[[str, int], Path], statement: str, number: int
) -> None:
    path = hurt(statement, number)
    first = 11 * CHUNK_POINTS - 5
    with (
        Experiment('a', storage=path, mode='read') as exp,
        pytest.raises(StorageFormatError),
    ):
        exp['by step'].to_numpy(first_step=first, last_step=first + 9)


@pytest.mark.parametrize('number', [0, 5, 12, 15, 18])
@pytest.mark.parametrize('statement', DAMAGES)
def test_a_window_beside_a_damaged_chunk_is_whole_or_an_error(
    hurt: Callable[[str, int], Path], statement: str, number: int
) -> None:
    path = hurt(statement, number)
    first = 11 * CHUNK_POINTS - 5
    with Experiment('a', storage=path, mode='read') as exp:
        try:
            found = exp['by step'].to_numpy(first_step=first, last_step=first + 9)
        except StorageFormatError:
            return
        assert numbers(found) == [*range(first, first + 10)]


def test_a_chunk_far_from_a_window_may_be_damaged(hurt: Callable[[str, int], Path]) -> None:
    path = hurt('UPDATE chunks SET head_crc32 = 0', 17)
    with Experiment('a', storage=path, mode='read') as exp:
        found = exp['by step'].to_numpy(first_step=MIDDLE, last_step=MIDDLE + 9)
        assert numbers(found) == [*range(MIDDLE, MIDDLE + 10)]
        with pytest.raises(StorageFormatError):
            exp['by step'].to_numpy()


def test_a_series_that_runs_back_is_in_no_order_from_there_on(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    count = 20 * CHUNK_POINTS
    with Experiment('a', storage=path) as exp:
        exp['x'].extend([0.0] * count, timestamps=range(count))
        exp['x'].log(7.0, step=5, timestamp=5.0)
        exp.flush()
        exp['x'].extend([1.0] * count, steps=range(count, 2 * count), timestamps=range(count))
        exp['x'].extend([2.0], steps=[-3], timestamps=[1e6])
    with Experiment('a', storage=path, mode='read') as exp:
        assert numbers(exp['x'].to_numpy(first_step=5, last_step=5)) == [0, 7]
        assert numbers(exp['x'].to_numpy(last_step=-1)) == [2]
        assert numbers(exp['x'].to_numpy(first_time=5, last_time=5)) == [0, 7, 1]
        assert len(exp['x'].to_numpy(first_step=count + 5)) == count - 5
    with Experiment('a', storage=path) as exp:
        exp.rewind(3)
    with Experiment('a', storage=path, mode='read') as exp:
        assert numbers(exp['x'].to_numpy(first_step=3)) == [0]
        assert numbers(exp['x'].to_numpy(first_time=10)) == [2]
        assert numbers(exp['x'].to_numpy(last_step=0)) == [0, 2]


def test_a_short_series_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'experiments.db'
    with Experiment('a', storage=path) as exp:
        exp['x'].extend([float(n) for n in range(2 * CHUNK_POINTS)])
    called: list[int] = []
    monkeypatch.setattr(series, 'chunks_within', lambda *_: called.append(1))
    with Experiment('a', storage=path, mode='read') as exp:
        assert numbers(exp['x'].to_numpy(first_step=9000, last_step=9001)) == [9000, 9001]
    assert called == []
