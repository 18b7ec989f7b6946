"""The result of a call on another thread, and how to wait for it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import anyio
import anyio.lowlevel

from neptune_async._engine.queueing.locks import closed_latch
from neptune_async._messenger import messenger
from neptune_async.exceptions import StorageError

T = TypeVar('T')

_LOOK = 0.5
"""Seconds after which a thread that waits lets the interpreter look for signals."""


class _Outcome(NamedTuple):
    result: Any = None
    error: BaseException | None = None


_CANCELLED = _Outcome()


class Reply(Generic[T]):
    """The result or the error of a call on another thread. Only the first one counts.

    A reply is settled when it has a result or an error, or is cancelled.

    ``concurrent.futures.Future`` has a lock. The waiting thread holds it for a short time, and the
    thread that sets the result waits for it. If a signal handler comes in there and waits for the
    same thread, it never returns. This class has no lock: a thread that settles a reply waits for
    nothing, and a thread that waits for a reply holds nothing.
    """

    __slots__ = ('_callbacks', '_outcomes')

    def __init__(self) -> None:
        # At most one outcome. setdefault adds it in a single step: no other thread or signal
        # handler can come in between.
        self._outcomes: dict[str, _Outcome] = {}
        self._callbacks: deque[Callable[[], object]] = deque()

    @property
    def is_settled(self) -> bool:
        """Whether there is a result or an error, or the reply was cancelled."""
        return bool(self._outcomes)

    @property
    def is_cancelled(self) -> bool:
        """Whether the reply was cancelled before there was a result or an error."""
        return self._outcomes.get('') is _CANCELLED

    # ── For the thread that answers ──────────────────────────────────────────

    def settle(self, result: T) -> bool:
        """Set the result. Return False if the reply was settled before."""
        return self._put(_Outcome(result))

    def fail(self, error: BaseException) -> bool:
        """Set the error that the call raised. Return False if the reply was settled before."""
        return self._put(_Outcome(error=error))

    def cancel(self) -> bool:
        """Settle the reply without an answer. Return False if it was settled before."""
        return self._put(_CANCELLED)

    def _put(self, outcome: _Outcome) -> bool:
        is_first = self._outcomes.setdefault('', outcome) is outcome
        while self._callbacks:
            with suppress(IndexError):  # another thread was faster
                _call(self._callbacks.popleft())
        return is_first

    # ── For the thread that waits ────────────────────────────────────────────

    def then(self, callback: Callable[[], object]) -> bool:
        """Call a function when the reply is settled, on the thread that settles it.

        :returns: False if the reply is settled already. The function is not called then.
        """
        self._callbacks.append(callback)
        return not (self.is_settled and self.forget(callback))

    def finally_do(self, callback: Callable[[], object]) -> None:
        """Call a function when the reply is settled, or now if it is settled already."""
        if not self.then(callback):
            callback()

    def forget(self, callback: Callable[[], object]) -> bool:
        """Do not call a function any more. Return False if it was called, or soon will be."""
        with suppress(ValueError):
            self._callbacks.remove(callback)
            return True
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the reply is settled. Return False if that takes too long.

        :param timeout: the longest time to wait, in seconds; None has no limit.
        """
        if not self.is_settled:
            # One latch for each wait: a signal handler may interrupt a wait for this reply, and
            # wait for it, too.
            latch = closed_latch()
            if self.then(latch.release):
                end = math.inf if timeout is None else time.monotonic() + timeout
                # A signal that comes between the interpreter's last look and the wait of the
                # system does not end that wait, and its handler would run after it.
                while not latch.acquire(timeout=_next_wait(end)) and time.monotonic() < end:
                    pass
        return self.is_settled

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result, and return it. If the call raised an error, raise it.

        :param timeout: the longest time to wait, in seconds; None has no limit.
        :raises TimeoutError: there is no result after that time.
        :raises StorageError: the reply was cancelled.
        """
        if not self.wait(timeout):
            raise TimeoutError
        error = self.error
        if error is not None:
            raise error
        result: T = self._outcomes[''].result
        return result

    @property
    def error(self) -> BaseException | None:
        """The error that ``result`` raises for a settled reply; None if it raises nothing."""
        if self.is_cancelled:
            return StorageError('the worker ended before it answered; try again')
        return self._outcomes[''].error


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception as error:
        messenger.error('%r failed', callback, why=error)


async def arrival(reply: Reply[Any]) -> None:
    """Return once a reply is settled. Any event loop may run here."""
    arrived = anyio.Event()
    callback = partial(_tell, _caller_into_this_loop(), arrived.set)
    # The callback always runs on the thread that settles the reply, never on this loop's thread:
    # there it would take trio's lock, and the thread that settles replies would wait for it.
    if reply.then(callback):
        try:
            await arrived.wait()
        finally:
            reply.forget(callback)
    else:
        await anyio.lowlevel.checkpoint()


def _caller_into_this_loop() -> Callable[[Callable[[], object]], object]:
    """Return a function that schedules a callback on the running loop from another thread. It does
    not wait for the callback, as anyio's own functions do.
    """
    loop: Any = anyio.lowlevel.current_token().native_token  # a TrioToken, or asyncio's loop
    schedule: Callable[[Callable[[], object]], object] = (
        loop.run_sync_soon if hasattr(loop, 'run_sync_soon') else loop.call_soon_threadsafe
    )
    return schedule


def _tell(
    schedule: Callable[[Callable[[], object]], object], callback: Callable[[], object]
) -> None:
    # A loop that has ended raises. Then the task that waited has ended, too.
    with suppress(RuntimeError):
        schedule(callback)


def _next_wait(end: float) -> float:
    return min(_LOOK, max(0.0, end - time.monotonic()))
