"""Arrow tables of points and of comparisons."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from neptune_async._engine.reading.latest import Value
from neptune_async._engine.reading.tables import Comparison, Curve
from neptune_async._model.values import AtomValue, SeriesValue, encode
from neptune_async._storage.points import Points
from neptune_async._tables.columns import (
    common_kind,
    comparison_columns,
    count_of,
    pieces_of,
    step_columns,
)
from neptune_async.exceptions import UnsupportedValueError


def series_table(curve: Curve) -> pa.Table:
    """Return the points of a series: step, timestamp and value, each stored chunk as a chunk."""
    return pa.table(_point_columns(curve.pieces, curve.content))


def metrics_table(curves: Sequence[Curve], content: str) -> pa.Table:
    """Return the points of several series, one series below the other."""
    return pa.table(
        {
            'experiment': _repeated(curves, [curve.experiment for curve in curves]),
            'path': _repeated(curves, [curve.path for curve in curves]),
            **_point_columns(pieces_of(curves), content),
        }
    )


def comparison_table(comparison: Comparison) -> pa.Table:
    """Return a row an experiment: its name, then a column a path."""
    columns = dict(comparison_columns(comparison))
    names = pa.array([*comparison.rows], pa.string())
    return pa.table([names, *map(_column, columns.values())], ['experiment', *columns])


def _repeated(curves: Sequence[Curve], names: Sequence[str]) -> pa.ChunkedArray:
    """Return the name of each curve as many times as it has points, by its number in a list."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    dictionary = pa.array([*codes], pa.string())
    return pa.chunked_array(
        [
            pa.DictionaryArray.from_arrays(
                pa.repeat(pa.scalar(codes[name], pa.int32()), count_of(curve)), dictionary
            )
            for name, curve in zip(names, curves, strict=True)
        ],
        pa.dictionary(pa.int32(), pa.string()),
    )


def _point_columns(pieces: Sequence[Points], content: str) -> dict[str, pa.ChunkedArray]:
    values: list[Any] = [piece.values for piece in pieces]
    return {
        'step': _numbers(step_columns(pieces)),
        'timestamp': _numbers([piece.times for piece in pieces]),
        'value': _numbers(values)
        if content == 'float'
        else pa.chunked_array(map(_texts, values), pa.string()),
    }


def _numbers(columns: Sequence[array[Any]]) -> pa.ChunkedArray:
    """Return columns of numbers where they are, in the memory that they were read to."""
    kind = pa.int64() if any(column.typecode == 'q' for column in columns) else pa.float64()
    return pa.chunked_array(
        [
            pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(column)])
            for column in columns
        ],
        kind,
    )


def _column(values: Sequence[Value]) -> pa.Array:
    """Return values with the type that holds all of them exactly; else as JSON."""
    plain: list[Any] = [sorted(value) if isinstance(value, set) else value for value in values]
    present = [value for value in plain if value is not None]
    kinds = set(map(type, present))
    if kinds <= {str} or kinds == {datetime}:
        return _texts(plain)
    items = [item for value in present for item in value] if kinds == {list} else present
    if common_kind(items) != 'object' or set(map(type, items)) == {str}:
        return _array(plain)
    return _texts([None if value is None else _json(value) for value in plain])


def _json(value: AtomValue | SeriesValue) -> str:
    return encode(value).decode('utf-8', 'surrogatepass')


def _texts(values: Iterable[SeriesValue | None]) -> pa.Array:
    return _array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: SeriesValue) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str) else _json(value)


def _array(values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError as error:
        raise UnsupportedValueError(
            f'an Arrow table holds UTF-8, and cannot hold {error.object[:60]!r}; read it into a '
            'pandas frame, or as a list'
        ) from None
