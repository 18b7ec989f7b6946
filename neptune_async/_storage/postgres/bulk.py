"""Reading many variables of many experiments at a time from a PostgreSQL store."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple
from itertools import groupby
from typing import Any

import asyncpg

from neptune_async._model.operations import Container, Variable
from neptune_async._model.values import Content
from neptune_async._storage.base import (
    Damaged,
    ExperimentSummary,
    LastPoint,
    Latest,
    SeriesReading,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.postgres.reading import SERIES, series_reading, values_of

WANTED = 'unnest($1::bigint[], $2::bigint[]) AS wanted (experiment_id, variable_id)'

_LAST_POINTS = f"""
SELECT
    variable_id,
    first + count AS count,
    coalesce(steps[count], first_step + stride * (count - 1)) AS step,
    times[count] AS time,
    "values"[count : count] AS numbers,
    texts[count : count] AS texts,
    encoded[count : count] AS encoded
FROM {WANTED}
CROSS JOIN LATERAL (
    SELECT first, count, first_step, stride, steps, times, "values", texts, encoded
    FROM chunks
    WHERE experiment_id = wanted.experiment_id AND variable_id = wanted.variable_id
    ORDER BY first DESC LIMIT 1
) AS last
"""


async def find_experiments(
    connection: asyncpg.Connection, names: Collection[str] | None
) -> list[ExperimentSummary]:
    """Return the experiments of these names, or all, in the order in which they were made."""
    rows = await connection.fetch(
        'SELECT id, name, extract(epoch FROM created)::double precision '
        'FROM experiments WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY created, id',
        None if names is None else [*names],
    )
    return [ExperimentSummary(*row) for row in rows]


async def count_variables(
    connection: asyncpg.Connection, experiment_ids: Collection[int]
) -> dict[int, int]:
    """Return how many variables each of several experiments has."""
    rows = await connection.fetch(
        'SELECT experiment_id, count(*) FROM variables '
        'WHERE experiment_id = ANY ($1) GROUP BY experiment_id',
        [*experiment_ids],
    )
    return dict(rows)


async def last_points(
    connection: asyncpg.Connection, experiment_ids: Collection[int]
) -> dict[int, float | Damaged]:
    """Return the greatest last timestamp of the series of each experiment that has points."""
    rows = await connection.fetch(
        'SELECT experiment_id, max(last_time) FROM series '
        'WHERE experiment_id = ANY ($1) AND count > 0 GROUP BY experiment_id',
        [*experiment_ids],
    )
    return dict(rows)


async def find_paths(connection: asyncpg.Connection, experiment_ids: Collection[int]) -> list[str]:
    """Return the paths of all variables of several experiments, each once."""
    rows = await connection.fetch(
        'SELECT DISTINCT path FROM variables WHERE experiment_id = ANY ($1)', [*experiment_ids]
    )
    return [row['path'] for row in rows]


async def find_variables(
    connection: asyncpg.Connection,
    experiment_ids: Collection[int],
    paths: Collection[str] | None,
) -> dict[int, list[Variable]]:
    """Return the variables of several experiments at these paths, or all, by path."""
    rows = await connection.fetch(
        'SELECT experiment_id, id, path, container, content FROM variables '
        'WHERE experiment_id = ANY ($1) AND ($2::text[] IS NULL OR path = ANY ($2)) '
        'ORDER BY experiment_id, path',
        [*experiment_ids], None if paths is None else [*paths],
    )  # fmt: skip
    found: dict[int, list[Variable]] = {}
    for experiment_id, *row in rows:
        found.setdefault(experiment_id, []).append(Variable(*row))
    return found


async def read_latest(connection: asyncpg.Connection, variables: VariablesByExperiment) -> Latest:
    """Return what variables hold: values, members, and of a series its last point."""
    latest = Latest()
    contents = {variable.id: variable.content for some in variables.values() for variable in some}
    # Of one moment.
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        atoms = await connection.fetch(
            f'SELECT variable_id, value FROM atoms JOIN {WANTED} '
            'USING (experiment_id, variable_id)',
            *ids_of(variables, 'atom'),
        )
        members = await connection.fetch(
            f'SELECT variable_id, member FROM members JOIN {WANTED} '
            'USING (experiment_id, variable_id)',
            *ids_of(variables, 'set'),
        )
        points = await connection.fetch(_LAST_POINTS, *ids_of(variables, 'series'))
    latest.atoms.update(atoms)
    for variable_id, member in members:
        latest.sets.setdefault(variable_id, []).append(member)
    for row in points:
        latest.series[row['variable_id']] = _last_point(contents[row['variable_id']], row)
    return latest


def _last_point(content: Content, row: Any) -> LastPoint | Damaged:
    try:
        (value,) = values_of(content, row)
    except ValueError as error:
        value = Damaged(1, str(error))
    why = value.why if isinstance(value, Damaged) else 'it has no step or no timestamp'
    if isinstance(value, Damaged) or row['step'] is None or row['time'] is None:
        return Damaged(1, f'the last point is damaged: {why}; restore the database from a backup')
    return LastPoint(row['count'], row['step'], row['time'], value)


async def read_many_series(
    connection: asyncpg.Connection,
    variables: VariablesByExperiment,
    window: Window,
    steps: bool,
    times: bool,
) -> dict[int, SeriesReading]:
    """Return the points of several series that are in a window, by the variable's id."""
    readings = {
        variable.id: SeriesReading(variable)
        for some in variables.values()
        for variable in some
        if variable.container == 'series'
    }
    rows = await connection.fetch(
        SERIES.format(
            which=f'FROM {WANTED} JOIN variables v '
            'ON v.experiment_id = wanted.experiment_id AND v.id = wanted.variable_id'
        ),
        *ids_of(variables, 'series'), window.first, window.last, steps, times,
        *astuple(window.span),
    )  # fmt: skip
    for variable_id, own in groupby(rows, lambda row: row['id']):
        readings[variable_id] = series_reading([*own])
    return readings


def ids_of(variables: VariablesByExperiment, container: Container) -> tuple[list[int], list[int]]:
    """Return the ids of experiments and variables, as two columns."""
    found = [
        (experiment_id, variable.id)
        for experiment_id, some in variables.items()
        for variable in some
        if variable.container == container
    ]
    return [experiment_id for experiment_id, _ in found], [variable_id for _, variable_id in found]
