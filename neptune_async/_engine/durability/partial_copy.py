"""A copy of experiments that leaves large series where they are."""

from __future__ import annotations

import math
from collections.abc import Collection

from neptune_async._model.operations import Variable
from neptune_async._storage.base import (
    Damaged,
    LastPoint,
    Latest,
    SeriesReading,
    Span,
    Storage,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.grid import Grid
from neptune_async._storage.overviews import Overview
from neptune_async._storage.points import Points, Sink
from neptune_async._storage.sqlite.scratch import ScratchStorage
from neptune_async._storage.summaries import SeriesSummary


class PartialCopy(ScratchStorage):
    """A copy of experiments in memory. Some of their series it has no chunks of, and reads them
    from the store.

    :param below: the store, which has the experiments under the same ids.
    :param left_there: these series, by the experiment's id.
    """

    def __init__(self, below: Storage, left_there: VariablesByExperiment) -> None:
        super().__init__()
        self._below = below
        self._left_there = left_there
        self._places = {
            (experiment_id, variable.path)
            for experiment_id, some in left_there.items()
            for variable in some
        }

    @property
    def ids_left_there(self) -> set[int]:
        """The ids of the series that stay in the store."""
        return {variable.id for some in self._left_there.values() for variable in some}

    def _split(
        self, variables: VariablesByExperiment
    ) -> tuple[VariablesByExperiment, VariablesByExperiment]:
        """Return the variables that are here, and those that are in the store."""
        here: dict[int, list[Variable]] = {}
        there: dict[int, list[Variable]] = {}
        for experiment_id, some in variables.items():
            for variable in some:
                is_there = (experiment_id, variable.path) in self._places
                (there if is_there else here).setdefault(experiment_id, []).append(variable)
        return here, there

    # ── One series ───────────────────────────────────────────────────────────

    async def read_series(
        self, experiment_id: int, path: str, window: Window, steps: bool, times: bool
    ) -> SeriesReading | None:
        read = super().read_series
        if (experiment_id, path) in self._places:
            read = self._below.read_series
        return await read(experiment_id, path, window, steps, times)

    async def stream_series(self, experiment_id: int, path: str, sink: Sink) -> Variable | None:
        stream = super().stream_series
        if (experiment_id, path) in self._places:
            stream = self._below.stream_series
        return await stream(experiment_id, path, sink)

    # ── Many series ──────────────────────────────────────────────────────────

    async def read_latest(self, variables: VariablesByExperiment) -> Latest:
        here, there = self._split(variables)
        latest = await super().read_latest(here)
        if there:
            latest.series.update((await self._below.read_latest(there)).series)
        return latest

    async def read_many_series(
        self, variables: VariablesByExperiment, window: Window, steps: bool, times: bool
    ) -> dict[int, SeriesReading]:
        here, there = self._split(variables)
        found = await super().read_many_series(here, window, steps, times)
        if there:
            found |= await self._below.read_many_series(there, window, steps, times)
        return found

    async def read_summaries(
        self, variables: VariablesByExperiment
    ) -> dict[int, SeriesSummary | Damaged]:
        here, there = self._split(variables)
        found = await super().read_summaries(here)
        if there:
            found |= await self._below.read_summaries(there)
        return found

    async def read_overviews(
        self, variables: VariablesByExperiment, grid: Grid
    ) -> dict[int, Overview]:
        here, there = self._split(variables)
        found = await super().read_overviews(here, grid)
        if there:
            found |= await self._below.read_overviews(there, grid)
        return found

    async def read_samples(
        self, variables: VariablesByExperiment, span: Span, most: int, distinct: bool
    ) -> dict[int, Points]:
        here, there = self._split(variables)
        found = await super().read_samples(here, span, most, distinct)
        if there:
            found |= await self._below.read_samples(there, span, most, distinct)
        return found

    # ── What all series of an experiment say ─────────────────────────────────

    async def last_points(self, experiment_ids: Collection[int]) -> dict[int, float | Damaged]:
        found = await super().last_points(experiment_ids)
        there = {
            each: self._left_there[each] for each in experiment_ids if each in self._left_there
        }
        latest = await self._below.read_latest(there)
        for experiment_id, some in there.items():
            time = found.get(experiment_id, -math.inf)
            if isinstance(time, Damaged):
                continue
            points = [latest.series.get(variable.id) for variable in some]
            times = [point.timestamp for point in points if isinstance(point, LastPoint)]
            if times:
                found[experiment_id] = max(time, *times)
        return found

    async def largest_steps(self, experiment_id: int) -> dict[str, float]:
        found = await super().largest_steps(experiment_id)
        there = {variable.path for variable in self._left_there.get(experiment_id, ())}
        if there:
            below = await self._below.largest_steps(experiment_id)
            # By path, as each of the two is.
            found = {
                path: (below if path in there else found)[path]
                for path in sorted((found.keys() - there) | (below.keys() & there))
            }
        return found
