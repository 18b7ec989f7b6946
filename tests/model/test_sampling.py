"""Sampling keeps what a drawing shows."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async._model.sampling import sampled

numbers = st.lists(st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]))


@given(numbers, st.integers(1, 60))
def test_positions_rise_and_are_as_many_as_asked_for_at_most(
    values: list[float], most: int
) -> None:
    kept = [*sampled(array('d', values), most)]
    assert kept == sorted(set(kept))
    assert len(kept) <= most
    assert all(0 <= position < len(values) for position in kept)
    if len(values) <= most:
        assert kept == [*range(len(values))]


@given(numbers.filter(bool), st.integers(2, 60))
def test_the_ends_are_kept(values: list[float], most: int) -> None:
    kept = sampled(array('d', values), most)
    assert (kept[0], kept[-1]) == (0, len(values) - 1)


@given(numbers.filter(bool), st.integers(4, 60))
def test_no_extreme_is_lost(values: list[float], most: int) -> None:
    kept = [values[position] for position in sampled(array('d', values), most)]
    there = [value for value in values if value == value]
    if there:
        assert max(there) in kept
        assert min(there) in kept


def test_most_of_the_room_is_used() -> None:
    values = array('d', [math.sin(n) for n in range(10_000)])
    assert 95 <= len(sampled(values, 100)) <= 100


@pytest.mark.parametrize(('most', 'kept'), [(1, [9]), (2, [0, 9]), (3, [0, 9])])
def test_with_no_room_for_extremes_the_ends_are_left(most: int, kept: list[int]) -> None:
    assert sampled(array('d', range(10)), most) == kept


def test_a_gap_stays_a_gap() -> None:
    values = array('d', [0.0] * 50 + [math.nan] * 50 + [0.0] * 50)
    assert any(math.isnan(values[position]) for position in sampled(values, 20))
