"""Copies of experiments in memory, and what tells when they are out of date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from neptune_async._model.operations import Batch
from neptune_async._storage import registry
from neptune_async._storage.base import Copyable, Storage, Window
from neptune_async._storage.sqlite import SQLiteStorage
from neptune_async._storage.sqlite.scratch import ScratchStorage
from neptune_async.exceptions import StorageBusyError, StorageFormatError

from .batches import part, values


@pytest.mark.asyncio
async def test_the_version_is_another_after_each_commit_of_others(url: str, store: Storage) -> None:
    a = await store.create_experiment('a')
    reader = registry.create(url)
    await reader.open(writable=False)
    try:
        versions = [await reader.version([a.id])]
        assert await reader.version([a.id]) == versions[0]
        await store.write(Batch(b'w' * 16, 1, [part(a, [1.0], creates=True)]))
        versions.append(await reader.version([a.id]))
        await store.write(Batch(b'w' * 16, 2, [part(a, [2.0])]))
        versions.append(await reader.version([a.id]))
        await store.write(Batch(b'v' * 16, 1, [part(a, [3.0])]))
        versions.append(await reader.version([a.id]))
        await store.delete_experiment('a')
        versions.append(await reader.version([a.id]))
        assert len({*versions}) == len(versions)
    finally:
        await reader.close()


@pytest.mark.asyncio
async def test_the_version_of_a_file_without_a_wal_is_another_once_it_is_written_to(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / 'experiments.db')
    writer, reader = SQLiteStorage(path), SQLiteStorage(path)
    await writer.open(writable=True)
    await writer.close()
    await reader.open(writable=False)
    before = await reader.version([])
    await writer.open(writable=True)
    await writer.create_experiment('a')
    await writer.close()
    while True:
        try:
            assert await reader.version([]) != before
            break
        except StorageBusyError:
            continue
    await reader.close()


@pytest.mark.asyncio
async def test_experiments_are_copied_as_they_are_and_no_others(tmp_path: Path) -> None:
    store, scratch = SQLiteStorage(str(tmp_path / 'experiments.db')), ScratchStorage()
    assert isinstance(store, Copyable)
    await store.open(writable=True)
    await scratch.open(writable=True)
    for number, name in enumerate('abc'):
        made = await store.create_experiment(name)
        variable = part(made, [1.0, 2.0], creates=number == 1)
        if number == 1:
            await store.write(Batch(b'w' * 16, 1, [variable]))
    await scratch.insert(await store.copied_rows(['b', 'unknown'], [b'w' * 16, b'v' * 16]))
    b = await store.find_experiment('b')
    assert await scratch.find_experiments() == await store.find_experiments(['b'])
    assert await values(scratch, b) == [1.0, 2.0]
    assert await scratch.last_batch(b'w' * 16) == 1 and await scratch.last_batch(b'v' * 16) == 0
    # What is made here gets the id that the store would give.
    new = await scratch.create_experiment('d')
    assert new == await store.create_experiment('d')
    for storage in (store, scratch):
        await storage.close()


@pytest.mark.asyncio
async def test_series_are_copied_without_their_chunks_where_that_is_said(tmp_path: Path) -> None:
    store, scratch = SQLiteStorage(str(tmp_path / 'experiments.db')), ScratchStorage()
    await store.open(writable=True)
    a = await store.create_experiment('a')
    assert a is not None
    await store.write(Batch(b'w' * 16, 1, [part(a, [1.0, 2.0], creates=True)]))
    while await store.compact('everything'):
        pass
    (variable,) = await store.list_variables(a.id, None)
    await scratch.open(writable=True)
    await scratch.insert(await store.copied_rows(['a'], [], without=[variable.id]))
    assert await scratch.list_variables(a.id, None) == [variable]
    assert await values(scratch, a) == []
    for storage in (store, scratch):
        await storage.close()


@pytest.mark.asyncio
async def test_damage_is_copied_and_still_told(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    store, scratch = SQLiteStorage(str(path)), ScratchStorage()
    await store.open(writable=True)
    a = await store.create_experiment('a')
    await store.write(Batch(b'w' * 16, 1, [part(a, [1.0, 2.0], creates=True)]))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute('UPDATE log SET crc32 = crc32 + 1')
    connection.close()
    await scratch.open(writable=True)
    await scratch.insert(await store.copied_rows(['a'], []))
    reading = await scratch.read_series(a.id, 'loss', Window(), True, True)
    with pytest.raises(StorageFormatError):
        assert reading is not None and reading.pieces
    for storage in (store, scratch):
        await storage.close()


@pytest.mark.asyncio
async def test_an_experiment_is_made_under_the_id_that_it_has_elsewhere() -> None:
    scratch = ScratchStorage()
    await scratch.open(writable=True)
    ids = [3, 2**40, 2**62]
    for experiment_id in ids:
        await scratch.make(experiment_id, f'{experiment_id}', 5.0)
    found = await scratch.find_experiments()
    assert [(e.id, e.name, e.created) for e in found] == [(i, f'{i}', 5.0) for i in ids]
    await scratch.close()
