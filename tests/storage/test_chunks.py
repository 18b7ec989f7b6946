"""Packing loses nothing, and damage never goes unseen."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neptune_async._model.operations import AUTOMATIC_STEP, point_key
from neptune_async._storage.chunks import Chunk, packed, unpacked
from neptune_async._storage.points import (
    Columns,
    Points,
    SeriesEnd,
    Stride,
    as_stride,
    columns_by_variable,
    columns_of,
    concatenated,
    expanded,
    resolved,
    text_columns_by_variable,
)

floats = st.floats(allow_nan=True, allow_subnormal=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**53), 2**53).map(float)
maybe_automatic = st.just(AUTOMATIC_STEP) | whole | finite


def same(one: Any, other: Any) -> bool:
    """Whether columns are equal, bit for bit."""
    if isinstance(one, array):
        return bool(one.tobytes() == other.tobytes())
    return bool(one == other)


@st.composite
def points(draw: st.DrawFn) -> Points:
    count = draw(st.integers(1, 200))
    many = {'min_size': count, 'max_size': count}
    times = draw(
        st.lists(finite, **many)
        | st.lists(st.floats(0, 4e9), **many).map(sorted)
        | st.just([1.79e9 + i * 1e-6 for i in range(count)])
    )
    steps = draw(
        st.lists(finite | whole, **many).map(lambda some: array('d', some))
        | st.builds(
            Stride,
            st.integers(-5, 5).map(float),
            st.integers(-2, 3).map(float),
            st.just(count),
        )
    )
    values = draw(
        st.lists(floats, **many).map(lambda some: array('d', some))
        | st.just(array('d', [0.5]) * count)
        | st.lists(st.text(st.characters()), **many)
    )
    return Points(steps, array('d', times), values)


@given(points())
def test_what_is_packed_unpacks_the_same(some: Points) -> None:
    chunk = packed(some, SeriesEnd())
    again = unpacked(chunk)
    assert same(expanded(again.steps), expanded(some.steps))
    assert same(again.times, some.times)
    assert same(again.values, some.values)
    assert chunk.largest_step == max(expanded(some.steps))
    assert chunk.end == SeriesEnd(len(some), chunk.largest_step, some.times[-1])
    assert not len(unpacked(chunk, times=False).times)


@given(points(), st.integers(-20, 20).map(float) | finite)
def test_the_points_up_to_a_step_are_those_that_are_not_beyond(some: Points, step: float) -> None:
    steps = expanded(some.steps)
    chosen = [n for n in range(len(some)) if steps[n] <= step]
    found = some.up_to(step)
    # A zero's sign aside: regular steps are computed, and a step of -0.0 reads back as 0.
    assert expanded(found.steps) == array('d', [steps[n] for n in chosen])
    assert same(found.times, array('d', [some.times[n] for n in chosen]))
    values = [some.values[n] for n in chosen]
    assert same(found.values, array('d', values) if isinstance(some.values, array) else values)
    assert len(found) == len(chosen)


@given(st.lists(points(), min_size=1, max_size=4))
def test_pieces_are_concatenated_in_order(pieces: list[Points]) -> None:
    pieces = [Points(piece.steps, piece.times, piece.times) for piece in pieces]
    whole = concatenated(pieces)
    assert same(expanded(whole.steps), sum((expanded(p.steps) for p in pieces), array('d')))
    assert same(whole.values, sum((p.times for p in pieces), array('d')))


strides = st.builds(
    Stride, st.integers(-3, 3).map(float), st.integers(-1, 2).map(float), st.integers(1, 4)
)


@given(st.lists(strides | strides.map(Stride.expanded), min_size=1, max_size=4))
@example([Stride(2.0**53 - 1, 1.0, 2), Stride(2.0**53, 0.0, 2)])
@example([Stride(0.0, 1.0, 5), Stride(5.0, 1.0, 7), Stride(12.0, 1.0, 1)])
def test_steps_that_go_on_are_one_stride(columns: list[Stride | array[float]]) -> None:
    pieces = [
        Points(steps, array('d', expanded(steps)), array('d', expanded(steps))) for steps in columns
    ]
    steps = concatenated(pieces).steps
    one_by_one = array('d')
    for column in columns:
        one_by_one += expanded(column)
    assert same(expanded(steps), one_by_one)
    if len(columns) > 1:
        assert isinstance(steps, Stride) == (as_stride(one_by_one) is not None)


@given(points(), st.sampled_from(['values', 'times', 'steps']), st.data())
def test_damage_is_an_error_or_the_wrong_length_is(
    some: Points, column: str, data: st.DataObject
) -> None:
    chunk = packed(some, SeriesEnd())
    raw = getattr(chunk, column)
    if not raw:
        return
    cut = data.draw(st.integers(0, len(raw) - 1))
    setattr(chunk, column, raw[:cut])
    with pytest.raises(ValueError, match='column|decode|Expecting|Unterminated|delimiter|char'):
        unpacked(chunk)


@pytest.mark.parametrize(
    'given_steps', [[AUTOMATIC_STEP] * 4, [2.0**53 - 2, 2.0**53 - 1, 2.0**53, 2.0**53]]
)
def test_steps_that_have_come_as_far_as_steps_go_are_unpacked_as_they_were(
    given_steps: list[float],
) -> None:
    zeros = array('d', [0.0] * 4)
    columns = Columns(array('d', [2.0] * 4), array('d', given_steps), zeros[:], zeros)
    end = SeriesEnd(1, 2.0**53 - 3, 0.0)
    points = unpacked(packed(resolved(columns, end), end))
    assert [*expanded(points.steps)] == [2.0**53 - 2, 2.0**53 - 1, 2.0**53, 2.0**53]


@pytest.mark.parametrize('form', ['f8+zlib', 'ulp', 'json', 'json+zlib'])
def test_a_column_of_another_form_is_an_error(form: Any) -> None:
    chunk = packed(Points(Stride(0.0, 1.0, 2), array('d', [1.0, 2.0]), ['a', 'b']), SeriesEnd())
    broken = Chunk(*(getattr(chunk, name) for name in Chunk.__slots__))
    broken.values_form, broken.values = form, b'\xff' * 16
    with pytest.raises(ValueError, match='column|decode'):
        unpacked(broken)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 6),
)
def test_points_are_split_by_variable_in_their_order(
    cycle: list[tuple[int, bool]], repeats: int
) -> None:
    interleaved = array('d')
    expected: dict[int, list[float]] = {}
    for number, (variable, explicit) in enumerate(cycle * repeats):
        interleaved.extend((point_key(variable, explicit), AUTOMATIC_STEP, float(number), 0.0))
        expected.setdefault(variable, []).append(float(number))
    found = {variable: list(c.times) for variable, c in columns_by_variable(interleaved)}
    assert found == expected
    assert list(columns_of(1, interleaved).times) == expected.get(1, [])
    texts = [list(interleaved[i : i + 4]) for i in range(0, len(interleaved), 4)]
    assert {v: list(c.times) for v, c in text_columns_by_variable(texts)} == expected


@given(
    st.lists(st.tuples(maybe_automatic, st.floats(0, 100), st.booleans()), min_size=1, max_size=30),
    st.none() | whole,
    st.none() | st.floats(0, 100),
)
def test_automatic_steps_and_times_follow_the_rules(
    logged: list[tuple[float, float, bool]], largest: float | None, last: float | None
) -> None:
    columns = Columns(
        array('d', [point_key(1, explicit) for _, _, explicit in logged]),
        array('d', [step for step, _, _ in logged]),
        array('d', [time for _, time, _ in logged]),
        array('d', [0.0]) * len(logged),
    )
    end = SeriesEnd(
        0, -math.inf if largest is None else largest, -math.inf if last is None else last
    )
    expected_steps, expected_times = [], []
    for step, time, explicit in logged:
        if math.isnan(step):
            step = 0.0 if largest is None else largest + 1
        largest = step if largest is None else max(largest, step)
        if not explicit and last is not None:
            time = max(time, last)
        last = time
        expected_steps.append(step)
        expected_times.append(time)
    found = resolved(columns, end)
    assert list(expanded(found.steps)) == expected_steps
    assert list(found.times) == expected_times
