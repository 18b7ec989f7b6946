"""One worker for each store in a process, from the first use to exit or fork."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

from neptune_async._engine import journal
from neptune_async._engine.locks import is_held_here
from neptune_async._engine.state import ExperimentState
from neptune_async._engine.worker import Worker
from neptune_async._storage import registry
from neptune_async.exceptions import NeptuneAsyncError

logger = logging.getLogger('neptune_async')

EXIT_TIMEOUT = 10.0
"""Seconds that the end of the process waits for storage; what is left then is spilled."""

_Handler: TypeAlias = 'Callable[[int, FrameType | None], object] | int | None'

_FAILURES = (NeptuneAsyncError, FutureTimeoutError, CancelledError, RuntimeError)
"""What waiting for a worker may come to."""

# A finalizer may come in while the thread that it interrupts holds it.
_lock = threading.RLock()
_workers: list[Worker] = []
_finishing: list[Worker] = []


def acquire(url: str, *, shared: bool = True) -> Worker:
    """Return the worker of a store, to be given back with ``release``.

    :param shared: False for a store that nobody else in the process may see.
    """
    with _lock:
        for worker in _workers:
            if shared and worker.url == url and worker.is_shared:
                worker.users += 1
                return worker
        worker = Worker(url, registry.create, shared, _watch_in_multiprocessing)
        worker.users = 1
        _workers.append(worker)
        return worker


def share(worker: Worker) -> Worker:
    """Return a worker that the caller knows to be held, to be given back with ``release``, too."""
    with _lock:
        worker.users += 1
    return worker


def release(worker: Worker) -> bool:
    """Give a worker back; the last to do so has it stop, and may wait until its thread ends.

    :returns: whether this was the last.
    """
    with _lock:
        worker.users -= 1
        if worker.users:
            return False
        if worker in _workers:
            _workers.remove(worker)
    worker.stop()
    return True


def spill(worker: Worker, states: list[ExperimentState], *, at_the_end: bool = False) -> None:
    """Keep what storage does not take in a file, and say so on stderr."""
    message = worker.spill(states, at_the_end=at_the_end)
    if message:
        with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            print(message, file=sys.stderr, flush=True)


# ── Signals ──────────────────────────────────────────────────────────────────


def is_writing_here() -> bool:
    """Whether the calling thread is in the middle of a write, calls a worker, or opens or closes
    an experiment: only a signal handler can ask that.
    """
    return any(is_held_here(lock) for lock in _locks())


def wait_for_writes() -> None:
    """Return once every write that was going on has come to its end."""
    with _lock:
        locks = _locks()
    for lock in locks:
        with lock:
            pass


def flush_all(timeout: float) -> None:
    """Store what is pending in all stores, and spill what they do not take in time."""
    deadline = time.monotonic() + timeout
    for worker in [*_workers, *_finishing]:
        states = [*worker.states.values()]
        try:
            worker.flush_all(max(0.0, deadline - time.monotonic()))
        except _FAILURES as error:
            logger.debug('the flush of %s failed: %r', worker.location, error)
            spill(worker, states)


def flush_first(signalnum: int, timeout: float) -> None:
    """Have a signal flush all experiments before it does what it did.

    :raises ValueError, OSError, TypeError: it cannot be handled, or not in this thread.
    """
    previous = signal.getsignal(signalnum)
    if isinstance(previous, _FlushFirst):
        previous = previous.previous
    signal.signal(signalnum, _FlushFirst(previous, timeout))


class _FlushFirst:
    """A signal handler that flushes, then hands over to the one before it.

    :ivar previous: what the signal did before.
    """

    def __init__(self, previous: _Handler, timeout: float) -> None:
        self.previous = previous
        self._timeout = timeout

    def __call__(self, signalnum: int, frame: FrameType | None) -> None:
        if is_writing_here():
            # The worker, or another thread that it waits for, would wait for what the signal has
            # interrupted. It comes again when that is over.
            thread = threading.Thread(target=_send_again, args=(signalnum,), daemon=True)
            with suppress(RuntimeError):  # the interpreter is ending, and starts no more threads
                thread.start()
                return
        flush_all(self._timeout)
        if callable(self.previous):
            self.previous(signalnum, frame)
        elif self.previous == signal.SIG_DFL:
            signal.signal(signalnum, signal.SIG_DFL)
            signal.raise_signal(signalnum)


def _send_again(signalnum: int) -> None:
    wait_for_writes()
    if sys.platform == 'win32':
        signal.raise_signal(signalnum)
    else:
        # Not to this thread: what the main one waits for is to be interrupted.
        signal.pthread_kill(threading.main_thread().ident or 0, signalnum)


def _locks() -> list[threading.RLock]:
    """Return what a flush waits for, in this thread or on the worker's."""
    workers = [*_workers, *_finishing]
    return [_lock, *(lock for worker in workers for lock in worker.locks)]


# ── Exit ─────────────────────────────────────────────────────────────────────


def _finish() -> None:
    """Store what is pending, or spill it; within ``EXIT_TIMEOUT`` for all stores together."""
    deadline = time.monotonic() + EXIT_TIMEOUT
    with _lock:
        workers = _workers[:]
        _finishing.extend(workers)
        _workers.clear()
    for worker in workers:
        states = [*worker.states.values()]
        # A daemon thread that logs for ever would never be done.
        for state in states:
            state.queue.finish()
        try:
            worker.finish(max(0.0, deadline - time.monotonic()))
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        except _FAILURES as error:
            logger.debug('the last flush of %s failed: %r', worker.location, error)
        except BaseException as error:
            # A second Ctrl-C, or a signal handler that calls sys.exit: no more waiting, for any.
            logger.debug('the last flush of %s was broken off: %r', worker.location, error)
            deadline = 0.0
        spill(worker, states, at_the_end=True)
        for state in states:
            state.queue.end()


# Handlers that the user registers after this import run before it, and may still log.
atexit.register(_finish)

_watched: set[int] = set()
_terminable: set[int] = set()
"""The processes of multiprocessing whose end, and whose SIGTERM, is seen to: their ids."""


def _watch_in_multiprocessing() -> None:
    """Have a child of multiprocessing finish too: one that was forked ends without atexit, and the
    end of ``with Pool()`` terminates those that are still there.

    Called again and again: a child is not known for one while its arguments are unpickled.
    """
    process = sys.modules.get('multiprocessing.process')
    if process is None or process.parent_process() is None:
        return
    pid = os.getpid()
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and pid not in _terminable:
        _terminable.add(pid)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            flush_first(signal.SIGTERM, EXIT_TIMEOUT)
    if pid in _watched:
        return
    _watched.add(pid)
    with suppress(RuntimeError):  # the interpreter is ending, and starts no more threads
        threading.Thread(target=_finish_last, name='neptune_async exit').start()


def _finish_last() -> None:
    """Wait for the main thread and all others that the process waits for, then finish.

    A thread that is no daemon is waited for whichever way the process ends.
    """
    threading.main_thread().join()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    _finish()


# ── Fork ─────────────────────────────────────────────────────────────────────


def _forget_parent() -> None:
    """In a forked child: begin anew, with empty queues and no thread or connection.

    What the parent had open stays open, unused: closing it here would break
    the parent's locks on the file. What the parent had queued, it stores itself.
    """
    global _lock
    _lock = threading.RLock()
    journal.forget_parent()
    # The parent may be in the middle of its end; the child is not.
    _workers.extend(worker for worker in _finishing if worker not in _workers)
    _finishing.clear()
    for worker in _workers:
        worker.abandon()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_parent)
