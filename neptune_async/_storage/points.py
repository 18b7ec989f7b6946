"""Points as columns: the points of one series, with each step and timestamp as a read returns it.

Points arrive as ``POINT`` records in the order of the calls, so the points of different series are
mixed. This module makes columns of each series; ``chunks`` packs the columns.
"""

from __future__ import annotations

import math
import operator
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Protocol, TypeAlias

from neptune_async._model.operations import AUTOMATIC_STEP, POINT, POINT_FIELDS, variable_of
from neptune_async._model.values import MAX_STEP

Values: TypeAlias = 'array[float] | list[Any]'
_NAN_BYTES = array('d', [AUTOMATIC_STEP]).tobytes()


@dataclass(slots=True)
class Columns:
    """Points of one variable as they were logged. Steps may be automatic."""

    keys: array[float]
    steps: array[float]
    times: array[float]
    values: Values


@dataclass(slots=True)
class Points:
    """Points of one series as a read returns them. The three columns have equal length.

    :ivar steps: a ``Stride``, or one step for each point.
    :ivar times: seconds since the epoch.
    """

    steps: Stride | array[float]
    times: array[float]
    values: Values

    def __len__(self) -> int:
        return len(self.values)

    def sliced(self, start: int, stop: int) -> Points:
        """Return the points from ``start`` up to ``stop``."""
        return Points(self.steps[start:stop], self.times[start:stop], self.values[start:stop])

    def up_to(self, step: float) -> Points:
        """Return the points whose step is at most this step."""
        if isinstance(self.steps, Stride) and self.steps.stride >= 0:
            return self.sliced(0, bisect_right(self.steps.numbers, step))
        steps = expanded(self.steps)
        chosen = [each <= step for each in steps]
        kept = array('d', compress(steps, chosen))
        values = compress(self.values, chosen)
        return Points(
            (kept and as_stride(kept)) or kept,
            array('d', compress(self.times, chosen)),
            array('d', values) if isinstance(self.values, array) else [*values],
        )


class Sink(Protocol):
    """What takes the points of a series in, a piece at a time. It is called on any thread."""

    def begin(self, count: int) -> None:
        """Make room for so many points. What was taken before is forgotten."""

    def take(self, points: Points) -> None:
        """Take in the points that follow."""


@dataclass(frozen=True, slots=True)
class SeriesEnd:
    """The end of a series: how many points it has, its largest step, and its last timestamp."""

    count: int = 0
    largest_step: float = -math.inf
    last_time: float = -math.inf


@dataclass(frozen=True, slots=True)
class Stride:
    """The steps ``first + stride * i``, for i from 0 to ``count - 1``.

    ``first`` and ``stride`` are whole numbers. With fractions, rounding would make a step depend on
    which point is the first.
    """

    first: float
    stride: float
    count: int

    def __getitem__(self, index: slice) -> Stride:
        start, stop, _ = index.indices(self.count)
        return Stride(self.first + self.stride * start, self.stride, max(0, stop - start))

    @property
    def numbers(self) -> Sequence[float]:
        """The steps."""
        if self.stride == 0:
            return array('d', [self.first]) * self.count
        first, stride = int(self.first), int(self.stride)
        return range(first, first + stride * self.count, stride)

    def expanded(self) -> array[float]:
        """Return all steps, as an array."""
        return array('d', self.numbers)


# ── From the log to columns ──────────────────────────────────────────────────


def columns_by_variable(points: array[float]) -> Iterator[tuple[int, Columns]]:
    """Split mixed points by variable. The points of each variable keep their order.

    A training loop logs one series, or the same few series in the same order, again and again.
    Comparing memory finds both cases, and slicing splits them, in nanoseconds for each point. Only
    other orders need a Python loop over all points.
    """
    keys = points[0::POINT_FIELDS]
    period = _period(keys)
    if period:
        cycle = POINT_FIELDS * period
        for start in range(0, cycle, POINT_FIELDS):
            yield variable_of(points[start]), _columns(points, start, cycle)
        return
    records: dict[int, list[bytes]] = {}
    raw = points.tobytes()
    for key, start in zip(keys, range(0, len(raw), POINT.size), strict=True):
        records.setdefault(variable_of(key), []).append(raw[start : start + POINT.size])
    for variable_id, group in records.items():
        yield variable_id, _columns(array('d', b''.join(group)), 0, POINT_FIELDS)


def columns_of(variable_id: int, points: array[float]) -> Columns:
    """Return the points of one variable from mixed points."""
    return next(
        (columns for found, columns in columns_by_variable(points) if found == variable_id),
        Columns(array('d'), array('d'), array('d'), array('d')),
    )


def text_columns_by_variable(texts: Iterable[Sequence[Any]]) -> Iterator[tuple[int, Columns]]:
    """Split points of str and datetime series by variable. The points of each keep their order."""
    groups: dict[int, list[Sequence[Any]]] = {}
    for point in texts:
        groups.setdefault(variable_of(point[0]), []).append(point)
    for variable_id, group in groups.items():
        keys, steps, times, values = zip(*group, strict=True)
        yield (
            variable_id,
            Columns(array('d', keys), array('d', steps), array('d', times), list(values)),
        )


def joined(pieces: Sequence[Columns]) -> Columns:
    """Return the points of several pieces of one variable, in order."""
    if len(pieces) == 1:
        return pieces[0]
    whole = Columns(array('d'), array('d'), array('d'), pieces[0].values[:0])
    for piece in pieces:
        whole.keys += piece.keys
        whole.steps += piece.steps
        whole.times += piece.times
        whole.values += piece.values  # type: ignore[operator]  # a series has one kind of values
    return whole


