"""Turning the log of a SQLite store into chunks, and small chunks into large ones."""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from neptune_async._storage.chunks import CHUNK_POINTS, Chunk, head_checksum, packed
from neptune_async._storage.points import (
    Columns,
    Points,
    SeriesEnd,
    Stride,
    columns_by_variable,
    concatenated,
    resolved,
    text_columns_by_variable,
)
from neptune_async._storage.sqlite.counts import keep_counts
from neptune_async._storage.sqlite.reading import (
    CHUNK_COLUMNS,
    ChunkTail,
    decoded_log_row,
    end_of,
    find_tail,
    find_tails,
    read_chunk,
    series_summary,
    unpack_chunk,
)
from neptune_async._storage.sqlite.sql import insert_rows, transaction
from neptune_async._storage.summaries import SeriesSummary, unpacked_series_summary

_MOST_POINTS = 2**19
"""Points taken from the log at a time where all of it is: 16 MiB."""
_MOST_SERIES = 2**12
"""Series whose chunks are in memory at a time."""


@dataclass(slots=True)
class _Log:
    """The oldest rows of an experiment's log, in one piece each for floats and for the rest.

    :ivar last: the id of the last row.
    """

    last: int = 0
    count: int = 0
    floats: array[float] = field(default_factory=lambda: array('d'))
    texts: list[Any] = field(default_factory=list)

    def columns_by_variable(self) -> Iterator[tuple[int, Columns]]:
        if self.floats:
            yield from columns_by_variable(self.floats)
        yield from text_columns_by_variable(self.texts)


@dataclass(slots=True)
class Rewrite:
    """What is to change in the chunks of a store.

    :ivar series: how many series of the log it is made of.
    :ivar removed: variable and beginning of chunks.
    :ivar added: variable and chunk, after those are removed.
    """

    series: int = 0
    removed: list[tuple[int, int]] = field(default_factory=list)
    added: list[tuple[int, Chunk]] = field(default_factory=list)


class _Interrupted(Exception):
    """Something else has to be done first."""


def compact_log(
    connection: sqlite3.Connection,
    experiment_id: int,
    most: int,
    is_urged: Callable[[], bool],
) -> int | None:
    """Turn the oldest log rows of an experiment into chunks.

    All is packed before the write lock is taken, unless there are thousands of
    series, whose chunks would take too much memory at a time. If another
    process has changed what it was made from by then, nothing happens.

    :param most: points to take, in whole rows; if it is reached, there may be more.
    :param is_urged: asked after each chunk whether to give up; nothing is changed then.
    :returns: how many it took; None if it gave up.
    """
    try:
        with transaction(connection, 'DEFERRED'):
            log = _oldest_rows(connection, experiment_id, most)
            if not log.count:
                return 0
            seen = _state(connection, experiment_id, log)
            columns = log.columns_by_variable()
            rewrite = _rewrite(connection, columns, is_urged)
        with transaction(connection):
            if _state(connection, experiment_id, log) != seen:
                return None
            _replace(connection, experiment_id, log, columns, rewrite, is_urged)
    except _Interrupted:
        return None
    return log.count


def compact_at_once(connection: sqlite3.Connection, experiment_id: int) -> None:
    """Turn the whole log of an experiment into chunks, in the transaction that is going on."""
    while (log := _oldest_rows(connection, experiment_id, _MOST_POINTS)).count:
        columns = log.columns_by_variable()
        rewrite = _rewrite(connection, columns, _never)
        _replace(connection, experiment_id, log, columns, rewrite, _never)


def _never() -> bool:
    return False


def count_series(connection: sqlite3.Connection, experiment_id: int) -> int:
    """Return how many series an experiment has."""
    (count,) = connection.execute(
        "SELECT count(*) FROM variables WHERE experiment_id = ? AND container = 'series'",
        (experiment_id,),
    ).fetchone()
    return int(count)


def _oldest_rows(connection: sqlite3.Connection, experiment_id: int, most: int) -> _Log:
    log = _Log()
    for row_id, *row in connection.execute(
        'SELECT id, form, count, crc32, points FROM log WHERE experiment_id = ? ORDER BY id',
        (experiment_id,),
    ):
        points = decoded_log_row(experiment_id, row_id, *row)
        if isinstance(points, list):
            log.texts += points
        elif log.floats:
            log.floats += points
        else:
            log.floats = points  # with nothing to copy, in the usual case
        log.last, log.count = row_id, log.count + row[1]
        if log.count >= most:
            break
    return log


def _state(
    connection: sqlite3.Connection, experiment_id: int, log: _Log
) -> tuple[object, ...] | None:
    """Return what changes if the log rows up to one, or the variables, change."""
    row: tuple[object, ...] | None = connection.execute(
        'SELECT epoch, (SELECT min(id) FROM log WHERE experiment_id = :id AND id <= :last) '
        'FROM experiments WHERE id = :id',
        {'id': experiment_id, 'last': log.last},
    ).fetchone()
    return row


