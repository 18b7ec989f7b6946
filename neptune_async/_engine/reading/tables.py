"""What is read of many variables at a time: comparisons, curves, and an experiment as a whole.

Coroutines that run on the worker's loop, as those of ``reads`` do. What they
return are plain Python objects; ``_tables`` makes tables of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import anyio.lowlevel

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.reading.damage import pieces_at_end
from neptune_async._engine.reading.latest import Value, value_of
from neptune_async._engine.reading.queries import EVERY, Query, satisfying
from neptune_async._engine.reading.thinning import Thinning
from neptune_async._engine.reading.values import known_paths, points, require
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async._model.operations import Variable
from neptune_async._model.selection import Selection
from neptune_async._model.values import Content
from neptune_async._storage.base import (
    ExperimentSummary,
    SeriesReading,
    Span,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.points import Points, Sink, concatenated
from neptune_async.exceptions import StorageFormatError

SeriesContent: TypeAlias = Literal['float', 'str', 'datetime']
_FIRST_PORTION = 16
_MOST_SERIES = 4096
_VALUES = 1000
"""Values of a comparison that are decoded at a time: a few milliseconds."""
_PORTION_POINTS = 2**20
"""Points to have in memory at a time, of series that are then thinned out: about 24 MiB."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of a series, in pieces that follow each other.

    :ivar content: what its values are.
    """

    experiment: str
    path: str
    content: Content
    pieces: Sequence[Points]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What variables of several experiments hold.

    :ivar rows: by the experiment's name, in the order in which they were made, or that a query
        asks for: the value at each path that the experiment has.
    :ivar damaged: what is to be said of values that cannot be read, by experiment and path: in
        the rows they are not.
    """

    paths: Sequence[str]
    rows: dict[str, dict[str, Value]]
    damaged: dict[tuple[str, str], StorageFormatError]


@dataclass(frozen=True, slots=True)
class _Chosen:
    experiments: Sequence[ExperimentSummary]
    variables: VariablesByExperiment


async def list_names(worker: Worker, query: Query) -> list[str]:
    """Return the names of the experiments that satisfy a query, in its order."""
    for state in [*worker.states.values()]:
        await worker.flush(state)
    every = await worker.connection.ask(lambda storage: storage.find_experiments())
    return [experiment.name for experiment in await satisfying(worker, query, every)]


async def compare(
    worker: Worker, names: Selection, paths: Selection, query: Query = EVERY
) -> Comparison:
    """Return what variables of several experiments hold.

    :raises ExperimentNotFoundError, VariableNotFoundError: one that is named exactly is nowhere.
    :raises StorageFormatError: what one of them holds cannot be read.
    """
    comparison = await compare_readable(worker, names, paths, query)
    for error in comparison.damaged.values():
        raise error
    return comparison


async def compare_readable(
    worker: Worker, names: Selection, paths: Selection, query: Query = EVERY
) -> Comparison:
    """Return the same, but for what cannot be read: of that, what is to be said.

    :raises ExperimentNotFoundError, VariableNotFoundError: one that is named exactly is nowhere.
    """
    chosen = await _choose(worker, names, paths, query)
    latest = await worker.connection.ask(lambda storage: storage.read_latest(chosen.variables))
    found: set[str] = set()
    rows: dict[str, dict[str, Value]] = {}
    damaged = {}
    since_checkpoint = 0
    for experiment in chosen.experiments:
        name = experiment.name
        row = rows[name] = {}
        for variable in chosen.variables.get(experiment.id, ()):
            found.add(variable.path)
            try:
                row[variable.path] = value_of(worker, name, variable, latest)
            except StorageFormatError as error:
                damaged[name, variable.path] = error
        since_checkpoint += len(row)
        if since_checkpoint >= _VALUES:
            # Whatever else waits for the worker need not wait for all of them.
            await anyio.lowlevel.checkpoint()
            since_checkpoint = 0
    # Those that are named stand in the order in which they are.
    every = sorted(found) if paths.exact is None else [*dict.fromkeys(paths.exact)]
    return Comparison(every, rows, damaged)


