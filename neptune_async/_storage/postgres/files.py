"""The content of files, in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg

from neptune_async._storage.base import MissingFiles
from neptune_async.exceptions import StorageError

PIECE = 2**20
"""Bytes of a piece: a server keeps a piece in memory several times over."""

_FILE = """
INSERT INTO files (sha256, size) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true
"""
_PIECE = 'INSERT INTO file_pieces (sha256, number, content) VALUES ($1, $2, $3)'
# Who cleans up deletes the row, unless somebody holds it.
_HELD = """
SELECT encode(sha256, 'hex') FROM files WHERE sha256 = ANY ($1) ORDER BY sha256 FOR KEY SHARE
"""
_READ = """
SELECT number, content FROM file_pieces
WHERE sha256 = $1 AND number BETWEEN $2 AND $3 ORDER BY number
"""


async def bring(connection: asyncpg.Connection, files: Mapping[str, bytes | None]) -> None:
    """Keep small files, and make sure that the others are kept, until the transaction ends.

    :param files: by SHA-256 in hexadecimal digits; None for one that must be kept already.
    :raises MissingFiles: some of them are not.
    """
    # In one order for all that write: of two batches none waits for the other.
    for sha256, content in sorted(files.items(), key=lambda item: item[0]):
        if content is not None:
            await _insert(connection, bytes.fromhex(sha256), len(content), content)
    wanted = [bytes.fromhex(sha256) for sha256 in sorted(files)]
    held = {row[0] for row in await connection.fetch(_HELD, wanted)}
    missing = files.keys() - held
    if missing:
        raise MissingFiles(missing)


async def keep(
    connection: asyncpg.Connection, sha256: str, size: int, source: bytes | Path
) -> None:
    """Keep a file, unless it is kept already."""
    key = bytes.fromhex(sha256)
    if await connection.fetchval('SELECT EXISTS (SELECT FROM files WHERE sha256 = $1)', key):
        return
    async with connection.transaction():
        await _insert(connection, key, size, source)


async def read(connection: asyncpg.Connection, sha256: str, start: int, count: int) -> bytes | None:
    """Return bytes of a file from a position on, fewer at its end; None if it is not kept."""
    key = bytes.fromhex(sha256)
    first, last = start // PIECE, (start + count - 1) // PIECE
    rows = await connection.fetch(_READ, key, first, last)
    if rows:
        content = b''.join(row['content'] for row in rows)
        skipped = start - rows[0]['number'] * PIECE
        return content[skipped : skipped + count]
    is_kept = await connection.fetchval('SELECT EXISTS (SELECT FROM files WHERE sha256 = $1)', key)
    return b'' if is_kept else None


async def _insert(
    connection: asyncpg.Connection, key: bytes, size: int, source: bytes | Path
) -> None:
    """Keep a file, unless it is kept already, and hold it until the transaction ends."""
    # First its row: whoever keeps or removes the same file at once waits here, and not among the
    # pieces, where each of the two could take some.
    while not await connection.fetchval(_FILE, key, size):
        if await connection.fetch(_HELD, [key]):
            return
    for number, piece in enumerate(_pieces(source)):
        await connection.execute(_PIECE, key, number, piece)


def _pieces(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), PIECE):
            yield source[start : start + PIECE]
        return
    try:
        with source.open('rb') as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise StorageError(f'the staged file {source} cannot be read: {error}') from error
