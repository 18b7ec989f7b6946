"""What the variables of experiments hold, read many at a time and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from neptune_async._engine.store import Store
from neptune_async._model.operations import Variable
from neptune_async._storage.base import (
    ExperimentSummary,
    Latest,
    SeriesReading,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.chunks import Points

_EXPERIMENTS = 100
"""Experiments that are looked at together."""
_POINTS = 500_000
"""Points that are read together; a series that has more is read alone, and as a whole."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a variable holds: one of these.

    :ivar value: of an atom.
    :ivar members: of a set.
    :ivar pieces: the points of a series, in their order.
    """

    variable: Variable
    value: Any = None
    members: Sequence[Any] = ()
    pieces: Sequence[Points] = ()


def holdings(
    store: Store, experiments: Sequence[ExperimentSummary]
) -> Iterator[tuple[ExperimentSummary, Iterator[Held]]]:
    """Yield each experiment, with what its variables hold in the order of their paths."""
    for start in range(0, len(experiments), _EXPERIMENTS):
        some = experiments[start : start + _EXPERIMENTS]
        found, latest = _latest(store, [experiment.id for experiment in some])
        for experiment in some:
            yield experiment, _held(store, experiment, found.get(experiment.id, []), latest)


def _latest(store: Store, ids: Sequence[int]) -> tuple[dict[int, list[Variable]], Latest]:
    found = store.ask(lambda storage: storage.find_variables(ids))
    return found, store.ask(lambda storage: storage.read_latest(found))


def _series(store: Store, variables: VariablesByExperiment) -> dict[int, SeriesReading]:
    return store.ask(lambda storage: storage.read_many_series(variables, Window(), True, True))


def _held(
    store: Store, experiment: ExperimentSummary, variables: Sequence[Variable], latest: Latest
) -> Iterator[Held]:
    for group in _groups(variables, latest):
        readings = _series(store, {experiment.id: group})
        for variable in group:
            decoded = partial(store.decoded, experiment.name, variable.path)
            if variable.container == 'atom':
                stored = latest.atoms.get(variable.id)
                yield Held(variable, value=None if stored is None else decoded(stored))
            elif variable.container == 'set':
                members = map(decoded, latest.sets.get(variable.id, ()))
                yield Held(variable, members=sorted(members))
            else:
                yield Held(variable, pieces=readings[variable.id].pieces)


def _groups(variables: Sequence[Variable], latest: Latest) -> Iterator[list[Variable]]:
    """Yield variables that can be read together."""
    group: list[Variable] = []
    points = 0
    for variable in variables:
        last = latest.series.get(variable.id)
        count = last.count if last else 0
        if group and points + count > _POINTS:
            yield group
            group, points = [], 0
        group.append(variable)
        points += count
    if group:
        yield group
