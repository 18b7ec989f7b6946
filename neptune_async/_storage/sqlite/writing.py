"""Applying a batch to a SQLite store, in one transaction."""

from __future__ import annotations

import sqlite3
import time
import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import TypeAlias

from neptune_async._model.operations import (
    POINT,
    POINT_FIELDS,
    AddMembers,
    Assign,
    Batch,
    CreateVariable,
    Delete,
    Operation,
    Part,
    RemoveMembers,
    ResetMembers,
    Rewind,
    TextPoint,
    variable_of,
)
from neptune_async._model.values import encode_points, size_of
from neptune_async._storage.base import ExperimentRecord, Receipt, StaleEpoch
from neptune_async._storage.chunks import little_endian
from neptune_async._storage.sqlite.checksums import (
    value_checksum,
)
from neptune_async._storage.sqlite.experiments import insert_experiment, next_epoch
from neptune_async._storage.sqlite.files import bring_files
from neptune_async._storage.sqlite.members import add_members, remove_members, reset_members
from neptune_async._storage.sqlite.reading import decoded_log_row, log_checksum
from neptune_async._storage.sqlite.rewinding import rewind
from neptune_async._storage.sqlite.sql import (
    find_experiment,
    insert_rows,
    transaction,
)
from neptune_async._storage.sqlite.variables import (
    create_variables,
    delete_variables,
    set_content,
)
from neptune_async.exceptions import Rejection, StorageError, StorageFormatError

_LogRow: TypeAlias = tuple[str, int, int, bytes | memoryview]

_FLOAT_ROW = 2**15
"""Points after which a new log row begins: 1 MiB, which are in memory several times at once."""

_MOST_APPENDED = 16
"""Log rows of a batch up to which they are stored in one statement, of which each is a copy."""

_TEXT_ROW = 2**24
"""Characters of texts after which a new log row begins: a row is read as a whole."""


def write_batch(connection: sqlite3.Connection, batch: Batch, careful: bool) -> Receipt:
    """Apply a batch, unless it has been applied before."""
    receipt = Receipt()
    rows = [list(_log_rows(part)) for part in batch.parts]
    if _append(connection, batch, rows, receipt):
        return receipt
    with transaction(connection):
        if not _is_next(connection, batch):
            return receipt
        for part, log_rows in zip(batch.parts, rows, strict=True):
            _apply_part(connection, part, log_rows, receipt, careful)
        _insert_rejections(connection, receipt.rejections)
        set_last_batch(connection, batch.writer, batch.number)
    return receipt


def prepare_appending(connection: sqlite3.Connection) -> None:
    """Make what ``_append`` inserts into; it belongs to the connection, and not to the store."""
    connection.execute('PRAGMA temp_store = MEMORY')  # a disk may be full
    connection.execute(
        'CREATE TEMP VIEW next_batch AS SELECT 0 AS writer, 0 AS number, 0 AS is_last, 0 AS name, '
        '0 AS epoch, 0 AS experiment_id, 0 AS form, 0 AS count, 0 AS crc32, 0 AS points'
    )
    connection.execute("""
        CREATE TEMP TRIGGER append INSTEAD OF INSERT ON next_batch BEGIN
            SELECT RAISE(ABORT, 'not just points') WHERE NEW.number - 1 IS NOT (
                SELECT last_batch FROM writers WHERE id = NEW.writer
            ) OR NOT EXISTS (
                SELECT 1 FROM experiments
                WHERE id = NEW.experiment_id AND name = NEW.name AND epoch = NEW.epoch
            );
            INSERT INTO log (experiment_id, form, count, crc32, points)
            VALUES (NEW.experiment_id, NEW.form, NEW.count, NEW.crc32, NEW.points);
            UPDATE writers SET last_batch = NEW.number WHERE NEW.is_last AND id = NEW.writer;
        END
    """)


def _append(
    connection: sqlite3.Connection,
    batch: Batch,
    rows: Sequence[Sequence[_LogRow]],
    receipt: Receipt,
) -> bool:
    """Apply a batch that follows the writer's last one and is nothing but points of an experiment,
    as nearly all are; False if it is something else, and nothing was done.

    It is one statement, and so one transaction: the fewer there are, the less often this
    thread gives up the GIL, and waits up to 5 ms for one that computes.
    """
    if len(batch.parts) != 1 or not 1 <= len(rows[0]) <= _MOST_APPENDED:
        return False
    (part,), (log_rows,) = batch.parts, rows
    if part.operations or part.rejections or part.files or part.epoch is None:
        return False
    try:
        insert_rows(
            connection,
            'INSERT INTO next_batch VALUES {rows}',
            [
                (
                    batch.writer, batch.number, row is log_rows[-1], part.name, part.epoch,
                    *_sealed(part.experiment_id, row),
                )
                for row in log_rows
            ],
        )  # fmt: skip
    except sqlite3.IntegrityError:
        return False
    receipt.experiments[part.experiment_id] = ExperimentRecord(
        part.experiment_id, part.name, part.epoch
    )
    return True


