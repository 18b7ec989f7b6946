"""The connection to a SQLite store, with what its thread has to know of it."""

from __future__ import annotations

import sqlite3
from typing import Any

from neptune_async._storage.forking import FORK_GUARD, Use, leak
from neptune_async._storage.sqlite.file import StoreFile
from neptune_async._storage.sqlite.immutable import Snapshot


class StoreConnection(sqlite3.Connection):
    """A connection that is opened and closed under the guard, as all else is done with it.

    :ivar file: what it is a connection to; None for memory.
    :ivar snapshot: what to hold each read against; None where locks see to that.
    :ivar use: what a forked child needs to know of it; None where it has no -wal.
    :ivar verified: up to which row the log of an experiment was looked through for damage.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.file: StoreFile | None = None
        self.snapshot: Snapshot | None = None
        self.verified: dict[int, int] = {}
        self.use: Use | None = None
        with FORK_GUARD:
            super().__init__(*args, **kwargs)

    def close(self) -> None:
        if self.file is None or self.file.may_be_closed():
            use, self.use = self.use, None
            FORK_GUARD.close(use, super().close)
        else:
            leak(self)