def _period(keys: array[float]) -> int:
    """Return the length of the cycle in which keys repeat, each variable once in a cycle. Return 0
    if there is no such cycle.
    """
    count = len(keys)
    first = keys[0]
    raw = keys.tobytes()
    if raw == raw[: keys.itemsize] * count:
        return 1
    try:
        period = keys.index(first, 1)
    except ValueError:
        period = count
    repeats = raw[keys.itemsize * period :] == raw[: -keys.itemsize * period]
    distinct = {variable_of(key) for key in keys[:period]} if repeats else ()
    return period if len(distinct) == period else 0


def _columns(points: array[float], start: int, cycle: int) -> Columns:
    return Columns(
        points[start::cycle],
        points[start + 1 :: cycle],
        points[start + 2 :: cycle],
        points[start + 3 :: cycle],
    )


# ── Automatic steps and timestamps ───────────────────────────────────────────


def resolved(columns: Columns, end: SeriesEnd) -> Points:
    """Return points with each step and timestamp as a read returns it.

    An automatic step is the largest step before it plus one; the first is 0. An automatic timestamp
    is never earlier than the timestamp before it.

    :param end: the end of the series before these points.
    """
    return Points(
        _resolved_steps(columns.steps, end.largest_step),
        resolved_times(columns.times, columns.keys, end.last_time),
        columns.values,
    )


def _resolved_steps(steps: array[float], largest: float) -> Stride | array[float]:
    count = len(steps)
    if all_automatic(steps) and _counts_up(largest, count):
        return Stride(_following(largest), 1.0, count)
    # An automatic step is NaN, and so is a sum that includes it. If the sum is not NaN, there is
    # no automatic step.
    if math.isnan(sum(steps)):
        for i, step in enumerate(steps):
            if step != step:
                steps[i] = step = _following(largest)
            largest = max(largest, step)
    return as_stride(steps) or steps


def all_automatic(steps: array[float]) -> bool:
    """Whether all steps are automatic."""
    return steps.tobytes() == _NAN_BYTES * len(steps)


def _following(largest: float) -> float:
    return 0.0 if largest == -math.inf else largest + 1.0


def _counts_up(largest: float, count: int) -> bool:
    """Whether the next steps, as many as ``count``, are whole and exact."""
    # A subtraction, because the sum of both would be rounded.
    return largest == -math.inf or (largest.is_integer() and abs(largest) <= MAX_STEP - count)


def as_stride(steps: array[float]) -> Stride | None:
    """Return steps as a ``Stride``, if they are regular, whole and exact, else None."""
    count = len(steps)
    first = steps[0]
    stride = steps[1] - first if count > 1 else 1.0
    # Compare the last step first: most irregular steps differ there.
    if not (first.is_integer() and stride.is_integer() and _ends_at(steps, first, stride)):
        return None
    found = Stride(first, stride, count)
    return found if found.expanded() == steps else None


def _ends_at(steps: array[float], first: float, stride: float) -> bool:
    # With ints: above 2**53, two neighbouring steps may be the same float.
    last = int(first) + int(stride) * (len(steps) - 1)
    return steps[-1] == last and abs(last) <= MAX_STEP


def resolved_times(times: array[float], keys: array[float], last: float) -> array[float]:
    """Return timestamps in which no automatic one is earlier than the one before it."""
    in_order = times[0] >= last and never_decreases(times)
    if not in_order:
        for i, key in enumerate(keys):
            if times[i] < last and not int(key) & 1:
                times[i] = last
            last = times[i]
    return times


def never_decreases(times: array[float]) -> bool:
    return all(map(operator.le, times, times[1:]))


def ascends(column: Stride | array[float]) -> bool:
    """Whether steps or timestamps never decrease."""
    return column.stride >= 0 if isinstance(column, Stride) else never_decreases(column)


def concatenated(pieces: Sequence[Points]) -> Points:
    """Return the points of several pieces as one piece, in order."""
    if len(pieces) == 1:
        return pieces[0]
    times = array('d')
    values = pieces[0].values[:0]
    for piece in pieces:
        times += piece.times
        values += piece.values  # type: ignore[operator]  # a series has one kind of values
    columns = [piece.steps for piece in pieces]
    return Points(_one_stride(columns) or _joined_steps(columns), times, values)


def _one_stride(columns: Sequence[Stride | array[float]]) -> Stride | None:
    """Return all steps as one ``Stride``, if each column continues the one before, else None."""
    whole = columns[0]
    for column in columns[1:]:
        if not (isinstance(whole, Stride) and isinstance(column, Stride)):
            return None
        # With ints: above 2**53, two neighbouring steps may be the same float.
        following = int(whole.first) + int(whole.stride) * whole.count
        if column.first != following or (column.count > 1 and column.stride != whole.stride):
            return None
        whole = Stride(whole.first, whole.stride, whole.count + column.count)
    return whole if isinstance(whole, Stride) else None


def _joined_steps(columns: Sequence[Stride | array[float]]) -> Stride | array[float]:
    steps = array('d')
    for column in columns:
        steps += expanded(column)
    return as_stride(steps) or steps


def expanded(steps: Stride | array[float]) -> array[float]:
    """Return all steps, as an array."""
    return steps.expanded() if isinstance(steps, Stride) else steps
