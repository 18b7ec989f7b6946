"""Whether a SQLite store is whole, and what may become a trouble: what ``doctor`` asks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from neptune_async._storage.base import Finding, rejections
from neptune_async._storage.sqlite.checkpoint import WARN_BYTES
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.file import StoreFile
from neptune_async._storage.sqlite.reading import CHUNK_COLUMNS, checked_chunk, decoded_log_row
from neptune_async.exceptions import StorageFormatError

_SHOWN = 5
"""Faults of one kind of which each is shown; the others are counted."""

_RESTORE = 'restore the file from a backup; what is whole can be read and exported first'


def examine(connection: StoreConnection) -> Iterator[Finding]:
    """Yield what there is to say of a store, one finding a thing that was looked at."""
    yield _sqlite_version()
    yield from _structure(connection)
    yield from _checksums(connection)
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
    rows = connection.execute(f'PRAGMA integrity_check({_SHOWN})').fetchall()
    faults = [row[0] for row in rows if row[0] != 'ok']
    for fault in faults:
        yield Finding('wrong', f"SQLite's integrity check: {fault}", _RESTORE)
    if not faults:
        yield Finding('good', "SQLite's integrity check finds nothing")


def _checksums(connection: sqlite3.Connection) -> Iterator[Finding]:
    faults: list[str] = []
    chunks = log_rows = 0
    ends: dict[int, int] = {}
    for variable_id, *row in connection.execute(
        f'SELECT variable_id, {CHUNK_COLUMNS} FROM chunks ORDER BY variable_id, first'
    ):
        chunks += 1
        try:
            chunk = checked_chunk(variable_id, row)
            if chunk.first != ends.get(variable_id, 0):
                faults.append(f'variable {variable_id}: chunks are missing before {chunk.first}')
            ends[variable_id] = chunk.end.count
        except StorageFormatError as error:
            faults.append(str(error))
            ends[variable_id] = row[0] + row[1]
    for experiment_id, *row in connection.execute(
        'SELECT experiment_id, form, count, crc32, points FROM log ORDER BY id'
    ):
        log_rows += 1
        try:
            decoded_log_row(experiment_id, *row)
        except StorageFormatError as error:
            faults.append(f'experiment {experiment_id}: {error}')
    for fault in faults[:_SHOWN]:
        yield Finding('wrong', fault, _RESTORE)
    if len(faults) > _SHOWN:
        yield Finding('wrong', f'{len(faults) - _SHOWN:,} more such faults', _RESTORE)
    if not faults:
        yield Finding('good', f'{chunks:,} chunks and {log_rows:,} rows of the log are whole')


def _rejections(connection: sqlite3.Connection) -> Iterator[Finding]:
    return rejections(
        connection.execute(
            'SELECT experiment, path, sum(count), reason, count(*) OVER () FROM rejected '
            'GROUP BY experiment, path, reason ORDER BY max(id) DESC LIMIT ?',
            (_SHOWN,),
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
