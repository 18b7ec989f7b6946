"""The list of experiments of a PostgreSQL store."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Hashable

import asyncpg

from neptune_async._storage.base import ExperimentRecord
from neptune_async._storage.postgres.reading import list_variables


async def create(
    connection: asyncpg.Connection, name: str | None, created: float | None
) -> ExperimentRecord | None:
    """Make an experiment; without a name the next free one, else None if the name is taken."""
    while True:
        wanted = await _free_name(connection) if name is None else name
        record = await _create(connection, wanted, created)
        if record is not None or name is not None:
            return record


async def find(connection: asyncpg.Connection, name: str) -> ExperimentRecord | None:
    """Return the experiment of that name."""
    row = await connection.fetchrow(
        'SELECT e.id, e.name, p.epoch FROM experiments e JOIN epochs p ON p.experiment_id = e.id '
        'WHERE e.name = $1',
        name,
    )
    return row and ExperimentRecord(*row)


async def found_or_made(connection: asyncpg.Connection, name: str) -> ExperimentRecord:
    """Return the experiment of that name, which is made if there is none."""
    while True:
        record = await find(connection, name) or await _create(connection, name)
        if record is not None:
            return record


async def version(connection: asyncpg.Connection, experiment_ids: Collection[int]) -> Hashable:
    """Return what is another once a batch was committed to one of these experiments, or one was
    deleted.
    """
    row = await connection.fetchrow(
        'SELECT (SELECT sum(last_batch) FROM writers WHERE experiment_id = ANY ($1::bigint[])), '
        '(SELECT count(*) FROM writers WHERE experiment_id = ANY ($1::bigint[])), '
        '(SELECT count(*) FROM experiments WHERE id = ANY ($1::bigint[]))',
        [*experiment_ids],
    )
    return tuple(row)


async def names(connection: asyncpg.Connection) -> list[str]:
    """Return all names, in the order in which they were made."""
    rows = await connection.fetch('SELECT name FROM experiments ORDER BY created, id')
    return [row['name'] for row in rows]


async def delete(connection: asyncpg.Connection, name: str) -> bool:
    """Delete an experiment with all that it holds; False if there is none."""
    deleted: bool = await connection.fetchval('SELECT delete_experiment($1)', name)
    return deleted


async def rename(connection: asyncpg.Connection, experiment_id: int, name: str) -> bool:
    """Give an experiment another name; False if that is taken."""
    try:
        await connection.execute(
            'UPDATE experiments SET name = $2 WHERE id = $1', experiment_id, name
        )
    except asyncpg.UniqueViolationError:
        return False
    found = await find(connection, name)
    return found is None or found.id == experiment_id


async def fork(
    connection: asyncpg.Connection,
    experiment_id: int,
    name: str,
    step: float | None,
    draw_id: Callable[[], int],
    mark: bytes,
) -> ExperimentRecord | None:
    """Copy an experiment, up to a step if there is one, unless it was copied under the same mark;
    None if the name is taken.
    """
    variables = await list_variables(connection, experiment_id, None)
    old = [variable.id for variable in variables]
    fork_id = _id_from(mark)
    made = await connection.fetchval(
        'SELECT fork_experiment($1, $2, $3, $4, $5, $6)',
        experiment_id, fork_id, name, old, [draw_id() for _ in old],
        math.inf if step is None else step,
    )  # fmt: skip
    if made:
        return ExperimentRecord(fork_id, name, 0)
    found = await find(connection, name)
    return found if found is not None and found.id == fork_id else None


def _drawn() -> int:
    """Return an id: drawn, not counted, since a sequence is what machines would have to share."""
    return _id_from(os.urandom(8))


def _id_from(drawn: bytes) -> int:
    return int.from_bytes(drawn[:8], 'little') >> 2


async def _create(
    connection: asyncpg.Connection, name: str, created: float | None = None
) -> ExperimentRecord | None:
    made = await connection.fetchval('SELECT create_experiment($1, $2)', _drawn(), name)
    if made is not None and created is not None:
        await connection.execute(
            'UPDATE experiments SET created = to_timestamp($2) WHERE id = $1', made, created
        )
    return None if made is None else ExperimentRecord(made, name, 0)


async def _free_name(connection: asyncpg.Connection) -> str:
    """Return 'EXP-1', or one more than the largest number there is."""
    largest = await connection.fetchval(
        'SELECT max(substr(name, 5)::numeric) FROM experiments '
        'WHERE name COLLATE "C" ~ \'^EXP-[1-9][0-9]*$\''
    )
    return f'EXP-{int(largest or 0) + 1}'
