"""NumPy arrays of points."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neptune_async._engine.tables import Curve
from neptune_async._storage.chunks import Points
from neptune_async._tables.columns import step_columns


def series_array(curve: Curve) -> npt.NDArray[np.void]:
    """Return the points of a series as an array with the fields step, timestamp and value."""
    columns = point_columns(curve.pieces, curve.content)
    fields = [(name, column.dtype) for name, column in columns.items()]
    table = np.empty(len(columns['step']), fields)
    for name, column in columns.items():
        table[name] = column
    return table


def point_columns(pieces: Sequence[Points], content: str) -> dict[str, npt.NDArray[Any]]:
    """Return the steps, timestamps and values of points that follow each other."""
    values: list[Any] = [piece.values for piece in pieces]
    return {
        'step': _joined(step_columns(pieces)),
        'timestamp': _joined([piece.times for piece in pieces]),
        'value': _joined(values) if content == 'float' else _listed(values),
    }


def _joined(columns: Sequence[array[Any]]) -> npt.NDArray[Any]:
    """Return columns of numbers as one array; where there is only one, in its memory."""
    parts = [np.frombuffer(column, column.typecode) for column in columns if column]
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0)])


def _listed(columns: Sequence[Sequence[Any]]) -> npt.NDArray[Any]:
    values = np.empty(sum(map(len, columns)), object)
    values[:] = [value for column in columns for value in column]
    return values
