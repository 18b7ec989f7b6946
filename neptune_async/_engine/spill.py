"""Spill files: batches that could not be stored, kept beside the store until it opens again.

A file begins with a line that names it, followed by one frame (see ``records``):
the list of the batches. A batch keeps its writer and number, so that storage
takes it once, however often it is read.

Whoever can write beside the store can write to the store. Everybody can write to
the temporary folder of the system: what is not the user's own there is not read.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import stat
import tempfile
import uuid
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from neptune_async._engine.records import DECODING_ERRORS, frame, listed, payloads, unlisted
from neptune_async._model.operations import Batch, Part
from neptune_async._model.values import decode, encode_points
from neptune_async._storage.chunks import little_endian
from neptune_async.exceptions import StorageFormatError

logger = logging.getLogger('neptune_async')

_MAGIC = b'neptune_async spill 1\n'


def write_spill(folder: Path, batches: Sequence[Batch]) -> Path:
    """Write batches to a new file in a store's folder, or in the temporary one if it must be.

    :raises OSError: when neither can be written to.
    """
    name = f'{uuid.uuid4().hex}.spill'
    content = _MAGIC + frame(encode_points([[_listed(batch) for batch in batches]]))
    try:
        return _write(folder, name, content)
    except OSError:
        return _write(_made_temporary(folder), name, content)


def find_spills(folder: Path) -> list[Path]:
    """Return the spill files of a store, the oldest first."""
    found = []
    for path in (*folder.glob('*.spill'), *_in_temporary(folder)):
        with suppress(FileNotFoundError):  # another process has just taken it in
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def read_spill(path: Path) -> list[Batch]:
    """Return the batches of a spill file.

    :raises StorageFormatError: when it is damaged.
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
    # Users who share a store have a folder each.
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
    """Whether nobody else can have made what is at a path; False, and not told, if it is gone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if is_kind(found.st_mode) and _user() in (None, found.st_uid):
        return True
    logger.warning('%s is not used: somebody else may have put it there; delete it', path)
    return False


def _user() -> int | None:
    # Windows has no number for a user, and a temporary folder for each.
    return os.geteuid() if hasattr(os, 'geteuid') else None


def _write(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
