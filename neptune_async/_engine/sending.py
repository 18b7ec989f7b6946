"""A batch on its way to storage: what may have to be done to it, and how long to try."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import anyio

from neptune_async._engine.state import ExperimentState
from neptune_async._model import messages
from neptune_async._model.operations import Batch, CreateVariable, Part
from neptune_async._storage.base import ExperimentRecord, Receipt, Storage, VariableConflict
from neptune_async.exceptions import Rejection, StorageBusyError, StorageError

logger = logging.getLogger('neptune_async')

T = TypeVar('T')

BUSY_PATIENCE = 60.0
"""Seconds for which a store that others hold is no fault."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch on its way, and the experiments of its parts by name."""

    batch: Batch
    states: dict[str, ExperimentState]

    @property
    def is_synced(self) -> bool:
        """Whether one of the experiments wants every commit forced to disk."""
        return any(state.is_synced for state in self.states.values())

    def new_part(self, state: ExperimentState) -> Part:
        """Return the part for an experiment, empty as yet."""
        part = state.new_part()
        self.states[state.name] = state
        self.batch.parts.append(part)
        return part

    def drop_last_part(self) -> None:
        """Take a part back that has stayed empty."""
        del self.states[self.batch.parts.pop().name]

    def copied(self, states: Iterable[ExperimentState]) -> Sent:
        """Return a copy that needs no state to be applied, for somebody else to store while this is
        on its way: storage takes only one of them. Empty if it has none of the experiments.
        """
        if not any(state in self.states.values() for state in states):
            return Sent(replace(self.batch, parts=[]), {})
        copy = Sent(
            replace(self.batch, parts=[replace(part) for part in self.batch.parts]), self.states
        )
        copy.bring_all_variables()
        return copy

    def count_retry(self) -> None:
        """Count one more attempt for each experiment."""
        for state in self.states.values():
            state.retries += 1

    def bring_all_variables(self) -> None:
        """Have every part create all variables that it names: it needs no state to be applied."""
        for part in self.batch.parts:
            self.states[part.name].bring_variables(part)

    def bring_variables(self, experiment_id: int) -> None:
        """Have the part of an experiment create all variables that it names."""
        for part in self.batch.parts:
            if part.experiment_id == experiment_id:
                self.states[part.name].bring_variables(part)

    def give_way(self, conflict: VariableConflict, renames: Renames) -> None:
        """Take over variables that other processes made first; reject what does not fit them."""
        for part in self.batch.parts:
            renames.resolve(part, conflict)
            for (experiment_id, variable_id), there in conflict.found.items():
                if experiment_id == part.experiment_id:
                    self.states[part.name].yield_to(variable_id, there)

    def adopt(self, receipt: Receipt) -> None:
        """Know the experiments as the batch has left them."""
        for part in self.batch.parts:
            record = receipt.experiments.get(part.experiment_id)
            if record is not None:
                self.states[part.name].adopt(record)


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


async def stored(storage: Storage, batch: Batch, renames: Renames | None = None) -> Receipt:
    """Store a batch that no experiment of this process has sent, and that brings its variables.

    :param renames: those of the batches before it, if it may name the same variables.
    """
    renames = renames or Renames()
    write = partial(storage.write, careful=True)
    while True:
        try:
            return await attempt(write, batch)
        except VariableConflict as conflict:
            for part in batch.parts:
                renames.resolve(part, conflict)


def count_of(batch: Batch) -> int:
    """Return how many operations of the user a batch has."""
    return sum(part.count for part in batch.parts)


def refused_whole(batch: Batch, error: Exception) -> Receipt:
    """Return the receipt of a batch that failed even operation by operation."""
    logger.error('a batch could not be written', exc_info=error)
    reason = f'{type(error).__name__}: {error}'
    return Receipt(
        rejections=[Rejection(part.name, '*', '*', reason, part.count) for part in batch.parts]
    )
