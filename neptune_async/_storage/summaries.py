"""Summaries: what a reader has to know of many points when it shows few.

A chunk has a summary of itself, one of the series up to its end, and one of each of its blocks.
Where steps ascend, a block ends where they reach a multiple of a power of two, so that a bucket
whose edges are such multiples holds whole blocks. Elsewhere a block has a fixed number of points.

The summaries of a chunk are stored in one column, little endian:

=================== ================================================================
``flags``           uint8: 1, the values are floats; 2, some of them are not finite; 4, the
                    steps of the series never decrease; 8, its timestamps never decrease
``blocks``          uint16: how many blocks there are; 0 if there is only one, the chunk itself
``first``           float64: the first value of the series; NaN if its values are no floats
the series          count, NaN, inf and -inf (uint64 each); then, as float64, least and
                    greatest finite value, last value, mean of the finite values, least
                    and greatest step, least and greatest timestamp
chunk, blocks       the same of the chunk, and then of each block; counts are uint32. Those
                    of NaN, inf and -inf are only there with flag 2, values only with flag 1
=================== ================================================================

If no value is finite, the least is inf, the greatest -inf and the mean 0.
"""

from __future__ import annotations

import math
import operator
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from typing import Any, NamedTuple, TypeAlias

from neptune_async._storage.loaded_numpy import loaded_numpy
from neptune_async._storage.points import Points, Stride, Values, ascends

BLOCK_POINTS = 640
"""Points that a block has at most where steps are regular; it has half of them at least. So the
summaries of a full chunk take 0.25 bytes a point at most, and 0.15 at the stride 1.
"""

_HEAD = struct.Struct('<BHd')
_SERIES = struct.Struct('<4Q8d')
_LAST_VALUE = struct.Struct('<B2x8x 32x16xd')
"""Of these two, the flags and the last value."""
_HAS_VALUES, _HAS_NON_FINITE, _STEPS_ASCEND, _TIMES_ASCEND = 1, 2, 4, 8
_ROWS = {
    0: struct.Struct('<I4d'),
    _HAS_VALUES: struct.Struct('<I8d'),
    _HAS_VALUES | _HAS_NON_FINITE: struct.Struct('<4I8d'),
}
"""A chunk or a block, by the first two flags."""
ROW_FIELDS = {
    'points': '<u4',
    **dict.fromkeys(
        ('least', 'greatest', 'last', 'mean', 'least_step', 'greatest_step', 'least_time',
         'greatest_time'), '<f8',
    ),
}  # fmt: skip
"""The fields of one whose values are finite floats, as NumPy has them."""


ValueSummary: TypeAlias = tuple[int, int, int, float, float, float, float]
"""The fields of a summary from ``nan`` to ``mean``."""
_NO_VALUES: ValueSummary = (0, 0, 0, math.inf, -math.inf, math.nan, 0.0)


class Summary(NamedTuple):
    """What is known of some points of a series.

    :ivar points: how many there are.
    :ivar nan, positive_infinite, negative_infinite: how many values are not finite.
    :ivar least, greatest: of the finite values; inf and -inf if there is none.
    :ivar last: the value that was logged last; NaN if the values are no floats.
    :ivar mean: of the finite values; 0 if there is none.
    :ivar least_step, greatest_step, least_time, greatest_time: inf and -inf if there is no point.
    """

    points: int = 0
    nan: int = 0
    positive_infinite: int = 0
    negative_infinite: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    last: float = math.nan
    mean: float = 0.0
    least_step: float = math.inf
    greatest_step: float = -math.inf
    least_time: float = math.inf
    greatest_time: float = -math.inf

    @property
    def finite(self) -> int:
        """How many values are finite, if they are floats."""
        return self.points - self.nan - self.positive_infinite - self.negative_infinite


NOTHING = Summary()


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """What is known of a series up to a point of it.

    :ivar first: its first value; NaN if the values are no floats.
    :ivar steps_ascend, times_ascend: whether it is known that its steps, and its timestamps, never
        decrease.
    """

    whole: Summary = NOTHING
    first: float = math.nan
    steps_ascend: bool = False
    times_ascend: bool = False


