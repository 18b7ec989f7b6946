"""Overviews: many points of a series as few buckets of an axis (see ``grid``)."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from neptune_async._storage.grid import OUTSIDE, Axis, Grid
from neptune_async._storage.loaded_numpy import loaded_numpy
from neptune_async._storage.overviews_with_numpy import (
    FEW_SUMMARIES,
    Runs,
    runs_of_points,
    runs_of_summaries,
)
from neptune_async._storage.points import Points, Stride, ascends, concatenated, expanded
from neptune_async._storage.summaries import (
    Summary,
    block_count,
    finite_rows,
    merged_columns,
    unpacked_chunk_row,
    unpacked_columns,
    value_summaries,
)


class Buckets:
    """What is known of the points in each bucket of a grid: an item a bucket.

    :ivar points: how many there are.
    :ivar nan, positive_infinite, negative_infinite: how many values are not finite.
    :ivar least, greatest: of the finite values; inf and -inf if there is none.
    :ivar last: the value that was logged last; NaN if there is no point, or it is no float.
    :ivar mean: of the finite values; 0 if there is none.
    """

    def __init__(self, grid: Grid) -> None:
        size = grid.size
        self.grid = grid
        self.points = array('q', [0]) * size
        self.nan = array('q', [0]) * size
        self.positive_infinite = array('q', [0]) * size
        self.negative_infinite = array('q', [0]) * size
        self.least = array('d', [math.inf]) * size
        self.greatest = array('d', [-math.inf]) * size
        self.last = array('d', [math.nan]) * size
        self.mean = array('d', [0.0]) * size
        # How many points of the series come before the last.
        self._lasts = array('q', [-1]) * size
        self._own: dict[str, Any] = {}

    def add(self, place: int, position: int, summary: Summary) -> None:
        """Add points that are in one bucket.

        :param position: how many points of the series come before the first of them.
        """
        last = position + summary.points
        if not self.points[place]:
            # Most buckets are added to once.
            self.least[place], self.greatest[place] = summary.least, summary.greatest
            self.mean[place] = summary.mean
        elif summary.finite:
            before = self._finite(place)
            both = before + summary.finite
            # Weighted one by one: a sum may be beyond what a float can be.
            self.mean[place] *= before / both
            self.mean[place] += summary.mean * (summary.finite / both)
            self.least[place] = min(self.least[place], summary.least)
            self.greatest[place] = max(self.greatest[place], summary.greatest)
        self.points[place] += summary.points
        if summary.finite < summary.points:
            self.nan[place] += summary.nan
            self.positive_infinite[place] += summary.positive_infinite
            self.negative_infinite[place] += summary.negative_infinite
        if last > self._lasts[place]:
            self._lasts[place], self.last[place] = last, summary.last

    def add_points(self, position: int, points: Points) -> None:
        """Add points, each to its bucket. Of steps and times only those of the axis are looked at.

        :param position: how many points of the series come before the first of them.
        """
        numpy = loaded_numpy()
        if numpy is not None:
            runs = runs_of_points(numpy, self.grid, position, points)
            if runs is not None:
                self.add_runs(numpy, runs)
                return
        column = points.steps if self.grid.axis == 'step' else points.times
        bounds, places = _runs(column, self.grid)
        values = value_summaries(points.values, bounds)
        for place, (start, stop), fields in zip(places, pairwise(bounds), values, strict=True):
            if place != OUTSIDE:
                self.add(place, position + start, Summary(stop - start, *fields))

    def add_runs(self, numpy: Any, runs: Runs) -> None:
        """Add points of which is known what is in which bucket, with NumPy."""
        own, where = self._arrays(numpy), runs.places
        before = own['points'][where] - sum(own[name][where] for name in _COUNTS[1:4])
        both = before + runs.points
        mean = own['mean'][where] * (before / both) + runs.mean * (runs.points / both)
        is_last = runs.ends > own['_lasts'][where]
        own['last'][where] = numpy.where(is_last, runs.last, own['last'][where])
        own['_lasts'][where] = numpy.maximum(runs.ends, own['_lasts'][where])
        own['least'][where] = numpy.minimum(runs.least, own['least'][where])
        own['greatest'][where] = numpy.maximum(runs.greatest, own['greatest'][where])
        own['points'][where] += runs.points
        own['mean'][where] = mean

    def _arrays(self, numpy: Any) -> dict[str, Any]:
        """Return the items of buckets where they are, as NumPy has them."""
        if not self._own:
            for names, kind in ((_COUNTS, 'i8'), (_VALUES, 'f8')):
                self._own |= {name: numpy.frombuffer(getattr(self, name), kind) for name in names}
        return self._own

    def _finite(self, place: int) -> int:
        others = self.nan[place] + self.positive_infinite[place] + self.negative_infinite[place]
        return self.points[place] - others


@dataclass(frozen=True, slots=True)
class Overview:
    """What is in the buckets of a series.

    :ivar damaged: what is to be said of points that cannot be read; they are in no bucket.
    """

    buckets: Buckets
    damaged: Sequence[str] = ()


_COUNTS = ('points', 'nan', 'positive_infinite', 'negative_infinite', '_lasts')
_VALUES = ('least', 'greatest', 'last', 'mean')


def _runs(column: Stride | array[float], grid: Grid) -> tuple[list[int], list[int]]:
    """Return where runs of points begin that are in one bucket, with the end of the last; and the
    bucket of each, or ``OUTSIDE``.
    """
    if not ascends(column):
        return _runs_of_any_order(expanded(column), grid)
    axis = column.numbers if isinstance(column, Stride) else column
    bounds, places = [bisect_left(axis, grid.first)], []
    stop = bisect_right(axis, grid.last)
    while bounds[-1] < stop:
        place = grid.place(axis[bounds[-1]])
        edge = (grid.origin + place + 1) * grid.width
        places.append(place)
        bounds.append(bisect_left(axis, edge, bounds[-1], stop))
    return bounds, places


def _runs_of_any_order(column: array[float], grid: Grid) -> tuple[list[int], list[int]]:
    of_each = [grid.place(x) if grid.first <= x <= grid.last else OUTSIDE for x in column]
    bounds = [0, *(i for i in range(1, len(of_each)) if of_each[i] != of_each[i - 1])]
    return [*bounds, len(of_each)], [of_each[i] for i in bounds]


# ── From summaries ───────────────────────────────────────────────────────────

_RUN_POINTS = 2**16
"""Points that are added at a time, at most but for those of a chunk."""

Piece: TypeAlias = tuple[int, int]
"""Points of a chunk: how many come before them in it, and the same at their end."""


class OverviewMaker:
    """Makes the overview of one series of its chunks: first of the summaries of all of them, then
    of the points of those that summaries are not enough for.
    """

    def __init__(self, grid: Grid) -> None:
        self._buckets = Buckets(grid)
        self._grid = grid
        self._known: list[tuple[int, int, int | None, bytes]] = []
        self._pieces: dict[int, list[Piece]] = {}
        # Points that follow each other, to be added at a time, and where they begin.
        self._run: list[Points] = []
        self._run_first = self._run_end = 0

    @property
    def buckets(self) -> Buckets:
        """What was made so far."""
        self._add_run()
        return self._buckets

    def add_summary(
        self, first: int, count: int, low: float, high: float, stored: bytes | None
    ) -> None:
        """Add the summary of a chunk.

        :param first: how many points of the series come before it.
        :param low, high: the part of the axis that it has points in.
        :param stored: its summary; None if there is none that can be read.
        """
        place = self._grid.place_of_range(low, high)
        if place == OUTSIDE:
            return
        # Blocks that are wider than buckets are cut by their edges.
        if stored and (place is not None or high - low <= block_count(stored) * self._grid.width):
            self._known.append((first, count, place, stored))
        else:
            self._pieces[first] = [(0, count)]

    def settle(self) -> Iterable[int]:
        """Make of summaries what can be made of them.

        :returns: the chunks whose points are needed: of each how many points come before it.
        """
        numpy = loaded_numpy()
        if numpy is not None and len(self._known) > FEW_SUMMARIES:
            self._known = self._settled_with(numpy)
        for first, count, place, stored in self._known:
            self._add_known(first, count, place, stored)
        return self._pieces

    def add_points(self, first: int, points: Points) -> None:
        """Add the points that are needed of a chunk.

        :param first: how many points of the series come before the chunk.
        """
        for start, end in self._pieces[first]:
            piece = points if end - start == len(points) else points.sliced(start, end)
            if first + start != self._run_end or self._run_end - self._run_first >= _RUN_POINTS:
                self._add_run()
                self._run_first = first + start
            self._run.append(piece)
            self._run_end = first + end

    def _add_run(self) -> None:
        run, self._run = self._run, []
        if run:
            self._buckets.add_points(self._run_first, _joined(run, self._grid.axis))

    def _settled_with(self, numpy: Any) -> list[tuple[int, int, int | None, bytes]]:
        """Add summaries of finite floats; return the others."""
        some, rest = [], []
        for known in sorted(self._known):
            rows = finite_rows(known[3], known[2] is not None)
            if rows is None:
                rest.append(known)
            else:
                some.append((*known[:2], rows))
        found = some and runs_of_summaries(numpy, self._grid, *zip(*some, strict=True))
        if not found:
            return self._known
        runs, cut = found
        self._buckets.add_runs(numpy, runs)
        for number, start, end in cut:
            self._need(some[number][0], start, end)
        return rest

    def _add_known(self, first: int, count: int, place: int | None, stored: bytes) -> None:
        start = 0
        # What no summary can be made of leaves the points, which may be whole.
        with suppress(ValueError):
            if place is not None:
                self._buckets.add(place, first, unpacked_chunk_row(stored))
                return
            columns = unpacked_columns(stored)
            places = self._places(columns)
            number = 0
            while number < len(places):
                own, stop = places[number], number + 1
                while stop < len(places) and places[stop] == own:
                    stop += 1
                block = (
                    Summary(*[column[number] for column in columns])
                    if stop == number + 1
                    else merged_columns([column[number:stop] for column in columns])
                )
                if own is None:
                    self._need(first, start, start + block.points)
                elif own != OUTSIDE:
                    self._buckets.add(own, first + start, block)
                start += block.points
                number = stop
        if start < count:
            self._need(first, start, count)

    def _places(self, columns: Sequence[Sequence[Any]]) -> Sequence[int | None]:
        """Return in which bucket each block is."""
        grid = self._grid
        lows, highs = columns[-4:-2] if grid.axis == 'step' else columns[-2:]
        if min(lows) < grid.first or max(highs) > grid.last:
            return [*map(grid.place_of_range, lows, highs)]
        # As place_of_range, in a third of the time.
        begins = [math.floor(low / grid.width) for low in lows]
        ends = [math.floor(high / grid.width) for high in highs]
        return [
            begin - grid.origin if begin == end else None
            for begin, end in zip(begins, ends, strict=True)
        ]

    def _need(self, first: int, start: int, end: int) -> None:
        """Note that points of a chunk are needed."""
        pieces = self._pieces.setdefault(first, [])
        if pieces and pieces[-1][1] == start:
            start, _ = pieces.pop()
        pieces.append((start, end))


def _joined(run: Sequence[Points], axis: Axis) -> Points:
    """Return points that follow each other as one piece, of steps and times those of the axis."""
    if len(run) == 1:
        return run[0]
    if axis == 'step':
        return concatenated(run)
    times, values = array('d'), run[0].values[:0]
    for points in run:
        times += points.times
        values += points.values  # type: ignore[operator]  # a series has one kind of values
    return Points(array('d'), times, values)
