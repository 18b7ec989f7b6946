"""Copies of experiments with what dead processes left of them taken in, for those who only read."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neptune_async._engine.durability.abandoned_journals import Segment, segments_of
from neptune_async._engine.durability.spill_files import read_spill
from neptune_async._engine.durability.taking_in import is_wanted, store_batches, store_segments
from neptune_async._messenger import messenger
from neptune_async._model.operations import (
    POINT_FIELDS,
    Assign,
    Batch,
    CreateVariable,
    Part,
    ResetMembers,
    Variable,
    point_key,
)
from neptune_async._storage.base import (
    Copyable,
    ExperimentSummary,
    Storage,
    Window,
)
from neptune_async._storage.points import Points, expanded
from neptune_async._storage.sqlite.scratch import ScratchStorage
from neptune_async.exceptions import NeptuneAsyncError, StorageBusyError, StorageFormatError

_told: set[Path] = set()
"""The files that this process has warned of."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The experiments that dead processes left something of, as they will be once it is taken in.

    The same functions take it in here and in the store, so that both come to the same.

    :ivar paths: the files that it was made of.
    :ivar based_on: the ids of these experiments in the store.
    :ivar version: the version of them in the store.
    :ivar scratch: holds the experiments, under the ids that they have in the store.
    :ivar experiments: what is in there, by name.
    """

    paths: Sequence[Path]
    based_on: Collection[int]
    version: Hashable
    scratch: ScratchStorage
    experiments: dict[str, ExperimentSummary]

    @property
    def ids(self) -> set[int]:
        """The ids of the experiments."""
        return {experiment.id for experiment in self.experiments.values()}


@dataclass(frozen=True, slots=True)
class _Left:
    """What is in a file of a dead process.

    :ivar batches: of a spill file.
    :ivar segments: of a journal.
    """

    path: Path
    batches: list[Batch] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """The names of all experiments that it has something of."""
        batches = [*self.batches, *(segment.batch for segment in self.segments)]
        return {part.name for batch in batches for part in batch.parts}

    @property
    def writers(self) -> set[bytes]:
        """All writers of which storage may know whether it has these batches."""
        written = {batch.writer for batch in self.batches}
        return written | {
            writer for segment in self.segments for writer in (segment.writer, segment.batch.writer)
        }

    async def is_wanted(self, storage: Storage) -> bool:
        """Whether storage lacks something of it."""
        for batch in self.batches:
            if await storage.last_batch(batch.writer) < batch.number:
                return True
        for segment in self.segments:
            if await is_wanted(storage, segment) and not await storage.last_batch(
                segment.batch.writer
            ):
                return True
        return False

    async def take_in(self, storage: Storage) -> None:
        """Store what storage lacks of it, as whoever opens the store for writing does."""
        await store_batches(storage, self.batches)
        await store_segments(storage, self.segments)


async def overlay_of(storage: Storage, paths: Sequence[Path]) -> Overlay:
    """Lay the files of dead processes over a store, which stays as it is.

    A file that cannot be read is warned of, once, and left out.

    :param paths: in the order in which they are to be taken in.
    :raises FileNotFoundError: another process has just taken one in.
    :raises StorageError: the store cannot be read.
    """
    # The files before the store: what another process takes in meanwhile is in it twice, and the
    # batches say so. The other way round it would be in neither.
    found = [_read(storage, path) for path in paths]
    left = [some for some in found if await some.is_wanted(storage)]
    names = {name for some in left for name in some.names}
    based_on = [experiment.id for experiment in await storage.find_experiments(names)]
    version = await storage.version(based_on)
    scratch = ScratchStorage()
    await scratch.open(writable=True)
    try:
        if left:
            await _copy(storage, scratch, names, {w for some in left for w in some.writers})
        if not isinstance(storage, Copyable) and version != await storage.version(based_on):
            raise StorageBusyError(f'{storage.location} has changed while it was read; try again')
        for some in left:
            try:
                await some.take_in(scratch)
            except NeptuneAsyncError as error:
                _tell(storage, some.path, error)
        experiments = {some.name: some for some in await scratch.find_experiments()}
    except BaseException:
        await scratch.close()
        raise
    return Overlay(paths, based_on, version, scratch, experiments)


def _read(storage: Storage, path: Path) -> _Left:
    try:
        if path.suffix == '.journal':
            return _Left(path, segments=segments_of(path))
        return _Left(path, batches=read_spill(path))
    except FileNotFoundError:
        raise
    except (NeptuneAsyncError, OSError) as error:
        _tell(storage, path, error)
        return _Left(path)


def _tell(storage: Storage, path: Path, error: Exception) -> None:
    if path not in _told:
        _told.add(path)
        messenger.warning(
            'what is read of %s lacks what is kept in %s: %s', storage.location, path, error
        )


# ── Copying ──────────────────────────────────────────────────────────────────


async def _copy(
    storage: Storage, scratch: ScratchStorage, names: Collection[str], writers: Collection[bytes]
) -> None:
    """Copy experiments, and what is known of writers, into an empty store."""
    if isinstance(storage, Copyable):
        await scratch.insert(await storage.copied_rows(names, writers))
        return
    for writer in writers:
        number = await storage.last_batch(writer)
        if number:
            await scratch.write(Batch(writer, number, []))
    found = await storage.find_experiments(names)
    for experiment in sorted(found, key=lambda experiment: experiment.id):
        await scratch.make(experiment.id, experiment.name, experiment.created)
        variables = await storage.list_variables(experiment.id, None)
        part = Part(experiment.id, experiment.name, None)
        await _add_values(storage, part, variables)
        await _add_points(storage, part, variables)
        await scratch.write(Batch(experiment.id.to_bytes(16, 'little'), 1, [part]))


async def _add_values(storage: Storage, part: Part, variables: Sequence[Variable]) -> None:
    latest = await storage.read_latest({part.experiment_id: variables})
    for variable in variables:
        part.operations.append(CreateVariable(variable))
        if variable.id in latest.damaged:
            raise StorageFormatError(latest.damaged[variable.id].why)
        members = latest.sets.get(variable.id)
        if variable.id in latest.atoms:
            value = latest.atoms[variable.id]
            part.operations.append(Assign(variable.id, variable.content, value))
        elif members is not None:
            part.operations.append(ResetMembers(variable.id, variable.content, tuple(members)))


async def _add_points(storage: Storage, part: Part, variables: Sequence[Variable]) -> None:
    readings = await storage.read_many_series(
        {part.experiment_id: variables}, Window(), steps=True, times=True
    )
    for variable_id, reading in readings.items():
        for points in reading.pieces:
            # None of the steps and timestamps is automatic any more.
            _add(part, point_key(variable_id, True), points)


def _add(part: Part, key: float, points: Points) -> None:
    steps, times, values = expanded(points.steps), points.times, points.values
    if isinstance(values, array):
        rows = array('d', bytes(8 * POINT_FIELDS * len(values)))
        rows[0::POINT_FIELDS] = array('d', [key]) * len(values)
        rows[1::POINT_FIELDS], rows[2::POINT_FIELDS] = steps, times
        rows[3::POINT_FIELDS] = values
        part.points += rows
    else:
        part.texts += [(key, *point) for point in zip(steps, times, values, strict=True)]
