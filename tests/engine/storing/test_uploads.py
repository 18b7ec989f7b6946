"""Files are kept before what refers to them, and once more if storage has let go of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from neptune_async import File, FileReference
from neptune_async._engine.storing.batches import stored
from neptune_async._engine.storing.uploads import keep_files
from neptune_async._model.operations import Assign, Batch, CreateVariable, Part, Variable, point_key
from neptune_async._model.pending_files import PendingFile
from neptune_async._model.values import decode
from neptune_async._storage.base import Window
from neptune_async._storage.sqlite.storage import SQLiteStorage

pytestmark = pytest.mark.asyncio

LARGE = bytes(100_000)


@pytest_asyncio.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SQLiteStorage]:
    storage = SQLiteStorage(str(tmp_path / 'experiments.db'))
    await storage.open(writable=True)
    yield storage
    await storage.close()


async def part_with_a_file(storage: SQLiteStorage, name: str, file: PendingFile) -> Part:
    """Return a part that assigns a file, and logs it, too."""
    experiment = await storage.create_experiment(name)
    assert experiment is not None
    atom, series = 10 * experiment.id, 10 * experiment.id + 1
    operations: list[Any] = [
        CreateVariable(Variable(atom, 'atom', 'atom', 'file')),
        CreateVariable(Variable(series, 'series', 'series', 'file')),
        Assign(atom, 'file', file),
    ]
    texts: list[Any] = [(point_key(series), 0.0, 1.0, file)]
    return Part(experiment.id, name, experiment.epoch, operations, texts=texts, count=2)


async def forget(storage: SQLiteStorage) -> None:
    """Let go of all files, as what cleans up does of those that nothing refers to."""
    await storage._run(lambda connection: connection.execute('DELETE FROM files'))


async def found_in(storage: SQLiteStorage, part: Part) -> list[bytes | None]:
    """Return the content of the file that the atom refers to, and of that in the series."""
    atom = await storage.read_atom(part.experiment_id, 'atom')
    reading = await storage.read_series(part.experiment_id, 'series', Window(), True, True)
    assert atom is not None and reading is not None
    references = [decode(atom[1])] if atom[1] is not None else []
    references += [value for piece in reading.pieces for value in piece.values]
    assert all(isinstance(reference, FileReference) for reference in references)
    return [await storage.read_file(one.sha256, 0, 2**20) for one in references]


async def test_what_storage_let_go_of_is_kept_again_for_all_parts(
    storage: SQLiteStorage, tmp_path: Path
) -> None:
    files = [PendingFile.of('atom', File(LARGE)) for _ in range(2)]
    files[1].stage(tmp_path)
    parts = [
        await part_with_a_file(storage, name, file) for name, file in zip('ab', files, strict=True)
    ]
    batch = Batch(bytes(16), 1, parts)
    await keep_files(storage, batch)
    await forget(storage)
    receipt = await stored(storage, batch)
    assert receipt.rejections == []
    for part in parts:
        assert await found_in(storage, part) == [LARGE, LARGE]


async def test_what_refers_to_a_file_that_is_gone_is_rejected_alone(
    storage: SQLiteStorage, tmp_path: Path
) -> None:
    gone, there = PendingFile.of('atom', File(LARGE)), PendingFile.of('atom', File(b'there'))
    gone.stage(tmp_path)
    parts = [
        await part_with_a_file(storage, name, file)
        for name, file in (('gone', gone), ('there', there))
    ]
    batch = Batch(bytes(16), 1, parts)
    await keep_files(storage, batch)
    await forget(storage)
    gone.discard()
    receipt = await stored(storage, batch)
    assert [(r.experiment, r.count, r.reason) for r in receipt.rejections] == [
        ('gone', 2, 'the content of the file is gone')
    ]
    assert await found_in(storage, parts[0]) == []
    assert await found_in(storage, parts[1]) == [b'there', b'there']


async def test_a_file_that_cannot_be_encoded_or_read_is_rejected_alone(
    storage: SQLiteStorage, tmp_path: Path
) -> None:
    def fail(_: object) -> bytes:
        raise ValueError('no pixels')

    odd = PendingFile.of('atom', File._made(b'', 'odd.png', 'image/png', fail))
    lost = PendingFile.of('atom', File(LARGE))
    lost.stage(tmp_path)
    lost.discard()
    parts = [
        await part_with_a_file(storage, name, file) for name, file in (('odd', odd), ('lost', lost))
    ]
    receipt = await stored(storage, Batch(bytes(16), 1, parts))
    assert [(r.experiment, r.path, r.count) for r in receipt.rejections] == [
        ('odd', 'atom', 1), ('odd', 'atom', 1), ('lost', 'atom', 1), ('lost', 'atom', 1),
    ]  # fmt: skip
    assert "'odd.png' cannot be encoded: no pixels" in receipt.rejections[0].reason
    assert 'No such file' in receipt.rejections[2].reason
