"""Makes a process busy: threads switch as often as they can, and one of them never rests.

The children of tests import it before anything else, so it imports next to nothing.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
from collections.abc import Callable


def be_busy(is_over: Callable[[], object] = lambda: False) -> None:
    """Have threads switch as often as they can, with one beside the others that never rests."""

    def work() -> None:
        while not is_over():
            pass

    sys.setswitchinterval(1e-6)
    # No threading.Thread: that would be one of the program's threads, to be counted and patched.
    _thread.start_new_thread(work, ())


def stay_busy() -> None:
    """Be busy to the end, as is all that is forked from here on."""

    def in_child() -> None:
        # Of the threads, only the one that forks lives on. If it is not the main one, the child
        # ends when all of its threads have, and this one would keep it.
        if isinstance(threading.main_thread(), threading._MainThread):
            be_busy()

    be_busy()
    os.register_at_fork(after_in_child=in_child)
