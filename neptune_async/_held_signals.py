"""Holding back the handlers of signals, while something is done that must not be broken off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_held() -> Iterator[None]:
    """Let the handlers of signals run after a block, not in it: one that raises, as that of Ctrl-C
    does, or that ends the process, would break the block off. A signal without a handler in Python
    does at once what it does anyway.

    On other threads than the main one there is nothing to hold: no handler runs there.
    """
    held = _Held()
    try:
        held.begin()
        yield
    finally:
        held.end()


def start(thread: threading.Thread) -> None:
    """Start a thread, with the handlers of signals held back: an error of a handler within
    ``Thread.start`` makes the new thread end with an error of its own, before it does anything.

    :raises RuntimeError: no more threads can be started.
    """
    with signals_held():
        thread.start()


class _Held:
    """The handler of all signals that have one, for a while."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        if threading.current_thread() is threading.main_thread():
            for number in signal.valid_signals():
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
        self._is_over = False
        self._waiting: dict[int, FrameType | None] = {}

    def __call__(self, signalnum: int, frame: FrameType | None) -> None:
        # One that raises may keep ``end`` from putting back those after it.
        if self._is_over:
            self._handlers[signalnum](signalnum, frame)
        else:
            self._waiting.setdefault(signalnum, frame)

    def begin(self) -> None:
        for number in self._handlers:
            signal.signal(number, self)

    def end(self) -> None:
        self._is_over = True
        try:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        finally:
            self._handle_all()

    def _handle_all(self) -> None:
        """Call the handlers of the signals that came, each of them, whatever they raise."""
        # Not by sending the signals again: asyncio has noted them already, and would call what was
        # given to ``add_signal_handler`` twice.
        while self._waiting:
            signalnum = next(iter(self._waiting))
            frame = self._waiting.pop(signalnum)
            try:
                self._handlers[signalnum](signalnum, frame)
            finally:
                self._handle_all()
