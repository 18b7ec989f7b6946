"""Removing the contents of files that nothing in a SQLite store refers to.

First the rows go, and in a transaction after that the files in the folder that have none. So there
is no moment at which a row says that a file is there which is not. A process that keeps a file
gives it its name and its row in one transaction, and so never loses it in between.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from neptune_async._storage.cleaning import Unused, not_told
from neptune_async._storage.sqlite.compaction import give_back_pages
from neptune_async._storage.sqlite.files import PART, is_kept, sizes
from neptune_async._storage.sqlite.references import references
from neptune_async._storage.sqlite.sql import transaction
from neptune_async.exceptions import StorageError, StorageFormatError

_ABANDONED = 3600.0
"""Seconds since the last change after which a file that has no name yet counts as left by a process
that has died. If it lives, it makes another.
"""
_PLACE, _SHA256 = re.compile('[0-9a-f]{2}'), re.compile('[0-9a-f]{64}')


def find_unused(
    connection: sqlite3.Connection, location: str, folder: Path | None, spared: Collection[str]
) -> Unused:
    """Return the contents that nothing refers to.

    :param folder: of the store's large files; None for a store in memory, which has none.
    """
    # One damaged bit of an index, or of the tree of a table, may hide what refers to a content.
    (found,) = connection.execute('PRAGMA integrity_check(1)').fetchone()
    if found != 'ok':
        raise not_told(location, found)
    with transaction(connection, 'DEFERRED'):
        unused = Unused(_unreferenced(connection, location, spared), _version(connection))
        for path, size in _unnamed(connection, folder).items():
            unused.sizes[path.name] = size
    return unused


def remove_unused(
    connection: sqlite3.Connection,
    location: str,
    folder: Path | None,
    unused: Unused,
    spared: Collection[str],
) -> None:
    """Remove contents, but for those that something refers to since they were found."""
    if unused.sizes:
        _remove_rows(connection, location, unused, spared)
        _remove_files(connection, folder)
        give_back_pages(connection)


def _remove_rows(
    connection: sqlite3.Connection, location: str, unused: Unused, spared: Collection[str]
) -> None:
    found = [sha256 for sha256 in unused.sizes if _SHA256.fullmatch(sha256)]
    with transaction(connection):
        # What was seen while others could write holds if nobody has written since.
        if _version(connection) != unused.version:
            still = _unreferenced(connection, location, spared)
            for sha256 in found:
                if sha256 not in still and is_kept(connection, sha256):
                    del unused.sizes[sha256]
        gone = [(bytes.fromhex(sha256),) for sha256 in found if sha256 in unused.sizes]
        connection.executemany('DELETE FROM files WHERE sha256 = ?', gone)


def _remove_files(connection: sqlite3.Connection, folder: Path | None) -> None:
    """Remove the files in the folder that mean nothing."""
    candidates = _unnamed(connection, folder)
    if not candidates:
        return
    with transaction(connection):
        for path in candidates:
            if path.suffix == PART or not is_kept(connection, path.name):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise StorageError(f'{path} cannot be removed: {error}') from error
        for parent in {path.parent for path in candidates} - {folder}:
            with suppress(OSError):
                parent.rmdir()


def _unreferenced(
    connection: sqlite3.Connection, location: str, spared: Collection[str]
) -> dict[str, int]:
    kept = sizes(connection)
    if not kept:
        return {}
    try:
        used = {*spared, *(reference.sha256 for reference in references(connection))}
    except StorageFormatError as error:
        raise not_told(location, error) from error
    return {sha256: size for sha256, size in kept.items() if sha256 not in used}


def _version(connection: sqlite3.Connection) -> int:
    """Return what is another once somebody else has committed something."""
    version: int = connection.execute('PRAGMA data_version').fetchone()[0]
    return version


def _unnamed(connection: sqlite3.Connection, folder: Path | None) -> dict[Path, int]:
    """Return the files in the folder that mean nothing, and their bytes: those without a row, and
    those without a name that the dead have left.
    """
    now = time.time()
    return {
        path: status.st_size
        for path, status in _regular_files(folder)
        if (
            now - status.st_mtime > _ABANDONED
            if path.suffix == PART
            else _SHA256.fullmatch(path.name) and not is_kept(connection, path.name)
        )
    }


def _regular_files(folder: Path | None) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what may be a content in the folder, or one that is not whole yet."""
    for path in [] if folder is None else _listed(folder):
        among = _listed(path) if _PLACE.fullmatch(path.name) else [path]
        for file in among:
            with suppress(FileNotFoundError):  # it has got its name, or another process cleans
                status = file.lstat()
                if stat.S_ISREG(status.st_mode) and (path != file or file.suffix == PART):
                    yield file, status


def _listed(folder: Path) -> list[Path]:
    try:
        return [*folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
