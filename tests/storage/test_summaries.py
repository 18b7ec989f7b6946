"""Summaries of chunks, held against what their points say."""

from __future__ import annotations

import importlib.machinery
import math
import sys
import types
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async._storage import chunks, summaries
from neptune_async._storage import overviews as overviews_of_points
from neptune_async._storage.chunks import CHUNK_POINTS
from neptune_async._storage.loaded_numpy import loaded_numpy
from neptune_async._storage.points import Points, Stride, ascends, expanded, never_decreases
from neptune_async._storage.summaries import (
    BLOCK_POINTS,
    NO_POINTS,
    NOTHING,
    ChunkSummary,
    SeriesSummary,
    Summary,
    agree,
    block_summaries,
    merged,
    packed_summary,
    unpacked_series_summary,
    unpacked_summary,
)

from .test_chunks import points


def naive(some: Points) -> Summary:
    """Return the summary of points, as its definition says."""
    values = [*some.values] if isinstance(some.values, array) else []
    finite = [value for value in values if math.isfinite(value)]
    steps = expanded(some.steps)
    return Summary(
        len(some),
        sum(map(math.isnan, values)),
        values.count(math.inf),
        values.count(-math.inf),
        min(finite, default=math.inf),
        max(finite, default=-math.inf),
        values[-1] if values else math.nan,
        math.fsum(value / len(finite) for value in finite),
        min(steps),
        max(steps),
        min(some.times),
        max(some.times),
    )


def require_equal(found: Summary, expected: Summary) -> None:
    size = max(abs(expected.least), abs(expected.greatest)) if expected.finite else 0.0
    if math.isfinite(size):
        assert found.mean == pytest.approx(expected.mean, rel=1e-12, abs=1e-12 * size)
    assert repr(found._replace(mean=0.0)) == repr(expected._replace(mean=0.0))


def summarised(some: Points, before: SeriesSummary = NO_POINTS) -> ChunkSummary:
    return summaries.summarised(some, before, never_decreases(some.times))


def regular(count: int, first: float = 0.0, stride: float = 1.0) -> Points:
    times = array('d', (1.7e9 + n for n in range(count)))
    values = array('d', (math.sin(n) for n in range(count)))
    return Points(Stride(first, stride, count), times, values)


@given(points())
def test_a_chunk_is_summarised_as_its_points_are(some: Points) -> None:
    summary = summarised(some)
    expected = naive(some)
    if not isinstance(some.values, array):
        expected = expected._replace(least=math.inf, greatest=-math.inf)
    require_equal(summary.chunk, expected)
    assert repr(summary.series.whole) == repr(merged([NOTHING, summary.chunk]))


@given(st.lists(points(), min_size=1, max_size=4))
def test_a_series_is_summarised_up_to_each_chunk(pieces: list[Points]) -> None:
    floats = [piece for piece in pieces if isinstance(piece.values, array)]
    series = NO_POINTS
    for piece in floats:
        series = summarised(piece, series).series
    if not floats:
        assert series == NO_POINTS
        return
    assert repr(series.first) == repr(floats[0].values[0])
    whole = Points(
        array('d', [step for piece in floats for step in expanded(piece.steps)]),
        array('d', [time for piece in floats for time in piece.times]),
        array('d', [value for piece in floats for value in piece.values]),
    )
    require_equal(series.whole, naive(whole))
    # Equal steps may be told to be in no order, never the other way round.
    assert never_decreases(whole.steps) or not series.steps_ascend
    assert series.times_ascend == never_decreases(whole.times)


@given(points(), points())
def test_what_is_packed_unpacks_the_same(before: Points, some: Points) -> None:
    summary = summarised(some, summarised(before).series)
    stored = packed_summary(summary)
    assert repr(unpacked_summary(stored)) == repr(summary)
    assert repr(unpacked_series_summary(stored)) == repr(summary.series)


def test_the_mean_of_numbers_near_the_limit_is_finite() -> None:
    values = array('d', [1.7e308, 1.7e308, -1.7e308, 1.7e308])
    some = Points(Stride(0.0, 1.0, 4), array('d', range(4)), values)
    summary = summarised(some, summarised(some).series)
    assert summary.chunk.mean == pytest.approx(0.85e308)
    assert summary.series.whole.mean == pytest.approx(0.85e308)


@pytest.fixture(params=['with NumPy', 'without'])
def numpy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == 'without':
        # Not taken out of sys.modules: NumPy cannot be imported twice.
        for module in (chunks, overviews_of_points, summaries):
            monkeypatch.setattr(module, 'loaded_numpy', lambda: None)
    else:
        pytest.importorskip('numpy')


