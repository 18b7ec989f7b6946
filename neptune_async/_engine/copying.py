"""Copying experiments from one store to another: exactly once, however often it is begun."""

from __future__ import annotations

import hashlib
import shlex
from array import array
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import anyio

from neptune_async._engine.entries import VariableIds
from neptune_async._engine.recovery import Recovery
from neptune_async._engine.sending import attempt, found_or_made
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
from neptune_async._storage import registry
from neptune_async._storage.base import (
    ExperimentRecord,
    ExperimentSummary,
    StaleEpoch,
    Storage,
    VariableConflict,
    Window,
)
from neptune_async._storage.chunks import Points, concatenated, expanded
from neptune_async.exceptions import (
    ExperimentNotFoundError,
    InvalidStorageError,
    NeptuneAsyncError,
    StorageError,
    StorageFormatError,
)

_BATCH_POINTS = 2**16
"""Points, and operations, after which a batch is sent."""
_BATCH_CHARACTERS = 2**24


@dataclass(slots=True)
class Copied:
    """What has become of an experiment so far.

    :ivar of: how many variables it has.
    :ivar variables: how many of them have had their turn.
    :ivar points: how many points were written; those that the target had are not among them.
    :ivar failure: why it was not copied to its end; None if it was, or is on its way.
    """

    experiment: str
    of: int = 0
    variables: int = 0
    points: int = 0
    failure: NeptuneAsyncError | None = None


Report: TypeAlias = Callable[[Copied], object]
"""Is called after every variable, and every batch."""


def copy_experiments(
    source: str, target: str, names: Sequence[str] = (), report: Report = lambda _: None
) -> list[Copied]:
    """Copy experiments to another store, those that are there in part to their end.

    Points are appended after those that the target has, atoms and sets are made
    what they are in the source; variables that only the target has stay. What processes that have
    ended left beside the source is taken in there first, if it may be written to. It can be
    broken off and begun anew at any moment, and run several times at once. An experiment that
    cannot be copied keeps no other from being copied.

    :param source, target: what ``storage=`` takes.
    :param names: which experiments; all if there are none.
    :raises ExperimentNotFoundError: the source has none of that name.
    :raises StorageError: a store fails. What was copied before stays.
    :returns: what became of each, in their order. Its ``failure`` says so where the target has
        another variable, or other points, than the source, or where either is damaged.
    """
    urls = registry.resolve(source), registry.resolve(target)
    if urls[0] == urls[1]:
        raise InvalidStorageError('source and target are the same store; name two')
    storages = registry.create(urls[0]), registry.create(urls[1])
    try:
        # asyncio, because aiosqlite and asyncpg need it.
        return anyio.run(_copy, *storages, names, report, backend='asyncio')
    except CancelledError:
        # What comes of Ctrl-C before Python 3.11; nobody else cancels it.
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
    """Open a store to read it, once it has taken in what processes that have ended left behind;
    where it may not be written to, that is only told.
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
    """An experiment cannot be copied; the next may be."""


class _Overtaken(Exception):
    """The target is not what it was when it was last looked at: look again."""


@dataclass(slots=True)
class _Copying:
    """The way of one experiment from store to store.

    All that copy an experiment to a target are one writer there. A batch says what comes after what
    the target had when its number was the next one; if somebody else was faster, the target has a
    batch of that number already, and takes no other.
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

    async def run(self) -> Copied:
        """Copy what the target lacks; return what that was."""
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
        # Before what is there is looked at: whoever writes in between takes the number away.
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
            self._part.operations.pop()  # it was deleted since the source was listed
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

    # Each returns whether the source still has the variable.

    async def _copy_atom(self, found: ExperimentSummary, own: Variable, *, is_new: bool) -> bool:
        read = await attempt(self.source.read_atom, found.id, own.path)
        if read is None:
            return False
        variable, value = read
        if value is None:
            return True
        if is_new or await attempt(self.target.read_atom, self.record.id, own.path) != (own, value):
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
        points = concatenated(read.pieces)
        if last is not None and _bits(last) != _bits(_at(points, count - 1 - read.first)):
            raise self._differs(own.path, f'has another point {count - 1} there')
        for start in range(count - read.first, len(points), _BATCH_POINTS):
            self._add(own, points.sliced(start, start + _BATCH_POINTS))
            if self._is_full:
                await self._send()
        return True

    async def _end_of(self, path: str) -> tuple[int, Points | None]:
        """Return how many points the target has of a series, and the last one."""
        read = await attempt(
            self.target.read_series, self.record.id, path, Window(last=1), True, True
        )
        if read is None:
            raise _Overtaken
        if read.end == 0:
            return 0, None
        points = concatenated(read.pieces)
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
        # Steps and timestamps as they are: none is automatic any more.
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
                self.characters += len(value) if isinstance(value, str) else 0

    async def _send(self) -> None:
        """Write what was gathered.

        :raises _Overtaken: the target has changed, and took nothing of it.
        """
        part = self._part
        part.count = len(part.operations) + len(part.points) // POINT_FIELDS + len(part.texts)
        if part.count == 0:
            return
        try:
            receipt = await attempt(self.target.write, self.batch)
        except (VariableConflict, StaleEpoch):
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
    """Return something that is equal only for the same point, bit for bit."""
    value = point.values
    return (
        expanded(point.steps)[0],
        point.times.tobytes(),
        value.tobytes() if isinstance(value, array) else value,
    )
