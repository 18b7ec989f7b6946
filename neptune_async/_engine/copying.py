"""Copies experiments from store to store, each point once, also if it stops and starts again."""

from __future__ import annotations

import hashlib
import shlex
from array import array
from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeAlias

import anyio

from neptune_async._engine.durability.recovery import Recovery
from neptune_async._engine.durability.staged_copies import owner_mark
from neptune_async._engine.queueing.variable_ids import VariableIds
from neptune_async._engine.reading.damage import pieces_at_end
from neptune_async._engine.reading.stored_files import pieces
from neptune_async._engine.storing.retries import attempt, found_or_made
from neptune_async._engine.storing.uploads import SMALL
from neptune_async._model import messages
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
from neptune_async._model.pending_files import STAGED
from neptune_async._model.values import decode, size_of
from neptune_async._storage import registry
from neptune_async._storage.base import (
    ExperimentRecord,
    ExperimentSummary,
    MissingFiles,
    StaleEpoch,
    Storage,
    VariableConflict,
    Window,
)
from neptune_async._storage.points import Points, concatenated, expanded
from neptune_async.exceptions import (
    ExperimentNotFoundError,
    InvalidStorageError,
    NeptuneAsyncError,
    StorageError,
    StorageFormatError,
)
from neptune_async.files import FileReference

_BATCH_POINTS = 2**16
"""A batch is sent when it has so many points and operations."""
_BATCH_FILES = 2**6
"""So many files of a series, which may bring their content along, are added to a batch at once."""
_BATCH_CHARACTERS = 2**24
"""A batch is sent when its texts have so many characters."""


@dataclass(slots=True)
class Copied:
    """How far the copying of an experiment has come.

    :ivar of: how many variables the experiment has.
    :ivar variables: how many of them are done.
    :ivar points: how many points were written. Points that the target had already do not count.
    :ivar bytes: how many bytes large files were copied with.
    :ivar failure: why the experiment was not copied; None if it was, or is being copied.
    """

    experiment: str
    of: int = 0
    variables: int = 0
    points: int = 0
    bytes: int = 0
    failure: NeptuneAsyncError | None = None


Report: TypeAlias = Callable[[Copied], object]
"""A function that is called after each variable and each batch."""


def copy_experiments(
    source: str, target: str, names: Sequence[str] = (), report: Report = lambda _: None
) -> list[Copied]:
    """Copy experiments to another store. Complete those that the target has in part.

    New points are appended after the points that the target has. Atoms and sets get the value of
    the source. Variables that only the target has stay. If the source can be written to, it first
    recovers what dead processes left beside it. The copying may stop and start again at any time,
    and several processes may run it at once. If one experiment cannot be copied, the others still
    are.

    :param source, target: as for ``storage=``.
    :param names: the experiments to copy; all of them if this is empty.
    :raises ExperimentNotFoundError: the source has no experiment of that name.
    :raises StorageError: a store fails. What was copied before stays.
    :returns: the result for each experiment, in order. Its ``failure`` is set if the target has
        another variable or other points than the source, or if one of them is damaged.
    """
    urls = registry.resolve(source), registry.resolve(target)
    if urls[0] == urls[1]:
        raise InvalidStorageError('source and target are the same store; name two')
    storages = registry.create(urls[0]), registry.create(urls[1])
    try:
        # asyncio, because aiosqlite and asyncpg need it.
        return anyio.run(_copy, *storages, names, report, backend='asyncio')
    except CancelledError:
        # Before Python 3.11, Ctrl-C cancels the task. Nothing else cancels it.
        raise KeyboardInterrupt from None


async def _copy(
    source: Storage, target: Storage, names: Sequence[str], report: Report
) -> list[Copied]:
    try:
        await _open_source(source)
        known = await attempt(source.list_experiments)
        for name in names:
            if name not in known:
                raise messages.experiment_not_found(name, source.location, known)
        await attempt(partial(target.open, writable=True))
        copied = [await _Copying(source, target, name, report).run() for name in names or known]
        await attempt(_compacted, target)
        return copied
    finally:
        for storage in (source, target):
            await storage.close()


async def _open_source(source: Storage) -> None:
    """Open a store for reading. If dead processes left something beside it, store that first; if
    the store cannot be written to, only warn.
    """
    recovery = Recovery(source, is_own=lambda _: False, is_failing=lambda: False)
    await attempt(partial(source.open, writable=False))
    if await recovery.left_behind():
        await source.close()
        try:
            await attempt(partial(source.open, writable=True))
            await recovery.run()
        except StorageError:
            await attempt(partial(source.open, writable=False))
            await recovery.warn()


async def _compacted(storage: Storage) -> None:
    while await storage.compact('everything'):
        pass


class _Unfit(StorageError):
    """An experiment cannot be copied. Others may be."""


class _Overtaken(Exception):
    """The target has changed since it was read. Read it again."""


