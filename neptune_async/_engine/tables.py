"""What is read of many variables at a time: comparisons, curves, and an experiment as a whole.

Coroutines that run on the worker's loop, as those of ``reads`` do. What they
return are plain Python objects; ``_tables`` makes tables of them.
"""

from __future__ import annotations

import math
import operator
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

import anyio.lowlevel

from neptune_async._engine.reads import decoded, known_paths, points
from neptune_async._engine.state import ExperimentState
from neptune_async._engine.worker import Worker
from neptune_async._model import messages
from neptune_async._model.operations import Variable
from neptune_async._model.sampling import sampled
from neptune_async._model.selection import Selection
from neptune_async._model.values import AtomValue, Content, SetMember
from neptune_async._storage.base import (
    ExperimentSummary,
    Latest,
    SeriesReading,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.chunks import Points, Stride, concatenated, expanded

Duplicates: TypeAlias = Literal['last', 'first', 'all']
SeriesContent: TypeAlias = Literal['float', 'str', 'datetime']
Value: TypeAlias = 'AtomValue | set[SetMember]'
"""What a variable holds: of a series, the last value."""

_FIRST_PORTION = 16
_MOST_SERIES = 4096
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
class Thinning:
    """Which points of a series are wanted.

    :ivar first_step, last_step: bounds, both of them included.
    :ivar duplicates: what to keep of points of one step. But for 'all' points are put in the
        order of their steps, else they stay in the order in which they were logged.
    :ivar max_points: how many to keep at most; of texts and datetimes, evenly spread ones.
    """

    first_step: float = -math.inf
    last_step: float = math.inf
    duplicates: Duplicates = 'all'
    max_points: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether there is nothing to be done."""
        return self == Thinning()

    def applied(self, points: Points) -> Points:
        """Return the points that are wanted."""
        kept = self._within_steps(points)
        kept = self._without_duplicates(points, kept)
        if self.max_points is not None and len(kept) > self.max_points:
            kept = _thinned(points, kept, self.max_points)
        return points if kept == range(len(points)) else _taken(points, kept)

    def _within_steps(self, points: Points) -> Sequence[int]:
        every = range(len(points))
        if self.first_step == -math.inf and self.last_step == math.inf:
            return every
        steps = expanded(points.steps)
        return [i for i in every if self.first_step <= steps[i] <= self.last_step]

    def _without_duplicates(self, points: Points, kept: Sequence[int]) -> Sequence[int]:
        if self.duplicates == 'all' or _ascends(points.steps):
            return kept
        steps = expanded(points.steps)
        # The later of two overwrites the earlier.
        by_step = {steps[i]: i for i in (kept if self.duplicates == 'last' else reversed(kept))}
        return [by_step[step] for step in sorted(by_step)]


def _ascends(steps: Stride | array[float]) -> bool:
    if isinstance(steps, Stride):
        return steps.stride > 0
    return all(map(operator.lt, steps, islice(steps, 1, None)))


def _thinned(points: Points, kept: Sequence[int], most: int) -> Sequence[int]:
    if isinstance(points.values, array):
        values = points.values
        if kept != range(len(values)):
            values = array('d', map(values.__getitem__, kept))
        return [kept[i] for i in sampled(values, most)]
    last = len(kept) - 1
    return [kept[last * i // max(1, most - 1)] for i in range(most)] if most > 1 else [kept[last]]


def _taken(points: Points, kept: Sequence[int]) -> Points:
    values: array[float] | list[Any] = [points.values[i] for i in kept]
    return Points(
        _steps_at(points.steps, kept),
        array('d', map(points.times.__getitem__, kept)),
        array('d', values) if isinstance(points.values, array) else values,
    )


def _steps_at(steps: Stride | array[float], kept: Sequence[int]) -> array[float]:
    if isinstance(steps, Stride):
        return array('d', [steps.first + steps.stride * i for i in kept])
    return array('d', map(steps.__getitem__, kept))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What variables of several experiments hold.

    :ivar rows: by the experiment's name, in the order in which they were made: the value at each
        path that the experiment has.
    """

    paths: Sequence[str]
    rows: dict[str, dict[str, Value]]


@dataclass(frozen=True, slots=True)
class _Chosen:
    experiments: Sequence[ExperimentSummary]
    variables: VariablesByExperiment


async def compare(worker: Worker, names: Selection, paths: Selection) -> Comparison:
    """Return what variables of several experiments hold.

    :raises ExperimentNotFoundError, VariableNotFoundError: one that is named exactly is nowhere.
    """
    chosen = await _choose(worker, names, paths)
    latest = await worker.connection.ask(lambda storage: storage.read_latest(chosen.variables))
    found: set[str] = set()
    rows = {}
    for experiment in chosen.experiments:
        variables = chosen.variables.get(experiment.id, ())
        rows[experiment.name] = dict(_values(worker, experiment.name, variables, latest))
        found.update(variable.path for variable in variables)
        await anyio.lowlevel.checkpoint()
    # Those that are named stand in the order in which they are.
    return Comparison(sorted(found) if paths.exact is None else [*dict.fromkeys(paths.exact)], rows)


async def curves(
    worker: Worker,
    names: Selection,
    paths: Selection,
    content: SeriesContent,
    thinning: Thinning,
) -> list[Curve]:
    """Return the series of several experiments that have a content, less the points that are not
    wanted.

    :raises ExperimentNotFoundError, VariableNotFoundError: one that is named exactly is nowhere.
    :raises ContainerTypeError: a path that is named exactly is no series anywhere.
    :raises ContentTypeError: it is a series of another content, everywhere.
    """
    chosen = await _choose(worker, names, paths)
    for path in paths.named:
        _require_series(chosen, path, content)
    series = [
        (experiment, variable)
        for experiment in chosen.experiments
        for variable in chosen.variables.get(experiment.id, ())
        if (variable.container, variable.content) == ('series', content)
    ]
    return [curve async for curve in _thinned_out(worker, series, thinning)]


async def curve(worker: Worker, state: ExperimentState, path: str, method: str) -> Curve:
    """Return all points of one series, for a method of its view."""
    reading = await points(worker, state, path, Window(), method)
    return Curve(state.name, path, reading.variable.content, reading.pieces)


async def contents(worker: Worker, state: ExperimentState, path: str | None) -> dict[str, Any]:
    """Return what the variables below a namespace hold, nested as they are; None is the root."""
    await worker.flush(state)
    variables = await worker.query(state, worker.storage.list_variables, state.id, path)
    if not variables and path is not None:
        raise messages.namespace_not_found(state.name, path, await known_paths(worker, state))
    latest = await worker.query(state, worker.storage.read_latest, {state.id: variables})
    skipped = 0 if path is None else len(path) + 1
    tree: dict[str, Any] = {}
    for found, value in _values(worker, state.name, variables, latest):
        *namespaces, name = found[skipped:].split('/')
        inner = tree
        for namespace in namespaces:
            deeper = inner.setdefault(namespace, {})
            if not isinstance(deeper, dict):
                # What was imported, or made by two processes at once, may be a variable, too.
                deeper = inner[namespace] = {'': deeper}
            inner = deeper
        inner[name] = value
    return tree


async def _choose(worker: Worker, names: Selection, paths: Selection) -> _Chosen:
    """Return the experiments and variables that are meant, once what this process has logged to
    them is committed.
    """
    for state in [*worker.states.values()]:
        if names.among((state.name,)):
            await worker.flush(state)
    found = await worker.connection.ask(lambda storage: storage.find_experiments(names.exact))
    known = frozenset(names.among([experiment.name for experiment in found]))
    experiments = [experiment for experiment in found if experiment.name in known]
    for name in names.exact or ():
        if name not in known:
            every = await worker.connection.ask(lambda storage: storage.list_experiments())
            raise messages.experiment_not_found(name, worker.location, every)
    ids = [experiment.id for experiment in experiments]
    wanted: Sequence[str] | None = paths.exact
    if wanted is None:
        # Few differ, however many variables there are: only those that are meant are read.
        every_path = await worker.connection.ask(lambda storage: storage.find_paths(ids))
        wanted = paths.among(every_path)
    variables = await worker.connection.ask(lambda storage: storage.find_variables(ids, wanted))
    if experiments and paths.exact is not None:
        await _require_paths(worker, ids, paths.exact, variables)
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
        readings = await _readings(worker, portion)
        count = sum(reading.end for reading in readings.values())
        size = max(1, min(_MOST_SERIES, _PORTION_POINTS * len(portion) // max(1, count)))
        for experiment, variable in portion:
            pieces = readings.pop(variable.id).pieces
            if pieces and not thinning.keeps_all:
                pieces = [thinning.applied(concatenated(pieces))]
            yield Curve(experiment.name, variable.path, variable.content, pieces)
            # Whatever else waits for the worker need not wait for the next series.
            await anyio.lowlevel.checkpoint()


async def _readings(
    worker: Worker, series: Iterable[tuple[ExperimentSummary, Variable]]
) -> dict[int, SeriesReading]:
    grouped: dict[int, list[Variable]] = {}
    for experiment, variable in series:
        grouped.setdefault(experiment.id, []).append(variable)
    return await worker.connection.ask(
        lambda storage: storage.read_many_series(grouped, Window(), True, True)
    )


def _values(
    worker: Worker, experiment: str, variables: Iterable[Variable], latest: Latest
) -> Iterable[tuple[str, Value]]:
    for variable in variables:
        yield variable.path, value_of(worker, experiment, variable, latest)


def value_of(worker: Worker, experiment: str, variable: Variable, latest: Latest) -> Value:
    """Return what a variable holds: of a series the last value, None if it has no point."""
    path = variable.path
    if variable.container == 'series':
        last = latest.series.get(variable.id)
        return None if last is None else last.value
    if variable.container == 'set':
        members = latest.sets.get(variable.id, ())
        return {decoded(worker, experiment, path, member) for member in members}
    stored = latest.atoms.get(variable.id)
    return None if stored is None else decoded(worker, experiment, path, stored)
