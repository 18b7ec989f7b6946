"""Which points of a series a table shows."""

from __future__ import annotations

import math
import operator
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

from neptune_async._model.sampling import sampled, spread
from neptune_async._storage.base import EVERYWHERE, Span
from neptune_async._storage.points import Points, Stride, expanded

Duplicates: TypeAlias = Literal['last', 'first', 'all']


@dataclass(frozen=True, slots=True)
class Thinning:
    """Which points of a series are wanted.

    :ivar span: where the points lie that are wanted.
    :ivar duplicates: what to keep of points of one step. But for 'all' points are put in the
        order of their steps, else they stay in the order in which they were logged.
    :ivar max_points: how many to keep at most; of texts and datetimes, evenly spread ones.
    """

    span: Span = EVERYWHERE
    duplicates: Duplicates = 'all'
    max_points: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether there is nothing to be done."""
        return self == Thinning()

    def applied(self, points: Points) -> Points:
        """Return the points that are wanted."""
        kept = self._within_span(points)
        kept = self._without_duplicates(points, kept)
        if self.max_points is not None and len(kept) > self.max_points:
            kept = _thinned(points, kept, self.max_points)
        if kept == range(len(points)):
            return points
        if isinstance(kept, range) and kept.step == 1:
            return points.sliced(kept.start, kept.stop)
        return _taken(points, kept)

    def _within_span(self, points: Points) -> Sequence[int]:
        span = self.span
        kept: Sequence[int] = range(len(points))
        if (span.first_step, span.last_step) != (-math.inf, math.inf):
            kept = _between(points.steps, span.first_step, span.last_step, kept)
        if (span.first_time, span.last_time) != (-math.inf, math.inf):
            kept = _between(points.times, span.first_time, span.last_time, kept)
        return kept

    def _without_duplicates(self, points: Points, kept: Sequence[int]) -> Sequence[int]:
        if self.duplicates == 'all' or _ascends(points.steps):
            return kept
        steps = expanded(points.steps)
        # The later of two overwrites the earlier.
        by_step = {steps[i]: i for i in (kept if self.duplicates == 'last' else reversed(kept))}
        return [by_step[step] for step in sorted(by_step)]


def _between(
    column: Stride | array[float], first: float, last: float, kept: Sequence[int]
) -> Sequence[int]:
    """Return which of some places of a column hold numbers between two, both included."""
    if isinstance(kept, range) and _ascends(column):
        numbers = column.numbers if isinstance(column, Stride) else column
        start, stop = bisect_left(numbers, first), bisect_right(numbers, last)
        return kept[max(0, start - kept.start) : max(0, stop - kept.start)]
    numbers = expanded(column)
    return [i for i in kept if first <= numbers[i] <= last]


def _ascends(steps: Stride | array[float]) -> bool:
    if isinstance(steps, Stride):
        return steps.stride > 0
    return all(map(operator.lt, steps, islice(steps, 1, None)))


def _thinned(points: Points, kept: Sequence[int], most: int) -> Sequence[int]:
    if isinstance(points.values, array):
        values = points.values
        if kept != range(len(values)):
            values = array('d', map(values.__getitem__, kept))
        return [kept[i] for i in sampled(values, most)]
    return [kept[i] for i in spread(len(kept), most)]


def _taken(points: Points, kept: Sequence[int]) -> Points:
    values: array[float] | list[Any] = [points.values[i] for i in kept]
    return Points(
        _steps_at(points.steps, kept),
        array('d', map(points.times.__getitem__, kept)),
        array('d', values) if isinstance(points.values, array) else values,
    )


def _steps_at(steps: Stride | array[float], kept: Sequence[int]) -> array[float]:
    if isinstance(steps, Stride):
        return array('d', [steps.first + steps.stride * i for i in kept])
    return array('d', map(steps.__getitem__, kept))
