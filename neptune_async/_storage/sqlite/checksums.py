"""Checksums of the rows that are no points: of experiments, variables, atoms and members.

Each is over all that the row says, its keys included. Whoever writes such a row gets its checksum
here, and whoever reads one gets what it says from here.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from neptune_async._model.operations import Variable
from neptune_async.exceptions import StorageFormatError

VARIABLE_COLUMNS = 'id, experiment_id, path, container, content, crc32'
EXPERIMENT_COLUMNS = 'id, name, created, epoch, crc32'

_ID = struct.Struct('<q')
_VARIABLE = struct.Struct('<qq')
_EXPERIMENT = struct.Struct('<qqd')
_NO_ROW = (struct.error, TypeError, AttributeError, UnicodeError)
"""What is raised where a column has a value of another type."""


def experiment_checksum(experiment_id: int, name: str, created: float, epoch: int) -> int:
    """Return the CRC-32 of a row of experiments."""
    return zlib.crc32(_EXPERIMENT.pack(experiment_id, epoch, created) + name.encode())


def variable_checksum(
    variable_id: int, experiment_id: int, path: str, container: str, content: str
) -> int:
    """Return the CRC-32 of a row of variables."""
    texts = f'{path}\0{container}\0{content}'.encode()
    return zlib.crc32(_VARIABLE.pack(variable_id, experiment_id) + texts)


def value_checksum(variable_id: int, value: bytes) -> int:
    """Return the CRC-32 of a row of atoms, or of members."""
    return zlib.crc32(value, zlib.crc32(_ID.pack(variable_id)))


def checked_experiment(row: Sequence[Any]) -> tuple[int, str, float, int]:
    """Return what a row of ``EXPERIMENT_COLUMNS`` says, without its checksum, if that is right."""
    experiment_id, name, created, epoch, crc32 = row
    try:
        is_whole = experiment_checksum(experiment_id, name, created, epoch) == crc32
    except _NO_ROW:
        is_whole = False
    if not is_whole:
        raise StorageFormatError(damaged(f'the row of experiment {experiment_id} ({name!r})'))
    return experiment_id, name, created, epoch


def checked_variable(row: Sequence[Any]) -> Variable:
    """Return the variable in a row of ``VARIABLE_COLUMNS``, if its checksum is right."""
    variable_id, experiment_id, path, container, content, crc32 = row
    try:
        is_whole = variable_checksum(*row[:-1]) == crc32
    except _NO_ROW:
        is_whole = False
    if not is_whole:
        raise StorageFormatError(
            damaged(f'the row of variable {variable_id} ({path!r}) of experiment {experiment_id}')
        )
    return Variable(variable_id, path, container, content)


def checked_value(variable_id: int, value: bytes, crc32: int) -> bytes:
    """Return the value of an atom, or a member of a set, if its checksum is right."""
    try:
        is_whole = value_checksum(variable_id, value) == crc32
    except _NO_ROW:
        is_whole = False
    if not is_whole:
        raise StorageFormatError(damaged(f'a value of variable {variable_id}'))
    return value


def require_absent_values(connection: sqlite3.Connection, variable_id: int) -> None:
    """Refuse to say that a variable has no value where its row may be there, and is not found: one
    damaged bit may have led to it, or have been its key.

    An atom has none if the first assignment was rejected. That is rare, so all rows are looked at.
    """
    (found,) = connection.execute("PRAGMA quick_check('atoms')").fetchone()
    if found != 'ok':
        raise StorageFormatError(damaged(f'the value of variable {variable_id}', found))
    for row in connection.execute('SELECT variable_id, value, crc32 FROM atoms'):
        checked_value(*row)


def damaged(what: str, error: object = 'its checksum differs') -> str:
    """Return what is to be said of damage."""
    return f'{what} is damaged: {error}; restore the file from a backup'
