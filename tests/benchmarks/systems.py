"""The floors and ourselves, each behind the same few lines."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import struct
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

SERVER = 'NEPTUNE_ASYNC_BENCHMARK_SERVER'
"""The environment variable with the URL of a PostgreSQL server, for those that need one."""
_CHUNK = 10_000
"""Points after which the floors with SQLite write."""

Reader: TypeAlias = Callable[[str, int | None], Sequence[Any]]
"""Returns points of a series: so many of the last, or all with None."""


class System:
    """Something that takes points. Its calls are source code, as for ``timeit``, so that no
    function of the benchmark's is timed along with them.

    :cvar module: what a user imports.
    :cvar requirements: what pip installs into the environment of a peer.
    :cvar single: logs ``x`` to the series ``path`` of ``run`` in its step ``i``.
    :cvar batch: logs the dict ``d``. What has no batch logs one by one, as its user would.
    :cvar prefix: what the batch puts before the names in the dict.
    :cvar share: how much of a workload's points it is given; the slow ones are not waited for.
    :cvar workloads: those that it takes part in.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = 'peer'
    module: ClassVar[str] = ''
    requirements: ClassVar[tuple[str, ...]] = ()
    single: ClassVar[str]
    batch: ClassVar[str]
    prefix: ClassVar[str] = ''
    share: ClassVar[float] = 1.0
    workloads: ClassVar[str] = 'W1 W2 W3 W4 W5 W6 W8'

    def open(self, folder: Path) -> Any:
        """Return the ``run`` that the source code above writes to."""
        raise NotImplementedError

    def flush(self, run: Any) -> bool:
        """Wait until all is durable; False if there is no call for that but to close."""
        return False

    def close(self, run: Any) -> None:
        """End the run."""

    def log_image(self, run: Any, path: str, image: Any, step: int) -> None:
        """Log an array of shape (height, width, 3) as a PNG."""
        raise NotImplementedError

    def reader(self, folder: Path) -> Reader | None:
        """Return what reads the last points of a series or all, from what other processes have
        written; None if that needs a server.
        """
        return None


class NeptuneAsync(System):
    name = 'neptune_async'
    kind = 'ourselves'
    module = 'neptune_async'
    single = 'run[path].log(x)'
    batch = "run['wide'].log(d)"
    prefix = 'wide/'
    workloads = 'W1 W2 W3 W4 W5 W6 W7 W8 W9 W10 W12 W13 W14 W15 W16 W17'
    durability: ClassVar[Literal['interval', 'call']] = 'interval'

    def open(self, folder: Path) -> Any:
        from neptune_async import Experiment

        return Experiment(
            'benchmark',
            storage=folder / 'experiments.db',
            echo=False,
            durability=self.durability,
        )

    def flush(self, run: Any) -> bool:
        run.flush()
        return True

    def close(self, run: Any) -> None:
        run.close()

    def log_image(self, run: Any, path: str, image: Any, step: int) -> None:
        from neptune_async import File

        run[path].log(File.image(image), step=step)

    def reader(self, folder: Path) -> Reader:
        from neptune_async import Experiment

        run = Experiment('benchmark', storage=folder / 'experiments.db', mode='read', echo=False)
        return lambda path, last: run[path].all() if last is None else run[path].tail(last)


class JournaledNeptuneAsync(NeptuneAsync):
    name = f'{NeptuneAsync.name}, a call survives'
    workloads = 'W1 W5'
    durability = 'call'


class ServedNeptuneAsync(NeptuneAsync):
    name = f'{NeptuneAsync.name} on PostgreSQL'
    workloads = 'W11'

    def open(self, folder: Path) -> Any:
        from neptune_async import Experiment

        os.chdir(folder)  # where what the server does not take is spilled
        return Experiment(folder.name, storage=os.environ[SERVER], echo=False)


# ── Floors ───────────────────────────────────────────────────────────────────


class _Run:
    """A run of a floor: ``run[path]`` is a new view, as it is in the first of its kind."""

    def __init__(self, view: type, put: Callable[[Any], object]) -> None:
        self._view = view
        self._put = put

    def __getitem__(self, path: str) -> Any:
        return self._view(self._put, path)


class _TupleView:
    __slots__ = ('_path', '_put')

    def __init__(self, put: Callable[[Any], object], path: str) -> None:
        self._put = put
        self._path = path

    def log(self, value: float) -> None:
        self._put((self._path, time.time(), value))


class Floor(System):
    """Something that is much less than a tracker: no checks, no steps, no types."""

    kind = 'floor'
    single = 'run[path].log(x)'
    batch = 'for path, x in d.items(): run[path].log(x)'


class DequeFloor(Floor):
    name = 'floor: view, tuple, deque'
    workloads = 'W1 W2 W3 W7 W8'

    def open(self, folder: Path) -> Any:
        self._points: deque[Any] = deque()
        return _Run(_TupleView, self._points.append)

    def flush(self, run: Any) -> bool:
        self._points.clear()
        return True


