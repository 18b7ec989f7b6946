"""A store over which lies what dead processes left, for as long as it is only read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import anyio

from neptune_async._engine.durability.abandoned_journals import see_journals
from neptune_async._engine.durability.overlay import Overlay, overlay_of
from neptune_async._engine.durability.spill_files import find_spills
from neptune_async._model.operations import Batch, Variable
from neptune_async._storage.base import (
    Changed,
    Damaged,
    Examinable,
    ExperimentRecord,
    ExperimentSummary,
    Latest,
    Need,
    Receipt,
    SeriesReading,
    Span,
    Storage,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.findings import Finding
from neptune_async._storage.grid import Grid
from neptune_async._storage.overviews import Overview
from neptune_async._storage.points import Points, Sink
from neptune_async._storage.sessions import FoundSession, Session
from neptune_async._storage.summaries import SeriesSummary

T = TypeVar('T')
V = TypeVar('V')


def overlaid(storage: Storage, is_own: Callable[[Path], bool]) -> OverlaidStorage:
    """Return a store that reads as if what dead processes left were taken in.

    :param is_own: tells whether a spill file belongs to this process, which stores it later.
    """
    kind = _ExaminableStorage if isinstance(storage, Examinable) else OverlaidStorage
    return kind(storage, is_own)


class OverlaidStorage:
    """A store, and what dead processes left beside it. To read both changes neither.

    It looks at each read whether anything was left, which is a look at a folder. If so, it keeps
    copies of the experiments that this is of, with it taken in, until the store or the files
    change. Series that it has nothing of are read from the store. Opening a store for writing takes
    the files in: all calls go to the store itself then.

    :ivar below: the store itself.
    """

    def __init__(self, storage: Storage, is_own: Callable[[Path], bool]) -> None:
        self.below = storage
        self._is_own = is_own
        self._is_writable = False
        self._overlay: Overlay | None = None
        self._dead: set[Path] = set()
        self._lock = anyio.Lock()

    @property
    def location(self) -> str:
        return self.below.location

    @property
    def spill_folder(self) -> Path | None:
        return self.below.spill_folder

    async def open(self, *, writable: bool) -> None:
        await self._drop()
        self._lock = anyio.Lock()  # the loop before this one may have died with it
        self._is_writable = writable
        await self.below.open(writable=writable)

    async def close(self) -> None:
        await self._drop()
        await self.below.close()

    async def _drop(self) -> None:
        overlay, self._overlay = self._overlay, None
        if overlay is not None:
            await overlay.scratch.close()

    # ── What lies over the store ─────────────────────────────────────────────

    def _left_behind(self) -> list[Path]:
        """Return what dead processes left, in the order in which it will be taken in."""
        folder = self.below.spill_folder
        if self._is_writable or folder is None:
            return []
        try:
            spills = [path for path in find_spills(folder) if not self._is_own(path)]
            journals = see_journals(folder, self._dead)
        except OSError:
            return []  # a user who may not list the folder can still read the store
        # What was shown once stays until another process has stored it.
        self._dead = {*journals}
        return spills + journals

    async def _current(self) -> Overlay | None:
        """Return what lies over the store now. The caller holds the lock."""
        while True:
            paths = self._left_behind()
            if self._overlay is not None and await self._holds(self._overlay, paths):
                return self._overlay
            await self._drop()
            if not paths:
                return None
            try:
                self._overlay = await overlay_of(self.below, paths)
            except FileNotFoundError:
                continue  # another process has taken it in
            return self._overlay

    async def _holds(self, overlay: Overlay, paths: list[Path]) -> bool:
        """Whether neither the store nor what lies over it has changed."""
        if overlay.paths != paths:
            return False
        return overlay.version == await self.below.version(overlay.based_on)

    async def _of_one(self, experiment_id: int, ask: Callable[[Storage], Awaitable[T]]) -> T:
        """Ask where an experiment is."""
        if self._overlay is not None or self._left_behind():
            async with self._lock:
                overlay = await self._current()
                if overlay is not None and experiment_id in overlay.ids:
                    return await ask(overlay.scratch)
        return await ask(self.below)

    async def _of_many(
        self,
        experiment_ids: Collection[int],
        ask: Callable[[Storage, Callable[[int], bool]], Awaitable[T]],
    ) -> list[T]:
        """Ask where each of several experiments is.

        :param ask: is called with a store, and with what tells which experiments to ask it for.
        """
        above: list[T] = []
        ids: set[int] = set()
        if self._overlay is not None or self._left_behind():
            async with self._lock:
                overlay = await self._current()
                if overlay is not None:
                    ids = overlay.ids.intersection(experiment_ids)
                    if ids:
                        above.append(await ask(overlay.scratch, ids.__contains__))
        if above and len(ids) == len(experiment_ids):
            return above
        return [await ask(self.below, lambda some: some not in ids), *above]

    # ── Experiments ──────────────────────────────────────────────────────────

    async def find_experiment(self, name: str) -> ExperimentRecord | None:
        if self._overlay is not None or self._left_behind():
            async with self._lock:
                overlay = await self._current()
                if overlay is not None and name in overlay.experiments:
                    return await overlay.scratch.find_experiment(name)
        return await self.below.find_experiment(name)

    async def list_experiments(self) -> list[str]:
        names = await self.below.list_experiments()
        return names + [name for name in await self._above() if name not in names]

    async def find_experiments(
        self, names: Collection[str] | None = None
    ) -> list[ExperimentSummary]:
        above = await self._above()
        found = await self.below.find_experiments(names)
        known = {experiment.name for experiment in found}
        new = [e for name, e in above.items() if names is None or name in names]
        return [above.get(e.name, e) for e in found] + [e for e in new if e.name not in known]

    async def _above(self) -> dict[str, ExperimentSummary]:
        if self._overlay is None and not self._left_behind():
            return {}
        async with self._lock:
            overlay = await self._current()
            return {} if overlay is None else overlay.experiments

    async def keep_file(
        self, sha256: str, size: int, source: bytes | Path, *, synced: bool = False
    ) -> None:
        await self.below.keep_file(sha256, size, source, synced=synced)

    async def read_file(self, sha256: str, start: int, count: int) -> bytes | None:
        if self._overlay is not None:
            async with self._lock:
                if self._overlay is not None:
                    content = await self._overlay.scratch.read_file(sha256, start, count)
                    if content is not None:
                        return content
        return await self.below.read_file(sha256, start, count)

    # ── What one experiment has ──────────────────────────────────────────────

    async def list_variables(self, experiment_id: int, namespace: str | None) -> list[Variable]:
        return await self._of_one(
            experiment_id, lambda storage: storage.list_variables(experiment_id, namespace)
        )

    async def find_variable(self, experiment_id: int, path: str) -> Variable | None:
        return await self._of_one(
            experiment_id, lambda storage: storage.find_variable(experiment_id, path)
        )

    async def largest_steps(self, experiment_id: int) -> dict[str, float]:
        return await self._of_one(
            experiment_id, lambda storage: storage.largest_steps(experiment_id)
        )

    async def read_atom(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, bytes | None] | None:
        return await self._of_one(
            experiment_id, lambda storage: storage.read_atom(experiment_id, path)
        )

    async def read_set(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, Sequence[bytes]] | None:
        return await self._of_one(
            experiment_id, lambda storage: storage.read_set(experiment_id, path)
        )

    async def read_series(
        self, experiment_id: int, path: str, window: Window, steps: bool, times: bool
    ) -> SeriesReading | None:
        return await self._of_one(
            experiment_id,
            lambda storage: storage.read_series(experiment_id, path, window, steps, times),
        )

    async def stream_series(self, experiment_id: int, path: str, sink: Sink) -> Variable | None:
        return await self._of_one(
            experiment_id, lambda storage: storage.stream_series(experiment_id, path, sink)
        )

    # ── What many experiments have ───────────────────────────────────────────

    async def count_variables(self, experiment_ids: Collection[int]) -> dict[int, int]:
        return _merged(
            await self._of_many(
                experiment_ids,
                lambda storage, has: storage.count_variables([*filter(has, experiment_ids)]),
            )
        )

    async def last_points(self, experiment_ids: Collection[int]) -> dict[int, float | Damaged]:
        return _merged(
            await self._of_many(
                experiment_ids,
                lambda storage, has: storage.last_points([*filter(has, experiment_ids)]),
            )
        )

    async def find_paths(self, experiment_ids: Collection[int]) -> list[str]:
        found = await self._of_many(
            experiment_ids, lambda storage, has: storage.find_paths([*filter(has, experiment_ids)])
        )
        return [*dict.fromkeys(path for paths in found for path in paths)]

    async def find_variables(
        self, experiment_ids: Collection[int], paths: Collection[str] | None = None
    ) -> dict[int, list[Variable]]:
        return _merged(
            await self._of_many(
                experiment_ids,
                lambda storage, has: storage.find_variables([*filter(has, experiment_ids)], paths),
            )
        )

    async def read_latest(self, variables: VariablesByExperiment) -> Latest:
        whole = Latest()
        for latest in await self._of_many(
            variables, lambda storage, has: storage.read_latest(_chosen(variables, has))
        ):
            whole.atoms.update(latest.atoms)
            whole.sets.update(latest.sets)
            whole.series.update(latest.series)
            whole.damaged.update(latest.damaged)
        return whole

    async def read_summaries(
        self, variables: VariablesByExperiment
    ) -> dict[int, SeriesSummary | Damaged]:
        return _merged(
            await self._of_many(
                variables, lambda storage, has: storage.read_summaries(_chosen(variables, has))
            )
        )

    async def read_overviews(
        self, variables: VariablesByExperiment, grid: Grid
    ) -> dict[int, Overview]:
        return _merged(
            await self._of_many(
                variables,
                lambda storage, has: storage.read_overviews(_chosen(variables, has), grid),
            )
        )

    async def read_samples(
        self, variables: VariablesByExperiment, span: Span, most: int, distinct: bool
    ) -> dict[int, Points]:
        return _merged(
            await self._of_many(
                variables,
                lambda storage, has: storage.read_samples(
                    _chosen(variables, has), span, most, distinct
                ),
            )
        )

    async def read_many_series(
        self, variables: VariablesByExperiment, window: Window, steps: bool, times: bool
    ) -> dict[int, SeriesReading]:
        return _merged(
            await self._of_many(
                variables,
                lambda storage, has: storage.read_many_series(
                    _chosen(variables, has), window, steps, times
                ),
            )
        )

    # ── What concerns the store itself ───────────────────────────────────────

    async def create_experiment(
        self, name: str | None, created: float | None = None
    ) -> ExperimentRecord | None:
        return await self.below.create_experiment(name, created)

    async def delete_experiment(self, name: str) -> bool:
        return await self.below.delete_experiment(name)

    async def rename_experiment(self, experiment_id: int, name: str) -> bool:
        return await self.below.rename_experiment(experiment_id, name)

    async def fork_experiment(
        self,
        experiment_id: int,
        name: str,
        step: float | None,
        draw_id: Callable[[], int],
        mark: bytes,
    ) -> ExperimentRecord | None:
        return await self.below.fork_experiment(experiment_id, name, step, draw_id, mark)

    async def write(self, batch: Batch, *, careful: bool = False, synced: bool = False) -> Receipt:
        return await self.below.write(batch, careful=careful, synced=synced)

    async def sync(self) -> None:
        await self.below.sync()

    async def last_batch(self, writer: bytes) -> int:
        return await self.below.last_batch(writer)

    async def version(self, experiment_ids: Collection[int]) -> Hashable:
        return await self.below.version(experiment_ids)

    def watch(self, experiment_id: int) -> AbstractAsyncContextManager[Changed]:
        return self.below.watch(experiment_id)

    async def compact(
        self, need: Need = 'due', is_urged: Callable[[], bool] = lambda: False
    ) -> bool:
        return await self.below.compact(need, is_urged)

    async def keep_sessions(self, sessions: Collection[Session]) -> None:
        await self.below.keep_sessions(sessions)

    async def end_sessions(self, sessions: Collection[Session]) -> None:
        await self.below.end_sessions(sessions)

    async def find_sessions(self, experiment_ids: Collection[int]) -> list[FoundSession]:
        return await self.below.find_sessions(experiment_ids)


class _ExaminableStorage(OverlaidStorage):
    async def examine(self) -> list[Finding]:
        assert isinstance(self.below, Examinable)
        return await self.below.examine()


def _chosen(variables: VariablesByExperiment, has: Callable[[int], bool]) -> VariablesByExperiment:
    return {experiment_id: some for experiment_id, some in variables.items() if has(experiment_id)}


def _merged(parts: Sequence[dict[int, V]]) -> dict[int, V]:
    whole: dict[int, V] = {}
    for part in parts:
        whole |= part
    return whole
