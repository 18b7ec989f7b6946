"""Rows of sessions in SQLite: who has an experiment open for writing."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import astuple
from typing import Any

from neptune_async._storage.sessions import FoundSession, Process, Session
from neptune_async._storage.sqlite.sql import transaction


def keep_sessions(connection: sqlite3.Connection, sessions: Collection[Session]) -> None:
    """Note a sign of life of sessions of experiments that are there."""
    now = time.time()
    with transaction(connection):
        for session in sessions:
            connection.execute(
                'INSERT INTO sessions (experiment_id, id, host, machine, pid, started, began, seen)'
                ' SELECT id, ?, ?, ?, ?, ?, ?, ? FROM experiments WHERE id = ? '
                'ON CONFLICT (experiment_id, id) DO UPDATE SET seen = excluded.seen',
                (session.id, *astuple(session.process), now, now, session.experiment_id),
            )


def end_sessions(connection: sqlite3.Connection, sessions: Collection[Session]) -> None:
    """Forget sessions."""
    with transaction(connection):
        for session in sessions:
            connection.execute(
                'DELETE FROM sessions WHERE experiment_id = ? AND id = ?',
                (session.experiment_id, session.id),
            )


def find_sessions(
    connection: sqlite3.Connection, experiment_ids: Collection[int]
) -> list[FoundSession]:
    """Return the sessions of several experiments, in the order in which they began."""
    try:
        rows = connection.execute(
            'SELECT experiment_id, id, CAST(host AS BLOB), CAST(machine AS BLOB), pid, '
            'CAST(started AS BLOB), began, seen FROM sessions '
            'WHERE experiment_id IN (SELECT value FROM json_each(?)) ORDER BY began, id',
            (json.dumps([*experiment_ids]),),
        ).fetchall()
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # the store is held, or cannot be read
        return []  # damaged; they only show what runs, and must keep nothing else from being read
    return [found for row in rows if (found := _found(row)) is not None]


def _found(row: Sequence[Any]) -> FoundSession | None:
    """Return the session in a row; None if it is damaged."""
    experiment_id, session_id, host, machine, pid, started, began, seen = row
    if [*map(type, row)] != [int, bytes, bytes, bytes, int, bytes, float, float]:
        return None
    texts = [str(text, 'utf-8', 'replace') for text in (host, machine, started)]
    process = Process(texts[0], texts[1], pid, texts[2])
    session = Session(session_id, experiment_id, process)
    return FoundSession(session, began, seen, time.time() - seen)
