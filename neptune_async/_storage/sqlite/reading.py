"""Reading variables from a SQLite store, and rows of chunks and of the log with their checksums."""

from __future__ import annotations

import json
import sqlite3
import zlib
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from neptune_async._model.operations import POINT_FIELDS, Variable
from neptune_async._model.values import IN_TEXTS, decode, encode
from neptune_async._storage.chunks import Chunk, checksum, head_checksum, little_endian, unpacked
from neptune_async._storage.points import (
    Points,
    SeriesEnd,
)
from neptune_async._storage.sqlite.checksums import (
    checked_value,
    checked_variable,
    damaged,
    require_absent_values,
)
from neptune_async._storage.sqlite.counts import find_counts, lack, require_as_many
from neptune_async._storage.sqlite.sql import below, find_variable, select_variables, transaction
from neptune_async._storage.summaries import (
    NO_POINTS,
    SeriesSummary,
    unpacked_series_summary,
)
from neptune_async.exceptions import StorageFormatError

HEAD_COLUMNS = (
    'first, count, first_step, stride, largest_step, last_time, '
    'least_step, greatest_step, least_time, greatest_time, '
    'values_form, steps_form, times_form, summary_crc32, crc32, head_crc32'
)
"""With the checksum at the end, which is that of all before it."""
TAIL_COLUMNS = f'{HEAD_COLUMNS}, summary'
CHUNK_COLUMNS = f'{TAIL_COLUMNS}, "values", steps, times'
LAST_CHUNKS = (
    'SELECT wanted.value, {columns} FROM json_each(?) AS wanted CROSS JOIN chunks '
    'ON variable_id = wanted.value '
    'AND first = (SELECT max(first) FROM chunks WHERE variable_id = wanted.value)'
)
"""The last chunk of each of the variables in a JSON list: one look into the index for each.

Here and elsewhere, a row is of the variable that was asked for: it may say another where it is
damaged, but its checksum knows.
"""

CHUNKS_OF = (
    f'SELECT wanted.value, {TAIL_COLUMNS} FROM json_each(?) AS wanted '
    'CROSS JOIN chunks ON variable_id = wanted.value'
)
"""All chunks of the variables in a JSON list, without their points, in no order."""


@dataclass(slots=True)
class ChunkTail:
    """The last chunk of a series, or of a part of it, without its points.

    :ivar summary_crc32: the checksum that its summary has.
    :ivar series: the summary of the series up to its end, if that was read.
    """

    first: int
    count: int
    largest_step: float
    last_time: float
    summary_crc32: int
    series: SeriesSummary | None = None

    @property
    def end(self) -> SeriesEnd:
        """Where the series stands after it."""
        return SeriesEnd(self.first + self.count, self.largest_step, self.last_time)


def list_variables(
    connection: sqlite3.Connection, experiment_id: int, namespace: str | None
) -> list[Variable]:
    """Return the variables below a namespace, or all, by path."""
    condition = 'experiment_id = ?'
    values: tuple[object, ...] = (experiment_id,)
    if namespace is not None:
        condition += ' AND path >= ? AND path < ?'
        values += below(namespace)
    return [*map(checked_variable, select_variables(connection, condition, values))]


def read_atom(
    connection: sqlite3.Connection, experiment_id: int, path: str
) -> tuple[Variable, bytes | None] | None:
    """Return the variable at a path, and its encoded value if it is an atom."""
    with transaction(connection, 'DEFERRED'):
        variable = find_variable(connection, experiment_id, path)
        if variable is None:
            return None
        if variable.container != 'atom':
            return variable, None
        row = connection.execute(
            'SELECT value, crc32 FROM atoms WHERE variable_id = ?', (variable.id,)
        ).fetchone()
        if row is not None:
            return variable, checked_value(variable.id, *row)
        require_absent_values(connection, variable.id)
        return variable, None


def read_set(
    connection: sqlite3.Connection, experiment_id: int, path: str
) -> tuple[Variable, Sequence[bytes]] | None:
    """Return the variable at a path, and its encoded members if it is a set."""
    with transaction(connection, 'DEFERRED'):
        variable = find_variable(connection, experiment_id, path)
        if variable is None:
            return None
        rows = connection.execute(
            'SELECT member, crc32 FROM members WHERE variable_id = ?', (variable.id,)
        )
        members = [checked_value(variable.id, *row) for row in rows.fetchall()]
        if variable.container == 'set':
            require_as_many(connection, variable.id, len(members))
        return variable, members


