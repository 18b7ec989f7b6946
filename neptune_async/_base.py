"""What the synchronous and the awaited face share: arguments, writes, echo, pickling.

Writes only enqueue, so they are the same plain calls on both. Reads differ in
how they wait for the worker; what they ask of it is in ``_engine.reads``.
"""

from __future__ import annotations

import builtins
import operator
import os
import sys
import time
import uuid
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Generic, SupportsFloat, TypeAlias, TypeVar, get_args

from neptune_async._engine import experiments, journal, lifecycle
from neptune_async._engine.entries import NO_ENTRY, Entry
from neptune_async._engine.experiments import Closing, Durability, Mode, Options
from neptune_async._engine.loop import Function
from neptune_async._engine.queue import Overflow, Policy, Queue, Stats
from neptune_async._engine.state import ExperimentState, OnError, Origin
from neptune_async._engine.unlocked import unlocked
from neptune_async._engine.worker import Worker
from neptune_async._model import messages
from neptune_async._model.arguments import check_choice, checked_seconds, checked_timeout
from neptune_async._model.operations import AUTOMATIC_STEP, POINT
from neptune_async._model.paths import checked_name, normalise
from neptune_async._model.values import MAX_STEP, checked_step, shown_step
from neptune_async._storage import registry
from neptune_async.exceptions import (
    InvalidArgumentError,
    InvalidPathError,
    NeptuneAsyncError,
    QueueFullError,
)

ECHO_VARIABLE = 'NEPTUNE_ASYNC_ECHO'
_ECHO_LINES = 100
"""Lines that echo prints in a second at most."""

E = TypeVar('E', bound='BaseExperiment[Any]')
View = TypeVar('View', bound='BaseView')
T = TypeVar('T')

AtomScalar: TypeAlias = bool | int | float | str | datetime | None
SeriesScalar: TypeAlias = SupportsFloat | str | datetime
SetScalar: TypeAlias = bool | int | float | str
Loggable: TypeAlias = SeriesScalar | Mapping[str, Any]

_pack_point = POINT.pack
_now = time.time


