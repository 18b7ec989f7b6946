"""Fewer points that look the same when they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence


def sampled(values: Sequence[float], most: int) -> Sequence[int]:
    """Return the positions of the points to keep, in their order, ``most`` at most.

    The first and the last are kept, and of each of equally many points between
    the least and the greatest: no extreme is ever lost. NaN is passed over,
    unless there is nothing else, so that a gap stays one.
    """
    count = len(values)
    if count <= most:
        return range(count)
    if most < 4:  # there is no room for a least and a greatest between the ends
        return [0, count - 1][-most:]
    buckets = (most - 2) // 2
    kept = [0]
    for bucket in range(buckets):
        start = 1 + (count - 2) * bucket // buckets
        stop = 1 + (count - 2) * (bucket + 1) // buckets
        kept += _extremes(values, start, stop)
    kept.append(count - 1)
    return kept


def _extremes(values: Sequence[float], start: int, stop: int) -> list[int]:
    some = values[start:stop]
    if math.isnan(sum(some)):  # of NaN, or of both infinities
        some = [value for value in some if value == value]
        if not some:
            return [start]
    least, greatest = values.index(min(some), start), values.index(max(some), start)
    return sorted({least, greatest})
