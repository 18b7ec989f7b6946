"""Which points of a series a table is asked for: the arguments of ``to_pandas`` and its like."""

from __future__ import annotations

import math
from datetime import datetime

from neptune_async._engine.reading.thinning import Duplicates, Thinning
from neptune_async._model.values import checked_step, checked_timestamp
from neptune_async._storage.base import Span
from neptune_async.exceptions import InvalidArgumentError


def thinning(
    first_step: float | None,
    last_step: float | None,
    first_time: float | datetime | None,
    last_time: float | datetime | None,
    max_points: int | None,
    duplicates: Duplicates = 'all',
) -> Thinning:
    """Return what the arguments ask for.

    :raises InvalidArgumentError: there is nothing between two bounds, or no such number of points.
    :raises InvalidStepError, InvalidTimestampError: a bound is none.
    """
    span = Span(
        -math.inf if first_step is None else checked_step(first_step),
        math.inf if last_step is None else checked_step(last_step),
        -math.inf if first_time is None else checked_timestamp(first_time),
        math.inf if last_time is None else checked_timestamp(last_time),
    )
    if span.first_step > span.last_step:
        raise InvalidArgumentError(
            f'first_step {first_step!r} is beyond last_step {last_step!r}; no step is between them'
        )
    if span.first_time > span.last_time:
        raise InvalidArgumentError(
            f'first_time {first_time!r} is after last_time {last_time!r}; no time is between them'
        )
    return Thinning(span, duplicates, None if max_points is None else _checked_points(max_points))


def _checked_points(max_points: object) -> int:
    if type(max_points) is not int or max_points < 1:
        raise InvalidArgumentError(
            f'max_points must be a positive number of points, not {max_points!r}'
        )
    return max_points