class BaseExperiment(Generic[View]):
    """An open experiment, but for the ways to wait."""

    _view_type: type[View]

    # Else Python would iterate by calling __getitem__ with 0, 1, ...
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

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
        _check_arguments(name, mode, flush_interval, max_pending, overflow, durability)
        self._wanted_name = None if name is None else checked_name(name)
        self._url = registry.MEMORY if mode == 'disabled' else registry.resolve(storage)
        if durability == 'call' and mode not in ('disabled', 'read'):
            self._require_journal()
        self._mode: Mode = mode
        self._echo = _Echo() if _echo_is_on(echo) else None
        self._options = Options(flush_interval, max_pending, durability)
        self._overflow: Overflow = overflow
        self._origin = Origin(self._policy(overflow), self._echo)
        self._strict = strict
        self._on_error = on_error
        self._views: dict[str, View] = {}
        self._kept: list[BaseView] = []
        self._is_closed = False
        self._shared: ExperimentState | None = None
        self._forked_in: Worker | None = None

    def _require_journal(self) -> None:
        if self._url == registry.MEMORY:
            raise InvalidArgumentError(
                "durability='call' needs a store in a file: what is in memory survives nothing"
            )
        if not journal.IS_AVAILABLE:
            raise InvalidArgumentError(
                "durability='call' needs file locks that this system does not have; "
                "choose 'interval' or 'power'"
            )

    def _policy(self, overflow: Overflow) -> Policy:
        return overflow

    def _open(self) -> Future[ExperimentState]:
        """Begin to open the experiment; ``_opened`` takes what comes of it."""
        self._worker = self._acquired()
        opening: list[Future[ExperimentState]] = []
        # The only one to undo it, once, whenever an interrupt comes in.
        self._finalizer = weakref.finalize(self, _let_go, self._worker, opening)
        self._finalizer.atexit = False
        try:
            opening.append(
                self._worker.call(
                    experiments.open_experiment,
                    self._worker, self._wanted_name, self._mode, self._options,
                    self._echo is not None,
                    undo=partial(experiments.give_back, self._worker),
                )
            )  # fmt: skip
        except BaseException:
            self._finalizer()
            raise
        return opening[0]

    def _acquired(self) -> Worker:
        if self._forked_in is not None:
            return lifecycle.share(self._forked_in)
        return lifecycle.acquire(self._url, shared=self._mode != 'disabled')

    def _opened(self, state: ExperimentState) -> None:
        self._shared = state
        if self._on_error is not None:
            state.on_error.append(self._on_error)
        if self._echo is not None:
            self._echo.name = state.name

    def __getitem__(self, path: str) -> View:
        """Return the view of a path, which may have a variable, or be a namespace, or neither."""
        try:
            return self._views[path]
        except (KeyError, TypeError):
            return self._view_type(self, self._normalised(path), path)

    def _normalised(self, path: object) -> str:
        try:
            return normalise(path)
        except InvalidPathError as error:
            raise messages.located(error, self.name) from None

    @property
    def _state(self) -> ExperimentState:
        if self._shared is None:
            raise messages.not_open()
        return self._shared

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._state.name

    @property
    def pending(self) -> int:
        """How many operations of this process are not stored yet."""
        return self._state.queue.pending

    def stats(self) -> Stats:
        """Return the counters of this process: accepted, committed, pending, rejected, dropped,
        retries, last_error and oldest_pending_age.

        ``accepted == committed + pending + rejected + dropped`` at any time.
        """
        return self._state.stats()

    def __repr__(self) -> str:
        if self._shared is None:
            return f'<{type(self).__name__} {self._wanted_name!r}, not open>'
        return f'<{type(self).__name__} {self.name!r} in {self._worker.location}>'

    def __reduce__(self) -> tuple[object, ...]:
        return reopened, (type(self), self._arguments())

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments with which another process opens the experiment."""
        options = self._options
        return {
            'name': self.name if self._shared else self._wanted_name,
            'storage': None if self._mode == 'disabled' else self._url,
            'mode': 'resume' if self._mode == 'create' else self._mode,
            'echo': self._echo is not None,
            'flush_interval': options.flush_interval,
            'max_pending': options.max_pending,
            'overflow': self._overflow,
            'durability': options.durability,
            'strict': self._strict,
            'on_error': self._on_error,
        }

    def _require_open(self) -> None:
        if self._is_closed:
            raise messages.closed(self.name)

    def _require_writable(self) -> None:
        self._require_open()
        if self._mode == 'read':
            raise messages.read_only(self.name)

    def _keep(self, view: BaseView, name: str) -> None:
        """Return this view for its path from now on; it is cut off when the experiment closes."""
        self._views.setdefault(name, view)  # type: ignore[arg-type]  # made by _view_type
        self._kept.append(view)

    def _closing(self, timeout: object) -> Closing | None:
        """Refuse all further calls of this object, and begin to let go of the experiment; None if
        that was done before, or the process has stored its last.
        """
        seconds = checked_timeout(timeout)
        self._worker.require_waitable()
        if self._is_closed:
            return None
        self._is_closed = True
        for view in self._kept:
            view._entry, view._leaves = NO_ENTRY, None
        self._kept.clear()
        self._views.clear()
        self._finalizer.detach()
        if self._on_error is not None:
            self._state.on_error.remove(self._on_error)
        if self._echo is not None:
            self._echo.count_hidden()
        if self._state.queue.is_finished:
            lifecycle.release(self._worker)
            return None
        return Closing(self._worker, self._state, seconds)

    def _rewinding(self, step: object, path: object) -> tuple[str, float]:
        """Return the path and the step of a rewind; the whole experiment has an empty path."""
        self._require_writable()
        where = '' if path == '' else self._normalised(path)
        return where, self._checked_step(step)

    def _checked_step(self, step: object) -> float:
        try:
            return checked_step(step)
        except NeptuneAsyncError as error:
            raise messages.located(error, self.name) from None

    def _echoed(self, path: str, text: str) -> None:
        if self._echo is not None:
            self._echo(path, text)
            self._echo.show()

    def _rewound(self, path: str, step: float) -> None:
        self._echoed(path, f'rewind step={shown_step(step)}')

    @contextmanager
    def _forking(
        self, name: object, step: object
    ) -> Iterator[tuple[str, tuple[str, float | None, bytes]]]:
        """Give the name of a fork, which the body makes and opens, and what tells it from others:
        the same as in a call before whose end is not known, if nothing was logged since.
        """
        self._require_open()
        new_name = checked_name(name)
        last = None if step is None else self._checked_step(step)
        call = last, self._state.queue.offered
        # Taken away, so that of two calls at once only one is such a call again.
        earlier, mark = self._state.broken_forks.pop(new_name, (None, b''))
        if earlier != call:
            mark = uuid.uuid4().bytes
        try:
            yield new_name, (new_name, last, mark)
        except BaseException:
            self._state.broken_forks[new_name] = call, mark
            raise

    def _forked(self: E, name: str) -> E:
        """Return the experiment that a fork has made, to be opened."""
        mode = 'disabled' if self._mode == 'disabled' else 'resume'
        fork = type(self).__new__(type(self))
        BaseExperiment.__init__(fork, **{**self._arguments(), 'name': name, 'mode': mode})
        # A store in memory may have no other name than its worker.
        fork._forked_in = self._worker
        return fork

    def _flushing(self, sync: bool) -> Function[None] | None:
        """Return what the worker has to do for a flush; None if that is nothing."""
        if sync and self._mode != 'read':
            return self._worker.sync
        return self._worker.flush if self._state.queue.pending else None

    def _write(self, write: Callable[..., None], *arguments: object) -> None:
        """Check and enqueue a write, and print it if it is to be echoed.

        With ``strict=False`` an argument that is refused is counted, and warned of once.
        """
        try:
            self._require_writable()
            write(*arguments, origin=self._origin)
        except QueueFullError:
            raise
        except NeptuneAsyncError as error:
            if self._strict:
                raise
            self._state.refuse(error)
        if self._echo is not None:
            self._echo.show()


class BaseView:
    """A path of an experiment, with the methods that write to it.

    :ivar _entry: what is known of the variable; ``NO_ENTRY`` if that is nothing yet.
    :ivar _leaves: the same for the paths below that dicts have named.
    """

    __slots__ = ('_entry', '_experiment', '_leaves', '_name', '_path', '_queue', '_state')

    # Else Python would iterate by calling __getitem__ with 0, 1, ...
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __init__(self, experiment: BaseExperiment[Any], path: str, name: str) -> None:
        self._experiment = experiment
        self._path = path
        self._name = name
        self._state: ExperimentState = experiment._state
        self._queue: Queue = self._state.queue
        self._entry = NO_ENTRY
        self._leaves: dict[str, Entry] | None = None

    def _below(self, path: str) -> str:
        return f'{self._path}/{self._experiment._normalised(path)}'

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._path!r} of experiment {self._state.name!r}>'

    @unlocked
    def log(
        self,
        value: Loggable,
        step: float | None = None,
        timestamp: float | datetime | None = None,
    ) -> None:
        """Append a value to the series, which the first call creates.

        Returns at once: the value is in memory, in order, and is stored within
        ``flush_interval``. Safe from any thread, and in a signal handler.

        :param value: a number, a str or a datetime, of the type that the series
            has; numbers become float. A dict is a batch: every leaf is logged
            to the path that its keys name below this one, or none is.
        :param step: an int within 2**53, or a finite float, in any order;
            absent, one more than the largest in the series, from 0.
        :param timestamp: seconds since the epoch, or a datetime (a naive one is
            local time); absent, now, but never before the last in the series.
        :raises UnsupportedValueError: no series can hold the value.
        :raises ContentTypeError: this series holds another type.
        :raises ContainerTypeError: the variable is no Series.
        :raises NamespaceConflictError: the path is a namespace, or below a variable.
        :raises InvalidStepError, InvalidTimestampError: as said above.
        :raises QueueFullError: with ``overflow='raise'``, when the queue is full.
        """
        # The hot path: what a training loop does millions of times. A float for a variable that
        # is known to hold floats needs no checks but these, and one call into C to enqueue it.
        if timestamp is None:
            if step is None:
                number: float = AUTOMATIC_STEP
            elif type(step) is int and -MAX_STEP <= step <= MAX_STEP:
                number = step
            else:
                return self._log(value, step, timestamp)
            queue = self._queue
            if isinstance(value, float):
                key = self._entry.key
                if key is not None and len(queue.points) < queue.mark:
                    queue.append_point(_pack_point(key, number, _now(), value))
                    return None
            elif type(value) is dict and self._log_floats(value, number):
                return None
        return self._log(value, step, timestamp)

    @unlocked
    def _log_floats(self, values: dict[str, object], step: float) -> bool:
        """Log a batch if it needs no checks: floats for variables that are known to hold floats."""
        leaves = self._leaves
        if leaves is None:
            return False
        points: list[float] = []
        now = _now()
        try:
            for name, value in values.items():
                key = leaves[name].key
                if key is None or not isinstance(value, float):
                    return False
                points += (key, step, now, value)
        except KeyError:
            return False
        queue = self._queue
        if len(queue.points) + len(points) > queue.mark:
            return False
        # One call for all: the worker then takes all or none of them.
        queue.append_points(array('d', points).tobytes())
        return True

    def _log(self, value: object, step: object, timestamp: object) -> None:
        self._experiment._write(self._state.log, self._path, value, step, timestamp)
        if self._state.numbers_steps or self._experiment._is_closed:
            return
        # The next log then finds the variable at once, and the next exp[path] this view.
        if self._entry is NO_ENTRY and self._leaves is None:
            self._experiment._keep(self, self._name)
        if isinstance(value, dict):
            paths = ((name, f'{self._path}/{str.__str__(name)}') for name in value)
            self._leaves = {name: self._state.entry(path) for name, path in paths}
        else:
            self._entry = self._state.entry(self._path)

    def extend(
        self,
        values: Iterable[SeriesScalar] | Mapping[str, Any],
        *,
        steps: Iterable[float] | None = None,
        timestamps: Iterable[float | datetime] | None = None,
    ) -> None:
        """Append several values to the series, as ``log`` does with one.

        :param values: what ``log`` takes, all of one type: a list, a generator,
            a one-dimensional array. A dict names a series below for each leaf.
        :param steps: as many as values; absent, as in ``log``.
        :param timestamps: as many as values; absent, now for all.
        :raises NeptuneAsyncError: as ``log`` does; nothing is logged then. A call that waits for
            room enters 16,384 points at a time: if the wait is broken off, by Ctrl-C or a
            ``close`` on another thread, those that had entered are logged.
        """
        self._experiment._write(self._state.extend, self._path, values, steps, timestamps)

    def assign(self, value: AtomScalar | Sequence[Any] | Mapping[str, Any]) -> None:
        """Replace the value of the atom, which the first call creates.

        :param value: a bool, int, float, str, datetime, None, or a list or tuple
            of these; its type may differ from the last. A dict is a batch: every
            leaf is assigned to the path that its keys name below this one, or
            none is.
        :raises UnsupportedValueError: no atom can hold the value.
        :raises ContainerTypeError: the variable is no Atom.
        :raises NamespaceConflictError: the path is a namespace, or below a variable.
        """
        self._experiment._write(self._state.assign, self._path, value)

    def add(self, *values: SetScalar | Mapping[str, Any]) -> None:
        """Add values to the set, which the first call creates.

        :param values: str, int, float or bool, all of the type that the set
            has. One dict is a batch: every leaf, a value or a list of values,
            is added to the set that its keys name below this path, or none is.
        :raises UnsupportedValueError: no set can hold the value, or types differ.
        :raises ContentTypeError: this set holds another type.
        :raises ContainerTypeError: the variable is no Set.
        :raises NamespaceConflictError: the path is a namespace, or below a variable.
        """
        self._experiment._write(self._state.add, self._path, values)

    def remove(self, *values: SetScalar) -> None:
        """Remove values from the set; one that is not in it is no error.

        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Set.
        """
        self._experiment._write(self._state.remove, self._path, values)

    def reset(self, *values: SetScalar) -> None:
        """Replace all values of the set, and so, if need be, their type.

        :raises UnsupportedValueError: no set can hold the value, or types differ.
        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Set.
        """
        self._experiment._write(self._state.reset, self._path, values)


class _Echo:
    """Prints a line a write, at most ``_ECHO_LINES`` a second.

    A line is noted under the queue's lock, so that lines come in the order of the writes, and
    printed when the lock is free. The write is accepted by then and must not raise: what stdout
    cannot encode is printed as with ``backslashreplace``, and a line that it does not take,
    closed or broken as it may be, is left out.
    """

    def __init__(self) -> None:
        self.name = ''
        self._lines: deque[str] = deque()
        self._second = 0.0
        self._printed = 0
        self._hidden = 0

    def __call__(self, path: str, text: str) -> None:
        """Note a write."""
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._note_hidden()
            self._second, self._printed = now, 0
        if self._printed == _ECHO_LINES:
            self._hidden += 1
            return
        self._printed += 1
        where = f'{path}: ' if path else ''
        self._lines.append(f'Experiment {self.name}: {where}{text}')

    def show(self) -> None:
        """Print what was noted."""
        while self._lines:
            # Another thread may have printed the last.
            with suppress(IndexError):
                _print(self._lines.popleft())

    def count_hidden(self) -> None:
        """Print how many lines were not shown, if any were not."""
        self._note_hidden()
        self.show()

    def _note_hidden(self) -> None:
        if self._hidden:
            self._lines.append(f'Experiment {self.name}: {self._hidden} more lines not shown')
            self._hidden = 0


def _print(line: str) -> None:
    encoding = getattr(sys.stdout, 'encoding', None) or 'utf-8'
    with suppress(Exception):  # sys.stdout may be anybody's code
        print(line.encode(encoding, 'backslashreplace').decode(encoding))


def _echo_is_on(echo: bool | None) -> bool:
    if echo is not None:
        return echo
    wish = os.environ.get(ECHO_VARIABLE, '').lower()
    if wish:
        if wish not in _WISHES:
            raise InvalidArgumentError(
                f'the environment variable {ECHO_VARIABLE} is {wish!r}; set it to 1 or 0'
            )
        return _WISHES[wish]
    return hasattr(sys, 'ps1') or hasattr(builtins, '__IPYTHON__')


_WISHES = {
    '1': True, 'true': True, 'yes': True, 'on': True,
    '0': False, 'false': False, 'no': False, 'off': False,
}  # fmt: skip


def _check_arguments(
    name: object,
    mode: object,
    flush_interval: object,
    max_pending: object,
    overflow: object,
    durability: object,
) -> None:
    check_choice('mode', mode, get_args(Mode))
    check_choice('overflow', overflow, get_args(Overflow))
    check_choice('durability', durability, get_args(Durability))
    checked_seconds('flush_interval', flush_interval)
    if type(max_pending) is not int or max_pending < 1:
        raise InvalidArgumentError(
            f'max_pending must be a positive number of operations, not {max_pending!r}'
        )
    if mode == 'read' and name is None:
        raise InvalidArgumentError("mode='read' needs the name of the experiment to read")


def checked_count(method: str, n: object) -> int:
    """Return how many points a method is to begin with, or to return.

    :raises InvalidArgumentError: for what is no int, or negative.
    """
    if type(n) is bool or not hasattr(type(n), '__index__'):
        raise InvalidArgumentError(f'{method} takes a number of points, not {n!r}')
    count = operator.index(n)  # type: ignore[arg-type]  # hasattr is the check
    if count < 0:
        raise InvalidArgumentError(f'{method} takes a number of points from 0 on, not {count}')
    return count


def reopened(experiment_type: Callable[..., T], arguments: dict[str, Any]) -> T:
    """Open an experiment that was pickled in another process."""
    return experiment_type(**arguments)


def _let_go(worker: Worker, opening: list[Future[ExperimentState]]) -> None:
    """Undo an opening that failed or was broken off, or close an experiment that was never closed,
    once nobody can write to it any more.
    """
    if opening:
        # One that was broken off may have come to its end before it could be stopped.
        opening[0].add_done_callback(partial(_retire, worker))
    else:
        lifecycle.release(worker)


def _retire(worker: Worker, opening: Future[ExperimentState]) -> None:
    release = partial(lifecycle.release, worker)
    if opening.cancelled() or opening.exception():
        release()
    else:
        worker.thread.call(experiments.retire, worker, opening.result(), release)
