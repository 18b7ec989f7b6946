"""``SQLiteStorage``: the protocol of a store, on one aiosqlite connection."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import aiosqlite
import anyio

from neptune_async._model import messages
from neptune_async._model.operations import POINT_FIELDS, Batch, Variable
from neptune_async._storage.base import (
    Changed,
    ExperimentRecord,
    ExperimentSummary,
    Finding,
    Latest,
    Need,
    Receipt,
    SeriesReading,
    VariablesByExperiment,
    Window,
)
from neptune_async._storage.forking import FORK_GUARD
from neptune_async._storage.sqlite import bulk, health, reading
from neptune_async._storage.sqlite.checkpoint import Checkpoints, take_checkpoints_over
from neptune_async._storage.sqlite.compaction import compact_log, count_series
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.copying import fork_experiment
from neptune_async._storage.sqlite.file import StoreFile
from neptune_async._storage.sqlite.immutable import snapshot
from neptune_async._storage.sqlite.sql import find_experiment, find_variable, transaction
from neptune_async._storage.sqlite.writing import (
    delete_variables,
    insert_experiment,
    last_batch,
    prepare_appending,
    write_batch,
)
from neptune_async.exceptions import StorageBusyError, StorageError, StorageFormatError

logger = logging.getLogger('neptune_async')

APPLICATION_ID = 0x4E415379  # 'NASy', what `file` and PRAGMA application_id show
SCHEMA_VERSION = 1
MEMORY = ':memory:'
_POLLING = 0.1
"""Seconds after which to look for what another process has committed."""
_MAGIC = b'SQLite format 3\0'

_LOG_POINTS = 2**15
"""Points in the log after which they are turned into chunks, and so many at a time."""
_OVERDUE = 20
"""How many times as many do not wait until nothing is logged: 20 MiB."""
_OVERDUE_TO_READ = 4
"""The same of an experiment whose series are read meanwhile: each looks through the log."""
_CHECKPOINT_OVERDUE = 8
"""The same for the bytes of the -wal: 32 MiB, too."""
_POINTS_A_SERIES = 32
"""Points that a series has in the log on average before that is worth a chunk row."""
_MOST_A_SERIES, _MOST_POINTS = 2**8, 2**18
"""Points a series, and in all, to take at a time where there are that many: of many series the
chunks are small, and merged again and again.
"""

P = ParamSpec('P')
T = TypeVar('T')


class SQLiteStorage:
    """Experiments in one SQLite file, or in memory with ``:memory:``.

    Each method is one function on the connection's thread, because an await
    costs two thread hops, of up to 5 ms each while another thread computes.
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
        return None if self._path == MEMORY else _spill_folder(self._path)

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
        self._connection = aiosqlite.Connection(partial(_connected, self._path, writable), 64)
        try:
            # A cancelled one would leave the connection open, and its thread running.
            with anyio.CancelScope(shield=True):
                await self._call(_connect(self._connection))
            file = await self._run(_prepare, self._path, writable)
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
        return await self._run(_create_experiment, name, created)

    async def find_experiment(self, name: str) -> ExperimentRecord | None:
        return await self._run(find_experiment, name)

    async def list_experiments(self) -> list[str]:
        return await self._run(_list_experiments)

    async def delete_experiment(self, name: str) -> bool:
        return await self._run(_delete_experiment, name)

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
            # To set what is set already writes a page: an UPDATE that changes nothing does not,
            # and a commit without a page is not forced to disk.
            connection.execute(f'PRAGMA application_id = {APPLICATION_ID}')

    def _set_synced(self, connection: StoreConnection, synced: bool) -> None:
        """Have each commit from now on be forced to disk, or leave that to checkpoints."""
        if connection.file and connection.file.network:
            return  # with a rollback journal each commit is, or the file would not stay whole
        if synced != self._is_synced:
            connection.execute(f'PRAGMA synchronous = {"FULL" if synced else "NORMAL"}')
            # On macOS, where fsync leaves the data in the disk's own cache.
            connection.execute(f'PRAGMA fullfsync = {"ON" if synced else "OFF"}')
            self._is_synced = synced

    async def last_batch(self, writer: bytes) -> int:
        return await self._run(last_batch, writer)

    @asynccontextmanager
    async def watch(self, experiment_id: int) -> AsyncIterator[Changed]:  # noqa: ARG002
        yield partial(anyio.sleep, _POLLING)  # nobody tells when a file has changed

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
            await self._run(_give_back_pages)
        times = _CHECKPOINT_OVERDUE if need == 'overdue' else 1
        if self._checkpoints and self._checkpoints.is_due(times):
            await self._run(self._checkpoints.make)
        return is_left

    async def _is_worth_compacting(self, experiment_id: int, points: int, need: Need) -> bool:
        """Whether the log has grown long, and its series have enough points to fill chunks."""
        if need == 'everything':
            return True
        if points < self._threshold(experiment_id, need):
            return False
        self._series[experiment_id] = await self._run(count_series, experiment_id)
        return points >= self._threshold(experiment_id, need)

    def _threshold(self, experiment_id: int, need: Need) -> int:
        """Return how many points of an experiment there may be in the log."""
        due = max(_LOG_POINTS, _POINTS_A_SERIES * self._series.get(experiment_id, 0))
        if need == 'due':
            return due
        is_read = experiment_id in self._read
        return max(due, (_OVERDUE_TO_READ if is_read else _OVERDUE) * _LOG_POINTS)

    async def _compact_log(self, experiment_id: int, is_urged: Callable[[], bool]) -> bool:
        """Turn the oldest points of a log into chunks; return whether there may be more."""
        many = min(_MOST_A_SERIES * self._series.get(experiment_id, 0), _MOST_POINTS)
        most = max(self._threshold(experiment_id, 'due'), many)
        try:
            taken = await self._run(compact_log, experiment_id, most, is_urged)
        except StorageBusyError:
            raise
        except StorageError:
            # Not again until as much has come: it would keep others, and the -wal, waiting.
            self._logged.pop(experiment_id, None)
            raise
        if taken is None:
            return True
        if taken < most:
            self._logged.pop(experiment_id, None)
            self._read.discard(experiment_id)
            return False
        # 0 while there may be more than this process knows of.
        self._logged[experiment_id] = max(0, self._logged.get(experiment_id, 0) - taken)
        return True

    async def largest_steps(self, experiment_id: int) -> dict[str, float]:
        return await self._run(reading.largest_steps, experiment_id)

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
        return await self._run(reading.read_series, experiment_id, path, window, steps, times)

    # ── Many at a time ───────────────────────────────────────────────────────

    async def find_experiments(
        self, names: Collection[str] | None = None
    ) -> list[ExperimentSummary]:
        return await self._run(bulk.find_experiments, names)

    async def last_points(self, experiment_ids: Collection[int]) -> dict[int, float]:
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

    async def examine(self) -> list[Finding]:
        return await self._run(lambda connection: [*health.examine(connection)])

    # ── The connection ───────────────────────────────────────────────────────

    def _refuse_foreign(self) -> None:
        """Refuse what SQLite would take for an empty database, and overwrite."""
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
                begins = file.read(len(_MAGIC))
        except OSError:
            return  # there is none yet, or SQLite will say what is wrong with it
        if begins not in (b'', _MAGIC):
            raise StorageFormatError(
                f'{self._path} is no SQLite file; nothing was changed; name another file'
            )

    def _make_folder(self) -> None:
        try:
            Path(self._path).absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f'cannot open the store {self._path}: {error}') from error

    def _refuse_read_only(self) -> None:
        """Refuse what SQLite would open for reading instead, and fail to write to later."""
        if os.path.exists(self._path) and not os.access(self._path, os.W_OK):
            raise _read_only(self._path, 'it is read-only')

    async def _run(
        self,
        function: Callable[Concatenate[StoreConnection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function on the connection's thread, with the sqlite3 connection before its
        arguments.

        aiosqlite has no public call for this; ``_execute`` is what all its own
        methods use, and tests/storage/test_sqlite.py fails if it changes.
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
        """Have a connection that is only read from lead to what the file is now.

        On the connection's thread, where nobody else uses it meanwhile: ``_connection`` is what
        all the methods of aiosqlite take it from.
        """
        opened = _connected(self._path, writable=False)
        try:
            with FORK_GUARD, opened.snapshot.held() if opened.snapshot else nullcontext():
                _prepare(opened, self._path, writable=False)
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
            # Not the batch's fault: it is tried again.
            raise StorageError(f'there is no memory to go on with {self._path}') from error
        except UnicodeDecodeError as error:
            raise StorageFormatError(
                f'{self._path} is damaged: {error}; nothing was changed; restore it from a copy'
            ) from error
        except sqlite3.Error as error:
            translated = _translated(error, self._path, self._is_writable)
            if translated is None:
                raise
            raise translated from error


def _connected(path: str, writable: bool) -> StoreConnection:
    """Return a connection of which nothing was read yet."""
    if path == MEMORY:
        target, before = 'file::memory:', None
    else:
        before = None if writable else snapshot(Path(path).resolve())
        mode = 'rwc' if writable else 'ro&immutable=1' if before else 'ro'
        target = f'file:{quote(str(Path(path).absolute()))}?mode={mode}'
    # No busy timeout: the engine waits between attempts, so that a fork need not.
    connection = sqlite3.connect(
        target, uri=True, isolation_level=None, timeout=0, cached_statements=256,
        factory=StoreConnection,
    )  # fmt: skip
    connection.snapshot = before
    return connection


async def _connect(connection: aiosqlite.Connection) -> None:
    try:
        await connection
    except sqlite3.Error:
        # Its thread is about to end, and has to say so before this loop may close.
        connection._thread.join()
        raise


def _translated(error: sqlite3.Error, path: str, writable: bool) -> StorageError | None:
    """Return the error of ours for a fault of the store; None for another's."""
    text = str(error)
    if isinstance(error, sqlite3.OperationalError):
        if 'locked' in text or 'locking protocol' in text:
            return StorageBusyError(f'the store {path} is held by another process: {text}')
        if 'unable to open' in text or 'readonly' in text or os.path.isdir(path):
            if writable and _is_in_a_read_only_folder(path):
                return _read_only(
                    path, f'the folder {Path(path).absolute().parent} is not writable'
                )
            return StorageError(f'cannot open the store {path}: {_why_unopened(path) or text}')
        return StorageError(f'the store {path} failed: {text}')
    # None of our statements violates a constraint, unless the file is not what it should be.
    if type(error) is sqlite3.DatabaseError or isinstance(error, sqlite3.IntegrityError):
        return StorageFormatError(
            f'{path} is no store of neptune_async, or is damaged: {text}; '
            'nothing was changed; name another file, or restore this one'
        )
    return None


def _read_only(path: str, why: str) -> StorageError:
    return messages.advised(
        StorageError,
        f'cannot open the store {path}: {why}',
        "open it with mode='read', or name another file",
        'name another file, or make it writable',
    )


def _is_in_a_read_only_folder(path: str) -> bool:
    """Whether it is the folder alone that keeps a store from being written to."""
    folder = Path(path).absolute().parent
    return os.path.isfile(path) and os.access(path, os.W_OK) and not os.access(folder, os.W_OK)


def _why_unopened(path: str) -> str | None:
    file = Path(path).absolute()
    if not os.path.exists(file):
        if os.path.isdir(file.parent) and not os.access(file.parent, os.W_OK):
            return f'the folder {file.parent} is not writable'
        folder = _spill_folder(path)
        if any(folder.glob('*.spill')) or any(folder.glob('*.journal')):
            return (
                f'there is no such file, but what was not stored in it yet is in {folder}: put the '
                'file back in its place, or make a new one with that only: python -m neptune_async '
                f'recover --storage {path}'
            )
        return f'there is no such file; {_suggested_file(file)}'
    if os.path.isdir(file):
        return 'it is a folder; name a file in it'
    if not os.access(file, os.R_OK):
        return 'it may not be read'
    if not os.access(file.parent, os.W_OK):
        return (
            f'SQLite keeps a -wal file beside it, and the folder {file.parent} is not writable; '
            'copy the store, with its -wal file if there is one, to a folder that is'
        )
    return None


def _spill_folder(path: str) -> Path:
    return Path(f'{path}.spilled').absolute()


def _suggested_file(file: Path) -> str:
    folder = file.parent
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    stores = [name for name in names if not name.endswith(('-wal', '-shm'))]
    return messages.suggestion(file.name, stores, 'name one, or log to it first')


# ── Opening ──────────────────────────────────────────────────────────────────


def _prepare(connection: StoreConnection, path: str, writable: bool) -> StoreFile | None:
    """Make sure that the file is a store of ours; make it one if it is new and empty.

    :returns: the file, unless the store is in memory.
    """
    file = None if path == MEMORY else StoreFile(path)
    # In one transaction: another process may be making the schema.
    with transaction(connection, 'DEFERRED'):
        is_ours = _is_ours(connection, path)
    if not writable:
        if not is_ours:
            raise StorageFormatError(f'{path} is empty: no experiment was ever stored in it')
        return _in_use(connection, file)
    if not is_ours:
        # Only before the first table: then a deleted log can be cut off the file's end.
        connection.execute('PRAGMA auto_vacuum = INCREMENTAL')
    if file is not None and file.network:
        _keep_out_of_wal(connection, path, file.network)
    else:
        connection.execute('PRAGMA journal_mode = WAL')
        connection.execute('PRAGMA synchronous = NORMAL')
        take_checkpoints_over(connection)
    if not is_ours:
        with transaction(connection):
            if not _is_ours(connection, path):
                _create_schema(connection)
    if file is not None:
        file.remember_beside()
    prepare_appending(connection)
    return _in_use(connection, file)


def _in_use(connection: StoreConnection, file: StoreFile | None) -> StoreFile | None:
    connection.file = file
    if file is not None and connection.snapshot is None:
        connection.use = FORK_GUARD.add_use(file.path)
    return file


def _keep_out_of_wal(connection: sqlite3.Connection, path: str, network: str) -> None:
    """Use a rollback journal: a -wal needs memory that all who have the file open share."""
    try:
        ((mode,),) = connection.execute('PRAGMA journal_mode = DELETE').fetchall()
    except sqlite3.OperationalError:
        mode = 'wal'
    if mode != 'delete':
        raise StorageBusyError(
            f'the store {path} is on a network file system ({network}) and in WAL mode, which '
            'does not work there, and cannot be taken out of it while other processes have it open'
        )
    connection.execute('PRAGMA synchronous = FULL')
    logger.warning(
        '%s is on a network file system (%s), where locks between machines cannot be relied on: '
        'only one machine may write to it; better name a file on a local disk, and copy it when '
        'the run is over',
        path, network,
    )  # fmt: skip


def _is_ours(connection: sqlite3.Connection, path: str) -> bool:
    (application,) = connection.execute('PRAGMA application_id').fetchone()
    (version,) = connection.execute('PRAGMA user_version').fetchone()
    (tables,) = connection.execute('SELECT count(*) FROM sqlite_master').fetchone()
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise StorageFormatError(
                f'{path} has schema {version}, this version of neptune_async knows '
                f'{SCHEMA_VERSION}; nothing was changed; upgrade neptune_async to open it'
            )
        return True
    if application or version or tables:
        raise StorageFormatError(
            f'{path} is a SQLite file of something else than neptune_async; '
            'nothing was changed; name another file'
        )
    return False


def _create_schema(connection: sqlite3.Connection) -> None:
    schema = files('neptune_async._storage.sqlite').joinpath('schema.sql').read_text()
    # Not executescript, which would commit first.
    for statement in schema.split(';\n'):
        connection.execute(statement)
    connection.execute(f'PRAGMA application_id = {APPLICATION_ID}')
    connection.execute(f'PRAGMA user_version = {SCHEMA_VERSION}')


def _give_back_pages(connection: sqlite3.Connection) -> None:
    # It works as its rows are fetched, and has no columns: only executescript goes on to the end.
    connection.executescript('PRAGMA incremental_vacuum')


# ── Experiments ──────────────────────────────────────────────────────────────


def _create_experiment(
    connection: sqlite3.Connection, name: str | None, created: float | None
) -> ExperimentRecord | None:
    with transaction(connection):
        if name is None:
            name = _free_name(connection)
        elif find_experiment(connection, name):
            return None
        return ExperimentRecord(*insert_experiment(connection, name, created))


def _free_name(connection: sqlite3.Connection) -> str:
    """Return 'EXP-1', or one more than the largest number there is."""
    (largest,) = connection.execute(
        'SELECT max(CAST(substr(name, 5) AS INTEGER)) FROM experiments '
        "WHERE name GLOB 'EXP-[1-9]*' AND substr(name, 5) NOT GLOB '*[^0-9]*'"
    ).fetchone()
    return f'EXP-{(largest or 0) + 1}'


def _list_experiments(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute('SELECT name FROM experiments ORDER BY id')]


def _delete_experiment(connection: sqlite3.Connection, name: str) -> bool:
    with transaction(connection):
        experiment = find_experiment(connection, name)
        if experiment is None:
            return False
        delete_variables(connection, experiment.id, '')
        connection.execute('DELETE FROM log WHERE experiment_id = ?', (experiment.id,))
        connection.execute('DELETE FROM experiments WHERE id = ?', (experiment.id,))
        return True
