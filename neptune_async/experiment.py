"""The synchronous face: experiments, their views, and the stores that they are in."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from neptune_async import _html, _tables
from neptune_async._base import BaseExperiment, BaseView, checked_count
from neptune_async._engine import experiments, lifecycle, reads, tables
from neptune_async._engine.experiments import Durability, Mode
from neptune_async._engine.loop import Function
from neptune_async._engine.overview import overview
from neptune_async._engine.queue import Overflow
from neptune_async._engine.reads import ContainerType, NamespaceEntry
from neptune_async._engine.state import OnError
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
from neptune_async.exceptions import NeptuneAsyncError, StorageError
from neptune_async.variable import Point

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

__all__ = [
    'Experiment',
    'ExperimentView',
    'compare',
    'delete_experiment',
    'fetch_metrics',
    'list_experiments',
]

T = TypeVar('T')

_REPR_TIMEOUT = 2.0
"""Seconds that a notebook waits at most for what it shows of an experiment."""


class ExperimentView(BaseView):
    """A path of an experiment: ``exp['train/loss']``.

    The path may have a variable, be a namespace, or neither. The first write
    creates the variable; which write that is decides its container.
    """

    __slots__ = ()

    def __getitem__(self, path: str) -> ExperimentView:
        """Return the view of a path below this one."""
        view: ExperimentView = self._experiment[self._below(path)]
        return view

    @overload
    def tail(
        self, n: int, with_steps: Literal[False] = False, with_timestamps: Literal[False] = False
    ) -> list[SeriesValue]: ...
    @overload
    def tail(
        self, n: int, with_steps: bool = False, with_timestamps: bool = False
    ) -> list[Any]: ...
    def tail(self, n: int, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]:
        """Return the last n values of the series, in the order in which they were logged.

        :param with_steps, with_timestamps: make each item a tuple (step,
            timestamp, value), less what was not asked for.
        :raises InvalidArgumentError: for a negative n.
        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Series.
        :raises StorageError: storage cannot take what was logged before, or answer.
        """
        return self._read(reads.series, checked_count('tail', n), with_steps, with_timestamps)

    @overload
    def all(
        self, with_steps: Literal[False] = False, with_timestamps: Literal[False] = False
    ) -> list[SeriesValue]: ...
    @overload
    def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]: ...
    def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]:
        """Return all values of the series; else as ``tail``."""
        return self._read(reads.series, None, with_steps, with_timestamps)

    def follow(self, last: int | None = None, timeout: float | None = None) -> Iterator[Point]:
        """Iterate over the points of the series, and then over those that follow, as they are
        committed by this process or another.

        A variable that is not there yet is waited for. After a rewind it goes on with what was
        logged since, as the timestamps tell.

        :param last: how many of the points that are there to begin with; None is all.
        :param timeout: seconds without a new point after which the iteration
            ends, 0 once it has what is there; None is never.
        :raises InvalidArgumentError: one of them is no such number; at the call.
        :raises ContainerTypeError: the variable is no Series.
        """
        count = None if last is None else checked_count('follow', last)
        return self._following(count, checked_timeout(timeout))

    def _following(self, last: int | None, timeout: float | None) -> Iterator[Point]:
        # What was rejected is told by calls that return at once: to raise it here would end the
        # iteration.
        experiment: Experiment = self._experiment  # type: ignore[assignment]  # made by it
        position = experiment._ask(reads.begin_follow, self._path, last)
        points = None
        while points is None or points:
            position, points = experiment._ask(reads.follow, self._path, position, timeout)
            yield from points

    def to_pandas(self) -> pd.DataFrame:
        """Return all points of the series as a frame with the columns timestamp and value, by step,
        in the order in which they were logged.

        Timestamps are seconds since the epoch: ``pd.to_datetime(frame.timestamp, unit='s')``.
        Steps are int if all are integral and within 64 bits, else float. Values are float64, else
        the str or datetime objects.

        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Series.
        :raises MissingExtraError: pandas is not installed.
        """
        return _tables.series_frame(self._read(tables.curve, 'to_pandas'))

    def to_numpy(self) -> npt.NDArray[np.void]:
        """Return all points of the series as an array with the fields step, timestamp and value;
        else as ``to_pandas``.
        """
        return _tables.series_array(self._read(tables.curve, 'to_numpy'))

    def to_arrow(self) -> pa.Table:
        """Return all points of the series as an Arrow table with the columns step, timestamp and
        value; else as ``to_pandas``.

        Each stored chunk is a chunk of the columns, and numbers stay where they were read to.
        Datetimes are texts, in ISO 8601, which keeps their UTC offsets.
        """
        return _tables.series_table(self._read(tables.curve, 'to_arrow'))

    def read(self) -> AtomValue:
        """Return the value of the atom.

        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Atom.
        :raises StorageError: storage cannot take what was assigned before, or answer.
        """
        value: AtomValue = self._read(reads.atom)
        return value

    def get(self) -> set[SetMember]:
        """Return the values of the set, as a set of their own.

        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Set.
        :raises StorageError: storage cannot take what was added before, or answer.
        """
        return self._read(reads.members)

    def variable_type(self) -> tuple[ContainerType, type]:
        """Return container and content of the variable, such as ``(Series, float)``.

        :raises VariableNotFoundError: there is no variable at the path.
        """
        return self._read(reads.variable_type)

    def namespace_contents(self) -> dict[str, NamespaceEntry]:
        """Return what is in the namespace, one level, sorted by name: the container of each
        variable, and ``Namespace`` for each namespace.

        :raises VariableNotFoundError: the path is no namespace.
        """
        return self._read(reads.namespace_contents)

    def to_dict(self) -> dict[str, Any]:
        """Return what the variables of the namespace hold; see ``Experiment.to_dict``.

        :raises VariableNotFoundError: the path is no namespace.
        """
        return self._read(tables.contents)

    def exists(self) -> bool:
        """Tell whether there is a variable at the path, or below it."""
        return self._read(reads.exists)

    def delete(self) -> None:
        """Delete the variable, or all variables of the namespace.

        :raises VariableNotFoundError: there is neither.
        """
        experiment: Experiment = self._experiment  # type: ignore[assignment]  # made by it
        experiment._delete(self._path)

    def _repr_html_(self) -> str:
        experiment: Experiment = self._experiment  # type: ignore[assignment]  # made by it
        return experiment._html(repr(self), self._path)

    def _read(self, read: Function[T], *arguments: object) -> T:
        experiment: Experiment = self._experiment  # type: ignore[assignment]  # made by it
        return experiment._read(read, self._path, *arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return operator.getitem, (self._experiment, self._path)


class Experiment(BaseExperiment[ExperimentView]):
    """An experiment: variables at paths, kept in a store.

    ::

        >>> with Experiment('NPT-1', storage=':memory:') as exp:
        ...     exp['train/loss'].log(0.31)
        ...     exp['train/loss'].log(0.27)
        ...     exp['train/loss'].tail(1)
        [0.27]

    Writes return at once. A background worker stores them within
    ``flush_interval``; from then on they survive the death of the process. A
    read flushes first. At the end of the process, by whichever road, all that
    was logged is stored, or kept in a file that a line on stderr names.

    An experiment may be used from any thread, and after a fork. Pickled, it
    reopens in the other process, and so does that of a view. Two objects of one
    name and storage in one process share their state; the options of the first
    hold.

    :param name: None takes the next free ``EXP-1``, ``EXP-2``, ...
    :param storage: a path (``~`` at the beginning of a str is the home folder),
        ``:memory:``, ``sqlite:///relative.db`` or ``sqlite:////absolute.db``;
        None is the environment variable ``NEPTUNE_ASYNC_STORAGE``, else
        ``.neptune_async/experiments.db``.
    :param mode: ``resume`` creates the experiment or goes on with it, ``create``
        refuses an existing name, ``read`` refuses writes and an unknown name,
        ``disabled`` stores nothing: reads answer from memory.
    :param echo: print one line a write, with the step that a point gets unless
        another process logs to the series; None is the environment variable
        ``NEPTUNE_ASYNC_ECHO``, else only in a REPL or a notebook.
    :param flush_interval: seconds after which what was logged is stored.
    :param max_pending: operations held in memory at most.
    :param overflow: what a write does then: ``block`` waits for room, ``drop``
        drops and counts, ``raise`` raises ``QueueFullError``.
    :param durability: from when on a write survives the death of the process:
        ``interval``, once ``flush_interval`` and a commit are over; ``call``, when
        the call returns (it is in a journal then, a mapped file beside the
        store, which the next open for writing takes in; not on Windows); ``power``, as
        ``interval``, and every commit is forced to disk, so that it survives a
        power failure, too.
    :param strict: False counts a write that is refused, and warns of the first,
        instead of raising.
    :param on_error: called on the worker's thread when storage starts to fail,
        and when it rejects operations. It must not flush or read.
    :raises InvalidArgumentError, InvalidNameError, InvalidStorageError: an
        argument is refused.
    :raises ExperimentExistsError: in mode 'create', of a known name.
    :raises ExperimentNotFoundError: in mode 'read', of an unknown name.
    :raises StorageError: the store cannot be opened; the message says why.
    """

    _view_type = ExperimentView

    def __init__(
        self,
        name: str | None = None,
        *,
        storage: str | os.PathLike[str] | None = None,
        mode: Mode = 'resume',
        echo: bool | None = None,
        flush_interval: float = 0.2,
        max_pending: int = 200_000,
        overflow: Overflow = 'block',
        durability: Durability = 'interval',
        strict: bool = True,
        on_error: OnError | None = None,
    ) -> None:
        super().__init__(
            name, storage=storage, mode=mode, echo=echo, flush_interval=flush_interval,
            max_pending=max_pending, overflow=overflow, durability=durability, strict=strict,
            on_error=on_error,
        )  # fmt: skip
        self._wait_until_open()

    def _wait_until_open(self) -> None:
        opening = self._open()
        try:
            self._opened(_result(opening))
        except BaseException:
            self._finalizer()
            _join(self._worker)
            raise

    def namespace_contents(self) -> dict[str, NamespaceEntry]:
        """Return what is in the root, one level, sorted by name: the container of each
        variable, and ``Namespace`` for each namespace.
        """
        return self._read(reads.namespace_contents, None)

    def to_dict(self) -> dict[str, Any]:
        """Return what all variables hold, as a dict that is nested as their paths are: the value
        of each atom, each set, and the last value of each series (None if it has no point).

        What an import has made a variable and a namespace at once is a dict, with the value at ''.
        """
        return self._read(tables.contents, None)

    def __delitem__(self, path: str) -> None:
        """Delete a variable, or all variables of a namespace.

        :raises VariableNotFoundError: there is neither.
        """
        self._delete(self._normalised(path))

    def rewind(self, step: float, path: str = '') -> None:
        """Drop the points beyond a step from every series at a path and below it, for a training
        that goes on from a checkpoint.

        ::

            >>> with Experiment('NPT-1', storage=':memory:') as exp:
            ...     exp['loss'].extend([0.5, 0.4, float('nan'), float('nan')])
            ...     exp.rewind(1)
            ...     exp['loss'].log(0.3)
            ...     exp['loss'].all(with_steps=True)
            [(0, 0.5), (1, 0.4), (2, 0.3)]

        All that this process has logged before the call is dropped if it is beyond,
        and what other processes have stored by the time that the rewind is. What is logged
        afterwards stays, and automatic steps and timestamps go on from what is left. Atoms and
        sets stay as they are. Like a write, it is in the queue when the call
        returns, and is stored in its turn.

        :param step: the last that is kept: an int within 2**53, or a finite float.
        :param path: a series or a namespace; ``''`` is the whole experiment.
        :raises InvalidStepError, InvalidPathError: as said above.
        :raises VariableNotFoundError: there is neither a variable nor a namespace at the path.
        :raises ContainerTypeError: the variable is no Series.
        :raises ReadOnlyError: in mode 'read'.
        :raises RejectedOperationsError: storage refused some that were logged before; nothing is
            rewound then. Another call rewinds.
        """
        where, last = self._rewinding(step, path)
        self._ask(reads.rewind, where, last)
        self._rewound(where, last)

    def fork(self, name: str, step: float | None = None) -> Experiment:
        """Return a new experiment in the same store that begins as a copy of this one, and
        leaves this one as it is.

        ::

            >>> with Experiment('NPT-1', storage=':memory:') as exp:
            ...     exp['loss'].extend([0.5, 0.4, 0.3])
            ...     with exp.fork('NPT-2', step=1) as fork:
            ...         fork['loss'].all()
            [0.5, 0.4]

        The copy has all that was logged before the call, and is made by the store, in one
        transaction. The new experiment is open, with this one's options, and for writing, also
        where this one was opened with ``mode='read'``.

        A call that fails may have made it all the same, should only the answer have been lost.
        Called again with the same arguments, before anything more is logged here, it
        returns that one, as it is; later it refuses the name.

        :param name: of the new experiment.
        :param step: the last of each series that is copied; None copies all. Atoms and sets
            are copied as they are.
        :raises InvalidNameError, InvalidStepError: an argument is refused.
        :raises ExperimentExistsError: there is an experiment of that name.
        :raises StorageError: storage cannot take what was logged before, or make the copy.
        :raises RejectedOperationsError: storage refused some of it; nothing is copied then. Another
            call copies what it has.
        """
        with self._forking(name, step) as (new_name, arguments):
            self._ask(experiments.fork, None, *arguments)
            fork = self._forked(new_name)
            fork._wait_until_open()
        return fork

    def flush(self, timeout: float | None = None, *, sync: bool = False) -> None:
        """Return once everything that was logged before is committed.

        :param timeout: seconds to wait at most.
        :param sync: return only once it is forced to disk as well, where a power
            failure does not reach it.
        :raises FlushTimeoutError: after that time; its ``pending`` tells how many
            operations are left. They stay queued.
        :raises StorageError: storage fails. They stay queued, and are tried again.
        :raises RejectedOperationsError: storage refused some; the others are stored.
        """
        self._require_open()
        self._flush(timeout, sync)
        self._state.raise_rejections()

    def close(self, timeout: float | None = None) -> None:
        """Store everything and let go of the store; a second call does nothing.

        What cannot be stored is kept in a file that a line on stderr names; the
        next experiment that opens the store takes it in.

        :param timeout: seconds to wait for storage at most.
        :raises FlushTimeoutError, StorageError: that has happened.
        :raises RejectedOperationsError: as ``flush``.
        """
        closing = self._closing(timeout)
        if closing is None:
            return
        try:
            _outcome(closing.ended)
        except BaseException:
            if not closing.ended.done():
                closing.give_up()
                with suppress(NeptuneAsyncError):
                    _outcome(closing.ended)
            raise
        finally:
            lifecycle.release(self._worker)
            _join(self._worker)
        self._state.raise_rejections()

    def __enter__(self) -> Experiment:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception:
            # What ended the body matters more; the other was logged when it happened.
            if exception is None:
                raise

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the experiment: its variables with what they hold."""
        return self._html(repr(self), None)

    def _html(self, title: str, path: str | None) -> str:
        try:
            self._require_open()
            # Not _read, which would raise here, and so hide, what storage has rejected.
            looking = self._worker.call(overview, self._worker, self._state, path)
            return _html.table(title, path, _result(looking, _REPR_TIMEOUT))
        except FutureTimeoutError:
            return _html.notice(title, f'storage gave no answer within {_REPR_TIMEOUT:g} seconds')
        except NeptuneAsyncError as error:
            return _html.notice(title, error)

    def _delete(self, path: str) -> None:
        self._require_writable()
        self._ask(reads.delete, path)
        self._echoed(path, 'delete')

    def _flush(self, timeout: float | None, sync: bool = False) -> None:
        seconds = checked_timeout(timeout)
        flush = self._flushing(sync)
        if flush is None:
            return
        try:
            _result(self._worker.call(flush, self._state), seconds)
        except FutureTimeoutError:
            raise messages.flush_timeout(self.name, self.pending, seconds) from None

    def _read(self, read: Function[T], path: str | None, *arguments: object) -> T:
        result = self._ask(read, path, *arguments)
        self._state.raise_rejections()
        return result

    def _ask(self, function: Function[T], path: str | None, *arguments: object) -> T:
        """Wait for the worker; what storage has rejected is left to other calls to raise."""
        self._require_open()
        future = self._worker.call(function, self._worker, self._state, path, *arguments)
        return _result(future)