async def curves(
    worker: Worker,
    names: Selection,
    paths: Selection,
    content: SeriesContent,
    thinning: Thinning,
    query: Query = EVERY,
) -> list[Curve]:
    """Return the series of several experiments that have a content, less the points that are not
    wanted.

    :raises ExperimentNotFoundError, VariableNotFoundError: one that is named exactly is nowhere.
    :raises ContainerTypeError: a path that is named exactly is no series anywhere.
    :raises ContentTypeError: it is a series of another content, everywhere.
    """
    chosen = await _choose(worker, names, paths, query)
    for path in paths.named:
        _require_series(chosen, path, content)
    series = [
        (experiment, variable)
        for experiment in chosen.experiments
        for variable in chosen.variables.get(experiment.id, ())
        if (variable.container, variable.content) == ('series', content)
    ]
    return [curve async for curve in _thinned_out(worker, series, thinning)]


async def curve(
    worker: Worker, state: ExperimentState, path: str, method: str, thinning: Thinning
) -> Curve:
    """Return the points of one series that are wanted, for a method of its view."""
    if thinning.max_points is not None:
        variable = await worker.read(state, path, worker.storage.find_variable, state.id, path)
        await require(worker, state, path, variable, 'series', method)
        if variable is not None:
            samples = await _samples(worker, {state.id: [variable]}, thinning)
            if variable.id in samples:
                return Curve(state.name, path, variable.content, [samples[variable.id]])
    reading = await points(worker, state, path, Window(span=thinning.span), method)
    pieces = _wanted(thinning, pieces_at_end(reading, worker.location, state.name))
    return Curve(state.name, path, reading.variable.content, pieces)


async def filled(
    worker: Worker, state: ExperimentState, path: str, method: str, sink: Sink
) -> Curve | None:
    """Give all points of a series of floats to a sink, for a method of its view.

    :returns: the points of a series of another content.
    """
    try:
        variable = await worker.read(
            state, path, worker.storage.stream_series, state.id, path, sink
        )
    except StorageFormatError:
        # To read them at once tells which can be read, and how.
        return await curve(worker, state, path, method, Thinning())
    await require(worker, state, path, variable, 'series', method)
    if variable is not None and variable.content == 'float':
        return None
    return await curve(worker, state, path, method, Thinning())


async def contents(worker: Worker, state: ExperimentState, path: str | None) -> dict[str, Any]:
    """Return what the variables below a namespace hold, nested as they are; None is the root."""
    await worker.flush(state)
    variables = await worker.query(state, worker.storage.list_variables, state.id, path)
    if not variables and path is not None:
        raise messages.namespace_not_found(state.name, path, await known_paths(worker, state))
    latest = await worker.query(state, worker.storage.read_latest, {state.id: variables})
    skipped = 0 if path is None else len(path) + 1
    tree: dict[str, Any] = {}
    for variable in variables:
        *namespaces, name = variable.path[skipped:].split('/')
        inner = tree
        for namespace in namespaces:
            deeper = inner.setdefault(namespace, {})
            if not isinstance(deeper, dict):
                # What was imported, or made by two processes at once, may be a variable, too.
                deeper = inner[namespace] = {'': deeper}
            inner = deeper
        inner[name] = value_of(worker, state.name, variable, latest)
    return tree


