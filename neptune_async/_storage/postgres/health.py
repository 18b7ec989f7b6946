"""Whether a PostgreSQL store is whole, and what may become a trouble: what ``doctor`` asks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import asyncpg

from neptune_async._storage.base import Finding, rejections
from neptune_async._storage.postgres.opening import SCHEMA_VERSION, grant, may_write
from neptune_async._storage.postgres.url import Address

_SHOWN = 5
"""Faults of one kind of which each is shown; the others are counted."""
_PATIENCE = 2.0
"""Seconds in which a server tells of what is committed, if it tells of it at all."""

_STATE = """
SELECT
    current_setting('server_version') AS version,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('fsync') = 'off' AS is_unforced,
    current_setting('synchronous_commit') = 'off' AS is_asynchronous
"""
_SIZES = """
SELECT relname AS name, pg_total_relation_size(oid) AS size
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
ORDER BY size DESC, name
"""
_LACKING = """
SELECT
    experiments.name AS experiment,
    path,
    coalesce(series.count, 0) AS wanted,
    coalesce(found.count, 0) AS count,
    count(*) OVER () AS faults
FROM variables v
LEFT JOIN series ON series.experiment_id = v.experiment_id AND series.variable_id = v.id
LEFT JOIN (
    SELECT experiment_id, variable_id, sum(count) AS count, max(first + count) AS end
    FROM chunks GROUP BY experiment_id, variable_id
) AS found ON found.experiment_id = v.experiment_id AND found.variable_id = v.id
LEFT JOIN experiments ON experiments.id = v.experiment_id
WHERE v.container = 'series' AND (
    coalesce(series.count, 0) <> coalesce(found.count, 0)
    OR coalesce(series.count, 0) <> coalesce(found.end, 0)
)
ORDER BY experiment, path
LIMIT $1
"""
_REJECTED = """
SELECT experiment, path, sum(count), reason, count(*) OVER () FROM rejected
GROUP BY experiment, path, reason ORDER BY max(time) DESC LIMIT $1
"""


async def examine(connection: asyncpg.Connection, address: Address) -> list[Finding]:
    """Return what there is to say of a store, one finding a thing that was looked at."""
    state = await connection.fetchrow(_STATE)
    findings = [Finding('good', f'PostgreSQL {state["version"]}')]
    findings.append(_writing(state, address, await may_write(connection)))
    findings += _durability(state)
    findings.append(Finding('good', f'schema {address.schema}, version {SCHEMA_VERSION}'))
    findings += [
        finding
        for look in (_sizes, _points, _rejections, _telling)
        async for finding in look(connection)
    ]
    return findings


def _writing(state: Any, address: Address, has_rights: bool) -> Finding:
    if state['is_standby']:
        return Finding(
            'note', 'the server is a standby: it is only read from', 'name the primary to log to it'
        )
    if state['is_read_only']:
        return Finding(
            'note', 'the session is read-only', 'set default_transaction_read_only to off to log'
        )
    if not has_rights:
        return Finding('note', 'the role may only read', f'to log to it, {grant(address)}')
    return Finding('good', 'the role may write to it')


def _durability(state: Any) -> Iterator[Finding]:
    if state['is_unforced']:
        yield Finding(
            'note',
            'fsync is off: a power failure may damage all that the server holds',
            'set it to on, and restart the server',
        )
    if state['is_asynchronous']:
        yield Finding(
            'note',
            'synchronous_commit is off: a power failure takes what was committed last',
            "set it to on, or log with durability='power'",
        )
    if not state['is_unforced'] and not state['is_asynchronous']:
        yield Finding('good', 'what is committed is on the disk')


async def _sizes(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    rows = await connection.fetch(_SIZES)
    sizes = ', '.join(f'{_megabytes(row["size"])} of {row["name"]}' for row in rows[:_SHOWN])
    yield Finding('good', f'{_megabytes(sum(row["size"] for row in rows))} in its tables: {sizes}')


def _megabytes(size: int) -> str:
    return f'{size / 2**20:,.1f} MB'


async def _points(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    rows = await connection.fetch(_LACKING, _SHOWN)
    restore = 'restore the database from a backup; what is whole can be read and exported first'
    for row in rows:
        yield Finding(
            'wrong',
            f'{row["path"]} of {row["experiment"]} has {row["count"]:,} of {row["wanted"]:,} '
            'points, or not in one piece',
            restore,
        )
    if rows and rows[0]['faults'] > len(rows):
        yield Finding('wrong', f'{rows[0]["faults"] - len(rows):,} more such faults', restore)
    if not rows:
        yield Finding('good', 'all series have as many points as were logged')


async def _rejections(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    for finding in rejections(await connection.fetch(_REJECTED, _SHOWN)):
        yield finding


async def _telling(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    """Have the server tell this connection something, as it tells those that follow a series."""
    channel = f'neptune_async_{os.urandom(8).hex()}'
    heard = anyio.Event()

    def hear(*_: object) -> None:
        heard.set()

    try:
        await connection.add_listener(channel, hear)
        await connection.execute('SELECT pg_notify($1, $2)', channel, '')
        with anyio.move_on_after(_PATIENCE):
            await heard.wait()
        await connection.remove_listener(channel, hear)
    except (asyncpg.ReadOnlySQLTransactionError, asyncpg.FeatureNotSupportedError):
        pass  # as watching.py finds it
    if heard.is_set():
        yield Finding('good', 'who follows a series is woken by the server')
    else:
        yield Finding(
            'note',
            'the server does not notify: who follows a series looks by itself',
            'read from the primary, with no pool of connections before it, to be woken',
        )
