"""Overviews of many series at once: few buckets of one grid, however many points there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neptune_async._engine.worker.worker import Worker
from neptune_async._storage.base import Damaged, VariablesByExperiment
from neptune_async._storage.grid import Axis, Grid
from neptune_async._storage.overviews import Overview
from neptune_async._storage.summaries import Summary


@dataclass(frozen=True, slots=True)
class Overviews:
    """Several series on one grid.

    :ivar grid: None if there is no point in the range.
    :ivar series: by the variable's id.
    """

    grid: Grid | None
    series: Mapping[int, Overview]


async def overviews(
    worker: Worker,
    variables: VariablesByExperiment,
    axis: Axis,
    most: int,
    first: float = -math.inf,
    last: float = math.inf,
) -> Overviews:
    """Return what series have in each of the buckets of a grid that spans all of them.

    :param variables: those that are no series are left out.
    :param most: how many buckets there are at most; positive.
    :param first, last: the part of the axis that is wanted, both included.
    """
    summaries = await worker.connection.ask(lambda storage: storage.read_summaries(variables))
    # Of what is damaged nobody knows where it lies; its whole points still tell where they do.
    known = [each.whole for each in summaries.values() if not isinstance(each, Damaged)]
    grid = _grid(axis, known, first, last, most)
    if grid is None:
        return Overviews(None, {})
    found = await worker.connection.ask(lambda storage: storage.read_overviews(variables, grid))
    return Overviews(grid, found)


def _grid(
    axis: Axis, summaries: list[Summary], first: float, last: float, most: int
) -> Grid | None:
    ranges = [
        (one.least_step, one.greatest_step)
        if axis == 'step'
        else (one.least_time, one.greatest_time)
        for one in summaries
    ]
    first = max(first, min((low for low, _ in ranges), default=math.inf))
    last = min(last, max((high for _, high in ranges), default=-math.inf))
    return Grid.over(axis, first, last, most) if first <= last else None
