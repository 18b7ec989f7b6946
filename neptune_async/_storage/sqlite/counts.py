"""How many members a set has, and how many points of a series are in chunks.

One damaged bit may hide a row that is whole: it led to the row, or was its key. Then a read would
miss something, and not know it. So sets and series have a row in ``atoms``, with the number.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress

from neptune_async._model.values import decode, encode
from neptune_async._storage.sqlite.checksums import checked_value, damaged, value_checksum
from neptune_async._storage.sqlite.sql import insert_rows
from neptune_async.exceptions import StorageFormatError


def keep_counts(connection: sqlite3.Connection, counts: Mapping[int, int]) -> None:
    """Keep what sets and series have now, by the variable's id."""
    values = {variable_id: encode(count) for variable_id, count in counts.items()}
    insert_rows(
        connection,
        'INSERT INTO atoms (variable_id, value, crc32) VALUES {rows} '
        'ON CONFLICT (variable_id) DO UPDATE SET value = excluded.value, crc32 = excluded.crc32',
        [(each, value, value_checksum(each, value)) for each, value in values.items()],
    )


def add_to_count(connection: sqlite3.Connection, variable_id: int, more: int) -> None:
    """Keep that a set has so many members more than before."""
    row = connection.execute(
        'SELECT value, crc32 FROM atoms WHERE variable_id = ?', (variable_id,)
    ).fetchone()
    if row is None:
        (count,) = connection.execute(
            'SELECT count(*) FROM members WHERE variable_id = ?', (variable_id,)
        ).fetchone()
        keep_counts(connection, {variable_id: count})
        return
    # What is damaged must not become right: whoever reads the set is told.
    with suppress(StorageFormatError):
        keep_counts(connection, {variable_id: decode(checked_value(variable_id, *row)) + more})


def find_counts(connection: sqlite3.Connection, variable_ids: Collection[int]) -> dict[int, int]:
    """Return what is kept of sets and series, by the variable's id; one that never had anything is
    left out. A count that is damaged is another than what is found: no checksum is needed.
    """
    rows = connection.execute(
        'SELECT variable_id, CAST(CAST(value AS TEXT) AS INTEGER) FROM atoms '
        'WHERE variable_id IN (SELECT value FROM json_each(?))',
        (json.dumps([*variable_ids]),),
    )
    return dict(rows.fetchall())


def lack(variable_id: int, found: int, counts: Mapping[int, int]) -> str | None:
    """Return what is to be said of a set, or a series, of which more or less was found than it has;
    None of one that is whole.
    """
    kept = counts.get(variable_id, found)
    if kept == found:
        return None
    return damaged(f'variable {variable_id}', f'{found} of {kept} members or points are found')


def require_as_many(connection: sqlite3.Connection, variable_id: int, found: int) -> None:
    """Refuse a set, or a series, of which more or less was found than it has."""
    why = lack(variable_id, found, find_counts(connection, [variable_id]))
    if why is not None:
        raise StorageFormatError(why)
