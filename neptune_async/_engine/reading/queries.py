"""Which experiments of a store satisfy a query, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from neptune_async._engine.reading.latest import value_of
from neptune_async._engine.reading.states import states
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async._model.operations import Variable
from neptune_async._model.query import MISSING, Builtin, Expression, Operand, moment, parts_of
from neptune_async._model.query import Variable as Wanted
from neptune_async._model.states import State
from neptune_async._storage.base import (
    Damaged,
    ExperimentSummary,
    Latest,
    VariablesByExperiment,
)
from neptune_async._storage.summaries import SeriesSummary
from neptune_async.exceptions import StorageFormatError

_OF_ALL_POINTS = frozenset({'first', 'min', 'max', 'mean'})
"""The aspects of a series that its last point does not tell."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which experiments are meant, and in which order.

    :ivar where: what is true of them; None is all.
    :ivar sort: by what they are sorted; those that do not have it come last. None is by when they
        were made.
    :ivar limit: how many of them at most, the first in that order.
    """

    where: Expression | None = None
    sort: Operand | None = None
    descending: bool = False
    limit: int | None = None


EVERY = Query()


async def satisfying(
    worker: Worker, query: Query, experiments: Sequence[ExperimentSummary]
) -> list[ExperimentSummary]:
    """Return those of some experiments that satisfy a query, in its order.

    Each part of an ``and`` takes a handful of statements, however many experiments there are.

    :raises StorageFormatError: what it asks for is damaged in one of them.
    """
    found = [*experiments]
    for part in parts_of(query.where):
        # Only of those of which all parts before it hold: most of them are soon few.
        facts = await _facts(worker, {*part.operands()}, found)
        found = [each for each in found if part.holds(facts.lookup(each))]
    if query.sort is not None:
        found = await _sorted(worker, query.sort, query.descending, found)
    elif query.descending:
        found.reverse()
    return found[: query.limit]


async def _sorted(
    worker: Worker, sort: Operand, descending: bool, experiments: Sequence[ExperimentSummary]
) -> list[ExperimentSummary]:
    """Return experiments in the order of what they have; those that do not have it come last."""
    facts = await _facts(worker, {sort}, experiments)
    keys = {each.id: _sort_key(facts.lookup(each)(sort)) for each in experiments}
    there = [each for each in experiments if keys[each.id] is not None]
    # Of those that are equal, the one that was made first stays first, in either order.
    there.sort(key=lambda each: keys[each.id] or (), reverse=descending)
    return there + [each for each in experiments if keys[each.id] is None]


def _sort_key(value: Any) -> tuple[int, Any] | None:
    """Return by what a value is sorted: truth values, numbers, datetimes, texts; None for what
    comes last.
    """
    if isinstance(value, bool):
        return 0, value
    if isinstance(value, (int, float)):
        # Only NaN differs from itself; math.isnan refuses an int that no float can hold.
        return None if value != value else (1, value)
    if isinstance(value, datetime):
        return 2, moment(value)
    return (3, value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of experiments, as far as a query asks.

    :ivar variables: by path, and then by the experiment's id.
    """

    worker: Worker
    variables: Mapping[str, Mapping[int, Variable]]
    latest: Latest
    summaries: Mapping[int, SeriesSummary | Damaged]
    states: Mapping[int, State]
    last_times: Mapping[int, float | Damaged]

    def lookup(self, experiment: ExperimentSummary) -> Callable[[Operand], Any]:
        """Return what looks up what an operand is of an experiment."""

        def look_up(operand: Operand) -> Any:
            if isinstance(operand, Builtin):
                return self._field(experiment, operand.field)
            variable = self.variables[operand.path].get(experiment.id)
            if variable is None:
                return MISSING
            if variable.container != 'series':
                return MISSING if operand.aspect else self._value(experiment, variable)
            if operand.aspect is not None and operand.aspect in _OF_ALL_POINTS:
                return self._of_all_points(experiment, variable, operand.aspect)
            return self._of_last_point(experiment, variable, operand.aspect or 'last')

        return look_up

    def _field(self, experiment: ExperimentSummary, field: str) -> Any:
        if field == 'name':
            return experiment.name
        if field == 'state':
            return self.states[experiment.id]
        seconds = experiment.created
        if field == 'last_time':
            last = self.last_times.get(experiment.id)
            if last is None:
                return MISSING
            if isinstance(last, Damaged):
                raise messages.damaged_points_of(experiment.name, self.worker.location, last.why)
            seconds = last
        return _datetime(seconds)

    def _value(self, experiment: ExperimentSummary, variable: Variable) -> Any:
        latest = self.latest
        if variable.container == 'atom' and not (
            variable.id in latest.atoms or variable.id in latest.damaged
        ):
            return MISSING
        return value_of(self.worker, experiment.name, variable, self.latest)

    def _of_last_point(self, experiment: ExperimentSummary, variable: Variable, aspect: str) -> Any:
        last = self.latest.series.get(variable.id)
        if last is None:
            return 0 if aspect == 'count' else MISSING
        if isinstance(last, Damaged):
            raise self._damaged(experiment, variable, last)
        if aspect == 'last_time':
            return _datetime(last.timestamp)
        return {'last': last.value, 'count': last.count, 'last_step': last.step}[aspect]

    def _of_all_points(self, experiment: ExperimentSummary, variable: Variable, aspect: str) -> Any:
        summary = self.summaries[variable.id]
        if isinstance(summary, Damaged):
            raise self._damaged(experiment, variable, summary)
        whole = summary.whole
        if variable.content != 'float' or not whole.points:
            return MISSING
        if aspect == 'first':
            return summary.first
        if not whole.finite:
            return MISSING
        return {'min': whole.least, 'max': whole.greatest, 'mean': whole.mean}[aspect]

    def _damaged(
        self, experiment: ExperimentSummary, variable: Variable, damaged: Damaged
    ) -> StorageFormatError:
        location = self.worker.location
        return messages.damaged_value(experiment.name, variable.path, location, damaged.why)


