"""Spill files: batches that could not be stored. They wait beside the store until it opens again.

A file begins with a line that says what it is. One frame follows (see ``frames``): the list of the
batches. A batch has its writer and number, so that storage takes it once, even if the file is read
more than once.

A user who can write beside the store can also write to the store. But every user can write to the
temporary folder of the system: files there that belong to another user are not read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import tempfile
import uuid
from array import array
from collections.abc import Callable, Sequence
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
from neptune_async._messenger import messenger
from neptune_async._model.operations import Batch, Part
from neptune_async._model.values import decode, encode_points
from neptune_async._storage.chunks import little_endian
from neptune_async.exceptions import StorageFormatError

_MAGIC = b'neptune_async spill 1\n'


def write_spill(folder: Path, batches: Sequence[Batch]) -> Path:
    """Write batches to a new file in a store's folder; if that fails, in the temporary folder.

    :raises OSError: neither folder can be written to.
    """
    name = f'{uuid.uuid4().hex}.spill'
    content = _MAGIC + frame(encode_points([[_listed(batch) for batch in batches]]))
    try:
        return _write(folder, name, content)
    except OSError:
        return _write(_made_temporary(folder), name, content)


def find_spills(folder: Path) -> list[Path]:
    """Return the spill files of a store, oldest first."""
    found = []
    for path in (*folder.glob('*.spill'), *_in_temporary(folder)):
        with suppress(FileNotFoundError):  # another process has just recovered it
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def read_spill(path: Path) -> list[Batch]:
    """Return the batches of a spill file.

    :raises StorageFormatError: the file is damaged.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise StorageFormatError(f'{path} is no spill file of neptune_async')
    try:
        (payload,) = payloads(content, len(_MAGIC))
        (batches,) = decode(payload)
        return [_batch(*batch) for batch in batches]
    except DECODING_ERRORS as error:
        raise StorageFormatError(
            f'the spill file {path} is damaged: {error}; it was left as it is'
        ) from error


def _temporary(folder: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # Users who share a store have each a folder of their own.
    return Path(tempfile.gettempdir(), f'neptune_async-{_user() or 0}-{digest}')


def _made_temporary(folder: Path) -> Path:
    place = _temporary(folder)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(place, stat.S_ISDIR):
        raise PermissionError(f'{place} is not a folder of the user')
    return place


def _in_temporary(folder: Path) -> list[Path]:
    place = _temporary(folder)
    if _is_own(place, stat.S_ISDIR):
        return [path for path in place.glob('*.spill') if _is_own(path, stat.S_ISREG)]
    return []


def _is_own(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether the file or folder at a path belongs to this user. If not, warn. If there is nothing
    at the path, return False without a warning.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if is_kind(found.st_mode) and _user() in (None, found.st_uid):
        return True
    messenger.warning('%s is not used: somebody else may have put it there; delete it', path)
    return False


def _user() -> int | None:
    # Windows has no numbers for users, but a temporary folder for each user.
    return os.geteuid() if hasattr(os, 'geteuid') else None


def _write(folder: Path, name: str, content: bytes) -> Path:
    # Beside the store, the umask decides who may write to a new folder. The temporary folder
    # exists already.
    folder.mkdir(parents=True, exist_ok=True)
    temporary, path = folder / f'{name}.part', folder / name
    try:
        with temporary.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
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
        ]
        for part in batch.parts
    ]
    return [batch.writer.hex(), batch.number, parts]


def _batch(writer: str, number: int, parts: list[Any]) -> Batch:
    return Batch(bytes.fromhex(writer), number, [_part(*part) for part in parts])


def _part(
    experiment_id: int, name: str, count: int, operations: list[Any], points: str, texts: list[Any]
) -> Part:
    return Part(
        experiment_id=experiment_id,
        name=name,
        epoch=None,
        operations=[unlisted(*operation) for operation in operations],
        points=little_endian(array('d', base64.b64decode(points, validate=True))),
        texts=[(text[0], text[1], text[2], text[3]) for text in texts],
        count=count,
    )
