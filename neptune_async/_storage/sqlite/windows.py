"""The chunks of a long series that a window touches, found without a look at all the others."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from typing import Any

from neptune_async._storage.base import Span
from neptune_async._storage.chunks import Chunk
from neptune_async._storage.sqlite.reading import (
    CHUNK_COLUMNS,
    HEAD_COLUMNS,
    checked_chunk,
    find_tail,
    some_are_missing,
    tail_of,
)
from neptune_async._storage.summaries import SeriesSummary
from neptune_async.exceptions import StorageFormatError

_HOLDING = (
    'SELECT {columns} FROM chunks WHERE variable_id = ? AND first <= ? ORDER BY first DESC LIMIT 1'
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Points that are in chunks, and that are not wanted."""

    count: int


class Window:
    """A span of a series whose steps, or timestamps, never decrease.

    Where they do not, what a chunk holds says nothing of the others. The summary at the end of the
    series tells. So each chunk that is looked at, with its checksum, vouches for all on one side of
    it: no chunk is left out for what a damaged one says.
    """

    def __init__(self, series: SeriesSummary, span: Span) -> None:
        by_step = (span.first_step, span.last_step) != (-math.inf, math.inf)
        by_time = (span.first_time, span.last_time) != (-math.inf, math.inf)
        self._by_step = by_step and series.steps_ascend
        self._by_time = by_time and series.times_ascend
        self._span = span
        self.is_of_use = self._by_step or self._by_time

    def is_after(self, greatest_step: float, greatest_time: float) -> bool:
        """Whether it begins after a chunk, and so after all before that."""
        return (self._by_step and greatest_step < self._span.first_step) or (
            self._by_time and greatest_time < self._span.first_time
        )

    def is_over(self, greatest_step: float, greatest_time: float) -> bool:
        """Whether it ends before all that come after a chunk."""
        return (self._by_step and greatest_step > self._span.last_step) or (
            self._by_time and greatest_time > self._span.last_time
        )


def chunks_within(
    connection: sqlite3.Connection, variable_id: int, span: Span
) -> list[tuple[int, Chunk | Skipped]] | None:
    """Return the chunks of a series that may have points in a span, and in the place of the others
    that they are skipped, each with how many points come before it.

    :returns: None if that cannot be told without a look at all of them: neither steps nor
        timestamps ascend, or what was met is damaged.
    """
    try:
        tail = find_tail(connection, variable_id)
        if tail is None or tail.series is None:
            return None
        window = Window(tail.series, span)
        if not window.is_of_use:
            return None
        start = _first_within(connection, variable_id, window, tail.end.count)
        found: list[tuple[int, Chunk | Skipped]] = [(0, Skipped(start))]
        while start < tail.end.count:
            chunk = checked_chunk(variable_id, _holding(connection, variable_id, start))
            if chunk.first != start:
                return None
            is_wanted = span.touches(
                chunk.least_step, chunk.greatest_step, chunk.least_time, chunk.greatest_time
            )
            found.append((start, chunk if is_wanted else Skipped(chunk.count)))
            start += chunk.count
            if window.is_over(chunk.greatest_step, chunk.greatest_time):
                break
    except StorageFormatError:
        return None
    return [*found, (start, Skipped(tail.end.count - start))]


def _first_within(
    connection: sqlite3.Connection, variable_id: int, window: Window, end: int
) -> int:
    """Return how many points come before the first chunk that the window does not begin after."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        head = _holding(connection, variable_id, middle, HEAD_COLUMNS)
        tail = tail_of(variable_id, head)
        if not low <= tail.first <= middle < tail.end.count:
            raise StorageFormatError(some_are_missing(variable_id))
        if window.is_after(head[7], head[9]):
            low = tail.end.count
        else:
            high = tail.first
    return low


def _holding(
    connection: sqlite3.Connection, variable_id: int, position: int, columns: str = CHUNK_COLUMNS
) -> Any:
    """Return columns of the chunk that holds the point at a position.

    :raises StorageFormatError: there is none that begins at the position or before.
    """
    row = connection.execute(_HOLDING.format(columns=columns), (variable_id, position)).fetchone()
    if row is None:
        raise StorageFormatError(some_are_missing(variable_id))
    return row
