"""Whether a new connection leads to a store of ours, and making one where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from neptune_async._model import messages
from neptune_async._storage.postgres.url import Address
from neptune_async.exceptions import StorageError, StorageFormatError

SCHEMA_VERSION = 1
_MAKING = 0x4E415379
"""The advisory lock of those that make a schema: 'NASy'."""

_STATE = """
SELECT
    current_setting('server_encoding') AS encoding,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('synchronous_commit') = 'off' AS is_asynchronous,
    EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'store') AS is_there
"""
_MAY_WRITE = """
SELECT bool_and(has_table_privilege(t.oid, r."right"))
FROM pg_class t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r ("right")
WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p')
AND t.relname <> 'store'
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of an open store.

    :ivar is_asynchronous: whether the server says that it has committed what it has not
        forced to disk yet.
    """

    is_asynchronous: bool


async def prepare(
    connection: asyncpg.Connection, address: Address, *, writable: bool, may_make: bool
) -> Opened:
    """Make sure that there is a store that can be used.

    :param may_make: whether to make one.
    :raises StorageError: when it cannot be used; tells why.
    """
    state = await connection.fetchrow(_STATE, address.schema)
    if state['encoding'] != 'UTF8':
        raise _unusable(
            address,
            f'its encoding is {state["encoding"]}, which cannot hold all texts',
            'name a database whose encoding is UTF8',
        )
    if writable and state['is_read_only']:
        raise _unusable(
            address,
            'the server is read-only, a standby perhaps',
            "name the primary, or open with mode='read'",
            'name the primary',
        )
    if not state['is_there']:
        if not (writable and may_make):
            raise StorageFormatError(
                f'{address.location} has no store in the schema {address.schema!r}: no experiment '
                'was ever stored in it, or the role may not use it; log to it to make one, or name '
                'another schema, as in ?schema=runs'
            )
        await _make(connection, address)
    await _refuse_newer(connection, address)
    if writable and not await may_write(connection):
        remedy = grant(address)
        raise _unusable(
            address, 'the role may not write to it', f"{remedy}, or open with mode='read'", remedy
        )
    return Opened(state['is_asynchronous'])


async def may_write(connection: asyncpg.Connection) -> bool:
    """Return whether the role has the rights to log to the store that there is."""
    may: bool = await connection.fetchval(_MAY_WRITE)
    return may


def grant(address: Address) -> str:
    """Return what gives a role these rights."""
    return (
        f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {address.schema} to the role'
    )


async def _make(connection: asyncpg.Connection, address: Address) -> None:
    package = files('neptune_async._storage.postgres')
    try:
        async with connection.transaction():
            # Another process may be making it.
            await connection.execute('SELECT pg_advisory_xact_lock($1)', _MAKING)
            if (await connection.fetchrow(_STATE, address.schema))['is_there']:
                return
            if not await connection.fetchval(
                'SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)', address.schema
            ):
                await connection.execute(f'CREATE SCHEMA "{address.schema}"')
            for script in ('schema.sql', 'functions.sql'):
                await connection.execute(package.joinpath(script).read_text(encoding='utf-8'))
            await connection.execute('INSERT INTO store (version) VALUES ($1)', SCHEMA_VERSION)
    except asyncpg.InsufficientPrivilegeError as error:
        raise _unusable(
            address,
            f'there is no store in the schema {address.schema!r} that the role may use, and it '
            f'may not make one ({error})',
            'have a role that may make it open the store once, and GRANT USAGE ON SCHEMA '
            f'{address.schema}',
        ) from error
    except (asyncpg.DuplicateTableError, asyncpg.DuplicateFunctionError) as error:
        raise StorageFormatError(
            f'{address.location}: the schema {address.schema!r} holds something else than a store '
            f'({error}); nothing was changed; name another schema, as in ?schema=runs'
        ) from error


async def _refuse_newer(connection: asyncpg.Connection, address: Address) -> None:
    version = await connection.fetchval('SELECT version FROM store')
    if version != SCHEMA_VERSION:
        raise StorageFormatError(
            f'{address.location} has schema {version}, this version of neptune_async knows '
            f'{SCHEMA_VERSION}; nothing was changed; upgrade neptune_async to open it'
        )


def _unusable(address: Address, why: str, call: str, command: str | None = None) -> StorageError:
    what = f'cannot open the store {address.location}: {why}'
    return messages.advised(StorageError, what, call, command or call)
