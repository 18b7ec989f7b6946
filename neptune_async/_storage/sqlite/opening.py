"""Opening a SQLite file: create it, check that it is a store, and set the modes of SQLite."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote_from_bytes

import aiosqlite

from neptune_async._messenger import messenger
from neptune_async._storage.forking import FORK_GUARD
from neptune_async._storage.sqlite.checkpoint import take_checkpoints_over
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.file import StoreFile
from neptune_async._storage.sqlite.immutable import snapshot
from neptune_async._storage.sqlite.sql import transaction
from neptune_async._storage.sqlite.writing import prepare_appending
from neptune_async.exceptions import StorageBusyError, StorageFormatError

APPLICATION_ID = 0x4E415379  # 'NASy', what `file` and PRAGMA application_id show
SCHEMA_VERSION = 1
MEMORY = ':memory:'
MAGIC = b'SQLite format 3\0'


def connected(path: str, writable: bool) -> StoreConnection:
    """Return a connection that has not read anything yet."""
    if path == MEMORY:
        target, before = 'file::memory:', None
    else:
        before = None if writable else snapshot(Path(path).resolve())
        mode = 'rwc' if writable else 'ro&immutable=1' if before else 'ro'
        # As bytes, because the name of a folder on an old disk may not be UTF-8.
        name = quote_from_bytes(os.fsencode(Path(path).absolute()))
        target = f'file:{name}?mode={mode}'
        if writable:
            _make_file(path)
    # No busy timeout: the engine waits between attempts. A fork would have to wait for a timeout.
    connection = sqlite3.connect(
        target, uri=True, isolation_level=None, timeout=0, cached_statements=256,
        factory=StoreConnection,
    )  # fmt: skip
    connection.snapshot = before
    return connection


def _make_file(path: str) -> None:
    """Create the file, if it does not exist, with the permissions that ``open()`` gives.

    SQLite would give it permissions that let no other user write to it, and would give the same
    permissions to the files beside it.
    """
    with suppress(OSError):  # the file exists, or SQLite will say why it cannot be created
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))


async def connect(connection: aiosqlite.Connection) -> None:
    try:
        await connection
    except sqlite3.Error:
        # The thread of the connection is ending. It still calls this loop, so the loop must not
        # close before.
        connection._thread.join()
        raise


def prepare(connection: StoreConnection, path: str, writable: bool) -> StoreFile | None:
    """Check that the file is a store of ours. If it is empty and writable, create the schema.

    :returns: the file; None if the store is in memory.
    :raises StorageFormatError: the file is not a store of ours.
    """
    file = None if path == MEMORY else StoreFile(path)
    # What somebody adds to the file after the look at it runs no function with side effects.
    connection.execute('PRAGMA trusted_schema = OFF')
    # In one transaction, because another process may be creating the schema.
    with transaction(connection, 'DEFERRED'):
        is_ours = _is_ours(connection, path)
    if not writable:
        if not is_ours:
            raise StorageFormatError(f'{path} is empty: no experiment was ever stored in it')
        return _in_use(connection, file)
    if not is_ours:
        # Before the first table, as SQLite demands. It lets SQLite make the file shorter when the
        # log is deleted.
        connection.execute('PRAGMA auto_vacuum = INCREMENTAL')
    if file is not None and file.network:
        _keep_out_of_wal(connection, path, file.network)
    else:
        connection.execute('PRAGMA journal_mode = WAL')
        connection.execute('PRAGMA synchronous = NORMAL')
        take_checkpoints_over(connection)
    if not is_ours:
        with transaction(connection):
            if not _is_ours(connection, path):
                _create_schema(connection)
    if file is not None:
        file.remember_beside()
    prepare_appending(connection)
    return _in_use(connection, file)


def _in_use(connection: StoreConnection, file: StoreFile | None) -> StoreFile | None:
    connection.file = file
    if file is not None and connection.snapshot is None:
        connection.use = FORK_GUARD.add_use(file.path)
    return file


def _keep_out_of_wal(connection: sqlite3.Connection, path: str, network: str) -> None:
    """Use a rollback journal. WAL mode needs memory that all processes share, and processes on
    different machines share none.
    """
    try:
        ((mode,),) = connection.execute('PRAGMA journal_mode = DELETE').fetchall()
    except sqlite3.OperationalError:
        mode = 'wal'
    if mode != 'delete':
        raise StorageBusyError(
            f'the store {path} is on a network file system ({network}) and in WAL mode, which '
            'does not work there, and cannot be taken out of it while other processes have it open'
        )
    connection.execute('PRAGMA synchronous = FULL')
    messenger.warning(
        '%s is on a network file system (%s), where locks between machines cannot be relied on: '
        'only one machine may write to it; better name a file on a local disk, and copy it when '
        'the run is over',
        path, network,
    )  # fmt: skip


def _is_ours(connection: sqlite3.Connection, path: str) -> bool:
    (application,) = connection.execute('PRAGMA application_id').fetchone()
    (version,) = connection.execute('PRAGMA user_version').fetchone()
    (tables,) = connection.execute('SELECT count(*) FROM sqlite_master').fetchone()
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise StorageFormatError(
                f'{path} has schema {version}, this version of neptune_async knows '
                f'{SCHEMA_VERSION}; nothing was changed; upgrade neptune_async to open it'
            )
        _refuse_strange(connection, path)
        return True
    if application or version or tables:
        raise StorageFormatError(
            f'{path} is a SQLite file of something else than neptune_async; '
            'nothing was changed; name another file'
        )
    return False


def _refuse_strange(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a file that has anything else than our tables and indices, as they are when we make
    them: triggers, views, constraints and computed columns would run when we read or write.
    """
    # Those that SQLite makes for itself have such names, and no triggers and views among them.
    found = {
        (kind, name, sql)
        for kind, name, sql in connection.execute('SELECT type, name, sql FROM sqlite_master')
        if kind not in ('table', 'index') or not str(name).startswith('sqlite_')
    }
    strange = {(kind, name) for kind, name, _ in found ^ _made()}
    if strange:
        told = ', '.join(f'{kind} {name!r}' for kind, name in sorted(strange, key=str))
        raise StorageFormatError(
            f'{path} is damaged, or somebody else has changed what it consists of ({told}); '
            'nothing of that was run, and nothing was changed; name another file, or restore '
            'this one'
        )


@cache
def _statements() -> tuple[str, ...]:
    schema = files('neptune_async._storage.sqlite').joinpath('schema.sql').read_text()
    return tuple(schema.removesuffix(';\n').split(';\n'))


@cache
def _made() -> frozenset[tuple[str, str, str]]:
    """Return type, name and statement of what we make, as SQLite keeps them."""
    kept = [statement[statement.index('CREATE ') :] for statement in _statements()]
    words = [statement.replace(' UNIQUE', '', 1).split(maxsplit=3) for statement in kept]
    return frozenset(
        (kind.lower(), name, statement)
        for (_, kind, name, _), statement in zip(words, kept, strict=True)
    )


def _create_schema(connection: sqlite3.Connection) -> None:
    # Not executescript: it would commit first.
    for statement in _statements():
        connection.execute(statement)
    connection.execute(f'PRAGMA application_id = {APPLICATION_ID}')
    connection.execute(f'PRAGMA user_version = {SCHEMA_VERSION}')
