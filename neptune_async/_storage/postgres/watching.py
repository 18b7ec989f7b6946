"""Being told by the server when others have committed points to an experiment.

A commit that notifies waits for every other one that does, in all of the server. So a batch
notifies only if somebody watches its experiment: who does holds an advisory lock, which a batch
finds taken (``tell_watchers`` in functions.sql).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import asyncpg

from neptune_async._storage.base import Changed
from neptune_async._storage.postgres.connection import Server
from neptune_async.exceptions import StorageError

_INTERVAL = 2.0
"""Seconds after which to look by oneself: a batch may have been on its way when the watch began."""
_POLLING = 0.1
"""The same where the server does not tell: a standby, or another server than PostgreSQL."""
_GOODBYE = 5.0


class Watches:
    """The watches on the experiments of a store."""

    def __init__(self) -> None:
        self._heard: Counter[int] = Counter()
        self._events: dict[int, anyio.Event] = {}

    @asynccontextmanager
    async def watch(self, server: Server, experiment_id: int) -> AsyncIterator[Changed]:
        """Keep a watch on an experiment; yield what waits until something has changed."""
        watched = -1  # the connection that the server tells
        is_told = False
        seen = 0

        async def changed() -> None:
            nonlocal watched, is_told, seen
            if watched != server.generation:
                # Nobody has watched since the last connection was lost, if there was one.
                seen = self._heard[experiment_id]
                is_told = False
                with suppress(StorageError):  # the next read meets it, too
                    is_told = await server.run(self._begin, experiment_id)
                    watched = server.generation
                    return
            if self._heard[experiment_id] == seen:
                event = self._events.setdefault(experiment_id, anyio.Event())
                with anyio.move_on_after(_INTERVAL if is_told else _POLLING):
                    await event.wait()
            seen = self._heard[experiment_id]

        try:
            yield changed
        finally:
            if is_told and watched == server.generation:
                with anyio.move_on_after(_GOODBYE, shield=True), suppress(StorageError):
                    await server.run(_end, experiment_id)

    async def _begin(self, connection: asyncpg.Connection, experiment_id: int) -> bool:
        """Have the server tell of commits; False if it does not."""
        try:
            await connection.add_listener(f'neptune_async_{experiment_id}', self._hear)
            await connection.execute('SELECT pg_advisory_lock_shared($1)', experiment_id)
        except (asyncpg.ReadOnlySQLTransactionError, asyncpg.FeatureNotSupportedError):
            return False
        return True

    def _hear(self, _: Any, __: int, channel: str, ___: object) -> None:
        experiment_id = int(channel.rpartition('_')[2])
        self._heard[experiment_id] += 1
        event = self._events.pop(experiment_id, None)
        if event is not None:
            event.set()


async def _end(connection: asyncpg.Connection, experiment_id: int) -> None:
    await connection.execute('SELECT pg_advisory_unlock_shared($1)', experiment_id)
