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
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_SHARED_RANGE = 510, 2**30 + 2
_DEAD_MANS_SWITCH = 1, 128
"""How many bytes, and where, ``os_unix.c`` locks in a file and in its -shm as long as a connection
in WAL mode has them open.
"""
_LONGEST_START = 5.0
"""Seconds that a child may take to come to its locks before a close no longer waits for it."""


class Use(NamedTuple):
    """A file in WAL mode that SQLite has open: its path, and which file and -shm that are."""

    path: Path
    identities: tuple[tuple[int, int], ...]


class _ForkGuard:
    """Held around each attempt, and by a fork; never for as long as another process's lock lasts,
    which is waited for outside.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: list[Use] = []
        self._lost: set[Path] = set()
        # Of each child that may not have its locks yet, the end of a pipe that it then closes.
        self._starting: list[int] = []
        self._pipe: tuple[int, int] | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    # ── Files that are open ──────────────────────────────────────────────────

    def add_use(self, path: Path) -> Use | None:
        """Know that SQLite has a file open, until ``close``; None for one that has no -shm. The
        caller holds the guard.
        """
        try:
            use = Use(path, _identities(path))
        except OSError:
            return None
        self._uses.append(use)
        return use

    def is_used(self, path: Path) -> bool:
        """Whether SQLite has a file open in this process, or believes so since before a fork: to
        open and close it by other means would drop its locks.
        """
        return any(use.path == path for use in self._uses)

    def is_lost(self, path: Path) -> bool:
        """Whether SQLite cannot open a file in this process any more: its parent, which had it
        open, ended at the fork.
        """
        return path in self._lost

    def close(self, use: Use | None, close: Callable[[], object]) -> None:
        """Have SQLite close a file, once every child has the locks that it needs."""
        while True:
            with self:
                if use is None or not self._starting:
                    close()
                    if use is not None:
                        self._uses.remove(use)
                    return
                starting = self._starting.pop()
            _wait_for_end(starting, _LONGEST_START)

    # ── Forks ────────────────────────────────────────────────────────────────

    def before_fork(self) -> None:
        """Keep others away from SQLite, and from forking."""
        self._lock.acquire()
        if self._uses:
            self._starting = [end for end in self._starting if not _wait_for_end(end, 0.0)]
            with suppress(OSError):  # no descriptor is left
                self._pipe = os.pipe()

    def after_in_parent(self) -> None:
        """Go on, and know when the child has its locks."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._starting.append(pipe[0])
            os.close(pipe[1])
        self._lock.release()

    def after_in_child(self) -> None:
        """Take the locks, and go on with a lock that no thread holds which is not there."""
        for use in self._uses:
            if use.path not in self._lost and not _take_locks(use):
                self._lost.add(use.path)
        # The uses stay: SQLite never forgets what the parent had open.
        for end in [*self._starting, *(self._pipe or ())]:
            os.close(end)
        self._starting, self._pipe = [], None
        self._lock = threading.Lock()


def _identities(path: Path) -> tuple[tuple[int, int], ...]:
    found = [os.stat(path), os.stat(f'{path}-shm')]
    return tuple((status.st_dev, status.st_ino) for status in found)


def _take_locks(use: Use) -> bool:
    """Hold, to the end of the process, what an idle connection holds; whether all is as it was."""
    import fcntl  # Windows has none, and no fork

    try:
        for file, (length, start) in (
            (use.path, _SHARED_RANGE),
            (Path(f'{use.path}-shm'), _DEAD_MANS_SWITCH),
        ):
            # Never closed: that would let go of all locks that the process has on the file.
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
        return _identities(use.path) == use.identities
    except OSError:
        return False


def _wait_for_end(descriptor: int, seconds: float) -> bool:
    """Wait until the other end of a pipe is closed, and close this one then; or for some time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP)
    if not poll.poll(1000 * seconds) and not seconds:
        return False
    os.close(descriptor)
    return True


FORK_GUARD = _ForkGuard()

if hasattr(os, 'register_at_fork'):
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
