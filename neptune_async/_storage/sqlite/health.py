"""Whether a SQLite store is whole, and what may become a trouble: what ``doctor`` asks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from neptune_async._storage.chunks import Chunk
from neptune_async._storage.examining import (
    SHOWN,
    Contents,
    checked_against_points,
    faults_told,
    rejections,
)
from neptune_async._storage.findings import Finding
from neptune_async._storage.sqlite.checkpoint import WARN_BYTES
from neptune_async._storage.sqlite.checksums import (
    EXPERIMENT_COLUMNS,
    VARIABLE_COLUMNS,
    checked_experiment,
    checked_value,
    checked_variable,
)
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.counts import lack
from neptune_async._storage.sqlite.file import StoreFile
from neptune_async._storage.sqlite.files import pieces, sizes
from neptune_async._storage.sqlite.reading import (
    CHUNK_COLUMNS,
    checked_chunk,
    damaged_chunk,
    decoded_log_row,
    summarised_tail,
    unpack_chunk,
)
from neptune_async._storage.sqlite.references import references
from neptune_async._storage.sqlite.sql import transaction
from neptune_async._storage.summaries import NO_POINTS, SeriesSummary
from neptune_async.exceptions import StorageFormatError

_RESTORE = 'restore the file from a backup; what is whole can be read and exported first'


def examine(connection: StoreConnection, folder: Path | None) -> Iterator[Finding]:
    """Yield what there is to say of a store, one finding a thing that was looked at.

    :param folder: of the store's large files; None for a store in memory, which has none.
    """
    yield _sqlite_version()
    yield from _structure(connection)
    yield from _checksums(connection)
    yield from _rows(connection)
    yield from _contents(connection, folder)
    yield from _rejections(connection)
    if connection.file is not None:
        yield from _files(connection.file)


def _sqlite_version() -> Finding:
    version = sqlite3.sqlite_version_info
    if version >= (3, 51, 3) or version in ((3, 50, 7), (3, 44, 6)):
        return Finding('good', f'SQLite {sqlite3.sqlite_version}')
    return Finding(
        'note',
        f'SQLite {sqlite3.sqlite_version} has the WAL-reset fault (before 3.51.3)',
        'neptune_async works around it; let no other program write to the file, such as the '
        'sqlite3 shell',
    )


def _structure(connection: sqlite3.Connection) -> Iterator[Finding]:
    rows = connection.execute(f'PRAGMA integrity_check({SHOWN})').fetchall()
    faults = [row[0] for row in rows if row[0] != 'ok']
    for fault in faults:
        yield Finding('wrong', f"SQLite's integrity check: {fault}", _RESTORE)
    if not faults:
        yield Finding('good', "SQLite's integrity check finds nothing")


def _checksums(connection: sqlite3.Connection) -> Iterator[Finding]:
    faults: list[str] = []
    chunks = log_rows = 0
    ends: dict[int, int] = {}
    before: dict[int, SeriesSummary] = {}
    for variable_id, *row in connection.execute(
        f'SELECT variable_id, {CHUNK_COLUMNS} FROM chunks ORDER BY variable_id, first'
    ):
        chunks += 1
        try:
            chunk = checked_chunk(variable_id, row)
            if chunk.first != ends.get(variable_id, 0):
                faults.append(
                    f'{_owner(connection, variable_id)}: chunks are missing before {chunk.first}'
                )
            ends[variable_id] = chunk.end.count
            before[variable_id] = _checked_summary(
                variable_id, row, chunk, before.get(variable_id, NO_POINTS)
            )
        except StorageFormatError as error:
            faults.append(f'{_owner(connection, variable_id)}: {error}')
            if isinstance(row[0], int) and isinstance(row[1], int):
                ends[variable_id] = row[0] + row[1]
    for experiment_id, *row in connection.execute(
        'SELECT experiment_id, id, form, count, crc32, points FROM log ORDER BY id'
    ):
        log_rows += 1
        try:
            decoded_log_row(experiment_id, *row)
        except StorageFormatError as error:
            faults.append(f'experiment {experiment_id}: {error}')
    yield from faults_told(faults, _RESTORE)
    if not faults:
        yield Finding('good', f'{chunks:,} chunks and {log_rows:,} rows of the log are whole')


_ROWS: Sequence[tuple[str, Callable[[Sequence[Any]], object]]] = (
    (f'SELECT {EXPERIMENT_COLUMNS} FROM experiments', checked_experiment),
    (f'SELECT {VARIABLE_COLUMNS} FROM variables', checked_variable),
    ('SELECT variable_id, value, crc32 FROM atoms', lambda row: checked_value(*row)),
    ('SELECT variable_id, member, crc32 FROM members', lambda row: checked_value(*row)),
)
"""The rows that are no points, and what looks at their checksums."""
_COUNTED = """
SELECT
    id,
    CASE container WHEN 'set' THEN (SELECT count(*) FROM members WHERE variable_id = id)
    ELSE coalesce((
        SELECT first + count FROM chunks WHERE variable_id = id ORDER BY first DESC LIMIT 1
    ), 0) END,
    CAST(CAST(value AS TEXT) AS INTEGER)