def find_tail(
    connection: sqlite3.Connection, variable_id: int, before: int | None = None
) -> ChunkTail | None:
    """Return the last chunk of a series, or the last before a position, without its points."""
    row = connection.execute(
        f'SELECT {TAIL_COLUMNS} FROM chunks '
        'WHERE variable_id = ? AND first < ? ORDER BY first DESC LIMIT 1',
        (variable_id, 2**62 if before is None else before),
    ).fetchone()
    tail: ChunkTail | None = row and summarised_tail(variable_id, row)
    if before is None:
        require_as_many(connection, variable_id, end_of(tail).count)
    return tail


def find_tails(
    connection: sqlite3.Connection, variable_ids: Collection[int]
) -> dict[int, ChunkTail]:
    """Return the last chunk of each series that has one, without its points."""
    tails = {
        variable_id: summarised_tail(variable_id, row)
        for variable_id, *row in connection.execute(
            LAST_CHUNKS.format(columns=TAIL_COLUMNS), (json.dumps([*variable_ids]),)
        )
    }
    counts = find_counts(connection, variable_ids)
    for variable_id in variable_ids:
        why = lack(variable_id, end_of(tails.get(variable_id)).count, counts)
        if why is not None:
            raise StorageFormatError(why)
    return tails


def tail_of(variable_id: int, head: Sequence[Any]) -> ChunkTail:
    """Return what the head of a chunk says, with its checksum at the end, if that is right."""
    first, count, _, _, largest_step, last_time, *_ = head
    try:
        is_whole = head_checksum(variable_id, head[:-1]) == head[-1]
    except ValueError:
        is_whole = False
    if not is_whole:
        raise StorageFormatError(damaged_chunk(variable_id, first))
    return ChunkTail(first, count, largest_step, last_time, head[-3])


def summarised_tail(variable_id: int, row: Sequence[Any]) -> ChunkTail:
    """Return the same, of a row of ``TAIL_COLUMNS``, with the summary of the series."""
    tail = tail_of(variable_id, row[:-1])
    stored = checked_summary(variable_id, tail, row[-1])
    try:
        tail.series = unpacked_series_summary(stored)
    except ValueError as error:
        raise StorageFormatError(damaged_chunk(variable_id, tail.first, error)) from error
    return tail


def checked_summary(variable_id: int, tail: ChunkTail, stored: bytes) -> bytes:
    """Return the stored summary of a chunk, if its checksum is right."""
    try:
        is_whole = zlib.crc32(stored) == tail.summary_crc32
    except TypeError:  # what should be bytes is something else
        is_whole = False
    if not is_whole:
        error = 'the checksum of its summary differs'
        raise StorageFormatError(damaged_chunk(variable_id, tail.first, error))
    return stored


def end_of(tail: ChunkTail | None) -> SeriesEnd:
    """Return where a series stands that has this tail, or no chunk at all."""
    return SeriesEnd() if tail is None else tail.end


def series_summary(tail: ChunkTail | None) -> SeriesSummary:
    """Return what is known of a series that has this tail, or no chunk at all."""
    return NO_POINTS if tail is None or tail.series is None else tail.series


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
        raise StorageFormatError(damaged(f'a chunk at point {chunk.first}', error)) from error


def log_checksum(experiment_id: int, form: str, count: int, crc32: int) -> int:
    """Return the CRC-32 of a row of the log.

    :param crc32: that of its points.
    """
    return zlib.crc32(encode([experiment_id, form, count]), crc32)


def decoded_log_row(
    experiment_id: int, row_id: int, form: str, count: int, crc32: int, stored: bytes
) -> array[float] | list[Any]:
    """Return the points of a log row: interleaved floats, or rows with other values."""
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
        raise StorageFormatError(damaged(f'row {row_id} of the log', error)) from error
    return points


def _is_text_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and [type(field) for field in point[:3]] == [float, float, float]
        and len(point) == POINT_FIELDS
        and isinstance(point[3], IN_TEXTS)
    )


