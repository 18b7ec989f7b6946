"""Grids: few buckets of an axis.

Buckets are a power of two wide and begin at multiples of it. So the buckets of a series that grows
stay as they are until there are too many of them, and two become one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

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