FROM variables JOIN atoms ON variable_id = id WHERE container IN ('set', 'series')
"""


def _rows(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Yield what there is to say of experiments, variables, atoms and members."""
    rows = 0
    faults: list[str] = []
    # What is no UTF-8 is damaged, and keeps none of the others from being looked at.
    connection.text_factory = partial(str, encoding='utf-8', errors='surrogateescape')
    try:
        for statement, check in _ROWS:
            for row in connection.execute(statement):
                rows += 1
                try:
                    check(row)
                except StorageFormatError as error:
                    faults.append(str(error))
    finally:
        connection.text_factory = str
    for variable_id, found, kept in connection.execute(_COUNTED):
        why = lack(variable_id, found, {variable_id: kept})
        faults += [] if why is None else [why]
    yield from faults_told(faults, _RESTORE)
    if not faults:
        yield Finding('good', f'{rows:,} rows of experiments, variables and values are whole')


def _contents(connection: StoreConnection, folder: Path | None) -> Iterator[Finding]:
    """Yield what there is to say of the contents of files."""
    with transaction(connection, 'DEFERRED'):
        names: dict[str, str] = {}
        with suppress(StorageFormatError):  # what is damaged has been told of
            names = {found.sha256: found.name for found in references(connection)}
        kept = sizes(connection)
        contents = Contents(names, kept)
        for sha256, size in kept.items():
            try:
                contents.take(sha256, size, b'')
                for piece in pieces(connection, folder, sha256):
                    contents.take(sha256, size, piece)
            except StorageFormatError as error:
                contents.fail(sha256, error)
    yield from contents.findings()


def _checked_summary(
    variable_id: int, row: Sequence[Any], chunk: Chunk, before: SeriesSummary
) -> SeriesSummary:
    """Return the summary of a series up to the end of a chunk.

    :param before: the same up to its beginning.
    :raises StorageFormatError: what is stored is not the summary of the points.
    """
    summarised_tail(variable_id, row[:-3])
    points = unpack_chunk(chunk)
    try:
        return checked_against_points(points, chunk.summary, row[6:10], before)
    except ValueError as error:
        raise StorageFormatError(damaged_chunk(variable_id, chunk.first, error)) from error


def _owner(connection: sqlite3.Connection, variable_id: int) -> str:
    """Return which variable that is, for people to read."""
    row = connection.execute(
        'SELECT path, name FROM variables JOIN experiments ON experiments.id = experiment_id '
        'WHERE variables.id = ?',
        (variable_id,),
    ).fetchone()
    return f'variable {variable_id}' if row is None else f'{row[0]} of {row[1]}'


def _rejections(connection: sqlite3.Connection) -> Iterator[Finding]:
    return rejections(
        connection.execute(
            'SELECT experiment, path, sum(count), reason, count(*) OVER () FROM rejected '
            'GROUP BY experiment, path, reason ORDER BY max(id) DESC LIMIT ?',
            (SHOWN,),
        ).fetchall()
    )


def _files(file: StoreFile) -> Iterator[Finding]:
    yield _file_system(file)
    yield _wal(Path(f'{file.path}-wal'))
    for aside in sorted(file.path.parent.glob(f'{file.path.name}-wal.*')):
        yield Finding(
            'wrong',
            f'{aside} was set aside when the store was moved or replaced under a process',
            f'it belongs to the file that was there then: put that in the place of {file.path}, '
            'and this beside it under its name without the number, while no process has it open',
        )
    if not os.access(file.path, os.W_OK):
        yield Finding('note', f'{file.path} is read-only', 'make it writable to log to it')


def _file_system(file: StoreFile) -> Finding:
    if file.network is None:
        return Finding('good', 'no network file system')
    return Finding(
        'note',
        f'the store is on a network file system ({file.network})',
        'have only one machine write to it, or keep it on a local disk',
    )


def _wal(path: Path) -> Finding:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = 0
    if size < WARN_BYTES:
        return Finding('good', f'{size / 2**20:,.1f} MB in the -wal')
    return Finding(
        'wrong',
        f'{path} has grown to {size // 2**20:,} MB',
        'end processes that go on reading in one transaction; it shrinks then',
    )
