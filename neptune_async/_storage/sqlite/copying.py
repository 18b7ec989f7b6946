"""Making an experiment that begins as a copy of another."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from neptune_async._storage.base import ExperimentRecord
from neptune_async._storage.sqlite.compaction import Rewrite, apply, compact_at_once
from neptune_async._storage.sqlite.reading import end_of, find_tail, list_variables, read_chunks
from neptune_async._storage.sqlite.rewinding import rewind
from neptune_async._storage.sqlite.sql import find_experiment, insert_rows, transaction
from neptune_async._storage.sqlite.writing import insert_experiment, last_batch, set_last_batch


def fork_experiment(
    connection: sqlite3.Connection,
    experiment_id: int,
    name: str,
    step: float | None,
    draw_id: Callable[[], int],
    mark: bytes,
) -> ExperimentRecord | None:
    """Copy an experiment, up to a step if there is one, unless it was copied under the same mark;
    None if the name is taken.
    """
    with transaction(connection):
        there = find_experiment(connection, name)
        if there is not None:
            return there if last_batch(connection, mark) == there.id else None
        # So that each step and timestamp is a number, which the copy has in common with this one.
        compact_at_once(connection, experiment_id)
        fork = ExperimentRecord(*insert_experiment(connection, name))
        set_last_batch(connection, mark, fork.id)
        _copy_variables(connection, experiment_id, fork.id, draw_id)
        if step is not None:
            rewind(connection, fork.id, '', step)
        return fork


def _copy_variables(
    connection: sqlite3.Connection, original_id: int, fork_id: int, draw_id: Callable[[], int]
) -> None:
    copies = {draw_id(): variable for variable in list_variables(connection, original_id, None)}
    insert_rows(
        connection,
        'INSERT INTO variables (id, experiment_id, path, container, content) VALUES {rows}',
        [(new_id, fork_id, v.path, v.container, v.content) for new_id, v in copies.items()],
    )
    for table, column in (('atoms', 'value'), ('members', 'member')):
        connection.execute(
            f'INSERT INTO {table} (variable_id, {column}) SELECT copy.id, {column} FROM {table} '
            'JOIN variables AS original ON original.id = variable_id '
            'JOIN variables AS copy ON copy.experiment_id = ? AND copy.path = original.path '
            'WHERE original.experiment_id = ?',
            (fork_id, original_id),
        )
    for new_id, variable in copies.items():
        if variable.container == 'series':
            _copy_chunks(connection, variable.id, new_id)


def _copy_chunks(connection: sqlite3.Connection, original: int, copy: int) -> None:
    # Read, not only copied: what is damaged must not get a checksum that is right.
    count = end_of(find_tail(connection, original)).count
    chunks = read_chunks(connection, {original: (0, count)})[original]
    apply(connection, Rewrite(added=[(copy, chunk) for chunk in chunks]))
