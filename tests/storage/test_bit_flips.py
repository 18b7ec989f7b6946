"""Any one bit of a store is flipped: what is read is true, or an error that says what is damaged.

Each row that is found has its checksum. What SQLite does not find any more, since the bit led to it
or was its key, may be missing: a variable, from a list or as if it were not there; a member of a
set; the last chunks of a series. Of 15,000 reads of flipped stores 54 were such. `doctor` finds
that. Nothing is ever another value, no value is told to be None, and no other error is raised.

To notice it at the read, a reader has to know how many rows there should be, and no row says so.
SQLite can hold an index against its table, but then a read costs what is stored, instead of what it
returns: `integrity_check` takes 6 µs a variable of all experiments, and to look through the table
0.2 µs, each time that nothing is found, as where a namespace is read, or a series is followed
before its first point. So this is done where it is rare: for the name of an experiment, and for an
atom without a value. Counts would do it for all: of variables with their experiment, of members
and of points in chunks with their variable. Of rows of the log it would be a page more to write
with every commit.
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
from neptune_async._storage.base import Examinable
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.findings import Finding
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


def is_part(found: Any, truth: Any) -> bool:
    """Whether what was found is the truth, or what is left where some of it is missing."""
    if isinstance(found, dict) and isinstance(truth, dict) and found.keys() <= truth.keys():
        empty = {'loss', 'notes'}  # None is the last point of a series without any
        return all(
            (found[key] is None and key in empty) or is_part(found[key], truth[key])
            for key in found
        )
    if isinstance(found, set):
        return found <= truth
    if isinstance(found, list) and isinstance(truth, list):
        return all(item in truth for item in found)
    return type(found) is type(truth) and found == truth


def examined(path: Path) -> list[Finding]:
    async def examine(storage: Any) -> list[Finding]:
        assert isinstance(storage, Examinable)
        return await storage.examine()

    with opened(path) as store:
        return store.ask(examine)


def require_true(intact: Intact, bit: int) -> None:
    damaged = intact.flipped(bit)
    is_missed = False
    for what, found in intact.read(damaged):
        truth = intact.truth[what]
        # One value is true, or an error: it is not told to be None.
        assert is_part(found, truth), (what, found)
        assert what not in ATOMS or found == truth
        is_missed |= found != truth
    if is_missed:
        with suppress(StorageError):
            assert any(finding.level == 'wrong' for finding in examined(damaged))


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
