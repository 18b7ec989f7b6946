"""Which points of a series are kept, checked against the plainest way to say it."""

from __future__ import annotations

from array import array
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neptune_async._engine.reading.thinning import Duplicates, Thinning
from neptune_async._storage.base import Span
from neptune_async._storage.points import Points, Stride, expanded

Row = tuple[float, float, Any]

few_steps = st.sampled_from([-2.5, -1.0, 0.0, 1.0, 1.5, 2.0, 7.0])
bounds = st.tuples(few_steps, few_steps).map(sorted)
duplicates = st.sampled_from(['last', 'first', 'all'])


@st.composite
def points(draw: st.DrawFn) -> Points:
    values: Any = draw(
        st.lists(st.floats(allow_nan=False)).map(lambda floats: array('d', floats))
        | st.lists(st.text())
    )
    size = len(values)
    steps: Any = array('d', draw(st.lists(few_steps, min_size=size, max_size=size)))
    if size and draw(st.booleans()):
        steps = Stride(draw(st.sampled_from([-1.0, 0.0])), draw(st.sampled_from([0.0, 1.0])), size)
    return Points(steps, array('d', range(size)), values)


def rows(points: Points) -> list[Row]:
    return list(zip(expanded(points.steps), points.times, points.values, strict=True))


@given(points(), bounds, duplicates)
def test_what_is_kept_is_what_the_arguments_say(
    given: Points, bounds: list[float], duplicates: Duplicates
) -> None:
    low, high = bounds
    within = [row for row in rows(given) if low <= row[0] <= high]
    by_step: dict[float, Row] = {}
    for row in within:
        if duplicates == 'last' or row[0] not in by_step:
            by_step[row[0]] = row
    expected = within if duplicates == 'all' else sorted(by_step.values(), key=lambda row: row[0])
    assert rows(Thinning(Span(low, high), duplicates).applied(given)) == expected


@given(points(), duplicates, st.integers(1, 12))
def test_at_most_so_many_are_kept_in_their_order_with_their_ends(
    given: Points, duplicates: Duplicates, most: int
) -> None:
    every = rows(Thinning(duplicates=duplicates).applied(given))
    kept = rows(Thinning(duplicates=duplicates, max_points=most).applied(given))
    remaining = iter(every)
    assert all(row in remaining for row in kept)  # an iterator: in the same order
    assert len(kept) <= most
    if every:
        assert kept[-1] == every[-1]
    if every and most > 1:
        assert kept[0] == every[0]


def test_a_peak_is_kept_wherever_its_step_is_in_the_order_of_the_log() -> None:
    steps = array('d', [7, 6, 5, 4, 3, 2, 1, 0])
    given = Points(steps, array('d', range(8)), array('d', [0, 0, 9, 0, 0, 0, -9, 0]))
    kept = rows(Thinning(duplicates='last', max_points=4).applied(given))
    assert [(step, value) for step, _, value in kept] == [(0, 0.0), (1, -9.0), (5, 9.0), (7, 0.0)]


@given(points())
def test_where_nothing_is_asked_for_nothing_is_touched(given: Points) -> None:
    assert Thinning().keeps_all
    assert Thinning().applied(given) is given


def test_texts_are_spread_evenly() -> None:
    texts = [f'text {n}' for n in range(101)]
    given = Points(Stride(0.0, 1.0, 101), array('d', range(101)), texts)
    kept = Thinning(max_points=5).applied(given)
    assert kept.values == ['text 0', 'text 25', 'text 50', 'text 75', 'text 100']
    assert Thinning(Span(last_step=50.0), max_points=1).applied(given).values == ['text 50']