def _replace(
    connection: sqlite3.Connection,
    experiment_id: int,
    log: _Log,
    columns: Iterator[tuple[int, Columns]],
    rewrite: Rewrite,
    is_urged: Callable[[], bool],
) -> None:
    # The log goes first: chunks then take its pages, and the file does not grow.
    connection.execute(
        'DELETE FROM log WHERE experiment_id = ? AND id <= ?', (experiment_id, log.last)
    )
    while rewrite.series:
        apply(connection, rewrite)
        rewrite = _rewrite(connection, columns, is_urged)


def _rewrite(
    connection: sqlite3.Connection,
    columns: Iterator[tuple[int, Columns]],
    is_urged: Callable[[], bool],
) -> Rewrite:
    """Return what the next series of the log change; nothing if there are none left."""
    some = dict(islice(columns, _MOST_SERIES))
    ends = _ends(connection, some)
    rewrite = Rewrite(len(some))
    for variable_id, new in some.items():
        # A variable that is not there has been deleted since.
        if variable_id in ends:
            for chunk in _merged(connection, variable_id, new, ends[variable_id], rewrite):
                if is_urged():
                    raise _Interrupted
                rewrite.added.append((variable_id, chunk))
    return rewrite


def _ends(
    connection: sqlite3.Connection, variable_ids: Iterable[int]
) -> dict[int, ChunkTail | None]:
    """Return the last chunk of each variable that exists; None for one that has none yet."""
    existing = connection.execute(
        'SELECT id FROM variables WHERE id IN (SELECT value FROM json_each(?))',
        (json.dumps([*variable_ids]),),
    )
    ids = [row[0] for row in existing.fetchall()]
    return {**dict.fromkeys(ids), **find_tails(connection, ids)}


def _merged(
    connection: sqlite3.Connection,
    variable_id: int,
    columns: Columns,
    tail: ChunkTail | None,
    rewrite: Rewrite,
) -> Iterator[Chunk]:
    """Return the chunks of points that are appended to a series, and of the small chunks at its
    end, which are removed.

    A chunk is merged when no more is in it than comes behind it. So the sizes
    of a series' last chunks at least double from each to the one before, and
    each point is rewritten a logarithmic number of times.
    """
    new = resolved(columns, end_of(tail))
    pieces = [new]
    count = len(new)
    while tail and tail.count < CHUNK_POINTS and tail.count <= count:
        pieces.insert(0, unpack_chunk(read_chunk(connection, variable_id, tail.first)))
        count += tail.count
        rewrite.removed.append((variable_id, tail.first))
        tail = find_tail(connection, variable_id, before=tail.first)
    return repacked(concatenated(pieces), end_of(tail), series_summary(tail))


def repacked(points: Points, end: SeriesEnd, before: SeriesSummary) -> Iterator[Chunk]:
    """Yield the chunks that hold points of a series.

    :param end: where the series stands before them.
    :param before: the summary of the series before them.
    """
    start = 0
    while start < len(points):
        stop = start + CHUNK_POINTS - _points_after_an_edge(points.steps, start)
        chunk = packed(points.sliced(start, stop), end, before)
        end, before = chunk.end, unpacked_series_summary(chunk.summary)
        start = stop
        yield chunk


def _points_after_an_edge(steps: Stride | array[float], start: int) -> int:
    """Return how many points less than a full one has a chunk that begins at one of them, so that
    those after it begin where buckets of an overview do (see ``overviews``). Else each chunk of a
    series whose steps begin at 1 would have a point of the bucket that is mostly in the next.
    """
    if not isinstance(steps, Stride) or steps.stride <= 0 or math.frexp(steps.stride)[0] != 0.5:
        return 0
    return int(steps.first // steps.stride + start) % CHUNK_POINTS


def apply(connection: sqlite3.Connection, rewrite: Rewrite) -> None:
    """Remove chunks, then add some, all at the ends of their series."""
    counts: dict[int, int] = {}
    for variable_id, first in rewrite.removed:
        counts[variable_id] = min(first, counts.get(variable_id, first))
    counts |= {variable_id: chunk.end.count for variable_id, chunk in rewrite.added}
    keep_counts(connection, counts)
    connection.executemany(
        'DELETE FROM chunks WHERE variable_id = ? AND first = ?', rewrite.removed
    )
    insert_rows(
        connection,
        f'INSERT INTO chunks (variable_id, {CHUNK_COLUMNS}) VALUES {{rows}}',
        [
            (variable_id, *head, head_checksum(variable_id, head), *chunk.columns)
            for variable_id, chunk in rewrite.added
            for head in [chunk.head]
        ],
    )


def give_back_pages(connection: sqlite3.Connection) -> None:
    """Let the file shrink by what is free in it."""
    # This PRAGMA frees pages as its rows are fetched, and its rows have no columns: only
    # executescript runs it to the end.
    connection.executescript('PRAGMA incremental_vacuum')
