"""Rows of variables in SQLite: create, change and delete them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from neptune_async._model.operations import CreateVariable, Operation, Part, Variable
from neptune_async._storage.base import VariableConflict
from neptune_async._storage.sqlite.checksums import (
    VARIABLE_COLUMNS,
    checked_variable,
    variable_checksum,
)
from neptune_async._storage.sqlite.sql import at_or_below, find_variable, select_variables
from neptune_async.exceptions import StorageFormatError


def create_variables(
    connection: sqlite3.Connection,
    experiment_id: int,
    part: Part,
    creations: Sequence[Operation],
) -> None:
    wanted = [c.variable for c in creations if isinstance(c, CreateVariable)]
    # One statement for all, by way of JSON: executemany gives up the GIL at every row, and
    # takes up to 5 ms to get it back while another thread computes.
    rows = [
        (
            v.id, v.path, v.container, v.content,
            variable_checksum(v.id, experiment_id, v.path, v.container, v.content),
        )
        for v in wanted
    ]  # fmt: skip
    created = connection.execute(
        'INSERT OR IGNORE INTO variables (id, experiment_id, path, container, content, crc32) '
        "SELECT json_extract(value, '$[0]'), ?, json_extract(value, '$[1]'), "
        "json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]') "
        'FROM json_each(?)',
        (experiment_id, json.dumps(rows)),
    ).rowcount
    if created == len(wanted):
        return
    found: dict[tuple[int, int], Variable] = {}
    for variable in wanted:
        there = find_variable(connection, experiment_id, variable.path)
        if there is None:
            # Its id was taken, by chance: ids are drawn without asking the store.
            (free,) = connection.execute('SELECT max(id) + 1 FROM variables').fetchone()
            there = Variable(free, variable.path, variable.container, variable.content)
        if there.id != variable.id:
            found[part.experiment_id, variable.id] = there
    if found:
        raise VariableConflict(found)


def set_content(connection: sqlite3.Connection, content: str, ids: Sequence[int]) -> None:
    changed = []
    for row in connection.execute(
        f'SELECT {VARIABLE_COLUMNS} FROM variables '
        'WHERE id IN (SELECT value FROM json_each(?)) AND content <> ?',
        (json.dumps(ids), content),
    ):
        # A row that is damaged must not get a checksum that is right: it stays as it is.
        with suppress(StorageFormatError):
            variable = checked_variable(row)
            crc32 = variable_checksum(variable.id, row[1], variable.path, row[3], content)
            changed.append((variable.id, crc32))
    if changed:
        connection.execute(
            "WITH changed AS (SELECT json_extract(value, '$[0]') AS id, "
            "json_extract(value, '$[1]') AS crc32 FROM json_each(:changed)) "
            'UPDATE variables SET content = :content, '
            'crc32 = (SELECT crc32 FROM changed WHERE changed.id = variables.id) '
            'WHERE id IN (SELECT id FROM changed)',
            {'content': content, 'changed': json.dumps(changed)},
        )


def delete_variables(connection: sqlite3.Connection, experiment_id: int, path: str) -> set[int]:
    """Delete a variable and all below its path, all of an experiment if it is empty; return their
    ids.
    """
    condition, bounds = at_or_below(experiment_id, path)
    ids = {row[0] for row in select_variables(connection, condition, bounds)}
    listed = json.dumps(list(ids))
    for table, key in (
        ('chunks', 'variable_id'),
        ('atoms', 'variable_id'),
        ('members', 'variable_id'),
        ('variables', 'id'),
    ):
        connection.execute(
            f'DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))', (listed,)
        )
    return ids
