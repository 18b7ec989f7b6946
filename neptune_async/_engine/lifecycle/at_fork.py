"""What is done at the beginning of a forked child."""

from __future__ import annotations

import os

from neptune_async._engine.durability.journal import forget_parent
from neptune_async._engine.durability.staged_copies import owner_mark
from neptune_async._engine.lifecycle.running_workers import running


def _begin_in_child() -> None:
    forget_parent()
    owner_mark.cache_clear()
    running.begin_in_child()


def register() -> None:
    """Make each forked child start again with empty queues, if the system can fork."""
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=_begin_in_child)
