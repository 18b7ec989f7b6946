"""The synchronous face: experiments, their views, and the stores that they are in."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from neptune_async import _html
from neptune_async._engine import deleting, renaming
from neptune_async._engine.lifecycle import experiments, workers
from neptune_async._engine.lifecycle.opening import Durability, Mode
from neptune_async._engine.queueing.experiment_state import OnError
from neptune_async._engine.queueing.queue import DEFAULT_PENDING_BYTES, Overflow
from neptune_async._engine.reading import following, tables, values
from neptune_async._engine.reading.preview import preview
from neptune_async._engine.reading.values import ContainerType, NamespaceEntry
from neptune_async._engine.worker.loop_thread import Function
from neptune_async._faces import store_calls
from neptune_async._faces.experiment import BaseExperiment
from neptune_async._faces.series_tables import SeriesTables
from neptune_async._faces.stored_files import StoredFile, bound
from neptune_async._faces.view import checked_count
from neptune_async._faces.waiting import join, result, waiting
from neptune_async._messenger import messenger
from neptune_async._model import messages
from neptune_async._model.arguments import checked_timeout
from neptune_async._model.values import AtomValue, SeriesValue, SetMember
from neptune_async.exceptions import NeptuneAsyncError, StorageError
from neptune_async.variable import Point

__all__ = [
    'Experiment',
    'ExperimentView',
    'StoredFile',
    'compare',
    'delete_experiment',
    'fetch_metrics',
    'list_experiments',
]

T = TypeVar('T')

_REPR_TIMEOUT = 2.0
"""Seconds that a notebook waits at most for what it shows of an experiment."""


class ExperimentView(SeriesTables):
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
        return self._read(values.series, checked_count('tail', n), with_steps, with_timestamps)

    @overload
    def all(
        self, with_steps: Literal[False] = False, with_timestamps: Literal[False] = False
    ) -> list[SeriesValue]: ...
    @overload
    def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]: ...
    def all(self, with_steps: bool = False, with_timestamps: bool = False) -> list[Any]:
        """Return all values of the series; else as ``tail``."""
        return self._read(values.series, None, with_steps, with_timestamps)

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
        position = experiment._ask(following.begin_follow, self._path, last)
        points = None
        while points is None or points:
            position, points = experiment._ask(following.follow, self._path, position, timeout)
            yield from map(experiment._bound, points)

    def read(self) -> AtomValue:
        """Return the value of the atom.

        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Atom.
        :raises StorageError: storage cannot take what was assigned before, or answer.
        """
        value: AtomValue = self._read(values.atom)
        return value

    def get(self) -> set[SetMember]:
        """Return the values of the set, as a set of their own.

        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Set.
        :raises StorageError: storage cannot take what was added before, or answer.
        """
        return self._read(values.members)

    def variable_type(self) -> tuple[ContainerType, type]:
        """Return container and content of the variable, such as ``(Series, float)``.

        :raises VariableNotFoundError: there is no variable at the path.
        """
        return self._read(values.variable_type)

    def namespace_contents(self) -> dict[str, NamespaceEntry]:
        """Return what is in the namespace, one level, sorted by name: the container of each
        variable, and ``Namespace`` for each namespace.

        :raises VariableNotFoundError: the path is no namespace.
        """
        return self._read(values.namespace_contents)

    def to_dict(self) -> dict[str, Any]:
        """Return what the variables of the namespace hold; see ``Experiment.to_dict``.

        :raises VariableNotFoundError: the path is no namespace.
        """
        return self._read(tables.contents)

    def exists(self) -> bool:
        """Tell whether there is a variable at the path, or below it."""
        return self._read(values.exists)

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
    :param max_pending_bytes: bytes that files which wait to be stored may have in memory.
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
    :param on_error: called when storage starts to fail, and when it rejects
        operations, on a thread that nobody waits for: it may log, flush and read. Of a path
        that is rejected again and again it is told once.
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
        max_pending_bytes: int = DEFAULT_PENDING_BYTES,
        overflow: Overflow = 'block',
        durability: Durability = 'interval',
        strict: bool = True,
        on_error: OnError | None = None,
    ) -> None:
        super().__init__(
            name, storage=storage, mode=mode, echo=echo, flush_interval=flush_interval,
            max_pending=max_pending, max_pending_bytes=max_pending_bytes, overflow=overflow,
            durability=durability, strict=strict, on_error=on_error,
        )  # fmt: skip
        self._wait_until_open()

    def _wait_until_open(self) -> None:
        opening = self._open()
        try:
            self._opened(result(opening))
        except BaseException:
            self._finalizer()
            join(self._worker)
            raise

    def namespace_contents(self) -> dict[str, NamespaceEntry]:
        """Return what is in the root, one level, sorted by name: the container of each
        variable, and ``Namespace`` for each namespace.
        """
        return self._read(values.namespace_contents, None)

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
        self._ask(deleting.rewind, where, last)
        self._rewound(where, last)

    def rename(self, name: str) -> None:
        """Give the experiment another name, in its store and for all that have it open in this
        process.

        ::

            >>> with Experiment('NPT-1', storage=':memory:') as exp:
            ...     exp.rename('NPT-2')
            ...     exp.name
            'NPT-2'

        What was logged before is stored first. What a process that has died on another machine left
        in a file there is stored under the old name, once that is taken in.

        :raises InvalidNameError: it is no name.
        :raises ExperimentExistsError: another experiment has that name.
        :raises StorageBusyError: another process has the experiment open for writing.
        :raises ReadOnlyError: in mode 'read'.
        """
        old_name, new_name = self.name, self._renaming(name)
        self._ask(renaming.rename, None, new_name)
        self._renamed(old_name)

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
            closing.ended.result()
        except BaseException:
            if not closing.ended.is_settled:
                closing.give_up()
                closing.ended.wait()
            raise
        finally:
            workers.release(self._worker)
            join(self._worker)
            messenger.drain()
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
            return _html.table(title, path, self._glance(preview, path))
        except NeptuneAsyncError as error:
            return _html.notice(title, error)

    def _glance(self, function: Function[T], path: str | None, *arguments: object) -> T:
        """Ask for what is only shown: not for long, and what storage has rejected is not raised,
        and so hidden, here.
        """
        self._require_open()
        looking = self._worker.call(function, self._worker, self._state, path, *arguments)
        try:
            return result(looking, _REPR_TIMEOUT)
        except TimeoutError:
            why = f'storage gave no answer within {_REPR_TIMEOUT:g} seconds'
            raise StorageError(why) from None

    def _delete(self, path: str) -> None:
        self._require_writable()
        self._ask(deleting.delete, path)
        self._echoed(path, 'delete')

    def _flush(self, timeout: float | None, sync: bool = False) -> None:
        seconds = checked_timeout(timeout)
        flush = self._flushing(sync)
        if flush is None:
            return
        try:
            result(self._worker.call(flush, self._state), seconds)
        except TimeoutError:
            raise messages.flush_timeout(self.name, self.pending, seconds) from None

    def _read(self, read: Function[T], path: str | None, *arguments: object) -> T:
        answer = self._ask(read, path, *arguments)
        self._state.raise_rejections()
        return self._bound(answer)

    def _bound(self, answer: T) -> T:
        """Return an answer, with files whose content can be read."""
        return bound(answer, lambda file: StoredFile(file, self))

    def _ask(self, function: Function[T], path: str | None, *arguments: object) -> T:
        """Wait for the worker; what storage has rejected is left to other calls to raise."""
        self._require_open()
        return result(self._worker.call(function, self._worker, self._state, path, *arguments))


list_experiments = waiting(store_calls.list_experiments)
delete_experiment = waiting(store_calls.delete_experiment)
compare = waiting(store_calls.compare)
fetch_metrics = waiting(store_calls.fetch_metrics)
for _function in (list_experiments, delete_experiment, compare, fetch_metrics):
    _function.__module__ = __name__  # where pickle finds it
