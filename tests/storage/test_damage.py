"""What is damaged is told: it is never read as something else, and never ends in a crash."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neptune_async import Experiment, compare, fetch_metrics
from neptune_async._model.values import MAX_BYTES
from neptune_async._storage.chunks import CHUNK_POINTS, Chunk, unpacked
from neptune_async.exceptions import StorageError, StorageFormatError

SERIES = ('regular', 'irregular', 'noise', 'texts', 'times')
COLUMNS = [
    *(('chunks', column) for column in (
        'first', 'count', 'first_step', 'stride', 'largest_step', 'last_time', 'values_form',
        'steps_form', 'times_form', 'crc32', 'head_crc32', 'values', 'steps', 'times',
    )),
    *(('log', column) for column in ('form', 'count', 'crc32', 'points')),
]  # fmt: skip


def log_all(exp: Experiment, start: int, stop: int) -> None:
    for n in range(start, stop):
        exp['regular'].log(n * 1.5)
        exp['irregular'].log(n, step=n * n % 97 / 2)
        exp['noise'].log(n * 0.1 % 1.0)
        exp['texts'].log(f'text {n} ' * (n % 9))
        exp['times'].log(datetime.fromtimestamp(1.7e9 + n, timezone.utc))
    exp.flush()


def read_all(path: Path) -> dict[str, Any]:
    """Return all points of each series, or the error that reading it raises."""
    with Experiment('EXP', storage=path, mode='read') as exp:
        return or_errors(lambda series: exp[series].all(with_steps=True, with_timestamps=True))


def fetch_all(path: Path) -> dict[str, Any]:
    """Return the same, read as many series at a time are."""

    def fetched(series: str) -> list[tuple[Any, ...]]:
        content: Any = {'texts': 'str', 'times': 'datetime'}.get(series, 'float')
        frame = fetch_metrics('EXP', series, storage=path, content=content, duplicates='all')
        return [*frame[['step', 'timestamp', 'value']].itertuples(index=False, name=None)]

    return or_errors(fetched)


def read_last(path: Path) -> dict[str, Any]:
    """Return the last value of each series, or the error that reading it raises."""
    return or_errors(lambda series: compare('EXP', series, storage=path).loc['EXP', series])


def or_errors(read: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for series in SERIES:
        try:
            found[series] = read(series)
        except StorageError as error:
            found[series] = error
    return found


class Intact:
    """A store that nothing has happened to, and what is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points = read_all(path)


@pytest.fixture(scope='module')
def intact(tmp_path_factory: pytest.TempPathFactory) -> Intact:
    """A store with several chunks a series, and rows in its log."""
    path = tmp_path_factory.mktemp('intact') / 'experiments.db'
    for start in (0, 400, 600):
        with Experiment('EXP', storage=path) as exp:
            log_all(exp, start, start + 400 - start // 3)
    with Experiment('EXP', storage=path) as exp:
        log_all(exp, 800, 820)
        log_all(exp, 820, 830)
        copy = path.with_name('copy.db')
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    return Intact(copy)


@contextmanager
def damaged_copy(intact: Path, table: str, column: str, row: int, change: Any) -> Iterator[Path]:
    """Change one column of one row of a copy."""
    path = intact.with_name('damaged.db')
    path.write_bytes(intact.read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute(f'SELECT rowid, "{column}" FROM {table}').fetchall()
        row_id, value = rows[row % len(rows)]
        connection.execute(
            f'UPDATE OR IGNORE {table} SET "{column}" = ? WHERE rowid = ?', (change(value), row_id)
        )
    yield path


def flipped(raw: bytes, position: int, mask: int) -> bytes:
    at = position % len(raw)
    return raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]


@st.composite
def changes(draw: st.DrawFn) -> Any:
    """Return a function that damages a value of any type, but keeps what must not be NULL."""
    position, mask = draw(st.integers(0, 2**20)), draw(st.integers(1, 255))
    piece = draw(st.binary(min_size=1, max_size=20))
    kind = draw(st.sampled_from(['flip', 'cut', 'insert', 'other']))
    other = draw(
        st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 9000) | st.floats(allow_nan=False)
        | st.text() | st.binary()
        | st.sampled_from(['f8', 'f8+zlib', 'ulp', 'json', 'json+zlib'])
    )  # fmt: skip

    def change(value: Any) -> Any:
        if isinstance(value, bytes) and value and kind != 'other':
            at = position % len(value)
            if kind == 'flip':
                return flipped(value, position, mask)
            return value[:at] if kind == 'cut' else value[:at] + piece + value[at:]
        if isinstance(value, int) and kind == 'flip':
            return value ^ (1 << position % 62)
        return other

    return change


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(COLUMNS), st.integers(0, 1000), changes())
@example(('chunks', 'first'), 0, lambda first: -5)
@example(('chunks', 'first'), 1, lambda first: -5)
@example(('chunks', 'count'), 0, lambda count: 2**62)
@example(('chunks', 'stride'), 0, lambda stride: None)
@example(('chunks', 'stride'), 0, lambda stride: 0.5)
@example(('log', 'form'), 0, lambda form: 'f9')
@example(('log', 'points'), 0, lambda points: flipped(points, 0, 1))
@example(('log', 'count'), 0, lambda count: 0)
def test_a_row_that_was_changed_is_an_error_or_changes_nothing(
    intact: Intact, where: tuple[str, str], row: int, change: Any
) -> None:
    with damaged_copy(intact.path, *where, row, change) as damaged:
        found = read_all(damaged)
    for series, points in found.items():
        if isinstance(points, StorageError):
            assert isinstance(points, StorageFormatError), repr(points)
        else:
            assert repr(points) == repr(intact.points[series])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(COLUMNS), st.integers(0, 1000), changes())
