from __future__ import annotations

import math
from array import array
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from neptune_async._model.arguments import (
    batch_of,
    checked_column,
    checked_members,
    common_content,
    is_structure,
    log_line,
    members_of_leaf,
    repeatable,
)
from neptune_async.exceptions import (
    InvalidArgumentError,
    InvalidStepError,
    InvalidTimestampError,
    UnsupportedValueError,
)

# ── Batches ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('value', [1.0, None, 'text', [1, 2], (), {1}, np.zeros(3), object()])
def test_a_value_that_is_no_structure_is_its_own_leaf(value: object) -> None:
    assert batch_of('a', value) == [('a', value)]
    assert not is_structure(value)


@pytest.mark.parametrize(
    'batch',
    [
        {'a/b': 1, 'a': {'b': 2}},
        {'x': 1, 'x/': 2},
        {'x': 1, '/x': 1},
        {'a': {'b': 1, 'b/': 1}},
        {1: 1, '1': 1},
        {'True': 1, True: 1},
    ],
)
def test_two_keys_of_one_path_are_refused(batch: dict[Any, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"two keys .* 'p/(a/b|x|1|True)'"):
        batch_of('p', batch)


def test_a_position_and_a_key_of_one_path_are_refused() -> None:
    batch = {'a': [{'x': 1}], 'a/0/x': 2}
    with pytest.raises(InvalidArgumentError, match="'p/a/0/x'"):
        batch_of('p', batch, splits_lists=True)


# ── Members of sets ──────────────────────────────────────────────────────────


def test_a_leaf_may_be_one_member_or_a_collection() -> None:
    assert members_of_leaf('ab') == ('ab',)
    assert members_of_leaf(['a', 'b']) == ('a', 'b')
    assert members_of_leaf(('a',)) == ('a',)
    assert sorted(members_of_leaf({'a', 'b'})) == ['a', 'b']
    assert members_of_leaf(frozenset({1})) == (1,)


def test_collections_have_to_be_unpacked() -> None:
    for given in (['a'], ('a',), {'a'}, np.array(['a', 'b']), iter('ab')):
        with pytest.raises(UnsupportedValueError, match=r'unpack it: remove\(\*values\)'):
            checked_members([given], 'remove')
    for given in (b'ab', {'a': 1}):
        with pytest.raises(UnsupportedValueError, match='a set cannot hold'):
            checked_members([given], 'add')


def test_members_have_one_type() -> None:
    assert common_content(checked_members(['a', np.str_('b')])) == 'str'
    assert common_content((1, 2)) == 'int'
    with pytest.raises(UnsupportedValueError, match='bool and int'):
        common_content((1, True))
    with pytest.raises(UnsupportedValueError, match='at least one'):
        common_content(())


# ── Columns ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    'values',
    [
        [1.0, 2.0],
        (1.0, 2.0),
        [1, 2],
        [True, 2.0],
        (value for value in (1.0, 2.0)),
        {1.0: None, 2.0: None},
        np.array([1.0, 2.0]),
        np.array([1, 2], dtype='u1'),
        np.array([1.0, 2.0], dtype='f2'),
        array('d', [1.0, 2.0]),
        array('i', [1, 2]),
        range(1, 3),
        map(np.float32, [1, 2]),
    ],
)
def test_values_may_be_any_iterable_of_numbers(values: object) -> None:
    column = checked_column(values, None, None)
    assert list(column.values) == [1.0, 2.0]
    assert {type(value) for value in column.values} == {float}
    assert column.steps is column.timestamps is None


def test_floats_keep_their_bits() -> None:
    values = [-0.0, math.inf, 5e-324, math.nan]
    kept = array('d', checked_column(values, None, None).values)
    assert kept.tobytes() == array('d', values).tobytes()


def test_texts_and_datetimes_are_columns_too() -> None:
    assert checked_column(['1', np.str_('2')], None, None).values == ['1', '2']
    moment = datetime(2020, 7, 6, tzinfo=timezone.utc)
    assert checked_column([moment], None, None).values == [moment]


def test_the_callers_list_is_copied() -> None:
    values = [1.0, 2.0]
    column = checked_column(values, None, None)
    values.append(3.0)
    assert list(column.values) == [1.0, 2.0]


@pytest.mark.parametrize(
    'values',
    [
        1.0,
        'text',
        b'bytes',
        None,
        np.float64(1.0),
        np.array(1.0),
        np.array([[1.0], [2.0]]),
        np.array(['2020-07-06'], dtype='M8[ns]'),
        np.array([1], dtype='m8[ns]'),
        np.array([1 + 2j]),
        [1.0, None],
        [[1.0]],
        [1.0, {}],
        [2**53 + 1],
    ],
)
def test_what_holds_no_values_is_refused(values: object) -> None:
    with pytest.raises(UnsupportedValueError):
        checked_column(values, None, None)


def test_values_of_several_types_are_refused() -> None:
    with pytest.raises(UnsupportedValueError, match='several types'):
        checked_column([1.0, 'a'], None, None)


def test_steps_and_timestamps_go_with_the_values() -> None:
    moment = datetime(2020, 7, 6, tzinfo=timezone.utc)
    column = checked_column([1.0, 2.0], np.arange(2), [moment, 5])
    assert column.steps == array('d', [0.0, 1.0])
    assert column.timestamps == array('d', [moment.timestamp(), 5.0])


def test_there_are_as_many_steps_and_timestamps_as_values() -> None:
    with pytest.raises(InvalidStepError, match='2 values and 1 steps'):
        checked_column([1.0, 2.0], [0], None)
    with pytest.raises(InvalidTimestampError, match='2 values and 3 timestamps'):
        checked_column([1.0, 2.0], None, [0, 1, 2])


@pytest.mark.parametrize('steps', [[0, math.nan], [0, True], [0, 2**53 + 1], [0, None]])
def test_a_bad_step_among_many_is_refused(steps: object) -> None:
    with pytest.raises(InvalidStepError):
        checked_column([1.0, 2.0], steps, None)


def test_values_of_two_dimensions_are_refused_with_their_shape() -> None:
    with pytest.raises(UnsupportedValueError, match=r'not an array of shape \(2, 3\); .*ravel'):
        checked_column(np.zeros((2, 3)), None, None)
    with pytest.raises(UnsupportedValueError, match='not collections; give it one dimension'):
        checked_column([[1.0], [2.0]], None, None)


def test_one_step_for_many_values_is_refused() -> None:
    with pytest.raises(UnsupportedValueError, match='several steps'):
        checked_column([1.0, 2.0], 7, None)


def test_a_slice_has_the_same_points_of_each_column() -> None:
    first, last = checked_column([1.0, 2.0, 3.0], [10, 20, 30], [1, 2, 3]).slices(2)
    assert first == checked_column([1.0, 2.0], [10, 20], [1, 2])
    assert last == checked_column([3.0], [30], [3])
    assert next(checked_column([1.0, 2.0], None, None).slices(1)).steps is None


def test_only_an_iterator_is_made_a_list() -> None:
    values = (1, 2)
    assert repeatable(iter(values)) == [1, 2]
    assert repeatable(values) is values
    assert repeatable(None) is None


def test_echo_shows_an_integral_step_as_an_int() -> None:
    assert log_line(3.0, 1594046278.5, 0.5) == 'log step=3, timestamp=1594046278.5, value=0.5'
    assert log_line(0.25, 1.0, 'text') == 'log step=0.25, timestamp=1.0, value=text'
