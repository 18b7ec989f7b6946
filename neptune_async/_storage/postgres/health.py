"""Whether a PostgreSQL store is whole, and what may become a trouble: what ``doctor`` asks."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import asyncpg

from neptune_async._model.operations import Variable
from neptune_async._storage.base import Damaged
from neptune_async._storage.examining import (
    SHOWN,
    Contents,
    checked_against_points,
    faults_told,
    rejections,
)
from neptune_async._storage.findings import Finding
from neptune_async._storage.points import Points, expanded
from neptune_async._storage.postgres.cleaning import references
from neptune_async._storage.postgres.opening import SCHEMA_VERSION, grant, may_write
from neptune_async._storage.postgres.reading import points_of
from neptune_async._storage.postgres.url import Address
from neptune_async._storage.summaries import NO_POINTS
from neptune_async.exceptions import StorageFormatError

_RESTORE = 'restore the database from a backup; what is whole can be read and exported first'
_ROWS = 64
"""Rows whose points are in memory at a time: 12 MiB."""
_RANGES = 'least_step', 'greatest_step', 'least_time', 'greatest_time'
_PATIENCE = 2.0
"""Seconds in which a server tells of what is committed, if it tells of it at all."""

_STATE = """
SELECT
    current_setting('server_version') AS version,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('fsync') = 'off' AS is_unforced,
    current_setting('data_checksums') = 'off' AS is_unchecked,
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
_POINTS = """
SELECT
    v.id, v.path, v.container, v.content, experiments.name AS experiment, v.experiment_id,
    first, count, first_step, stride, 0 AS skipped, steps, times, "values" AS numbers, texts,
    encoded, least_step, greatest_step, least_time, greatest_time, summary
FROM chunks
JOIN variables v ON v.experiment_id = chunks.experiment_id AND v.id = variable_id
JOIN experiments ON experiments.id = v.experiment_id
"""
_SERIES = """
SELECT v.experiment_id, v.id, name AS experiment, path, count, largest_step, last_time
FROM series
JOIN variables v ON v.experiment_id = series.experiment_id AND v.id = variable_id
JOIN experiments ON experiments.id = v.experiment_id
"""
_CONTENTS = """
SELECT encode(files.sha256, 'hex') AS sha256, size, coalesce(content, '') AS content
FROM files LEFT JOIN file_pieces ON file_pieces.sha256 = files.sha256
ORDER BY files.sha256, number
"""
_IN_MEMORY = 4
"""Pieces of files that are in memory at a time."""
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
        for look in (_sizes, _points, _contents, _rejections, _telling)
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
    if state['is_unchecked']:
        yield Finding(
            'note',
            'data_checksums is off: a value that the disk has changed may be read as it is',
            'stop the server, and run pg_checksums --enable on its data directory',
        )
    else:
        yield Finding('good', 'the server checks what it reads from the disk (data_checksums)')


async def _sizes(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    rows = await connection.fetch(_SIZES)
    sizes = ', '.join(f'{_megabytes(row["size"])} of {row["name"]}' for row in rows[:SHOWN])
    yield Finding('good', f'{_megabytes(sum(row["size"] for row in rows))} in its tables: {sizes}')


def _megabytes(size: int) -> str:
    return f'{size / 2**20:,.1f} MB'


async def _points(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    # Of one moment: what is kept of points, and the points.
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        lacking = await connection.fetch(_LACKING, SHOWN)
        rows = _Rows()
        async for row in connection.cursor(_POINTS, prefetch=_ROWS):
            rows.add(row)
        for row in await connection.fetch(_SERIES):
            rows.add_series(row)
    for row in lacking:
        yield Finding(
            'wrong',
            f'{row["path"]} of {row["experiment"]} has {row["count"]:,} of {row["wanted"]:,} '
            'points, or not in one piece',
            _RESTORE,
        )
    if lacking and lacking[0]['faults'] > len(lacking):
        more = lacking[0]['faults'] - len(lacking)
        yield Finding('wrong', f'{more:,} more such faults', _RESTORE)
    if not lacking:
        yield Finding('good', 'all series have as many points as were logged')
    for finding in faults_told(sorted(rows.faults), _RESTORE):
        yield finding
    if not rows.faults:
        yield Finding(
            'good', f'{rows.count:,} rows of points are whole, {rows.summaries:,} with summaries'
        )


@dataclass(slots=True)
class _Rows:
    """What is known of the rows of points that were looked at.

    :ivar count: how many there were.
    :ivar summaries: how many of them have a summary.
    """

    count: int = 0
    summaries: int = 0
    faults: list[str] = field(default_factory=list)
    _stands: dict[tuple[int, int], _Standing] = field(default_factory=dict)

    def add(self, row: Any) -> None:
        """Look at the points of a row, and whether its summary is theirs."""
        self.count += 1
        key = row['experiment_id'], row['id']
        try:
            points = _whole(row)
            if row['summary'] is not None:
                self.summaries += 1
                ranges = [row[column] for column in _RANGES]
                checked_against_points(points, row['summary'], ranges, NO_POINTS)
        except ValueError as error:
            self.faults.append(f'{_named(row)}: the row at point {row["first"]}: {error}')
        else:
            self._stands[key] = self._stands.get(key, _Standing()).with_row(row['first'], points)

    def add_series(self, row: Any) -> None:
        """Look whether a series stands where its rows say, if all of them are whole."""
        standing = self._stands.get((row['experiment_id'], row['id']), _Standing())
        kept = row['largest_step'], row['last_time']
        found = standing.largest_step, standing.last_time
        if standing.count == row['count'] and kept != found:
            self.faults.append(f'{_named(row)}: its last step or time is not that of its points')


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a series stands, by those of its rows that were looked at."""

    count: int = 0
    largest_step: float = -math.inf
    last: int = -1
    last_time: float = -math.inf

    def with_row(self, first: int, points: Points) -> _Standing:
        """Return the same with a row more."""
        largest = max(self.largest_step, max(expanded(points.steps)))
        count = self.count + len(points)
        if first < self.last:
            return _Standing(count, largest, self.last, self.last_time)
        return _Standing(count, largest, first, points.times[-1])


def _whole(row: Any) -> Points:
    """Return the points of a row.

    :raises ValueError: some of them are damaged.
    """
    points = points_of(Variable(*row[:4]), row)
    if not isinstance(points.values, array):
        for value in points.values:
            if isinstance(value, Damaged):
                raise ValueError(value.why)
    return points


def _named(row: Any) -> str:
    return f'{row["path"]} of {row["experiment"]}'


async def _contents(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    names: dict[str, str] = {}
    damage: list[str] = []
    # Of one moment: what refers to contents, and they.
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        try:
            names = {found.sha256: found.name async for found in references(connection)}
        except StorageFormatError as error:
            damage.append(str(error))
        kept = await connection.fetch("SELECT encode(sha256, 'hex') FROM files")
        contents = Contents(names, {row[0] for row in kept})
        async for row in connection.cursor(_CONTENTS, prefetch=_IN_MEMORY):
            contents.take(row['sha256'], row['size'], row['content'])
    for finding in (*faults_told(damage, _RESTORE), *contents.findings()):
        yield finding


async def _rejections(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    for finding in rejections(await connection.fetch(_REJECTED, SHOWN)):
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
