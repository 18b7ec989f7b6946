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
from neptune_async._storage.base import Receipt, Storage, VariableConflict
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

    def copied(self, states: Iterable[ExperimentState]) -> Sent:
        """Return a copy that needs no state to be applied, for somebody else to store while this is
        on its way: storage takes only one of them. Empty if it has none of the experiments.
        """
        if not any(state in self.states.values() for state in states):
            return Sent(replace(self.batch, parts=[]), {})
        copy = Sent(
            replace(self.batch, parts=[replace(part) for part in self.batch.parts]), self.states
        )
        for part in copy.batch.parts:
            self.states[part.name].bring_variables(part)
        return copy

    def count_retry(self) -> None:
        """Count one more attempt for each experiment."""
        for state in self.states.values():
            state.retries += 1

    def bring_variables(self, experiment_id: int) -> None:
        """Have the part of an experiment create all variables that it names."""
        for part in self.batch.parts:
            if part.experiment_id == experiment_id:
                self.states[part.name].bring_variables(part)


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


async def stored(
    storage: Storage,
    batch: Batch,
    renamed: dict[int, int | None],
    refused: dict[int, Rejection],
) -> Receipt:
    """Store a batch that no experiment of this process has sent, and that brings its variables.

    :param renamed: takes the ids of variables that others made first at the same paths; None
        for those that may not be written to.
    :param refused: takes what is to be said of the latter.
    """
    write = partial(storage.write, careful=True)
    while True:
        try:
            return await attempt(write, batch)
        except VariableConflict as conflict:
            for part in batch.parts:
                ids = resolved_conflicts(part, conflict, refused)
                renamed.update(ids)
                replace_ids(part, ids, refused)


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


def resolved_conflicts(
    part: Part, conflict: VariableConflict, refused: dict[int, Rejection]
) -> dict[int, int | None]:
    """Return the ids of variables to use instead of those in conflict; None for those that may
    not be written to, whose rejection is added to ``refused``.
    """
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
                refused[wanted.id] = messages.rejection(part.name, wanted, there)
    return ids


def replace_ids(
    part: Part, ids: Mapping[int, int | None], refused: Mapping[int, Rejection]
) -> None:
    """Rename variables in a part, and reject what names those that it may not."""
    for variable_id, count in part.replace(ids).items():
        part.rejections.append(replace(refused[variable_id], count=count))
