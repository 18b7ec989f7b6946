"""Storing what processes that have ended left beside a store: spill files and journals."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neptune_async._engine.journal import (
    AbandonedJournal,
    Segment,
    find_journals,
    see_journals,
    segments_of,
)
from neptune_async._engine.sending import Renames, attempt, count_of, stored
from neptune_async._engine.spill import find_spills, read_spill
from neptune_async._model.operations import Part
from neptune_async._storage.base import Storage
from neptune_async.exceptions import NeptuneAsyncError, StorageError, StorageFormatError

logger = logging.getLogger('neptune_async')

_told: set[Path] = set()
"""What this process has warned of: one that reads a store again and again opens it as often."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A spill file or a journal of a process that has ended.

    :ivar count: how many of its operations were taken in.
    :ivar error: why it was not taken in, and is still there.
    """

    path: Path
    count: int
    error: Exception | None = None


class Recovery:
    """Takes in what was left behind, once the store is open.

    :param is_own: whether a spill file is of this process, and has its turn later.
    :param is_failing: whether it is known, and was said, that storage fails.
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
        """Whether a spill file or a journal is there."""
        folder = self._storage.spill_folder
        return folder is not None and (bool(find_spills(folder)) or any(folder.glob('*.journal')))

    async def left_behind(self) -> list[Path]:
        """Return what there is to be taken in; nothing is written, locked or removed."""
        folder = self._storage.spill_folder
        if folder is None:
            return []
        try:
            spills = [path for path in find_spills(folder) if not self._is_own(path)]
            return spills + [path for path in see_journals(folder) if await self._has_more(path)]
        except OSError:
            return []  # who may not look there reads all the same

    async def warn(self) -> None:
        """Say, once a process, what a store that is only read lacks."""
        left = [path for path in await self.left_behind() if path not in _told]
        if left:
            _told.update(left)
            location = self._storage.location
            logger.warning(
                'what is read of %s lacks what is kept in %s; to take it in, run: neptune-async '
                'recover --storage %s',
                location, ', '.join(map(str, left)), location,
            )  # fmt: skip

    async def _has_more(self, journal: Path) -> bool:
        """Whether a journal has something that storage has not, or cannot be read."""
        try:
            for segment in segments_of(journal):
                (part,) = segment.batch.parts
                if (part.count or part.operations) and not await self._has_stored(segment):
                    return True
        except FileNotFoundError:
            return False  # another process is taking it in
        except (NeptuneAsyncError, OSError):
            return True
        return False

    async def _has_stored(self, segment: Segment) -> bool:
        """Whether storage has the batch that a segment became, if it became one."""
        return bool(segment.number) and segment.number <= await attempt(
            self._storage.last_batch, segment.writer
        )

    async def complete(self) -> None:
        """Take in what storage did not take before.

        :raises StorageError: it does not take it now.
        """
        if self._fault is not None:
            await self.run()
        if self._fault is not None:
            raise self._fault

    async def run(self) -> None:
        """Take in file after file, up to the first that storage does not take: what comes next
        may be later points of the same series.
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
            # After the spill files: what is in one of them is known to be stored then.
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
        """Store what is in a file and remove it, and note and say what became of it.

        :raises StorageError: storage is at fault, and not the file.
        """
        try:
            count = await storing
            remove()
        except FileNotFoundError:
            pass  # another process that opened the store has taken it in since it was found
        except (NeptuneAsyncError, OSError) as error:
            self.found[path] = LeftBehind(path, 0, error)
            if not self._is_failing():
                logger.warning('%s was not taken in: %s', path, error)
            if isinstance(error, StorageError) and not isinstance(error, StorageFormatError):
                raise
        else:
            self.found[path] = LeftBehind(path, count)
            if count:
                logger.warning(
                    '%s was taken in: the %d operations that it kept are in %s',
                    path, count, self._storage.location,
                )  # fmt: skip

    async def _store_spill(self, path: Path) -> int:
        """Store what a spill file has; return how many operations that is."""
        batches = read_spill(path)
        for batch in batches:
            await stored(self._storage, batch)
        return sum(map(count_of, batches))

    async def _store_journal(self, journal: AbandonedJournal) -> int:
        """Store what a journal has and storage has not; return how many operations that is."""
        renames = Renames()
        count = 0
        for segment in journal.segments():
            if await self._has_stored(segment):
                continue
            (part,) = segment.batch.parts
            if part.count or part.operations:
                renames.apply(part)
                renames.refuse_deleted(part, await self._unknown_ids(part))
                await stored(self._storage, segment.batch, renames)
                count += part.count
        return count

    async def _unknown_ids(self, part: Part) -> set[int]:
        """Return the variables that a part names and does not create, and storage does not have."""
        named = part.variable_ids() - part.created_ids()
        record = await attempt(self._storage.find_experiment, part.name) if named else None
        if record is not None:
            known = await attempt(self._storage.list_variables, record.id, None)
            named -= {variable.id for variable in known}
        return named
