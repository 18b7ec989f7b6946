"""Dropping the points of series that lie beyond a step."""

from __future__ import annotations

import json
import sqlite3

from neptune_async._storage.points import concatenated
from neptune_async._storage.sqlite.compaction import Rewrite, apply, compact_at_once, repacked
from neptune_async._storage.sqlite.reading import (
    end_of,
    find_tail,
    read_chunks,
    series_summary,
    unpack_chunk,
)
from neptune_async._storage.sqlite.sql import at_or_below, select_variables


def rewind(connection: sqlite3.Connection, experiment_id: int, path: str, step: float) -> None:
    """Drop the points beyond a step from all series at a path and below it, in the transaction
    that is going on.

    First the log becomes chunks, in which every step and timestamp is a number. A compaction that
    another process has prepared finds then that its rows are gone, and leaves it at that.
    """
    compact_at_once(connection, experiment_id)
    condition, bounds = at_or_below(experiment_id, path)
    # The largest step of a chunk is that of the series so far: from the first chunk on that is
    # beyond, any may have points that are.
    ids = [row[0] for row in select_variables(connection, condition, bounds)]
    rows = connection.execute(
        'SELECT variable_id, min(first) FROM chunks WHERE largest_step > ? '
        'AND variable_id IN (SELECT value FROM json_each(?)) GROUP BY variable_id',
        (step, json.dumps(ids)),
    )
    for variable_id, first in rows.fetchall():
        apply(connection, _cut(connection, variable_id, first, step))


def _cut(connection: sqlite3.Connection, variable_id: int, first: int, step: float) -> Rewrite:
    """Return what has to change in a series from the chunk on that begins at a position."""
    count = end_of(find_tail(connection, variable_id)).count
    chunks = read_chunks(connection, {variable_id: (first, count)})[variable_id]
    pieces = [unpack_chunk(chunk).up_to(step) for chunk in chunks]
    kept = concatenated([piece for piece in pieces if len(piece)] or pieces[:1])
    tail = find_tail(connection, variable_id, before=first)
    return Rewrite(
        removed=[(variable_id, chunk.first) for chunk in chunks],
        added=[
            (variable_id, chunk) for chunk in repacked(kept, end_of(tail), series_summary(tail))
        ],
    )
