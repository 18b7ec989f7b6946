"""Samples are what thinning keeps of all points, and no chunk is read that has none of them."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async import Experiment
from neptune_async._engine.reading.thinning import Thinning
from neptune_async._storage import registry, samples, summaries
from neptune_async._storage.base import EVERYWHERE, Span, Window
from neptune_async._storage.chunks import CHUNK_POINTS, packed
from neptune_async._storage.points import Points, SeriesEnd, Stride, concatenated, expanded
from neptune_async._storage.samples import Piece, Ranges, SampleMaker, Sampling
from neptune_async._storage.sqlite import samples as sqlite_samples

COUNT = 2 * CHUNK_POINTS + 321
PATHS = ('steps', 'epochs', 'back', 'mixed', 'again', 'odd', 'text')
SPANS = (
    EVERYWHERE,
    Span(first_step=100, last_step=10_000.5),
    Span(first_time=1.7e9 + 33, last_time=1.7e9 + 125.25, last_step=12_000),
)


def rows(points: Points) -> str:
    return repr([*zip(expanded(points.steps), points.times, points.values, strict=True)])


# ── Of a few points, in pieces ───────────────────────────────────────────────

values = st.sampled_from([0.0, -0.0, 1.0, -1.5, 1e308, -1e308, math.inf, -math.inf, math.nan])
steps = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 7.0])
bounds = st.tuples(steps, steps).map(sorted)


@st.composite
def series(draw: st.DrawFn) -> Points:
    size = draw(st.integers(1, 60))
    own: Any = array('d', draw(st.lists(values | st.floats(), min_size=size, max_size=size)))
    if draw(st.integers(0, 3)) == 0:
        own = [f'text {n}' for n in range(size)]
    kind = draw(st.sampled_from(['stride', 'rising', 'any']))
    column: Stride | array[float] = Stride(draw(st.sampled_from([-30.0, 0.0])), 1.0, size)
    if kind != 'stride':
        some = draw(st.lists(steps, min_size=size, max_size=size))
        column = array('d', some if kind == 'any' else [n / 3 for n in range(size)])
    return Points(column, array('d', [float(n) for n in range(size)]), own)


def pieces_of(points: Points, cuts: Sequence[int]) -> list[tuple[int, Points]]:
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(points)}), len(points)]
    return [(low, points.sliced(low, high)) for low, high in pairwise(edges)]


def told(maker: SampleMaker, pieces: Sequence[tuple[int, Points]], in_memory: int) -> None:
    """Tell a maker of pieces, the last of which are in no chunk."""
    for number, (first, points) in enumerate(pieces):
        if number >= len(pieces) - in_memory:
            maker.add_points(first, points)
            continue
        chunk = packed(points, SeriesEnd(first))
        ranges = Ranges(
            chunk.least_step, chunk.greatest_step, chunk.least_time, chunk.greatest_time
        )
        stride = points.steps if isinstance(points.steps, Stride) else None
        maker.add(Piece(first, chunk.count, ranges, stride, chunk.summary))


def made(maker: SampleMaker, pieces: Sequence[tuple[int, Points]]) -> Points | None:
    by_first = dict(pieces)
    for first in maker.doubtful():
        maker.look(first, by_first[first])
    for first in maker.settle():
        maker.take(first, by_first[first])
    return maker.sample()


@given(
    series(),
    st.lists(st.integers(1, 59), max_size=6),
    st.integers(0, 2),
    st.integers(1, 14),
    st.just(EVERYWHERE) | bounds.map(lambda pair: Span(*pair)),
    st.booleans(),
)
def test_a_sample_is_what_thinning_keeps_of_all_points(
    points: Points,
    cuts: list[int],
    in_memory: int,
    most: int,
    span: Span,
    distinct: bool,
) -> None:
    pieces = pieces_of(points, cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, '_SHORT', 0)
        patch.setattr(summaries, 'BLOCK_POINTS', 3)
        maker = SampleMaker(Sampling(span, most, distinct), isinstance(points.values, array))
        told(maker, pieces, in_memory)
        found = made(maker, pieces)
    expected = Thinning(span, 'last' if distinct else 'all', most).applied(points)
    if found is not None:
        assert rows(found) == rows(expected)
        assert len(found) <= most
    kept = Thinning(span, 'all').applied(points)
    if isinstance(points.steps, Stride) and len(kept) > most:
        assert found is not None


def test_a_maker_gives_up_where_pieces_do_not_follow_each_other() -> None:
    points = Points(Stride(0.0, 1.0, 50), array('d', range(50)), array('d', range(50)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, '_SHORT', 0)
        maker = SampleMaker(Sampling(EVERYWHERE, 10, False), True)
        pieces = [(0, points.sliced(0, 20)), (30, points.sliced(30, 50))]
        told(maker, pieces, 0)
        assert made(maker, pieces) is None


# ── Of series in a store ─────────────────────────────────────────────────────


def fill(url: str) -> None:
    """Log series of all kinds of steps and values, the last points of which are in no chunk."""
    rng = random.Random(3)
    walk = [0.0]
    for _ in range(COUNT):
        walk.append(walk[-1] + rng.gauss(0, 1))
    odd = [math.nan, math.inf, -math.inf, 1e308, -1e308, -0.0]
    for start, stop in ((0, COUNT // 2), (COUNT // 2, COUNT - 100), (COUNT - 100, COUNT)):
        some = range(start, stop)
        times = [1.7e9 + n / 100 for n in some]
        with Experiment('a', storage=url) as exp:
            exp['steps'].extend(walk[start:stop], timestamps=times)
            exp['epochs'].extend(map(float, some), steps=[n / 64 for n in some], timestamps=times)
            exp['back'].extend(walk[start:stop], steps=[COUNT - n for n in some], timestamps=times)
            exp['mixed'].extend(
                walk[start:stop],
                steps=[rng.randrange(COUNT) for _ in some],
                timestamps=[1.7e9 + rng.randrange(160) for _ in some],
            )
            exp['again'].extend(walk[start:stop], steps=[n // 2 for n in some], timestamps=times)
            exp['odd'].extend(
                [rng.choice(odd) if rng.random() < 0.3 or 9000 < n < 10_000 else 0.5 for n in some],
                timestamps=times,
            )
            exp['text'].extend([f'text {n}' for n in some], timestamps=times)


@pytest.mark.asyncio
async def test_samples_of_a_store_are_those_of_all_points(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, '_SHORT', 0)
    fill(url)
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        (experiment,) = await storage.find_experiments()
        variables = await storage.find_variables([experiment.id], PATHS)
        path = {each.id: each.path for each in variables[experiment.id]}
        readings = await storage.read_many_series(variables, Window(), True, True)
        whole = {each: concatenated(reading.pieces) for each, reading in readings.items()}
        told_by_summaries = set()
        for span in SPANS:
            for most in (1, 8, 501):
                for distinct in (False, True):
                    found = await storage.read_samples(variables, span, most, distinct)
                    thinning = Thinning(span, 'last' if distinct else 'all', most)
                    for each, sample in found.items():
                        assert rows(sample) == rows(thinning.applied(whole[each]))
                        told_by_summaries.add((path[each], distinct, span))
        for span in SPANS:
            for name in ('steps', 'epochs', 'odd', 'text'):
                assert {(name, True, span), (name, False, span)} <= told_by_summaries
        for name in PATHS:
            assert (name, False, EVERYWHERE) in told_by_summaries
        for name in ('back', 'mixed', 'again'):
            assert (name, True, EVERYWHERE) not in told_by_summaries
    finally:
        await storage.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ('span', 'most', 'reads'),
    [(EVERYWHERE, 2, 2), (EVERYWHERE, 4, 4), (Span(first_step=10_000, last_step=10_500), 9, 1)],
)
async def test_only_chunks_are_read_that_may_have_a_point_of_the_sample(
    tmp_path: Path, span: Span, most: int, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = registry.resolve(tmp_path / 'experiments.db')
    monkeypatch.setattr(samples, '_SHORT', 0)
    with Experiment('a', storage=url) as exp:
        values = [0.0] * (6 * CHUNK_POINTS)
        values[9000], values[30_000] = 1.0, -1.0
        exp['x'].extend(values)
    unpacked_chunks = []
    unpack = sqlite_samples.unpack_chunk

    def noted(chunk: Any) -> Points:
        unpacked_chunks.append(chunk.first)
        return unpack(chunk)

    monkeypatch.setattr(sqlite_samples, 'unpack_chunk', noted)
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        (experiment,) = await storage.find_experiments()
        variables = await storage.find_variables([experiment.id])
        (found,) = (await storage.read_samples(variables, span, most, True)).values()
    finally:
        await storage.close()
    assert len(found) <= most
    assert len({*unpacked_chunks}) == reads


@pytest.mark.asyncio
async def test_short_series_are_left_to_those_who_read_all_points(url: str) -> None:
    with Experiment('a', storage=url) as exp:
        exp['x'].extend([1.0, 2.0, 3.0])
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        (experiment,) = await storage.find_experiments()
        variables = await storage.find_variables([experiment.id])
        assert await storage.read_samples(variables, EVERYWHERE, 1, False) == {}
    finally:
        await storage.close()
