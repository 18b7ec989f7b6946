"""Any one bit of a store is flipped: what is read is true, or an error that says what is damaged.

Each row has its checksum. How many members a set has, and how many points of a series are in
chunks, is kept, too, so that none is missed; and there are two indexes of the paths of variables
that say the same: what one does not lead to any more, the other does.

Rows of the log, which become chunks soon, are not counted: that would be a page more to write with
each commit.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neptune_async import Experiment, compare, delete_experiment, fetch_metrics, list_experiments
from neptune_async._engine.store import opened
from neptune_async._storage import samples
from neptune_async._storage.base import Examinable
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.findings import Finding
from neptune_async._storage.overviews import Grid
from neptune_async._storage.sqlite import series
from neptune_async.exceptions import (
    ExperimentNotFoundError,
    StorageError,
    StorageFormatError,
    VariableNotFoundError,
)

ATOMS = {
    'bool': True, 'int': 7, 'large': 2**80, 'float': 0.5, 'str': 'a text', 'none': None,
    'datetime': datetime(2024, 5, 6, tzinfo=timezone.utc), 'list': [1, 'a', [2.5]],
}  # fmt: skip
NAMES = ('first', 'second', 'third')


Readings: TypeAlias = Iterator[tuple[str, Any]]


class Intact:
    """A store in one file, and what is read of it."""

    def __init__(self, path: Path, read: Callable[[Path], Readings]) -> None:
        self.path = path
        self.raw = path.read_bytes()
        self.read = read
        self.truth = dict(read(path))

    def flipped(self, bit: int) -> Path:
        """Return a copy in which one bit is another."""
        raw = bytearray(self.raw)
        raw[bit // 8] ^= 1 << bit % 8
        copy = self.path.with_name('flipped.db')
        copy.write_bytes(raw)
        return copy

    def row_with(self, text: bytes) -> range:
        """Return the bits of the last row in the file that holds a text, and of its header."""
        at = self.raw.rindex(text)
        return range(8 * (at - 24), 8 * (at + len(text) + 16))

    def rows_with(self, text: bytes, name: str) -> Iterator[int]:
        """Yield the same of all rows of a table, or of an index."""
        with closing(sqlite3.connect(self.path)) as connection:
            pages = connection.execute('SELECT pgoffset FROM dbstat WHERE name = ?', [name])
            starts = [start for (start,) in pages]
        for start in starts:
            at = self.raw.find(text, start, start + PAGE)
            while at != -1:
                yield from range(8 * (at - 14), 8 * (at + len(text) + 8))
                at = self.raw.find(text, at + 1, start + PAGE)


def make(path: Path) -> None:
    for name in NAMES:
        with Experiment(name, storage=path) as exp:
            exp['atoms'].assign(ATOMS)
            exp['tags'].add('member', 'b', 'c')
            exp['loss'].extend([0.5, 0.25, 0.125])
            exp['notes'].extend(['a', 'b'])


@pytest.fixture(scope='module')
def intact(tmp_path_factory: pytest.TempPathFactory) -> Intact:
    folder = tmp_path_factory.mktemp('intact')
    make(folder / 'made.db')
    with closing(sqlite3.connect(folder / 'made.db')) as connection:
        connection.execute('VACUUM INTO ?', (str(folder / 'experiments.db'),))
    return Intact(folder / 'experiments.db', readings)


def read(what: str, how: Callable[[], Any]) -> Readings:
    with suppress(StorageError, ExperimentNotFoundError, VariableNotFoundError):
        yield what, how()


def readings(path: Path) -> Readings:
    """Yield what each way of reading finds, but for errors that may be."""
    yield from read('names', lambda: list_experiments(path))
    yield from read('compared', lambda: compared(path))
    yield from read('fetched', lambda: fetch_metrics('*', 'loss', storage=path).values.tolist())
    with (
        suppress(StorageError, ExperimentNotFoundError),
        Experiment('second', storage=path, mode='read') as exp,
    ):
        yield from read('dict', exp.to_dict)
        yield from read('namespace', exp['atoms'].namespace_contents)
        yield from read('set', exp['tags'].get)
        yield from read('series', exp['loss'].all)
        for name in ATOMS:
            yield from read(name, exp[f'atoms/{name}'].read)


def compared(path: Path) -> dict[str, Any]:
    table = compare(storage=path)

    def is_there(value: Any) -> bool:
        return isinstance(value, (list, set)) or bool(pd.notna(value))

    return {
        name: {path: value for path, value in row.items() if is_there(value)}
        for name, row in table.iterrows()
    }


def examined(path: Path) -> list[Finding]:
    async def examine(storage: Any) -> list[Finding]:
        assert isinstance(storage, Examinable)
        return await storage.examine()

    with opened(path) as store:
        return store.ask(examine)


def require_true(intact: Intact, bit: int) -> None:
    for what, found in intact.read(intact.flipped(bit)):
        assert found == intact.truth[what], what


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
@pytest.mark.failure('F60', 'any one bit of a store is flipped')
def test_any_bit_that_is_flipped_invents_nothing(intact: Intact, data: st.DataObject) -> None:
    used = [at for at, byte in enumerate(intact.raw) if byte]
    require_true(intact, 8 * data.draw(st.sampled_from(used)) + data.draw(st.integers(0, 7)))


@pytest.mark.failure('F60', 'each bit of a row is flipped')
@pytest.mark.parametrize('text', [b'"a text"', b'atoms/str', b'second', b'"member"'])
def test_each_bit_of_a_row_that_is_flipped_invents_nothing(intact: Intact, text: bytes) -> None:
    for bit in intact.row_with(text):
        require_true(intact, bit)


@pytest.mark.failure('F60', 'each bit that leads to a variable is flipped')
@pytest.mark.parametrize('index', ['sqlite_autoindex_variables_1', 'variables_again'])
def test_each_bit_that_leads_to_a_variable_hides_none(intact: Intact, index: str) -> None:
    bits = [*intact.rows_with(b'atoms/str', index)]
    assert len(bits) >= len(NAMES) * 8 * len('atoms/str')
    for bit in bits:
        require_true(intact, bit)


@pytest.mark.failure('F60', 'each bit of the keys of a chunk is flipped')
def test_each_bit_of_the_keys_of_a_chunk_that_is_flipped_invents_nothing(intact: Intact) -> None:
    with closing(sqlite3.connect(intact.path)) as connection:
        ((variable_id,),) = connection.execute(
            'SELECT v.id FROM variables AS v JOIN experiments AS e ON e.id = experiment_id '
            "WHERE path = 'loss' AND name = 'second'"
        )
    key = variable_id.to_bytes(8, 'big').lstrip(b'\0')
    bits = [*intact.rows_with(key, 'chunks')]
    assert bits
    for bit in bits:
        require_true(intact, bit)


LONG = 5 * CHUNK_POINTS
LAST_TIMES = [struct.pack('>d', 1e9 + n - 0.5) for n in range(CHUNK_POINTS, LONG + 1, CHUNK_POINTS)]
"""The last timestamps of the chunks, as their rows have them."""
PAGE = 4096


@pytest.fixture(scope='module')
def long(tmp_path_factory: pytest.TempPathFactory) -> Intact:
    folder = tmp_path_factory.mktemp('long')
    with Experiment('a', storage=folder / 'made.db') as exp:
        exp['x'].extend(map(float, range(LONG)), timestamps=[1e9 + n + 0.5 for n in range(LONG)])
    with closing(sqlite3.connect(folder / 'made.db')) as connection:
        connection.execute('VACUUM INTO ?', (str(folder / 'experiments.db'),))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(series, '_SEARCHED', 0)
        patched.setattr(samples, '_SHORT', 0)
        return Intact(folder / 'experiments.db', windows)


def windows(path: Path) -> Readings:
    """Yield what windows of a long series hold."""
    with (
        suppress(StorageError, ExperimentNotFoundError),
        Experiment('a', storage=path, mode='read') as exp,
    ):
        for first in (0, 2 * CHUNK_POINTS - 2, LONG - 4):
            for axis, zero in (('step', 0.0), ('time', 1e9 + 0.5)):
                bounds = {f'first_{axis}': zero + first, f'last_{axis}': zero + first + 3}
                yield from read(f'{axis} {first}', partial(listed, exp['x'], **bounds))
        yield from read('few', partial(listed, exp['x'], max_points=8))


def listed(view: Any, **bounds: float) -> list[Any]:
    points: list[Any] = view.to_numpy(**bounds).tolist()
    return points


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.failure('F60', 'any one bit that leads to a chunk is flipped')
def test_any_bit_that_is_flipped_leaves_windows_whole(
    long: Intact, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, '_SEARCHED', 0)
    monkeypatch.setattr(samples, '_SHORT', 0)
    # The pages of trees; in those that go on with a long row there are only points.
    pages = range(0, len(long.raw), PAGE)
    trees = [page for page in pages if page == 0 or long.raw[page] in (2, 5, 10, 13)]
    used = [at for page in trees for at in range(page, page + PAGE) if long.raw[at]]
    heads = [at + beside for at in map(long.raw.index, LAST_TIMES) for beside in range(-64, 64)]
    place = data.draw(st.sampled_from(heads) | st.sampled_from(used))
    bit = 8 * place + data.draw(st.integers(0, 7))
    require_true(long, bit)


DAMAGES = {
    'experiments': "UPDATE experiments SET name = 'sekond' WHERE name = 'second'",
    'epoch': "UPDATE experiments SET epoch = 9 WHERE name = 'second'",
    'variables': "UPDATE variables SET container = 'atmm' WHERE path = 'atoms/str' "
                 "AND experiment_id = 2",
    'atoms': "UPDATE atoms SET value = CAST('\"b text\"' AS BLOB) WHERE variable_id = (SELECT id "
             "FROM variables WHERE path = 'atoms/str' AND experiment_id = 2)",
    'members': "UPDATE members SET member = CAST('\"d\"' AS BLOB) "
               "WHERE member = CAST('\"c\"' AS BLOB) AND variable_id = (SELECT id "
               "FROM variables WHERE path = 'tags' AND experiment_id = 2)",
}  # fmt: skip


@pytest.fixture
def hurt(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / 'experiments.db'
    make(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(DAMAGES[request.param]).rowcount == 1
    return path


@pytest.mark.parametrize('hurt', DAMAGES, indirect=True)
def test_doctor_names_each_row_that_is_damaged(hurt: Path) -> None:
    told = [finding.what for finding in examined(hurt) if finding.level == 'wrong']
    assert len(told) == 1 and 'is damaged: its checksum differs' in told[0]


@pytest.mark.parametrize('hurt', ['atoms', 'members'], indirect=True)
def test_a_value_that_is_damaged_takes_no_other_along(hurt: Path) -> None:
    with Experiment('second', storage=hurt, mode='read') as exp:
        assert exp['atoms/int'].read() == 7
        with pytest.raises(StorageFormatError, match='is damaged: its checksum differs'):
            exp.to_dict()
    assert compare(paths='atoms/int', storage=hurt)['atoms/int'].tolist() == [7, 7, 7]
    assert set(compare('first', storage=hurt).loc['first', 'tags']) == {'member', 'b', 'c'}


@pytest.mark.parametrize('hurt', ['variables'], indirect=True)
def test_a_variable_that_is_damaged_keeps_others_from_nothing_but_a_list(hurt: Path) -> None:
    with Experiment('second', storage=hurt, mode='read') as exp:
        assert exp['atoms/int'].read() == 7
        for read in (exp['atoms/str'].read, exp.to_dict, exp['atoms'].namespace_contents):
            with pytest.raises(StorageFormatError, match="'atoms/str'"):
                read()
    with pytest.raises(StorageFormatError, match="'atoms/str'"):
        Experiment('second', storage=hurt)
    assert list_experiments(hurt) == [*NAMES]
    delete_experiment('second', hurt)
    assert list_experiments(hurt) == ['first', 'third']


@pytest.mark.parametrize('hurt', ['atoms', 'members'], indirect=True)
def test_a_fork_gives_what_is_damaged_no_checksum_that_is_right(hurt: Path) -> None:
    with (
        Experiment('second', storage=hurt) as exp,
        pytest.raises(StorageFormatError, match='is damaged'),
    ):
        exp.fork('copy')


@pytest.mark.parametrize('shift', [100, 2**40])
def test_an_atom_whose_key_is_damaged_is_not_told_to_be_none(tmp_path: Path, shift: int) -> None:
    path = tmp_path / 'experiments.db'
    make(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            'UPDATE atoms SET variable_id = variable_id + ? WHERE variable_id = (SELECT id '
            "FROM variables WHERE path = 'atoms/list' AND experiment_id = 2)", (shift,),
        )  # fmt: skip
    with Experiment('second', storage=path, mode='read') as exp:
        assert exp['atoms/int'].read() == 7
        for read in (exp['atoms/list'].read, exp.to_dict):
            with pytest.raises(StorageFormatError, match='is damaged: its checksum differs'):
                read()
    with pytest.raises(StorageFormatError, match='is damaged'):
        compare(storage=path)
    assert compare(paths='atoms/int', storage=path)['atoms/int'].tolist() == [7, 7, 7]


def test_an_atom_whose_first_assignment_was_rejected_is_none_among_whole_ones(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'experiments.db'
    make(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            'DELETE FROM atoms WHERE variable_id IN (SELECT id FROM variables '
            "WHERE path = 'atoms/list' AND experiment_id = 2)"
        )
    with Experiment('second', storage=path, mode='read') as exp:
        assert exp['atoms/list'].read() is None


def test_a_set_that_lacks_a_member_is_told(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    make(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            'DELETE FROM members WHERE member = CAST(\'"c"\' AS BLOB) AND variable_id = (SELECT id '
            "FROM variables WHERE path = 'tags' AND experiment_id = 2)"
        )
    why = '2 of 3 members or points are found'
    with Experiment('second', storage=path, mode='read') as exp:
        assert exp['atoms/int'].read() == 7
        for read in (exp['tags'].get, exp.to_dict):
            with pytest.raises(StorageFormatError, match=why):
                read()
    with pytest.raises(StorageFormatError, match=why):
        compare(paths='tags', storage=path)
    assert set(compare('first', storage=path).loc['first', 'tags']) == {'member', 'b', 'c'}
    told = [finding.what for finding in examined(path) if finding.level == 'wrong']
    assert len(told) == 1 and why in told[0]


@pytest.mark.parametrize('which', ['first >= 16384', 'first >= 0'])
@pytest.mark.parametrize('has_log', [False, True])
def test_a_series_that_lacks_its_last_chunks_is_told(
    tmp_path: Path, which: str, has_log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, '_SHORT', 0)
    path = tmp_path / 'experiments.db'
    with Experiment('a', storage=path) as exp:
        exp['x'].extend(map(float, range(20_000)))
        exp['y'].log(1.0)
    live = Experiment('a', storage=path)
    if has_log:
        live['x'].log(-1.0)
        live.flush()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "DELETE FROM chunks WHERE variable_id = (SELECT id FROM variables WHERE path = 'x') "
            f'AND {which}'
        )
    why = 'of 20000 members or points are found'
    with Experiment('a', storage=path, mode='read') as exp:
        for read in (
            exp['x'].all, exp['x'].to_numpy, exp.to_dict,
            lambda: exp['x'].to_numpy(first_step=19_000), lambda: exp['x'].tail(2),
            lambda: exp['x'].to_numpy(max_points=10),
            lambda: compare(paths='x', storage=path),
            lambda: fetch_metrics('a', 'x', storage=path),
            lambda: fetch_metrics('a', 'x', storage=path, max_points=10),
            lambda: list_experiments(path, where='x.max > 1'),
        ):  # fmt: skip
            with pytest.raises(StorageFormatError, match=why):
                read()
        assert exp['y'].all() == [1.0]
    with opened(path) as store:
        variables = store.ask(lambda s: s.find_variables([1], ['x', 'y']))
        grid = Grid.over('step', 0.0, 30_000.0, 4)
        found = store.ask(lambda s: s.read_overviews(variables, grid))
        assert [len(found[v.id].damaged) > 0 for v in variables[1]] == [True, False]
    told = [finding.what for finding in examined(path) if finding.level == 'wrong']
    assert any(why in what for what in told)
    with suppress(StorageError):
        live.close()


def test_an_experiment_is_found_where_the_index_of_names_is_damaged(intact: Intact) -> None:
    with closing(sqlite3.connect(intact.path)) as connection:
        (page,), = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'sqlite_autoindex_experiments_1'"
        )  # fmt: skip
        (size,) = connection.execute('PRAGMA page_size').fetchone()
    names = range(8 * size * (page - 1), 8 * size * page)
    at = 8 * intact.raw.index(b'second', names[0] // 8, names[-1] // 8)
    for bit in range(at, at + 8 * len('second')):
        damaged = intact.flipped(bit)
        with Experiment('second', storage=damaged, mode='read') as exp:
            assert exp['atoms/int'].read() == 7
        assert compare('second', paths='atoms/int', storage=damaged)['atoms/int'].tolist() == [7]


def test_a_damaged_session_keeps_nothing_from_being_read(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    with Experiment('a', storage=path) as exp:
        exp['x'].assign(1)
        exp.flush()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE sessions SET host = x'ff', pid = 'none'")
            connection.execute("UPDATE sessions SET machine = CAST(x'ff' AS TEXT)")
        with opened(path) as store:
            assert store.ask(lambda storage: storage.find_sessions([1])) == []
            assert [e.name for e in store.ask(lambda storage: storage.find_experiments())] == ['a']
