"""What SQLite needs of a process that forks.

Two things of SQLite's a child inherits, and has not. One are its mutexes: a child that is forked
while another thread is inside SQLite inherits them locked, and hangs at its first call: 3 to 13 %
of the forks under load did. With the guard none of 400 did.

The other are its locks on files. SQLite asks the system for none that the process has already, and
knows which those are from memory (``unixInodeInfo`` in https://sqlite.org/src/file/src/os_unix.c),
which a child inherits, while the locks stay with the parent. A connection that the child opens to
a file that the parent has open would hold none of them, and the parent's close, which finds none,
would remove the -wal under it. So a child takes them by itself, right after the fork, and the
parent does not close a file before it has.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from neptune_async._storage.filesystem import Identity, identity

_SHARED_RANGE = 510, 2**30 + 2
_DEAD_MANS_SWITCH = 1, 128
"""How many bytes, and where, ``os_unix.c`` locks in a file and in its -shm as long as a connection
in WAL mode has them open.
"""
_LONGEST_START = 5.0
"""Seconds that children may take to come to their locks before a close no longer waits for them."""


class Use(NamedTuple):
    """A file in WAL mode that SQLite has open: its path, and which file and which -shm that is."""

    path: Path
    file: Identity
    shm: Identity


def _poll() -> Any:
    # eventlet takes it away where it replaces threads, and has the module as it was.
    if hasattr(select, 'poll'):
        return select.poll()
    return sys.modules['eventlet.patcher'].original('select').poll()


class _ForkGuard:
    """Held around each attempt, and by a fork; never for as long as another process's lock lasts,
    which is waited for outside.

    What else is done at a fork is done without it: a signal handler that raises comes in between
    any two lines of Python, and must not leave the guard held. It may leave a descriptor open then.
    """

    def __init__(self) -> None:
        # One that knows its owner: a signal handler may come in beside the fork.
        self.lock = threading.RLock()
        self._uses: list[Use] = []
        self._lost: set[Identity] = set()
        # Pipes whose other end a child closes once it has its locks: by the thread that forks,
        # and the own ends of those that were forked.
        self._forking: dict[int, tuple[int, int]] = {}
        self._starting: list[int] = []

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    # ── Files that are open ──────────────────────────────────────────────────

    def add_use(self, path: Path) -> Use | None:
        """Know that SQLite has a file open, until ``close``; None for one that has no -shm. The
        caller holds the guard.
        """
        file, shm = identity(path), identity(_shm(path))
        if file is None or shm is None:
            return None
        use = Use(path, file, shm)
        self._uses.append(use)
        return use

    def is_used(self, path: Path) -> bool:
        """Whether SQLite has a file open in this process, or believes so since before a fork: to
        open and close it by other means would drop its locks.
        """
        return identity(path) in {use.file for use in self._uses}

    def is_lost(self, path: Path) -> bool:
        """Whether SQLite cannot open a file in this process: it believes to have locks on it that
        could not be taken.
        """
        return identity(path) in self._lost

    def close(self, use: Use | None, close: Callable[[], object]) -> None:
        """Have SQLite close a file, once every child has the locks that it needs."""
        deadline = time.monotonic() + _LONGEST_START
        while True:
            with self:
                is_over = time.monotonic() > deadline
                if use is None or is_over or not (self._starting or self._forking):
                    close()
                    if use is not None:
                        self._uses.remove(use)
                    return
            self._wait_for_children(0.01)

    def _wait_for_children(self, seconds: float) -> None:
        """Forget the children that have their locks; wait so long if there are others."""
        starting, self._starting = self._starting, []
        poll = _poll()
        for end in starting:
            poll.register(end, select.POLLHUP)
        ended = {end for end, _ in poll.poll(1000 * seconds)}
        self._starting += [end for end in starting if end not in ended]
        for end in ended:
            os.close(end)

    # ── Forks ────────────────────────────────────────────────────────────────

    def before_fork(self) -> None:
        """Make what tells when the child has its locks."""
        if self._uses:
            with suppress(OSError):  # no descriptor is left
                self._forking[threading.get_ident()] = os.pipe()

    def after_in_parent(self) -> None:
        """Know of the child, and that others have begun."""
        pipe = self._forking.pop(threading.get_ident(), None)
        if pipe is not None:
            os.close(pipe[1])
            self._starting.append(pipe[0])
            self._wait_for_children(0.0)

    def after_in_child(self) -> None:
        """Take the locks, and tell so."""
        for use in {*self._uses}:
            if not _take_locks(use):
                self._lost.add(use.file)
        # The uses stay: SQLite never forgets what the parent had open.
        ends = [*self._starting, *(end for pipe in self._forking.values() for end in pipe)]
        self._starting, self._forking = [], {}
        for end in ends:
            os.close(end)


def _shm(path: Path) -> Path:
    return Path(f'{path}-shm')


def _take_locks(use: Use) -> bool:
    """Hold, to the end of the process, what an idle connection holds; whether all is as it was."""
    import fcntl  # Windows has none, and no fork

    try:
        for file, (length, start) in (
            (use.path, _SHARED_RANGE),
            (_shm(use.path), _DEAD_MANS_SWITCH),
        ):
            # Never closed: that would let go of all locks that the process has on the file.
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
        return identity(use.path) == use.file and identity(_shm(use.path)) == use.shm
    except OSError:
        return False


FORK_GUARD = _ForkGuard()

if hasattr(os, 'register_at_fork'):
    # Functions in C, and next to the fork: no signal handler comes between.
    os.register_at_fork(
        before=FORK_GUARD.lock.acquire,
        after_in_parent=FORK_GUARD.lock.release,
        after_in_child=FORK_GUARD.lock._at_fork_reinit,  # type: ignore[attr-defined]
    )
    os.register_at_fork(
        before=FORK_GUARD.before_fork,
        after_in_parent=FORK_GUARD.after_in_parent,
        after_in_child=FORK_GUARD.after_in_child,
    )


def leak(parents: object) -> None:
    """In a forked child: never let go of an object that the parent uses.

    To close a SQLite connection, which its deallocation does, would take away
    the parent's locks and may delete its -wal file.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(parents))
