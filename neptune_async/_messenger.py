"""What the library has to say, said on a thread of its own: the messenger.

A handler of ``logging``, an ``on_error`` and ``sys.stderr`` are code of the user's. It may log to
the experiment, wait for room in its queue, or hold a lock while it does so; and the worker is who
makes room. So neither the worker nor a thread that storage depends on ever runs such code, or waits
for it; nor does anybody else while he holds a lock of ours. All of them hand over what they have to
say, in order, and go on.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias
from weakref import WeakSet

from neptune_async._held_signals import start
from neptune_async._patching import late_patch

_logger = logging.getLogger('neptune_async')

PATIENCE = 1.0
"""Seconds that a call of the user's waits for what there is to say, once it has all else."""
_MOST = 1_000
"""Messages that wait at most, behind a handler that is slow or stuck."""
_LEFT_OUT = (
    'what there was to say at this point was left out: a handler of logging, or an on_error, takes '
    'too long'
)

_own: WeakSet[threading.Thread] = WeakSet()


def own(thread: threading.Thread) -> None:
    """Know a thread, before it starts, as one that storage depends on."""
    _own.add(thread)


def is_own_thread() -> bool:
    """Whether the caller is on a thread that storage depends on: a finalizer may be."""
    return threading.current_thread() in _own


def may_wait_for_room() -> bool:
    """Whether the caller may wait for what the worker, or an ``on_error``, has yet to do."""
    return not (is_own_thread() or messenger.is_current or late_patch())


def keep_quiet(name: str) -> None:
    """Have the logger of a library say nothing on our own threads.

    Not a filter: that would have its turn after the process-wide lock of ``logging``, which is held
    while a handler is configured that opens an experiment, and after the user's record factory.
    """
    logger = logging.getLogger(name)
    is_enabled_for = logger.isEnabledFor

    def is_enabled_here(level: int) -> bool:
        return not is_own_thread() and is_enabled_for(level)

    logger.isEnabledFor = is_enabled_here  # type: ignore[method-assign]  # of this one logger


_Message: TypeAlias = Callable[[], object]


class Messenger:
    """A thread that says what other threads hand over; it lives as long as one of them may.

    To hand over takes no lock and waits for nothing, on any thread, in a signal handler and in a
    finalizer. No thread can be started once the interpreter ends: it is there before.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """Begin anew, as a forked child does: what its parent has to say, the parent says."""
        # A message leaves it once it was said. Each has a token, which wakes the thread.
        self._waiting: deque[_Message] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._speakers: set[threading.Thread] = set()
        # Held by who is saying something: by the thread, as long as it lives.
        self._voice = threading.Lock()
        self._speaking_in = 0
        self._is_full = False
        self._stuck: _Message | None = None

    # ── To be said ───────────────────────────────────────────────────────────

    def debug(self, text: str, *args: object) -> None:
        """Log for those who look for a fault of ours."""
        self.call(_logger.debug, text, *args)

    def warning(self, text: str, *args: object) -> None:
        """Log a warning."""
        self.call(_logger.warning, text, *args)

    def error(self, text: str, *args: object, why: BaseException | None = None) -> None:
        """Log an error, with the traceback of an exception."""
        self.call(partial(_logger.error, text, *args, exc_info=why))

    def critical(self, text: str, *args: object, why: BaseException) -> None:
        """Log what has gone wrong with ourselves, with the traceback of an exception."""
        self.call(partial(_logger.critical, text, *args, exc_info=why))

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function of the user's, soon; what it raises goes to ``threading.excepthook``."""
        if len(self._waiting) < _MOST:
            self._is_full = False
            self._put(partial(function, *args))
        elif not self._is_full:
            self._is_full = True
            self._put(partial(_logger.warning, _LEFT_OUT))

    def then(self, told: _Message) -> None:
        """Call what tells somebody that all so far was said, however much that is."""
        self._put(told)

    def _put(self, message: _Message) -> None:
        self._waiting.append(message)
        self._tokens.put(None)
        self._start()

    # ── The thread ───────────────────────────────────────────────────────────

    def begin(self, speaker: threading.Thread) -> None:
        """Be there for a thread, which is about to start."""
        self._speakers.add(speaker)
        self._start()

    def end(self, speaker: threading.Thread) -> None:
        """Be there for a thread no longer."""
        self._speakers.discard(speaker)
        self._tokens.put(None)

    def _start(self) -> None:
        # Before Python 3.12, the start would never return while the interpreter ends.
        if self._voice.locked() or sys.is_finalizing() or late_patch():
            return
        with suppress(RuntimeError):  # no more threads can be started: who drains says it
            start(threading.Thread(target=self._run, name='neptune_async messenger', daemon=True))

    def _run(self) -> None:
        # Not by who starts it, whom an interrupt may keep from giving it back.
        if not self._voice.acquire(blocking=False):
            return
        tokens = self._tokens
        while True:
            tokens.get()
            self._say_all()
            if tokens is not self._tokens:
                return  # a child, forked by what was called
            if not self._speakers:
                self._voice.release()
                is_left = self._speakers or self._waiting
                if not is_left or not self._voice.acquire(blocking=False):
                    return

    def _say_all(self) -> None:
        """Say what waits; the caller holds the voice."""
        waiting, self._speaking_in = self._waiting, threading.get_ident()
        while waiting:
            try:
                waiting[0]()
            except BaseException:
                if waiting is not self._waiting:
                    raise  # it has forked, and wants the child to end
                self._report(*sys.exc_info())
            if waiting is not self._waiting:
                return
            waiting.popleft()
        self._speaking_in = 0

    def _report(self, *raised: Any) -> None:
        with suppress(BaseException):  # a hook of the user's
            threading.excepthook(threading.ExceptHookArgs((*raised, threading.current_thread())))

    # ── Who waits until it is said ───────────────────────────────────────────

    @property
    def is_current(self) -> bool:
        """Whether the caller is what is being called."""
        return self._speaking_in == threading.get_ident()

    @property
    def is_expected(self) -> bool:
        """Whether to wait is of use: something is to be said, and what comes first is not stuck."""
        try:
            return self._waiting[0] is not self._stuck and not self.is_current
        except IndexError:
            return False

    def drain(self, timeout: float = PATIENCE) -> None:
        """Return once all is said that there was to say, or after some seconds. What took longer is
        not waited for again.
        """
        if not self.is_expected:
            return
        if self._voice.acquire(blocking=False):  # there is no thread
            try:
                self._say_all()
            finally:
                self._voice.release()
            return
        said = threading.Lock()
        said.acquire()
        self.then(said.release)
        if not said.acquire(timeout=timeout):
            self.give_up()

    def give_up(self) -> None:
        """Know that what is being called takes too long."""
        with suppress(IndexError):
            self._stuck = self._waiting[0]


def print_line(line: str) -> None:
    """Print a line on stderr."""
    with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
        try:
            print(line, file=sys.stderr, flush=True)
        except RuntimeError:
            # In a signal handler that has interrupted a write to the same buffer.
            os.write(sys.stderr.fileno(), f'{line}\n'.encode(errors='backslashreplace'))


messenger = Messenger()

if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=messenger._reset)
