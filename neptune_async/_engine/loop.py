"""A thread with an event loop, and the ways into it from other threads."""

from __future__ import annotations

import logging
import threading
from asyncio import AbstractEventLoop, Task, get_running_loop
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio

logger = logging.getLogger('neptune_async')

T = TypeVar('T')
Function: TypeAlias = Callable[..., Coroutine[Any, Any, T]]


class LoopThread:
    """A daemon thread that runs one coroutine, and others that threads call, on its loop.

    It starts with the first call, and ends with its coroutine; a call after
    that starts it again. Nothing here waits for the loop: to begin a call
    takes microseconds from any thread, an event loop's own included.

    :param main: what it runs; all else is cancelled when it returns.
    :param on_start: called on the thread that starts it.
    """

    def __init__(
        self,
        name: str,
        main: Callable[[], Coroutine[Any, Any, None]],
        on_start: Callable[[], object],
    ) -> None:
        self._name = name
        self._main = main
        self._on_start = on_start
        # A signal handler or a finalizer may post while the thread that it interrupts does.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: AbstractEventLoop | None = None
        self._early: list[Callable[[], object]] = []
        self._tasks: set[Task[Any]] = set()

    @property
    def is_current(self) -> bool:
        """Whether the caller is on this thread."""
        return self._thread is threading.current_thread()

    @property
    def is_running(self) -> bool:
        """Whether the thread has been started and has not ended."""
        return self._thread is not None

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Run a callback on the loop, soon.

        :raises RuntimeError: when the thread cannot be started any more, since
            the interpreter is ending.
        """
        call = partial(callback, *args)
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
                self._on_start()
            if self._loop is None:
                self._early.append(call)
            else:
                # In the loop's context: the caller's would say that trio runs here.
                self._loop.call_soon_threadsafe(call, context=self._context)

    def call(self, function: Function[T], *args: object) -> Future[T]:
        """Run a coroutine function on the loop; to cancel the future cancels its task."""
        future: Future[T] = Future()
        self.post(self._begin, future, function, args)
        return future

    def join(self, timeout: float) -> None:
        """Wait, on another thread, until the thread has ended."""
        thread = self._thread
        if thread is not None and not self.is_current:
            thread.join(timeout)

    def _begin(self, future: Future[T], function: Function[T], args: tuple[object, ...]) -> None:
        if future.cancelled():
            return
        task = get_running_loop().create_task(function(*args))
        # The loop itself keeps weak references only.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(partial(_pass_on, future))
        future.add_done_callback(partial(self._cancel, task))

    def _cancel(self, task: Task[Any], future: Future[Any]) -> None:
        if future.cancelled() and self.is_running:
            self.post(task.cancel)

    def _run(self) -> None:
        try:
            # asyncio, because aiosqlite and asyncpg need it, whatever the caller's loop is.
            anyio.run(self._serve, backend='asyncio')
        except BaseException:
            logger.critical('%s died; the next call starts it anew', self._name, exc_info=True)
        finally:
            with self._lock:
                if self.is_current:
                    self._loop = self._thread = None

    async def _serve(self) -> None:
        loop = get_running_loop()
        with self._lock:
            self._context = copy_context()
            self._loop = loop
            early, self._early = self._early, []
        for call in early:
            loop.call_soon(call, context=self._context)
        try:
            await self._main()
        finally:
            with self._lock:
                self._loop = self._thread = None


def _pass_on(future: Future[T], task: Task[T]) -> None:
    """Give a future what its task has come to."""
    try:
        if task.cancelled():
            future.cancel()
        elif error := task.exception():
            future.set_exception(error)
        else:
            future.set_result(task.result())
    except InvalidStateError:
        pass  # the future was cancelled just before
