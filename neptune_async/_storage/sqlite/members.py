"""Members of sets in SQLite."""

from __future__ import annotations

import sqlite3

from neptune_async._model.operations import AddMembers, RemoveMembers, ResetMembers
from neptune_async._model.values import encode
from neptune_async._storage.sqlite.checksums import value_checksum
from neptune_async._storage.sqlite.counts import add_to_count, keep_counts
from neptune_async._storage.sqlite.variables import set_content

_ZEROS = {encode(0.0): encode(-0.0), encode(-0.0): encode(0.0)}
"""The only two members that are equal and not the same bytes."""


def add_members(connection: sqlite3.Connection, operation: AddMembers) -> None:
    add_to_count(connection, operation.variable_id, _added(connection, operation))


def remove_members(connection: sqlite3.Connection, operation: RemoveMembers) -> None:
    removed = connection.executemany(
        'DELETE FROM members WHERE variable_id = ? AND member IN (?, ?)',
        [(operation.variable_id, member, _ZEROS.get(member)) for member in operation.members],
    ).rowcount
    add_to_count(connection, operation.variable_id, -max(removed, 0))


def reset_members(connection: sqlite3.Connection, operation: ResetMembers) -> None:
    variable_id = operation.variable_id
    connection.execute('DELETE FROM members WHERE variable_id = ?', (variable_id,))
    keep_counts(connection, {variable_id: _added(connection, operation)})
    set_content(connection, operation.content, [variable_id])


def _added(connection: sqlite3.Connection, operation: AddMembers | ResetMembers) -> int:
    """Add members that are not there yet; return how many."""
    return sum(
        connection.execute(
            'INSERT OR IGNORE INTO members (variable_id, member, crc32) '
            'SELECT :id, :member, :crc32 WHERE NOT EXISTS '
            '(SELECT 1 FROM members WHERE variable_id = :id AND member = :equal)',
            {
                'id': operation.variable_id,
                'member': member,
                'equal': _ZEROS.get(member),
                'crc32': value_checksum(operation.variable_id, member),
            },
        ).rowcount
        for member in operation.members
    )
