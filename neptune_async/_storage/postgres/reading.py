"""Reading variables from a PostgreSQL store: each is one statement, and so of one moment."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import asyncpg

from neptune_async._model.operations import Variable
from neptune_async._model.values import Content, datetime_of, decode
from neptune_async._storage.base import SeriesReading, Window
from neptune_async._storage.chunks import Points, Stride, Values
from neptune_async.exceptions import StorageFormatError

_COLUMNS = 'v.id, v.path, v.container, v.content'
_VARIABLES = f'SELECT {_COLUMNS} FROM variables v WHERE v.experiment_id = $1'

SERIES = f"""
SELECT {_COLUMNS}, s.count AS end, c.*
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
        CASE WHEN $5 THEN steps[greatest(w.start - first, 0) + 1 :] END AS steps,
        CASE WHEN $6 THEN times[greatest(w.start - first, 0) + 1 :] END AS times,
        "values"[greatest(w.start - first, 0) + 1 :] AS numbers,
        texts[greatest(w.start - first, 0) + 1 :] AS texts,
        encoded[greatest(w.start - first, 0) + 1 :] AS encoded
    FROM chunks
    WHERE experiment_id = v.experiment_id AND variable_id = v.id AND w.start < s.count
    AND first >= (
        SELECT max(first) FROM chunks
        WHERE experiment_id = v.experiment_id AND variable_id = v.id AND first <= w.start
    )
) c ON true
ORDER BY v.id, c.first
"""
"""The points of variables, a row a chunk; ``which`` says of which variables, with $1 and $2."""
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
        _ONE, experiment_id, path, window.first, window.last, steps, times
    )
    return series_reading(rows) if rows else None


def series_reading(rows: Sequence[Any]) -> SeriesReading:
    """Return what the rows of one variable say."""
    variable = Variable(*rows[0][:4])
    if variable.container != 'series':
        return SeriesReading(variable)
    end = rows[0]['end']
    pieces = [_points(variable, row) for row in rows if row['first'] is not None]
    first = rows[0]['first'] + rows[0]['skipped'] if pieces else end
    reading = SeriesReading(variable, first, pieces)
    if reading.end != end:
        raise StorageFormatError(
            f'variable {variable.path!r} has {reading.end} of {end} points: rows of its are '
            'missing; restore the database from a backup'
        )
    return reading


async def largest_steps(connection: asyncpg.Connection, experiment_id: int) -> dict[str, float]:
    """Return the largest step of each series that has points, by path."""
    rows = await connection.fetch(
        'SELECT v.path, s.largest_step FROM variables v JOIN series s '
        'ON s.experiment_id = v.experiment_id AND s.variable_id = v.id '
        'WHERE v.experiment_id = $1 AND s.count > 0 ORDER BY v.path',
        experiment_id,
    )
    return dict(rows)


def _points(variable: Variable, row: Any) -> Points:
    skipped, count = row['skipped'], row['count'] - row['skipped']
    steps: Stride | array[float]
    if row['stride'] is not None:
        steps = Stride(row['first_step'], row['stride'], row['count'])[skipped:]
    else:
        steps = array('d', row['steps'] or ())
    points = Points(steps, array('d', row['times'] or ()), values_of(variable.content, row))
    if len(points) != count:
        raise StorageFormatError(
            f'variable {variable.path!r} is damaged: {len(points)} of {count} values at point '
            f'{row["first"]}; restore the database from a backup'
        )
    return points


def values_of(content: Content, row: Any) -> Values:
    """Return the values in a row: floats, or texts or datetimes."""
    if row['numbers'] is not None:
        return array('d', row['numbers'])
    texts: list[Any] = row['texts']
    if content == 'datetime':
        texts = [text and datetime_of(text) for text in texts]
    if row['encoded'] is None:
        return texts
    return [
        text if code is None else decode(code)
        for text, code in zip(texts, row['encoded'], strict=True)
    ]
