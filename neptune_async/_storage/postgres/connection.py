"""The connection to a PostgreSQL server: made when it is needed, and anew when it is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

import anyio
import asyncpg

from neptune_async._storage.base import MissingFiles
from neptune_async._storage.postgres.faults import TIMEOUTS, BatchIsStored, translated
from neptune_async._storage.postgres.url import Address
from neptune_async.exceptions import InvalidStorageError, NeptuneAsyncError, StorageError

P = ParamSpec('P')
T = TypeVar('T')

_GOODBYE = 2.0
"""Seconds that a server has to close a connection."""


class Server:
    """The one connection of a store, which tasks use one after the other.

    Whatever cuts a statement short, a timeout or a cancellation, leaves open whether the server
    carries it out: the connection is given up then, and the next statement makes another.

    :param prepare: what to do first with each new connection.
    :ivar generation: counts the connections.
    """

    def __init__(
        self, address: Address, prepare: Callable[[asyncpg.Connection], Awaitable[None]]
    ) -> None:
        self._address = address
        self._prepare = prepare
        self._connection: asyncpg.Connection | None = None
        self._lock = anyio.Lock()
        self.generation = 0

    async def run(
        self,
        function: Callable[Concatenate[asyncpg.Connection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a coroutine function with the connection before its arguments.

        :raises StorageError: there is no connection to be had, or it fails.
        """
        async with self._lock:
            try:
                return await function(await self._connected(), *args, **kwargs)
            except (BatchIsStored, MissingFiles):
                raise
            except BaseException as error:
                # After these the connection is as it was before.
                if not isinstance(error, (asyncpg.PostgresError, asyncpg.DataError)):
                    self.drop()
                if not isinstance(error, Exception) or isinstance(error, NeptuneAsyncError):
                    raise
                raise translated(error, self._address.location) from error

    def drop(self) -> None:
        """Give the connection up, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Take leave of the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                try:
                    await connection.close(timeout=_GOODBYE)
                except (OSError, *TIMEOUTS, asyncpg.PostgresError, asyncpg.InterfaceError):
                    connection.terminate()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await self._connect()
            try:
                await self._prepare(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
            self.generation += 1
        return self._connection

    async def _connect(self) -> asyncpg.Connection:
        address = self._address
        try:
            return await asyncpg.connect(
                address.url,
                timeout=address.connect_timeout,
                command_timeout=address.command_timeout,
                server_settings=dict(address.settings),
            )
        except asyncpg.ClientConfigurationError as error:
            raise StorageError(f'cannot open the store {address.location}: {error}') from error
        except ValueError:
            # What it quotes may be a part of the password.
            raise InvalidStorageError(
                f'{address.location} is not understood; write what is special in a password as '
                'URLs have it, such as %40 for @'
            ) from None
