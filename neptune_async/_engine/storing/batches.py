"""What is done to a batch that storage does not take as it is: renaming, or refusing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from neptune_async._engine.storing.retries import attempt
from neptune_async._engine.storing.uploads import keep_again, keep_files
from neptune_async._messenger import messenger
from neptune_async._model import messages
from neptune_async._model.operations import Batch, CreateVariable, Part
from neptune_async._storage.base import MissingFiles, Receipt, Storage, VariableConflict
from neptune_async.exceptions import Rejection

_MOST_TOLD = 100

_told: set[str] = set()
"""The errors whose traceback this process has logged: a handler of logging that writes to the
experiment, of which storage can digest nothing, would be called for ever.
"""


class Renames:
    """The variables that other processes made first at the same paths.

    What was queued before that was found out names them by ids that they never got.
    """

    def __init__(self) -> None:
        # None for a variable that may not be written to, whose rejection is in _refused.
        self._ids: dict[int, int | None] = {}
        self._refused: dict[int, Rejection] = {}

    def resolve(self, part: Part, conflict: VariableConflict) -> None:
        """Rename the variables of a conflict, from now on and in the part that met it."""
        ids: dict[int, int | None] = {}
        for operation in part.operations:
            if isinstance(operation, CreateVariable):
                wanted = operation.variable
                there = conflict.found.get((part.experiment_id, wanted.id))
                if there is None:
                    continue
                fits = wanted.container == there.container and (
                    wanted.container == 'atom' or wanted.content == there.content
                )
                ids[wanted.id] = there.id if fits else None
                if not fits:
                    self._refused[wanted.id] = messages.rejection(part.name, wanted, there)
        self._ids.update(ids)
        self._replace(part, ids)

    def refuse_deleted(self, part: Part, variable_ids: Iterable[int]) -> None:
        """Reject what a part has for variables that storage has no more."""
        ids = dict.fromkeys(variable_ids)
        for variable_id in ids:
            self._refused[variable_id] = messages.deleted_meanwhile(part.name)
        self._replace(part, ids)

    def apply(self, part: Part) -> None:
        """Rename in a part what was renamed since its operations were queued."""
        self._replace(part, self._ids)

    def _replace(self, part: Part, ids: Mapping[int, int | None]) -> None:
        if not ids:
            return
        for variable_id, count in part.replace(ids).items():
            part.rejections.append(replace(self._refused[variable_id], count=count))


async def stored(storage: Storage, batch: Batch, renames: Renames | None = None) -> Receipt:
    """Store a batch that no experiment of this process has sent, and that brings its variables.

    :param renames: those of the batches before it, if it may name the same variables.
    """
    renames = renames or Renames()
    await attempt(keep_files, storage, batch)
    write = partial(storage.write, careful=True)
    while True:
        try:
            receipt = await attempt(write, batch)
        except VariableConflict as conflict:
            for part in batch.parts:
                renames.resolve(part, conflict)
        except MissingFiles as error:
            await keep_again(storage, batch, error.missing)
        else:
            return receipt


def count_of(batch: Batch) -> int:
    """Return how many operations of the user a batch has."""
    return sum(part.count for part in batch.parts)


def refused_whole(batch: Batch, error: Exception) -> Receipt:
    """Return the receipt of a batch that failed even operation by operation."""
    reason = f'{type(error).__name__}: {error}'
    if reason not in _told and len(_told) < _MOST_TOLD:
        _told.add(reason)
        messenger.error('a batch could not be written', why=error)
    return Receipt(
        rejections=[Rejection(part.name, '*', '*', reason, part.count) for part in batch.parts]
    )