async def _choose(worker: Worker, names: Selection, paths: Selection, query: Query) -> _Chosen:
    """Return the experiments and variables that are meant, once what this process has logged to
    them is committed.
    """
    for state in [*worker.states.values()]:
        if names.among((state.name,)):
            await worker.flush(state)
    found = await worker.connection.ask(lambda storage: storage.find_experiments(names.exact))
    known = frozenset(names.among([experiment.name for experiment in found]))
    experiments = [experiment for experiment in found if experiment.name in known]
    for name in names.required:
        if name not in known:
            every = await worker.connection.ask(lambda storage: storage.list_experiments())
            raise messages.experiment_not_found(name, worker.location, every)
    if query != EVERY:
        experiments = await satisfying(worker, query, experiments)
    ids = [experiment.id for experiment in experiments]
    wanted: Sequence[str] | None = paths.exact
    if wanted is None:
        # Few differ, however many variables there are: only those that are meant are read.
        every_path = await worker.connection.ask(lambda storage: storage.find_paths(ids))
        wanted = paths.among(every_path)
    variables = await worker.connection.ask(lambda storage: storage.find_variables(ids, wanted))
    if experiments:
        await _require_paths(worker, ids, paths.required, variables)
    return _Chosen(experiments, variables)


async def _require_paths(
    worker: Worker, ids: Sequence[int], paths: Iterable[str], found: VariablesByExperiment
) -> None:
    known = {variable.path for some in found.values() for variable in some}
    for path in paths:
        if path not in known:
            every = await worker.connection.ask(lambda storage: storage.find_paths(ids))
            raise messages.variable_nowhere(len(ids), path, every)


def _require_series(chosen: _Chosen, path: str, content: SeriesContent) -> None:
    """Refuse a path that is something else in every experiment that has it."""
    other: tuple[str, Variable] | None = None
    for experiment in chosen.experiments:
        for variable in chosen.variables.get(experiment.id, ()):
            if variable.path == path:
                if (variable.container, variable.content) == ('series', content):
                    return
                other = other or (experiment.name, variable)
    if other is not None:
        raise messages.other_series(*other, content)


async def _thinned_out(
    worker: Worker,
    series: Sequence[tuple[ExperimentSummary, Variable]],
    thinning: Thinning,
) -> AsyncIterator[Curve]:
    """Yield the points of each series that are wanted; of many at a time all are read, but not of
    more than memory has room for.
    """
    size = _FIRST_PORTION
    start = 0
    while start < len(series):
        portion = series[start : start + size]
        start += size
        samples = await _samples(worker, _grouped(portion), thinning)
        whole = [each for each in portion if each[1].id not in samples]
        readings = await _readings(worker, whole, thinning.span)
        count = sum(reading.end for reading in readings.values())
        size = max(1, min(_MOST_SERIES, _PORTION_POINTS * len(portion) // max(1, count)))
        for experiment, variable in portion:
            pieces: Sequence[Points]
            if variable.id in samples:
                pieces = [samples.pop(variable.id)]
            else:
                reading = readings.pop(variable.id)
                pieces = _wanted(thinning, pieces_at_end(reading, worker.location, experiment.name))
            yield Curve(experiment.name, variable.path, variable.content, pieces)
            # Whatever else waits for the worker need not wait for the next series.
            await anyio.lowlevel.checkpoint()


def _wanted(thinning: Thinning, pieces: Sequence[Points]) -> Sequence[Points]:
    if not pieces or thinning.keeps_all:
        return pieces
    kept = thinning.applied(concatenated(pieces))
    return [kept] if len(kept) else []


async def _samples(
    worker: Worker, variables: VariablesByExperiment, thinning: Thinning
) -> dict[int, Points]:
    """Return what is wanted of long series, by the variable's id, where summaries tell it."""
    most = thinning.max_points
    if most is None:
        return {}
    is_distinct = thinning.duplicates != 'all'
    return await worker.connection.ask(
        lambda storage: storage.read_samples(variables, thinning.span, most, is_distinct)
    )


async def _readings(
    worker: Worker, series: Iterable[tuple[ExperimentSummary, Variable]], span: Span
) -> dict[int, SeriesReading]:
    grouped = _grouped(series)
    return await worker.connection.ask(
        lambda storage: storage.read_many_series(grouped, Window(span=span), True, True)
    )


def _grouped(series: Iterable[tuple[ExperimentSummary, Variable]]) -> VariablesByExperiment:
    grouped: dict[int, list[Variable]] = {}
    for experiment, variable in series:
        grouped.setdefault(experiment.id, []).append(variable)
    return grouped
