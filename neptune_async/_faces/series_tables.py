"""The points of a series as a table, for the face that waits."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from neptune_async import _tables
from neptune_async._engine.reading import tables
from neptune_async._engine.worker.loop_thread import Function
from neptune_async._faces.view import BaseView
from neptune_async._faces.windows import thinning

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

T = TypeVar('T')


class SeriesTables(BaseView):
    """A view whose series can be read as a NumPy array, a pandas frame or an Arrow table."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _read(self, read: Function[T], *arguments: object) -> T: ...

    def to_pandas(
        self,
        *,
        first_step: float | None = None,
        last_step: float | None = None,
        first_time: float | datetime | None = None,
        last_time: float | datetime | None = None,
        max_points: int | None = None,
    ) -> pd.DataFrame:
        """Return the points of the series as a frame with the columns timestamp and value, by step,
        in the order in which they were logged.

        Timestamps are seconds since the epoch: ``pd.to_datetime(frame.timestamp, unit='s')``.
        Steps are int if all are integral and within 64 bits, else float. Values are float64, else
        the str or datetime objects.

        :param first_step, last_step: bounds of the steps, both included. Of a long series only the
            stored chunks are read that may have such points.
        :param first_time, last_time: bounds of the timestamps, both included: seconds since the
            epoch, or a datetime (a naive one is local time).
        :param max_points: how many points to return at most, as for ``fetch_metrics``: no peak is
            lost. Of a long series only the stored chunks are read that may have such points.
        :raises InvalidArgumentError, InvalidStepError, InvalidTimestampError: a bound is none, or
            nothing is between two.
        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is no Series.
        :raises MissingExtraError: pandas is not installed.
        """
        wanted = thinning(first_step, last_step, first_time, last_time, max_points)
        return _tables.series_frame(self._read(tables.curve, 'to_pandas', wanted))

    def to_numpy(
        self,
        *,
        first_step: float | None = None,
        last_step: float | None = None,
        first_time: float | datetime | None = None,
        last_time: float | datetime | None = None,
        max_points: int | None = None,
    ) -> npt.NDArray[np.void]:
        """Return the points of the series as an array with the fields step, timestamp and value;
        else as ``to_pandas``.
        """
        wanted = thinning(first_step, last_step, first_time, last_time, max_points)
        if not wanted.keeps_all:
            return _tables.series_array(self._read(tables.curve, 'to_numpy', wanted))
        sink = _tables.array_sink()
        curve = self._read(tables.filled, 'to_numpy', sink)
        return sink.array() if curve is None else _tables.series_array(curve)

    def to_arrow(
        self,
        *,
        first_step: float | None = None,
        last_step: float | None = None,
        first_time: float | datetime | None = None,
        last_time: float | datetime | None = None,
        max_points: int | None = None,
    ) -> pa.Table:
        """Return the points of the series as an Arrow table with the columns step, timestamp and
        value; else as ``to_pandas``.

        Each stored chunk is a chunk of the columns, and numbers stay where they were read to.
        Datetimes are texts, in ISO 8601, which keeps their UTC offsets.
        """
        wanted = thinning(first_step, last_step, first_time, last_time, max_points)
        return _tables.series_table(self._read(tables.curve, 'to_arrow', wanted))
