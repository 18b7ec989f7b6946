"""Reading series from a SQLite store: chunks first, then what is still in the log.

What is damaged takes no other point along: in the place of its points stands that it is damaged.
"""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeAlias

from neptune_async._model.operations import Variable, point_key, variable_of
from neptune_async._storage.base import (
    EVERYWHERE,
    Damaged,
    SeriesReading,
    Span,
    Window,
)
from neptune_async._storage.chunks import CHUNK_POINTS, Chunk, little_endian
from neptune_async._storage.points import (
    Columns,
    Points,
    SeriesEnd,
    Sink,
    columns_of,
    expanded,
    joined,
    resolved,
    text_columns_by_variable,
)
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.counts import find_counts, lack
from neptune_async._storage.sqlite.reading import (
    CHUNK_COLUMNS,
    HEAD_COLUMNS,
    LAST_CHUNKS,
    checked_chunk,
    chunk_rows,
    chunks_at,
    damaged_chunk,
    decoded_log_row,
    end_of,
    find_tail,
    list_variables,
    some_are_missing,
    tail_of,
    unpack_chunk,
)
from neptune_async._storage.sqlite.sql import find_variable, transaction
from neptune_async._storage.sqlite.windows import Skipped, chunks_within
from neptune_async.exceptions import StorageFormatError

Logged: TypeAlias = 'Sequence[Columns | Damaged]'
"""What is in the log of a series, in its order."""

_SEARCHED = 16 * CHUNK_POINTS
"""Points up to which a look at each chunk takes no longer than a search for those of a window."""
_UNCERTAIN = 'their steps go on from points that are damaged; restore the file from a backup'


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
        logged = {variable.id: _logged(connection, experiment_id, variable)}
        runs = find_runs(connection, logged, window, steps)[variable.id]
    reading = runs.reading(variable, steps, times)
    if window.span != EVERYWHERE and reading.is_damaged:
        # Which points are damaged is told of the whole series.
        return read_series(connection, experiment_id, path, window.everywhere(), steps, times)
    return reading


def stream_series(
    connection: StoreConnection, experiment_id: int, path: str, sink: Sink
) -> Variable | None:
    """Give all points of a series of floats to a sink, a chunk at a time."""
    with transaction(connection, 'DEFERRED'):
        variable = find_variable(connection, experiment_id, path)
        if variable is None or (variable.container, variable.content) != ('series', 'float'):
            return variable
        end = end_of(find_tail(connection, variable.id))
        logged = SeriesReading(
            variable, 0, resolved_runs(_logged(connection, experiment_id, variable), end, True)
        )
        sink.begin(end.count + logged.end)
        position = 0
        for row in connection.execute(
            f'SELECT {CHUNK_COLUMNS} FROM chunks WHERE variable_id = ? ORDER BY first',
            (variable.id,),
        ):
            chunk = checked_chunk(variable.id, row)
            if chunk.first != position:
                raise StorageFormatError(some_are_missing(variable.id))
            sink.take(unpack_chunk(chunk))
            position += chunk.count
        if position != end.count:
            raise StorageFormatError(some_are_missing(variable.id))
    for points in logged.pieces:
        sink.take(points)
    return variable


def largest_steps(connection: StoreConnection, experiment_id: int) -> dict[str, float]:
    """Return the largest step of each series that has points, by path."""
    largest = {}
    with transaction(connection, 'DEFERRED'):
        for variable in list_variables(connection, experiment_id, None):
            if variable.container == 'series':
                end = end_of(find_tail(connection, variable.id))
                fresh = resolved_runs(_logged(connection, experiment_id, variable), end, True)
                runs = SeriesReading(variable, 0, fresh).pieces
                steps = [step for points in runs for step in expanded(points.steps)]
                largest[variable.path] = max([end.largest_step, *steps])
    return {path: step for path, step in largest.items() if step > -math.inf}


