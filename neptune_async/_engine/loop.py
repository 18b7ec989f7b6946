"""A thread with an event loop, and the ways into it from other threads."""

from __future__ import annotations

import logging
import sys
import threading
import time
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

logger = logging.getLogger('neptune_async')

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Seconds after which a thread that died begins anew, at first and later."""

T = TypeVar('T')
Function: TypeAlias = Callable[..., Coroutine[Any, Any, T]]


class LoopThread:
    """A daemon thread that runs one coroutine, and others that threads call, on its loop.

    It starts with the first call, and ends with its coroutine; a call after
    that starts it again. Nothing here waits for the loop: to begin a call
    takes microseconds from any thread, an event loop's own included.

    :param main: what it runs; all else is cancelled when it returns, and waited for.
    :param close: what it runs after that.
    :ivar lock: held while something is posted.
    """

    def __init__(
        self,
        name: str,
        main: Callable[[], Coroutine[Any, Any, None]],
        close: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._name = name
        self._main = main
        self._close = close
        # A signal handler or a finalizer may post while the thread that it interrupts does.
        self.lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: AbstractEventLoop | None = None
        self._tasks: TaskGroup | None = None
        self._early: list[Callable[[], object]] = []

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
        with self.lock:
            if self._thread is None:
                if sys.is_finalizing():  # before Python 3.12, its start would never return
                    raise RuntimeError('the interpreter is ending, and starts no more threads')
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread = thread
                try:
                    thread.start()
                except BaseException:
                    self._thread = None
                    raise
            if self._loop is None:
                self._early.append(call)
            else:
                # In the loop's context: the caller's would say that trio runs here.
                self._loop.call_soon_threadsafe(call, context=self._context)

    def call(
        self, function: Function[T], *args: object, undo: Callable[[T], object] | None = None
    ) -> Future[T]:
        """Run a coroutine function on the loop; to cancel the future cancels its task.

        :param undo: what is called on the loop with a result that came just after that.
        """
        future: Future[T] = Future()
        self.post(self._begin, future, partial(self._perform, future, function, args, undo))
        return future

    def join(self, timeout: float) -> None:
        """Wait, on another thread, until the thread has ended."""
        thread = self._thread
        if thread is not None and not self.is_current:
            thread.join(timeout)

    def _begin(self, future: Future[Any], task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._tasks is None or get_running_loop() is not self._loop:
            future.cancel()  # the coroutine came to its end before this was its turn
        elif not future.cancelled():
            self._tasks.start_soon(task)

    async def _perform(
        self,
        future: Future[T],
        function: Function[T],
        args: tuple[object, ...],
        undo: Callable[[T], object] | None,
    ) -> None:
        # A scope, not the task's own cancel, which a shield would not keep out.
        with anyio.CancelScope() as scope:
            future.add_done_callback(partial(self._cancel, scope))
            try:
                result = await function(*args)
            except anyio.get_cancelled_exc_class():
                future.cancel()
                raise
            except BaseException as error:
                _settle(future.set_exception, error)
            else:
                if not _settle(future.set_result, result) and undo is not None:
                    undo(result)

    def _cancel(self, scope: anyio.CancelScope, future: Future[Any]) -> None:
        if future.cancelled() and self.is_running and not self.is_current:
            self.post(scope.cancel)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while self.is_current:
            began = time.monotonic()
            try:
                # asyncio, because aiosqlite and asyncpg need it, whatever the caller's loop is.
                anyio.run(self._serve, backend='asyncio')
            except BaseException:
                logger.critical('%s died, and begins anew', self._name, exc_info=True)
                time.sleep(pause)
                lived = time.monotonic() - began
                pause = min(2 * pause, _LONGEST_PAUSE) if lived < _LONGEST_PAUSE else _FIRST_PAUSE

    async def _serve(self) -> None:
        loop = get_running_loop()
        with self.lock:
            self._context = copy_context()
            self._loop = loop
            early, self._early = self._early, []
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                for call in early:
                    loop.call_soon(call, context=self._context)
                try:
                    await self._main()
                finally:
                    # A task that begins while the others are cancelled might never be.
                    self._tasks = None
                tasks.cancel_scope.cancel()
            await self._close()
        except BaseException:
            with self.lock:  # what was about to be posted would never have its turn
                self._loop = None
            raise
        with self.lock:
            self._loop = self._thread = None
        # What was posted just before has its turn, and is told that this is the end.
        await anyio.lowlevel.checkpoint()


def _settle(settle: Callable[[T], None], outcome: T) -> bool:
    """Give a future its outcome; False if it was cancelled just before."""
    try:
        settle(outcome)
    except InvalidStateError:
        return False
    return True
