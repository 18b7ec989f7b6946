"""What a signal handler or a finalizer may ask of the locks of the code that it interrupts."""

from __future__ import annotations

import threading


def is_held_here(lock: threading.RLock) -> bool:
    """Whether the calling thread holds a lock."""
    # RLock has no public way to ask; threading.Condition asks like this, too.
    is_owned: bool = lock._is_owned()  # type: ignore[attr-defined]
    return is_owned
