"""Recovery: it stores the spill files and journals that dead processes left beside a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neptune_async._engine.durability.abandoned_journals import (
    AbandonedJournal,
    find_journals,
    see_journals,
    segments_of,
)
from neptune_async._engine.durability.spill_files import find_spills, read_spill
from neptune_async._engine.durability.taking_in import is_wanted, store_batches, store_segments
from neptune_async._engine.storing.uploads import discard_files
from neptune_async._messenger import messenger
from neptune_async._model.operations import Batch
from neptune_async._storage.base import Storage
from neptune_async.exceptions import NeptuneAsyncError, StorageError, StorageFormatError

_told: set[Path] = set()
"""The files that this process has warned of. A process that reads a store often also opens it
often, and warns once all the same.
"""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A spill file or a journal of a dead process.

    :ivar count: how many of its operations were stored.
    :ivar error: why they were not stored. The file is still there then.
    """

    path: Path
    count: int
    error: Exception | None = None


class Recovery:
    """Stores what dead processes left. The store must be open.

    :param is_own: tells whether a spill file belongs to this process, which stores it later.
    :param is_failing: tells whether a fault of the storage was reported already.
    :ivar found: what was found, and what became of it.
    """

    def __init__(
        self,
        storage: Storage,
        is_own: Callable[[Path], bool],
        is_failing: Callable[[], bool],
    ) -> None:
        self._storage = storage
        self._is_own = is_own
        self._is_failing = is_failing
        self._fault: StorageError | None = None
        self.found: dict[Path, LeftBehind] = {}

    def is_needed(self) -> bool:
        """Whether there is a spill file or a journal."""
        folder = self._storage.spill_folder
        return folder is not None and (bool(find_spills(folder)) or any(folder.glob('*.journal')))

    async def left_behind(self) -> list[Path]:
        """Return what is there to be recovered. Write, lock and remove nothing."""
        folder = self._storage.spill_folder
        if folder is None:
            return []
        try:
            spills = [path for path in find_spills(folder) if not self._is_own(path)]
            return spills + [path for path in see_journals(folder) if await self._has_more(path)]
        except OSError:
            return []  # a user who may not list the folder can still read the store

    async def warn(self) -> None:
        """Warn that the store lacks what is in these files. Each process warns of a file once."""
        left = [path for path in await self.left_behind() if path not in _told]
        if left:
            _told.update(left)
            location = self._storage.location
            messenger.warning(
                'what is read of %s lacks what is kept in %s; to take it in, run: neptune-async '
                'recover --storage %s',
                location, ', '.join(map(str, left)), location,
            )  # fmt: skip

    async def _has_more(self, journal: Path) -> bool:
        """Whether a journal has operations that storage lacks, or cannot be read."""
        try:
            for segment in segments_of(journal):
                if await is_wanted(self._storage, segment):
                    return True
        except FileNotFoundError:
            return False  # another process is recovering it
        except (NeptuneAsyncError, OSError):
            return True
        return False

    async def complete(self) -> None:
        """Try again to store what storage did not take before.

        :raises StorageError: storage does not take it now.
        """
        if self._fault is not None:
            await self.run()
        if self._fault is not None:
            raise self._fault

    async def run(self) -> None:
        """Store one file after the other. Stop at the first that storage does not take: the next
        files may have later points of the same series.
        """
        self._fault = None
        folder = self._storage.spill_folder
        if folder is None:
            return
        try:
            for path in find_spills(folder):
                if not self._is_own(path):
                    remove = partial(path.unlink, missing_ok=True)
                    await self._take_in_file(path, self._store_spill(path), remove)
            # Journals come after spill files: if a batch is in both, storage has it already then.
            for journal in find_journals(folder):
                try:
                    storing = self._store_journal(journal)
                    await self._take_in_file(journal.path, storing, journal.remove)
                finally:
                    journal.let_go()
        except StorageError as fault:
            self._fault = fault

    async def _take_in_file(
        self, path: Path, storing: Awaitable[int], remove: Callable[[], object]
    ) -> None:
        """Store what is in a file, remove the file, and report what was done.

        :raises StorageError: the storage is at fault, not the file.
        """
        try:
            count = await storing
            remove()
        except FileNotFoundError:
            pass  # another process has recovered it since it was found
        except (NeptuneAsyncError, OSError) as error:
            self.found[path] = LeftBehind(path, 0, error)
            if not self._is_failing():
                messenger.warning('%s was not taken in: %s', path, error)
            if isinstance(error, StorageError) and not isinstance(error, StorageFormatError):
                raise
        else:
            self.found[path] = LeftBehind(path, count)
            if count:
                messenger.warning(
                    '%s was taken in: the %d operations that it kept are in %s',
                    path, count, self._storage.location,
                )  # fmt: skip

    async def _store_spill(self, path: Path) -> int:
        batches = read_spill(path, self._storage.spill_folder)
        count = await store_batches(self._storage, batches)
        _discard_files(batches)
        return count

    async def _store_journal(self, journal: AbandonedJournal) -> int:
        segments = journal.segments()
        count = await store_segments(self._storage, segments)
        _discard_files([segment.batch for segment in segments])
        return count


def _discard_files(batches: Iterable[Batch]) -> None:
    for batch in batches:
        for part in batch.parts:
            discard_files(part)