NO_POINTS = SeriesSummary(steps_ascend=True, times_ascend=True)
"""Of a series before its first point."""


@dataclass(frozen=True, slots=True)
class ChunkSummary:
    """What is known of a chunk.

    :ivar series: of the series up to the end of the chunk.
    :ivar chunk: of the chunk.
    :ivar blocks: of its blocks, in their order.
    :ivar has_values: whether the values are floats.
    """

    series: SeriesSummary
    chunk: Summary
    blocks: Sequence[Summary]
    has_values: bool


# ── Making summaries ─────────────────────────────────────────────────────────


def summarised(points: Points, before: SeriesSummary, times_ascend: bool) -> ChunkSummary:
    """Return what is to be known of the points of a chunk.

    :param before: of the series before them.
    :param times_ascend: whether their timestamps never decrease.
    """
    steps_ascend = ascends(points.steps)
    blocks = [*block_summaries(points, steps_ascend, times_ascend)]
    chunk = merged(blocks) if len(blocks) > 1 else blocks[0]
    whole = before.whole
    has_values = isinstance(points.values, array)
    series = SeriesSummary(
        merged([whole, chunk]),
        points.values[0] if has_values and not whole.points else before.first,
        before.steps_ascend and steps_ascend and whole.greatest_step <= chunk.least_step,
        before.times_ascend and times_ascend and whole.greatest_time <= chunk.least_time,
    )
    return ChunkSummary(series, chunk, blocks, has_values)


def block_summaries(points: Points, steps_ascend: bool, times_ascend: bool) -> Iterator[Summary]:
    """Yield what is to be known of each block of the points of a chunk."""
    steps, times = points.steps, points.times
    bounds = [*_block_bounds(steps, steps_ascend)]
    for (start, stop), values in zip(
        pairwise(bounds), value_summaries(points.values, bounds), strict=True
    ):
        yield Summary(
            stop - start,
            *values,
            *_range_of_steps(steps, start, stop, steps_ascend),
            *_range(times, start, stop, times_ascend),
        )


def merged(some: Sequence[Summary]) -> Summary:
    """Return the summary of points of which there are summaries, in the order of the points."""
    return merged_columns([*zip(*some, strict=True)])


def merged_columns(columns: Sequence[Sequence[Any]]) -> Summary:
    """Return the same, of a sequence of each field of the summaries."""
    points, nan, positive, negative, least, greatest, last, means, *ends = columns
    finite = points
    if any(nan) or any(positive) or any(negative):
        finite = [a - b - c - d for a, b, c, d in zip(*columns[:4], strict=True)]
    total = sum(finite)
    mean = sum(map(operator.mul, means, finite)) / total if total else 0.0
    if not math.isfinite(mean):
        # Weighted one by one: the sum of all values is beyond what a float can be.
        mean = sum(each * (count / total) for each, count in zip(means, finite, strict=True))
    return Summary(
        sum(points), sum(nan), sum(positive), sum(negative), min(least), max(greatest),
        last[-1], float(mean), min(ends[0]), max(ends[1]), min(ends[2]), max(ends[3]),
    )  # fmt: skip


def agree(one: ChunkSummary, other: ChunkSummary) -> bool:
    """Whether two summaries are those of the same points. They may have been made with NumPy, or
    without. So means may differ by their rounding, since they are sums in another order, and the
    least and greatest value by the sign of a zero.
    """
    return (
        repr(replace(one.series, whole=NOTHING)) == repr(replace(other.series, whole=NOTHING))
        and one.has_values == other.has_values
        and len(one.blocks) == len(other.blocks)
        and all(
            map(
                _agree,
                (one.series.whole, one.chunk, *one.blocks),
                (other.series.whole, other.chunk, *other.blocks),
            )
        )
    )


def _agree(one: Summary, other: Summary) -> bool:
    size = max(abs(one.least), abs(one.greatest)) if one.finite else 0.0
    # To add 0.0 takes the sign from a zero, and changes no other number.
    exact = [
        repr(each._replace(mean=0.0, least=each.least + 0.0, greatest=each.greatest + 0.0))
        for each in (one, other)
    ]
    return exact[0] == exact[1] and abs(one.mean - other.mean) <= 1e-9 * size


