"""The content of files: small ones in the table ``files``, large ones in a folder beside the store.

A file in the folder counts as kept once it has a row. It gets its name and its row while the
transaction keeps all other writers out, and so it cannot be removed in between.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from neptune_async._storage.base import MissingFiles
from neptune_async._storage.sqlite.sql import transaction
from neptune_async.exceptions import StorageError, StorageFormatError

INSIDE = 2**16
"""Bytes up to which a file is in the table."""
_PIECE = 2**20
"""Bytes that are read at a time."""
PART = '.part'
"""How the name ends of a file in the folder that is not whole yet."""


def folder_of(path: str) -> Path:
    """Return the folder of a store's large files."""
    return Path(f'{path}.files').absolute()


def path_in(folder: Path, sha256: str) -> Path:
    """Return where a file is in the folder."""
    return folder / sha256[:2] / sha256


def bring_files(connection: sqlite3.Connection, files: Mapping[str, bytes | None]) -> None:
    """Keep small files, and make sure that the others are kept; in a transaction.

    :param files: by SHA-256 in hexadecimal digits; None for one that must be kept already.
    :raises MissingFiles: some of them are not.
    """
    connection.executemany(
        'INSERT OR IGNORE INTO files (sha256, size, content) VALUES (?, ?, ?)',
        [
            (bytes.fromhex(sha256), len(content), content)
            for sha256, content in files.items()
            if content is not None
        ],
    )
    others = [sha256 for sha256, content in files.items() if content is None]
    missing = [sha256 for sha256 in others if _row(connection, sha256) is None]
    if missing:
        raise MissingFiles(missing)


def sizes(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the bytes that each file is to have, by SHA-256."""
    # One damaged bit may have made something else of a number.
    return dict(
        connection.execute('SELECT lower(hex(sha256)), CAST(size AS INTEGER) FROM files').fetchall()
    )


def keep_file(
    connection: sqlite3.Connection,
    folder: Path | None,
    sha256: str,
    size: int,
    source: bytes | Path,
    synced: bool,
) -> None:
    """Keep a file, unless it is kept already.

    :param folder: of the store's large files; None for a store in memory, which has none.
    """
    row = _row(connection, sha256)
    if row is not None and (row[1] or _is_there(folder, sha256, size)):
        return
    if folder is None or size <= INSIDE:
        content = source if isinstance(source, bytes) else source.read_bytes()
        with transaction(connection):
            bring_files(connection, {sha256: content})
        return
    try:
        while not _keep_in(connection, folder, sha256, size, source, synced):
            pass
    except OSError as error:
        raise StorageError(f'a file cannot be kept in {folder}: {error}') from error


def _keep_in(
    connection: sqlite3.Connection,
    folder: Path,
    sha256: str,
    size: int,
    source: bytes | Path,
    synced: bool,
) -> bool:
    """Keep a file in the folder; False if somebody has removed it before it got its name."""
    prepared = _prepared(folder, source, synced)
    try:
        with transaction(connection):
            _put_in_place(prepared, path_in(folder, sha256), synced)
            connection.execute(
                'INSERT OR IGNORE INTO files (sha256, size) VALUES (?, ?)',
                (bytes.fromhex(sha256), size),
            )
    except FileNotFoundError:
        return False  # who cleans up took it for one that the dead have left
    finally:
        prepared.unlink(missing_ok=True)
    return True


def is_kept(connection: sqlite3.Connection, sha256: str) -> bool:
    """Whether a file has a row."""
    return _row(connection, sha256) is not None


def _row(connection: sqlite3.Connection, sha256: str) -> tuple[int, bool] | None:
    """Return the size of a file, and whether it is in the table."""
    row: tuple[int, bool] | None = connection.execute(
        'SELECT size, content IS NOT NULL FROM files WHERE sha256 = ?', (bytes.fromhex(sha256),)
    ).fetchone()
    return row


def _is_there(folder: Path | None, sha256: str, size: int) -> bool:
    try:
        return folder is not None and path_in(folder, sha256).stat().st_size == size
    except OSError:
        return False


def _prepared(folder: Path, source: bytes | Path, synced: bool) -> Path:
    """Return a file in the folder that has the content, under a name that means nothing."""
    folder.mkdir(exist_ok=True)
    prepared = folder / f'{uuid.uuid4().hex}{PART}'
    try:
        if isinstance(source, bytes):
            prepared.write_bytes(source)
        else:
            try:
                # Its copy is nobody else's, and is not changed any more.
                os.link(source, prepared)
            except OSError:
                shutil.copyfile(source, prepared)
        if synced:
            _sync(prepared)
    except BaseException:
        prepared.unlink(missing_ok=True)
        raise
    return prepared


def _put_in_place(prepared: Path, path: Path, synced: bool) -> None:
    path.parent.mkdir(exist_ok=True)
    prepared.replace(path)
    if synced:
        _sync(path.parent)
        _sync(path.parent.parent)


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == 'nt':
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(
    connection: sqlite3.Connection, folder: Path | None, sha256: str, start: int, count: int
) -> bytes | None:
    """Return bytes of a file from a position on, fewer at its end; None if it is not kept."""
    row = connection.execute(
        'SELECT content IS NULL, substr(content, ?, ?) FROM files WHERE sha256 = ?',
        (start + 1, count, bytes.fromhex(sha256)),
    ).fetchone()
    if row is None:
        return None
    is_outside, content = row
    if not is_outside:
        if isinstance(content, bytes):
            return content
        if content is None:
            return b''  # of no bytes, substr makes NULL
        raise StorageFormatError(f'the content of a file (SHA-256 {sha256}) is no bytes')
    path = path_in(folder or Path(), sha256)
    try:
        with path.open('rb') as file:
            file.seek(start)
            return file.read(count)
    except OSError as error:
        raise StorageFormatError(
            f'a file that is kept in {path} cannot be read: {error}; was the store copied without '
            'the folder beside it?'
        ) from error


def pieces(connection: sqlite3.Connection, folder: Path | None, sha256: str) -> Iterator[bytes]:
    """Yield the content of a file that is kept, a piece at a time.

    :raises StorageFormatError: it cannot be read.
    """
    start = 0
    while piece := read_file(connection, folder, sha256, start, _PIECE):
        yield piece
        start += len(piece)
