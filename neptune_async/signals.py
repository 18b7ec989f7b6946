"""Flushing when the process is told to end: SIGTERM from SLURM, Kubernetes or ``docker stop``."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

from neptune_async._engine import lifecycle
from neptune_async._model.arguments import checked_seconds
from neptune_async.exceptions import InvalidArgumentError

__all__ = ['flush_on_signal']

_Handler: TypeAlias = 'Callable[[int, FrameType | None], object] | int | None'


def flush_on_signal(signalnum: int = signal.SIGTERM, *, timeout: float = 10.0) -> None:
    """Have a signal flush all experiments of the process before it does what it does anyway.

    Without this, SIGTERM ends a Python process at once, and with it what was
    logged in the last ``flush_interval``. With it, all that was logged is
    stored first; what storage does not take within the timeout is kept in a
    spill file, which a line on stderr names; so it is when the signal interrupts
    code that holds a lock which storing needs. Then comes what the signal did before:
    the handler that it had, or, where that was the default, the end of the
    process by that signal.

    Call it in the main thread, after other handlers are set. SLURM sends
    SIGTERM 30 seconds before SIGKILL, Kubernetes too, ``docker stop`` 10.

    :param timeout: seconds that the flush may take.
    :raises InvalidArgumentError: for a timeout that is no positive number, for a
        signal that cannot be handled, and in another thread than the main one.
    """
    seconds = checked_seconds('timeout', timeout)
    try:
        previous = signal.getsignal(signalnum)
        if isinstance(previous, _FlushFirst):
            previous = previous.previous
        signal.signal(signalnum, _FlushFirst(previous, seconds))
    except (ValueError, OSError, TypeError) as error:
        raise InvalidArgumentError(f'signal {signalnum!r} cannot be handled: {error}') from error


class _FlushFirst:
    """A signal handler that flushes, then hands over to the one before it.

    :ivar previous: what the signal did before.
    """

    def __init__(self, previous: _Handler, timeout: float) -> None:
        self.previous = previous
        self._timeout = timeout

    def __call__(self, signalnum: int, frame: FrameType | None) -> None:
        if lifecycle.is_writing_here():
            # The worker, or another thread that it waits for, would wait for what the signal has
            # interrupted. It comes again when that is over.
            thread = threading.Thread(target=_send_again, args=(signalnum,), daemon=True)
            with suppress(RuntimeError):  # the interpreter is ending, and starts no more threads
                thread.start()
                return
        lifecycle.flush_all(self._timeout)
        if callable(self.previous):
            self.previous(signalnum, frame)
        elif self.previous == signal.SIG_DFL:
            signal.signal(signalnum, signal.SIG_DFL)
            signal.raise_signal(signalnum)


def _send_again(signalnum: int) -> None:
    lifecycle.wait_for_writes()
    if sys.platform == 'win32':
        signal.raise_signal(signalnum)
    else:
        # Not to this thread: what the main one waits for is to be interrupted.
        signal.pthread_kill(threading.main_thread().ident or 0, signalnum)