# ── Chunks ───────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Runs:
    """The points of a series, of which the chunks are still to be unpacked.

    :ivar first: how many points of the series come before.
    :ivar behind: what is damaged behind the chunks, so that nobody knows where the series
        stands there.
    :ivar fresh: what was in the log.
    """

    first: int
    chunks: list[Chunk | Damaged | Skipped] = field(default_factory=list)
    behind: Damaged | None = None
    fresh: list[Points | Damaged] = field(default_factory=list)

    def reading(self, variable: Variable, steps: bool, times: bool) -> SeriesReading:
        """Return the points; a column that is not wanted may stay empty."""
        unpacked = [
            _unpacked(chunk, steps, times)
            for chunk in self.chunks
            if not isinstance(chunk, Skipped)
        ]
        behind = [] if self.behind is None else [self.behind]
        return SeriesReading(variable, self.first, [*unpacked, *behind, *self.fresh])


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a series stands after its last chunk whose head is whole.

    :ivar behind: a chunk that comes after it, and does not even tell how many points it has.
    """

    end: SeriesEnd
    behind: Damaged | None = None


@dataclass(slots=True)
class _Rows:
    """The rows of chunks of a series, as they are found.

    :ivar placed: those that tell how many points come before.
    :ivar strays: what is to be said of the others.
    """

    placed: list[tuple[int, Chunk | Damaged | Skipped]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    def add(self, variable_id: int, row: Sequence[Any]) -> None:
        """Take a row of ``CHUNK_COLUMNS``."""
        try:
            self.placed.append((row[0], checked_chunk(variable_id, row)))
        except StorageFormatError as error:
            try:
                tail = tail_of(variable_id, row[:-4])
            except StorageFormatError:
                self.strays.append(str(error))
            else:
                self.placed.append((tail.first, Damaged(tail.count, str(error))))

    def in_order(self, variable_id: int, start: int, standing: Standing) -> Runs:
        """Return the chunks in their order, with what is missing between them."""
        self.placed.sort(key=lambda row: row[0])
        why = self.strays[0] if self.strays else some_are_missing(variable_id)
        position = min([start, standing.end.count, *(first for first, _ in self.placed[:1])])
        runs = Runs(position, behind=standing.behind)
        for first, chunk in [*self.placed, (standing.end.count, None)]:
            if first > position:
                runs.chunks.append(Damaged(first - position, why))
            elif first < position:
                runs.behind = Damaged(None, some_are_missing(variable_id))
            if chunk is not None:
                runs.chunks.append(chunk)
                position = first + (chunk.count or 0)
        if self.strays and not any(isinstance(chunk, Damaged) for chunk in runs.chunks):
            runs.behind = Damaged(None, why)
        return runs


def find_runs(
    connection: sqlite3.Connection, logged: Mapping[int, Logged], window: Window, steps: bool
) -> dict[int, Runs]:
    """Return the points of several series, at least those in a window, by the variable's id.

    :param logged: of each of them, what is not in chunks yet.
    """
    standings = find_standings(connection, logged)
    starts = {
        variable_id: window.start(standings[variable_id].end.count + sum(map(_count, own)))
        for variable_id, own in logged.items()
    }
    wanted = [
        (variable_id, start)
        for variable_id, start in starts.items()
        if start < standings[variable_id].end.count or standings[variable_id].behind is not None
    ]
    ends = {variable_id: standings[variable_id].end.count for variable_id, _ in wanted}
    rows = _rows(connection, wanted, window.span, ends)
    runs = {}
    for variable_id, start in starts.items():
        standing = standings[variable_id]
        found = rows.get(variable_id, _Rows()).in_order(variable_id, start, standing)
        found.fresh = resolved_runs(
            logged[variable_id], standing.end if found.behind is None else None, steps
        )
        runs[variable_id] = found
    return runs


def _rows(
    connection: sqlite3.Connection,
    wanted: Sequence[tuple[int, int]],
    span: Span,
    ends: Mapping[int, int],
) -> dict[int, _Rows]:
    rows = {variable_id: _Rows() for variable_id, _ in wanted}
    try:
        for variable_id, *row in _rows_within(connection, rows, wanted, span, ends):
            rows[variable_id].add(variable_id, row)
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise
        # A block of the file is damaged: row by row, those that are elsewhere are found.
        return {each[0]: _row_by_row(connection, *each) for each in wanted}
    return rows


def _rows_within(
    connection: sqlite3.Connection,
    rows: Mapping[int, _Rows],
    wanted: Sequence[tuple[int, int]],
    span: Span,
    ends: Mapping[int, int],
) -> Iterator[Sequence[Any]]:
    """Return the rows of chunks that may have points in a span; note which chunks are skipped."""
    if span == EVERYWHERE:
        return chunk_rows(connection, wanted)
    rest = []
    for variable_id, start in wanted:
        found = None
        if ends[variable_id] > _SEARCHED:
            found = chunks_within(connection, variable_id, span)
        if found is None:
            rest.append((variable_id, start))
        else:
            rows[variable_id].placed += found
    return chunks_at(connection, [*_without_skipped(connection, rows, rest, span)])


def _without_skipped(
    connection: sqlite3.Connection,
    rows: Mapping[int, _Rows],
    wanted: Sequence[tuple[int, int]],
    span: Span,
) -> Iterator[tuple[int, int]]:
    """Yield variable and beginning of the chunks that may have points in a span, or that are
    damaged; note in their rows that the others are skipped.
    """
    for variable_id, *head in chunk_rows(connection, wanted, HEAD_COLUMNS):
        try:
            tail = tail_of(variable_id, head)
        except StorageFormatError:
            yield variable_id, head[0]
            continue
        if span.touches(*head[6:10]):
            yield variable_id, tail.first
        else:
            rows[variable_id].placed.append((tail.first, Skipped(tail.count)))


def _row_by_row(connection: sqlite3.Connection, variable_id: int, start: int) -> _Rows:
    rows = _Rows()
    # In the index alone.
    for (first,) in connection.execute(
        'SELECT first FROM chunks WHERE variable_id = ? ORDER BY first', (variable_id,)
    ).fetchall():
        try:
            for row in connection.execute(
                f'SELECT {CHUNK_COLUMNS} FROM chunks '
                'WHERE variable_id = ? AND first = ? AND first + count > ?',
                (variable_id, first, start),
            ):
                rows.add(variable_id, row)
        except sqlite3.DatabaseError as error:
            rows.strays.append(damaged_chunk(variable_id, first, error))
    return rows


def find_standings(
    connection: sqlite3.Connection, variable_ids: Iterable[int]
) -> dict[int, Standing]:
    """Return where several series stand after their chunks."""
    found = dict.fromkeys(variable_ids, Standing(SeriesEnd()))
    for variable_id, *head in connection.execute(
        LAST_CHUNKS.format(columns=HEAD_COLUMNS), (json.dumps([*found]),)
    ).fetchall():
        try:
            found[variable_id] = Standing(tail_of(variable_id, head).end)
        except StorageFormatError as error:
            found[variable_id] = Standing(
                _last_end(connection, variable_id), Damaged(None, str(error))
            )
    counts = find_counts(connection, found)
    for variable_id, standing in found.items():
        why = lack(variable_id, standing.end.count, counts)
        if why is not None and standing.behind is None:
            found[variable_id] = Standing(standing.end, Damaged(None, why))
    return found


def _last_end(connection: sqlite3.Connection, variable_id: int) -> SeriesEnd:
    for row in connection.execute(
        f'SELECT {HEAD_COLUMNS} FROM chunks WHERE variable_id = ? ORDER BY first DESC',
        (variable_id,),
    ).fetchall():
        try:
            return tail_of(variable_id, row).end
        except StorageFormatError:
            continue
    return SeriesEnd()


def _unpacked(chunk: Chunk | Damaged, steps: bool, times: bool) -> Points | Damaged:
    if isinstance(chunk, Damaged):
        return chunk
    try:
        return unpack_chunk(chunk, steps, times)
    except StorageFormatError as error:
        return Damaged(chunk.count, str(error))


# ── The log ──────────────────────────────────────────────────────────────────


def resolved_runs(logged: Logged, end: SeriesEnd | None, steps: bool) -> list[Points | Damaged]:
    """Return points of the log as they read back.

    :param end: where the series stands before them; None if that cannot be told, as it cannot be
        after a row that is damaged. An automatic step is not known then.
    """
    runs: list[Points | Damaged] = []
    for is_damaged, group in groupby(logged, lambda run: isinstance(run, Damaged)):
        if is_damaged:
            runs += [run for run in group if isinstance(run, Damaged)]
            end = None
            continue
        columns = joined([run for run in group if isinstance(run, Columns)])
        if end is not None:
            runs.append(resolved(columns, end))
        elif steps and any(map(math.isnan, columns.steps)):
            runs.append(Damaged(len(columns.keys), _UNCERTAIN))
        else:
            points = resolved(columns, SeriesEnd())
            runs.append(points if steps else Points(array('d'), points.times, points.values))
    return runs


def _count(run: Columns | Damaged) -> int:
    return len(run.keys) if isinstance(run, Columns) else len(run)


def _logged(connection: StoreConnection, experiment_id: int, variable: Variable) -> Logged:
    """Return the points of a series that are not in chunks yet, one piece a log row."""
    pieces: dict[int, Columns | Damaged] = {
        row_id: Damaged(None, why) for row_id, why in _damaged_rows(connection, experiment_id)
    }
    if variable.content != 'float':
        rows = connection.execute(
            'SELECT id, form, count, crc32, points FROM log '
            "WHERE experiment_id = ? AND form = 'json' ORDER BY id",
            (experiment_id,),
        )
    else:
        # SQLite looks for the key, in both its forms, much faster than Python would. Bytes that
        # look like it elsewhere in a point cost time, but change nothing.
        keys = [
            little_endian(array('d', [point_key(variable.id, explicit)])).tobytes()
            for explicit in (False, True)
        ]
        rows = connection.execute(
            'SELECT id, form, count, crc32, points FROM log WHERE experiment_id = ? '
            "AND form = 'f8' AND (instr(points, ?) OR instr(points, ?)) ORDER BY id",
            (experiment_id, *keys),
        )
    for row_id, *row in rows.fetchall():
        if row_id not in pieces:
            columns = _columns(variable, decoded_log_row(experiment_id, row_id, *row))
            if len(columns.keys):
                pieces[row_id] = columns
    return [pieces[row_id] for row_id in sorted(pieces)]


def _columns(variable: Variable, points: array[float] | list[Any]) -> Columns:
    if isinstance(points, array):
        return columns_of(variable.id, points)
    own = [text for text in points if variable_of(text[0]) == variable.id]
    return next(
        (columns for _, columns in text_columns_by_variable(own)),
        Columns(array('d'), array('d'), array('d'), []),
    )


def _damaged_rows(connection: StoreConnection, experiment_id: int) -> list[tuple[int, str]]:
    """Look for damage in the rows that no read of this connection has seen yet.

    A row whose points or form are damaged might else be passed over when
    those of a series are looked for: it may have had points of any.

    :returns: the ids of such rows, and what is to be said of them.
    """
    found: list[tuple[int, str]] = []
    for row_id, *row in connection.execute(
        'SELECT id, form, count, crc32, points FROM log WHERE experiment_id = ? AND id > ? '
        'ORDER BY id',
        (experiment_id, connection.verified.get(experiment_id, 0)),
    ):
        try:
            decoded_log_row(experiment_id, row_id, *row)
        except StorageFormatError as error:
            found.append((row_id, str(error)))
        if not found:
            connection.verified[experiment_id] = row_id
    return found