class FileFloor(Floor):
    name = 'floor: packed records, file'
    workloads = 'W1 W2 W5'

    def open(self, folder: Path) -> Any:
        self._file = (folder / 'points').open('wb')
        ids: dict[str, int] = {}
        pack, write = struct.Struct('<qdd').pack, self._file.write

        def put(point: tuple[str, float, float]) -> None:
            path, now, value = point
            write(pack(ids.setdefault(path, len(ids)), now, value))

        return _Run(_TupleView, put)

    def flush(self, run: Any) -> bool:
        self._file.flush()
        return True

    def close(self, run: Any) -> None:
        self._file.close()

    def reader(self, folder: Path) -> Reader:
        raw = (folder / 'points').read_bytes()
        whole = array('d', raw[: len(raw) // 24 * 24])
        return lambda path, last: whole[2::3].tolist()[-(last or 0) :]


class _SQLiteFloor(Floor):
    """Collects points, and writes every ten thousand in the caller's thread."""

    workloads = 'W1 W2 W5'
    schema: ClassVar[str]

    def open(self, folder: Path) -> Any:
        self._connection = sqlite3.connect(folder / 'points.db', isolation_level=None)
        self._connection.executescript(
            f'PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {self.schema}'
        )
        self._points: list[tuple[str, float, float]] = []

        def put(point: tuple[str, float, float]) -> None:
            self._points.append(point)
            if len(self._points) == _CHUNK:
                self.flush(None)

        return _Run(_TupleView, put)

    def flush(self, run: Any) -> bool:
        self._connection.execute('BEGIN')
        self.write(self._connection, self._points)
        self._connection.execute('COMMIT')
        self._points.clear()
        return True

    def write(self, connection: sqlite3.Connection, points: list[Any]) -> None:
        raise NotImplementedError

    def close(self, run: Any) -> None:
        self.flush(run)
        self._connection.close()


class ChunkFloor(_SQLiteFloor):
    name = 'floor: sqlite3, chunks'
    workloads = 'W1 W2 W4 W5'
    schema = 'CREATE TABLE chunks (path, times, floats); CREATE INDEX by_path ON chunks (path)'

    def write(self, connection: sqlite3.Connection, points: list[Any]) -> None:
        columns: dict[str, tuple[array[float], array[float]]] = {}
        for path, now, value in points:
            if path not in columns:
                columns[path] = array('d'), array('d')
            times, values = columns[path]
            times.append(now)
            values.append(value)
        connection.executemany(
            'INSERT INTO chunks VALUES (?, ?, ?)',
            [
                (path, times.tobytes(), values.tobytes())
                for path, (times, values) in columns.items()
            ],
        )

    def reader(self, folder: Path) -> Reader:
        connection = sqlite3.connect(folder / 'points.db')

        def read(path: str, last: int | None) -> list[float]:
            points = array('d')
            for (floats,) in connection.execute(
                'SELECT floats FROM chunks WHERE path = ? AND (? IS NULL OR rowid = '
                '(SELECT max(rowid) FROM chunks WHERE path = ?)) ORDER BY rowid',
                (path, last, path),
            ):
                points.frombytes(floats)
            return points.tolist()[-(last or 0) :]

        return read


class RowFloor(_SQLiteFloor):
    name = 'floor: sqlite3, rows'
    schema = 'CREATE TABLE points (path, time, value)'

    def write(self, connection: sqlite3.Connection, points: list[Any]) -> None:
        connection.executemany('INSERT INTO points VALUES (?, ?, ?)', points)

    def reader(self, folder: Path) -> Reader:
        connection = sqlite3.connect(folder / 'points.db')
        query = 'SELECT value FROM points WHERE path = ? ORDER BY rowid'

        def read(path: str, last: int | None) -> list[float]:
            ordered = query if last is None else f'{query} DESC LIMIT {last}'
            return [row[0] for row in connection.execute(ordered, (path,)).fetchall()]

        return read


class CopyFloor(Floor):
    """Collects points, and copies every ten thousand to a server in the caller's thread."""

    name = 'floor: asyncpg, COPY'
    workloads = 'W11'

    def open(self, folder: Path) -> Any:
        import asyncpg

        self._loop = asyncio.new_event_loop()
        self._connection = self._wait(asyncpg.connect(os.environ[SERVER]))
        self._table = f'floor_{folder.name}'
        self._wait(self._connection.execute(
            f'CREATE TABLE "{self._table}" (path text, step float8, time float8, value float8)'
        ))  # fmt: skip
        self._points: list[tuple[str, float, float, float]] = []
        steps = count()

        def put(point: tuple[str, float, float]) -> None:
            path, now, value = point
            self._points.append((path, next(steps), now, value))
            if len(self._points) == _CHUNK:
                self.flush(None)

        return _Run(_TupleView, put)

    def _wait(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)

    def flush(self, run: Any) -> bool:
        points = self._points
        self._wait(self._connection.copy_records_to_table(self._table, records=points))
        points.clear()
        return True

    def close(self, run: Any) -> None:
        self.flush(run)
        self._wait(self._connection.close())
        self._loop.close()


FLOOR = DequeFloor.name
COPY = CopyFloor.name
FLOORS: list[type[System]] = [DequeFloor, FileFloor, ChunkFloor, RowFloor, CopyFloor]
OURSELVES: list[type[System]] = [NeptuneAsync, JournaledNeptuneAsync, ServedNeptuneAsync]