def last_batch(connection: sqlite3.Connection, writer: bytes) -> int:
    """Return the number of the last batch that is stored of a writer; 0 if there is none."""
    row = connection.execute('SELECT last_batch FROM writers WHERE id = ?', (writer,)).fetchone()
    return row[0] if row else 0


def set_last_batch(connection: sqlite3.Connection, writer: bytes, number: int) -> None:
    """Have a batch be the last that is stored of a writer."""
    connection.execute(
        'INSERT INTO writers (id, last_batch) VALUES (?, ?) '
        'ON CONFLICT (id) DO UPDATE SET last_batch = excluded.last_batch',
        (writer, number),
    )


def _is_next(connection: sqlite3.Connection, batch: Batch) -> bool:
    last = last_batch(connection, batch.writer)
    if last in (0, batch.number - 1):
        return True
    if last >= batch.number:
        return False
    raise StorageFormatError(
        f'batch {batch.number} of a writer does not follow its batch {last}, the last in the '
        'store; was an older copy of the file put in its place?'
    )


def _apply_part(
    connection: sqlite3.Connection,
    part: Part,
    log_rows: Sequence[_LogRow],
    receipt: Receipt,
    careful: bool,
) -> None:
    experiment = _experiment_of(connection, part)
    bring_files(connection, part.files)
    deleted: set[int] = set()
    for kind, run in groupby(part.operations, type):
        operations = list(run)
        if kind is CreateVariable:
            create_variables(connection, experiment.id, part, operations)
        else:
            if careful:
                receipt.rejections += _apply_careful(connection, experiment, operations, deleted)
            else:
                _apply(connection, experiment, operations, deleted)
    if deleted:
        log_rows = list(_log_rows(_without(part, deleted)))
        experiment = ExperimentRecord(
            experiment.id, experiment.name, next_epoch(connection, experiment.id)
        )
    connection.executemany(
        'INSERT INTO log (experiment_id, form, count, crc32, points) VALUES (?, ?, ?, ?, ?)',
        [_sealed(experiment.id, row) for row in log_rows],
    )
    receipt.experiments[part.experiment_id] = experiment
    receipt.rejections += part.rejections


def _experiment_of(connection: sqlite3.Connection, part: Part) -> ExperimentRecord:
    """Return the part's experiment; one that was deleted is made anew for a
    part that brings its variables along.
    """
    found = find_experiment(connection, part.name)
    if part.epoch is not None:
        if found != ExperimentRecord(part.experiment_id, part.name, part.epoch):
            raise StaleEpoch(part.experiment_id)
        return found
    return found or ExperimentRecord(*insert_experiment(connection, part.name))


# ── Operations ───────────────────────────────────────────────────────────────


def _apply(
    connection: sqlite3.Connection,
    experiment: ExperimentRecord,
    operations: Sequence[Operation],
    deleted: set[int],
) -> None:
    """Apply operations of one kind that follow each other."""
    first = operations[0]
    if isinstance(first, Assign):
        _assign(connection, [op for op in operations if isinstance(op, Assign)])
        return
    for operation in operations:
        if isinstance(operation, AddMembers):
            add_members(connection, operation)
        elif isinstance(operation, RemoveMembers):
            remove_members(connection, operation)
        elif isinstance(operation, ResetMembers):
            reset_members(connection, operation)
        elif isinstance(operation, Delete):
            gone = delete_variables(connection, experiment.id, operation.path)
            _purge_log(connection, experiment.id, gone)
            deleted |= gone
        elif isinstance(operation, Rewind):
            _rewind(connection, experiment.id, operation)


def _apply_careful(
    connection: sqlite3.Connection,
    experiment: ExperimentRecord,
    operations: Sequence[Operation],
    deleted: set[int],
) -> list[Rejection]:
    """Apply operations one by one; one that fails is rejected, and the others stay."""
    rejections: list[Rejection] = []
    for operation in operations:
        connection.execute('SAVEPOINT operation')
        try:
            _apply(connection, experiment, [operation], deleted)
        except (sqlite3.OperationalError, sqlite3.IntegrityError, StorageError, MemoryError):
            raise  # the store's fault, not the operation's
        except Exception as error:  # whatever the operation is, it must not take others along
            if type(error) is sqlite3.DatabaseError:
                raise  # the file is damaged
            connection.execute('ROLLBACK TO operation')
            rejections.append(
                Rejection(
                    experiment.name,
                    _path_of(connection, operation),
                    type(operation).__name__,
                    f'{type(error).__name__}: {error}',
                )
            )
        connection.execute('RELEASE operation')
    return rejections


