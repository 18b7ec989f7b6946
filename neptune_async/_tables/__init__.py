"""Tables of what was read: as NumPy arrays, pandas frames and Arrow tables.

Of these libraries none is required. Each is imported by one module here, which
is imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from neptune_async._engine.reading.tables import Comparison, Curve, SeriesContent
from neptune_async._model import messages

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from neptune_async._tables import in_numpy

_EXTRAS = {'numpy': 'numpy', 'pandas': 'pandas', 'pyarrow': 'arrow'}
"""Which extra of this package installs a module."""


@contextmanager
def _optional() -> Iterator[None]:
    """:raises MissingExtraError: when what the body imports is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise messages.missing_extra(error.name, _EXTRAS[error.name]) from None


def series_array(curve: Curve) -> npt.NDArray[np.void]:
    """Return the points of a series as an array with the fields step, timestamp and value."""
    with _optional():
        from neptune_async._tables import in_numpy
    return in_numpy.series_array(curve)


def array_sink() -> in_numpy.ArraySink:
    """Return what makes such an array of points that it is given a piece at a time."""
    with _optional():
        from neptune_async._tables import in_numpy
    return in_numpy.ArraySink()


def series_frame(curve: Curve) -> pd.DataFrame:
    """Return the points of a series: timestamp and value by step, in the order of the log."""
    with _optional():
        from neptune_async._tables import in_pandas
    return in_pandas.series_frame(curve)


def series_table(curve: Curve) -> pa.Table:
    """Return the points of a series: step, timestamp and value, each stored chunk as a chunk."""
    with _optional():
        from neptune_async._tables import in_arrow
    return in_arrow.series_table(curve)


def metrics_frame(curves: Sequence[Curve], content: SeriesContent) -> pd.DataFrame:
    """Return the points of several series, one series below the other."""
    with _optional():
        from neptune_async._tables import in_pandas
    return in_pandas.metrics_frame(curves, content)


def metrics_table(curves: Sequence[Curve], content: SeriesContent) -> pa.Table:
    """Return the points of several series, one series below the other."""
    with _optional():
        from neptune_async._tables import in_arrow
    return in_arrow.metrics_table(curves, content)


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Return a row an experiment, and a column a path."""
    with _optional():
        from neptune_async._tables import in_pandas
    return in_pandas.comparison_frame(comparison)


def comparison_table(comparison: Comparison) -> pa.Table:
    """Return a row an experiment: its name, then a column a path."""
    with _optional():
        from neptune_async._tables import in_arrow
    return in_arrow.comparison_table(comparison)
