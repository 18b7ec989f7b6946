"""What every module that speaks SQL to a SQLite store needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from neptune_async._model.operations import Variable
from neptune_async._storage.base import ExperimentRecord
from neptune_async._storage.sqlite.checksums import (
    EXPERIMENT_COLUMNS,
    VARIABLE_COLUMNS,
    checked_experiment,
    checked_variable,
)

_MOST_PARAMETERS = 900
"""SQLite before 3.32 takes 999 in a statement."""


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = 'IMMEDIATE') -> Iterator[None]:
    """Commit what the body does, or nothing of it.

    ``IMMEDIATE`` takes the write lock at once: a transaction that read first
    could not take it later without failing, however long it waited. ``DEFERRED`` only reads.
    """
    connection.execute(f'BEGIN {kind}')
    try:
        yield
        # What only reads is rolled back: to commit fails once a damaged block was met.
        if kind == 'IMMEDIATE':
            connection.execute('COMMIT')
    finally:
        # A full disk or an I/O error may have rolled it back already.
        if connection.in_transaction:
            connection.execute('ROLLBACK')


def insert_rows(
    connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]
) -> None:
    """Execute an INSERT whose ``{rows}`` stands for the rows to insert, many a statement.

    Not executemany, which gives up the GIL at every row, and takes up to 5 ms
    to get it back while another thread computes.
    """
    if not rows:
        return
    width = len(rows[0])
    row = f'({", ".join("?" * width)})'
    most = _MOST_PARAMETERS // width
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        connection.execute(
            statement.format(rows=', '.join([row] * len(some))),
            [value for values in some for value in values],
        )


def find_variable(connection: sqlite3.Connection, experiment_id: int, path: str) -> Variable | None:
    """Return the variable at a path."""
    first, again = by_each_index(VARIABLE_COLUMNS, 'experiment_id = :id AND path = :path')
    row = connection.execute(
        f'{first} UNION ALL {again} LIMIT 1', {'id': experiment_id, 'path': path}
    ).fetchone()
    return row and checked_variable(row)


def select_variables(
    connection: sqlite3.Connection,
    condition: str,
    values: Sequence[object],
    most: int | None = None,
) -> list[Sequence[Any]]:
    """Return the rows of the variables that meet a condition, ``VARIABLE_COLUMNS`` of each, by
    experiment and path.

    :param most: how many there can be, if that is known; if there are so many, none is missing.
    """
    first, again = by_each_index(VARIABLE_COLUMNS, condition)
    in_order = 'ORDER BY experiment_id, path'
    rows = connection.execute(f'{first} {in_order}', values).fetchall()
    ids = {row[0] for row in rows}
    if len(ids) == len(rows):
        if len(ids) == most:
            return rows
        counted = by_each_index('count(*)', condition)[1]
        if connection.execute(counted, values).fetchone() == (len(ids),):
            return rows
    return connection.execute(f'{first} UNION {again} {in_order}', [*values, *values]).fetchall()


def by_each_index(columns: str, condition: str) -> Sequence[str]:
    """Return the statements that select variables by each of the two indexes of their paths.

    One damaged bit of an index may hide a row that is whole. So there are two that say the same.
    """
    return [
        f'SELECT {columns} FROM variables INDEXED BY {index} WHERE {condition}'
        for index in ('sqlite_autoindex_variables_1', 'variables_again')
    ]


def find_experiment(connection: sqlite3.Connection, name: str) -> ExperimentRecord | None:
    """Return the experiment of that name.

    If the index leads to none, SQLite looks through the table, and only then: one damaged bit of
    the index may hide a row that is whole. It takes 0.2 µs an experiment.
    """
    found = f'SELECT {EXPERIMENT_COLUMNS} FROM experiments'
    row = connection.execute(
        f'{found} WHERE name = :name UNION ALL {found} NOT INDEXED WHERE name = :name LIMIT 1',
        {'name': name},
    ).fetchone()
    if row is None:
        return None
    experiment_id, name, _, epoch = checked_experiment(row)
    return ExperimentRecord(experiment_id, name, epoch)


def at_or_below(experiment_id: int, path: str) -> tuple[str, tuple[object, ...]]:
    """Return a condition for variables at a path and below it, all of the experiment if it is
    empty, and the values to bind.
    """
    if not path:
        return 'experiment_id = ?', (experiment_id,)
    condition = 'experiment_id = ? AND (path = ? OR (path >= ? AND path < ?))'
    return condition, (experiment_id, path, *below(path))


def below(path: str) -> tuple[str, str]:
    """Return the bounds, the second excluded, of the paths below a namespace."""
    return f'{path}/', f'{path}0'  # '0' is the character after '/'
