"""Keeping ``fork`` away from the middle of a call into SQLite.

A child that is forked while another thread is inside SQLite inherits SQLite's
own mutexes locked, and hangs at its first call: 3 to 13 % of the forks under
load did. With the guard none of 400 did.
"""

from __future__ import annotations

import ctypes
import os
import threading


class _ForkGuard:
    """Held around each attempt, and by a fork; never for as long as another process's lock lasts,
    which is waited for outside.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """In the child, whose copy of the lock is held by a thread that it does not have."""
        self._lock = threading.Lock()


FORK_GUARD = _ForkGuard()

if hasattr(os, 'register_at_fork'):
    os.register_at_fork(
        before=FORK_GUARD.__enter__,
        after_in_parent=FORK_GUARD.__exit__,
        after_in_child=FORK_GUARD.renew,
    )


def leak(parents: object) -> None:
    """In a forked child: never let go of an object that the parent uses.

    To close a SQLite connection, which its deallocation does, would take away
    the parent's locks and may delete its -wal file.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(parents))
