"""Copies of experiments with what dead processes left of them taken in, for those who only read."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neptune_async._engine.durability.abandoned_journals import Segment, segments_of
from neptune_async._engine.durability.partial_copy import PartialCopy
from neptune_async._engine.durability.spill_files import read_spill
from neptune_async._engine.durability.taking_in import is_wanted, store_batches, store_segments
from neptune_async._messenger import messenger
from neptune_async._model.operations import (
    POINT_FIELDS,
    Assign,
    Batch,
    CreateVariable,
    Delete,
    Part,
    ResetMembers,
    Rewind,
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
    :ivar scratch: holds the experiments, under the ids that they have in the store, but for the
        series that nothing was left of.
    :ivar experiments: what is in there, by name.
    """

    paths: Sequence[Path]
    based_on: Collection[int]
    version: Hashable
    scratch: PartialCopy
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
    def parts(self) -> list[Part]:
        """All that it has."""
        batches = [*self.batches, *(segment.batch for segment in self.segments)]
        return [part for batch in batches for part in batch.parts]

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
    read = [_read(storage, path) for path in paths]
    left = [some for some in read if await some.is_wanted(storage)]
    parts = [part for some in left for part in some.parts]
    names = {part.name for part in parts}
    found = await storage.find_experiments(names)
    based_on = [experiment.id for experiment in found]
    version = await storage.version(based_on)
    scratch = PartialCopy(storage, await _untouched(storage, found, parts))
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
        return _Left(path, batches=read_spill(path, storage.spill_folder))
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


async def _untouched(
    storage: Storage, experiments: Sequence[ExperimentSummary], parts: Sequence[Part]
) -> dict[int, list[Variable]]:
    """Return the series that no part has anything for, by the experiment's id."""
    try:
        variables = await storage.find_variables([experiment.id for experiment in experiments])
    except StorageFormatError:
        return {}  # damaged rows can be copied; whoever reads them is told
    found = {}
    for experiment in experiments:
        known = variables.get(experiment.id, [])
        touched = _touched([part for part in parts if part.name == experiment.name], known)
        if touched is not None:
            series = [variable for variable in known if variable.container == 'series']
            found[experiment.id] = [each for each in series if each.path not in touched]
    return found


def _touched(parts: Sequence[Part], known: Sequence[Variable]) -> set[str] | None:
    """Return the paths that parts have something for; None if that may be any of them."""
    paths = {variable.id: variable.path for variable in known}
    ids: set[int] = set()
    for part in parts:
        ids |= part.variable_ids()
        for operation in part.operations:
            if isinstance(operation, (Delete, Rewind)):
                return None
            if isinstance(operation, CreateVariable):
                paths[operation.variable.id] = operation.variable.path
    return {paths[each] for each in ids} if ids <= paths.keys() else None


async def _copy(
    storage: Storage, scratch: PartialCopy, names: Collection[str], writers: Collection[bytes]
) -> None:
    """Copy experiments, and what is known of writers, into an empty store."""
    if isinstance(storage, Copyable):
        rows = await storage.copied_rows(names, writers, scratch.ids_left_there)
        await scratch.insert(rows)
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
        wanted = [v for v in variables if v.id not in scratch.ids_left_there]
        await _add_points(storage, part, wanted)
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
