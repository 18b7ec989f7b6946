"""Reading many variables of many experiments at a time from a SQLite store."""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from neptune_async._model.operations import Container, Variable
from neptune_async._storage.base import (
    EVERYWHERE,
    Damaged,
    ExperimentSummary,
    LastPoint,
    Latest,
    SeriesReading,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.chunks import Chunk, last_step
from neptune_async._storage.points import (
    Columns,
    Points,
    SeriesEnd,
    columns_by_variable,
    expanded,
    text_columns_by_variable,
)
from neptune_async._storage.sqlite.checksums import (
    EXPERIMENT_COLUMNS,
    checked_experiment,
    checked_value,
    checked_variable,
    damaged,
    require_absent_values,
)
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.counts import find_counts, lack
from neptune_async._storage.sqlite.reading import (
    LAST_CHUNKS,
    TAIL_COLUMNS,
    ChunkTail,
    checked_chunk,
    checked_summary,
    chunks_at,
    decoded_log_row,
    tail_of,
    unpack_chunk,
)
from neptune_async._storage.sqlite.series import Logged, find_runs, resolved_runs
from neptune_async._storage.sqlite.sql import by_each_index, select_variables, transaction
from neptune_async._storage.summaries import last_value
from neptune_async.exceptions import StorageFormatError

_LOOKED_UP = 64
"""Paths up to which each is looked up in each experiment, instead of reading the paths there."""


def find_experiments(
    connection: sqlite3.Connection, names: Collection[str] | None
) -> list[ExperimentSummary]:
    """Return the experiments of these names, or all, in the order in which they were made."""
    if names is None:
        return _experiments(connection, '')
    condition = ' WHERE name IN (SELECT value FROM json_each(?))'
    found = _experiments(connection, condition, _listed(names))
    if len(found) == len({*names}):
        return found
    # One damaged bit of the index may hide a row that is whole, as in find_experiment.
    return _experiments(connection, f' NOT INDEXED{condition}', _listed(names))


def _experiments(
    connection: sqlite3.Connection, which: str, *values: str
) -> list[ExperimentSummary]:
    rows = connection.execute(
        f'SELECT {EXPERIMENT_COLUMNS} FROM experiments{which} ORDER BY id', values
    ).fetchall()
    return [ExperimentSummary(*checked_experiment(row)[:3]) for row in rows]


def count_variables(
    connection: sqlite3.Connection, experiment_ids: Collection[int]
) -> dict[int, int]:
    """Return how many variables each of several experiments has."""
    return dict(_agreed(connection, 'experiment_id, count(*)', experiment_ids, 'experiment_id'))


def last_points(
    connection: sqlite3.Connection, experiment_ids: Collection[int]
) -> dict[int, float | Damaged]:
    """Return the greatest last timestamp of the series of each experiment that has points."""
    wanted = _listed(experiment_ids)
    logged: dict[int, dict[int, float]] = {}
    damaged: dict[int, float | Damaged] = {}
    with transaction(connection, 'DEFERRED'):
        for experiment_id, *row in _log_rows(connection, wanted):
            try:
                points = decoded_log_row(experiment_id, *row)
            except StorageFormatError as error:
                damaged[experiment_id] = Damaged(None, str(error))
                continue
            for variable_id, columns in _by_variable(points):
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
    return {**times, **damaged}


def find_paths(connection: sqlite3.Connection, experiment_ids: Collection[int]) -> list[str]:
    """Return the paths of all variables of several experiments, each once."""
    return [path for (path,) in _agreed(connection, 'path', experiment_ids, 'path')]


def _agreed(
    connection: sqlite3.Connection, columns: str, experiment_ids: Collection[int], groups: str
) -> set[tuple[Any, ...]]:
    """Return what both indexes of variables say of experiments."""
    condition = 'experiment_id IN (SELECT value FROM json_each(?))'
    with transaction(connection, 'DEFERRED'):
        first, again = (
            {*connection.execute(f'{statement} GROUP BY {groups}', (_listed(experiment_ids),))}
            for statement in by_each_index(columns, condition)
        )
    if first != again:
        raise StorageFormatError(damaged('an index of variables'))
    return first


def find_variables(
    connection: sqlite3.Connection,
    experiment_ids: Collection[int],
    paths: Collection[str] | None,
) -> dict[int, list[Variable]]:
    """Return the variables of several experiments at these paths, or all, by path."""
    condition = 'experiment_id IN (SELECT value FROM json_each(?))'
    values, most = [_listed(experiment_ids)], None
    if paths is not None:
        # The plus keeps SQLite from looking them up.
        path = 'path' if len(paths) <= _LOOKED_UP else '+path'
        condition += f' AND {path} IN (SELECT value FROM json_each(?))'
        values.append(_listed(paths))
        most = len({*experiment_ids}) * len({*paths})
    found: dict[int, list[Variable]] = {}
    for row in select_variables(connection, condition, values, most):
        found.setdefault(row[1], []).append(checked_variable(row))
    return found


def read_latest(connection: StoreConnection, variables: VariablesByExperiment) -> Latest:
    """Return what variables hold: values, members, and of a series its last point."""
    latest = Latest()
    sets, series = ids_of(variables, 'set'), ids_of(variables, 'series')
    with transaction(connection, 'DEFERRED'):
        _add_atoms(connection, ids_of(variables, 'atom'), latest)
        for variable_id, *row in connection.execute(
            'SELECT variable_id, member, crc32 FROM members '
            'WHERE variable_id IN (SELECT value FROM json_each(?))',
            (_listed(sets),),
        ):
            try:
                member = checked_value(variable_id, *row)
                latest.sets.setdefault(variable_id, []).append(member)
            except StorageFormatError as error:
                latest.damaged[variable_id] = Damaged(None, str(error))
        counts = find_counts(connection, [*sets, *series])
        latest.series.update(_last_points(connection, variables, counts))
    for variable_id in sets:
        why = lack(variable_id, len(latest.sets.get(variable_id, ())), counts)
        if why is not None:
            latest.damaged.setdefault(variable_id, Damaged(None, why))
    return latest


def _add_atoms(connection: sqlite3.Connection, ids: Collection[int], latest: Latest) -> None:
    for variable_id, *row in connection.execute(
        'SELECT variable_id, value, crc32 FROM atoms '
        'WHERE variable_id IN (SELECT value FROM json_each(?))',
        (_listed(ids),),
    ):
        try:
            latest.atoms[variable_id] = checked_value(variable_id, *row)
        except StorageFormatError as error:
            latest.damaged[variable_id] = Damaged(None, str(error))
    absent = [each for each in ids if each not in latest.atoms and each not in latest.damaged]
    if absent:
        # It takes as long as to read all atoms, so once is enough.
        try:
            require_absent_values(connection, absent[0])
        except StorageFormatError as error:
            latest.damaged.update(dict.fromkeys(absent, Damaged(None, str(error))))


def read_many_series(
    connection: StoreConnection,
    variables: VariablesByExperiment,
    window: Window,
    steps: bool,
    times: bool,
) -> dict[int, SeriesReading]:
    """Return the points of several series, at least those in a window, by the variable's id."""
    series = _of_container(variables, 'series')
    with transaction(connection, 'DEFERRED'):
        logged = logged_points(connection, variables)
        every = {variable.id: logged.get(variable.id, []) for variable in series}
        runs = find_runs(connection, every, window, steps)
    readings = {
        variable.id: runs.pop(variable.id).reading(variable, steps, times) for variable in series
    }
    hurt = {variable_id for variable_id, reading in readings.items() if reading.is_damaged}
    if hurt and window.span != EVERYWHERE:
        # Which points are damaged is told of the whole series.
        some = {
            experiment_id: [variable for variable in own if variable.id in hurt]
            for experiment_id, own in variables.items()
        }
        readings |= read_many_series(connection, some, window.everywhere(), steps, times)
    return readings


def _last_points(
    connection: StoreConnection, variables: VariablesByExperiment, counts: Mapping[int, int]
) -> Iterator[tuple[int, LastPoint | Damaged]]:
    logged = logged_points(connection, variables)
    ids = ids_of(variables, 'series')
    without_chunks = {*ids}
    packed: list[tuple[int, int]] = []
    for variable_id, *row in connection.execute(
        LAST_CHUNKS.format(columns=TAIL_COLUMNS), (_listed(ids),)
    ):
        without_chunks.discard(variable_id)
        own = logged.get(variable_id)
        try:
            tail = tail_of(variable_id, row[:-1])
        except StorageFormatError as error:
            yield variable_id, Damaged(None, str(error))
            continue
        why = lack(variable_id, tail.first + tail.count, counts)
        if why is not None:
            yield variable_id, Damaged(None, why)
        elif own is not None:
            yield variable_id, _last_logged(own, tail.end)
        elif (last := _last_of_summary(variable_id, tail, row)) is not None:
            yield variable_id, last
        else:
            packed.append((variable_id, tail.first))
    for variable_id in without_chunks:
        why = lack(variable_id, 0, counts)
        if why is not None:
            yield variable_id, Damaged(None, why)
        elif variable_id in logged:
            yield variable_id, _last_logged(logged[variable_id], SeriesEnd())
    for variable_id, *row in chunks_at(connection, packed):
        try:
            yield variable_id, _last_in_chunk(checked_chunk(variable_id, row))
        except StorageFormatError as error:
            yield variable_id, Damaged(None, str(error))


def _last_of_summary(variable_id: int, tail: ChunkTail, row: Sequence[Any]) -> LastPoint | None:
    """Return the last point of the chunk in a row of ``TAIL_COLUMNS``; None if its summary and its
    head do not tell it.
    """
    first_step, stride = row[2:4]
    if stride is None:
        return None
    try:
        value = last_value(checked_summary(variable_id, tail, row[-1]))
        step = last_step(first_step, stride, tail.count)
    except (StorageFormatError, ValueError):
        return None  # the points may be whole
    return (
        None if value is None else LastPoint(tail.first + tail.count, step, tail.last_time, value)
    )


def _last_in_chunk(chunk: Chunk) -> LastPoint:
    # The head has the last timestamp: unpacking all of them takes longer than the rest.
    last = unpack_chunk(chunk, times=False).sliced(chunk.count - 1, chunk.count)
    last.times.append(chunk.last_time)
    return _last_point(last, chunk.end.count)


def _last_logged(logged: Logged, end: SeriesEnd) -> LastPoint | Damaged:
    runs = resolved_runs(logged, end, True)
    # Behind a row that is damaged nobody knows how many points there are, nor which steps.
    last = next((run for run in runs if isinstance(run, Damaged)), runs[-1])
    if isinstance(last, Damaged):
        return last
    count = len(last)
    return _last_point(last.sliced(count - 1, count), end.count + count)


def _last_point(last: Points, count: int) -> LastPoint:
    return LastPoint(count, expanded(last.steps)[0], last.times[0], last.values[0])


def logged_points(
    connection: StoreConnection, variables: VariablesByExperiment
) -> dict[int, list[Columns | Damaged]]:
    """Return what is not in chunks yet; a series without any of that is left out."""
    wanted = {*ids_of(variables, 'series')}
    pieces: dict[int, list[Columns | Damaged]] = {}
    for experiment_id, *row in _log_rows(connection, _listed(variables)):
        try:
            points = decoded_log_row(experiment_id, *row)
        except StorageFormatError as error:
            # It may have had points of any of them.
            for variable in variables[experiment_id]:
                if variable.id in wanted:
                    pieces.setdefault(variable.id, []).append(Damaged(None, str(error)))
            continue
        for variable_id, columns in _by_variable(points):
            if variable_id in wanted:
                pieces.setdefault(variable_id, []).append(columns)
    return pieces


def _log_rows(connection: sqlite3.Connection, experiment_ids: str) -> Iterator[Any]:
    return connection.execute(
        'SELECT experiment_id, id, form, count, crc32, points FROM log '
        'WHERE experiment_id IN (SELECT value FROM json_each(?)) ORDER BY id',
        (experiment_ids,),
    )


def _by_variable(points: array[float] | list[Any]) -> Iterator[tuple[int, Columns]]:
    if isinstance(points, array):
        return columns_by_variable(points)
    return text_columns_by_variable(points)


def ids_of(variables: VariablesByExperiment, container: Container) -> list[int]:
    """Return the ids of the variables that are of a container."""
    return [variable.id for variable in _of_container(variables, container)]


def _of_container(variables: VariablesByExperiment, container: Container) -> list[Variable]:
    return [
        variable
        for some in variables.values()
        for variable in some
        if variable.container == container
    ]


def _listed(items: Iterable[object]) -> str:
    return json.dumps([*items])
