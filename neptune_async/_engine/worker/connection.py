"""The connection to a store: it opens the store for reading or writing, and merges chunks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from neptune_async._engine.durability.cleaning import Waste, clean, find_waste
from neptune_async._engine.durability.recovery import LeftBehind, Recovery
from neptune_async._engine.storing.batches import stored
from neptune_async._engine.storing.retries import Patience, attempt, found_or_made
from neptune_async._messenger import messenger
from neptune_async._model.operations import Batch
from neptune_async._storage.base import ExperimentRecord, Need, Receipt, Storage
from neptune_async.exceptions import StorageBusyError, StorageError

T = TypeVar('T')

TIDY_SECONDS = 5.0
"""The longest time, in seconds, that merging may take at the end. Points that are not merged can
be read all the same.
"""


class Connection:
    """The only connection of this process to a store. Only the worker's thread uses it.

    To open a store for reading does not create it, and changes nothing in it. To open it for
    writing stores what is in the journals and spill files that dead processes left.
    """

    def __init__(self, storage: Storage, recovery: Recovery) -> None:
        self._storage = storage
        self._recovery = recovery
        self._is_open = self._is_writable = False
        self._has_warned = False

    def begin(self) -> None:
        """Start closed, on a new event loop. The loop before it may have died."""
        self._opening = anyio.Lock()
        self._is_open = False

    async def open(self, *, writable: bool) -> None:
        """Open the store, if it is not open for this already.

        :param writable: True to write to it; this creates the store if it does not exist.
        :raises StorageError: the store does not exist, or cannot be opened.
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
            self._is_open, self._is_writable = True, writable

    @property
    def is_writable(self) -> bool:
        """Whether the store is open for writing."""
        return self._is_open_for(writable=True)

    def _is_open_for(self, writable: bool) -> bool:
        return self._is_open and (self._is_writable or not writable)

    async def open_for_batches(self) -> None:
        """Open the store for the batches of this process.

        What dead processes left is stored first: it may have earlier points of the same series.

        :raises StorageError: the store cannot be opened, or does not take what was left.
        """
        await self.open(writable=True)
        await self._recovery.complete()

    async def close(self) -> None:
        """Close the store. If that fails, log a warning and raise nothing."""
        if self._is_open:
            self._is_open = False
            try:
                await self._storage.close()
            except StorageError as error:
                messenger.warning('closing the store failed: %s', error)

    # ── Calls that belong to no open experiment ──────────────────────────────

    async def ask(self, query: Callable[[Storage], Awaitable[T]]) -> T:
        """Query the store as it is now. This never creates a store."""
        await self.open(writable=False)
        return await attempt(query, self._storage)

    async def open_for_writing(self) -> None:
        """Open the store. Create it if it does not exist."""
        await self.open(writable=True)

    async def make_experiment(self, name: str, created: float | None = None) -> ExperimentRecord:
        """Return the experiment with this name. Create it, and the store, if it does not exist.

        :param created: as for ``Storage.create_experiment``.
        """
        await self.open(writable=True)
        return await found_or_made(self._storage, name, created)

    async def store(self, batch: Batch) -> Receipt:
        """Store a batch that comes from no queue and creates all its variables itself. To store
        the same batch again changes nothing.
        """
        await self.open(writable=True)
        return await stored(self._storage, batch)

    async def recover(self) -> list[LeftBehind]:
        """Store what dead processes left, and return a list of what that was.

        :raises StorageError: the store does not exist, or cannot be opened.
        """
        await self.open(writable=self._recovery.is_needed())
        return [*self._recovery.found.values()]

    async def find_waste(self) -> Waste:
        """Return what ``clean`` would remove, and change nothing.

        :raises StorageError: the store does not exist, or that cannot be told.
        """
        await self.open(writable=False)
        return await find_waste(self._storage)

    async def clean(self) -> Waste:
        """Remove contents of files that nothing refers to, and what the dead have left of files.
        First store what else they have left.

        :raises StorageError: the store does not exist, or not all could be removed.
        """
        await self.open(writable=False)
        await self.open(writable=True)
        return await clean(self._storage)

    async def take_in(self) -> None:
        """Store what dead processes left since the store was opened.

        :raises StorageError: the store does not take it.
        """
        await self.open(writable=True)
        await self._recovery.run()
        await self._recovery.complete()

    # ── Merging ──────────────────────────────────────────────────────────────

    async def compact(self, need: Need, is_urged: Callable[[], bool]) -> bool:
        """Merge a part of the points that batches wrote. If storage fails, warn and return False.

        :param is_urged: as for ``Storage.compact``.
        :returns: whether there may be more to merge for that need.
        """
        try:
            return await self._compact(need, is_urged)
        except StorageBusyError:
            return False

    async def tidy(self) -> None:
        """Merge everything that batches wrote, for at most ``TIDY_SECONDS``."""
        patience = Patience(TIDY_SECONDS)
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
            is_more = await self._storage.compact(need, is_urged)
        except StorageBusyError:
            raise
        except StorageError as error:
            # Merging is tried after each interval. Warn once, until it works again.
            if self._is_open and not self._has_warned:
                self._has_warned = True
                messenger.warning('merging what was logged failed, it stays readable: %s', error)
            return False
        self._has_warned = False
        return is_more
