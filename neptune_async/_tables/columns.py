"""What the columns of a table hold, whatever library keeps them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

from neptune_async._engine.reading.latest import Value
from neptune_async._engine.reading.tables import Comparison, Curve
from neptune_async._model.values import MAX_STEP
from neptune_async._storage.points import Points, Stride, expanded

Kind: TypeAlias = Literal['bool', 'int64', 'float64', 'object']

_INT64 = range(-(2**63), 2**63)


def pieces_of(curves: Sequence[Curve]) -> list[Points]:
    """Return the points of all curves, one after the other."""
    return [piece for curve in curves for piece in curve.pieces]


def count_of(curve: Curve) -> int:
    """Return how many points a curve has."""
    return sum(map(len, curve.pieces))


def step_columns(pieces: Sequence[Points]) -> Sequence[array[int]] | Sequence[array[float]]:
    """Return the steps of points: integers if 64 bits hold all of them, else floats."""
    columns = []
    for piece in pieces:
        whole = _whole(piece.steps)
        if whole is None:
            return [expanded(piece.steps) for piece in pieces]
        columns.append(whole)
    return columns


def _whole(steps: Stride | array[float]) -> array[int] | None:
    if isinstance(steps, Stride):
        return array('q', map(int, steps.expanded()))
    try:
        return array('q', map(int, steps)) if all(map(float.is_integer, steps)) else None
    except OverflowError:
        return None


def comparison_columns(comparison: Comparison) -> Iterator[tuple[str, list[Value]]]:
    """Yield the path and the values of each column; None where an experiment has none."""
    for path in comparison.paths:
        yield path, [row.get(path) for row in comparison.rows.values()]


def common_kind(values: Sequence[Any]) -> Kind:
    """Return the type of column that holds each of the values exactly; else 'object'."""
    kinds = set(map(type, values))
    if kinds == {bool}:
        return 'bool'
    if kinds == {int} and all(value in _INT64 for value in values):
        return 'int64'
    if float in kinds and kinds <= {int, float} and all(map(_equals_a_float, values)):
        return 'float64'
    return 'object'


def _equals_a_float(number: int | float) -> bool:
    return isinstance(number, float) or abs(number) <= MAX_STEP
