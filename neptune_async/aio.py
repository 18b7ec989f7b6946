"""The awaited face: the same experiments, for asyncio and trio.

Writes are the plain calls of the synchronous face, for they only enqueue.
What waits for the worker is awaited, without a thread for each that waits, and
works on any loop of any thread. To cancel it cancels the wait, not a write.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

import anyio
import anyio.lowlevel
import anyio.to_thread

from neptune_async import _tables
from neptune_async._base import BaseExperiment, BaseView, checked_count
from neptune_async._engine import experiments, lifecycle, reads, tables
from neptune_async._engine.loop import Function
from neptune_async._engine.queue import Overflow, Policy
from neptune_async._engine.reads import ContainerType, NamespaceEntry
from neptune_async._engine.tables import Duplicates, SeriesContent
from neptune_async._engine.worker import Worker
from neptune_async._model import messages
from neptune_async._model.arguments import checked_timeout
from neptune_async._model.paths import checked_name
from neptune_async._model.selection import Wanted
from neptune_async._model.values import AtomValue, SeriesValue, SetMember
from neptune_async._storage import registry
from neptune_async._tables import requests
from neptune_async._tables.requests import Output, Request
from neptune_async.exceptions import FlushTimeoutError, StorageError
from neptune_async.variable import Point

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

__all__ = [
    'AsyncExperiment',
    'AsyncExperimentView',
    'compare',
    'delete_experiment',
    'fetch_metrics',
    'list_experiments',
]

T = TypeVar('T')


class AsyncExperimentView(BaseView):
    """A path of an experiment: ``exp['train/loss']``; see ``ExperimentView``."""

    __slots__ = ()

    def __getitem__(self, path: str) -> AsyncExperimentView:
        """Return the view of a path below this one."""
        view: AsyncExperimentView = self._experiment[self._below(path)]
        return view

    def __reduce__(self) -> NoReturn:
        raise messages.not_pickled(self._path)

    @overload
    async def tail(
        self, n: int, with_steps: Literal[False] = False, with_timestamps: Literal[False] = False
    ) -> list[SeriesValue]: ...
    @overload
    async def tail(
        self, n: int, with_steps: bool = False, with_timestamps: bool = False
    ) -> list[Any]: ...
    async def tail(
        self, n: int, with_steps: bool = False, with_timestamps: bool = False
    ) -> list[Any]:
        """Return the last n values; see ``ExperimentView.tail``."""
        return await self._read(reads.series, checked_count('tail', n), with_steps, with_timestamps)

    @overload
    async def all(
        self, with_steps: Literal[False] = False, with_timestamps: Literal[False] = False
    ) -> list[SeriesValue]: ...
    @overload
    async def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]: ...
    async def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]:
        """Return all values; see ``ExperimentView.all``."""
        return await self._read(reads.series, None, with_steps, with_timestamps)

    def follow(self, last: int | None = None) -> AsyncIterator[Point]:
        """Iterate over the points of the series, and then over those that follow, as they are
        committed by this process or another, until cancelled.

        :param last: how many of the points that are there to begin with; None is all.
        :raises InvalidArgumentError: it is no such number; at the call.
        :raises ContainerTypeError: the variable is no Series.
        """
        return _Following(self, None if last is None else checked_count('follow', last))

    async def to_pandas(self) -> pd.DataFrame:
        """Return all points as a frame; see ``ExperimentView.to_pandas``."""
        curve = await self._read(tables.curve, 'to_pandas')
        return await anyio.to_thread.run_sync(_tables.series_frame, curve)

    async def to_numpy(self) -> npt.NDArray[np.void]:
        """Return all points as a structured array; see ``ExperimentView.to_numpy``."""
        curve = await self._read(tables.curve, 'to_numpy')
        return await anyio.to_thread.run_sync(_tables.series_array, curve)

    async def to_arrow(self) -> pa.Table:
        """Return all points as an Arrow table; see ``ExperimentView.to_arrow``."""
        curve = await self._read(tables.curve, 'to_arrow')
        return await anyio.to_thread.run_sync(_tables.series_table, curve)

    async def read(self) -> AtomValue:
        """Return the value of the atom; see ``ExperimentView.read``."""
        value: AtomValue = await self._read(reads.atom)
        return value

    async def get(self) -> set[SetMember]:
        """Return the values of the set; see ``ExperimentView.get``."""
        return await self._read(reads.members)

    async def variable_type(self) -> tuple[ContainerType, type]:
        """Return container and content; see ``ExperimentView.variable_type``."""
        return await self._read(reads.variable_type)

    async def namespace_contents(self) -> dict[str, NamespaceEntry]:
        """Return what is in the namespace; see ``ExperimentView.namespace_contents``."""
        return await self._read(reads.namespace_contents)

    async def to_dict(self) -> dict[str, Any]:
        """Return what the variables of the namespace hold; see ``Experiment.to_dict``."""
        return await self._read(tables.contents)

    async def exists(self) -> bool:
        """Tell whether there is a variable at the path, or below it."""
        return await self._read(reads.exists)

    async def delete(self) -> None:
        """Delete the variable, or all variables of the namespace; see ``ExperimentView.delete``."""
        experiment: AsyncExperiment = self._experiment  # type: ignore[assignment]  # made by it
        await experiment._delete(self._path)

    async def _read(self, read: Function[T], *arguments: object) -> T:
        experiment: AsyncExperiment = self._experiment  # type: ignore[assignment]  # made by it
        return await experiment._read(read, self._path, *arguments)


class _Following(AsyncIterator[Point]):
    """The points of a series, and those to come.

    No generator: one that is left before its end has to be closed, which trio
    warns about where a loop with a ``break`` does not.
    """

    def __init__(self, view: AsyncExperimentView, last: int | None) -> None:
        self._view = view
        self._last = last
        self._position: reads.Position | None = None
        self._points: Iterator[Point] = iter(())

    async def __anext__(self) -> Point:
        point = next(self._points, None)
        while point is None:
            if self._position is None:
                self._position = await self._ask(reads.begin_follow, self._last)
            self._position, points = await self._ask(reads.follow, self._position)
            self._points = iter(points)
            point = next(self._points, None)
        return point

    async def _ask(self, read: Function[T], argument: object) -> T:
        # What was rejected is told by calls that return at once: to raise it here would end the
        # iteration.
        experiment: AsyncExperiment = self._view._experiment  # type: ignore[assignment]  # as above
        return await experiment._ask(read, self._view._path, argument)


class AsyncExperiment(BaseExperiment[AsyncExperimentView]):
    """An experiment for async code; it takes what ``Experiment`` takes.

    ::

        async with AsyncExperiment('NPT-1') as exp:
            exp['eval/score'].log(0.31)
            scores = await exp['eval/score'].all()

    or ``exp = await AsyncExperiment.open('NPT-1')`` and ``await exp.aclose()``.
    It shares worker, storage and state with all that have the experiment open
    in the process, ``Experiment`` included.

    No call blocks the event loop. So with ``overflow='block'`` a write does not
    wait for room: up to twice ``max_pending`` operations are queued, then it
    raises ``QueueFullError``. A fast producer awaits ``drain()`` now and then.
    """

    _view_type = AsyncExperimentView

    @classmethod
    def open(cls, name: str | None = None, **arguments: Any) -> _Opening:
        """Return an awaitable that opens an experiment; arguments as for the class."""
        return _Opening(cls(name, **arguments))

    def _policy(self, overflow: Overflow) -> Policy:
        return 'head-room' if overflow == 'block' else overflow

    async def __aenter__(self) -> AsyncExperiment:
        if self._shared is not None:
            # `open` has opened it: once more, and a close would let go of one of two.
            self._require_open()
            return self
        opening = self._open()
        try:
            self._opened(await _arrival(opening))
        except BaseException:
            self._finalizer()
            raise
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        except Exception:
            # What ended the body matters more; the other was logged when it happened.
            if exception is None:
                raise

    async def namespace_contents(self) -> dict[str, NamespaceEntry]:
        """Return what is in the root; see ``Experiment.namespace_contents``."""
        return await self._read(reads.namespace_contents, None)

    async def to_dict(self) -> dict[str, Any]:
        """Return what all variables hold; see ``Experiment.to_dict``."""
        return await self._read(tables.contents, None)

    async def rewind(self, step: float, path: str = '') -> None:
        """Drop the points beyond a step from every series at a path and below it; see
        ``Experiment.rewind``.
        """
        where, last = self._rewinding(step, path)
        await self._ask(reads.rewind, where, last)
        self._rewound(where, last)

    async def fork(self, name: str, step: float | None = None) -> AsyncExperiment:
        """Return a new experiment that begins as a copy of this one, open; see
        ``Experiment.fork``.
        """
        with self._forking(name, step) as (new_name, arguments):
            await self._ask(experiments.fork, None, *arguments)
            return await self._forked(new_name).__aenter__()

    async def flush(self, timeout: float | None = None, *, sync: bool = False) -> None:
        """Return once everything that was logged before is committed; see ``Experiment.flush``."""
        self._require_open()
        await self._flush(timeout, sync)
        self._state.raise_rejections()

    async def drain(self) -> None:
        """Return once fewer than ``max_pending`` operations are in memory."""
        self._require_open()
        if self._state.queue.in_memory < self._state.queue.max_pending:
            await anyio.lowlevel.checkpoint()
        else:
            await _arrival(self._worker.call(self._worker.drain, self._state))

    async def aclose(self, timeout: float | None = None) -> None:
        """Store everything and let go of the store; see ``Experiment.close``."""
        closing = self._closing(timeout)
        if closing is None:
            return
        try:
            await _done(closing.ended)
        except GeneratorExit:  # of a coroutine that is thrown away, which may await no more
            closing.give_up()
            raise
        except BaseException:
            closing.give_up()
            with anyio.CancelScope(shield=True):
                await _done(closing.ended)
            raise
        finally:
            lifecycle.release(self._worker)
        _outcome(closing.ended)
        self._state.raise_rejections()

    async def _delete(self, path: str) -> None:
        self._require_writable()
        await self._ask(reads.delete, path)
        self._echoed(path, 'delete')

    async def _flush(self, timeout: float | None, sync: bool = False) -> None:
        seconds = checked_timeout(timeout)
        flush = self._flushing(sync)
        if flush is None:
            await anyio.lowlevel.checkpoint()
            return
        try:
            with anyio.fail_after(seconds):
                await _arrival(self._worker.call(flush, self._state))
        except FlushTimeoutError:
            raise
        except TimeoutError:
            raise messages.flush_timeout(self.name, self.pending, seconds) from None

    async def _read(self, read: Function[T], path: str | None, *arguments: object) -> T:
        result = await self._ask(read, path, *arguments)
        self._state.raise_rejections()
        return result

    async def _ask(self, function: Function[T], path: str | None, *arguments: object) -> T:
        """Wait for the worker; what storage has rejected is left to other calls to raise."""
        self._require_open()
        return await _arrival(
            self._worker.call(function, self._worker, self._state, path, *arguments)
        )


class _Opening:
    """What ``AsyncExperiment.open`` returns: to be awaited, or entered by ``async with``."""

    def __init__(self, experiment: AsyncExperiment) -> None:
        self._experiment = experiment

    def __await__(self) -> Generator[Any, Any, AsyncExperiment]:
        return self._experiment.__aenter__().__await__()

    async def __aenter__(self) -> AsyncExperiment:
        return await self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._experiment.__aexit__(exception_type, exception, traceback)


async def list_experiments(storage: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of the experiments in a store; see ``neptune_async.list_experiments``."""
    with _worker(storage) as worker:
        return await _arrival(worker.call(experiments.list_experiments, worker))