@dataclass(slots=True)
class _Copying:
    """Copies one experiment from store to store.

    All processes that copy an experiment to a target use the same writer id there. A batch has the
    next number of that writer, and continues what the target had at that time. If another process
    was faster, the target has a batch with that number already, and does not take this one.
    """

    source: Storage
    target: Storage
    name: str
    report: Report
    ids: VariableIds = field(default_factory=VariableIds)
    copied: Copied = field(init=False)
    record: ExperimentRecord = field(init=False)
    batch: Batch = field(init=False)
    characters: int = 0
    carried: set[str] = field(default_factory=set)

    async def run(self) -> Copied:
        """Copy what the target lacks, and return what that was."""
        points = 0
        while True:
            self.copied = Copied(self.name, points=points)
            try:
                await self._catch_up()
            except _Overtaken:
                points = self.copied.points
            except (_Unfit, ExperimentNotFoundError, StorageFormatError) as failure:
                self.copied.failure = failure
                return self.copied
            else:
                return self.copied

    async def _catch_up(self) -> None:
        matching = await attempt(self.source.find_experiments, [self.name])
        if not matching:
            raise messages.experiment_not_found(self.name, self.source.location, ())
        (found,) = matching
        self.record = await found_or_made(self.target, self.name, found.created)
        writer = hashlib.sha256(b'neptune_async copy\0' + self.name.encode()).digest()[:16]
        # Get the number before reading the target: another process that writes in between takes
        # the number, and then the target refuses our batch.
        self._begin(writer, await attempt(self.target.last_batch, writer) + 1)
        variables = await attempt(self.source.list_variables, found.id, None)
        there = await attempt(self.target.list_variables, self.record.id, None)
        by_path = {variable.path: variable for variable in there}
        self.copied.of = len(variables)
        for variable in variables:
            await self._copy_variable(found, variable, by_path.get(variable.path))
            self.copied.variables += 1
            self.report(self.copied)
        await self._send()

    # ── Variables ────────────────────────────────────────────────────────────

    async def _copy_variable(
        self, found: ExperimentSummary, variable: Variable, there: Variable | None
    ) -> None:
        if there is None:
            own = Variable(self.ids.draw(), variable.path, variable.container, variable.content)
            self._part.operations.append(CreateVariable(own))
        else:
            own = there
            self._require_fit(variable, there)
        copies: dict[str, Callable[..., Awaitable[bool]]] = {
            'atom': self._copy_atom, 'set': self._copy_set, 'series': self._copy_series,
        }  # fmt: skip
        is_there = await copies[variable.container](found, own, is_new=there is None)
        if there is None and not is_there:
            self._part.operations.pop()  # the variable was deleted after the source was listed
        if self._is_full:
            await self._send()

    def _require_fit(self, variable: Variable, there: Variable) -> None:
        is_series = variable.container == 'series'
        if variable.container != there.container or (
            is_series and variable.content != there.content
        ):
            raise self._differs(
                variable.path,
                f'is a {there.container} of {there.content} there, and not a '
                f'{variable.container} of {variable.content}',
            )

    # Each of these methods returns whether the source still has the variable.

    async def _copy_atom(self, found: ExperimentSummary, own: Variable, *, is_new: bool) -> bool:
        read = await attempt(self.source.read_atom, found.id, own.path)
        if read is None:
            return False
        variable, value = read
        if value is None:
            return True
        if is_new or await attempt(self.target.read_atom, self.record.id, own.path) != (own, value):
            if variable.content == 'file':
                await self._carry(self._reference(own.path, value))
            self._part.operations.append(Assign(own.id, variable.content, value))
        return True

    async def _copy_set(self, found: ExperimentSummary, own: Variable, *, is_new: bool) -> bool:
        read = await attempt(self.source.read_set, found.id, own.path)
        if read is None:
            return False
        variable, members = read
        there = None if is_new else await attempt(self.target.read_set, self.record.id, own.path)
        if there is None or (there[0].content, {*there[1]}) != (variable.content, {*members}):
            self._part.operations.append(ResetMembers(own.id, variable.content, tuple(members)))
        return True

    async def _copy_series(self, found: ExperimentSummary, own: Variable, *, is_new: bool) -> bool:
        count, last = (0, None) if is_new else await self._end_of(own.path)
        window = Window(first=max(0, count - 1))
        read = await attempt(self.source.read_series, found.id, own.path, window, True, True)
        if read is None:
            return False
        if read.end < count:
            raise self._differs(own.path, f'has {count} points there, and only {read.end} here')
        if read.end == 0:
            return True
        points = concatenated(pieces_at_end(read, self.source.location, self.name))
        if last is not None and _bits(last) != _bits(_at(points, count - 1 - read.first)):
            raise self._differs(own.path, f'has another point {count - 1} there')
        most = _BATCH_FILES if own.content == 'file' else _BATCH_POINTS
        for start in range(count - read.first, len(points), most):
            piece = points.sliced(start, start + most)
            for value in piece.values if own.content == 'file' else ():
                assert isinstance(value, FileReference)
                await self._carry(value)
            self._add(own, piece)
            if self._is_full:
                await self._send()
        return True

    def _reference(self, path: str, value: bytes) -> FileReference:
        try:
            found = decode(value)
        except ValueError as error:
            raise StorageFormatError(str(error)) from error
        if not isinstance(found, FileReference):
            raise StorageFormatError(
                f'experiment {self.name!r}: {path!r} in {self.source.location} refers to no file'
            )
        return found

    async def _carry(self, file: FileReference) -> None:
        """Let the target have a file before what refers to it."""
        part = self._part
        if file.sha256 in self.carried:
            part.files.setdefault(file.sha256, None)
            return
        contents = pieces(self.source, file)
        if file.size <= SMALL:
            part.files[file.sha256] = b''.join([piece async for piece in contents])
            self.characters += file.size
        else:
            await self._carry_large(file, contents)
            part.files[file.sha256] = None
        self.carried.add(file.sha256)

    async def _carry_large(self, file: FileReference, contents: AsyncIterator[bytes]) -> None:
        if await attempt(self.target.read_file, file.sha256, 0, 1) is not None:
            return
        folder = self.target.spill_folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, suffix=f'{owner_mark()}{STAGED}') as copy:
            async for piece in contents:
                copy.write(piece)
                self.copied.bytes += len(piece)
                self.report(self.copied)
            copy.flush()
            await attempt(self.target.keep_file, file.sha256, file.size, Path(copy.name))

    async def _end_of(self, path: str) -> tuple[int, Points | None]:
        """Return how many points a series has in the target, and its last point."""
        read = await attempt(
            self.target.read_series, self.record.id, path, Window(last=1), True, True
        )
        if read is None:
            raise _Overtaken
        if read.end == 0:
            return 0, None
        points = concatenated(pieces_at_end(read, self.target.location, self.name, 1))
        return read.end, _at(points, len(points) - 1)

    def _differs(self, path: str, how: str) -> _Unfit:
        target = self.target.location
        delete = shlex.join(['neptune-async', 'delete', self.name, '--storage', target])
        return _Unfit(
            f'experiment {self.name!r}: {path!r} {how}; the experiment in {target} is no copy of '
            f'the one in {self.source.location}, as after a rewind or a deletion since the last '
            f'sync: delete it there ({delete}) and sync again, or copy to another store'
        )

    # ── Batches ──────────────────────────────────────────────────────────────

    @property
    def _part(self) -> Part:
        return self.batch.parts[0]

    def _begin(self, writer: bytes, number: int) -> None:
        part = Part(self.record.id, self.record.name, self.record.epoch)
        self.batch = Batch(writer, number, [part])
        self.characters = 0

    @property
    def _is_full(self) -> bool:
        part = self._part
        points = len(part.points) // POINT_FIELDS + len(part.texts)
        return (
            points + len(part.operations) >= _BATCH_POINTS or self.characters >= _BATCH_CHARACTERS
        )

    def _add(self, own: Variable, points: Points) -> None:
        # Steps and timestamps are copied as they are. None of them is automatic any more.
        key = point_key(own.id, True)
        steps, times, values = expanded(points.steps), points.times, points.values
        if isinstance(values, array):
            rows = array('d', bytes(8 * POINT_FIELDS * len(values)))
            rows[0::POINT_FIELDS] = array('d', [key]) * len(values)
            rows[1::POINT_FIELDS], rows[2::POINT_FIELDS] = steps, times
            rows[3::POINT_FIELDS] = values
            self._part.points += rows
        else:
            for step, time, value in zip(steps, times, values, strict=True):
                self._part.texts.append((key, step, time, value))
                self.characters += size_of(value)

    async def _send(self) -> None:
        """Write the batch that was collected.

        :raises _Overtaken: the target has changed, and took nothing of the batch.
        """
        part = self._part
        part.count = len(part.operations) + len(part.points) // POINT_FIELDS + len(part.texts)
        if part.count == 0:
            return
        try:
            receipt = await attempt(self.target.write, self.batch)
        except (VariableConflict, StaleEpoch, MissingFiles) as error:
            if isinstance(error, MissingFiles):
                self.carried.clear()
            raise _Overtaken from None
        except NeptuneAsyncError:
            raise
        except Exception as error:
            raise _Unfit(
                f'experiment {self.name!r} cannot be stored in {self.target.location}: {error}'
            ) from error
        if part.experiment_id not in receipt.experiments:
            raise _Overtaken
        self.record = receipt.experiments[part.experiment_id]
        self.copied.points += len(part.points) // POINT_FIELDS + len(part.texts)
        self._begin(self.batch.writer, self.batch.number + 1)
        self.report(self.copied)


def _at(points: Points, index: int) -> Points:
    return points.sliced(index, index + 1)


def _bits(point: Points) -> tuple[object, ...]:
    """Return a key that two points share only if they are equal bit for bit."""
    value = point.values
    return (
        expanded(point.steps)[0],
        point.times.tobytes(),
        value.tobytes() if isinstance(value, array) else value,
    )
