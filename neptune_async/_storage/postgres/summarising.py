"""Summarising rows of chunks: what a reader of few points needs to know of many."""

from __future__ import annotations

from array import array
from typing import Any

import asyncpg

from neptune_async._storage.points import Points, Stride, never_decreases
from neptune_async._storage.summaries import (
    NO_POINTS,
    ChunkSummary,
    packed_summary,
    summarised,
)

ROW_POINTS = 512
"""Points of a row from which on it gets a summary: less are as soon read."""
_ROWS = 16
"""Rows to summarise at a time: 3 MB, while their series cannot be appended to."""

_FOUND = """
SELECT variable_id, first FROM chunks
WHERE experiment_id = $1 AND summary IS NULL AND count >= $2
ORDER BY variable_id, first LIMIT $3
"""
_POINTS = """
SELECT variable_id, first, count, first_step, stride, steps, times, "values"
FROM unnest($2::bigint[], $3::bigint[]) AS wanted (variable_id, first)
JOIN chunks USING (variable_id, first)
WHERE experiment_id = $1 AND summary IS NULL
"""
_UPDATE = """
UPDATE chunks SET
    least_step = made.least_step, greatest_step = made.greatest_step,
    least_time = made.least_time, greatest_time = made.greatest_time, summary = made.summary
FROM unnest(
    $2::bigint[], $3::bigint[], $4::double precision[], $5::double precision[],
    $6::double precision[], $7::double precision[], $8::bytea[]
) AS made (variable_id, first, least_step, greatest_step, least_time, greatest_time, summary)
WHERE experiment_id = $1 AND chunks.variable_id = made.variable_id AND chunks.first = made.first
"""


async def summarise(connection: asyncpg.Connection, experiment_id: int) -> bool:
    """Give some rows of an experiment their summaries; return whether there may be more."""
    async with connection.transaction():
        found = await connection.fetch(_FOUND, experiment_id, ROW_POINTS, _ROWS)
        if not found:
            return False
        ids, firsts = zip(*found, strict=True)
        # So that no row is merged, or cut by a rewind, while it is read.
        await connection.execute('SELECT lock_series($1, $2, true)', experiment_id, sorted({*ids}))
        rows = await connection.fetch(_POINTS, experiment_id, ids, firsts)
        made = [summary for summary in map(_summary, rows) if summary is not None]
        if made:
            await connection.execute(_UPDATE, experiment_id, *zip(*made, strict=True))
        return len(found) == _ROWS and len(made) == len(rows)


def _summary(row: Any) -> tuple[Any, ...] | None:
    """Return variable, beginning, ranges and summary of a row; None if it is damaged."""
    try:
        own = _summarised(row)
    except (TypeError, ValueError):
        return None  # whoever reads it is told
    chunk = own.chunk
    return (
        row['variable_id'], row['first'], chunk.least_step, chunk.greatest_step,
        chunk.least_time, chunk.greatest_time, packed_summary(own),
    )  # fmt: skip


def _summarised(row: Any) -> ChunkSummary:
    count = row['count']
    steps: Stride | array[float]
    if row['stride'] is not None:
        steps = Stride(row['first_step'], row['stride'], count)
    else:
        steps = array('d', row['steps'])
    times = array('d', row['times'])
    values = [None] * count if row['values'] is None else array('d', row['values'])
    own_steps = count if isinstance(steps, Stride) else len(steps)
    if {count, own_steps, len(times), len(values)} != {count}:
        raise ValueError('it has another number of points')
    return summarised(Points(steps, times, values), NO_POINTS, never_decreases(times))
