"""Copying rows of experiments as they are, checksums and damage included."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from neptune_async._storage.base import Rows
from neptune_async._storage.sqlite.sql import by_each_index, transaction

_EXPERIMENTS = 'SELECT id FROM experiments WHERE name IN (SELECT value FROM json_each(:names))'
_VARIABLES = ' UNION '.join(by_each_index('id', f'experiment_id IN ({_EXPERIMENTS})'))
_OTHERS = f'SELECT id FROM ({_VARIABLES}) EXCEPT SELECT value FROM json_each(:without)'
_CONDITIONS = {
    'sqlite_sequence': "name = 'experiments'",  # first: inserting experiments counts it up
    'experiments': f'id IN ({_EXPERIMENTS})',
    'variables': f'id IN ({_VARIABLES})',
    'log': f'experiment_id IN ({_EXPERIMENTS})',
    'atoms': f'variable_id IN ({_OTHERS})',
    'members': f'variable_id IN ({_VARIABLES})',
    'chunks': f'variable_id IN ({_OTHERS})',
}
"""Which rows of each table belong to experiments. What is not in here is of no use to a reader."""


def copied_rows(
    connection: sqlite3.Connection,
    names: Collection[str],
    writers: Collection[bytes],
    without: Collection[int],
) -> Rows:
    """Return all rows of several experiments, and those of writers, as they are at one moment.

    :param without: ids of series whose chunks are left out.
    """
    wanted = {'names': json.dumps([*names]), 'without': json.dumps([*without])}
    with transaction(connection, 'DEFERRED'):
        rows = {
            table: connection.execute(f'SELECT * FROM {table} WHERE {condition}', wanted).fetchall()
            for table, condition in _CONDITIONS.items()
        }
        rows['writers'] = [
            row
            for writer in writers
            for row in connection.execute('SELECT * FROM writers WHERE id = ?', (writer,))
        ]
    return rows


def insert_copied(connection: sqlite3.Connection, rows: Rows) -> None:
    """Insert rows that ``copied_rows`` has returned into an empty store."""
    with transaction(connection):
        for table, some in rows.items():
            if some:
                places = ', '.join('?' * len(some[0]))
                connection.executemany(f'INSERT INTO {table} VALUES ({places})', some)
