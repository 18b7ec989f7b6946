"""Applying a batch to a PostgreSQL store: in one round trip, unless it is rare or huge."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import asyncpg

from neptune_async._model.operations import Batch, CreateVariable, Delete, Operation, Part, Rewind
from neptune_async._storage.base import ExperimentRecord, Receipt
from neptune_async._storage.postgres import experiments, files
from neptune_async._storage.postgres.faults import BatchIsStored, OperationFault, translated
from neptune_async._storage.postgres.summarising import summarise
from neptune_async._storage.postgres.writing import OperationRows, PointRows, point_rows
from neptune_async.exceptions import Rejection

_PARTS = 64
"""Parts of a batch that one statement takes: each has 27 of the 65,535 arguments that there are."""

_REJECT = """
INSERT INTO rejected (experiment_id, experiment, path, operation, count, reason)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
"""


@dataclass(frozen=True, slots=True)
class _Sending:
    """A part on its way.

    :ivar experiment: the one that the part is for, which may have been made anew.
    :ivar deletes: whether the part deletes variables, its own perhaps.
    :ivar head: the arguments of ``begin_part``.
    :ivar rows: its points, a statement's worth each; at least one, which may be empty.
    """

    part: Part
    experiment: ExperimentRecord
    deletes: bool
    head: tuple[Any, ...]
    rows: Sequence[PointRows]


class Batches:
    """Writes batches, and knows which of them are stored, so as to notice if they are lost."""

    def __init__(self) -> None:
        self._stored: dict[tuple[int, bytes], int] = {}
        self._rows: dict[int, Counter[int]] = {}
        self._points: Counter[int] = Counter()

    def scattered(self, rows: int, most: int) -> tuple[int, list[int]] | None:
        """Return an experiment and series of it, so many at most, that got so many rows since they
        were last merged; None if there are none.
        """
        for experiment_id, counts in self._rows.items():
            found = [variable_id for variable_id, count in counts.items() if count >= rows]
            if found:
                return experiment_id, found[:most]
        return None

    def unsummarised(self, points: int) -> int | None:
        """Return an experiment that got so many points since its rows were summarised."""
        return next((each for each, count in self._points.items() if count >= points), None)

    async def summarise(self, connection: asyncpg.Connection, experiment_id: int) -> bool:
        """Summarise some rows of an experiment; return whether there may be more."""
        is_left = await summarise(connection, experiment_id)
        if not is_left:
            del self._points[experiment_id]
        return is_left

    async def merge(
        self,
        connection: asyncpg.Connection,
        experiment_id: int,
        series: Sequence[int],
        enough: int,
    ) -> None:
        """Merge the rows at the end of series, after the last that has as many points as said."""
        await connection.execute('SELECT merge_chunks($1, $2, $3)', experiment_id, series, enough)
        counts = self._rows.get(experiment_id, Counter())
        for variable_id in series:
            del counts[variable_id]
        if not counts:
            self._rows.pop(experiment_id, None)

    async def write(
        self, connection: asyncpg.Connection, batch: Batch, careful: bool, forced: bool
    ) -> Receipt:
        """Apply a batch.

        :param forced: whether to have the commit forced to disk where the server would not.
        :raises BatchIsStored: it was applied before.
        """
        receipt = Receipt()
        sendings = [await self._sending(connection, batch, part) for part in batch.parts]
        # In one order for all that write: of two batches none waits for the other.
        sendings.sort(key=lambda sending: sending.experiment.id)
        if careful:
            async with _transaction(connection, forced):
                await files.bring(connection, _files(sendings))
                for sending in sendings:
                    await _write_carefully(connection, sending, receipt)
        else:
            await _write(connection, sendings, receipt, forced)
        for sending in sendings:
            self._stored[sending.part.experiment_id, batch.writer] = batch.number
            counts = self._rows.setdefault(sending.experiment.id, Counter())
            for rows in sending.rows:
                counts.update(rows.ids)
                self._points[sending.experiment.id] += sum(rows.counts)
        return receipt

    async def _sending(self, connection: asyncpg.Connection, batch: Batch, part: Part) -> _Sending:
        if part.epoch is None:
            # It brings all its variables along, to an experiment that may be gone.
            if await _is_stored(connection, batch, part):
                raise BatchIsStored
            experiment = await experiments.found_or_made(connection, part.name)
        else:
            experiment = ExperimentRecord(part.experiment_id, part.name, part.epoch)
        deletes = any(isinstance(operation, Delete) for operation in part.operations)
        after = self._stored.get((part.experiment_id, batch.writer), 0)
        head = (
            part.experiment_id, experiment.id, experiment.epoch, deletes,
            batch.writer, batch.number, after,
        )  # fmt: skip
        return _Sending(part, experiment, deletes, head, [*point_rows(part)])


async def last_batch(connection: asyncpg.Connection, writer: bytes) -> int:
    """Return the number of the last batch that is stored of a writer; 0 if there is none."""
    number: int = await connection.fetchval(
        'SELECT coalesce(max(last_batch), 0) FROM writers WHERE id = $1', writer
    )
    return number


async def _is_stored(connection: asyncpg.Connection, batch: Batch, part: Part) -> bool:
    found: bool = await connection.fetchval(
        'SELECT EXISTS (SELECT FROM writers '
        'WHERE experiment_id = $1 AND id = $2 AND last_batch >= $3)',
        part.experiment_id, batch.writer, batch.number,
    )  # fmt: skip
    return found


# ── In one statement ─────────────────────────────────────────────────────────


async def _write(
    connection: asyncpg.Connection, sendings: Sequence[_Sending], receipt: Receipt, forced: bool
) -> None:
    """Apply parts as they are, all in one statement if nothing speaks against it."""
    calls: list[tuple[str, tuple[Any, ...]]] = []
    later: list[tuple[str, tuple[Any, ...]]] = []
    for sending in sendings:
        rows, *more = sending.rows
        operations = OperationRows.of(sending.part.operations)
        calls.append(('write_part', (*sending.head, *operations.arguments, *rows.arguments)))
        later += [
            (_call('append_points', args), args)
            for args in (_appending(sending, rows) for rows in more)
        ]
        rejections = sending.part.rejections
        receipt.rejections += rejections
        if rejections:
            later.append((_REJECT, _rejecting(sending, rejections)))
    statements = [_joined(calls[n : n + _PARTS]) for n in range(0, len(calls), _PARTS)]
    brought = _files(sendings)
    is_one = len(statements) == 1 and not later and not forced and not brought
    async with nullcontext() if is_one else _transaction(connection, forced):
        if brought:
            await files.bring(connection, brought)
        epochs = [
            epoch
            for statement, args in statements
            for (epoch,) in await connection.fetch(statement, *args)
        ]
        for statement, args in later:
            await connection.execute(statement, *args)
    for sending, epoch in zip(sendings, epochs, strict=True):
        _note(receipt, sending, epoch)


def _files(sendings: Iterable[_Sending]) -> dict[str, bytes | None]:
    return {sha256: item for s in sendings for sha256, item in s.part.files.items()}


def _joined(calls: Sequence[tuple[str, tuple[Any, ...]]]) -> tuple[str, list[Any]]:
    """Return calls as one statement, whose rows are what they return."""
    parts: list[str] = []
    arguments: list[Any] = []
    for function, given in calls:
        parts.append(_call(function, given, len(arguments)))
        arguments += given
    return ' UNION ALL '.join(parts), arguments


def _call(function: str, arguments: Sequence[Any], after: int = 0) -> str:
    places = ', '.join(f'${after + n}' for n in range(1, len(arguments) + 1))
    return f'SELECT {function}({places})'


def _appending(sending: _Sending, rows: PointRows) -> tuple[Any, ...]:
    return (sending.experiment.id, sending.deletes, *rows.arguments)


def _rejecting(sending: _Sending, rejections: Sequence[Rejection]) -> tuple[Any, ...]:
    rows = [
        (_readable(r.experiment), _readable(r.path), r.operation, r.count, _readable(r.reason))
        for r in rejections
    ]
    return (sending.experiment.id, *zip(*rows, strict=True))


def _readable(text: str) -> str:
    """Return a text without what no text of the server's can hold."""
    return text.encode(errors='backslashreplace').decode().replace('\0', '\\0')


