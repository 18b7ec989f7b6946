"""What is found when a store is examined, of whatever kind it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from neptune_async._storage.findings import Finding
from neptune_async._storage.points import Points, never_decreases
from neptune_async._storage.summaries import SeriesSummary, agree, summarised, unpacked_summary

SHOWN = 5
"""Faults of one kind of which each is shown; the others are counted."""


def faults_told(faults: Sequence[str], remedy: str) -> Iterator[Finding]:
    """Yield what there is to say of faults of one kind."""
    for fault in faults[:SHOWN]:
        yield Finding('wrong', fault, remedy)
    if len(faults) > SHOWN:
        yield Finding('wrong', f'{len(faults) - SHOWN:,} more such faults', remedy)


def checked_against_points(
    points: Points, stored: bytes, ranges: Sequence[float], before: SeriesSummary
) -> SeriesSummary:
    """Return the summary of a series up to the end of some points of it.

    :param stored: the summary that is kept of the points.
    :param ranges: their least and greatest step, least and greatest time, as they are kept.
    :param before: the summary of the series up to the first of them.
    :raises ValueError: what is kept is not what the points say.
    """
    expected = summarised(points, before, never_decreases(points.times))
    own = expected.chunk
    ends = (own.least_step, own.greatest_step, own.least_time, own.greatest_time)
    try:
        is_right = agree(unpacked_summary(stored), expected)
    except ValueError:
        is_right = False
    if not is_right or ends != tuple(ranges):
        raise ValueError('its summary is not that of its points')
    return expected.series


def rejections(rows: Iterable[Sequence[Any]]) -> Iterator[Finding]:
    """Return what there is to say of operations that were rejected.

    :param rows: the last of them: experiment, path, count, reason, how many such rows there are.
    """
    remedy = 'log to another path; the table `rejected` keeps what happened'
    others = 0
    for shown, (experiment, path, count, reason, faults) in enumerate(rows, 1):
        others = faults - shown
        yield Finding(
            'note',
            f'{count:,} operations on {path} of {experiment} were rejected: {reason}',
            remedy,
        )
    if others:
        yield Finding('note', f'{others:,} more such rejections', remedy)