def value_summaries(values: Values, bounds: Sequence[int]) -> Iterator[ValueSummary]:
    """Yield what is to be known of some values, those from each of several places to the next.

    :param bounds: the places, ascending.
    """
    if not isinstance(values, array):
        return repeat(_NO_VALUES, len(bounds) - 1)
    numpy = loaded_numpy()
    if numpy is not None and len(bounds) > 2:
        column, starts = numpy.frombuffer(values)[: bounds[-1]], bounds[:-1]
        with numpy.errstate(all='ignore'):
            totals = numpy.add.reduceat(column, starts)
        if numpy.isfinite(totals).all():
            least = numpy.minimum.reduceat(column, starts).tolist()
            greatest = numpy.maximum.reduceat(column, starts).tolist()
            last = [values[stop - 1] for stop in bounds[1:]]
            means = (totals / numpy.diff(bounds)).tolist()
            found = zip(least, greatest, last, means, strict=True)
            return ((0, 0, 0, *fields) for fields in found)
    numbers = values.tolist()
    return (_of_values(numbers[start:stop]) for start, stop in pairwise(bounds))


def _of_values(values: Sequence[float]) -> ValueSummary:
    total = sum(values)
    if math.isfinite(total):
        return 0, 0, 0, min(values), max(values), values[-1], total / len(values)
    finite = [value for value in values if math.isfinite(value)]
    count = len(finite)
    return (
        sum(value != value for value in values),
        values.count(math.inf),
        values.count(-math.inf),
        min(finite, default=math.inf),
        max(finite, default=-math.inf),
        values[-1],
        sum((value / count for value in finite), 0.0),
    )


def _range_of_steps(
    steps: Stride | array[float], start: int, stop: int, is_ascending: bool
) -> tuple[float, float]:
    if isinstance(steps, Stride):
        ends = steps.first + steps.stride * start, steps.first + steps.stride * (stop - 1)
        return min(ends), max(ends)
    return _range(steps, start, stop, is_ascending)


def _range(numbers: array[float], start: int, stop: int, is_ascending: bool) -> tuple[float, float]:
    if is_ascending:
        return numbers[start], numbers[stop - 1]
    some = numbers[start:stop]
    return min(some), max(some)


def _block_bounds(steps: Stride | array[float], is_ascending: bool) -> Iterator[int]:
    """Yield where each block begins, and at last where the last one ends."""
    places = steps.numbers if is_ascending and isinstance(steps, Stride) else steps
    count = steps.count if isinstance(steps, Stride) else len(steps)
    if not is_ascending or isinstance(places, Stride):
        yield from range(0, count, BLOCK_POINTS)
    else:
        width = _block_width(places, count)
        start = 0
        while start < count:
            yield start
            edge = (math.floor(places[start] / width) + 1) * width
            start = bisect_left(places, edge, start)
    yield count


def _block_width(steps: Sequence[float], count: int) -> float:
    """Return which step, and its multiples, ends a block: a power of two."""
    first, last = steps[0], steps[-1]
    if count <= BLOCK_POINTS or first == last:
        return math.inf
    width = BLOCK_POINTS * ((last - first) / (count - 1))
    # The greatest power of two that is not beyond it. Not one that is lost in a step's rounding.
    return max(math.ldexp(0.5, math.frexp(width)[1]), math.ulp(max(abs(first), abs(last))))


# ── Storing summaries ────────────────────────────────────────────────────────


def packed_summary(summary: ChunkSummary) -> bytes:
    """Return the stored form of the summaries of a chunk."""
    flags = 0
    if summary.has_values:
        flags = _HAS_VALUES
        if summary.chunk.finite < summary.chunk.points:
            flags |= _HAS_NON_FINITE
    blocks = summary.blocks if len(summary.blocks) > 1 else ()
    row = _ROWS[flags]
    ascend = (
        summary.series.steps_ascend * _STEPS_ASCEND | summary.series.times_ascend * _TIMES_ASCEND
    )
    return b''.join(
        [
            _HEAD.pack(flags | ascend, len(blocks), summary.series.first),
            _SERIES.pack(*summary.series.whole),
            *(row.pack(*_stored_fields(flags, each)) for each in (summary.chunk, *blocks)),
        ]
    )


