"""What overviews are made of, with NumPy: many summaries, or many points, at a time.

This module gets NumPy from those who call it: it is loaded already (see ``loaded_numpy``).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neptune_async._storage.grid import Grid
from neptune_async._storage.points import Points, Stride
from neptune_async._storage.summaries import ROW_FIELDS

FEW_SUMMARIES = 16
"""Chunks up to which they are as soon added one by one."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Points with finite values that are in one bucket: arrays with an item a bucket.

    :ivar places: the buckets, each once, or a slice of them.
    :ivar ends: how many points of the series come before the end of the last point.
    """

    places: Any
    points: Any
    least: Any
    greatest: Any
    last: Any
    mean: Any
    ends: Any


def runs_of_points(numpy: Any, grid: Grid, position: int, points: Points) -> Runs | None:
    """Return what is in which bucket; None if values are not finite, or the axis does not ascend.

    :param position: how many points of the series come before the first of them.
    """
    axis = _axis(numpy, points.steps if grid.axis == 'step' else points.times)
    if not isinstance(points.values, array) or axis is None:
        return None
    start, stop = axis.searchsorted(grid.first, 'left'), axis.searchsorted(grid.last, 'right')
    if start >= stop:
        return Runs(*[numpy.empty(0, 'i8')] * 7)
    low, high = grid.place(axis[start]), grid.place(axis[stop - 1])
    edges = numpy.arange(grid.origin + low + 1, grid.origin + high + 1) * grid.width
    bounds = numpy.concatenate([[start], axis.searchsorted(edges), [stop]])
    counts = bounds[1:] - bounds[:-1]
    (kept,) = counts.nonzero()
    starts, counts = bounds[kept], counts[kept]
    values = numpy.frombuffer(points.values)[:stop]
    with numpy.errstate(all='ignore'):
        totals = numpy.add.reduceat(values, starts)
    if not numpy.isfinite(totals).all():
        return None
    ends = starts + counts
    is_dense = len(kept) == high - low + 1
    return Runs(
        slice(low, high + 1) if is_dense else kept + low, counts,
        numpy.minimum.reduceat(values, starts), numpy.maximum.reduceat(values, starts),
        values[ends - 1], totals / counts, position + ends,
    )  # fmt: skip


def _axis(numpy: Any, column: Stride | array[float]) -> Any:
    if isinstance(column, Stride):
        if column.stride < 0:
            return None
        return numpy.arange(column.count, dtype='f8') * column.stride + column.first
    axis = numpy.frombuffer(column)
    return None if (axis[1:] < axis[:-1]).any() else axis


def runs_of_summaries(
    numpy: Any,
    grid: Grid,
    positions: Sequence[int],
    counts: Sequence[int],
    rows: Sequence[bytes],
) -> tuple[Runs, Sequence[tuple[int, int, int]]] | None:
    """Return what is in which bucket, and which summaries are in several, or only partly wanted:
    of each the number of its chunk, and between which points of that its points are.

    :param positions: how many points of the series come before each chunk, ascending.
    :param counts: how many points each has.
    :param rows: the summaries of each (see ``finite_rows``).
    :returns: None if they do not sum up.
    """
    table = numpy.frombuffer(b''.join(rows), [*ROW_FIELDS.items()])
    sizes = numpy.array([*map(len, rows)]) // table.itemsize
    chunks = numpy.repeat(numpy.arange(len(rows)), sizes)
    points = table['points'].astype('i8')
    stops = points.cumsum()[sizes.cumsum() - 1]
    # Within the chunk: less those of the chunks before.
    ends = points.cumsum() - (stops - counts)[chunks]
    low, high = table[f'least_{grid.axis}'], table[f'greatest_{grid.axis}']
    with numpy.errstate(all='ignore'):
        places, others = (numpy.floor(each / grid.width) for each in (low, high))
        is_whole = (low >= grid.first) & (high <= grid.last) & (places == others)
        is_cut = ~is_whole & ~((low > grid.last) | (high < grid.first))
        totals = table['mean'] * points
    if not numpy.isfinite(totals[is_whole]).all() or (numpy.diff(stops, prepend=0) != counts).any():
        return None
    (cut,) = is_cut.nonzero()
    pieces = [*zip(*(each[cut].tolist() for each in (chunks, ends - points, ends)), strict=True)]
    (kept,) = is_whole.nonzero()
    places = places[kept].astype('i8') - grid.origin
    # By places, and those of each in the order of the points.
    order = places.argsort(kind='stable')
    places, kept = places[order], kept[order]
    starts = numpy.flatnonzero(numpy.diff(places, prepend=places[:1] - 1))
    lasts = numpy.append(starts[1:], len(places))[: len(starts)] - 1
    if not len(starts):
        return Runs(*[numpy.empty(0, 'i8')] * 7), pieces
    own = numpy.add.reduceat(points[kept], starts)
    return Runs(
        places[starts], own, numpy.minimum.reduceat(table['least'][kept], starts),
        numpy.maximum.reduceat(table['greatest'][kept], starts), table['last'][kept[lasts]],
        numpy.add.reduceat(totals[kept], starts) / own,
        (ends + numpy.array(positions)[chunks])[kept[lasts]],
    ), pieces  # fmt: skip
