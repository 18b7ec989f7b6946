"""What in a SQLite store refers to contents of files.

Who removes what nothing refers to must miss no reference. So the checksum of each row is looked at
that may hold one, or say where others are, and damage is an error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from neptune_async._model.values import decode
from neptune_async._storage.sqlite.checksums import (
    VARIABLE_COLUMNS,
    checked_value,
    checked_variable,
    damaged,
)
from neptune_async._storage.sqlite.reading import (
    decoded_log_row,
    end_of,
    find_tails,
    read_chunks,
    unpack_chunk,
)
from neptune_async.exceptions import StorageFormatError
from neptune_async.files import FileReference

_A_FILE = b'{"file":'
"""How the encoded value of an atom begins that is one; none else does."""


def references(connection: sqlite3.Connection) -> Iterator[FileReference]:
    """Yield all that refers to contents of files; in a transaction.

    :raises StorageFormatError: something is damaged that may refer to others.
    """
    for find in (_in_atoms, _in_chunks, _in_log):
        for value in find(connection):
            if isinstance(value, FileReference):
                yield value


def _in_atoms(connection: sqlite3.Connection) -> Iterator[object]:
    # All, whatever their variables say of them: it takes less than to look for them.
    for row in connection.execute('SELECT variable_id, value, crc32 FROM atoms'):
        value = checked_value(*row)
        if value.startswith(_A_FILE):
            try:
                yield decode(value)
            except ValueError as error:
                raise StorageFormatError(damaged(f'a value of variable {row[0]}', error)) from error


def _in_chunks(connection: sqlite3.Connection) -> Iterator[object]:
    variables = map(
        checked_variable, connection.execute(f'SELECT {VARIABLE_COLUMNS} FROM variables')
    )
    series = [v.id for v in variables if (v.container, v.content) == ('series', 'file')]
    tails = find_tails(connection, series)
    for variable_id in series:
        span = 0, end_of(tails.get(variable_id)).count
        for chunk in read_chunks(connection, {variable_id: span})[variable_id]:
            yield from unpack_chunk(chunk, steps=False, times=False).values


def _in_log(connection: sqlite3.Connection) -> Iterator[object]:
    for experiment_id, *row in connection.execute(
        'SELECT experiment_id, id, form, count, crc32, points FROM log'
    ):
        points = decoded_log_row(experiment_id, *row)
        if isinstance(points, list):
            yield from (point[3] for point in points)
