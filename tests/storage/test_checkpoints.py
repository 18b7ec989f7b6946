"""When what is committed is copied from the -wal into the store's file, and when never."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from neptune_async._model.operations import Assign, Batch, CreateVariable, Part, Variable
from neptune_async._storage.base import ExperimentRecord
from neptune_async._storage.sqlite import SQLiteStorage
from neptune_async._storage.sqlite.checkpoint import CHECKPOINT_BYTES
from neptune_async.exceptions import StorageBusyError

MEGABYTE = 2**20


class Writer:
    """Writes atoms, which are never compacted, and looks at the files by name only."""

    def __init__(self, storage: SQLiteStorage, experiment: ExperimentRecord, path: Path) -> None:
        self.storage = storage
        self._experiment = experiment
        self._path = path
        self._batches = 0

    async def write(self, size: int) -> None:
        """Write as many bytes, and do nothing else."""
        for _ in range(size // MEGABYTE):
            self._batches += 1
            id_ = self._batches
            operations = [
                CreateVariable(Variable(id_, f'atom/{id_}', 'atom', 'str')),
                Assign(id_, 'str', bytes(MEGABYTE)),
            ]
            part = Part(self._experiment.id, self._experiment.name, 0, [*operations], count=1)
            await self.storage.write(Batch(b'w' * 16, self._batches, [part]))

    @property
    def wal(self) -> int:
        """Bytes in the -wal."""
        return Path(f'{self._path}-wal').stat().st_size

    @property
    def file(self) -> int:
        """Bytes in the file itself."""
        return self._path.stat().st_size


@pytest_asyncio.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    path = tmp_path / 'experiments.db'
    storage = SQLiteStorage(str(path))
    await storage.open(writable=True)
    experiment = await storage.create_experiment('a')
    assert experiment is not None
    yield Writer(storage, experiment, path)
    await storage.close()


@pytest.mark.asyncio
async def test_a_commit_never_makes_a_checkpoint(writer: Writer) -> None:
    before = writer.file
    await writer.write(2 * CHECKPOINT_BYTES)
    assert writer.file == before
    assert writer.wal > 2 * CHECKPOINT_BYTES


@pytest.mark.asyncio
async def test_a_long_wal_is_copied_after_the_commit_and_cut_by_the_next(writer: Writer) -> None:
    for _ in range(4):
        await writer.write(2 * CHECKPOINT_BYTES)
        await writer.storage.compact()
    assert writer.file > 4 * CHECKPOINT_BYTES
    assert writer.wal < 3 * CHECKPOINT_BYTES


@pytest.mark.asyncio
async def test_a_short_wal_is_left_alone(writer: Writer) -> None:
    before = writer.file
    await writer.write(CHECKPOINT_BYTES // 2)
    await writer.storage.compact()
    assert writer.file == before


@pytest.mark.asyncio
async def test_nothing_is_copied_while_another_may_commit(writer: Writer) -> None:
    await writer.write(2 * CHECKPOINT_BYTES)
    before = writer.file
    other = sqlite3.connect(writer.storage.location, isolation_level=None)
    try:
        other.execute('BEGIN IMMEDIATE')
        with pytest.raises(StorageBusyError):
            await writer.storage.compact()
        assert writer.file == before
        other.execute('ROLLBACK')
        await writer.storage.compact()
        assert writer.file > before
    finally:
        other.close()


@pytest.mark.asyncio
async def test_a_store_in_memory_has_nothing_to_copy() -> None:
    storage = SQLiteStorage(':memory:')
    await storage.open(writable=True)
    await storage.create_experiment('a')
    await storage.compact('everything')
    await storage.close()
