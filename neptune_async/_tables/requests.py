"""What ``compare`` and ``fetch_metrics`` are asked for, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

from neptune_async import _tables
from neptune_async._engine import tables
from neptune_async._engine.loop import Function
from neptune_async._engine.tables import Comparison, Curve, Duplicates, SeriesContent, Thinning
from neptune_async._model.arguments import check_choice
from neptune_async._model.paths import checked_name, normalise
from neptune_async._model.selection import Wanted, selection
from neptune_async._model.values import checked_step
from neptune_async.exceptions import InvalidArgumentError

Output: TypeAlias = Literal['pandas', 'arrow']
T = TypeVar('T')


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A table to be made.

    :ivar read: what to run on the worker's loop, with the worker and these arguments.
    :ivar build: makes the table of what that returns; it computes, and may import a library.
    """

    read: Function[T]
    arguments: tuple[object, ...]
    build: Callable[[T], Any]


def comparison(names: Wanted, paths: Wanted, output: Output) -> Request[Comparison]:
    """Return the request for a row an experiment."""
    check_choice('output', output, get_args(Output))
    return Request(
        tables.compare,
        (selection('names', names, checked_name), selection('paths', paths, normalise)),
        _tables.comparison_frame if output == 'pandas' else _tables.comparison_table,
    )


def metrics(
    names: Wanted,
    paths: Wanted,
    content: SeriesContent,
    first_step: float | None,
    last_step: float | None,
    duplicates: Duplicates,
    max_points: int | None,
    output: Output,
) -> Request[list[Curve]]:
    """Return the request for a row a point."""
    check_choice('content', content, get_args(SeriesContent))
    check_choice('duplicates', duplicates, get_args(Duplicates))
    check_choice('output', output, get_args(Output))
    thinning = Thinning(
        -math.inf if first_step is None else checked_step(first_step),
        math.inf if last_step is None else checked_step(last_step),
        duplicates,
        None if max_points is None else _checked_points(max_points),
    )
    if thinning.first_step > thinning.last_step:
        raise InvalidArgumentError(
            f'first_step {first_step!r} is beyond last_step {last_step!r}; no step is between them'
        )
    build = _tables.metrics_frame if output == 'pandas' else _tables.metrics_table
    return Request(
        tables.curves,
        (
            selection('names', names, checked_name),
            selection('paths', paths, normalise),
            content,
            thinning,
        ),
        lambda curves: build(curves, content),
    )


def _checked_points(max_points: object) -> int:
    if type(max_points) is not int or max_points < 1:
        raise InvalidArgumentError(
            f'max_points must be a positive number of points, not {max_points!r}'
        )
    return max_points
