"""What a signal handler or a finalizer may ask of the locks of the code that it interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from operator import methodcaller

is_held_here: Callable[[threading.RLock], bool] = methodcaller('_is_owned')
"""Whether the calling thread holds a lock.

RLock has no public way to ask; threading.Condition asks like this, too.
"""
