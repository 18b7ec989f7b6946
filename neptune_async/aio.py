"""The awaited face: the same experiments, for asyncio and trio.

Writes are the plain calls of the synchronous face, for they only enqueue.
What waits for the worker is awaited, without a thread for each that waits, and
works on any loop of any thread. To cancel it cancels the wait, not a write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

import anyio
import anyio.lowlevel
import anyio.to_thread

from neptune_async import _tables
from neptune_async._engine import deleting, renaming
from neptune_async._engine.lifecycle import experiments, workers
from neptune_async._engine.queueing.queue import Overflow, Policy
from neptune_async._engine.reading import following, tables, values
from neptune_async._engine.reading.values import ContainerType, NamespaceEntry
from neptune_async._engine.worker.loop_thread import Function
from neptune_async._engine.worker.reply import arrival
from neptune_async._faces import store_calls
from neptune_async._faces.awaiting import awaited, result, told
from neptune_async._faces.experiment import BaseExperiment
from neptune_async._faces.stored_files import AsyncStoredFile, bound
from neptune_async._faces.view import BaseView, checked_count
from neptune_async._faces.windows import thinning
from neptune_async._model import messages
from neptune_async._model.arguments import checked_timeout
from neptune_async._model.values import AtomValue, SeriesValue, SetMember
from neptune_async.exceptions import FlushTimeoutError
from neptune_async.variable import Point

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

__all__ = [
    'AsyncExperiment',
    'AsyncExperimentView',
    'AsyncStoredFile',
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
        return await self._read(
            values.series, checked_count('tail', n), with_steps, with_timestamps
        )

    @overload
    async def all(
        self, with_steps: Literal[False] = False, with_timestamps: Literal[False] = False
    ) -> list[SeriesValue]: ...
    @overload
    async def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]: ...
    async def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]:
        """Return all values; see ``ExperimentView.all``."""
        return await self._read(values.series, None, with_steps, with_timestamps)

    def follow(self, last: int | None = None) -> AsyncIterator[Point]:
        """Iterate over the points of the series, and then over those that follow, as they are
        committed by this process or another, until cancelled.

        :param last: how many of the points that are there to begin with; None is all.
        :raises InvalidArgumentError: it is no such number; at the call.
        :raises ContainerTypeError: the variable is no Series.
        """
        return _Following(self, None if last is None else checked_count('follow', last))

    async def to_pandas(
        self,
        *,
        first_step: float | None = None,
        last_step: float | None = None,
        first_time: float | datetime | None = None,
        last_time: float | datetime | None = None,
        max_points: int | None = None,
    ) -> pd.DataFrame:
        """Return the points as a frame; see ``ExperimentView.to_pandas``."""
        wanted = thinning(first_step, last_step, first_time, last_time, max_points)
        curve = await self._read(tables.curve, 'to_pandas', wanted)
        return await anyio.to_thread.run_sync(_tables.series_frame, curve)

    async def to_numpy(
        self,
        *,
        first_step: float | None = None,
        last_step: float | None = None,
        first_time: float | datetime | None = None,
        last_time: float | datetime | None = None,
        max_points: int | None = None,
    ) -> npt.NDArray[np.void]:
        """Return the points as a structured array; see ``ExperimentView.to_numpy``."""
        wanted = thinning(first_step, last_step, first_time, last_time, max_points)
        if wanted.keeps_all:
            sink = await anyio.to_thread.run_sync(_tables.array_sink)
            curve = await self._read(tables.filled, 'to_numpy', sink)
            if curve is None:
                return await anyio.to_thread.run_sync(sink.array)
        else:
            curve = await self._read(tables.curve, 'to_numpy', wanted)
        return await anyio.to_thread.run_sync(_tables.series_array, curve)

    async def to_arrow(
        self,
        *,
        first_step: float | None = None,
        last_step: float | None = None,
        first_time: float | datetime | None = None,
        last_time: float | datetime | None = None,
        max_points: int | None = None,
    ) -> pa.Table:
        """Return the points as an Arrow table; see ``ExperimentView.to_arrow``."""
        wanted = thinning(first_step, last_step, first_time, last_time, max_points)
        curve = await self._read(tables.curve, 'to_arrow', wanted)
        return await anyio.to_thread.run_sync(_tables.series_table, curve)

    async def read(self) -> AtomValue:
        """Return the value of the atom; see ``ExperimentView.read``."""
        value: AtomValue = await self._read(values.atom)
        return value

    async def get(self) -> set[SetMember]:
        """Return the values of the set; see ``ExperimentView.get``."""
        return await self._read(values.members)

    async def variable_type(self) -> tuple[ContainerType, type]:
        """Return container and content; see ``ExperimentView.variable_type``."""
        return await self._read(values.variable_type)

    async def namespace_contents(self) -> dict[str, NamespaceEntry]:
        """Return what is in the namespace; see ``ExperimentView.namespace_contents``."""
        return await self._read(values.namespace_contents)

    async def to_dict(self) -> dict[str, Any]:
        """Return what the variables of the namespace hold; see ``Experiment.to_dict``."""
        return await self._read(tables.contents)

    async def exists(self) -> bool:
        """Tell whether there is a variable at the path, or below it."""
        return await self._read(values.exists)

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
        self._position: following.Position | None = None
        self._points: Iterator[Point] = iter(())

    async def __anext__(self) -> Point:
        point = next(self._points, None)
        while point is None:
            if self._position is None:
                self._position = await self._ask(following.begin_follow, self._last)
            self._position, points = await self._ask(following.follow, self._position)
            experiment: AsyncExperiment = self._view._experiment  # type: ignore[assignment]  # as below
            self._points = map(experiment._bound, points)
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
            self._opened(await result(opening))
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
        return await self._read(values.namespace_contents, None)

    async def to_dict(self) -> dict[str, Any]:
        """Return what all variables hold; see ``Experiment.to_dict``."""
        return await self._read(tables.contents, None)

    async def rewind(self, step: float, path: str = '') -> None:
        """Drop the points beyond a step from every series at a path and below it; see
        ``Experiment.rewind``.
        """
        where, last = self._rewinding(step, path)
        await self._ask(deleting.rewind, where, last)
        self._rewound(where, last)

    async def rename(self, name: str) -> None:
        """Give the experiment another name; see ``Experiment.rename``."""
        old_name, new_name = self.name, self._renaming(name)
        await self._ask(renaming.rename, None, new_name)
        self._renamed(old_name)

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
        """Return once fewer than ``max_pending`` operations are in memory, and files with fewer
        bytes than ``max_pending_bytes``.
        """
        self._require_open()
        if not self._state.queue.is_full:
            await anyio.lowlevel.checkpoint()
        else:
            await result(self._worker.call(self._worker.drain, self._state))

    async def aclose(self, timeout: float | None = None) -> None:
        """Store everything and let go of the store; see ``Experiment.close``."""
        closing = self._closing(timeout)
        if closing is None:
            return
        try:
            await arrival(closing.ended)
        except GeneratorExit:  # of a coroutine that is thrown away, which may await no more
            closing.give_up()
            raise
        except BaseException:
            closing.give_up()
            with anyio.CancelScope(shield=True):
                await arrival(closing.ended)
            raise
        finally:
            # Not before: another worker, for who opens it anew meanwhile, would not know of what
            # this one has yet to store or to spill.
            closing.ended.finally_do(partial(workers.release, self._worker))
        await told()
        closing.ended.result()
        self._state.raise_rejections()

    async def _delete(self, path: str) -> None:
        self._require_writable()
        await self._ask(deleting.delete, path)
        self._echoed(path, 'delete')

    async def _flush(self, timeout: float | None, sync: bool = False) -> None:
        seconds = checked_timeout(timeout)
        flush = self._flushing(sync)
        if flush is None:
            await anyio.lowlevel.checkpoint()
            return
        try:
            with anyio.fail_after(seconds):
                await result(self._worker.call(flush, self._state))
        except FlushTimeoutError:
            raise
        except TimeoutError:
            raise messages.flush_timeout(self.name, self.pending, seconds) from None

    async def _read(self, read: Function[T], path: str | None, *arguments: object) -> T:
        answer = await self._ask(read, path, *arguments)
        self._state.raise_rejections()
        return self._bound(answer)

    def _bound(self, answer: T) -> T:
        """Return an answer, with files whose content can be read."""
        return bound(answer, lambda file: AsyncStoredFile(file, self))

    async def _ask(self, function: Function[T], path: str | None, *arguments: object) -> T:
        """Wait for the worker; what storage has rejected is left to other calls to raise."""
        self._require_open()
        return await result(
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


list_experiments = awaited(store_calls.list_experiments)
delete_experiment = awaited(store_calls.delete_experiment)
compare = awaited(store_calls.compare)
fetch_metrics = awaited(store_calls.fetch_metrics)
for _function in (list_experiments, delete_experiment, compare, fetch_metrics):
    _function.__module__ = __name__  # where pickle finds it
