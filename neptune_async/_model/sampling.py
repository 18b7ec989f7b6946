"""Fewer points that look the same when they are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

FEWEST_WITH_EXTREMES = 4
"""With fewer points, there is no room for a least and a greatest between the ends."""


def sampled(values: Sequence[float], most: int) -> Sequence[int]:
    """Return the positions of the points to keep, in their order, ``most`` at most.

    The first and the last are kept, and of each of equally many points between
    the least and the greatest: no extreme is ever lost. NaN is passed over,
    unless there is nothing else, so that a gap stays one.
    """
    count = len(values)
    if count <= most:
        return range(count)
    if most < FEWEST_WITH_EXTREMES:
        return [0, count - 1][-most:]
    kept = [0]
    for start, stop in groups(count, most):
        kept += extremes(values, start, stop)
    kept.append(count - 1)
    return kept


def spread(count: int, most: int) -> Sequence[int]:
    """Return the positions of ``most`` points of more, evenly spread, with the ends."""
    last = count - 1
    return [last * i // (most - 1) for i in range(most)] if most > 1 else [last]


def groups(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield where each of the groups begins and ends that ``sampled`` makes of the points between
    the first and the last.
    """
    size = (most - 2) // 2
    for group in range(size):
        yield 1 + (count - 2) * group // size, 1 + (count - 2) * (group + 1) // size


def extremes(values: Sequence[float], start: int, stop: int) -> list[int]:
    """Return the positions of the least and the greatest of some values: of equal ones, of the
    first. NaN is passed over; if there is nothing else, the first is returned.
    """
    some = values[start:stop]
    if math.isnan(sum(some)):  # of NaN, or of both infinities
        some = [value for value in some if value == value]
        if not some:
            return [start]
    least, greatest = values.index(min(some), start), values.index(max(some), start)
    return sorted({least, greatest})
