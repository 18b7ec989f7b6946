"""Reading variables from a PostgreSQL store: each is one statement, and so of one moment."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

import asyncpg

from neptune_async._model.operations import Variable
from neptune_async._model.values import Content, datetime_of, decode
from neptune_async._storage.base import Damaged, SeriesReading, Window
from neptune_async._storage.points import Points, Sink, Stride, Values

_COLUMNS = 'v.id, v.path, v.container, v.content'
_VARIABLES = f'SELECT {_COLUMNS} FROM variables v WHERE v.experiment_id = $1'

SERIES = f"""
SELECT {_COLUMNS}, s.count AS end, w.start, c.*
{{which}}
LEFT JOIN series s ON s.experiment_id = v.experiment_id AND s.variable_id = v.id
CROSS JOIN LATERAL (SELECT greatest($3, s.count - $4, 0) AS start) w
LEFT JOIN LATERAL (
    SELECT
        first,
        count,
        first_step,
        stride,
        greatest(w.start - first, 0)::integer AS skipped,
        wanted.is_wanted,
        CASE WHEN is_wanted AND $5 THEN steps[greatest(w.start - first, 0) + 1 :] END AS steps,
        CASE WHEN is_wanted AND $6 THEN times[greatest(w.start - first, 0) + 1 :] END AS times,
        CASE WHEN is_wanted THEN "values"[greatest(w.start - first, 0) + 1 :] END AS numbers,
        CASE WHEN is_wanted THEN texts[greatest(w.start - first, 0) + 1 :] END AS texts,
        CASE WHEN is_wanted THEN encoded[greatest(w.start - first, 0) + 1 :] END AS encoded
    FROM chunks
    CROSS JOIN LATERAL (
        SELECT summary IS NULL OR (
            greatest_step >= $7 AND least_step <= $8 AND greatest_time >= $9 AND least_time <= $10
        ) AS is_wanted
    ) AS wanted
    WHERE experiment_id = v.experiment_id AND variable_id = v.id AND w.start < s.count
    AND first >= (
        SELECT max(first) FROM chunks
        WHERE experiment_id = v.experiment_id AND variable_id = v.id AND first <= w.start
    )
) c ON true
ORDER BY v.id, c.first
"""
"""The points of variables, a row a chunk; ``which`` says of which variables, with $1 and $2. A row
that is not wanted, since all its points lie outside the span, comes without its columns.
"""
_ONE = SERIES.format(
    which='FROM (SELECT * FROM variables WHERE experiment_id = $1 AND path = $2) v'
)


async def list_variables(
    connection: asyncpg.Connection, experiment_id: int, namespace: str | None
) -> list[Variable]:
    """Return the variables below a namespace, or all, by path."""
    if namespace is None:
        rows = await connection.fetch(f'{_VARIABLES} ORDER BY v.path', experiment_id)
    else:
        rows = await connection.fetch(
            f'{_VARIABLES} AND v.path >= $2 AND v.path < $3 ORDER BY v.path',
            experiment_id, f'{namespace}/', f'{namespace}0',  # '0' is the character after '/'
        )  # fmt: skip
    return [Variable(*row) for row in rows]


async def find_variable(
    connection: asyncpg.Connection, experiment_id: int, path: str
) -> Variable | None:
    """Return the variable at a path."""
    row = await connection.fetchrow(f'{_VARIABLES} AND v.path = $2', experiment_id, path)
    return row and Variable(*row)


async def read_atom(
    connection: asyncpg.Connection, experiment_id: int, path: str
) -> tuple[Variable, bytes | None] | None:
    """Return the variable at a path, and its encoded value if it is an atom."""
    row = await connection.fetchrow(
        f'SELECT {_COLUMNS}, a.value FROM variables v LEFT JOIN atoms a '
        'ON a.experiment_id = v.experiment_id AND a.variable_id = v.id '
        'WHERE v.experiment_id = $1 AND v.path = $2',
        experiment_id, path,
    )  # fmt: skip
    return row and (Variable(*row[:4]), row['value'])


async def read_set(
    connection: asyncpg.Connection, experiment_id: int, path: str
) -> tuple[Variable, Sequence[bytes]] | None:
    """Return the variable at a path, and its encoded members if it is a set."""
    rows = await connection.fetch(
        f'SELECT {_COLUMNS}, m.member FROM variables v LEFT JOIN members m '
        'ON m.experiment_id = v.experiment_id AND m.variable_id = v.id '
        'WHERE v.experiment_id = $1 AND v.path = $2',
        experiment_id, path,
    )  # fmt: skip
    if not rows:
        return None
    return Variable(*rows[0][:4]), [row['member'] for row in rows if row['member'] is not None]


async def read_series(
    connection: asyncpg.Connection,
    experiment_id: int,
    path: str,
    window: Window,
    steps: bool,
    times: bool,
) -> SeriesReading | None:
    """Return the points of a series that are in a window."""
    rows = await connection.fetch(
        _ONE, experiment_id, path, window.first, window.last, steps, times, *astuple(window.span)
    )
    return series_reading(rows) if rows else None


async def stream_series(
    connection: asyncpg.Connection, experiment_id: int, path: str, sink: Sink
) -> Variable | None:
    """Give all points of a series of floats to a sink."""
    variable = await find_variable(connection, experiment_id, path)
    if variable is None or (variable.container, variable.content) != ('series', 'float'):
        return variable
    reading = await read_series(connection, experiment_id, path, Window(), True, True)
    if reading is None:
        return None
    pieces = reading.pieces
    sink.begin(reading.end)
    for points in pieces:
        sink.take(points)
    return reading.variable


def series_reading(rows: Sequence[Any]) -> SeriesReading:
    """Return what the rows of one variable say."""
    variable = Variable(*rows[0][:4])
    if variable.container != 'series':
        return SeriesReading(variable)
    end = rows[0]['end'] or 0
    found = [row for row in rows if row['first'] is not None]
    # The first row has the point that the window begins at, unless rows are missing.
    first = position = min(rows[0]['start'], end, *(_first(row) for row in found[:1]))
    runs: list[Points | Damaged] = []
    for row in found:
        if _first(row) > position:
            runs.append(_missing(variable, _first(row) - position))
        elif _first(row) < position:
            runs.append(Damaged(None, _damaged(variable, 'rows of it overlap')))
        if row['is_wanted']:
            runs += runs_of(variable, row)
        position = row['first'] + row['count']
    if position < end:
        runs.append(_missing(variable, end - position))
    elif position > end:
        runs.append(Damaged(None, _damaged(variable, f'it has more points than {end}')))
    return SeriesReading(variable, first, runs)


def _first(row: Any) -> int:
    return int(row['first'] + row['skipped'])


def _missing(variable: Variable, count: int) -> Damaged:
    return rows_are_missing(variable.path, count)


def rows_are_missing(path: str, count: int | None = None) -> Damaged:
    """Return that rows of a variable are missing, in the place of so many points."""
    return Damaged(count, _damaged_at(path, 'rows of it are missing'))


def _damaged(variable: Variable, why: object) -> str:
    return _damaged_at(variable.path, why)


def _damaged_at(path: str, why: object) -> str:
    return f'variable {path!r} is damaged: {why}; restore the database from a backup'


async def largest_steps(connection: asyncpg.Connection, experiment_id: int) -> dict[str, float]:
    """Return the largest step of each series that has points, by path."""
    rows = await connection.fetch(
        'SELECT v.path, s.largest_step FROM variables v JOIN series s '
        'ON s.experiment_id = v.experiment_id AND s.variable_id = v.id '
        'WHERE v.experiment_id = $1 AND s.count > 0 ORDER BY v.path',
        experiment_id,
    )
    return dict(rows)


def runs_of(variable: Variable, row: Any) -> Iterator[Points | Damaged]:
    """Yield the points of a row; of values that no value can be made of, that they are damaged."""
    skipped, count = row['skipped'], row['count'] - row['skipped']
    where = f'the row at point {row["first"]}'
    try:
        points = points_of(variable, row)
    except ValueError as error:
        yield Damaged(count, _damaged(variable, f'{where}: {error}'))
        return
    if isinstance(points.values, array) or Damaged not in map(type, points.values):
        yield points
        return
    start = 0
    for i, value in enumerate(points.values):
        if isinstance(value, Damaged):
            if i > start:
                yield points.sliced(start, i)
            yield Damaged(1, _damaged(variable, f'value {skipped + i} of {where}: {value.why}'))
            start = i + 1
    if start < count:
        yield points.sliced(start, count)


def points_of(variable: Variable, row: Any) -> Points:
    """Return the points of a row, some of which may have ``Damaged`` for a value.

    :raises ValueError: its columns do not have as many items as it has points.
    """
    skipped, count = row['skipped'], row['count'] - row['skipped']
    steps: Stride | array[float]
    if row['stride'] is not None:
        steps = Stride(row['first_step'], row['stride'], row['count'])[skipped:]
    else:
        steps = _floats(row['steps'])
    points = Points(steps, _floats(row['times']), values_of(variable.content, row))
    if len(points) != count:
        raise ValueError(f'it has {len(points)} of {count} values')
    for column, items in (('steps', row['steps']), ('times', row['times'])):
        if items is not None and len(items) != count:
            raise ValueError(f'it has {len(items)} of {count} {column}')
    return points


def _floats(column: Sequence[float] | None) -> array[float]:
    try:
        return array('d', column or ())
    except TypeError:
        raise ValueError('it has no number for a point') from None


def values_of(content: Content, row: Any) -> Values:
    """Return the values in a row: floats, or texts or datetimes; ``Damaged`` for what is neither.

    :raises ValueError: it has none, or less of them than points.
    """
    if row['numbers'] is not None:
        return _floats(row['numbers'])
    texts = row['texts']
    if texts is None:
        raise ValueError('it has no values')
    if row['encoded'] is None and content == 'str' and None not in texts:
        return list(texts)
    encoded = row['encoded'] or [None] * len(texts)
    return [_value(content, *both) for both in zip(texts, encoded, strict=True)]


def _value(content: Content, text: str | None, encoded: bytes | None) -> Any:
    try:
        value: Any = text
        if encoded is not None:
            value = decode(encoded)
        elif content == 'datetime' and text is not None:
            value = datetime_of(text)
    except ValueError as error:
        return Damaged(1, str(error))
    return Damaged(1, 'it is no value') if value is None else value
