"""``PostgresStorage``: the protocol of a store, on one asyncpg connection."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg

from neptune_async._model.operations import Batch, Variable
from neptune_async._storage.base import (
    Changed,
    Damaged,
    ExperimentRecord,
    ExperimentSummary,
    Latest,
    Need,
    Receipt,
    SeriesReading,
    Span,
    StaleEpoch,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.cleaning import Unused
from neptune_async._storage.findings import Finding
from neptune_async._storage.grid import Grid
from neptune_async._storage.overviews import Overview
from neptune_async._storage.points import Points, Sink
from neptune_async._storage.postgres import (
    bulk,
    cleaning,
    experiments,
    files,
    health,
    overviews,
    reading,
)
from neptune_async._storage.postgres import sessions as rows_of_sessions
from neptune_async._storage.postgres.batches import Batches, last_batch
from neptune_async._storage.postgres.connection import Server
from neptune_async._storage.postgres.faults import BatchIsStored
from neptune_async._storage.postgres.opening import Opened, prepare
from neptune_async._storage.postgres.samples import read_samples
from neptune_async._storage.postgres.summarising import ROW_POINTS
from neptune_async._storage.postgres.url import parsed
from neptune_async._storage.postgres.watching import Watches
from neptune_async._storage.samples import Sampling
from neptune_async._storage.sessions import FoundSession, Session
from neptune_async._storage.summaries import SeriesSummary
from neptune_async.exceptions import StorageError

_ROWS: dict[Need, int] = {'overdue': 256, 'due': 64, 'everything': 1}
"""Rows that a series has got before those at its end are merged."""
_ENOUGH_POINTS = 512
"""Points of a row that is merged again only when the experiment is closed."""
_POINTS: dict[Need, int] = {'overdue': 2**20, 'due': 2**16, 'everything': ROW_POINTS}
"""Points of an experiment since its rows were summarised, at which they are again."""
_SERIES = 256
"""Series that are merged in one statement, which others that log to them wait for."""


class PostgresStorage:
    """Experiments in a schema of a PostgreSQL database."""

    def __init__(self, url: str) -> None:
        self._address = parsed(url)
        self._is_writable = self._may_make = False
        self._opened = Opened(is_asynchronous=False)
        self._batches = Batches()
        self._watches = Watches()
        self._server: Server | None = None

    @property
    def location(self) -> str:
        return self._address.location

    @property
    def spill_folder(self) -> Path | None:
        return self._address.spill_folder

    async def open(self, *, writable: bool) -> None:
        await self.close()
        self._is_writable = self._may_make = writable
        self._server = Server(self._address, self._prepare)
        try:
            await self._server.run(_nothing)
        finally:
            # Should the tables vanish later, that is a fault, and no reason to begin anew.
            self._may_make = False

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        self._opened = await prepare(
            connection, self._address, writable=self._is_writable, may_make=self._may_make
        )

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    @property
    def _open_server(self) -> Server:
        if self._server is None:
            raise StorageError(f'the store {self.location} is not open')
        return self._server

    async def create_experiment(
        self, name: str | None, created: float | None = None
    ) -> ExperimentRecord | None:
        return await self._open_server.run(experiments.create, name, created)

    async def find_experiment(self, name: str) -> ExperimentRecord | None:
        return await self._open_server.run(experiments.find, name)

    async def list_experiments(self) -> list[str]:
        return await self._open_server.run(experiments.names)

    async def delete_experiment(self, name: str) -> bool:
        return await self._open_server.run(experiments.delete, name)

    async def rename_experiment(self, experiment_id: int, name: str) -> bool:
        return await self._open_server.run(experiments.rename, experiment_id, name)

    async def fork_experiment(
        self,
        experiment_id: int,
        name: str,
        step: float | None,
        draw_id: Callable[[], int],
        mark: bytes,
    ) -> ExperimentRecord | None:
        return await self._open_server.run(
            experiments.fork, experiment_id, name, step, draw_id, mark
        )

    async def list_variables(self, experiment_id: int, namespace: str | None) -> list[Variable]:
        return await self._open_server.run(reading.list_variables, experiment_id, namespace)

    async def find_variable(self, experiment_id: int, path: str) -> Variable | None:
        return await self._open_server.run(reading.find_variable, experiment_id, path)

    async def write(self, batch: Batch, *, careful: bool = False, synced: bool = False) -> Receipt:
        forced = synced and self._opened.is_asynchronous
        while True:
            try:
                return await self._open_server.run(self._batches.write, batch, careful, forced)
            except BatchIsStored:
                return Receipt()
            except StaleEpoch as stale:
                if any(
                    part.epoch is not None and part.experiment_id == stale.experiment_id
                    for part in batch.parts
                ):
                    raise
                # Its experiment changed between the look at it and the statement.

    async def sync(self) -> None:
        if self._opened.is_asynchronous:
            await self._open_server.run(_sync)

    async def last_batch(self, writer: bytes) -> int:
        return await self._open_server.run(last_batch, writer)

    async def version(self, experiment_ids: Collection[int]) -> Hashable:
        return await self._open_server.run(experiments.version, experiment_ids)

    def watch(self, experiment_id: int) -> AbstractAsyncContextManager[Changed]:
        return self._watches.watch(self._open_server, experiment_id)

    async def compact(
        self, need: Need = 'due', is_urged: Callable[[], bool] = lambda: False
    ) -> bool:
        scattered = self._batches.scattered(_ROWS[need], _SERIES)
        unsummarised = self._batches.unsummarised(_POINTS[need])
        if scattered is None and unsummarised is None:
            return False
        if is_urged():
            return True
        if scattered is not None:
            enough = CHUNK_POINTS // 2 if need == 'everything' else _ENOUGH_POINTS
            await self._open_server.run(self._batches.merge, *scattered, enough)
        elif unsummarised is not None:
            await self._open_server.run(self._batches.summarise, unsummarised)
        return True

    async def largest_steps(self, experiment_id: int) -> dict[str, float]:
        return await self._open_server.run(reading.largest_steps, experiment_id)

    async def read_atom(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, bytes | None] | None:
        return await self._open_server.run(reading.read_atom, experiment_id, path)

    async def read_set(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, Sequence[bytes]] | None:
        return await self._open_server.run(reading.read_set, experiment_id, path)

    async def read_series(
        self, experiment_id: int, path: str, window: Window, steps: bool, times: bool
    ) -> SeriesReading | None:
        return await self._open_server.run(
            reading.read_series, experiment_id, path, window, steps, times
        )

    async def stream_series(self, experiment_id: int, path: str, sink: Sink) -> Variable | None:
        return await self._open_server.run(reading.stream_series, experiment_id, path, sink)

    # ── Files ────────────────────────────────────────────────────────────────

    async def keep_file(
        self,
        sha256: str,
        size: int,
        source: bytes | Path,
        *,
        synced: bool = False,  # noqa: ARG002  # the commit that refers to it comes after it
    ) -> None:
        await self._open_server.run(files.keep, sha256, size, source)

    async def read_file(self, sha256: str, start: int, count: int) -> bytes | None:
        return await self._open_server.run(files.read, sha256, start, count)

    async def find_unused(self, spared: Collection[str]) -> Unused:
        return await self._open_server.run(cleaning.find_unused, self.location, spared)

    async def remove_unused(self, unused: Unused, spared: Collection[str]) -> None:
        await self._open_server.run(cleaning.remove_unused, self.location, unused, spared)

    # ── Sessions ─────────────────────────────────────────────────────────────

    async def keep_sessions(self, sessions: Collection[Session]) -> None:
        await self._open_server.run(rows_of_sessions.keep, sessions)

    async def end_sessions(self, sessions: Collection[Session]) -> None:
        await self._open_server.run(rows_of_sessions.end, sessions)

    async def find_sessions(self, experiment_ids: Collection[int]) -> list[FoundSession]:
        return await self._open_server.run(rows_of_sessions.find, experiment_ids)

    # ── Many at a time ───────────────────────────────────────────────────────

    async def find_experiments(
        self, names: Collection[str] | None = None
    ) -> list[ExperimentSummary]:
        return await self._open_server.run(bulk.find_experiments, names)

    async def count_variables(self, experiment_ids: Collection[int]) -> dict[int, int]:
        return await self._open_server.run(bulk.count_variables, experiment_ids)

    async def last_points(self, experiment_ids: Collection[int]) -> dict[int, float | Damaged]:
        return await self._open_server.run(bulk.last_points, experiment_ids)

    async def find_paths(self, experiment_ids: Collection[int]) -> list[str]:
        return await self._open_server.run(bulk.find_paths, experiment_ids)

    async def find_variables(
        self, experiment_ids: Collection[int], paths: Collection[str] | None = None
    ) -> dict[int, list[Variable]]:
        return await self._open_server.run(bulk.find_variables, experiment_ids, paths)

    async def read_latest(self, variables: VariablesByExperiment) -> Latest:
        return await self._open_server.run(bulk.read_latest, variables)

    async def read_many_series(
        self, variables: VariablesByExperiment, window: Window, steps: bool, times: bool
    ) -> dict[int, SeriesReading]:
        return await self._open_server.run(bulk.read_many_series, variables, window, steps, times)

    async def read_summaries(
        self, variables: VariablesByExperiment
    ) -> dict[int, SeriesSummary | Damaged]:
        return await self._open_server.run(overviews.read_summaries, variables)

    async def read_overviews(
        self, variables: VariablesByExperiment, grid: Grid
    ) -> dict[int, Overview]:
        return await self._open_server.run(overviews.read_overviews, variables, grid)

    async def read_samples(
        self, variables: VariablesByExperiment, span: Span, most: int, distinct: bool
    ) -> dict[int, Points]:
        sampling = Sampling(span, most, distinct)
        return await self._open_server.run(read_samples, variables, sampling)

    async def examine(self) -> list[Finding]:
        return await self._open_server.run(health.examine, self._address)


async def _nothing(connection: asyncpg.Connection) -> None:
    """To connect is all."""


async def _sync(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute('SET LOCAL synchronous_commit = on')
        # A commit that has written something is forced to disk, and with it all before it.
        await connection.execute('SELECT pg_current_xact_id()')