def _path_of(connection: sqlite3.Connection, operation: Operation) -> str:
    if isinstance(operation, (Delete, Rewind)):
        return operation.path
    if isinstance(operation, CreateVariable):
        return operation.variable.path
    row = connection.execute(
        'SELECT path FROM variables WHERE id = ?', (operation.variable_id,)
    ).fetchone()
    return row[0] if row else '?'


def _assign(connection: sqlite3.Connection, assigns: Sequence[Assign]) -> None:
    latest = {assign.variable_id: assign for assign in assigns}
    values = {i: assign.stored for i, assign in latest.items()}
    insert_rows(
        connection,
        'INSERT INTO atoms (variable_id, value, crc32) VALUES {rows} '
        'ON CONFLICT (variable_id) DO UPDATE SET value = excluded.value, crc32 = excluded.crc32',
        [(i, value, value_checksum(i, value)) for i, value in values.items()],
    )
    ids_by_content: dict[str, list[int]] = {}
    for assign in latest.values():
        ids_by_content.setdefault(assign.content, []).append(assign.variable_id)
    for content, ids in ids_by_content.items():
        set_content(connection, content, ids)


def _rewind(connection: sqlite3.Connection, experiment_id: int, operation: Rewind) -> None:
    try:
        rewind(connection, experiment_id, operation.path, operation.step)
    except StorageFormatError as damage:
        # No other than a rewind reads what is there: it is rejected, and they are stored.
        raise ValueError(str(damage)) from damage


def _insert_rejections(connection: sqlite3.Connection, rejections: Sequence[Rejection]) -> None:
    now = time.time()
    connection.executemany(
        'INSERT INTO rejected (time, experiment, path, operation, count, reason) '
        'VALUES (?, ?, ?, ?, ?, ?)',
        [(now, r.experiment, r.path, r.operation, r.count, r.reason) for r in rejections],
    )


# ── The log ──────────────────────────────────────────────────────────────────


def _log_rows(part: Part) -> Iterator[_LogRow]:
    """Yield the rows that hold a part's points: form, count, the points' checksum, points."""
    floats = memoryview(little_endian(part.points))
    for start in range(0, len(floats), POINT_FIELDS * _FLOAT_ROW):
        points = floats[start : start + POINT_FIELDS * _FLOAT_ROW]
        yield 'f8', len(points) // POINT_FIELDS, zlib.crc32(points), points
    for texts in _split(part.texts):
        encoded = encode_points([list(point) for point in texts])
        yield 'json', len(texts), zlib.crc32(encoded), encoded


def _sealed(experiment_id: int, row: _LogRow) -> tuple[object, ...]:
    """Return what is stored of a log row: only now is it known of which experiment it is."""
    form, count, crc32, points = row
    return experiment_id, form, count, log_checksum(experiment_id, form, count, crc32), points


def _split(texts: Sequence[TextPoint]) -> Iterator[list[TextPoint]]:
    row: list[TextPoint] = []
    size = 0
    for point in texts:
        row.append(point)
        size += size_of(point[3])
        if size > _TEXT_ROW:
            yield row
            row, size = [], 0
    if row:
        yield row


def _purge_log(
    connection: sqlite3.Connection, experiment_id: int, deleted: Collection[int]
) -> None:
    """Remove the points of deleted variables from an experiment's log.

    A process that did not know of the deletion may make a variable anew under
    the same id, and must not find the old points then.
    """
    rows = connection.execute(
        'SELECT id, form, count, crc32, points FROM log WHERE experiment_id = ?', (experiment_id,)
    )
    for row_id, form, *row in rows.fetchall():
        points = decoded_log_row(experiment_id, row_id, form, *row)
        part = Part(experiment_id, '', None)
        if isinstance(points, array):
            part.points = points
        else:
            part.texts = points
        left = _without(part, deleted)
        if len(left.points) == len(part.points) and len(left.texts) == len(part.texts):
            continue
        connection.execute('DELETE FROM log WHERE id = ?', (row_id,))
        # Under its own id again: the order of the log is that of the ids.
        connection.executemany(
            'INSERT INTO log (id, experiment_id, form, count, crc32, points) '
            'VALUES (?, ?, ?, ?, ?, ?)',
            [(row_id, *_sealed(experiment_id, rest)) for rest in _log_rows(left)],
        )


def _without(part: Part, deleted: Collection[int]) -> Part:
    """Return a part's points less those of deleted variables."""
    points = array('d')
    raw = part.points.tobytes()
    for key, start in zip(part.points[::POINT_FIELDS], range(0, len(raw), POINT.size), strict=True):
        if variable_of(key) not in deleted:
            points.frombytes(raw[start : start + POINT.size])
    texts = [point for point in part.texts if variable_of(point[0]) not in deleted]
    return Part(part.experiment_id, part.name, part.epoch, points=points, texts=texts)
