"""The contents of variables, read for many experiments at a time, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from neptune_async._engine.reading.damage import damaged_ranges
from neptune_async._engine.store import Store
from neptune_async._model.operations import Variable
from neptune_async._storage.base import (
    Damaged,
    ExperimentSummary,
    Latest,
    SeriesReading,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.points import Points
from neptune_async.exceptions import StorageFormatError

_EXPERIMENTS = 100
"""How many experiments to read together."""
_POINTS = 500_000
"""How many points to read together. A longer series is read alone, and as a whole."""


@dataclass(frozen=True, slots=True)
class Held:
    """The content of a variable. Its container says which field is set.

    :ivar value: the value of an atom.
    :ivar members: the members of a set, sorted.
    :ivar pieces: the points of a series, in order.
    """

    variable: Variable
    value: Any = None
    members: Sequence[Any] = ()
    pieces: Sequence[Points] = ()


def holdings(
    store: Store, experiments: Sequence[ExperimentSummary], unreadable: Counter[str]
) -> Iterator[tuple[ExperimentSummary, Iterator[Held]]]:
    """Yield each experiment with the contents of its variables, in the order of their paths.

    Damaged points, atoms and sets are left out.

    :param unreadable: counts what is left out, by the message that describes it.
    """
    for start in range(0, len(experiments), _EXPERIMENTS):
        some = experiments[start : start + _EXPERIMENTS]
        found, latest = _latest(store, [experiment.id for experiment in some])
        for experiment in some:
            yield (
                experiment,
                _held(store, experiment, found.get(experiment.id, []), latest, unreadable),
            )


def _latest(store: Store, ids: Sequence[int]) -> tuple[dict[int, list[Variable]], Latest]:
    found = store.ask(lambda storage: storage.find_variables(ids))
    return found, store.ask(lambda storage: storage.read_latest(found))


def _series(store: Store, variables: VariablesByExperiment) -> dict[int, SeriesReading]:
    return store.ask(lambda storage: storage.read_many_series(variables, Window(), True, True))


def _held(
    store: Store,
    experiment: ExperimentSummary,
    variables: Sequence[Variable],
    latest: Latest,
    unreadable: Counter[str],
) -> Iterator[Held]:
    for group in _groups(variables, latest):
        readings = _series(store, {experiment.id: group})
        for variable in group:
            decoded = partial(store.decoded, experiment.name, variable.path)
            if variable.container == 'series':
                reading = readings[variable.id]
                for which, damaged in damaged_ranges(reading):
                    place = f'{experiment.name}: {variable.path!r}: {which} cannot be read'
                    unreadable[f'{place}: {damaged.why}'] += len(damaged) or 1
                pieces = [run for run in reading.runs if isinstance(run, Points)]
                yield Held(variable, pieces=pieces)
                continue
            if variable.id in latest.damaged:
                why = latest.damaged[variable.id].why
                unreadable[f'{experiment.name}: {variable.path!r}: cannot be read: {why}'] += 1
                continue
            try:
                if variable.container == 'atom':
                    stored = latest.atoms.get(variable.id)
                    held = Held(variable, value=None if stored is None else decoded(stored))
                else:
                    members = map(decoded, latest.sets.get(variable.id, ()))
                    held = Held(variable, members=sorted(members))
            except StorageFormatError as error:
                unreadable[str(error)] += 1
            else:
                yield held


def _groups(variables: Sequence[Variable], latest: Latest) -> Iterator[list[Variable]]:
    """Yield groups of variables that can be read together."""
    group: list[Variable] = []
    points = 0
    for variable in variables:
        last = latest.series.get(variable.id)
        # If the last point is damaged, nobody knows how many points the series has.
        count = _POINTS if isinstance(last, Damaged) else last.count if last else 0
        if group and points + count > _POINTS:
            yield group
            group, points = [], 0
        group.append(variable)
        points += count
    if group:
        yield group