async def delete_experiment(name: str, storage: str | os.PathLike[str] | None = None) -> None:
    """Delete an experiment and all that it holds; see ``neptune_async.delete_experiment``."""
    with _worker(storage) as worker:
        await _arrival(worker.call(experiments.delete_experiment, worker, checked_name(name)))


@overload
async def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    output: Literal['pandas'] = 'pandas',
) -> pd.DataFrame: ...
@overload
async def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    output: Literal['arrow'],
) -> pa.Table: ...
async def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    output: Output = 'pandas',
) -> pd.DataFrame | pa.Table:
    """Return a row an experiment, and a column a path; see ``neptune_async.compare``."""
    return await _table(requests.comparison(names, paths, output), storage)


@overload
async def fetch_metrics(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    content: SeriesContent = 'float',
    first_step: float | None = None,
    last_step: float | None = None,
    duplicates: Duplicates = 'last',
    max_points: int | None = None,
    output: Literal['pandas'] = 'pandas',
) -> pd.DataFrame: ...
@overload
async def fetch_metrics(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    content: SeriesContent = 'float',
    first_step: float | None = None,
    last_step: float | None = None,
    duplicates: Duplicates = 'last',
    max_points: int | None = None,
    output: Literal['arrow'],
) -> pa.Table: ...
async def fetch_metrics(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    content: SeriesContent = 'float',
    first_step: float | None = None,
    last_step: float | None = None,
    duplicates: Duplicates = 'last',
    max_points: int | None = None,
    output: Output = 'pandas',
) -> pd.DataFrame | pa.Table:
    """Return a row a point of several series; see ``neptune_async.fetch_metrics``."""
    request = requests.metrics(
        names, paths, content, first_step, last_step, duplicates, max_points, output
    )
    return await _table(request, storage)


