"""NumPy arrays of points."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neptune_async._engine.reading.tables import Curve
from neptune_async._storage.points import Points, Stride
from neptune_async._tables.columns import step_columns

_AT_ONCE = 2**16


def series_array(curve: Curve) -> npt.NDArray[np.void]:
    """Return the points of a series as an array with the fields step, timestamp and value."""
    columns = point_columns(curve.pieces, curve.content)
    fields = [(name, column.dtype) for name, column in columns.items()]
    table = np.empty(len(columns['step']), fields)
    for name, column in columns.items():
        table[name] = column
    return table


class ArraySink:
    """Makes an array with the fields step, timestamp and value of points that it is given a piece
    at a time. Beside the array only one piece is in memory.
    """

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, count: int) -> None:
        """Make room for so many points; forget those that were taken before."""
        self._table = np.empty(count, _fields('f8'))
        self._end = 0
        self._is_whole = True

    def take(self, points: Points) -> None:
        """Take in the points that follow."""
        start, self._end = self._end, self._end + len(points)
        rows = self._table[start : self._end]
        steps = points.steps
        if isinstance(steps, Stride):
            rows['step'] = np.arange(steps.count) * steps.stride + steps.first
        else:
            rows['step'] = column = np.frombuffer(steps)
            in_64_bits = (column >= -(2.0**63)) & (column < 2.0**63)
            self._is_whole &= bool((in_64_bits & (column == np.floor(column))).all())
        rows['timestamp'] = np.frombuffer(points.times)
        rows['value'] = np.frombuffer(points.values)  # type: ignore[arg-type]  # they are floats

    def array(self) -> npt.NDArray[np.void]:
        """Return the array; its steps are integers if 64 bits hold all of them."""
        if not self._is_whole or not len(self._table):
            return self._table
        whole = self._table.view(_fields('i8'))
        # In the same memory, some at a time.
        for start in range(0, len(whole), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            whole['step'][some] = self._table['step'][some].astype('i8')
        return whole


def _fields(step: str) -> list[tuple[str, str]]:
    return [('step', step), ('timestamp', 'f8'), ('value', 'f8')]


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