def unpacked_summary(stored: bytes) -> ChunkSummary:
    """Return the summaries of a chunk.

    :raises ValueError: the bytes are not the stored form of any.
    """
    series, chunk = unpacked_series_summary(stored), unpacked_chunk_row(stored)
    return ChunkSummary(series, chunk, unpacked_blocks(stored), bool(stored[0] & _HAS_VALUES))


def unpacked_chunk_row(stored: bytes) -> Summary:
    """Return the summary of a chunk as a whole.

    :raises ValueError: the bytes are not the stored form of any.
    """
    try:
        flags = stored[0] & ~(_STEPS_ASCEND | _TIMES_ASCEND)
        points, *fields = _ROWS[flags].unpack_from(stored, _HEAD.size + _SERIES.size)
    except (IndexError, KeyError, struct.error):
        raise ValueError('it has no summary of a chunk') from None
    if flags & _HAS_NON_FINITE:
        return Summary(points, *fields)
    return Summary(points, *((0, 0, 0) if flags else _NO_VALUES), *fields)


def unpacked_blocks(stored: bytes) -> Sequence[Summary]:
    """Return the summaries of the blocks of a chunk.

    :raises ValueError: the bytes are not the stored form of any.
    """
    return [*map(Summary._make, zip(*unpacked_columns(stored), strict=True))]


def unpacked_columns(stored: bytes) -> Sequence[Sequence[Any]]:
    """Return the same as a sequence of each of their fields.

    :raises ValueError: the bytes are not the stored form of any.
    """
    try:
        flags = stored[0] & ~(_STEPS_ASCEND | _TIMES_ASCEND)
        rows = _ROWS[flags].iter_unpack(memoryview(stored)[_HEAD.size + _SERIES.size :])
        chunk = next(rows)
        columns = [*zip(*rows, strict=True)] or [(field,) for field in chunk]
    except (IndexError, KeyError, StopIteration, struct.error):
        raise ValueError('it has no summary of a chunk') from None
    if flags & _HAS_NON_FINITE:
        return columns
    unknown = (0, 0, 0) if flags else _NO_VALUES
    return [columns[0], *((field,) * len(columns[0]) for field in unknown), *columns[1:]]


def block_count(stored: bytes) -> int:
    """Return how many blocks a chunk has."""
    return int.from_bytes(stored[1:3], 'little') or 1


def finite_rows(stored: bytes, is_whole: bool) -> bytes | None:
    """Return the summary of a chunk, or those of its blocks, with ``ROW_FIELDS``; None if its
    values are not all finite floats.
    """
    size, start = _ROWS[_HAS_VALUES].size, _HEAD.size + _SERIES.size
    rows = len(stored) - start
    if stored[0] & (_HAS_VALUES | _HAS_NON_FINITE) != _HAS_VALUES or rows % size or not rows:
        return None
    return stored[start : start + size] if is_whole or rows == size else stored[start + size :]


def unpacked_series_summary(stored: bytes) -> SeriesSummary:
    """Return the summary of a series up to the end of a chunk.

    :raises ValueError: the bytes are not the stored form of any.
    """
    try:
        flags, _, first = _HEAD.unpack_from(stored)
        whole = Summary(*_SERIES.unpack_from(stored, _HEAD.size))
        return SeriesSummary(whole, first, bool(flags & _STEPS_ASCEND), bool(flags & _TIMES_ASCEND))
    except (TypeError, struct.error):
        raise ValueError('it has no summary of the series') from None


def last_value(stored: bytes) -> float | None:
    """Return the last value of a chunk; None if the values are no floats.

    :raises ValueError: the bytes are not the stored form of any.
    """
    try:
        flags, value = _LAST_VALUE.unpack_from(stored)
    except struct.error:
        raise ValueError('it has no summary of the series') from None
    return value if flags & _HAS_VALUES else None


def _stored_fields(flags: int, summary: Summary) -> Sequence[float]:
    if flags & _HAS_NON_FINITE:
        return summary
    return (summary.points, *summary[4 if flags else 8 :])
