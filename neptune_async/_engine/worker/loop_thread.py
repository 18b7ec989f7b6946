"""A thread with an event loop, and how other threads call functions on it."""

from __future__ import annotations

import sys
import threading
import time
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from neptune_async._engine.worker.reply import Reply
from neptune_async._held_signals import start
from neptune_async._messenger import keep_quiet, messenger, own
from neptune_async._patching import late_patch

keep_quiet('asyncio')

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Seconds to wait before a loop that died starts again: the first time, and at most."""

T = TypeVar('T')
Function: TypeAlias = Callable[..., Coroutine[Any, Any, T]]


class LoopThread:
    """A daemon thread with an event loop. It runs one main coroutine, and the coroutines that
    other threads call.

    The first call starts the thread. The thread ends when its main coroutine returns; the next
    call starts it again. No method but ``join`` waits for the loop: to begin a call takes
    microseconds on any thread, also on one that runs an event loop.

    :param main: the main coroutine function. When it returns, all other tasks are cancelled, and
        the thread waits until they have ended.
    :param close: runs after that.
    :ivar lock: held while a callback is posted.
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
        # Reentrant: a signal handler or finalizer may post while the thread it interrupts posts.
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

        :raises RuntimeError: the thread cannot start, because the interpreter is ending, or
            because gevent or eventlet has replaced threads too late.
        """
        call = partial(callback, *args)
        with self.lock:
            if self._thread is None:
                if sys.is_finalizing():  # before Python 3.12, its start would never return
                    raise RuntimeError('the interpreter is ending, and starts no more threads')
                if why := late_patch():
                    raise RuntimeError(why)
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread = thread
                own(thread)
                messenger.begin(thread)
                try:
                    start(thread)
                except RuntimeError:
                    self._thread = None
                    messenger.end(thread)
                    raise
            if self._loop is None:
                self._early.append(call)
            else:
                # In the loop's context: the caller's context may say that trio runs here.
                self._loop.call_soon_threadsafe(call, context=self._context)

    def call(
        self, function: Function[T], *args: object, undo: Callable[[T], object] | None = None
    ) -> Reply[T]:
        """Run a coroutine function on the loop. To cancel the reply cancels its task.

        :param undo: is called on the loop with the result, if the function returns one although
            the reply was cancelled.
        """
        reply: Reply[T] = Reply()
        self.post(self._begin, reply, partial(self._perform, reply, function, args, undo))
        return reply

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended. On the thread itself, return at once.

        :param timeout: the longest time to wait, in seconds.
        """
        thread = self._thread
        if thread is not None and not self.is_current:
            thread.join(timeout)

    def _begin(self, reply: Reply[Any], task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._tasks is None or get_running_loop() is not self._loop:
            reply.cancel()  # the main coroutine ended before this task could start
        elif not reply.is_cancelled:
            self._tasks.start_soon(task)

    async def _perform(
        self,
        reply: Reply[T],
        function: Function[T],
        args: tuple[object, ...],
        undo: Callable[[T], object] | None,
    ) -> None:
        # A scope, because a shield inside the task protects from it. Task.cancel ignores shields.
        with anyio.CancelScope() as scope:
            if not reply.then(partial(self._cancel, scope, reply)):
                scope.cancel()
            try:
                result = await function(*args)
            except anyio.get_cancelled_exc_class():
                reply.cancel()
                raise
            except BaseException as error:
                reply.fail(error)
            else:
                if not reply.settle(result) and undo is not None:
                    undo(result)

    def _cancel(self, scope: anyio.CancelScope, reply: Reply[Any]) -> None:
        if reply.is_cancelled and self.is_running and not self.is_current:
            self.post(scope.cancel)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while self.is_current:
            began = time.monotonic()
            try:
                # aiosqlite and asyncpg need asyncio. The caller's loop may be another.
                anyio.run(self._serve, backend='asyncio')
            except BaseException as error:
                messenger.critical('%s died, and begins anew', self._name, why=error)
                time.sleep(pause)
                lived = time.monotonic() - began
                pause = min(2 * pause, _LONGEST_PAUSE) if lived < _LONGEST_PAUSE else _FIRST_PAUSE
        messenger.end(threading.current_thread())

    async def _serve(self) -> None:
        loop = get_running_loop()
        loop.set_exception_handler(_report)
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
                    # A task that starts while the others are being cancelled may never be
                    # cancelled itself.
                    self._tasks = None
                tasks.cancel_scope.cancel()
            await self._close()
        except BaseException:
            with self.lock:  # a callback that is posted to this loop now would never run
                self._loop = None
            raise
        with self.lock:
            self._loop = self._thread = None
        # Callbacks that were posted just before still run now, and see that the loop has ended.
        await anyio.lowlevel.checkpoint()


class Event:
    """An event for the tasks of one ``LoopThread``: some wait for it, one of them sets it.

    ``asyncio.Event`` takes a lock that the whole process shares. Another thread may hold it when
    a signal handler interrupts that thread.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: deque[Future[None]] = deque()

    def is_set(self) -> bool:
        """Whether the event is set."""
        return self._is_set

    def set(self) -> None:
        """Wake all tasks that wait. Tasks that call ``wait`` later do not wait."""
        self._is_set = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Return once the event is set."""
        if self._is_set:
            await anyio.lowlevel.checkpoint()
            return
        future: Future[None] = get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            self._waiting.remove(future)


def _report(_: AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log through the messenger what asyncio would log by itself on this thread."""
    messenger.error('%s', context['message'], why=context.get('exception'))
