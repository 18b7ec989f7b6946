"""Reading variables from a SQLite store: chunks first, then what is still in the log."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from neptune_async._model.operations import (
    POINT_FIELDS,
    Variable,
    point_key,
    variable_of,
)
from neptune_async._model.values import decode, encode
from neptune_async._storage.base import SeriesReading, Window
from neptune_async._storage.chunks import (
    Chunk,
    Columns,
    Points,
    SeriesEnd,
    checksum,
    columns_of,
    expanded,
    head_checksum,
    joined,
    little_endian,
    resolved,
    text_columns_by_variable,
    unpacked,
)
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.sql import below, find_variable, transaction
from neptune_async.exceptions import StorageFormatError

HEAD_COLUMNS = (
    'first, count, first_step, stride, largest_step, last_time, '
    'values_form, steps_form, times_form, crc32, head_crc32'
)
CHUNK_COLUMNS = f'{HEAD_COLUMNS}, "values", steps, times'
LAST_CHUNKS = (
    'SELECT variable_id, {columns} FROM json_each(?) AS wanted CROSS JOIN chunks '
    'ON variable_id = wanted.value '
    'AND first = (SELECT max(first) FROM chunks WHERE variable_id = wanted.value)'
)
"""The last chunk of each of the variables in a JSON list: one look into the index for each."""


@dataclass(frozen=True, slots=True)
class ChunkTail:
    """The last chunk of a series, or of a part of it, without its points."""

    first: int
    count: int
    largest_step: float
    last_time: float

    @property
    def end(self) -> SeriesEnd:
        """Where the series stands after it."""
        return SeriesEnd(self.first + self.count, self.largest_step, self.last_time)


def list_variables(
    connection: sqlite3.Connection, experiment_id: int, namespace: str | None
) -> list[Variable]:
    """Return the variables below a namespace, or all, by path."""
    sql = 'SELECT id, path, container, content FROM variables WHERE experiment_id = ?'
    bounds: tuple[object, ...] = (experiment_id,)
    if namespace is not None:
        sql += ' AND path >= ? AND path < ?'
        bounds += below(namespace)
    return [Variable(*row) for row in connection.execute(f'{sql} ORDER BY path', bounds).fetchall()]


def read_atom(
    connection: sqlite3.Connection, experiment_id: int, path: str
) -> tuple[Variable, bytes | None] | None:
    """Return the variable at a path, and its encoded value if it is an atom."""
    row = connection.execute(
        'SELECT id, path, container, content, value FROM variables '
        'LEFT JOIN atoms ON variable_id = id WHERE experiment_id = ? AND path = ?',
        (experiment_id, path),
    ).fetchone()
    return row and (Variable(*row[:4]), row[4])


def read_set(
    connection: sqlite3.Connection, experiment_id: int, path: str
) -> tuple[Variable, Sequence[bytes]] | None:
    """Return the variable at a path, and its encoded members if it is a set."""
    with transaction(connection, 'DEFERRED'):
        variable = find_variable(connection, experiment_id, path)
        if variable is None:
            return None
        rows = connection.execute(
            'SELECT member FROM members WHERE variable_id = ?', (variable.id,)
        )
        return variable, [row[0] for row in rows.fetchall()]


def read_series(
    connection: StoreConnection,
    experiment_id: int,
    path: str,
    window: Window,
    steps: bool,
    times: bool,
) -> SeriesReading | None:
    """Return the points of a series, at least those in a window."""
    with transaction(connection, 'DEFERRED'):
        variable = find_variable(connection, experiment_id, path)
        if variable is None:
            return None
        if variable.container != 'series':
            return SeriesReading(variable)
        end = end_of(find_tail(connection, variable.id))
        logged = _logged(connection, experiment_id, variable)
        fresh = [resolved(joined(logged), end)] if logged else []
        start = window.start(end.count + sum(map(len, fresh)))
        chunks = read_chunks(connection, {variable.id: (start, end.count)})[variable.id]
    return SeriesReading(
        variable,
        chunks[0].first if chunks else end.count,
        [*(unpack_chunk(chunk, steps, times) for chunk in chunks), *fresh],
    )


def largest_steps(connection: StoreConnection, experiment_id: int) -> dict[str, float]:
    """Return the largest step of each series that has points, by path."""
    largest = {}
    with transaction(connection, 'DEFERRED'):
        for variable in list_variables(connection, experiment_id, None):
            if variable.container == 'series':
                end = end_of(find_tail(connection, variable.id))
                steps = [end.largest_step]
                logged = _logged(connection, experiment_id, variable)
                if logged:
                    steps += expanded(resolved(joined(logged), end).steps)
                largest[variable.path] = max(steps)
    return {path: step for path, step in largest.items() if step > -math.inf}


def find_tail(
    connection: sqlite3.Connection, variable_id: int, before: int | None = None
) -> ChunkTail | None:
    """Return the last chunk of a series, or the last before a position, without its points."""
    row = connection.execute(
        f'SELECT {HEAD_COLUMNS} FROM chunks '
        'WHERE variable_id = ? AND first < ? ORDER BY first DESC LIMIT 1',
        (variable_id, 2**62 if before is None else before),
    ).fetchone()
    return row and tail_of(variable_id, row)


def find_tails(
    connection: sqlite3.Connection, variable_ids: Collection[int]
) -> dict[int, ChunkTail]:
    """Return the last chunk of each series that has one, without its points."""
    return {
        variable_id: tail_of(variable_id, head)
        for variable_id, *head in connection.execute(
            LAST_CHUNKS.format(columns=HEAD_COLUMNS), (json.dumps([*variable_ids]),)
        )
    }


def tail_of(variable_id: int, head: Sequence[Any]) -> ChunkTail:
    """Return what the head of a chunk says, with its checksum at the end, if that is right."""
    first, count, _, _, largest_step, last_time, *_ = head
    try:
        is_whole = head_checksum(variable_id, head[:-1]) == head[-1]
    except TypeError:
        is_whole = False
    if not is_whole:
        raise StorageFormatError(_damaged(f'the chunk of variable {variable_id} at point {first}'))
    return ChunkTail(first, count, largest_step, last_time)


def end_of(tail: ChunkTail | None) -> SeriesEnd:
    """Return where a series stands that has this tail, or no chunk at all."""
    return SeriesEnd() if tail is None else tail.end


def read_chunk(connection: sqlite3.Connection, variable_id: int, first: int) -> Chunk:
    """Return the chunk of a series that begins at a position."""
    row = connection.execute(
        f'SELECT {CHUNK_COLUMNS} FROM chunks WHERE variable_id = ? AND first = ?',
        (variable_id, first),
    ).fetchone()
    return checked_chunk(variable_id, row)


def unpack_chunk(chunk: Chunk, steps: bool = True, times: bool = True) -> Points:
    """Return the points of a chunk; a column that is not wanted stays empty."""
    try:
        return unpacked(chunk, steps, times)
    except ValueError as error:
        raise StorageFormatError(_damaged(f'a chunk at point {chunk.first}', error)) from error


def log_checksum(experiment_id: int, form: str, count: int, crc32: int) -> int:
    """Return the CRC-32 of a row of the log.

    :param crc32: that of its points.
    """
    return zlib.crc32(encode([experiment_id, form, count]), crc32)


def decoded_log_row(
    experiment_id: int, form: str, count: int, crc32: int, stored: bytes
) -> array[float] | list[Any]:
    """Return the points of a log row: interleaved floats, or rows with a text or datetime."""
    try:
        if log_checksum(experiment_id, form, count, zlib.crc32(stored)) != crc32:
            raise ValueError('its checksum differs')
        points: array[float] | list[Any] = (
            decode(stored) if form == 'json' else little_endian(array('d', stored))
        )
        fields = 1 if form == 'json' else POINT_FIELDS
        if len(points) != count * fields:
            raise ValueError('it has another number of points')
        if isinstance(points, list) and not all(map(_is_text_point, points)):
            raise ValueError('it holds something else than points')
    except (TypeError, ValueError) as error:
        raise StorageFormatError(_damaged('a row of the log', error)) from error
    return points


def _is_text_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and [type(field) for field in point[:3]] == [float, float, float]
        and len(point) == POINT_FIELDS
        and isinstance(point[3], (str, datetime))
    )


def _verify_log(connection: StoreConnection, experiment_id: int) -> None:
    """Look for damage in the rows that no read of this connection has seen yet.

    A row whose points or form are damaged might else be passed over when
    those of a series are looked for.
    """
    for row_id, form, count, crc32, stored in connection.execute(
        'SELECT id, form, count, crc32, points FROM log WHERE experiment_id = ? AND id > ? '
        'ORDER BY id',
        (experiment_id, connection.verified.get(experiment_id, 0)),
    ):
        decoded_log_row(experiment_id, form, count, crc32, stored)
        connection.verified[experiment_id] = row_id


def _logged(connection: StoreConnection, experiment_id: int, variable: Variable) -> list[Columns]:
    """Return the points of a series that are not in chunks yet, one piece a log row."""
    _verify_log(connection, experiment_id)
    if variable.content != 'float':
        rows = connection.execute(
            'SELECT form, count, crc32, points FROM log '
            "WHERE experiment_id = ? AND form = 'json' ORDER BY id",
            (experiment_id,),
        ).fetchall()
        texts: list[Any] = []
        for row in rows:
            texts += decoded_log_row(experiment_id, *row)
        own = [text for text in texts if variable_of(text[0]) == variable.id]
        return [columns for _, columns in text_columns_by_variable(own)]
    # SQLite looks for the key, in both its forms, much faster than Python would. Bytes that
    # look like it elsewhere in a point cost time, but change nothing.
    keys = [
        little_endian(array('d', [point_key(variable.id, explicit)])).tobytes()
        for explicit in (False, True)
    ]
    rows = connection.execute(
        "SELECT form, count, crc32, points FROM log WHERE experiment_id = ? AND form = 'f8' "
        'AND (instr(points, ?) OR instr(points, ?)) ORDER BY id',
        (experiment_id, *keys),
    ).fetchall()
    pieces = (columns_of(variable.id, _floats(experiment_id, *row)) for row in rows)
    return [piece for piece in pieces if len(piece.keys)]


def _floats(experiment_id: int, form: str, count: int, crc32: int, stored: bytes) -> array[float]:
    points = decoded_log_row(experiment_id, form, count, crc32, stored)
    assert isinstance(points, array)
    return points


def read_chunks(
    connection: sqlite3.Connection, spans: Mapping[int, tuple[int, int]]
) -> dict[int, list[Chunk]]:
    """Return the chunks of several series, each from the one on that holds the point at a position.

    :param spans: by the variable's id, that position, and how many points the series has in chunks.
    """
    wanted = [(variable_id, start) for variable_id, (start, end) in spans.items() if start < end]
    chunks: dict[int, list[Chunk]] = {variable_id: [] for variable_id in spans}
    if not wanted:
        return chunks
    for variable_id, *row in connection.execute(
        # From the beginning, all: one whose position is damaged is to be found, too.
        "WITH wanted AS (SELECT json_extract(value, '$[0]') AS id, "
        "json_extract(value, '$[1]') AS start FROM json_each(?)) "
        f'SELECT variable_id, {CHUNK_COLUMNS} FROM wanted CROSS JOIN chunks '
        'ON variable_id = wanted.id AND (wanted.start = 0 OR first >= (SELECT max(first) '
        'FROM chunks WHERE variable_id = wanted.id AND first <= wanted.start))',
        (json.dumps(wanted),),
    ):
        chunks[variable_id].append(checked_chunk(variable_id, row))
    for variable_id, _ in wanted:
        # Here, since SQLite would copy all the columns to sort them, which takes it longer than
        # it does to read them.
        chunks[variable_id].sort(key=attrgetter('first'))
        _require_whole(variable_id, chunks[variable_id], spans[variable_id][1])
    return chunks


def _require_whole(variable_id: int, chunks: Sequence[Chunk], end: int) -> None:
    ends = [chunk.end.count for chunk in chunks]
    if [chunk.first for chunk in chunks[1:]] != ends[:-1] or ends[-1:] != [end]:
        raise StorageFormatError(
            _damaged(f'variable {variable_id}', 'some of its chunks are missing')
        )


def checked_chunk(variable_id: int, row: Sequence[Any]) -> Chunk:
    """Return the chunk in a row of ``CHUNK_COLUMNS``, if both its checksums are right."""
    *head, values, steps, times = row
    tail_of(variable_id, head)
    first, count, first_step, stride, largest_step, last_time = head[:6]
    values_form, steps_form, times_form, crc32, _ = head[6:]
    chunk = Chunk(
        first, count, first_step, stride, largest_step, last_time,
        values_form, values, steps_form, steps, times_form, times,
    )  # fmt: skip
    try:
        is_whole = checksum(chunk) == crc32
    except TypeError:  # what should be bytes is something else
        is_whole = False
    if not is_whole:
        raise StorageFormatError(_damaged(f'the chunk of variable {variable_id} at point {first}'))
    return chunk


def _damaged(what: str, error: object = 'its checksum differs') -> str:
    return f'{what} is damaged: {error}; restore the file from a backup'
