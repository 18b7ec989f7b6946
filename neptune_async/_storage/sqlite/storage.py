"""``SQLiteStorage``: the storage protocol, on one aiosqlite connection."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import aiosqlite
import anyio

from neptune_async._messenger import keep_quiet, own
from neptune_async._model.operations import POINT_FIELDS, Batch, Variable
from neptune_async._storage.base import (
    Changed,
    Damaged,
    ExperimentRecord,
    ExperimentSummary,
    Latest,
    Need,
    Receipt,
    Rows,
    SeriesReading,
    Span,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.cleaning import Unused
from neptune_async._storage.findings import Finding
from neptune_async._storage.forking import FORK_GUARD
from neptune_async._storage.grid import Grid
from neptune_async._storage.overviews import Overview
from neptune_async._storage.points import Points, Sink
from neptune_async._storage.samples import Sampling
from neptune_async._storage.sessions import FoundSession, Session
from neptune_async._storage.sqlite import bulk, cleaning, files, health, overviews, reading, series
from neptune_async._storage.sqlite import sessions as rows_of_sessions
from neptune_async._storage.sqlite.checkpoint import Checkpoints
from neptune_async._storage.sqlite.compaction import compact_log, count_series, give_back_pages
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.copying import fork_experiment
from neptune_async._storage.sqlite.errors import read_only_error, spill_folder_of, translated
from neptune_async._storage.sqlite.experiments import (
    create_experiment,
    delete_experiment,
    list_experiments,
    rename_experiment,
)
from neptune_async._storage.sqlite.opening import (
    APPLICATION_ID,
    MAGIC,
    MEMORY,
    connect,
    connected,
    prepare,
)
from neptune_async._storage.sqlite.rows import copied_rows
from neptune_async._storage.sqlite.samples import read_samples
from neptune_async._storage.sqlite.sql import find_experiment, find_variable, transaction
from neptune_async._storage.sqlite.writing import last_batch, write_batch
from neptune_async._storage.summaries import SeriesSummary
from neptune_async.exceptions import StorageBusyError, StorageError, StorageFormatError

keep_quiet('aiosqlite')

_POLLING = 0.1
"""Seconds between two looks at what other processes have committed."""

_LOG_POINTS = 2**15
"""Points that the log of an experiment may have before they become chunks. One transaction takes
as many.
"""
_OVERDUE = 20
"""With so many times ``_LOG_POINTS`` (20 MiB), points become chunks at once. With fewer, this waits
until the program logs nothing.
"""
_OVERDUE_TO_READ = 4
"""The same for an experiment whose series are read: each read has to search the log."""
_CHECKPOINT_OVERDUE = 8
"""The same for the size of the -wal file: 32 MiB, too."""
_POINTS_A_SERIES = 32
"""Points that the series of an experiment have in the log on average before chunk rows are worth
it.
"""
_MOST_A_SERIES, _MOST_POINTS = 2**8, 2**18
"""How many points to take at a time, if there are so many: for each series on average, and in all.
With many series the chunks would else be small, and be merged again and again.
"""

P = ParamSpec('P')
T = TypeVar('T')


class SQLiteStorage:
    """Experiments in one SQLite file, or in memory with ``:memory:``.

    Each method runs one function on the connection's thread. To await this costs two switches of
    threads, and each takes up to 5 ms while another thread computes.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._checkpoints: Checkpoints | None = None
        self._connection: aiosqlite.Connection | None = None
        self._is_synced = self._is_writable = False
        self._logged: dict[int, int] = {}
        self._series: dict[int, int] = {}
        self._read: set[int] = set()

    @property
    def location(self) -> str:
        return self._path

    @property
    def spill_folder(self) -> Path | None:
        return None if self._path == MEMORY else spill_folder_of(self._path)

    async def open(self, *, writable: bool) -> None:
        await self.close()
        if self._path == MEMORY:
            writable = True
        else:
            self._refuse_foreign()
            if writable:
                self._make_folder()
                self._refuse_read_only()
        self._is_writable = writable
        self._connection = aiosqlite.Connection(partial(connected, self._path, writable), 64)
        own(self._connection._thread)
        try:
            # A cancel in between would leave the connection open, and its thread running.
            with anyio.CancelScope(shield=True):
                await self._call(connect(self._connection))
            file = await self._run(prepare, self._path, writable)
            self._is_synced = False
            self._checkpoints = Checkpoints(file) if file and writable else None
        except RuntimeError as error:
            # The interpreter is ending, and starts no more threads.
            self._connection = None
            raise StorageError(f'cannot open the store {self._path}: {error}') from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                await self._call(connection.close())

    async def create_experiment(
        self, name: str | None, created: float | None = None
    ) -> ExperimentRecord | None:
        return await self._run(create_experiment, name, created)

    async def find_experiment(self, name: str) -> ExperimentRecord | None:
        return await self._run(find_experiment, name)

    async def list_experiments(self) -> list[str]:
        return await self._run(list_experiments)

    async def delete_experiment(self, name: str) -> bool:
        return await self._run(delete_experiment, name)

    async def rename_experiment(self, experiment_id: int, name: str) -> bool:
        return await self._run(rename_experiment, experiment_id, name)

    async def fork_experiment(
        self,
        experiment_id: int,
        name: str,
        step: float | None,
        draw_id: Callable[[], int],
        mark: bytes,
    ) -> ExperimentRecord | None:
        return await self._run(fork_experiment, experiment_id, name, step, draw_id, mark)

    async def list_variables(self, experiment_id: int, namespace: str | None) -> list[Variable]:
        return await self._run(reading.list_variables, experiment_id, namespace)

    async def find_variable(self, experiment_id: int, path: str) -> Variable | None:
        return await self._run(find_variable, experiment_id, path)

    async def write(self, batch: Batch, *, careful: bool = False, synced: bool = False) -> Receipt:
        receipt = await self._run(self._write, batch, careful, synced)
        for part in batch.parts:
            points = len(part.points) // POINT_FIELDS + len(part.texts)
            experiment = receipt.experiments.get(part.experiment_id)
            if points and experiment:
                self._logged[experiment.id] = self._logged.get(experiment.id, 0) + points
        return receipt

    def _write(
        self, connection: StoreConnection, batch: Batch, careful: bool, synced: bool
    ) -> Receipt:
        self._set_synced(connection, synced)
        return write_batch(connection, batch, careful)

    async def sync(self) -> None:
        await self._run(self._sync)

    def _sync(self, connection: StoreConnection) -> None:
        self._set_synced(connection, True)
        with transaction(connection):
            # A commit is forced to disk only if it writes a page. To set this id again writes one.
            # An UPDATE that changes nothing does not.
            connection.execute(f'PRAGMA application_id = {APPLICATION_ID}')

    def _set_synced(self, connection: StoreConnection, synced: bool) -> None:
        """Force each commit from now on to disk, or only checkpoints.

        :param synced: True for each commit.
        """
        if connection.file and connection.file.network:
            return  # with a rollback journal each commit is forced to disk: the file needs that
        if synced != self._is_synced:
            connection.execute(f'PRAGMA synchronous = {"FULL" if synced else "NORMAL"}')
            # On macOS, fsync alone leaves the data in the cache of the disk.
            connection.execute(f'PRAGMA fullfsync = {"ON" if synced else "OFF"}')
            self._is_synced = synced

    async def last_batch(self, writer: bytes) -> int:
        return await self._run(last_batch, writer)

    async def version(self, experiment_ids: Collection[int]) -> Hashable:  # noqa: ARG002
        return await self._run(_version)

    async def copied_rows(
        self, names: Collection[str], writers: Collection[bytes], without: Collection[int] = ()
    ) -> Rows:
        return await self._run(copied_rows, names, writers, without)

    @asynccontextmanager
    async def watch(self, experiment_id: int) -> AsyncIterator[Changed]:  # noqa: ARG002
        yield partial(anyio.sleep, _POLLING)  # SQLite does not tell when another process commits

    async def compact(
        self, need: Need = 'due', is_urged: Callable[[], bool] = lambda: False
    ) -> bool:
        is_left = False
        for experiment_id, points in [*self._logged.items()]:
            if is_urged():
                return True
            if await self._is_worth_compacting(experiment_id, points, need):
                is_left |= await self._compact_log(experiment_id, is_urged)
        if need == 'everything' and not is_left:
            await self._run(give_back_pages)
        times = _CHECKPOINT_OVERDUE if need == 'overdue' else 1
        if self._checkpoints and self._checkpoints.is_due(times):
            await self._run(self._checkpoints.make)
        return is_left

    async def _is_worth_compacting(self, experiment_id: int, points: int, need: Need) -> bool:
        """Whether the log is long, and its series have enough points to fill chunks."""
        if need == 'everything':
            return True
        if points < self._threshold(experiment_id, need):
            return False
        self._series[experiment_id] = await self._run(count_series, experiment_id)
        return points >= self._threshold(experiment_id, need)

    def _threshold(self, experiment_id: int, need: Need) -> int:
        """Return how many points of an experiment may stay in the log."""
        due = max(_LOG_POINTS, _POINTS_A_SERIES * self._series.get(experiment_id, 0))
        if need == 'due':
            return due
        is_read = experiment_id in self._read
        return max(due, (_OVERDUE_TO_READ if is_read else _OVERDUE) * _LOG_POINTS)

    async def _compact_log(self, experiment_id: int, is_urged: Callable[[], bool]) -> bool:
        """Turn the oldest points of a log into chunks. Return whether there may be more."""
        many = min(_MOST_A_SERIES * self._series.get(experiment_id, 0), _MOST_POINTS)
        most = max(self._threshold(experiment_id, 'due'), many)
        try:
            taken = await self._run(compact_log, experiment_id, most, is_urged)
        except StorageBusyError:
            raise
        except StorageError:
            # Do not try again before as many new points have come. Else other experiments, and the
            # checkpoint, would never have their turn.
            self._logged.pop(experiment_id, None)
            raise
        if taken is None:
            return True
        if taken < most:
            self._logged.pop(experiment_id, None)
            self._read.discard(experiment_id)
            return False
        # Keep the entry, even at 0: other processes may have logged points that are not counted.
        self._logged[experiment_id] = max(0, self._logged.get(experiment_id, 0) - taken)
        return True

    async def largest_steps(self, experiment_id: int) -> dict[str, float]:
        return await self._run(series.largest_steps, experiment_id)

    async def read_atom(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, bytes | None] | None:
        return await self._run(reading.read_atom, experiment_id, path)

    async def read_set(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, Sequence[bytes]] | None:
        return await self._run(reading.read_set, experiment_id, path)

    async def read_series(
        self, experiment_id: int, path: str, window: Window, steps: bool, times: bool
    ) -> SeriesReading | None:
        self._read.add(experiment_id)
        return await self._run(series.read_series, experiment_id, path, window, steps, times)

    async def stream_series(self, experiment_id: int, path: str, sink: Sink) -> Variable | None:
        self._read.add(experiment_id)
        return await self._run(series.stream_series, experiment_id, path, sink)

    # ── Files ────────────────────────────────────────────────────────────────

    async def keep_file(
        self, sha256: str, size: int, source: bytes | Path, *, synced: bool = False
    ) -> None:
        await self._run(files.keep_file, self._files, sha256, size, source, synced)

    async def read_file(self, sha256: str, start: int, count: int) -> bytes | None:
        return await self._run(files.read_file, self._files, sha256, start, count)

    async def find_unused(self, spared: Collection[str]) -> Unused:
        return await self._run(cleaning.find_unused, self._path, self._files, spared)

    async def remove_unused(self, unused: Unused, spared: Collection[str]) -> None:
        await self._run(cleaning.remove_unused, self._path, self._files, unused, spared)

    @property
    def _files(self) -> Path | None:
        return None if self._path == MEMORY else files.folder_of(self._path)

    # ── Sessions ─────────────────────────────────────────────────────────────

    async def keep_sessions(self, sessions: Collection[Session]) -> None:
        await self._run(rows_of_sessions.keep_sessions, sessions)

    async def end_sessions(self, sessions: Collection[Session]) -> None:
        await self._run(rows_of_sessions.end_sessions, sessions)

    async def find_sessions(self, experiment_ids: Collection[int]) -> list[FoundSession]:
        return await self._run(rows_of_sessions.find_sessions, experiment_ids)

    # ── Many at a time ───────────────────────────────────────────────────────

    async def find_experiments(
        self, names: Collection[str] | None = None
    ) -> list[ExperimentSummary]:
        return await self._run(bulk.find_experiments, names)

    async def count_variables(self, experiment_ids: Collection[int]) -> dict[int, int]:
        return await self._run(bulk.count_variables, experiment_ids)

    async def last_points(self, experiment_ids: Collection[int]) -> dict[int, float | Damaged]:
        return await self._run(bulk.last_points, experiment_ids)

    async def find_paths(self, experiment_ids: Collection[int]) -> list[str]:
        return await self._run(bulk.find_paths, experiment_ids)

    async def find_variables(
        self, experiment_ids: Collection[int], paths: Collection[str] | None = None
    ) -> dict[int, list[Variable]]:
        return await self._run(bulk.find_variables, experiment_ids, paths)

    async def read_latest(self, variables: VariablesByExperiment) -> Latest:
        return await self._run(bulk.read_latest, variables)

    async def read_many_series(
        self, variables: VariablesByExperiment, window: Window, steps: bool, times: bool
    ) -> dict[int, SeriesReading]:
        return await self._run(bulk.read_many_series, variables, window, steps, times)

    async def read_summaries(
        self, variables: VariablesByExperiment
    ) -> dict[int, SeriesSummary | Damaged]:
        return await self._run(overviews.read_summaries, variables)

    async def read_overviews(
        self, variables: VariablesByExperiment, grid: Grid
    ) -> dict[int, Overview]:
        return await self._run(overviews.read_overviews, variables, grid)

    async def read_samples(
        self, variables: VariablesByExperiment, span: Span, most: int, distinct: bool
    ) -> dict[int, Points]:
        return await self._run(read_samples, variables, Sampling(span, most, distinct))

    async def examine(self) -> list[Finding]:
        return await self._run(lambda c: [*health.examine(c, self._files)])

    # ── The connection ───────────────────────────────────────────────────────

    def _refuse_foreign(self) -> None:
        """Refuse a file that SQLite would take for an empty database, and overwrite."""
        path = Path(self._path).resolve()
        if FORK_GUARD.is_lost(path):
            raise StorageError(
                f'the store {self._path} cannot be opened in this process: one that it was forked '
                'from had it open, and what SQLite believes to hold of it since could not be taken '
                'over; what is logged is kept in a spill file'
            )
        if FORK_GUARD.is_used(path):
            return
        try:
            with path.open('rb') as file:
                begins = file.read(len(MAGIC))
        except OSError:
            return  # there is no file yet, or SQLite will say what is wrong with it
        if begins not in (b'', MAGIC):
            raise StorageFormatError(
                f'{self._path} is no SQLite file; nothing was changed; name another file'
            )

    def _make_folder(self) -> None:
        try:
            Path(self._path).absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f'cannot open the store {self._path}: {error}') from error

    def _refuse_read_only(self) -> None:
        """Refuse a read-only file. SQLite would open it to read, and fail at the first write."""
        if os.path.exists(self._path) and not os.access(self._path, os.W_OK):
            raise read_only_error(self._path, 'it is read-only')

    async def _run(
        self,
        function: Callable[Concatenate[StoreConnection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function on the connection's thread. Its first argument is the sqlite3 connection.

        aiosqlite has no public call for this. All methods of aiosqlite use ``_execute``, and
        tests/storage/test_sqlite.py fails if it changes.
        """
        connection = self._connection
        if connection is None:
            raise StorageError(f'the store {self._path} is not open')

        def attempt() -> T:
            opened = connection._conn
            assert isinstance(opened, StoreConnection)
            if opened.snapshot is not None and not opened.snapshot.holds():
                opened = self._reopened(connection)
            with FORK_GUARD:
                if opened.file is not None:
                    opened.file.require_unmoved()
                with opened.snapshot.held() if opened.snapshot else nullcontext():
                    return function(opened, *args, **kwargs)

        answer: Awaitable[T] = connection._execute(attempt)  # type: ignore[no-untyped-call]
        return await self._call(answer)

    def _reopened(self, connection: aiosqlite.Connection) -> StoreConnection:
        """Open the file again for a connection that only reads, because the file has changed.

        This runs on the connection's thread, so nobody else uses the connection at the same time.
        All methods of aiosqlite get the connection from ``_connection``.
        """
        opened = connected(self._path, writable=False)
        try:
            with FORK_GUARD, opened.snapshot.held() if opened.snapshot else nullcontext():
                prepare(opened, self._path, writable=False)
        except BaseException:
            opened.close()
            raise
        connection._conn.close()
        connection._connection = opened
        return opened

    async def _call(self, awaitable: Awaitable[T]) -> T:
        try:
            return await awaitable
        except MemoryError as error:
            # The batch is not at fault, so the worker tries it again.
            raise StorageError(f'there is no memory to go on with {self._path}') from error
        except UnicodeDecodeError as error:
            raise StorageFormatError(
                f'{self._path} is damaged: {error}; nothing was changed; restore it from a copy'
            ) from error
        except sqlite3.Error as error:
            ours = translated(error, self._path, self._is_writable)
            if ours is None:
                raise
            raise ours from error


def _version(connection: StoreConnection) -> Hashable:
    # The number tells of the commits of others, of the file that this connection leads to. One
    # that is only read, with nothing beside it, is another file once it has changed.
    (number,) = connection.execute('PRAGMA data_version').fetchone()
    return number, connection.snapshot
