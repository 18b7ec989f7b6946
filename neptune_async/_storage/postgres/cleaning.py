"""Removing the contents of files that nothing in a PostgreSQL store refers to.

A batch holds the rows of all files that it refers to until it is committed. Who cleans up leaves
those that others hold, holds the others itself, and only then looks what refers to them: a batch
that comes after that waits, and finds that they are gone. A fork refers to what its original does
without holding it: the two never go on at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import asyncpg

from neptune_async._model.values import decode
from neptune_async._storage.cleaning import Unused, not_told
from neptune_async.exceptions import StorageFormatError
from neptune_async.files import FileReference

_FETCHED = 256
"""Rows that are in memory at a time."""
_REMOVED = 64
"""Files that one statement removes: it has only so long."""

_FILES = "SELECT encode(sha256, 'hex') AS sha256, size FROM files"
_HELD = """
SELECT encode(sha256, 'hex') AS sha256 FROM files WHERE sha256 = ANY ($1)
ORDER BY sha256 FOR UPDATE SKIP LOCKED
"""
_REFERENCES = (
    """
    SELECT a.value FROM variables v
    JOIN atoms a ON a.experiment_id = v.experiment_id AND a.variable_id = v.id
    WHERE v.container = 'atom' AND v.content = 'file'
    """,
    """
    SELECT unnest(c.encoded) AS value FROM variables v
    JOIN chunks c ON c.experiment_id = v.experiment_id AND c.variable_id = v.id
    WHERE v.container = 'series' AND v.content = 'file'
    """,
)
_REMOVE = (
    'DELETE FROM file_pieces WHERE sha256 = ANY ($1)',
    'DELETE FROM files WHERE sha256 = ANY ($1)',
)


async def find_unused(
    connection: asyncpg.Connection, location: str, spared: Collection[str]
) -> Unused:
    """Return the contents that nothing refers to."""
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        sizes = dict(await connection.fetch(_FILES))
        used = await _referenced(connection, location)
    return Unused({key: sizes[key] for key in sizes.keys() - used - {*spared}})


async def remove_unused(
    connection: asyncpg.Connection, location: str, unused: Unused, spared: Collection[str]
) -> None:
    """Remove contents, but for those that something refers to since they were found, or that
    another process is about to refer to.
    """
    if not unused.sizes:
        return
    async with connection.transaction():
        await connection.execute('SELECT keep_forks_out()')
        kept = dict(await connection.fetch(_FILES))
        wanted = [bytes.fromhex(sha256) for sha256 in unused.sizes]
        held = {row['sha256'] for row in await connection.fetch(_HELD, wanted)}
        gone = held - await _referenced(connection, location) - {*spared}
        for sha256 in kept.keys() - gone:
            unused.sizes.pop(sha256, None)
        keys = [bytes.fromhex(sha256) for sha256 in sorted(gone)]
        for start in range(0, len(keys), _REMOVED):
            for statement in _REMOVE:
                await connection.execute(statement, keys[start : start + _REMOVED])


async def references(connection: asyncpg.Connection) -> AsyncIterator[FileReference]:
    """Yield all that refers to contents of files; in a transaction.

    :raises StorageFormatError: some of it is damaged.
    """
    for statement in _REFERENCES:
        async for row in connection.cursor(statement, prefetch=_FETCHED):
            try:
                reference = decode(row['value'])
            except (AttributeError, ValueError) as error:
                raise StorageFormatError(f'what refers to a file is damaged: {error}') from error
            if not isinstance(reference, FileReference):
                raise StorageFormatError('what refers to a file is damaged: it is something else')
            yield reference


async def _referenced(connection: asyncpg.Connection, location: str) -> set[str]:
    try:
        return {reference.sha256 async for reference in references(connection)}
    except StorageFormatError as error:
        raise not_told(location, error) from error
