"""Turning the log of a SQLite store into chunks, and small chunks into large ones."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from neptune_async._storage.chunks import (
    CHUNK_POINTS,
    Chunk,
    Columns,
    Points,
    SeriesEnd,
    checksum,
    columns_by_variable,
    concatenated,
    joined,
    packed,
    resolved,
    text_columns_by_variable,
)
from neptune_async._storage.sqlite.reading import (
    decoded_log_row,
    end_of,
    find_tail,
    read_chunk,
    unpack_chunk,
)
from neptune_async._storage.sqlite.sql import insert_rows, transaction

_MOST_POINTS = 2**19
"""Points taken from the log at a time: 16 MiB, and about as much again while they are sorted."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What one compaction came to.

    :ivar series: of how many series it took points from the log.
    :ivar is_partial: whether it took as many points as it may at a time, so
        that there may be more.
    """

    series: int
    is_partial: bool


@dataclass(slots=True)
class _Rewrite:
    """What compaction changes in the chunks of a store."""

    removed: list[tuple[int, int]] = field(default_factory=list)
    added: list[tuple[int, Chunk]] = field(default_factory=list)


def compact_log(connection: sqlite3.Connection, experiment_id: int) -> Compacted:
    """Turn the oldest log rows of an experiment into chunks.

    All is packed before the write lock is taken. If another process has changed
    what it was made from by then, nothing happens.

    """
    with transaction(connection, 'DEFERRED'):
        log = _oldest_rows(connection, experiment_id)
        if not log:
            return Compacted(0, is_partial=False)
        seen = _state(connection, experiment_id, log[-1][0])
        columns = _columns_in(log)
        living = _living(connection, columns)
        rewrite = _Rewrite()
        for variable_id, pieces in columns.items():
            if variable_id in living:
                _merge(connection, variable_id, joined(pieces), rewrite)
    with transaction(connection):
        if _state(connection, experiment_id, log[-1][0]) == seen:
            # The log goes first: chunks then take its pages, and the file does not grow.
            connection.execute(
                'DELETE FROM log WHERE experiment_id = ? AND id <= ?',
                (experiment_id, log[-1][0]),
            )
            _apply(connection, rewrite)
    taken = sum(count for _, _, count, _, _ in log)
    return Compacted(len(columns), is_partial=taken >= _MOST_POINTS)


def _oldest_rows(
    connection: sqlite3.Connection, experiment_id: int
) -> list[tuple[int, str, int, int, bytes]]:
    rows = []
    count = 0
    for row in connection.execute(
        'SELECT id, form, count, crc32, points FROM log WHERE experiment_id = ? ORDER BY id',
        (experiment_id,),
    ):
        rows.append(row)
        count += row[2]
        if count >= _MOST_POINTS:
            break
    return rows


def _state(
    connection: sqlite3.Connection, experiment_id: int, last: int
) -> tuple[object, ...] | None:
    """Return what changes if the log rows up to one, or the variables, change."""
    row: tuple[object, ...] | None = connection.execute(
        'SELECT epoch, (SELECT min(id) FROM log WHERE experiment_id = ?1 AND id <= ?2) '
        'FROM experiments WHERE id = ?1',
        (experiment_id, last),
    ).fetchone()
    return row


def _columns_in(
    log: Sequence[tuple[int, str, int, int, bytes]],
) -> dict[int, list[Columns]]:
    """Return the points of log rows by variable."""
    # One buffer for all float rows: sorting by variable is cheaper for many points at once.
    floats = array('d')
    texts: list[Any] = []
    for _, form, count, crc32, stored in log:
        points = decoded_log_row(form, count, crc32, stored)
        if isinstance(points, array):
            floats += points
        else:
            texts += points
    columns: dict[int, list[Columns]] = {}
    for variable_id, some in _split(floats, texts):
        columns.setdefault(variable_id, []).append(some)
    return columns


def _split(
    floats: array[float], texts: Sequence[Sequence[object]]
) -> Iterator[tuple[int, Columns]]:
    if floats:
        yield from columns_by_variable(floats)
    yield from text_columns_by_variable(texts)


def _living(connection: sqlite3.Connection, variable_ids: dict[int, list[Columns]]) -> set[int]:
    rows = connection.execute(
        'SELECT id FROM variables WHERE id IN (SELECT value FROM json_each(?))',
        (json.dumps(list(variable_ids)),),
    )
    return {row[0] for row in rows.fetchall()}


def _merge(
    connection: sqlite3.Connection, variable_id: int, columns: Columns, rewrite: _Rewrite
) -> None:
    """Append points to a series, merging them with the small chunks at its end.

    A chunk is merged when no more is in it than comes behind it. So the sizes
    of a series' last chunks at least double from each to the one before, and
    each point is rewritten a logarithmic number of times.
    """
    tail = find_tail(connection, variable_id)
    new = resolved(columns, end_of(tail))
    pieces = [new]
    count = len(new)
    while tail and tail.count < CHUNK_POINTS and tail.count <= count:
        pieces.insert(0, unpack_chunk(read_chunk(connection, variable_id, tail.first)))
        count += tail.count
        rewrite.removed.append((variable_id, tail.first))
        tail = find_tail(connection, variable_id, before=tail.first)
    rewrite.added += [
        (variable_id, chunk) for chunk in _repacked(concatenated(pieces), end_of(tail))
    ]


def _repacked(points: Points, end: SeriesEnd) -> Iterator[Chunk]:
    for start in range(0, len(points), CHUNK_POINTS):
        chunk = packed(points.sliced(start, start + CHUNK_POINTS), end)
        end = chunk.end
        yield chunk


def _apply(connection: sqlite3.Connection, rewrite: _Rewrite) -> None:
    connection.executemany(
        'DELETE FROM chunks WHERE variable_id = ? AND first = ?', rewrite.removed
    )
    insert_rows(
        connection,
        'INSERT INTO chunks (variable_id, first, count, first_step, stride, largest_step, '
        'last_time, crc32, values_form, steps_form, times_form, "values", steps, times) '
        'VALUES {rows}',
        [
            (
                variable_id, c.first, c.count, c.first_step, c.stride, c.largest_step,
                c.last_time, checksum(c), c.values_form, c.steps_form, c.times_form,
                c.values, c.steps, c.times,
            )
            for variable_id, c in rewrite.added
        ],
    )  # fmt: skip