def test_a_row_that_was_changed_is_no_other_row_of_a_table(
    intact: Intact, where: tuple[str, str], row: int, change: Any
) -> None:
    with damaged_copy(intact.path, *where, row, change) as damaged:
        fetched, last = fetch_all(damaged), read_last(damaged)
    for series, points in intact.points.items():
        assert isinstance(fetched[series], StorageFormatError) or fetched[series] == points
        assert isinstance(last[series], StorageFormatError) or last[series] == points[-1][2]


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 2**30), st.integers(1, 255)), min_size=1, max_size=20))
def test_bytes_that_were_flipped_anywhere_in_the_file_invent_nothing(
    intact: Intact, flips: list[tuple[int, int]]
) -> None:
    raw = intact.path.read_bytes()
    for position, mask in flips:
        raw = flipped(raw, position, mask)
    damaged = intact.path.with_name('flipped.db')
    damaged.write_bytes(raw)
    try:
        found = read_all(damaged)
    except (StorageError, LookupError):
        return
    for series, points in found.items():
        # Rows that SQLite does not find any more are missing, but what it finds is right.
        if not isinstance(points, StorageError):
            assert {repr(p[2]) for p in points} <= {repr(p[2]) for p in intact.points[series]}


def chunk(**columns: Any) -> Chunk:
    whole = Chunk(0, 2, 0.0, 1.0, 1.0, 2.0, 'f8', bytes(16), None, None, 'f8', bytes(16))
    return replace(whole, **columns)


@pytest.mark.parametrize('form', ['f8+zlib', 'json+zlib'])
def test_a_column_that_decompresses_without_end_is_refused_early(form: str) -> None:
    bomb = zlib.compressobj(1)
    megabytes = 2 + MAX_BYTES // 2**20
    parts = [bomb.compress(bytes(2**20)) for _ in range(megabytes)]
    stored = b''.join([*parts, bomb.flush()])
    with pytest.raises(ValueError, match='decompress'):
        unpacked(chunk(count=1, times=bytes(8), values_form=form, values=stored))


@pytest.mark.parametrize(
    'columns',
    [
        {'count': 0},
        {'count': -1},
        {'count': CHUNK_POINTS + 1},
        {'count': 2**62},
        {'stride': 0.5},
        {'first_step': float('nan')},
        {'first_step': float('inf')},
        {'first_step': 2.0**53},
        {'stride': None},
        {'values_form': 'f9'},
        {'values_form': ''},
        {'values_form': 'json', 'values': b'[1,2]'},
        {'values_form': 'json', 'values': b'["a",' + b'[' * 10_000},
        {'values_form': 'json', 'values': b'{"datetime":1}'},
        {'values_form': 'json', 'values': b'{"int":[]}'},
        {'times_form': 'ulp'},
        {'values': bytes(15)},
        {'values': b''},
    ],
)
def test_a_chunk_that_cannot_be_is_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='.'):
        unpacked(chunk(**columns))
