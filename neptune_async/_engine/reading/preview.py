"""What a glance at an experiment shows: its first variables, with what they hold."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.reading.latest import value_of
from neptune_async._engine.worker.worker import Worker
from neptune_async._model.operations import Variable
from neptune_async._model.sampling import sampled
from neptune_async._storage.base import Damaged, SeriesReading, Window
from neptune_async.exceptions import StorageFormatError

MOST_VARIABLES = 50
_LAST_POINTS = 2**14
"""Points of a series to look at: a long one is not read from its beginning."""
_DRAWN_POINTS = 100


@dataclass(frozen=True, slots=True)
class Shown:
    """A variable, and what it holds.

    :ivar value: of a series, the last value.
    :ivar is_damaged: whether the value cannot be read.
    :ivar count: how many points a series has.
    :ivar curve: values of a float series that look like all of them, or like its last ones.
    """

    variable: Variable
    value: Any
    count: int | None
    curve: array[float] | None
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """The first variables of an experiment by path.

    :ivar hidden: how many there are beside them.
    """

    shown: list[Shown]
    hidden: int


async def preview(worker: Worker, state: ExperimentState, path: str | None) -> Preview:
    """Return the first variables at a path and below it; None is the root."""
    await worker.flush(state)
    variables = await worker.query(state, worker.storage.list_variables, state.id, path)
    if not variables and path is not None:
        variable = await worker.query(state, worker.storage.find_variable, state.id, path)
        variables = [] if variable is None else [variable]
    shown = {state.id: variables[:MOST_VARIABLES]}
    latest = await worker.query(state, worker.storage.read_latest, shown)
    readings = await worker.query(
        state, worker.storage.read_many_series, shown, Window(last=_LAST_POINTS), False, False
    )
    found = []
    for variable in shown[state.id]:
        reading = readings.get(variable.id)
        count, curve = None if reading is None else reading.end, _curve(reading)
        try:
            value = value_of(worker, state.name, variable, latest)
        except StorageFormatError:
            found.append(Shown(variable, None, count, curve, is_damaged=True))
        else:
            found.append(Shown(variable, value, count, curve))
    return Preview(found, len(variables) - len(found))


def _curve(reading: SeriesReading | None) -> array[float] | None:
    if reading is None or reading.variable.content != 'float':
        return None
    values = array('d')
    for run in reading.runs:
        # What is damaged is a gap.
        values.extend([math.nan] if isinstance(run, Damaged) else run.values)
    return array('d', map(values.__getitem__, sampled(values, _DRAWN_POINTS)))
