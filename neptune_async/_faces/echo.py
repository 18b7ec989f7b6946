"""Echo: one line on stdout for each write."""

from __future__ import annotations

import builtins
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._model.showing import harmless
from neptune_async.exceptions import InvalidArgumentError

ECHO_VARIABLE = 'NEPTUNE_ASYNC_ECHO'
_ECHO_LINES = 100
"""How many lines echo prints in a second, at most."""


class Echo:
    """Prints one line for each write, at most ``_ECHO_LINES`` in a second.

    A write adds its line under the queue's lock, so that lines have the order of the writes. The
    line is printed when the lock is free. The write is accepted then, and must not raise:
    characters that stdout cannot encode are printed as with ``backslashreplace``, and a line is
    left out if stdout is closed or broken.

    :ivar experiment: what is written to; None until it is open.
    """

    def __init__(self) -> None:
        self.experiment: ExperimentState | None = None
        self._lines: deque[str] = deque()
        self._second = 0.0
        self._printed = 0
        self._hidden = 0

    def __call__(self, path: str, text: str) -> None:
        """Add the line of a write.

        Do nothing if this thread is printing a line of an echo: then stdout may write its text to a
        series, and each line would cause another write, and so another line.
        """
        if threading.get_ident() in _printing:
            return
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._note_hidden()
            self._second, self._printed = now, 0
        if self._printed == _ECHO_LINES:
            self._hidden += 1
            return
        self._printed += 1
        where = f'{path}: ' if path else ''
        self._lines.append(f'Experiment {self._name}: {where}{text}')

    @property
    def _name(self) -> str:
        return '' if self.experiment is None else self.experiment.name

    def show(self) -> None:
        """Print the lines that were added. A write that comes from a line being printed prints
        nothing.
        """
        while self._lines and threading.get_ident() not in _printing:
            # Another thread may have printed the last line.
            with suppress(IndexError):
                _print(self._lines.popleft())

    def count_hidden(self) -> None:
        """Print how many lines were not shown, if there are any."""
        self._note_hidden()
        self.show()

    def _note_hidden(self) -> None:
        if self._hidden:
            self._lines.append(f'Experiment {self._name}: {self._hidden} more lines not shown')
            self._hidden = 0


_printing: set[int] = set()
"""The ids of threads that are printing a line of an echo."""


def _print(line: str) -> None:
    thread = threading.get_ident()
    _printing.add(thread)
    try:
        encoding = getattr(sys.stdout, 'encoding', None) or 'utf-8'
        line = harmless(line)
        with suppress(Exception):  # sys.stdout may be anybody's code
            print(line.encode(encoding, 'backslashreplace').decode(encoding))
    finally:
        _printing.discard(thread)


def echo_is_on(echo: bool | None) -> bool:
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
