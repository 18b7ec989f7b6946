"""Copies of experiments in memory, for what is to leave the store itself unchanged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from neptune_async._storage.base import Rows
from neptune_async._storage.sqlite.experiments import insert_experiment
from neptune_async._storage.sqlite.opening import MEMORY
from neptune_async._storage.sqlite.rows import insert_copied
from neptune_async._storage.sqlite.sql import transaction
from neptune_async._storage.sqlite.storage import SQLiteStorage


class ScratchStorage(SQLiteStorage):
    """A store in memory, of experiments that have the ids that they have in another store."""

    def __init__(self) -> None:
        super().__init__(MEMORY)
        self._staged: dict[str, Path] = {}

    async def insert(self, rows: Rows) -> None:
        """Insert rows that were copied from a store in SQLite. There must be none yet."""
        await self._run(insert_copied, rows)

    async def make(self, experiment_id: int, name: str, created: float) -> None:
        """Make an experiment under an id that is greater than all that there are."""
        await self._run(_make, experiment_id, name, created)

    async def keep_file(
        self, sha256: str, size: int, source: bytes | Path, *, synced: bool = False
    ) -> None:
        """Keep a file. One that is staged stays where it is, and is read there."""
        if isinstance(source, Path):
            self._staged[sha256] = source
            await self._run(_note_file, sha256, size)
        else:
            await super().keep_file(sha256, size, source, synced=synced)

    async def read_file(self, sha256: str, start: int, count: int) -> bytes | None:
        staged = self._staged.get(sha256)
        if staged is None:
            return await super().read_file(sha256, start, count)
        try:
            with staged.open('rb') as file:
                file.seek(start)
                return file.read(count)
        except OSError:
            return None  # another process has taken it in


def _note_file(connection: sqlite3.Connection, sha256: str, size: int) -> None:
    connection.execute(
        'INSERT OR IGNORE INTO files (sha256, size) VALUES (?, ?)', (bytes.fromhex(sha256), size)
    )


def _make(connection: sqlite3.Connection, experiment_id: int, name: str, created: float) -> None:
    with transaction(connection):
        # AUTOINCREMENT gives the number that comes next.
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'experiments'")
        connection.execute(
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('experiments', ?)",
            (experiment_id - 1,),
        )
        insert_experiment(connection, name, created)
