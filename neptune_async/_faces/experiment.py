"""What the experiments of both faces share: arguments, opening, writes and pickling.

A write only adds to the queue, so it is the same plain call on both faces. The two faces wait for
the worker in different ways, for reads among others. What a read does is in ``_engine.reading``.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, get_args

from neptune_async._engine.durability import journal
from neptune_async._engine.lifecycle import closing, workers
from neptune_async._engine.lifecycle.closing import Closing
from neptune_async._engine.lifecycle.opening import Durability, Mode, Options, open_experiment
from neptune_async._engine.queueing.counters import Stats
from neptune_async._engine.queueing.experiment_state import ExperimentState, OnError
from neptune_async._engine.queueing.queue import DEFAULT_PENDING_BYTES, Overflow, Policy
from neptune_async._engine.queueing.variables import NO_ENTRY
from neptune_async._engine.queueing.writes import Origin
from neptune_async._engine.worker.loop_thread import Function
from neptune_async._engine.worker.reply import Reply
from neptune_async._engine.worker.worker import Worker
from neptune_async._faces.echo import Echo, echo_is_on
from neptune_async._faces.view import BaseView
from neptune_async._model import messages
from neptune_async._model.arguments import (
    check_choice,
    check_limit,
    checked_seconds,
    checked_timeout,
)
from neptune_async._model.paths import checked_name, normalise
from neptune_async._model.values import checked_step, shown_step
from neptune_async._storage import registry
from neptune_async.exceptions import (
    InvalidArgumentError,
    InvalidPathError,
    NeptuneAsyncError,
    QueueFullError,
)

E = TypeVar('E', bound='BaseExperiment[Any]')
View = TypeVar('View', bound='BaseView')
T = TypeVar('T')


class BaseExperiment(Generic[View]):
    """An open experiment. The subclasses add how to wait for the worker."""

    _view_type: type[View]

    # Without this, Python would iterate by calling __getitem__ with 0, 1, ...
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
        max_pending_bytes: int = DEFAULT_PENDING_BYTES,
        overflow: Overflow = 'block',
        durability: Durability = 'interval',
        strict: bool = True,
        on_error: OnError | None = None,
    ) -> None:
        _check_arguments(name, mode, flush_interval, overflow, durability)
        check_limit('max_pending', max_pending, 'operations')
        check_limit('max_pending_bytes', max_pending_bytes, 'bytes')
        self._wanted_name = None if name is None else checked_name(name)
        self._url = registry.MEMORY if mode == 'disabled' else registry.resolve(storage)
        if durability == 'call' and mode not in ('disabled', 'read'):
            self._require_journal()
        self._mode: Mode = mode
        self._echo = Echo() if echo_is_on(echo) else None
        self._options = Options(flush_interval, max_pending, durability, max_pending_bytes)
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

    def _open(self) -> Reply[ExperimentState]:
        """Start to open the experiment. The caller gives the result to ``_opened``."""
        self._worker = self._acquired()
        replies: list[Reply[ExperimentState]] = []
        # Only this finalizer undoes the opening, and only once, even if an interrupt comes.
        self._finalizer = weakref.finalize(self, _let_go, self._worker, replies, self._is_writer)
        self._finalizer.atexit = False
        try:
            replies.append(
                self._worker.call(
                    open_experiment,
                    self._worker, self._wanted_name, self._mode, self._options,
                    self._echo is not None,
                    undo=partial(closing.give_back, self._worker, is_writer=self._is_writer),
                )
            )  # fmt: skip
        except BaseException:
            self._finalizer()
            raise
        return replies[0]

    def _acquired(self) -> Worker:
        if self._forked_in is not None:
            return workers.share(self._forked_in)
        return workers.acquire(self._url, shared=self._mode != 'disabled')

    def _opened(self, state: ExperimentState) -> None:
        self._shared = state
        if self._on_error is not None:
            state.on_error.append(self._on_error)
        if self._echo is not None:
            self._echo.experiment = state

    def __getitem__(self, path: str) -> View:
        """Return the view of a path. The path may have a variable, be a namespace, or neither."""
        try:
            return self._views[path]
        except (KeyError, TypeError):
            return self._view_type(self, self._normalised(path), path)

    def __setitem__(self, path: str, value: object) -> None:
        """Assign a value: ``exp['lr'] = 0.1`` is ``exp['lr'].assign(0.1)``."""
        self[path].assign(value)

    def _normalised(self, path: object) -> str:
        try:
            return normalise(path)
        except InvalidPathError as error:
            raise messages.located(error, self.name) from None

    @property
    def _is_writer(self) -> bool:
        return self._mode != 'read'

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
        """Return the arguments for another process to open this experiment."""
        options = self._options
        return {
            'name': self.name if self._shared else self._wanted_name,
            'storage': None if self._mode == 'disabled' else self._url,
            'mode': 'resume' if self._mode == 'create' else self._mode,
            'echo': self._echo is not None,
            'flush_interval': options.flush_interval,
            'max_pending': options.max_pending,
            'max_pending_bytes': options.max_pending_bytes,
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
        """Return this view for its path from now on. Closing the experiment cuts it off."""
        self._views.setdefault(name, view)  # type: ignore[arg-type]  # made by _view_type
        self._kept.append(view)

    def _closing(self, timeout: object) -> Closing | None:
        """Refuse all further calls of this object, and start to close the experiment.

        :returns: what to wait for; None if this object was closed before, or if the end of the
            process has stored everything already.
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
            workers.release(self._worker)
            return None
        return Closing(self._worker, self._state, self._is_writer, seconds)

    def _rewinding(self, step: object, path: object) -> tuple[str, float]:
        """Return the path and the step of a rewind. An empty path means the whole experiment."""
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

    def _renaming(self, name: object) -> str:
        """Return the new name, checked."""
        self._require_writable()
        return checked_name(name)

    def _renamed(self, old_name: str) -> None:
        if old_name != self.name:
            self._echoed('', f'it was {old_name} before')

    @contextmanager
    def _forking(
        self, name: object, step: object
    ) -> Iterator[tuple[str, tuple[str, float | None, bytes]]]:
        """Give the name of a fork, and the arguments of ``experiments.fork``. The body creates the
        fork and opens it.

        If an earlier call failed in between, nobody knows whether the fork exists. The same call
        gets the same mark then, if nothing was logged since, so that it does not fail on its own
        fork.
        """
        self._require_open()
        new_name = checked_name(name)
        last = None if step is None else self._checked_step(step)
        call = last, self._state.queue.offered
        # Remove the entry: of two calls at the same time, only one repeats the earlier call.
        earlier, mark = self._state.broken_forks.pop(new_name, (None, b''))
        if earlier != call:
            mark = uuid.uuid4().bytes
        try:
            yield new_name, (new_name, last, mark)
        except BaseException:
            self._state.broken_forks[new_name] = call, mark
            raise

    def _forked(self: E, name: str) -> E:
        """Return an object for the new experiment of a fork. It is not open yet."""
        mode = 'disabled' if self._mode == 'disabled' else 'resume'
        fork = type(self).__new__(type(self))
        BaseExperiment.__init__(fork, **{**self._arguments(), 'name': name, 'mode': mode})
        # Only its worker may lead to a store in memory.
        fork._forked_in = self._worker
        return fork

    def _flushing(self, sync: bool) -> Function[None] | None:
        """Return what the worker has to run for a flush; None if there is nothing to do."""
        if sync and self._mode != 'read':
            return self._worker.sync
        return self._worker.flush if self._state.queue.pending else None

    def _write(self, write: Callable[..., None], *arguments: object) -> None:
        """Check a write, add it to the queue, and print it if echo is on.

        With ``strict=False``, count a refused argument and warn once.
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


def _check_arguments(
    name: object,
    mode: object,
    flush_interval: object,
    overflow: object,
    durability: object,
) -> None:
    check_choice('mode', mode, get_args(Mode))
    check_choice('overflow', overflow, get_args(Overflow))
    check_choice('durability', durability, get_args(Durability))
    checked_seconds('flush_interval', flush_interval)
    if mode == 'read' and name is None:
        raise InvalidArgumentError("mode='read' needs the name of the experiment to read")


def reopened(experiment_type: Callable[..., T], arguments: dict[str, Any]) -> T:
    """Open an experiment that another process has pickled."""
    return experiment_type(**arguments)


def _let_go(worker: Worker, opening: list[Reply[ExperimentState]], is_writer: bool) -> None:
    """Undo an opening that failed or was interrupted, or close an experiment that nobody closed.
    Nobody can write to it any more.
    """
    if opening:
        # An opening that was interrupted may have succeeded before it could be stopped.
        opening[0].finally_do(partial(_retire, worker, opening[0], is_writer))
    else:
        workers.release(worker)


def _retire(worker: Worker, opening: Reply[ExperimentState], is_writer: bool) -> None:
    release = partial(workers.release, worker)
    if opening.error is not None:
        release()
    else:
        worker.thread.call(closing.retire, worker, opening.result(), is_writer, release)
