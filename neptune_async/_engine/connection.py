"""The connection to a store: opened as far as a call needs it, and kept tidy."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from neptune_async._engine.recovery import LeftBehind, Recovery
from neptune_async._engine.sending import Patience, attempt, found_or_made, stored
from neptune_async._model.operations import Batch
from neptune_async._storage.base import ExperimentRecord, Need, Receipt, Storage
from neptune_async.exceptions import StorageBusyError, StorageError

logger = logging.getLogger('neptune_async')

T = TypeVar('T')

_TIDY_SECONDS = 5.0
"""Seconds after which merging at the end is left to the next time; what is there is readable."""


class Connection:
    """The only connection of a process to a store; for the worker's thread only.

    A store that is only read is not made, and nothing in it is changed: what processes that have
    ended left behind is only told. Once it is opened for writing, that is taken in.
    """

    def __init__(self, storage: Storage, recovery: Recovery) -> None:
        self._storage = storage
        self._recovery = recovery
        self._is_open = self._is_writable = False

    def begin(self) -> None:
        """Be closed, on a loop that has just begun: the one before may have died."""
        self._opening = anyio.Lock()
        self._is_open = False

    async def open(self, *, writable: bool) -> None:
        """Open the store, unless it is open as far as that; make it if it is to be written to.

        :raises StorageError: it is not there, or cannot be opened.
        """
        if self._is_open_for(writable):
            return
        async with self._opening:
            if self._is_open_for(writable):
                return
            self._is_open = False
            await attempt(partial(self._storage.open, writable=writable))
            if writable:
                await self._recovery.run()
            else:
                await self._recovery.warn()
            self._is_open, self._is_writable = True, writable

    def _is_open_for(self, writable: bool) -> bool:
        return self._is_open and (self._is_writable or not writable)

    async def open_for_batches(self) -> None:
        """Open the store for what this process has logged, which comes after what was left behind:
        that may be earlier points of the same series.

        :raises StorageError: it cannot be opened, or does not take what was left behind.
        """
        await self.open(writable=True)
        await self._recovery.complete()

    async def close(self) -> None:
        """Close the store; should that fail, it is only logged."""
        if self._is_open:
            self._is_open = False
            try:
                await self._storage.close()
            except StorageError as error:
                logger.warning('closing the store failed: %s', error)

    # ── For what is no experiment's ──────────────────────────────────────────

    async def ask(self, query: Callable[[Storage], Awaitable[T]]) -> T:
        """Query the store as it is; a store that is not there is not made."""
        await self.open(writable=False)
        return await attempt(query, self._storage)

    async def open_for_writing(self) -> None:
        """Open the store, and make it if it is not there."""
        await self.open(writable=True)

    async def make_experiment(self, name: str, created: float | None = None) -> ExperimentRecord:
        """Return the experiment of a name; make it, and the store, if there is none.

        :param created: as for ``Storage.create_experiment``.
        """
        await self.open(writable=True)
        return await found_or_made(self._storage, name, created)

    async def store(self, batch: Batch) -> Receipt:
        """Store a batch that comes from no queue and brings its variables along; twice is once."""
        await self.open(writable=True)
        return await stored(self._storage, batch)

    async def recover(self) -> list[LeftBehind]:
        """Store what processes that have ended left behind; return what that was.

        :raises StorageError: when the store is not there, or cannot be opened.
        """
        await self.open(writable=self._recovery.is_needed())
        return [*self._recovery.found.values()]

    # ── Merging ──────────────────────────────────────────────────────────────

    async def compact(self, need: Need, is_urged: Callable[[], bool]) -> bool:
        """Merge a part of what batches have left; a store that fails is left as it is.

        :param is_urged: as for ``Storage.compact``.
        :returns: whether there may be more of that need.
        """
        try:
            return await self._compact(need, is_urged)
        except StorageBusyError:
            return False

    async def tidy(self) -> None:
        """Merge what batches have left, however little that is; for some seconds at most."""
        patience = Patience(_TIDY_SECONDS)
        is_more = True
        while is_more and not patience.is_over():
            try:
                is_more = await self._compact('everything', lambda: False)
            except StorageBusyError:
                await anyio.sleep(patience.pause())

    async def _compact(self, need: Need, is_urged: Callable[[], bool]) -> bool:
        if not self._is_open_for(writable=True):
            return False
        try:
            return await self._storage.compact(need, is_urged)
        except StorageBusyError:
            raise
        except StorageError as error:
            if self._is_open:
                logger.warning('merging what was logged failed, it stays readable: %s', error)
            return False