def read_chunks(
    connection: sqlite3.Connection,
    spans: Mapping[int, tuple[int, int]],
    check: Callable[[int, Sequence[Any]], Chunk] | None = None,
) -> dict[int, list[Chunk]]:
    """Return the chunks of several series, each from the one on that holds the point at a position.

    :param spans: by the variable's id, that position, and how many points the series has in chunks.
    :param check: what makes a chunk of a row; ``checked_chunk`` if it is left out.
    """
    check = check or checked_chunk
    wanted = [(variable_id, start) for variable_id, (start, end) in spans.items() if start < end]
    chunks: dict[int, list[Chunk]] = {variable_id: [] for variable_id in spans}
    for variable_id, *row in chunk_rows(connection, wanted):
        chunks[variable_id].append(check(variable_id, row))
    for variable_id, _ in wanted:
        # Here, since SQLite would copy all the columns to sort them, which takes it longer than
        # it does to read them.
        chunks[variable_id].sort(key=attrgetter('first'))
        _require_whole(variable_id, chunks[variable_id], spans[variable_id][1])
    return chunks


def chunk_rows(
    connection: sqlite3.Connection,
    starts: Sequence[tuple[int, int]],
    columns: str = CHUNK_COLUMNS,
) -> Iterator[Sequence[Any]]:
    """Yield variable and columns of chunks of several series, each from the chunk on that holds the
    point at a position, in no order.

    :param starts: variables and positions.
    """
    if not starts:
        return
    yield from connection.execute(
        # From the beginning, all: one whose position is damaged is to be found, too.
        "WITH wanted AS (SELECT json_extract(value, '$[0]') AS id, "
        "json_extract(value, '$[1]') AS start FROM json_each(?)) "
        f'SELECT wanted.id, {columns} FROM wanted CROSS JOIN chunks '
        'ON variable_id = wanted.id AND (wanted.start = 0 OR first >= (SELECT max(first) '
        'FROM chunks WHERE variable_id = wanted.id AND first <= wanted.start))',
        (json.dumps(starts),),
    )


def chunks_at(
    connection: sqlite3.Connection, places: Sequence[tuple[int, int]]
) -> Iterator[Sequence[Any]]:
    """Yield variable and ``CHUNK_COLUMNS`` of chunks, in no order.

    :param places: variables, and the position at which each chunk begins.
    """
    if not places:
        return
    yield from connection.execute(
        "WITH wanted AS (SELECT json_extract(value, '$[0]') AS id, "
        "json_extract(value, '$[1]') AS position FROM json_each(?)) "
        f'SELECT wanted.id, {CHUNK_COLUMNS} FROM wanted CROSS JOIN chunks '
        'ON variable_id = wanted.id AND first = wanted.position',
        (json.dumps(places),),
    )


def _require_whole(variable_id: int, chunks: Sequence[Chunk], end: int) -> None:
    ends = [chunk.end.count for chunk in chunks]
    if [chunk.first for chunk in chunks[1:]] != ends[:-1] or ends[-1:] != [end]:
        raise StorageFormatError(some_are_missing(variable_id))


def some_are_missing(variable_id: int) -> str:
    """Return what is to be said of a series whose chunks do not follow each other."""
    return damaged(f'variable {variable_id}', 'some of its chunks are missing')


def checked_chunk(variable_id: int, row: Sequence[Any]) -> Chunk:
    """Return the chunk in a row of ``CHUNK_COLUMNS``, if the checksums of its head and its columns
    are right. Its points need no summary: the checksum of that is not looked at.
    """
    *head, summary, values, steps, times = row
    tail = tail_of(variable_id, head)
    first, count, first_step, stride, largest_step, last_time = head[:6]
    least_step, greatest_step, least_time, greatest_time = head[6:10]
    values_form, steps_form, times_form, _, crc32, _ = head[10:]
    chunk = Chunk(
        first, count, first_step, stride, largest_step, last_time,
        least_step, greatest_step, least_time, greatest_time,
        values_form, values, steps_form, steps, times_form, times, summary,
    )  # fmt: skip
    try:
        is_whole = checksum(chunk) == crc32
    except TypeError:  # what should be bytes is something else
        is_whole = False
    if not is_whole:
        raise StorageFormatError(damaged_chunk(variable_id, tail.first))
    return chunk


def checked_with_summary(variable_id: int, row: Sequence[Any]) -> Chunk:
    """Return the same chunk, if its summary has the right checksum, too."""
    summarised_tail(variable_id, row[:-3])
    return checked_chunk(variable_id, row)


def damaged_chunk(variable_id: int, first: int, error: object = 'its checksum differs') -> str:
    """Return what is to be said of a damaged chunk."""
    return damaged(f'the chunk of variable {variable_id} at point {first}', error)
