"""What is done at the end of a process, also of a child that ends without ``atexit``."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress

from neptune_async._engine.lifecycle import running_workers
from neptune_async._engine.lifecycle.at_signal import flush_first
from neptune_async._engine.lifecycle.running_workers import running
from neptune_async._held_signals import start

_LIBRARIES = ('multiprocessing', 'multiprocess', 'billiard')
"""The libraries whose children end with ``os._exit``: the one of Python, and its copies in pathos
and Celery.
"""
_EXIT_THREAD = 'neptune_async exit'
_LAST = -(2**31)
"""The priority of a finalizer that runs after all others at the end of a child."""

_watched: set[int] = set()
"""The ids of the child processes that store what is pending at their end."""
_terminable: set[int] = set()
"""The ids of the child processes that store what is pending at SIGTERM."""


def register() -> None:
    """Make the process store all that is pending at its end."""
    # Exit handlers that the user registers after this import run earlier, and may still log.
    # Twice, because an interrupt just as it begins leaves it undone.
    atexit.register(running.finish)
    atexit.register(running.finish)


def watch_child() -> None:
    """Make a child that ends without atexit store what is pending at its end.

    Children of multiprocessing end so, and children that a thread has forked. The end of
    ``with Pool()`` sends SIGTERM to children that still run, so they store it at SIGTERM, too.

    This is called at each use of a worker: a process does not know yet that it is such a child
    while it unpickles its arguments.
    """
    libraries = [name for name in _LIBRARIES if _is_child_of(name)]
    # If a thread forks, its copy is the main thread of the child, and the child ends with it.
    is_forked_by_thread = type(threading.main_thread()).__name__ != '_MainThread'
    if not libraries and not is_forked_by_thread:
        return
    pid = os.getpid()
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and libraries and pid not in _terminable:
        _terminable.add(pid)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            flush_first(signal.SIGTERM, running_workers.EXIT_TIMEOUT)
    if pid in _watched:
        return
    _watched.add(pid)
    for name in libraries:
        # At the end, Python cannot wait for threads in a child that an executor's thread has
        # forked, and billiard does not wait for any thread.
        if is_forked_by_thread or name == 'billiard':
            sys.modules[f'{name}.util'].Finalize(None, _finish_last, exitpriority=_LAST)
    with suppress(RuntimeError):  # the interpreter is ending, and starts no more threads
        # Not a daemon thread, even if the thread that starts it is one: nobody waits for daemons.
        start(threading.Thread(target=_finish_last, name=_EXIT_THREAD, daemon=False))


def _is_child_of(library: str) -> bool:
    """Whether a library has started this process as a child."""
    process = sys.modules.get(f'{library}.process')
    if process is None or f'{library}.util' not in sys.modules:
        return False
    return type(process.current_process()).__name__ != '_MainProcess'


def _finish_last() -> None:
    """Wait for the main thread and all other threads that are not daemons, then finish.

    The end of the process waits for a thread that is not a daemon, in whatever way it ends.
    """
    current, main = threading.current_thread(), threading.main_thread()
    if current is not main:
        main.join()
    for thread in threading.enumerate():
        if not (thread.daemon or thread in (current, main) or thread.name == _EXIT_THREAD):
            thread.join()
    running.finish()
