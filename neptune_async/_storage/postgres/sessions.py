"""Rows of sessions in PostgreSQL: who has an experiment open for writing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple

import asyncpg

from neptune_async._storage.sessions import FoundSession, Process, Session


async def keep(connection: asyncpg.Connection, sessions: Collection[Session]) -> None:
    """Note a sign of life of sessions of experiments that are there."""
    rows = [(s.experiment_id, s.id, *astuple(s.process)) for s in sessions]
    await connection.execute(
        'INSERT INTO sessions (experiment_id, id, host, machine, pid, started) '
        'SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], '
        '$6::text[]) AS living (experiment_id, id, host, machine, pid, started) '
        'WHERE EXISTS (SELECT FROM experiments WHERE experiments.id = living.experiment_id) '
        'ON CONFLICT (experiment_id, id) DO UPDATE SET seen = excluded.seen',
        *map(list, zip(*rows, strict=True)),
    )


async def end(connection: asyncpg.Connection, sessions: Collection[Session]) -> None:
    """Forget sessions."""
    await connection.execute(
        'DELETE FROM sessions USING unnest($1::bigint[], $2::bytea[]) AS ended (experiment_id, id) '
        'WHERE sessions.experiment_id = ended.experiment_id AND sessions.id = ended.id',
        [s.experiment_id for s in sessions],
        [s.id for s in sessions],
    )


async def find(
    connection: asyncpg.Connection, experiment_ids: Collection[int]
) -> list[FoundSession]:
    """Return the sessions of several experiments, in the order in which they began."""
    rows = await connection.fetch(
        'SELECT id, experiment_id, host, machine, pid, started, '
        'extract(epoch FROM began)::double precision, '
        'extract(epoch FROM seen)::double precision, '
        'extract(epoch FROM clock_timestamp() - seen)::double precision '
        'FROM sessions WHERE experiment_id = ANY ($1::bigint[]) ORDER BY began, id',
        [*experiment_ids],
    )
    return [
        FoundSession(Session(session_id, experiment_id, Process(*process)), began, seen, silent)
        for session_id, experiment_id, *process, began, seen, silent in map(tuple, rows)
    ]
