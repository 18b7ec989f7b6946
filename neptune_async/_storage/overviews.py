"""Overviews: many points of a series as few buckets of an axis.

Buckets are a power of two wide and begin at multiples of it. So the buckets of a series that grows
stay as they are until there are too many of them, and two become one.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from neptune_async._storage.loaded_numpy import loaded_numpy
from neptune_async._storage.points import Points, Stride, ascends, expanded
from neptune_async._storage.summaries import (
    Summary,
    merged,
    unpacked_blocks,
    unpacked_chunk_row,
    value_summaries,
)

Axis: TypeAlias = Literal['step', 'time']
OUTSIDE = -1
"""Where points are that are not wanted, instead of a bucket."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets of equal width. Bucket i holds the points that lie from ``(origin + i) * width`` up
    to, but not at, ``(origin + i + 1) * width``.

    :ivar width: of a bucket, a power of two: steps, or seconds.
    :ivar size: how many buckets there are.
    :ivar first, last: where the points lie that are wanted, both included; the outermost buckets
        hold no others.
    """

    axis: Axis
    width: float
    origin: int
    size: int
    first: float
    last: float

    @classmethod
    def over(cls, axis: Axis, first: float, last: float, most: int) -> Grid:
        """Return the finest grid over a range that has so many buckets at most; two if the range is
        on both sides of 0.

        :param first, last: finite, and in this order.
        """
        # Not so narrow that a multiple of it is rounded.
        width = max(math.ulp(max(abs(first), abs(last))), 5e-324 if first < last else 1.0)
        if first < last:
            span = last / most - first / most
            width = max(width, math.ldexp(0.5, math.frexp(span)[1]))
        while math.floor(last / width) - math.floor(first / width) >= max(most, 2 * (first < 0)):
            width *= 2
        origin = math.floor(first / width)
        return cls(axis, width, origin, math.floor(last / width) - origin + 1, first, last)

    def place(self, x: float) -> int:
        """Return in which bucket a place of the axis is."""
        return math.floor(x / self.width) - self.origin

    def place_of_range(self, low: float, high: float) -> int | None:
        """Return in which bucket a part of the axis is: ``OUTSIDE`` if nothing of it is wanted,
        None if it is in several, or only partly wanted.
        """
        if low > self.last or high < self.first:
            return OUTSIDE
        if low < self.first or high > self.last:
            return None
        number = math.floor(low / self.width)
        return number - self.origin if math.floor(high / self.width) == number else None

    def place_of(self, summary: Summary) -> int | None:
        """Return the same, of the points of a summary."""
        if self.axis == 'step':
            return self.place_of_range(summary.least_step, summary.greatest_step)
        return self.place_of_range(summary.least_time, summary.greatest_time)


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

    def add(self, place: int, position: int, summary: Summary) -> None:
        """Add points that are in one bucket.

        :param position: how many points of the series come before the first of them.
        """
        if summary.finite:
            before = self._finite(place)
            both = before + summary.finite
            # Weighted one by one: a sum may be beyond what a float can be.
            self.mean[place] *= before / both
            self.mean[place] += summary.mean * (summary.finite / both)
            self.least[place] = min(self.least[place], summary.least)
            self.greatest[place] = max(self.greatest[place], summary.greatest)
        self.points[place] += summary.points
        self.nan[place] += summary.nan
        self.positive_infinite[place] += summary.positive_infinite
        self.negative_infinite[place] += summary.negative_infinite
        last = position + summary.points
        if last > self._lasts[place]:
            self._lasts[place], self.last[place] = last, summary.last

    def add_points(self, position: int, points: Points) -> None:
        """Add points, each to its bucket. Of steps and times only those of the axis are looked at.

        :param position: how many points of the series come before the first of them.
        """
        numpy = loaded_numpy()
        if numpy is not None and self._added_by(numpy, position, points):
            return
        column = points.steps if self.grid.axis == 'step' else points.times
        bounds, places = _runs(column, self.grid)
        values = value_summaries(points.values, bounds)
        for place, (start, stop), fields in zip(places, pairwise(bounds), values, strict=True):
            if place != OUTSIDE:
                self.add(place, position + start, Summary(stop - start, *fields))

    def _added_by(self, numpy: Any, position: int, points: Points) -> bool:
        """Add points with NumPy, if they are finite and in the order of the axis; else return
        False.
        """
        column = points.steps if self.grid.axis == 'step' else points.times
        if not isinstance(points.values, array) or not ascends(column):
            return False
        if isinstance(column, Stride):
            axis = numpy.arange(column.count, dtype='f8') * column.stride + column.first
        else:
            axis = numpy.frombuffer(column)
        start = int(numpy.searchsorted(axis, self.grid.first, 'left'))
        stop = int(numpy.searchsorted(axis, self.grid.last, 'right'))
        if start >= stop:
            return True
        numbers = numpy.floor(axis[start:stop] / self.grid.width).astype('i8') - self.grid.origin
        starts = numpy.flatnonzero(numpy.diff(numbers, prepend=numbers[0] - 1))
        counts = numpy.diff(starts, append=len(numbers))
        values = numpy.frombuffer(points.values)[start:stop]
        with numpy.errstate(all='ignore'):
            totals = numpy.add.reduceat(values, starts)
        if not numpy.isfinite(totals).all():
            return False
        where = numbers[starts]
        own = {name: numpy.frombuffer(getattr(self, name), 'i8') for name in _COUNTS}
        own |= {name: numpy.frombuffer(getattr(self, name)) for name in _VALUES}
        before = own['points'][where] - sum(own[name][where] for name in _COUNTS[1:4])
        both = before + counts
        own['mean'][where] *= before / both
        own['mean'][where] += totals / counts * (counts / both)
        for name, best in (('least', numpy.minimum), ('greatest', numpy.maximum)):
            own[name][where] = best(own[name][where], best.reduceat(values, starts))
        own['points'][where] += counts
        ends = starts + counts
        is_last = position + start + ends > own['_lasts'][where]
        own['last'][where[is_last]] = values[ends[is_last] - 1]
        own['_lasts'][where[is_last]] = position + start + ends[is_last]
        return True

    def _finite(self, place: int) -> int:
        others = self.nan[place] + self.positive_infinite[place] + self.negative_infinite[place]
        return self.points[place] - others


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

Piece: TypeAlias = tuple[int, int]
"""Points of a chunk: how many come before them in it, and the same at their end."""


class OverviewMaker:
    """Makes the overview of one series of its chunks: first of the summaries of all of them, then
    of the points of those that summaries are not enough for.

    :ivar pieces: which points of a chunk are needed, by how many come before the chunk.
    """

    def __init__(self, grid: Grid) -> None:
        self.buckets = Buckets(grid)
        self.pieces: dict[int, Sequence[Piece]] = {}
        self._grid = grid

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
        blocks: Sequence[Summary] = ()
        if stored is not None:
            # What no summary can be made of leaves the points, which may be whole.
            with suppress(ValueError):
                if place is not None:
                    self.buckets.add(place, first, unpacked_chunk_row(stored))
                    return
                blocks = unpacked_blocks(stored)
        self._add_blocks(first, count, blocks)

    def _add_blocks(self, first: int, count: int, blocks: Sequence[Summary]) -> None:
        """Add the blocks that are in one bucket; of the others the points are needed."""
        pieces: list[Piece] = []
        start = 0
        placed = [(self._grid.place_of(block), block) for block in blocks]
        for place, run in groupby(placed, itemgetter(0)):
            own = [block for _, block in run]
            whole = own[0] if len(own) == 1 else merged(own)
            if place is None:
                pieces.append((start, start + whole.points))
            elif place != OUTSIDE:
                self.buckets.add(place, first + start, whole)
            start += whole.points
        if start < count:
            pieces.append((start, count))
        if pieces:
            self.pieces[first] = pieces

    def add_points(self, first: int, points: Points) -> None:
        """Add the points that are needed of a chunk.

        :param first: how many points of the series come before the chunk.
        """
        for start, end in self.pieces[first]:
            piece = points if end - start == len(points) else points.sliced(start, end)
            self.buckets.add_points(first + start, piece)
