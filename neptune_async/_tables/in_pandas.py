"""pandas frames of points and of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from neptune_async._engine.reading.latest import Value
from neptune_async._engine.reading.tables import Comparison, Curve
from neptune_async._tables.columns import common_kind, comparison_columns, count_of, pieces_of
from neptune_async._tables.in_numpy import point_columns

_WITH_MISSING = {'bool': 'boolean', 'int64': 'Int64'}
"""The types that have room for missing values."""


def series_frame(curve: Curve) -> pd.DataFrame:
    """Return the points of a series: timestamp and value by step, in the order of the log."""
    columns = point_columns(curve.pieces, curve.content)
    index = pd.Index(columns.pop('step'), name='step')
    return _frame(columns, index)


def metrics_frame(curves: Sequence[Curve], content: str) -> pd.DataFrame:
    """Return the points of several series, one series below the other."""
    counts = [count_of(curve) for curve in curves]
    names = {
        'experiment': [curve.experiment for curve in curves],
        'path': [curve.path for curve in curves],
    }
    repeated = {key: np.repeat(np.array(some, object), counts) for key, some in names.items()}
    columns = {**repeated, **point_columns(pieces_of(curves), content)}
    return _frame(columns, pd.RangeIndex(sum(counts)))


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Return a row an experiment, and a column a path."""
    index = pd.Index([*comparison.rows], dtype=object, name='experiment')
    columns = {
        path: pd.Series(values, index, _dtype(values))
        for path, values in comparison_columns(comparison)
    }
    frame: pd.DataFrame = pd.DataFrame(columns, index)
    return frame


def _frame(columns: dict[str, npt.NDArray[Any]], index: Any) -> pd.DataFrame:
    # The types are said, or pandas would make its own of texts and datetimes, which cannot hold
    # lone surrogates, and datetimes of several UTC offsets.
    typed = {name: pd.Series(column, index, column.dtype) for name, column in columns.items()}
    frame: pd.DataFrame = pd.DataFrame(typed, index)
    return frame


def _dtype(values: Sequence[Value]) -> str:
    """Return the type of a column that keeps values as they are, with room for what is missing."""
    present = [value for value in values if value is not None]
    kind = common_kind(present)
    return kind if len(present) == len(values) else _WITH_MISSING.get(kind, kind)
