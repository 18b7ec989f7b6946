"""Overviews of series in a PostgreSQL store: from the summaries of rows, as far as those go."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import asyncpg

from neptune_async._model.operations import Variable
from neptune_async._storage.base import Damaged, VariablesByExperiment
from neptune_async._storage.grid import Grid
from neptune_async._storage.overviews import Overview, OverviewMaker
from neptune_async._storage.points import concatenated
from neptune_async._storage.postgres.bulk import WANTED, ids_of
from neptune_async._storage.postgres.reading import rows_are_missing, runs_of
from neptune_async._storage.runs import summary_of
from neptune_async._storage.summaries import (
    NO_POINTS,
    SeriesSummary,
    merged,
    unpacked_series_summary,
)

_AT_ONCE = 64
"""Rows whose points are in memory at a time: 12 MiB."""

ROWS = f"""
SELECT
    v.id, v.path, s.count AS end, c.first, c.count, c.first_step, c.stride, c.least_step,
    c.greatest_step, c.least_time, c.greatest_time, c.summary
FROM {WANTED}
JOIN variables v ON v.experiment_id = wanted.experiment_id AND v.id = wanted.variable_id
JOIN series s ON s.experiment_id = wanted.experiment_id AND s.variable_id = wanted.variable_id
JOIN chunks c ON c.experiment_id = wanted.experiment_id AND c.variable_id = wanted.variable_id
ORDER BY v.id, c.first
"""
_POINTS = """
SELECT
    v.id, v.path, v.container, v.content, first, count, first_step, stride, 0 AS skipped,
    steps, times, "values" AS numbers, texts, encoded
FROM unnest($1::bigint[], $2::bigint[]) AS wanted (variable_id, first)
JOIN chunks USING (variable_id, first)
JOIN variables v ON v.experiment_id = chunks.experiment_id AND v.id = variable_id
WHERE v.experiment_id = ANY ($3::bigint[])
ORDER BY variable_id, first
"""


async def read_summaries(
    connection: asyncpg.Connection, variables: VariablesByExperiment
) -> dict[int, SeriesSummary | Damaged]:
    """Return what is known of several series, by the variable's id."""
    ids = ids_of(variables, 'series')
    found: dict[int, SeriesSummary | Damaged] = dict.fromkeys(ids[1], NO_POINTS)
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        rows = await connection.fetch(ROWS, *ids)
        known = {(row['id'], row['first']): _known(row['summary']) for row in rows}
        cut = [place for place, summary in known.items() if summary is None]
        async for row in points_at(connection, variables, cut):
            known[row['id'], row['first']] = summary_of(runs_of(Variable(*row[:4]), row))
    for variable_id, run in groupby(rows, itemgetter('id')):
        own = [*run]
        parts = [known[variable_id, row['first']] for row in own]
        found[variable_id] = missing_rows(own) or _joined(parts)
    return found


def _known(stored: bytes | None) -> SeriesSummary | Damaged | None:
    try:
        return None if stored is None else unpacked_series_summary(stored)
    except ValueError:
        return None  # the points tell


def _joined(parts: Sequence[SeriesSummary | Damaged | None]) -> SeriesSummary | Damaged:
    whole = []
    for part in parts:
        if isinstance(part, Damaged):
            return part
        if part is not None:
            whole.append(part)
    return SeriesSummary(merged([part.whole for part in whole]), whole[0].first)


def missing_rows(rows: Sequence[Any]) -> Damaged | None:
    """Return what is to be said if rows of a series do not follow each other."""
    position = 0
    for row in rows:
        if row['first'] != position:
            break
        position += row['count']
    return None if position == rows[0]['end'] else rows_are_missing(rows[0]['path'])


async def read_overviews(
    connection: asyncpg.Connection, variables: VariablesByExperiment, grid: Grid
) -> dict[int, Overview]:
    """Return what is in the buckets of a grid, of several series, by the variable's id."""
    ids = ids_of(variables, 'series')
    makers = {variable_id: OverviewMaker(grid) for variable_id in ids[1]}
    damaged: dict[int, list[str]] = {variable_id: [] for variable_id in ids[1]}
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        rows = await connection.fetch(ROWS, *ids)
        for variable_id, run in groupby(rows, itemgetter('id')):
            own = [*run]
            missing = missing_rows(own)
            damaged[variable_id] += [] if missing is None else [missing.why]
            for row in own:
                low, high = _range(row, grid)
                maker = makers[variable_id]
                maker.add_summary(row['first'], row['count'], low, high, row['summary'])
        cut = [(each, first) for each, maker in makers.items() for first in maker.settle()]
        async for row in points_at(connection, variables, cut):
            runs = [*runs_of(Variable(*row[:4]), row)]
            damaged[row['id']] += [run.why for run in runs if isinstance(run, Damaged)]
            if not any(isinstance(run, Damaged) for run in runs):
                pieces = [run for run in runs if not isinstance(run, Damaged)]
                makers[row['id']].add_points(row['first'], concatenated(pieces))
    return {each: Overview(maker.buckets, damaged[each]) for each, maker in makers.items()}


def _range(row: Any, grid: Grid) -> tuple[float, float]:
    """Return which part of the axis a row has points in; all of it if that is not known yet."""
    if row['summary'] is None:
        return -math.inf, math.inf
    return row[f'least_{grid.axis}'], row[f'greatest_{grid.axis}']


async def points_at(
    connection: asyncpg.Connection,
    variables: VariablesByExperiment,
    places: Sequence[tuple[int, int]],
) -> AsyncIterator[Any]:
    """Yield rows with their points.

    :param places: of each row the variable, and where it begins.
    """
    for start in range(0, len(places), _AT_ONCE):
        some = zip(*places[start : start + _AT_ONCE], strict=True)
        for row in await connection.fetch(_POINTS, *some, [*variables]):
            yield row
