"""Spill files: batches that could not be stored, kept beside the store until it opens again.

A file begins with a line that names it, followed by one record a batch: the
length and the CRC-32 of the payload as two little-endian 32-bit integers, then
the payload, JSON in the form of ``neptune_async._model.values``. A batch keeps
its writer and number, so that storage takes it once, however often it is read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import tempfile
import uuid
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from neptune_async._model.operations import (
    AddMembers,
    Assign,
    Batch,
    CreateVariable,
    Delete,
    Operation,
    Part,
    RemoveMembers,
    ResetMembers,
    Variable,
)
from neptune_async._model.values import decode, encode_points
from neptune_async._storage.chunks import little_endian
from neptune_async.exceptions import StorageFormatError

_MAGIC = b'neptune_async spill 1\n'
_HEAD = struct.Struct('<II')
_MEMBER_OPERATIONS = {kind.__name__: kind for kind in (AddMembers, RemoveMembers)}


def write_spill(folder: Path, batches: Sequence[Batch]) -> Path:
    """Write batches to a new file in a store's folder, or in the temporary one if it must be.

    :raises OSError: when neither can be written to.
    """
    name = f'{uuid.uuid4().hex}.spill'
    content = _MAGIC + b''.join(_record(batch) for batch in batches)
    try:
        return _write(folder, name, content)
    except OSError:
        return _write(_temporary(folder), name, content)


def find_spills(folder: Path) -> list[Path]:
    """Return the spill files of a store, the oldest first."""
    found = []
    for place in (folder, _temporary(folder)):
        for path in place.glob('*.spill'):
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
        return [_batch(payload) for payload in _payloads(content)]
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise StorageFormatError(
            f'the spill file {path} is damaged: {error}; it was left as it is'
        ) from error


def _temporary(folder: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f'neptune_async-{digest}')


def _write(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary, path = folder / f'{name}.part', folder / name
    with temporary.open('wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def _record(batch: Batch) -> bytes:
    parts = [
        [
            part.experiment_id,
            part.name,
            part.count,
            [_listed(operation) for operation in part.operations],
            base64.b64encode(little_endian(part.points).tobytes()).decode(),
            [list(text) for text in part.texts],
        ]
        for part in batch.parts
    ]
    payload = encode_points([[batch.writer.hex(), batch.number, parts]])
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _payloads(content: bytes) -> Iterator[bytes]:
    position = len(_MAGIC)
    while position < len(content):
        length, crc32 = _HEAD.unpack_from(content, position)
        position += _HEAD.size
        payload = content[position : position + length]
        if zlib.crc32(payload) != crc32:
            raise ValueError(f'the checksum at byte {position} differs')
        position += length
        yield payload


def _batch(payload: bytes) -> Batch:
    [[writer, number, parts]] = decode(payload)
    return Batch(bytes.fromhex(writer), number, [_part(*part) for part in parts])


def _part(
    experiment_id: int, name: str, count: int, operations: list[Any], points: str, texts: list[Any]
) -> Part:
    return Part(
        experiment_id=experiment_id,
        name=name,
        epoch=None,
        operations=[_operation(*operation) for operation in operations],
        points=little_endian(array('d', base64.b64decode(points, validate=True))),
        texts=[(text[0], text[1], text[2], text[3]) for text in texts],
        count=count,
    )


def _listed(operation: Operation) -> list[Any]:
    """Return an operation as JSON can hold it: its name, then its fields."""
    kind = type(operation).__name__
    if isinstance(operation, CreateVariable):
        v = operation.variable
        return [kind, v.id, v.path, v.container, v.content]
    if isinstance(operation, Delete):
        return [kind, operation.path]
    if isinstance(operation, Assign):
        return [kind, operation.variable_id, operation.content, _text(operation.value)]
    members = [_text(member) for member in operation.members]
    if isinstance(operation, ResetMembers):
        return [kind, operation.variable_id, operation.content, members]
    return [kind, operation.variable_id, members]


def _operation(kind: str, *fields: Any) -> Operation:
    if kind == 'CreateVariable':
        return CreateVariable(Variable(*fields))
    if kind == 'Delete':
        return Delete(*fields)
    if kind == 'Assign':
        return Assign(fields[0], fields[1], _bytes(fields[2]))
    if kind == 'ResetMembers':
        return ResetMembers(fields[0], fields[1], tuple(map(_bytes, fields[2])))
    return _MEMBER_OPERATIONS[kind](fields[0], tuple(map(_bytes, fields[1])))


def _text(encoded: bytes) -> str:
    return encoded.decode('utf-8', 'surrogatepass')


def _bytes(text: str) -> bytes:
    return text.encode('utf-8', 'surrogatepass')
