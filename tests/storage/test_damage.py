"""What is damaged is told: it is never read as something else, and never ends in a crash."""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from postgres_server import session

from neptune_async import Experiment, compare, fetch_metrics
from neptune_async._engine.store import opened
from neptune_async._model.values import MAX_BYTES
from neptune_async._storage import registry
from neptune_async._storage.base import Examinable
from neptune_async._storage.chunks import CHUNK_POINTS, Chunk, head_checksum, packed, unpacked
from neptune_async._storage.points import Points, SeriesEnd, Stride
from neptune_async._storage.sqlite.reading import TAIL_COLUMNS
from neptune_async.exceptions import StorageError, StorageFormatError

SERIES = ('regular', 'irregular', 'noise', 'texts', 'times')
COLUMNS = [
    *(('chunks', column) for column in (
        'first', 'count', 'first_step', 'stride', 'largest_step', 'last_time', 'values_form',
        'steps_form', 'times_form', 'crc32', 'head_crc32', 'values', 'steps', 'times',
        'least_step', 'greatest_step', 'least_time', 'greatest_time', 'summary_crc32',
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


def examined(path: Path) -> str:
    """Return what doctor finds."""

    async def examine(storage: Any) -> list[str]:
        assert isinstance(storage, Examinable)
        return [finding.what for finding in await storage.examine()]

    with opened(path) as store:
        return '\n'.join(store.ask(examine))


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
    points = Points(Stride(0.0, 1.0, 2), array('d', [1.0, 2.0]), array('d', [0.0, 0.0]))
    whole = packed(points, SeriesEnd())
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


# ── What is damaged takes no neighbour along ─────────────────────────────────

TWO = 2 * CHUNK_POINTS
WHOLE = [float(n) for n in range(TWO + 100)]
MIDDLE = f'points {CHUNK_POINTS:,} to {TWO - 1:,}'


def fill(url: str) -> None:
    """Log series in three chunks, two of which are full, to one of two experiments."""
    for start, stop in ((0, CHUNK_POINTS), (CHUNK_POINTS, TWO), (TWO, TWO + 100)):
        with Experiment('hurt', storage=url) as exp:
            exp['x'].extend(WHOLE[start:stop])
            exp['texts'].extend([f'text {n}' for n in range(start, stop)])
            exp['whole'].extend(WHOLE[start:stop])
    with Experiment('sound', storage=url) as exp:
        exp['x'].extend([1.0, 2.0])


DAMAGES = {
    'sqlite': """UPDATE chunks SET "values" = x'00' WHERE first = {first} AND variable_id IN
        (SELECT id FROM variables WHERE path = 'x' AND experiment_id = 1)""",
    'postgresql': """UPDATE chunks SET "values" = "values"[2:]
        WHERE first = {first} AND variable_id IN
        (SELECT id FROM variables WHERE path = 'x') AND experiment_id IN
        (SELECT id FROM experiments WHERE name = 'hurt')""",
}


def damage(url: str, first: int) -> None:
    """Damage the chunk of a series that begins at a point."""
    kind = url.partition('://')[0]
    statement = DAMAGES[kind].format(first=first)
    if kind == 'postgresql':
        with session(url) as asked:
            asked.execute(statement)
    else:
        execute(url, statement)


def execute(url: str, statement: str) -> None:
    with closing(sqlite3.connect(url.removeprefix('sqlite://'))) as connection, connection:
        assert connection.execute(statement).rowcount == 1


@pytest.fixture
def hurt(url: str) -> str:
    """A store in which the middle one of three chunks of a series is damaged."""
    fill(url)
    damage(url, CHUNK_POINTS)
    return url


@contextmanager
def reading(url: str) -> Iterator[Experiment]:
    with Experiment('hurt', storage=url, mode='read') as exp:
        yield exp


@pytest.mark.parametrize('read', ['all', 'to_numpy', 'to_pandas', 'to_arrow'])
def test_all_of_a_series_tells_which_points_are_damaged_and_how_to_read_the_others(
    hurt: str, read: str
) -> None:
    with reading(hurt) as exp, pytest.raises(StorageFormatError) as raised:
        getattr(exp['x'], read)()
    told = str(raised.value)
    assert "experiment 'hurt' in " in told and f"{MIDDLE} of 'x'" in told
    assert f'{CHUNK_POINTS:,} points before and 100 behind can be' in told
    assert 'tail(100) returns the last' in told and 'neptune-async export hurt' in told
    assert 'tail -n 100' in str(raised.value.on_command_line)


def test_no_tail_is_advised_where_the_last_points_are_damaged(tmp_path: Path) -> None:
    url = registry.resolve(tmp_path / 'experiments.db')
    fill(url)
    damage(url, TWO)
    with reading(url) as exp, pytest.raises(StorageFormatError) as raised:
        exp['x'].all()
    told = str(raised.value)
    assert f'{TWO:,} points before and 0 behind can be; neptune-async export hurt' in told


def test_what_needs_no_damaged_point_is_read(hurt: str) -> None:
    with reading(hurt) as exp:
        view = exp['x']
        assert view.tail(1, with_steps=True) == [(TWO + 99, TWO + 99.0)]
        assert view.tail(100) == WHOLE[TWO:]
        assert exp['whole'].all() == WHOLE
        assert exp.to_dict()['x'] == TWO + 99
        with pytest.raises(StorageFormatError, match="16,383 of 'x' cannot be read"):
            view.tail(101)


def test_a_follow_goes_on_behind_what_is_damaged_and_yields_all_before_it(hurt: str) -> None:
    with reading(hurt) as exp:
        for last in (99, 100):
            points = exp['x'].follow(last, timeout=0)
            assert [point.value for point in points] == WHOLE[-last:]
        with pytest.raises(StorageFormatError, match="16,383 of 'x' cannot be read"):
            next(exp['x'].follow(101, timeout=0))
        found: list[Any] = []
        with pytest.raises(StorageFormatError, match=MIDDLE):
            found.extend(point.value for point in exp['x'].follow(timeout=0))
        assert found == WHOLE[:CHUNK_POINTS]


def test_a_follow_goes_on_where_what_it_has_seen_is_damaged_since(url: str) -> None:
    fill(url)
    with Experiment('hurt', storage=url) as exp, reading(url) as seen:
        points = seen['x'].follow(timeout=10.0)
        assert [next(points).value for _ in WHOLE] == WHOLE
        damage(url, TWO)
        exp['x'].log(-1.0)
        exp.flush()
        assert next(points).value == -1.0


@pytest.mark.parametrize('first', [0, CHUNK_POINTS, TWO])
def test_a_damaged_series_keeps_no_other_from_being_fetched(url: str, first: int) -> None:
    fill(url)
    damage(url, first)
    assert len(fetch_metrics('*', 'whole', storage=url)) == len(WHOLE)
    assert len(fetch_metrics('sound', 'x', storage=url)) == 2
    with pytest.raises(StorageFormatError, match="'hurt' in .*points .* of 'x' cannot be read"):
        fetch_metrics('*', 'x', storage=url)


def test_a_comparison_needs_the_last_points_alone(hurt: str) -> None:
    assert compare('*', 'x', storage=hurt)['x'].to_dict() == {'hurt': TWO + 99.0, 'sound': 2.0}


def test_a_last_point_that_is_damaged_is_told_of_its_series(tmp_path: Path) -> None:
    url = registry.resolve(tmp_path / 'experiments.db')
    fill(url)
    damage(url, TWO)
    # The summary of the chunk has the last point, too.
    execute(
        url,
        f"""UPDATE chunks SET summary = x'00' WHERE first = {TWO} AND variable_id IN
        (SELECT id FROM variables WHERE path = 'x' AND experiment_id = 1)""",
    )
    with pytest.raises(StorageFormatError, match="'hurt' in .*the last point of 'x'"):
        compare('*', 'x', storage=url)
    assert compare('*', 'whole', storage=url)['whole'].to_dict()['hurt'] == TWO + 99
    with reading(url) as exp:
        shown = exp._repr_html_()
    assert '<i>damaged</i>' in shown and f'>{TWO + 99}<' in shown


def test_a_text_that_cannot_be_decoded_takes_no_other_along(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = request.getfixturevalue('postgres').url()
    with Experiment('hurt', storage=url) as exp:
        exp['texts'].extend(['a', 'nul \0', 'c'])
    with session(url) as asked:
        asked.execute("UPDATE chunks SET encoded[2] = '{'")
    with reading(url) as exp:
        assert exp['texts'].tail(1) == ['c']
        with pytest.raises(StorageFormatError, match="point 1 of 'texts'.*1 points before and 1"):
            exp['texts'].all()


@pytest.mark.parametrize('column', ['count', 'largest_step', 'head_crc32', 'first'])
def test_a_chunk_that_does_not_tell_where_it_is_takes_no_other_along(
    tmp_path: Path, column: str
) -> None:
    path = tmp_path / 'experiments.db'
    fill(str(path))
    for first, told in ((CHUNK_POINTS, MIDDLE), (TWO, f'{MIDDLE}|points from')):
        execute(
            str(path),
            f'UPDATE chunks SET {column} = {column} + 1 WHERE first = {first} AND '
            "variable_id = (SELECT id FROM variables WHERE path = 'x' AND experiment_id = 1)",
        )
        with reading(str(path)) as exp:
            if first == CHUNK_POINTS:
                assert exp['x'].tail(100, with_steps=True) == [*enumerate(WHOLE[TWO:], TWO)]
            with pytest.raises(StorageFormatError, match=told):
                exp['x'].all()
            with pytest.raises(StorageFormatError, match=told):
                fetch_metrics('hurt', 'x', storage=path)
            assert exp['whole'].all() == WHOLE


def with_a_log(path: Path) -> None:
    """Make a store with three rows in its log, and damage the one in the middle."""
    with Experiment('sound', storage=path) as exp:
        exp['x'].log(1.0)
    with Experiment('hurt', storage=path) as exp:
        for n in range(3):
            exp['given'].log(n, step=n)
            exp['counted'].log(n)
            exp['texts'].log(f'text {n}', step=n)
            exp.flush()
        copy = path.with_name('copy.db')
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    copy.replace(path)
    rows = "(SELECT id FROM log WHERE form = 'f8' ORDER BY id LIMIT 1 OFFSET 1)"
    execute(str(path), f'UPDATE log SET crc32 = crc32 + 1 WHERE id = {rows}')


def test_a_damaged_row_of_the_log_takes_no_other_along(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    with_a_log(path)
    with reading(str(path)) as exp:
        assert exp['given'].tail(1, with_steps=True) == [(2, 2.0)]
        assert exp['texts'].tail(2, with_steps=True)[1:] == [(2, 'text 2')]
        assert exp['counted'].tail(1) == [2.0]
        # Nobody knows how many came before it.
        with pytest.raises(StorageFormatError, match='points from 1 on.*row . of the log'):
            exp['counted'].tail(1, with_steps=True)
        for series in ('given', 'counted'):
            with pytest.raises(StorageFormatError, match='points from 1 on.*1 points before and'):
                exp[series].all()
    assert len(fetch_metrics('sound', 'x', storage=path)) == 1
    assert compare('sound', 'x', storage=path)['x'].to_dict() == {'sound': 1.0}


def test_a_block_that_is_damaged_takes_no_other_along(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    with Experiment('hurt', storage=path) as exp:
        exp['x'].extend([float(n) for n in range(20 * CHUNK_POINTS)])
        exp['y'].extend([1.0, 2.0])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        (size,) = connection.execute('PRAGMA page_size').fetchone()
        blocks = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'chunks' AND pagetype = 'leaf' ORDER BY path"
        ).fetchall()
    with path.open('r+b') as file:
        file.seek((blocks[len(blocks) // 2][0] - 1) * size)
        file.write(bytes(64))
    with reading(str(path)) as exp:
        assert exp['x'].tail(2) == [20.0 * CHUNK_POINTS - 2, 20.0 * CHUNK_POINTS - 1]
        with pytest.raises(StorageFormatError, match='points .* malformed.*points before and'):
            exp['x'].all()
        assert exp['y'].all() == [1.0, 2.0]


def test_doctor_names_the_rows_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    fill(str(path))
    damage(registry.resolve(path), CHUNK_POINTS)
    told = examined(path)
    assert 'x of hurt: the chunk of variable ' in told
    assert f'at point {CHUNK_POINTS} is damaged' in told


@pytest.mark.parametrize('whose', ['regular', 'irregular', 'texts'])
def test_doctor_holds_summaries_against_the_points(intact: Intact, whose: str) -> None:
    def with_summary(path: Path, change: Callable[[bytes], bytes], is_signed: bool) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            row = connection.execute(
                f'SELECT chunks.rowid, variable_id, {TAIL_COLUMNS} FROM chunks '
                'WHERE variable_id = (SELECT id FROM variables WHERE path = ?)', (whose,),
            ).fetchone()  # fmt: skip
            row_id, variable_id, *head, _, summary = row
            summary = change(summary)
            if is_signed:
                head[-2] = zlib.crc32(summary)
            checksum = head_checksum(variable_id, head)
            connection.execute(
                'UPDATE chunks SET summary = ?, summary_crc32 = ?, head_crc32 = ? '
                'WHERE rowid = ?', (summary, head[-2], checksum, row_id),
            )  # fmt: skip

    assert 'chunks and' in examined(intact.path)
    # Where the values are no floats, some fields hold a NaN, of which any bit may differ.
    for place in (-1, 12, 20) if whose == 'texts' else (-1, 5, 12, 20, 40, 120):
        for is_signed in (False, True):
            path = intact.path.with_name('summary.db')
            path.write_bytes(intact.path.read_bytes())
            with_summary(path, lambda raw, at=place: flipped(raw, at, 16), is_signed)  # type: ignore[misc]
            told = examined(path)
            assert f'{whose} of EXP: the chunk of variable ' in told
            assert ('its summary is not that of its points' in told) or not is_signed
            # The points themselves are whole.
            assert repr(read_all(path)) == repr(intact.points)
