"""Samples of series in a PostgreSQL store: the rows that hold them are found by summaries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import asyncpg

from neptune_async._model.operations import Variable
from neptune_async._storage.base import Damaged, VariablesByExperiment
from neptune_async._storage.points import Points, Stride, concatenated
from neptune_async._storage.postgres.bulk import ids_of
from neptune_async._storage.postgres.overviews import ROWS, missing_rows, points_at
from neptune_async._storage.postgres.reading import runs_of
from neptune_async._storage.samples import Piece, Ranges, SampleMaker, Sampling


async def read_samples(
    connection: asyncpg.Connection, variables: VariablesByExperiment, sampling: Sampling
) -> dict[int, Points]:
    """Return the samples of several series, by the variable's id, but for those that summaries do
    not tell.
    """
    content = {each.id: each.content for some in variables.values() for each in some}
    ids = ids_of(variables, 'series')
    makers = {each: SampleMaker(sampling, content[each] == 'float') for each in ids[1]}
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        rows = await connection.fetch(ROWS, *ids)
        for variable_id, run in groupby(rows, itemgetter('id')):
            own = [*run]
            if missing_rows(own) is not None:
                makers[variable_id].give_up()
            for row in own:
                makers[variable_id].add(_piece(row))
        await _show(connection, variables, makers, SampleMaker.doubtful, SampleMaker.look)
        await _show(connection, variables, makers, SampleMaker.settle, SampleMaker.take)
    samples = {variable_id: maker.sample() for variable_id, maker in makers.items()}
    return {each: sample for each, sample in samples.items() if sample is not None}


def _piece(row: Any) -> Piece:
    if row['summary'] is None:
        return Piece(row['first'], row['count'])
    ranges = Ranges(*(row[name] for name in Ranges._fields))
    stride = row['stride']
    steps = None if stride is None else Stride(row['first_step'], stride, row['count'])
    return Piece(row['first'], row['count'], ranges, steps, row['summary'])


async def _show(
    connection: asyncpg.Connection,
    variables: VariablesByExperiment,
    makers: Mapping[int, SampleMaker],
    needed: Callable[[SampleMaker], Collection[int]],
    show: Callable[[SampleMaker, int, Points], None],
) -> None:
    """Show the makers the rows that they need."""
    places = [(each, first) for each, maker in makers.items() for first in needed(maker)]
    async for row in points_at(connection, variables, places):
        maker = makers[row['id']]
        runs = [*runs_of(Variable(*row[:4]), row)]
        pieces = [run for run in runs if not isinstance(run, Damaged)]
        if len(pieces) < len(runs):
            maker.give_up()
        else:
            show(maker, row['first'], concatenated(pieces))
