"""What a signal handler or a finalizer may ask of the locks of the code that it interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from operator import methodcaller

is_held_here: Callable[[threading.RLock], bool] = methodcaller('_is_owned')
"""Whether the calling thread holds a lock.

RLock has no public way to ask; threading.Condition asks like this, too.
"""


def closed_latch() -> threading.Lock:
    """Return a lock that is held, for one thread to wait for and another to release, once.

    All waiting for a worker is done on such locks.
    """
    latch = threading.Lock()
    latch.acquire()
    return latch


def locks_of_threading() -> list[threading.RLock]:
    """Return the locks of ``threading`` that a thread takes which starts another."""
    # A fork replaces it. No public function tells whether it is held.
    lock: threading.RLock | None = getattr(threading, '_active_limbo_lock', None)
    # That of gevent does not tell who holds it.
    return [lock] if lock is not None and hasattr(lock, '_is_owned') else []
