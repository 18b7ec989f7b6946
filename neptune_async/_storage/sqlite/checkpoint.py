"""Checkpoints: copying what was committed from the ``-wal`` file into the store's file.

SQLite before 3.51.3 (but for 3.50.7 and 3.44.6) can lose what was committed: when
a checkpoint begins on a -wal that another has just copied to its end, and a
commit begins that -wal anew meanwhile, the index says of what was just
committed that it had been copied (https://sqlite.org/wal.html, "the WAL-reset
bug"). A process cannot know which SQLite the others have. So no commit of ours
checkpoints, and we checkpoint only while nobody can commit: a second
connection holds the write lock. What SQLite does when the last connection
closes is safe: it has the file to itself.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from neptune_async._messenger import messenger
from neptune_async._storage.sqlite.file import StoreFile
from neptune_async._storage.sqlite.sql import transaction

CHECKPOINT_BYTES = 4 * 2**20
"""By how much the -wal grows from one checkpoint to the next: SQLite's own 1,000 pages."""
WARN_BYTES = 64 * 2**20
"""The size of a -wal from which on something is wrong."""


def take_checkpoints_over(connection: sqlite3.Connection) -> None:
    """Have no commit of a connection make a checkpoint."""
    connection.execute('PRAGMA wal_autocheckpoint = 0').fetchone()
    connection.execute('PRAGMA journal_size_limit = 0').fetchone()


class Checkpoints:
    """When one connection makes checkpoints, and how.

    The -wal is as large as what is in it: ``journal_size_limit`` has it cut at
    the first commit after it was copied to its end. It is looked at by its name
    only: to close a file of the store that SQLite has open drops SQLite's locks.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._wal = Path(f'{file.path}-wal')
        self._size_before = 0
        self._warn_at = WARN_BYTES

    def is_due(self, times: int = 1) -> bool:
        """Whether the -wal has grown enough since the last checkpoint, or several times that."""
        size = self._size()
        grown = size - self._size_before if size >= self._size_before else size
        return grown >= times * CHECKPOINT_BYTES

    def make(self, connection: sqlite3.Connection) -> None:
        """Copy as much as the readers allow.

        :raises sqlite3.OperationalError: when another process holds the write lock;
            it remains due.
        """
        size = self._size()
        try:
            with self._nobody_commits():
                _, frames, copied = connection.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchone()
        except sqlite3.OperationalError:
            self._warn_of(size)
            raise
        self._size_before = size
        if copied < frames:
            self._warn_of(size)
        else:
            self._warn_at = WARN_BYTES

    @contextmanager
    def _nobody_commits(self) -> Iterator[None]:
        guard = sqlite3.connect(
            f'file:{quote(str(self._file.path))}?mode=rw', uri=True, isolation_level=None, timeout=0
        )
        try:
            with transaction(guard):
                self._file.require_unmoved()  # else it guards another file than ours
                yield
        finally:
            guard.close()

    def _size(self) -> int:
        try:
            return os.stat(self._wal).st_size
        except OSError:
            return 0

    def _warn_of(self, size: int) -> None:
        if size < self._warn_at:
            return
        while self._warn_at <= size:
            self._warn_at *= 2
        messenger.warning(
            '%s has grown to %d MB and cannot be copied into the store while a process goes on '
            'reading in one transaction; end that process, or have it end its transaction',
            self._wal, size // 2**20,
        )  # fmt: skip
