"""The connection to a store: as much is opened as is asked for, and nothing left behind waits."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from neptune_async._engine.durability.recovery import Recovery
from neptune_async._engine.durability.spill_files import write_spill
from neptune_async._engine.worker.connection import Connection
from neptune_async._model.operations import Assign, Batch, CreateVariable, Part, Variable
from neptune_async._model.values import encode
from neptune_async._storage.base import Receipt, Storage
from neptune_async._storage.sqlite.storage import SQLiteStorage
from neptune_async.exceptions import StorageBusyError, StorageError


def batch_of(name: str) -> Batch:
    """Return a batch that makes an experiment of that name with an atom."""
    variable = Variable(1, 'lr', 'atom', 'float')
    operations = [CreateVariable(variable), Assign(1, 'float', encode(0.1))]
    return Batch(name.encode() * 16, 1, [Part(1, name, None, operations, count=1)])


def connected(storage: Storage, own: Path | None = None) -> Connection:
    """Return a connection on the loop that runs.

    :param own: a spill file that is this process's own.
    """
    connection = Connection(storage, Recovery(storage, lambda path: path == own, lambda: False))
    connection.begin()
    return connection


async def names(connection: Connection) -> list[str]:
    return await connection.ask(lambda storage: storage.list_experiments())


def spill(storage: Storage, name: str) -> Path:
    """Leave an experiment behind in a spill file."""
    folder = storage.spill_folder
    assert folder is not None
    return write_spill(folder, [batch_of(name)])


class Failing(SQLiteStorage):
    """A store that fails as often as it has faults."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.faults: list[Exception] = []
        self.opened = self.compacted = 0

    def fail(self) -> None:
        if self.faults:
            raise self.faults.pop()

    async def open(self, *, writable: bool) -> None:
        self.opened += 1
        await super().open(writable=writable)

    async def write(self, batch: Batch, *, careful: bool = False, synced: bool = False) -> Receipt:
        self.fail()
        return await super().write(batch, careful=careful, synced=synced)

    async def compact(self, *_: object) -> bool:
        self.compacted += 1
        self.fail()
        return False


@pytest.fixture
def storage(tmp_path: Path) -> Failing:
    return Failing(str(tmp_path / 'experiments.db'))


@pytest.mark.asyncio
async def test_a_store_that_is_only_asked_is_not_made(storage: Failing, tmp_path: Path) -> None:
    connection = connected(storage)

    with pytest.raises(StorageError):
        await names(connection)

    assert os.listdir(tmp_path) == []


@pytest.mark.asyncio
async def test_it_is_opened_once_and_once_more_to_write(storage: Failing) -> None:
    connection = connected(storage)
    await connection.make_experiment('a')
    await connection.close()
    before = storage.opened

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(names, connection)
    assert storage.opened == before + 1
    async with anyio.create_task_group() as tasks:
        for name in 'abc':
            tasks.start_soon(connection.make_experiment, name)
    assert storage.opened == before + 2
    assert sorted(await names(connection)) == ['a', 'b', 'c']
    assert storage.opened == before + 2
    await connection.close()


@pytest.mark.asyncio
async def test_what_was_left_behind_is_taken_in_once_it_is_opened_to_write(
    storage: Failing,
) -> None:
    connection = connected(storage)
    await connection.make_experiment('a')
    await connection.close()
    left = spill(storage, 'left')

    assert await names(connection) == ['a']
    assert left.exists()
    await connection.open_for_writing()
    assert await names(connection) == ['a', 'left']
    assert not left.exists()
    await connection.close()


@pytest.mark.asyncio
async def test_a_spill_file_of_this_process_is_left_to_it(storage: Failing) -> None:
    own = spill(storage, 'own')
    connection = connected(storage, own)

    assert await connection.recover() == []

    assert await names(connection) == []
    assert own.exists()
    await connection.close()


@pytest.mark.asyncio
async def test_no_batch_comes_before_what_was_left_behind(storage: Failing) -> None:
    left = spill(storage, 'left')
    connection = connected(storage)
    storage.faults = [StorageError('injected')] * 3

    # What others ask is answered; what was logged here has to wait.
    await connection.open_for_writing()
    assert await names(connection) == []
    for _ in range(2):
        with pytest.raises(StorageError, match='injected'):
            await connection.open_for_batches()
    assert left.exists()
    await connection.open_for_batches()

    assert await names(connection) == ['left']
    assert not left.exists()
    await connection.close()


@pytest.mark.asyncio
@pytest.mark.parametrize('fault', [StorageError('injected'), StorageBusyError('injected')])
async def test_a_store_that_fails_is_merged_another_time(
    storage: Failing, fault: Exception
) -> None:
    connection = connected(storage)
    await connection.open_for_writing()
    storage.faults = [fault]

    assert not await connection.compact('due', lambda: False)

    assert storage.compacted == 1
    await connection.close()


@pytest.mark.asyncio
async def test_at_the_end_a_store_that_others_hold_is_waited_for(storage: Failing) -> None:
    connection = connected(storage)
    await connection.open_for_writing()
    storage.faults = [StorageBusyError('injected')] * 3

    await connection.tidy()

    assert storage.compacted == 4
    await connection.close()


@pytest.mark.asyncio
async def test_a_store_that_is_only_read_or_closed_is_not_merged(storage: Failing) -> None:
    connection = connected(storage)
    await connection.make_experiment('a')
    await connection.close()

    await connection.tidy()
    await names(connection)
    await connection.tidy()

    assert storage.compacted == 0
    await connection.close()