async def _table(request: Request[T], storage: str | os.PathLike[str] | None) -> Any:
    with _worker(storage) as worker:
        read = await _arrival(worker.call(request.read, worker, *request.arguments))
    # To import pandas takes a second, and to make a large table as long: not on this loop.
    return await anyio.to_thread.run_sync(request.build, read)


@contextmanager
def _worker(storage: str | os.PathLike[str] | None) -> Iterator[Worker]:
    worker = lifecycle.acquire(registry.resolve(storage))
    try:
        yield worker
    finally:
        lifecycle.release(worker)


async def _arrival(future: Future[T]) -> T:
    """Wait for the worker, on whatever loop runs; who stops waiting cancels the wait only."""
    try:
        await _done(future)
    except BaseException:
        future.cancel()
        raise
    return _outcome(future)


async def _done(future: Future[Any]) -> None:
    arrived = anyio.Event()
    future.add_done_callback(partial(_tell, _caller_into_this_loop(), arrived.set))
    await arrived.wait()


def _outcome(future: Future[T]) -> T:
    try:
        return future.result()
    except CancelledError:
        raise StorageError('the worker ended before it answered; try again') from None


def _caller_into_this_loop() -> Callable[[Callable[[], object]], object]:
    """Return what schedules a callback on the running loop from another thread, without waiting
    for it as anyio's own functions do.
    """
    loop: Any = anyio.lowlevel.current_token().native_token  # a TrioToken, or asyncio's loop
    schedule: Callable[[Callable[[], object]], object] = (
        loop.run_sync_soon if hasattr(loop, 'run_sync_soon') else loop.call_soon_threadsafe
    )
    return schedule


def _tell(
    schedule: Callable[[Callable[[], object]], object],
    callback: Callable[[], object],
    _: Future[Any],
) -> None:
    # A loop that has ended raises, and with it has ended whoever waited.
    with suppress(RuntimeError):
        schedule(callback)