def _datetime(seconds: float) -> datetime | float:
    """Return when that is; the seconds, if it is beyond what a datetime can be."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return seconds


async def _facts(
    worker: Worker, operands: Collection[Operand], experiments: Sequence[ExperimentSummary]
) -> _Facts:
    """Read what operands are of experiments, and nothing else."""
    ids = [experiment.id for experiment in experiments]
    fields = {operand.field for operand in operands if isinstance(operand, Builtin)}
    wanted = [operand for operand in operands if isinstance(operand, Wanted)]
    variables: dict[str, dict[int, Variable]] = {operand.path: {} for operand in wanted}
    latest, summaries = Latest(), {}
    ask = worker.connection.ask
    if wanted:
        found = await ask(lambda storage: storage.find_variables(ids, [*variables]))
        for experiment_id, some in found.items():
            for variable in some:
                variables[variable.path][experiment_id] = variable
        of_all = {each.path for each in wanted if each.aspect in _OF_ALL_POINTS}
        of_last = {each.path for each in wanted if each.aspect not in _OF_ALL_POINTS}
        if of_last:
            at_last = _at(found, of_last) if of_all else found
            latest = await ask(lambda storage: storage.read_latest(at_last))
        if of_all:
            at_all = _at(found, of_all) if of_last else found
            summaries = await ask(lambda storage: storage.read_summaries(at_all))
    return _Facts(
        worker,
        variables,
        latest,
        summaries,
        await states(worker, ids) if 'state' in fields else {},
        await ask(lambda storage: storage.last_points(ids)) if 'last_time' in fields else {},
    )


def _at(variables: VariablesByExperiment, paths: Collection[str]) -> dict[int, list[Variable]]:
    """Return those of some variables that are at some paths."""
    return {
        experiment_id: [variable for variable in some if variable.path in paths]
        for experiment_id, some in variables.items()
    }
