"""Operations as bytes in a file: JSON in frames, which show when they are damaged.

A frame begins with the length and the CRC-32 of its payload, as two little-endian unsigned 32-bit
integers. The payload follows: JSON in the form of ``neptune_async._model.values``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from neptune_async._model.operations import (
    AddMembers,
    Assign,
    CreateVariable,
    Delete,
    Operation,
    RemoveMembers,
    ResetMembers,
    Rewind,
    Variable,
)
from neptune_async._model.pending_files import PendingFile
from neptune_async._model.values import Content, decode, encode

_HEAD = struct.Struct('<II')
_MEMBER_OPERATIONS = {kind.__name__: kind for kind in (AddMembers, RemoveMembers)}

DECODING_ERRORS = (ValueError, KeyError, TypeError, IndexError, struct.error)
"""The errors that damaged bytes may raise although their checksum is right."""


class DamagedFrame(ValueError):
    """A frame is cut off, or its checksum differs.

    :ivar position: the byte where the frame begins.
    """

    def __init__(self, position: int) -> None:
        super().__init__(f'the checksum at byte {position} differs')
        self.position = position


def frame(payload: bytes) -> bytes:
    """Return a payload with its length and checksum before it."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def payloads(content: bytes, position: int = 0) -> Iterator[bytes]:
    """Yield the payloads of the frames, from a position to the end.

    :raises DamagedFrame: a frame is not whole.
    """
    while position < len(content):
        start = position + _HEAD.size
        if start > len(content):
            raise DamagedFrame(position)
        length, crc32 = _HEAD.unpack_from(content, position)
        payload = content[start : start + length]
        if zlib.crc32(payload) != crc32 or len(payload) != length:
            raise DamagedFrame(position)
        position = start + length
        yield payload


def listed(operation: Operation) -> list[Any]:
    """Return an operation as a list for JSON: its name, then its fields."""
    kind = type(operation).__name__
    if isinstance(operation, CreateVariable):
        v = operation.variable
        return [kind, v.id, v.path, v.container, v.content]
    if isinstance(operation, Delete):
        return [kind, operation.path]
    if isinstance(operation, Rewind):
        return [kind, operation.path, operation.step]
    if isinstance(operation, Assign):
        value = operation.value
        stored = encode(value) if isinstance(value, PendingFile) else value
        return [kind, operation.variable_id, operation.content, _text(stored)]
    members = [_text(member) for member in operation.members]
    if isinstance(operation, ResetMembers):
        return [kind, operation.variable_id, operation.content, members]
    return [kind, operation.variable_id, members]


def unlisted(kind: str, *fields: Any) -> Operation:
    """Return the operation from the list that ``listed`` returned for it.

    :raises KeyError, TypeError, IndexError, ValueError: the list describes no operation.
    """
    if kind == 'CreateVariable':
        return CreateVariable(Variable(*fields))
    if kind == 'Delete':
        return Delete(*fields)
    if kind == 'Rewind':
        return Rewind(*fields)
    if kind == 'Assign':
        return _assign(fields[0], fields[1], _bytes(fields[2]))
    if kind == 'ResetMembers':
        return ResetMembers(fields[0], fields[1], tuple(map(_bytes, fields[2])))
    return _MEMBER_OPERATIONS[kind](fields[0], tuple(map(_bytes, fields[1])))


def _assign(variable_id: int, content: Content, stored: bytes) -> Assign:
    value = decode(stored) if content == 'file' else None
    return Assign(variable_id, content, value if isinstance(value, PendingFile) else stored)


def _text(encoded: bytes) -> str:
    return encoded.decode('utf-8', 'surrogatepass')


def _bytes(text: str) -> bytes:
    return text.encode('utf-8', 'surrogatepass')
