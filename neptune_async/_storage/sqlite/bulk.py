"""Reading many variables of many experiments at a time from a SQLite store."""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from neptune_async._model.operations import Container, Variable
from neptune_async._storage.base import (
    ExperimentSummary,
    LastPoint,
    Latest,
    SeriesReading,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.chunks import (
    Columns,
    Points,
    SeriesEnd,
    columns_by_variable,
    expanded,
    joined,
    resolved,
    text_columns_by_variable,
)
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.reading import (
    CHUNK_COLUMNS,
    LAST_CHUNKS,
    checked_chunk,
    decoded_log_row,
    end_of,
    find_tails,
    read_chunks,
    unpack_chunk,
)
from neptune_async._storage.sqlite.sql import transaction

_LOOKED_UP = 64
"""Paths up to which each is looked up in each experiment, instead of reading the paths there."""


def find_experiments(
    connection: sqlite3.Connection, names: Collection[str] | None
) -> list[ExperimentSummary]:
    """Return the experiments of these names, or all, in the order in which they were made."""
    where = '' if names is None else ' WHERE name IN (SELECT value FROM json_each(?))'
    return [
        ExperimentSummary(*row)
        for row in connection.execute(
            'SELECT id, name, created, '
            '(SELECT count(*) FROM variables WHERE experiment_id = experiments.id) '
            f'FROM experiments{where} ORDER BY id',
            () if names is None else (_listed(names),),
        ).fetchall()
    ]


def last_points(
    connection: sqlite3.Connection, experiment_ids: Collection[int]
) -> dict[int, float]:
    """Return the greatest last timestamp of the series of each experiment that has points."""
    wanted = _listed(experiment_ids)
    logged: dict[int, dict[int, float]] = {}
    with transaction(connection, 'DEFERRED'):
        for experiment_id, *row in _log_rows(connection, wanted):
            for variable_id, columns in _by_variable(decoded_log_row(experiment_id, *row)):
                logged.setdefault(experiment_id, {})[variable_id] = columns.times[-1]
        # The checksums of so many heads are not looked at: a time in a list is all they give.
        times: dict[int, float] = dict(
            connection.execute(
                'SELECT experiment_id, max((SELECT last_time FROM chunks '
                'WHERE variable_id = variables.id ORDER BY first DESC LIMIT 1)) AS time '
                'FROM variables WHERE experiment_id IN (SELECT value FROM json_each(?)) '
                'AND id NOT IN (SELECT value FROM json_each(?)) '
                'GROUP BY experiment_id HAVING time IS NOT NULL',
                (wanted, _listed(variable_id for own in logged.values() for variable_id in own)),
            )
        )
    for experiment_id, own in logged.items():
        times[experiment_id] = max(times.get(experiment_id, -math.inf), *own.values())
    return times


def find_paths(connection: sqlite3.Connection, experiment_ids: Collection[int]) -> list[str]:
    """Return the paths of all variables of several experiments, each once."""
    rows = connection.execute(
        'SELECT DISTINCT path FROM variables '
        'WHERE experiment_id IN (SELECT value FROM json_each(?))',
        (_listed(experiment_ids),),
    )
    return [row[0] for row in rows.fetchall()]


def find_variables(
    connection: sqlite3.Connection,
    experiment_ids: Collection[int],
    paths: Collection[str] | None,
) -> dict[int, list[Variable]]:
    """Return the variables of several experiments at these paths, or all, by path."""
    where = ''
    if paths is not None:
        # The plus keeps SQLite from looking them up.
        path = 'path' if len(paths) <= _LOOKED_UP else '+path'
        where = f' AND {path} IN (SELECT value FROM json_each(?))'
    found: dict[int, list[Variable]] = {}
    for experiment_id, *row in connection.execute(
        'SELECT experiment_id, id, path, container, content FROM variables '
        f'WHERE experiment_id IN (SELECT value FROM json_each(?)){where} '
        'ORDER BY experiment_id, path',
        [_listed(experiment_ids)] if paths is None else [_listed(experiment_ids), _listed(paths)],
    ).fetchall():
        found.setdefault(experiment_id, []).append(Variable(*row))
    return found


def read_latest(connection: StoreConnection, variables: VariablesByExperiment) -> Latest:
    """Return what variables hold: values, members, and of a series its last point."""
    latest = Latest()
    with transaction(connection, 'DEFERRED'):
        latest.atoms.update(
            connection.execute(
                'SELECT variable_id, value FROM atoms '
                'WHERE variable_id IN (SELECT value FROM json_each(?))',
                (_listed(_ids_of(variables, 'atom')),),
            )
        )
        for variable_id, member in connection.execute(
            'SELECT variable_id, member FROM members '
            'WHERE variable_id IN (SELECT value FROM json_each(?))',
            (_listed(_ids_of(variables, 'set')),),
        ):
            latest.sets.setdefault(variable_id, []).append(member)
        latest.series.update(_last_points(connection, variables))
    return latest


def read_many_series(
    connection: StoreConnection,
    variables: VariablesByExperiment,
    window: Window,
    steps: bool,
    times: bool,
) -> dict[int, SeriesReading]:
    """Return the points of several series, at least those in a window, by the variable's id."""
    series = [*_of_container(variables, 'series')]
    with transaction(connection, 'DEFERRED'):
        tails = find_tails(connection, [variable.id for variable in series])
        fresh = {
            variable_id: resolved(columns, end_of(tails.get(variable_id)))
            for variable_id, columns in _logged(connection, variables).items()
        }
        spans = {}
        for variable in series:
            end = end_of(tails.get(variable.id)).count
            start = window.start(end + len(fresh.get(variable.id, ())))
            spans[variable.id] = (start, end)
        chunks = read_chunks(connection, spans)
    readings = {}
    for variable in series:
        own = chunks[variable.id]
        pieces = [unpack_chunk(chunk, steps, times) for chunk in own]
        if variable.id in fresh:
            pieces.append(fresh[variable.id])
        first = own[0].first if own else spans[variable.id][1]
        readings[variable.id] = SeriesReading(variable, first, pieces)
    return readings


def _last_points(
    connection: StoreConnection, variables: VariablesByExperiment
) -> Iterator[tuple[int, LastPoint]]:
    logged = _logged(connection, variables)
    for variable_id, *row in connection.execute(
        LAST_CHUNKS.format(columns=CHUNK_COLUMNS), (_listed(_ids_of(variables, 'series')),)
    ):
        chunk = checked_chunk(variable_id, row)
        columns = logged.pop(variable_id, None)
        if columns is None:
            # The head has the last timestamp: unpacking all of them takes longer than the rest.
            last = unpack_chunk(chunk, times=False).sliced(chunk.count - 1, chunk.count)
            last.times.append(chunk.last_time)
            yield variable_id, _last_point(last, chunk.end.count)
        else:
            yield variable_id, _last_logged(columns, chunk.end)
    for variable_id, columns in logged.items():
        yield variable_id, _last_logged(columns, SeriesEnd())


def _last_logged(columns: Columns, end: SeriesEnd) -> LastPoint:
    points = resolved(columns, end)
    count = len(points)
    return _last_point(points.sliced(count - 1, count), end.count + count)


def _last_point(last: Points, count: int) -> LastPoint:
    return LastPoint(count, expanded(last.steps)[0], last.times[0], last.values[0])


def _logged(connection: StoreConnection, variables: VariablesByExperiment) -> dict[int, Columns]:
    """Return the points of series that are not in chunks yet; a series without any is left out."""
    wanted = {*_ids_of(variables, 'series')}
    pieces: dict[int, list[Columns]] = {}
    for experiment_id, *row in _log_rows(connection, _listed(variables)):
        for variable_id, columns in _by_variable(decoded_log_row(experiment_id, *row)):
            if variable_id in wanted:
                pieces.setdefault(variable_id, []).append(columns)
    return {variable_id: joined(some) for variable_id, some in pieces.items()}


def _log_rows(connection: sqlite3.Connection, experiment_ids: str) -> Iterator[Any]:
    return connection.execute(
        'SELECT experiment_id, form, count, crc32, points FROM log '
        'WHERE experiment_id IN (SELECT value FROM json_each(?)) ORDER BY id',
        (experiment_ids,),
    )


def _by_variable(points: array[float] | list[Any]) -> Iterator[tuple[int, Columns]]:
    if isinstance(points, array):
        return columns_by_variable(points)
    return text_columns_by_variable(points)


def _ids_of(variables: VariablesByExperiment, container: Container) -> list[int]:
    return [variable.id for variable in _of_container(variables, container)]


def _of_container(variables: VariablesByExperiment, container: Container) -> Iterator[Variable]:
    for some in variables.values():
        yield from (variable for variable in some if variable.container == container)


def _listed(items: Iterable[object]) -> str:
    return json.dumps([*items])
