"""Samples of series in a SQLite store: the chunks that hold them are found by summaries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from neptune_async._storage.base import Damaged, VariablesByExperiment
from neptune_async._storage.points import Points, SeriesEnd, Stride
from neptune_async._storage.samples import Piece, Ranges, SampleMaker, Sampling
from neptune_async._storage.sqlite.bulk import ids_of, logged_points
from neptune_async._storage.sqlite.connection import StoreConnection
from neptune_async._storage.sqlite.counts import find_counts, lack
from neptune_async._storage.sqlite.reading import (
    CHUNKS_OF,
    checked_chunk,
    checked_summary,
    chunks_at,
    tail_of,
    unpack_chunk,
)
from neptune_async._storage.sqlite.series import Logged, resolved_runs
from neptune_async._storage.sqlite.sql import transaction
from neptune_async.exceptions import StorageFormatError

_AT_ONCE = 64
"""Chunks whose points are in memory at a time: 8 MiB."""
_IN_ORDER = f'{CHUNKS_OF} ORDER BY wanted.value, first'


def read_samples(
    connection: StoreConnection, variables: VariablesByExperiment, sampling: Sampling
) -> dict[int, Points]:
    """Return the samples of several series, by the variable's id, but for those that summaries do
    not tell.
    """
    content = {each.id: each.content for some in variables.values() for each in some}
    ids = ids_of(variables, 'series')
    makers = {each: SampleMaker(sampling, content[each] == 'float') for each in ids}
    ends = dict.fromkeys(ids, SeriesEnd())
    with transaction(connection, 'DEFERRED'):
        logged = logged_points(connection, variables)
        counts = find_counts(connection, ids)
        for variable_id, *row in connection.execute(_IN_ORDER, (json.dumps(ids),)):
            ends[variable_id] = _add_chunk(makers[variable_id], variable_id, row)
        for variable_id, maker in makers.items():
            end = ends[variable_id]
            if lack(variable_id, end.count, counts) is not None:
                maker.give_up()
            _add_logged(maker, logged.get(variable_id, ()), end)
        _show(connection, makers, SampleMaker.doubtful, SampleMaker.look)
        _show(connection, makers, SampleMaker.settle, SampleMaker.take)
    samples = {variable_id: maker.sample() for variable_id, maker in makers.items()}
    return {each: sample for each, sample in samples.items() if sample is not None}


def _add_chunk(maker: SampleMaker, variable_id: int, row: Sequence[Any]) -> SeriesEnd:
    """Add the chunk in a row of ``TAIL_COLUMNS``; return where the series stands after it."""
    first_step, stride = row[2:4]
    try:
        tail = tail_of(variable_id, row[:-1])
        summary = checked_summary(variable_id, tail, row[-1])
    except StorageFormatError:
        maker.give_up()
        return SeriesEnd()
    steps = None if stride is None else Stride(first_step, stride, tail.count)
    maker.add(Piece(tail.first, tail.count, Ranges(*row[6:10]), steps, summary))
    return tail.end


def _add_logged(maker: SampleMaker, logged: Logged, end: SeriesEnd) -> None:
    position = end.count
    for run in resolved_runs(logged, end, True):
        if isinstance(run, Damaged):
            maker.give_up()
            return
        maker.add_points(position, run)
        position += len(run)


def _show(
    connection: sqlite3.Connection,
    makers: Mapping[int, SampleMaker],
    needed: Callable[[SampleMaker], Collection[int]],
    show: Callable[[SampleMaker, int, Points], None],
) -> None:
    """Show the makers the chunks that they need."""
    places = [(each, first) for each, maker in makers.items() for first in needed(maker)]
    for start in range(0, len(places), _AT_ONCE):
        some = {*places[start : start + _AT_ONCE]}
        for variable_id, *row in chunks_at(connection, [*some]):
            try:
                show(makers[variable_id], row[0], unpack_chunk(checked_chunk(variable_id, row)))
            except StorageFormatError:
                makers[variable_id].give_up()
            some.discard((variable_id, row[0]))
        for variable_id, _ in some:  # one that is not found
            makers[variable_id].give_up()
