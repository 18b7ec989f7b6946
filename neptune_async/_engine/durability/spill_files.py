"""Spill files: batches that could not be stored. They wait beside the store until it opens again.

A file begins with a line that says what it is. One frame follows (see ``frames``): the list of the
batches. A batch has its writer and number, so that storage takes it once, even if the file is read
more than once.

Files that are not kept yet are staged beside it (see ``pending_files``). So are those that were
kept for what refers to them: until that is stored, storage may let go of them again.

A user who can write beside the store can also write to the store. But every user can write to the
temporary folder of the system: files there that belong to another user are not read.
"""

from __future__ import annotations

import base64
import os
import stat
import uuid
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from neptune_async._engine.durability.frames import (
    DECODING_ERRORS,
    frame,
    listed,
    payloads,
    unlisted,
)
from neptune_async._engine.durability.staged_copies import owner_mark
from neptune_async._engine.durability.temporary_folder import (
    is_own,
    made_temporary,
    temporary_of,
)
from neptune_async._engine.storing.uploads import kept_outside, pending_in
from neptune_async._model.operations import Batch, Part
from neptune_async._model.pending_files import PendingFile
from neptune_async._model.values import decode, encode_points
from neptune_async._storage.chunks import little_endian
from neptune_async.exceptions import StorageFormatError, UnsupportedValueError
from neptune_async.files import FileReference

_MAGIC = b'neptune_async spill 1\n'


def write_spill(folder: Path, batches: Sequence[Batch]) -> Path:
    """Write batches to a new file in a store's folder; if that fails, in the temporary folder.

    :raises OSError: neither folder can be written to.
    """
    name = f'{uuid.uuid4().hex}.spill'
    try:
        return _write(folder, name, batches)
    except OSError:
        return _write(made_temporary(folder), name, batches)


def find_spills(folder: Path) -> list[Path]:
    """Return the spill files of a store, oldest first."""
    found = []
    for path in (*folder.glob('*.spill'), *_in_temporary(folder)):
        with suppress(FileNotFoundError):  # another process has just recovered it
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def read_spill(path: Path, folder: Path | None = None) -> list[Batch]:
    """Return the batches of a spill file.

    :param folder: the folder of the store, if the file may be in the temporary one.
    :raises StorageFormatError: the file is damaged.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise StorageFormatError(f'{path} is no spill file of neptune_async')
    try:
        (payload,) = payloads(content, len(_MAGIC))
        (batches,) = decode(payload)
        found = [_batch(*batch) for batch in batches]
    except DECODING_ERRORS as error:
        raise StorageFormatError(
            f'the spill file {path} is damaged: {error}; it was left as it is'
        ) from error
    store = folder or path.parent
    for batch in found:
        for part in batch.parts:
            for file in (*part.pending, *pending_in(part)):
                file.look_in(path.parent, store, temporary_of(store))
    return found


def _in_temporary(folder: Path) -> list[Path]:
    place = temporary_of(folder)
    if is_own(place, stat.S_ISDIR):
        return [path for path in place.glob('*.spill') if is_own(path, stat.S_ISREG)]
    return []


def _write(folder: Path, name: str, batches: Sequence[Batch]) -> Path:
    # Beside the store, the umask decides who may write to a new folder. The temporary folder
    # exists already.
    folder.mkdir(parents=True, exist_ok=True)
    for batch in batches:
        for part in batch.parts:
            for file in (*kept_outside(part), *pending_in(part)):
                with suppress(UnsupportedValueError):  # it is rejected when the batch is stored
                    file.stage(folder, owner_mark())
    content = _MAGIC + frame(encode_points([[_listed(batch) for batch in batches]]))
    temporary, path = folder / f'{name}.part', folder / name
    try:
        with temporary.open('wb') as spill:
            spill.write(content)
            spill.flush()
            os.fsync(spill.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _listed(batch: Batch) -> list[Any]:
    parts = [
        [
            part.experiment_id,
            part.name,
            part.count,
            [listed(operation) for operation in part.operations],
            base64.b64encode(little_endian(part.points).tobytes()).decode(),
            [list(text) for text in part.texts],
            [[sha256, _base64(content)] for sha256, content in part.files.items()],
            [[file, file.reference] for file in kept_outside(part)],
        ]
        for part in batch.parts
    ]
    return [batch.writer.hex(), batch.number, parts]


def _batch(writer: str, number: int, parts: list[Any]) -> Batch:
    return Batch(bytes.fromhex(writer), number, [_part(*part) for part in parts])


def _part(
    experiment_id: int,
    name: str,
    count: int,
    operations: list[Any],
    points: str,
    texts: list[Any],
    files: list[Any],
    pending: Sequence[Any] = (),
) -> Part:
    return Part(
        experiment_id=experiment_id,
        name=name,
        epoch=None,
        operations=[unlisted(*operation) for operation in operations],
        points=little_endian(array('d', base64.b64decode(points, validate=True))),
        texts=[(text[0], text[1], text[2], text[3]) for text in texts],
        count=count,
        files={str(sha256): _bytes(content) for sha256, content in files},
        pending=[_kept(*pair) for pair in pending],
    )


def _kept(file: object, reference: object) -> PendingFile:
    if not isinstance(file, PendingFile) or not isinstance(reference, FileReference):
        raise ValueError('a file that was kept is none')
    file.reference = reference
    return file


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(content: str | None) -> bytes | None:
    return None if content is None else base64.b64decode(content, validate=True)
