"""A batch on its way to storage: what may have to be done to it, and how long to try."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from neptune_async._storage.base import ExperimentRecord, Storage
from neptune_async.exceptions import StorageBusyError, StorageError

T = TypeVar('T')

BUSY_PATIENCE = 60.0
"""Seconds for which a store that others hold is no fault."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1


class Patience:
    """How long to wait between attempts on a store that others hold, and how long in all.

    The pauses are random, so that of many that wait none is always the last.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = time.monotonic() + (BUSY_PATIENCE if seconds is None else seconds)
        self._longest = _FIRST_PAUSE

    def pause(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        self._longest = min(2 * self._longest, _LONGEST_PAUSE)
        return random.uniform(0.0, self._longest)

    def is_over(self) -> bool:
        """Whether it is time to call it a fault."""
        return time.monotonic() > self._end


async def attempt(query: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run a query, again and again while other processes hold the store."""
    busy = Patience()
    while True:
        try:
            return await query(*args)
        except StorageBusyError:
            if busy.is_over():
                raise
        await anyio.sleep(busy.pause())


async def attempt_twice(query: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run what may be repeated, once more if the store fails: perhaps only the answer was lost."""
    try:
        return await attempt(query, *args)
    except StorageBusyError:
        raise
    except StorageError:
        return await attempt(query, *args)


async def found_or_made(
    storage: Storage, name: str, created: float | None = None
) -> ExperimentRecord:
    """Return the experiment of a name, which is made if there is none.

    :param created: as for ``Storage.create_experiment``.
    """
    while True:  # another process may make or delete it meanwhile
        record = await attempt(storage.find_experiment, name)
        record = record or await attempt(storage.create_experiment, name, created)
        if record is not None:
            return record
