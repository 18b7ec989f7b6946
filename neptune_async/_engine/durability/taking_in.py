"""Storing what was read from the spill file or the journal of a dead process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neptune_async._engine.durability.abandoned_journals import Segment
from neptune_async._engine.storing.batches import Renames, count_of, stored
from neptune_async._engine.storing.retries import attempt
from neptune_async._model.operations import Batch, Part
from neptune_async._storage.base import Storage


async def store_batches(storage: Storage, batches: Sequence[Batch]) -> int:
    """Store the batches of a spill file. Return how many operations that is."""
    for batch in batches:
        await stored(storage, batch)
    return sum(map(count_of, batches))


async def store_segments(storage: Storage, segments: Iterable[Segment]) -> int:
    """Store what is in the segments of a journal and not in storage. Return how many operations
    that is.
    """
    renames = Renames()
    count = 0
    for segment in segments:
        if not await is_wanted(storage, segment):
            continue
        (part,) = segment.batch.parts
        renames.apply(part)
        renames.refuse_deleted(part, await _unknown_ids(storage, part))
        await stored(storage, segment.batch, renames)
        count += part.count
    return count


async def is_wanted(storage: Storage, segment: Segment) -> bool:
    """Whether a segment has operations, and is no batch that storage has."""
    (part,) = segment.batch.parts
    if not (part.count or part.operations):
        return False
    return not segment.number or segment.number > await attempt(storage.last_batch, segment.writer)


async def _unknown_ids(storage: Storage, part: Part) -> set[int]:
    """Return the ids of variables that a part uses, but that neither it nor storage has."""
    named = part.variable_ids() - part.created_ids()
    record = await attempt(storage.find_experiment, part.name) if named else None
    if record is not None:
        known = await attempt(storage.list_variables, record.id, None)
        named -= {variable.id for variable in known}
    return named