def _note(receipt: Receipt, sending: _Sending, epoch: int) -> None:
    receipt.experiments[sending.part.experiment_id] = ExperimentRecord(
        sending.experiment.id, sending.experiment.name, epoch
    )


@asynccontextmanager
async def _transaction(connection: asyncpg.Connection, forced: bool) -> AsyncIterator[None]:
    """Commit what the body does, or nothing of it."""
    async with connection.transaction():
        if forced:
            await connection.execute('SET LOCAL synchronous_commit = on')
        yield


# ── Operation by operation ───────────────────────────────────────────────────


async def _write_carefully(
    connection: asyncpg.Connection, sending: _Sending, receipt: Receipt
) -> None:
    """Apply a part operation by operation; reject those that fail."""
    part, experiment = sending.part, sending.experiment
    rejections = [*part.rejections]
    await connection.execute(_call('begin_part', sending.head), *sending.head)
    for run in _runs(part.operations):
        args = (part.experiment_id, experiment.id, *OperationRows.of(run).arguments)
        fault = await _fault_of(connection, _call('apply_operations', args), args)
        if fault is not None:
            path = await _path_of(connection, experiment.id, run[0])
            rejections.append(Rejection(experiment.name, path, type(run[0]).__name__, str(fault)))
    for rows in sending.rows:
        for one in rows.split():
            args = _appending(sending, one)
            fault = await _fault_of(connection, _call('append_points', args), args)
            if fault is not None:
                path = await _path(connection, experiment.id, one.ids[0])
                rejections.append(
                    Rejection(experiment.name, path, 'log', str(fault), one.counts[0])
                )
    if rejections:
        await connection.execute(_REJECT, *_rejecting(sending, rejections))
    receipt.rejections += rejections
    await connection.execute('SELECT tell_watchers($1)', experiment.id)
    epoch = await connection.fetchval(
        'SELECT epoch FROM epochs WHERE experiment_id = $1', experiment.id
    )
    _note(receipt, sending, epoch)


