"""Overviews of series in a SQLite store: from the summaries of chunks, as far as those go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from neptune_async._storage.base import Damaged, VariablesByExperiment
from neptune_async._storage.grid import Grid
from neptune_async._storage.overviews import Overview, OverviewMaker
from neptune_async._storage.points import SeriesEnd
from neptune_async._storage.runs import summary_of
from neptune_async._storage.sqlite.bulk import ids_of, logged_points
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.counts import find_counts, lack
from neptune_async._storage.sqlite.reading import (
    CHUNKS_OF,
    LAST_CHUNKS,
    TAIL_COLUMNS,
    ChunkTail,
    checked_chunk,
    checked_summary,
    chunks_at,
    series_summary,
    some_are_missing,
    summarised_tail,
    tail_of,
    unpack_chunk,
)
from neptune_async._storage.sqlite.series import Logged, resolved_runs
from neptune_async._storage.sqlite.sql import transaction
from neptune_async._storage.summaries import NO_POINTS, SeriesSummary
from neptune_async.exceptions import StorageFormatError

_AT_ONCE = 64
"""Chunks whose points are in memory at a time: 8 MiB."""


def read_summaries(
    connection: StoreConnection, variables: VariablesByExperiment
) -> dict[int, SeriesSummary | Damaged]:
    """Return what is known of several series, by the variable's id: one look at each."""
    series = ids_of(variables, 'series')
    found: dict[int, SeriesSummary | Damaged] = dict.fromkeys(series, NO_POINTS)
    ends: dict[int, SeriesEnd] = {}
    with transaction(connection, 'DEFERRED'):
        logged = logged_points(connection, variables)
        for variable_id, *row in connection.execute(
            LAST_CHUNKS.format(columns=TAIL_COLUMNS), (json.dumps(series),)
        ):
            try:
                tail = summarised_tail(variable_id, row)
            except StorageFormatError as error:
                found[variable_id] = Damaged(None, str(error))
            else:
                found[variable_id], ends[variable_id] = series_summary(tail), tail.end
        counts = find_counts(connection, series)
    for variable_id in series:
        why = lack(variable_id, ends.get(variable_id, SeriesEnd()).count, counts)
        if why is not None and isinstance(found[variable_id], SeriesSummary):
            found[variable_id] = Damaged(None, why)
    for variable_id, own in logged.items():
        before = found[variable_id]
        if isinstance(before, SeriesSummary):
            runs = resolved_runs(own, ends.get(variable_id, SeriesEnd()), True)
            found[variable_id] = summary_of(runs, before)
    return found


def read_overviews(
    connection: StoreConnection, variables: VariablesByExperiment, grid: Grid
) -> dict[int, Overview]:
    """Return what is in the buckets of a grid, of several series, by the variable's id."""
    ids = ids_of(variables, 'series')
    series = {variable_id: _Series(variable_id, grid) for variable_id in ids}
    with transaction(connection, 'DEFERRED'):
        logged = logged_points(connection, variables)
        counts = find_counts(connection, ids)
        for variable_id, *row in connection.execute(CHUNKS_OF, (json.dumps(ids),)):
            series[variable_id].add_chunk(row)
        cut = [place for own in series.values() for place in own.settle()]
        for start in range(0, len(cut), _AT_ONCE):
            for variable_id, *row in chunks_at(connection, cut[start : start + _AT_ONCE]):
                series[variable_id].add_pieces(row)
    for variable_id, own in series.items():
        own.add_logged(logged.get(variable_id, ()), counts)
    return {variable_id: own.overview for variable_id, own in series.items()}


class _Series:
    """The overview of one series, while it is made.

    :ivar damaged: what is to be said of what cannot be read.
    """

    def __init__(self, variable_id: int, grid: Grid) -> None:
        self.damaged: list[str] = []
        self._id = variable_id
        self._grid = grid
        self._maker = OverviewMaker(grid)
        self._tails: list[ChunkTail] = []

    @property
    def overview(self) -> Overview:
        return Overview(self._maker.buckets, self.damaged)

    def add_chunk(self, row: Sequence[Any]) -> None:
        """Add what is known of the chunk in a row of ``TAIL_COLUMNS``."""
        stored: bytes | None = row[-1]
        try:
            tail = tail_of(self._id, row[:-1])
        except StorageFormatError as error:
            self.damaged.append(str(error))
            return
        self._tails.append(tail)
        low, high = row[6:8] if self._grid.axis == 'step' else row[8:10]
        try:
            stored = checked_summary(self._id, tail, row[-1])
        except StorageFormatError:
            stored = None
        self._maker.add_summary(tail.first, tail.count, low, high, stored)

    def settle(self) -> Iterator[tuple[int, int]]:
        """Yield the chunks of which points are needed: the variable's id, and where each begins."""
        return ((self._id, first) for first in self._maker.settle())

    def add_pieces(self, row: Sequence[Any]) -> None:
        """Add the points that are needed of the chunk in a row of ``CHUNK_COLUMNS``."""
        is_step = self._grid.axis == 'step'
        try:
            points = unpack_chunk(checked_chunk(self._id, row), steps=is_step, times=not is_step)
        except StorageFormatError as error:
            self.damaged.append(str(error))
        else:
            self._maker.add_points(row[0], points)

    def add_logged(self, logged: Logged, counts: Mapping[int, int]) -> None:
        """Add what is not in chunks yet; look whether all chunks were there.

        :param counts: what is kept of how many points are in the chunks of a series.
        """
        end = SeriesEnd()
        for tail in sorted(self._tails, key=attrgetter('first')):
            if tail.first != end.count and not self.damaged:
                self.damaged.append(some_are_missing(self._id))
            end = tail.end
        why = lack(self._id, end.count, counts)
        if why is not None and not self.damaged:
            self.damaged.append(why)
        position = end.count
        for run in resolved_runs(logged, None if self.damaged else end, True):
            if isinstance(run, Damaged):
                self.damaged.append(run.why)
            else:
                self._maker.buckets.add_points(position, run)
                position += len(run)
