"""Reading a store beside which SQLite may make nothing: exactly, or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from neptune_async import Experiment
from neptune_async._storage.sqlite import SQLiteStorage, immutable
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.experiments import insert_experiment
from neptune_async._storage.sqlite.immutable import snapshot
from neptune_async._storage.sqlite.sql import transaction
from neptune_async.exceptions import StorageBusyError, StorageFormatError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that was closed some time ago, in a folder that seems to be read-only."""
    path = tmp_path / 'experiments.db'
    with Experiment('EXP', storage=path) as exp:
        exp['loss'].log(0)
    age(path)
    # Root may write everywhere; tests/faults becomes another user.
    monkeypatch.setattr(immutable.os, 'access', lambda *_: False)
    return path


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStorage]:
    storage = SQLiteStorage(str(path))
    await storage.open(writable=False)
    yield storage
    await storage.close()


def age(path: Path) -> None:
    os.utime(path, (0, path.stat().st_mtime - 60))


def add(path: Path, name: str) -> None:
    """Add an experiment, as another program does that has the store to itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        insert_experiment(connection, name, 0.0)


@pytest.mark.asyncio
async def test_nothing_is_made_beside_it(store: SQLiteStorage, path: Path) -> None:
    assert await store.list_experiments() == ['EXP']
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.asyncio
async def test_a_read_sees_what_was_written_before_it(store: SQLiteStorage, path: Path) -> None:
    add(path, 'NEW')
    # One more write might leave it with the same time: it is waited for until that shows.
    assert await store.list_experiments() == ['EXP', 'NEW']


@pytest.mark.asyncio
async def test_a_file_in_its_place_is_read(store: SQLiteStorage, path: Path) -> None:
    other = path.with_name('other.db')
    with Experiment('OTHER', storage=other) as exp:
        exp['loss'].log(0)
    age(other)
    other.replace(path)
    assert await store.list_experiments() == ['OTHER']


@pytest.mark.asyncio
@pytest.mark.failure('F28', 'a store in a read-only folder is written to while it is read')
@pytest.mark.parametrize('fault', [None, StorageFormatError('torn')])
async def test_what_is_read_while_it_is_written_to_is_not_told(
    store: SQLiteStorage, path: Path, fault: Exception | None
) -> None:
    def read(connection: StoreConnection) -> list[str]:
        names = [row[0] for row in connection.execute('SELECT name FROM experiments')]
        add(path, 'NEW')
        if fault:
            raise fault
        return names

    with pytest.raises(StorageBusyError, match='is being written to'):
        await store._run(read)


@pytest.mark.asyncio
async def test_a_wal_that_is_filled_while_it_is_read_is_noticed(
    store: SQLiteStorage, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer:

        def read(connection: StoreConnection) -> None:
            connection.execute('SELECT name FROM experiments').fetchall()
            with transaction(writer):
                insert_experiment(writer, 'NEW')

        with pytest.raises(StorageBusyError, match='is being written to'):
            await store._run(read)
        # Now there is a -wal to be read, in the usual way.
        assert await store.list_experiments() == ['EXP', 'NEW']


@pytest.mark.parametrize('suffix', ['-wal', '-journal'])
def test_only_what_is_whole_without_other_files_is_read_alone(path: Path, suffix: str) -> None:
    beside = Path(f'{path}{suffix}')
    beside.touch()
    assert snapshot(path) is not None
    beside.write_bytes(b'something')
    assert snapshot(path) is None


def test_what_has_no_wal_is_read_with_locks(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('PRAGMA journal_mode = DELETE')
    assert snapshot(path) is None


def test_a_file_that_was_written_just_now_is_not_sure_to_stay(path: Path) -> None:
    before = snapshot(path)
    assert before is not None and before.holds()
    os.utime(path)
    assert not before.holds()
    now = snapshot(path)
    assert now is not None and now.holds()
    assert now.taken - now.state[-1] / 1e9 > immutable._FINE_SECONDS
    # A file system that counts in seconds.
    os.utime(path, (0, int(now.taken)))
    coarse = snapshot(path)
    assert coarse is not None and not coarse.holds()