def _runs(operations: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    """Yield operations one by one, but those that make variables together: a conflict tells of
    all of them.
    """
    creations: list[Operation] = []
    for operation in operations:
        if isinstance(operation, CreateVariable):
            creations.append(operation)
            continue
        if creations:
            yield creations
            creations = []
        yield [operation]
    if creations:
        yield creations


async def _fault_of(
    connection: asyncpg.Connection, statement: str, args: Sequence[Any]
) -> OperationFault | None:
    """Carry out a statement; undo it and return the fault if it is what the operation holds."""
    try:
        async with connection.transaction():
            await connection.execute(statement, *args)
    except (asyncpg.PostgresError, asyncpg.DataError) as error:
        fault = translated(error, '')
        if not isinstance(fault, OperationFault):
            raise
        return fault
    return None


async def _path_of(connection: asyncpg.Connection, experiment_id: int, operation: Operation) -> str:
    if isinstance(operation, (Delete, Rewind)):
        return operation.path or '*'
    if isinstance(operation, CreateVariable):
        return operation.variable.path
    return await _path(connection, experiment_id, operation.variable_id)


async def _path(connection: asyncpg.Connection, experiment_id: int, variable_id: int) -> str:
    path: str | None = await connection.fetchval(
        'SELECT path FROM variables WHERE experiment_id = $1 AND id = $2',
        experiment_id, variable_id,
    )  # fmt: skip
    return path or '?'
