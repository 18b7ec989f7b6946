"""Batches that were moved from memory to a spill file before they were stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from neptune_async._engine.durability.spill_files import read_spill, write_spill
from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.storing.batches import Renames, count_of
from neptune_async._engine.storing.uploads import (
    discard_files,
    keep_again,
    keep_files,
    pending_in,
)
from neptune_async._engine.worker.sent_batch import SentBatch
from neptune_async._model.pending_files import PendingFile
from neptune_async._storage.base import MissingFiles, Storage, VariableConflict
from neptune_async.exceptions import Rejection, StorageError, StorageFormatError


class SpilledBatches:
    """Batches in a spill file, until storage works again. They stay in memory if no file can be
    written.

    :param ahead: the batches that come first.
    :param taken: the batches that were taken from the queues after them.
    :param is_handed_over: False if the worker still tries to store the batches in ``ahead``, and
        will settle them.

    :ivar path: the spill file; None while there is none.
    :ivar count: how many operations the batches have.
    :ivar names: the names of the experiments of these operations.
    :ivar is_named: whether a line on stderr has named the file.
    """

    def __init__(
        self,
        ahead: Sequence[SentBatch],
        taken: Sequence[SentBatch],
        *,
        is_handed_over: bool = False,
    ) -> None:
        self.path: Path | None = None
        self.is_named = False
        self._sents = [sent for sent in (*ahead, *taken) if sent.batch.parts]
        self._folder: Path | None = None
        self._fault: OSError | None = None
        self._is_refused = False
        # The files that the batches brought: they go when the spill file goes.
        self._staged: list[PendingFile] = []
        self._states: dict[str, ExperimentState] = {}
        self._identities = [(sent.batch.writer, sent.batch.number) for sent in self._sents]
        # For each experiment: how many operations are settled when the batches are stored.
        self._counts: dict[str, int] = {}
        self.count = 0
        self.names: set[str] = set()
        for sent in self._sents:
            self._states |= sent.states
            self.count += count_of(sent.batch)
            self.names |= {part.name for part in sent.batch.parts}
        for sent in (*ahead, *taken) if is_handed_over else taken:
            for part in sent.batch.parts:
                self._counts[part.name] = self._counts.get(part.name, 0) + part.count

    def write(self, folder: Path | None) -> None:
        """Move the batches to a spill file. They stay in memory if the file cannot be written.

        :param folder: where spill files are; None if the store is in memory: there is no file then.
        """
        self._folder = folder
        if folder is None:
            return
        held = [(name, file, file.memory) for name, file in self._files()]
        try:
            self.path = write_spill(folder, [sent.batch for sent in self._sents])
        except OSError as error:
            self._fault = error
            return
        for name, file, size in held:
            self._states[name].queue.free(size)
            file.memory = 0  # of a batch that is also on its way, it is not to be freed again
        self._sents = []
        self._release()
        for name, count in self._counts.items():
            self._states[name].queue.spill(count)

    def _files(self) -> Iterator[tuple[str, PendingFile]]:
        """Yield the files that the batches bring, or have brought, with their experiment's name."""
        for sent in self._sents:
            for part in sent.batch.parts:
                for file in (*part.pending, *pending_in(part)):
                    yield part.name, file

    def keeps(self, sent: SentBatch) -> bool:
        """Whether the spill file has a batch, and is still there."""
        identity = (sent.batch.writer, sent.batch.number)
        return identity in self._identities and self.path is not None and self.path.exists()

    async def store(self, storage: Storage, renames: Renames) -> None:
        """Store the batches and settle them. Reject what storage can never take.

        :raises StorageError: storage fails.
        """
        rejections = await self._stored(storage, renames)
        for name, count in self._counts.items():
            own = [rejection for rejection in rejections if rejection.experiment == name]
            self._states[name].settle(count, own, spilled=self.path is not None)
        self._release()
        if self.path is None:
            for sent in self._sents:
                for part in sent.batch.parts:
                    self._states[part.name].queue.free(discard_files(part))
        elif not self._is_refused:
            self.path.unlink(missing_ok=True)
            for file in self._staged:
                file.discard()

    def why_in_memory(self, location: str, why: object) -> str:
        """Return the reason why there is no file."""
        if self._fault is None:
            return 'the store is in memory'
        return f'they could not be stored in {location} ({why}), nor kept in a file ({self._fault})'

    async def _stored(self, storage: Storage, renames: Renames) -> list[Rejection]:
        try:
            sents = self._read()
        except FileNotFoundError:
            # Another process opened the store and recovered the file, or somebody deleted it.
            for writer, number in self._identities:
                if await storage.last_batch(writer) < number:
                    return self._refused(f'the spill file {self.path} is gone')
            for state in self._states.values():
                state.bring_all_variables()
            return []
        except (OSError, StorageFormatError) as error:
            return self._refused(str(error))
        rejections: list[Rejection] = []
        for sent in sents:
            await keep_files(storage, sent.batch, synced=sent.is_synced)
            while True:
                try:
                    receipt = await storage.write(sent.batch, careful=True, synced=sent.is_synced)
                except VariableConflict as conflict:
                    sent.give_way(conflict, renames)
                except MissingFiles as error:
                    await keep_again(storage, sent.batch, error.missing)
                except StorageError:
                    raise
                except Exception as error:  # a bad batch must not end the worker
                    return self._refused(f'{type(error).__name__}: {error}')
                else:
                    break
            sent.adopt(receipt)
            rejections += receipt.rejections
            self._staged += [file for part in sent.batch.parts for file in part.pending]
        return rejections

    def _read(self) -> list[SentBatch]:
        if self.path is None:
            return self._sents
        return [SentBatch(batch, self._states) for batch in read_spill(self.path, self._folder)]

    def _refused(self, reason: str) -> list[Rejection]:
        """Give up the batches, and return the rejections that report it. Their file stays."""
        self._is_refused = True
        return [Rejection(name, '*', '*', reason, count) for name, count in self._counts.items()]

    def _release(self) -> None:
        """Remove the batches from journals, because they are stored, or in the spill file."""
        for writer, number in self._identities:
            for state in self._states.values():
                state.queue.release(writer, number)


def told_at_the_end(kept: Sequence[SpilledBatches], location: str, why: object) -> str:
    """Return what to print when nobody will try again: which operations were not stored, and
    where they are, or that they are lost.
    """
    parts = []
    lost = [some for some in kept if some.path is None]
    if lost:
        parts.append(
            f'neptune_async: {_what(lost)} are lost: {lost[0].why_in_memory(location, why)}'
        )
    paths = [str(some.path) for some in kept if some.path is not None]
    if paths:
        left = [some for some in kept if some.path is not None]
        parts.append(
            f'neptune_async: {_what(left)} could not be stored in {location} ({why}); they are '
            f'kept in {", ".join(paths)}, and the next Experiment that opens '
            "the store takes them in, or 'python -m neptune_async recover'"
        )
    return '\n'.join(parts)


def told_on_the_way(kept: SpilledBatches, location: str, why: object) -> str:
    """Return what to log about operations that were moved out of memory while storage fails."""
    if kept.path is None:
        return f'{_what([kept])} stay in memory: {kept.why_in_memory(location, why)}'
    return (
        f'{_what([kept])} are kept in {kept.path}, since {location} fails ({why}); they are '
        'stored when it works again, and the next Experiment that opens the store takes them in'
    )


def _what(kept: Sequence[SpilledBatches]) -> str:
    count = sum(some.count for some in kept)
    names = sorted(set().union(*(some.names for some in kept)))
    return f'{count:,} operations of {", ".join(names)}'
