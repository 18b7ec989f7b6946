"""Runs of points as a store reads them, with what is damaged in the place of some."""

from __future__ import annotations

from collections.abc import Iterable

from neptune_async._storage.base import Damaged
from neptune_async._storage.points import Points, never_decreases
from neptune_async._storage.summaries import NO_POINTS, SeriesSummary, summarised


def summary_of(
    runs: Iterable[Points | Damaged], before: SeriesSummary = NO_POINTS
) -> SeriesSummary | Damaged:
    """Return the summary of a series up to the end of these runs, or the first of them that is
    damaged.

    :param before: the summary of the series up to the first of them.
    """
    for run in runs:
        if isinstance(run, Damaged):
            return run
        before = summarised(run, before, never_decreases(run.times)).series
    return before