def test_summaries_that_were_made_with_numpy_and_without_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip('numpy')
    some = regular(2500)
    assert isinstance(some.values, array)
    # Which of two zeros is the least is another with NumPy.
    some.values[:1500] = array('d', [0.0, -0.0, -0.0] * 500)
    made = summarised(some)
    monkeypatch.setattr(summaries, 'loaded_numpy', lambda: None)
    assert repr(summarised(some)) != repr(made)
    assert agree(summarised(some), made)
    some.values[-1] = -0.0
    with_last = summarised(some)
    some.values[-1] = 0.0
    assert not agree(summarised(some), with_last)


@pytest.mark.usefixtures('numpy')
@pytest.mark.parametrize('odd', [[], [math.nan], [math.inf, -math.inf], [1.7e308] * 3])
def test_blocks_are_summarised_as_their_points_are(odd: list[float]) -> None:
    some = regular(2500)
    assert isinstance(some.values, array)
    for place, value in enumerate(odd, 1200):
        some.values[place] = value
    start = 0
    for block in summarised(some).blocks:
        require_equal(block, naive(some.sliced(start, start + block.points)))
        start += block.points
    assert start == 2500


def test_numpy_is_not_used_while_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    half = types.ModuleType('numpy')
    half.__spec__ = importlib.machinery.ModuleSpec('numpy', None)
    monkeypatch.setitem(sys.modules, 'numpy', half)
    assert loaded_numpy() is half
    monkeypatch.setattr(half.__spec__, '_initializing', True, raising=False)
    assert loaded_numpy() is None


@pytest.mark.parametrize('first', [0.0, 1.0, -700.0])
@pytest.mark.parametrize('stride', [1.0, 3.0, 100.0])
def test_blocks_of_regular_steps_end_at_multiples_of_a_power_of_two(
    first: float, stride: float
) -> None:
    blocks = [*block_summaries(regular(CHUNK_POINTS, first, stride), True, True)]
    assert sum(block.points for block in blocks) == CHUNK_POINTS
    assert max(block.points for block in blocks) <= BLOCK_POINTS
    width = 2.0 ** math.floor(math.log2(BLOCK_POINTS * stride))
    for one, other in pairwise(blocks):
        assert one.greatest_step // width + 1 == other.least_step // width


def test_blocks_of_float_steps_end_at_multiples_of_a_power_of_two() -> None:
    some = regular(CHUNK_POINTS)
    some.steps = array('d', (n / 100 for n in range(CHUNK_POINTS)))
    blocks = [*block_summaries(some, ascends(some.steps), True)]
    assert len(blocks) > CHUNK_POINTS // BLOCK_POINTS
    for one, other in pairwise(blocks):
        assert one.greatest_step // 4 + 1 == other.least_step // 4


@pytest.mark.parametrize(
    'steps',
    [
        [0.0] * 2000,
        [1.0] * 1999 + [math.nextafter(1.0, 2.0)],
        [-(2.0**53)] * 1000 + [2.0**53] * 1000,
        [5e-324 * n for n in range(2000)],
        [1e300 * n for n in range(2000)],
        [*map(float, range(2000, 0, -1))],
        [float(n % 7) for n in range(2000)],
    ],
)
def test_blocks_hold_each_point_once_however_odd_its_steps_are(steps: list[float]) -> None:
    some = regular(2000)
    some.steps = array('d', steps)
    blocks = [*block_summaries(some, ascends(some.steps), True)]
    start = 0
    for block in blocks:
        require_equal(block, naive(some.sliced(start, start + block.points)))
        start += block.points
    assert start == 2000


def test_the_same_step_again_and_again_is_in_order() -> None:
    same, expected = regular(2000, 5.0, 0.0), regular(2000)
    expected.steps = array('d', [5.0] * 2000)
    assert summarised(same) == summarised(expected)
    assert summarised(same).series.steps_ascend


def test_a_full_chunk_of_regular_steps_takes_less_than_a_quarter_byte_a_point() -> None:
    for stride in (1.0, 3.0, 5.0, 7.0):
        stored = packed_summary(summarised(regular(CHUNK_POINTS, 0.0, stride)))
        assert len(stored) <= CHUNK_POINTS / 4


@given(st.binary(max_size=300))
def test_what_is_no_summary_is_an_error(stored: bytes) -> None:
    for unpack in (unpacked_summary, unpacked_series_summary):
        try:
            found = unpack(stored)
        except ValueError:
            continue
        assert isinstance(found, SeriesSummary) or isinstance(found.chunk, Summary)
