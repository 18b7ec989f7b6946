"""Holding back the handlers of signals, while something is done that must not be broken off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
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
        self._waiting: list[int] = []

    def __call__(self, signalnum: int, frame: FrameType | None) -> None:
        # One that raises may keep ``end`` from putting back those after it.
        if self._is_over:
            self._handlers[signalnum](signalnum, frame)
        elif signalnum not in self._waiting:
            self._waiting.append(signalnum)

    def begin(self) -> None:
        for number in self._handlers:
            signal.signal(number, self)

    def end(self) -> None:
        self._is_over = True
        try:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        finally:
            _send(self._waiting)


def _send(signalnums: Sequence[int]) -> None:
    """Have signals handled, each of them, whatever the handlers raise."""
    if signalnums:
        try:
            signal.raise_signal(signalnums[0])
        finally:
            _send(signalnums[1:])