def list_experiments(storage: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of the experiments in a store, in the order in which they were made.

    :param storage: as for ``Experiment``.
    :raises StorageError: the store is not there, or cannot be read.
    """
    with _worker(storage) as worker:
        return _result(worker.call(experiments.list_experiments, worker))


def delete_experiment(name: str, storage: str | os.PathLike[str] | None = None) -> None:
    """Delete an experiment with all that it holds.

    Another process that still logs to it makes it anew, with what it logs from then on, and warns
    of that in the log ``neptune_async``.

    :param storage: as for ``Experiment``.
    :raises ExperimentNotFoundError: there is none of that name.
    :raises StorageError: it is open in this process, or the store fails.
    """
    with _worker(storage) as worker:
        _result(worker.call(experiments.delete_experiment, worker, checked_name(name)))


@overload
def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    output: Literal['pandas'] = 'pandas',
) -> pd.DataFrame: ...
@overload
def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    output: Literal['arrow'],
) -> pa.Table: ...
def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    storage: str | os.PathLike[str] | None = None,
    output: Output = 'pandas',
) -> pd.DataFrame | pa.Table:
    """Return a row an experiment, and a column a path: values of atoms, sets, and the last value
    of each series.

    ::

        compare('digits-*', ['params/lr', 'valid/accuracy'])
        compare(paths=re.compile('loss$'))

    Experiments are in the order in which they were made. What this process has logged to them is
    stored first. It takes a handful of queries, however many experiments there are.

    :param names, paths: which experiments and variables: one name, a list of names, a glob (a str
        with ``*``, ``?`` or ``[`` that is no name itself; ``*`` stands for slashes, too), or a
        compiled regular expression, to be found anywhere in the name; None is all.
    :param storage: as for ``Experiment``.
    :param output: a frame whose index is the experiments' names, or an Arrow table, whose first
        column they are. There, a column of several types holds texts, in JSON.
    :raises InvalidArgumentError, InvalidNameError, InvalidPathError: an argument is refused.
    :raises ExperimentNotFoundError: there is no experiment of a name that is none of a pattern.
    :raises VariableNotFoundError: none of the experiments has a variable at such a path.
    :raises MissingExtraError: pandas, or pyarrow, is not installed.
    :raises StorageError: the store is not there, or fails.
    :raises WorkerThreadError: in a signal handler or finalizer that interrupts a write.
    """
    return _table(requests.comparison(names, paths, output), storage)


@overload
def fetch_metrics(
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
def fetch_metrics(
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
def fetch_metrics(
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
    """Return a row a point: experiment, path, step, timestamp (seconds since the epoch), value.

    ::

        fetch_metrics('digits-*', 'train/*', max_points=500)

    :param names, paths, storage, output: as for ``compare``.
    :param content: the type of the series to fetch; others are left out.
    :param first_step, last_step: bounds of the steps, both included.
    :param duplicates: which of the points of one step to return. With 'last' and 'first' the
        points of a series are sorted by step; with 'all' they are in the order in which they
        were logged.
    :param max_points: how many points of each series to return at most: its first and last, and
        between them the least and the greatest of each of equally many, so that no peak is lost.
        Of texts and datetimes, evenly spread ones.
    :raises NeptuneAsyncError: as ``compare``.
    :raises ContainerTypeError, ContentTypeError: what is at a path that is none of a pattern is
        no series of the content.
    """
    request = requests.metrics(
        names, paths, content, first_step, last_step, duplicates, max_points, output
    )
    return _table(request, storage)


def _table(request: Request[T], storage: str | os.PathLike[str] | None) -> Any:
    with _worker(storage) as worker:
        read = _result(worker.call(request.read, worker, *request.arguments))
    return request.build(read)


@contextmanager
def _worker(storage: str | os.PathLike[str] | None) -> Iterator[Worker]:
    worker = lifecycle.acquire(registry.resolve(storage))
    try:
        yield worker
    finally:
        lifecycle.release(worker)
        _join(worker)


def _join(worker: Worker) -> None:
    """Wait until the thread of a worker has ended that nobody holds any more."""
    if not worker.users:
        worker.thread.join(lifecycle.EXIT_TIMEOUT)


def _result(future: Future[T], timeout: float | None = None) -> T:
    """Wait for the worker; who stops waiting cancels the wait, not what was enqueued."""
    try:
        return _outcome(future, timeout)
    except BaseException:
        future.cancel()
        raise


def _outcome(future: Future[T], timeout: float | None = None) -> T:
    """Wait for the worker."""
    try:
        return future.result(timeout)
    except CancelledError:
        raise StorageError('the worker ended before it answered; try again') from None
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            # It came into threading.Condition.wait, which then releases a lock that it has not got.
            raise error.__context__ from None
        raise
