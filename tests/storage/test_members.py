"""Sets in SQLite: how many members they have is kept, whatever is done to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async import Experiment
from neptune_async._model.operations import (
    AddMembers,
    Batch,
    CreateVariable,
    Part,
    RemoveMembers,
    ResetMembers,
    Variable,
)
from neptune_async._model.values import decode, encode
from neptune_async._storage import registry
from neptune_async._storage.base import Examinable
from neptune_async.exceptions import StorageFormatError

TAGS = Variable(7, 'tags', 'set', 'float')
members = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0]), max_size=4)
changes = st.lists(st.tuples(st.sampled_from(['add', 'remove', 'reset']), members), max_size=8)


async def changed(drawn: list[tuple[str, list[float]]], careful: bool) -> None:
    storage = registry.create(registry.MEMORY)
    await storage.open(writable=True)
    made = await storage.create_experiment('a')
    assert made is not None and isinstance(storage, Examinable)
    expected: set[float] = set()
    for number, (change, some) in enumerate([('add', []), *drawn], 1):
        encoded = tuple(map(encode, some))
        if change == 'add':
            expected |= {*some}
            operation: object = AddMembers(TAGS.id, encoded)
        elif change == 'remove':
            expected -= {*some}
            operation = RemoveMembers(TAGS.id, encoded)
        else:
            expected = {*some}
            operation = ResetMembers(TAGS.id, 'float', encoded)
        part = Part(made.id, made.name, made.epoch, [CreateVariable(TAGS), operation])  # type: ignore[list-item]
        await storage.write(Batch(b'w' * 16, number, [part]), careful=careful)
    found = await storage.read_set(made.id, 'tags')
    assert found is not None
    assert len(found[1]) == len(expected)
    assert {*map(decode, found[1])} == expected
    latest = await storage.read_latest({made.id: [TAGS]})
    assert not latest.damaged
    assert await storage.read_atom(made.id, 'tags') == (TAGS, None)
    assert not [finding for finding in await storage.examine() if finding.level == 'wrong']
    await storage.close()


@given(changes, st.booleans())
def test_whatever_is_done_to_a_set_its_members_are_counted(
    drawn: list[tuple[str, list[float]]], careful: bool
) -> None:
    anyio.run(changed, drawn, careful)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Experiment('a', storage=tmp_path / 'experiments.db') as exp:
        exp['tags'].add('one', 'two')
    return tmp_path / 'experiments.db'


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((value,),) = connection.execute('SELECT value FROM atoms').fetchall()
        return int(value)


def test_a_fork_has_as_many_members_and_a_copy_without_any_has_none(path: Path) -> None:
    assert count(path) == 2
    with Experiment('a', storage=path) as exp, exp.fork('b') as fork:
        fork['tags'].remove('one')
        assert fork['tags'].get() == {'two'} and exp['tags'].get() == {'one', 'two'}
        fork['tags'].delete()
        exp['tags'].delete()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute('SELECT * FROM atoms').fetchall() == []


def test_a_set_that_was_made_before_members_were_counted_is_read_and_counted(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('DELETE FROM atoms')
    with Experiment('a', storage=path) as exp:
        assert exp['tags'].get() == {'one', 'two'}
        exp['tags'].add('two', 'three')
        assert exp['tags'].get() == {'one', 'two', 'three'}
    assert count(path) == 3


def test_a_count_that_is_damaged_stays_so_until_the_set_is_reset(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE atoms SET value = CAST('5' AS BLOB)")
    with Experiment('a', storage=path) as exp:
        exp['tags'].add('three')
        with pytest.raises(StorageFormatError, match='3 of 5 members or points are found'):
            exp['tags'].get()
        exp['tags'].reset('four')
        assert exp['tags'].get() == {'four'}
