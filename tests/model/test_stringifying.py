"""A copy of a configuration, of which an atom can hold everything."""

from __future__ import annotations

import argparse
import enum
import math
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from neptune_async import File, stringified
from neptune_async._model.structures import leaves_of
from neptune_async._model.values import assignable, atom_value
from neptune_async.exceptions import UnsupportedValueError


class Split(enum.Enum):
    TRAIN = 1


@dataclass
class Config:
    rate: float = 0.1
    loss: Any = print
    modules: set[str] = field(default_factory=lambda: {'q', 'k', 'v'})


class Silent:
    def __str__(self) -> str:
        raise RuntimeError('no text')

    __repr__ = __str__


def test_what_can_be_kept_stays_as_it_is() -> None:
    now = datetime(2026, 11, 1)
    value = {'a': [1, 2.5, None, True, [now]], 'b': {'c': 'x', 'd': {}}, 'e': math.inf}
    copy = stringified(value)
    assert copy == value
    assert copy is not value
    assert stringified(3) == 3


def test_what_cannot_be_kept_is_its_str() -> None:
    for value in (object, print, 1j, Silent, np.zeros((2, 2)), {1}.add, OSError('x')):
        assert stringified({'a': [value]}) == {'a': [str(value)]}
    assert stringified(b'ab') == "b'ab'"
    assert 'Silent object' in str(stringified(Silent()))


def test_what_an_atom_keeps_as_a_text_or_a_list_is_that() -> None:
    value = {'path': Path('a/b'), 'day': date(2026, 11, 1), 'split': Split.TRAIN}
    assert stringified(value) == {'path': 'a/b', 'day': '2026-11-01', 'split': 'TRAIN'}
    assert stringified((1, np.array([1.5]), np.float32(0.5))) == [1, [1.5], 0.5]


def test_a_file_stays_one_where_it_can_be_assigned() -> None:
    file = File(b'x', name='x.bin')
    config = {'model': file, 'models': [file], 'layers': [{'size': 1}, file]}
    copy = stringified(config)
    assert copy == {'model': file, 'models': [str(file)], 'layers': [{'size': 1}, file]}
    for _, leaf in leaves_of('p', copy, splits_lists=True):
        assignable(leaf)


def test_structures_become_dicts() -> None:
    pair = namedtuple('Pair', 'x y')
    value = argparse.Namespace(config=Config(), pair=pair(1, [pair(2, 3)]))
    assert stringified(value) == {
        'config': {'rate': 0.1, 'loss': str(print), 'modules': ['k', 'q', 'v']},
        'pair': {'x': 1, 'y': [{'x': 2, 'y': 3}]},
    }
    config = OmegaConf.create({'a': '???', 'b': ['${nowhere}', 1], 2: {'c': 1}})
    assert stringified(config) == {'a': '???', 'b': ['${nowhere}', 1], '2': {'c': 1}}


def test_a_set_becomes_a_sorted_list() -> None:
    assert stringified({'b', 'a', 'c'}) == ['a', 'b', 'c']
    assert stringified(frozenset({3, 1})) == [1, 3]
    assert stringified({1, 'a', None}) == [None, 1, 'a']
    assert stringified({frozenset({2, 1}), frozenset({0})}) == [[0], [1, 2]]


def test_keys_become_texts() -> None:
    value = {None: 1, 0.5: 2, ('a', 1): 3, 7: 4, Split.TRAIN: 5, 'a/b': 6, '': 7, 'x\n': 8}
    assert stringified(value) == {
        'None': 1, '0.5': 2, "('a', 1)": 3, '7': 4, 'TRAIN': 5, 'a/b': 6, "''": 7, r'x\n': 8,
    }  # fmt: skip
    assert stringified({1: 'a', '1': 'b', '/1/': 'c', '1 (2)': 'd'}) == {
        '1': 'a', '1 (2)': 'b', '1 (3)': 'c', '1 (2) (2)': 'd',
    }  # fmt: skip


def test_the_original_stays_as_it_is() -> None:
    value = {'a': {1, 2}, 'b': [object]}
    stringified(value)
    assert value == {'a': {1, 2}, 'b': [object]}


def test_what_holds_itself_is_refused() -> None:
    value: dict[str, Any] = {'a': [1]}
    value['a'].append(value)
    with pytest.raises(UnsupportedValueError, match="dict holds itself, at 'config/a/1'"):
        stringified(value)


@pytest.mark.parametrize('wrap', [lambda v: {'a': v}, lambda v: [v], lambda v: (v,)])
def test_what_is_nested_too_deep_is_refused(wrap: Any) -> None:
    value: Any = {}
    for _ in range(99):
        value = wrap(value)
    stringified(value)
    for _ in range(9_900):
        value = wrap(value)
    with pytest.raises(UnsupportedValueError, match='deeper than 100'):
        stringified(value)


KEYS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary()
VALUES = st.recursive(
    KEYS | st.complex_numbers() | st.dates() | st.sets(st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(VALUES)
def test_an_atom_holds_every_leaf_of_the_copy(value: Any) -> None:
    copy = stringified(value)
    for _, leaf in leaves_of('p', copy, splits_lists=True):
        atom_value(leaf)
    assert repr(stringified(copy)) == repr(copy)
