"""Which points of a series can be read where others are damaged, and what is said of those."""

from __future__ import annotations

from collections.abc import Iterator

from neptune_async._model import messages
from neptune_async._storage.base import Damaged, SeriesReading
from neptune_async._storage.points import Points
from neptune_async.exceptions import StorageFormatError


def pieces_at_end(
    reading: SeriesReading, location: str, experiment: str, last: int | None = None
) -> list[Points]:
    """Return the pieces behind all that is damaged, if they have the last points of a series, or
    all that was read.

    :raises StorageFormatError: some of those points are damaged.
    """
    kept: list[Points] = []
    for run in reversed(reading.runs):
        if isinstance(run, Damaged):
            break
        kept.append(run)
    if len(kept) < len(reading.runs) and (last is None or sum(map(len, kept)) < last):
        raise damaged(reading, location, experiment)
    return kept[::-1]


def damaged(reading: SeriesReading, location: str, experiment: str) -> StorageFormatError:
    """Return the error for damaged points: which they are, and how others are read."""
    ranges = [*damaged_ranges(reading)]
    before = after = 0
    for run in reading.runs:
        if isinstance(run, Damaged):
            before, after = before + after, 0
        else:
            after += len(run)
    return messages.damaged_points(
        experiment,
        reading.variable.path,
        location,
        [which for which, _ in ranges],
        ranges[0][1].why,
        None if reading.first else before,
        after,
    )


def damaged_ranges(reading: SeriesReading) -> Iterator[tuple[str, Damaged]]:
    """Yield what is damaged of a series, each with which points that are, counted from 0."""
    position: int | None = reading.first
    for run in reading.runs:
        if isinstance(run, Damaged):
            yield _range(position, run.count), run
            if run.count is None:
                position = None
        if position is not None:
            position += len(run)


def _range(first: int | None, count: int | None) -> str:
    if count is None:
        return 'points' if first is None else f'points from {first:,} on'
    if first is None:
        return f'{count:,} of the points that follow'
    return f'point {first:,}' if count == 1 else f'points {first:,} to {first + count - 1:,}'
