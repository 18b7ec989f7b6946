"""Rows of experiments in SQLite: create, list, rename and delete them."""

from __future__ import annotations

import sqlite3
import time

from neptune_async._storage.base import ExperimentRecord
from neptune_async._storage.sqlite.checksums import (
    EXPERIMENT_COLUMNS,
    checked_experiment,
    experiment_checksum,
)
from neptune_async._storage.sqlite.sql import find_experiment, transaction
from neptune_async._storage.sqlite.variables import delete_variables


def create_experiment(
    connection: sqlite3.Connection, name: str | None, created: float | None
) -> ExperimentRecord | None:
    with transaction(connection):
        if name is None:
            name = _free_name(connection)
        elif find_experiment(connection, name):
            return None
        return ExperimentRecord(*insert_experiment(connection, name, created))


def insert_experiment(
    connection: sqlite3.Connection, name: str, created: float | None = None
) -> tuple[int, str, int]:
    """Make an experiment and return its row: id, name, epoch."""
    created = float(time.time() if created is None else created)
    cursor = connection.execute(
        'INSERT INTO experiments (name, created, crc32) VALUES (?, ?, 0)', (name, created)
    )
    assert cursor.lastrowid is not None
    _seal_experiment(connection, cursor.lastrowid, name, created, 0)
    return cursor.lastrowid, name, 0


def next_epoch(connection: sqlite3.Connection, experiment_id: int) -> int:
    row = connection.execute(
        f'SELECT {EXPERIMENT_COLUMNS} FROM experiments WHERE id = ?', (experiment_id,)
    ).fetchone()
    _, name, created, epoch = checked_experiment(row)
    _seal_experiment(connection, experiment_id, name, created, epoch + 1)
    return epoch + 1


def _seal_experiment(
    connection: sqlite3.Connection, experiment_id: int, name: str, created: float, epoch: int
) -> None:
    crc32 = experiment_checksum(experiment_id, name, created, epoch)
    connection.execute(
        'UPDATE experiments SET name = ?, epoch = ?, crc32 = ? WHERE id = ?',
        (name, epoch, crc32, experiment_id),
    )


def _free_name(connection: sqlite3.Connection) -> str:
    """Return ``EXP-N``, where N is one more than the largest number in the store, at first 1."""
    (largest,) = connection.execute(
        'SELECT max(CAST(substr(name, 5) AS INTEGER)) FROM experiments '
        "WHERE name GLOB 'EXP-[1-9]*' AND substr(name, 5) NOT GLOB '*[^0-9]*'"
    ).fetchone()
    return f'EXP-{(largest or 0) + 1}'


def list_experiments(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(f'SELECT {EXPERIMENT_COLUMNS} FROM experiments ORDER BY id')
    return [checked_experiment(row)[1] for row in rows]


def rename_experiment(connection: sqlite3.Connection, experiment_id: int, name: str) -> bool:
    with transaction(connection):
        found = find_experiment(connection, name)
        if found is not None:
            return found.id == experiment_id
        row = connection.execute(
            f'SELECT {EXPERIMENT_COLUMNS} FROM experiments WHERE id = ?', (experiment_id,)
        ).fetchone()
        if row is not None:
            _, _, created, epoch = checked_experiment(row)
            _seal_experiment(connection, experiment_id, name, created, epoch)
        return True


def delete_experiment(connection: sqlite3.Connection, name: str) -> bool:
    with transaction(connection):
        experiment = find_experiment(connection, name)
        if experiment is None:
            return False
        delete_variables(connection, experiment.id, '')
        connection.execute('DELETE FROM sessions WHERE experiment_id = ?', (experiment.id,))
        connection.execute('DELETE FROM log WHERE experiment_id = ?', (experiment.id,))
        connection.execute('DELETE FROM experiments WHERE id = ?', (experiment.id,))
        return True
