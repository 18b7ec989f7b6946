"""Signals that flush all experiments, and then do what they did before."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

from neptune_async._engine.lifecycle.running_workers import running
from neptune_async._held_signals import start

_Handler: TypeAlias = 'Callable[[int, FrameType | None], object] | int | None'


def flush_first(signalnum: int, timeout: float) -> None:
    """Make a signal flush all experiments, and then do what it did before.

    :param timeout: the longest time that the flush may take, in seconds.
    :raises ValueError, OSError, TypeError: the signal cannot be handled, or not in this thread.
    """
    previous = signal.getsignal(signalnum)
    if isinstance(previous, _FlushFirst):
        previous = previous.previous
    signal.signal(signalnum, _FlushFirst(previous, timeout))


class _FlushFirst:
    """A signal handler that flushes, then calls the handler before it.

    :ivar previous: the handler of the signal before this one.
    """

    def __init__(self, previous: _Handler, timeout: float) -> None:
        self.previous = previous
        self._timeout = timeout

    def __call__(self, signalnum: int, frame: FrameType | None) -> None:
        if running.is_writing_here():
            # The signal has interrupted this thread while it holds a lock. A worker may need the
            # lock, so a flush would never end here. Send the signal again when the lock is free.
            thread = threading.Thread(target=_send_again, args=(signalnum,), daemon=True)
            with suppress(RuntimeError):  # the interpreter is ending, and starts no more threads
                start(thread)
                return
        running.flush(self._timeout)
        if callable(self.previous):
            self.previous(signalnum, frame)
        elif self.previous == signal.SIG_DFL:
            signal.signal(signalnum, signal.SIG_DFL)
            signal.raise_signal(signalnum)


def _send_again(signalnum: int) -> None:
    running.wait_for_writes()
    if sys.platform == 'win32':
        signal.raise_signal(signalnum)
    else:
        # To the main thread, because the signal is to interrupt what it waits for.
        signal.pthread_kill(threading.main_thread().ident or 0, signalnum)
