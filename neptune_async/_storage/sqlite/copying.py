"""Making an experiment that begins as a copy of another."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from neptune_async._storage.base import ExperimentRecord
from neptune_async._storage.sqlite.checksums import (
    VARIABLE_COLUMNS,
    checked_value,
    value_checksum,
    variable_checksum,
)
from neptune_async._storage.sqlite.compaction import Rewrite, apply, compact_at_once
from neptune_async._storage.sqlite.experiments import insert_experiment
from neptune_async._storage.sqlite.reading import (
    checked_with_summary,
    end_of,
    find_tail,
    list_variables,
    read_chunks,
)
from neptune_async._storage.sqlite.rewinding import rewind
from neptune_async._storage.sqlite.sql import find_experiment, insert_rows, transaction
from neptune_async._storage.sqlite.writing import last_batch, set_last_batch


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
        f'INSERT INTO variables ({VARIABLE_COLUMNS}) VALUES {{rows}}',
        [
            (*row, variable_checksum(*row))
            for row in (
                (new_id, fork_id, v.path, v.container, v.content) for new_id, v in copies.items()
            )
        ],
    )
    ids = {variable.id: new_id for new_id, variable in copies.items()}
    for table, column in (('atoms', 'value'), ('members', 'member')):
        # Read, not only copied: what is damaged must not get a checksum that is right.
        found = connection.execute(
            f'SELECT variable_id, {column}, crc32 FROM {table} '
            'WHERE variable_id IN (SELECT value FROM json_each(?))',
            (json.dumps([*ids]),),
        )
        values = ((ids[row[0]], checked_value(*row)) for row in found.fetchall())
        insert_rows(
            connection,
            f'INSERT INTO {table} (variable_id, {column}, crc32) VALUES {{rows}}',
            [(new_id, value, value_checksum(new_id, value)) for new_id, value in values],
        )
    for new_id, variable in copies.items():
        if variable.container == 'series':
            _copy_chunks(connection, variable.id, new_id)


def _copy_chunks(connection: sqlite3.Connection, original: int, copy: int) -> None:
    # Read, not only copied, as values are.
    count = end_of(find_tail(connection, original)).count
    spans = {original: (0, count)}
    chunks = read_chunks(connection, spans, checked_with_summary)[original]
    apply(connection, Rewrite(added=[(copy, chunk) for chunk in chunks]))
