"""Configurations of every kind are structures, as dicts are."""

from __future__ import annotations

import argparse
import enum
import math
import sys
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import attrs
import numpy as np
import pydantic
import pytest
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from neptune_async._model.structures import Members, leaves_of, unfolded
from neptune_async.exceptions import InvalidPathError, UnsupportedValueError


class Key(str, enum.Enum):
    LOSS = 'loss'


class Split(enum.Enum):
    TRAIN = 1


class Level(enum.IntEnum):
    HIGH = 3


def leaves(value: object, **arguments: Any) -> dict[str, object]:
    found = [*leaves_of('p', value, **arguments)]
    assert len(found) == len(dict(found))
    return dict(found)


# ── Dicts ────────────────────────────────────────────────────────────────────


def test_a_value_that_is_no_structure_is_its_own_leaf() -> None:
    assert leaves(1.0) == {'p': 1.0}


def test_leaves_come_in_the_order_of_the_dict() -> None:
    value = {'b': 1, 'a': {'y': 2, 'x': {'deep': 3}}}
    assert [*leaves_of('p', value)] == [('p/b', 1), ('p/a/y', 2), ('p/a/x/deep', 3)]


def test_keys_are_paths() -> None:
    assert leaves({'/a//b/': 1}) == {'p/a/b': 1}


@pytest.mark.parametrize('mapping', [OrderedDict, UserDict, lambda d: MappingProxyType(d)])
def test_every_mapping_is_a_dict(mapping: Any) -> None:
    assert leaves(mapping({'a': 1})) == {'p/a': 1}


def test_an_empty_dict_has_no_leaves() -> None:
    assert leaves({'a': {}}) == {}


def test_keys_that_are_numbers_or_of_an_enum_are_their_text() -> None:
    value = {1: 'a', -2: 'b', np.int64(7): 'd', Split.TRAIN: 'e', Level.HIGH: 'f'}
    assert leaves(value) == {
        'p/1': 'a', 'p/-2': 'b', 'p/7': 'd', 'p/TRAIN': 'e', 'p/3': 'f',
    }  # fmt: skip
    assert leaves({Key.LOSS: 1, True: 2}) == {'p/loss': 1, 'p/True': 2}


@pytest.mark.parametrize('key', [None, 0.5, ('a',), b'a', math.nan, 2**4096])
def test_a_key_of_another_kind_is_refused_with_a_word_on_stringified(key: object) -> None:
    with pytest.raises(InvalidPathError, match=r"key .* at 'p/x'.*neptune_async\.stringified"):
        leaves({'x': {'good': 1, key: 2}})


@pytest.mark.parametrize('key', ['', '/', 'a\n', '\ud800'])
def test_a_key_that_is_no_path_is_refused(key: object) -> None:
    with pytest.raises(InvalidPathError):
        leaves({'good': 1, key: 2})


def test_a_member_may_be_left_out() -> None:
    def join(path: str, name: object) -> str | None:
        return f'{path}/{name}' if name else None

    assert leaves({'a': {'': 1, 'b': 2}}, join=join) == {'p/a/b': 2}


# ── Other structures ─────────────────────────────────────────────────────────


@dataclass
class Optimizer:
    name: str = 'adam'
    betas: tuple[float, ...] = (0.9, 0.999)


@dataclass
class Config:
    optimizer: Optimizer = field(default_factory=Optimizer)
    folder: Path = Path('runs')
    later: int = field(init=False)


class Point(NamedTuple):
    x: int
    y: int


@attrs.define
class Attrs:
    x: int = 1
    _y: int = 2


class Shouting(str):
    """Like a lazy text: no structure, whatever it has."""

    __slots__ = ()
    __attrs_attrs__ = ()


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra='allow')
    lr: float = 0.1
    token: str = pydantic.Field('secret', exclude=True)


class Root(pydantic.RootModel[dict[str, int]]):
    pass


def test_a_dataclass_has_its_fields() -> None:
    value = Config()
    expected = {
        'p/optimizer/name': 'adam', 'p/optimizer/betas': (0.9, 0.999), 'p/folder': Path('runs'),
    }  # fmt: skip
    assert leaves(value) == expected
    value.later = 3
    assert leaves(value) == {**expected, 'p/later': 3}


class Extended(argparse.Namespace):
    pass


@pytest.mark.parametrize(
    'value',
    [
        Point(1, 2),
        namedtuple('Pair', 'x y')(1, 2),
        argparse.Namespace(x=1, y=2),
        Extended(x=1, y=2),
        SimpleNamespace(x=1, y=2),
        Root({'x': 1, 'y': 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_others_have_their_attributes(value: object) -> None:
    assert leaves(value) == {'p/x': 1, 'p/y': 2}
    assert leaves({'deep': value}) == {'p/deep/x': 1, 'p/deep/y': 2}


def test_a_class_of_attrs_has_its_fields() -> None:
    assert leaves(Attrs()) == {'p/x': 1, 'p/_y': 2}


def test_a_model_of_pydantic_has_its_fields_and_others_but_for_those_it_excludes() -> None:
    assert leaves(Model(lr=0.2, seed=7)) == {'p/lr': 0.2, 'p/seed': 7}  # type: ignore[call-arg]
    assert leaves(Model.model_construct(lr=1)) == {'p/lr': 1}
    assert leaves(pydantic.RootModel[int](3)) == {'p': 3}
    assert leaves(pydantic.dataclasses.dataclass(Config)()) == leaves(Config())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason='pydantic 1 does not run there')
def test_a_model_of_pydantic_1_too() -> None:
    from pydantic import v1

    class Old(v1.BaseModel):
        lr: float = 0.1
        token: str = v1.Field('secret', exclude=True)

        class Config:
            extra = 'allow'

    assert leaves(Old(lr=0.2, seed=7)) == {'p/lr': 0.2, 'p/seed': 7}  # type: ignore[call-arg]


@pytest.mark.parametrize('value', [Config, Model, Split, Split.TRAIN, Shouting('a'), Level.HIGH])
def test_a_class_and_a_scalar_are_no_structures(value: object) -> None:
    assert leaves(value) == {'p': value}


def test_a_structure_whose_code_fails_is_refused() -> None:
    class Broken(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            raise OSError('gone')

        def __iter__(self) -> Iterator[str]:
            return iter('a')

        def __len__(self) -> int:
            return 1

    with pytest.raises(UnsupportedValueError, match=r'Broken cannot be read: OSError.*as a dict'):
        unfolded(Broken())


# ── OmegaConf ────────────────────────────────────────────────────────────────


@dataclass
class Structured:
    rate: float = MISSING
    split: Split = Split.TRAIN
    sizes: list[int] = field(default_factory=lambda: [1, 2])


def test_interpolations_are_resolved() -> None:
    config = OmegaConf.create({'a': 1, 'b': '${a}', 'c': {'d': '${..b}'}, 'e': '${c}', 3: None})
    assert leaves(config) == {'p/a': 1, 'p/b': 1, 'p/c/d': 1, 'p/e/d': 1, 'p/3': None}


def test_what_is_missing_or_fails_is_kept_as_its_text() -> None:
    config = OmegaConf.create(
        {'a': '???', 'b': '${nowhere}', 'c': '${oc.env:NOT_THERE_AT_ALL}', 'd': '${d}', 'e': 1}
    )
    assert leaves(config) == {
        'p/a': '???', 'p/b': '${nowhere}', 'p/c': '${oc.env:NOT_THERE_AT_ALL}', 'p/d': '${d}',
        'p/e': 1,
    }  # fmt: skip
    items = OmegaConf.create({'items': [1, '???', '${nowhere}']})
    assert leaves(items) == {'p/items': [1, '???', '${nowhere}']}


def test_an_interpolation_that_leads_to_what_it_is_in_is_kept_as_its_text() -> None:
    config = OmegaConf.create({'a': {'b': '${a}', 'c': ['${a}', 1]}, 'd': {'e': '${a.c}'}})
    assert leaves(config) == {
        'p/a/b': '${a}', 'p/a/c': ['${a}', 1], 'p/d/e': ['${a}', 1],
    }  # fmt: skip


def test_a_structured_configuration() -> None:
    config = OmegaConf.structured(Structured)
    assert leaves(config) == {'p/rate': '???', 'p/split': Split.TRAIN, 'p/sizes': [1, 2]}


def test_what_is_in_the_place_of_a_container() -> None:
    assert leaves(DictConfig(None)) == {'p': None}
    assert leaves(DictConfig('???')) == {'p': '???'}
    assert leaves(ListConfig(None)) == {'p': None}
    assert leaves(ListConfig('${nowhere}')) == {'p': '${nowhere}'}
    assert leaves(DictConfig({})) == {}
    assert leaves(ListConfig([])) == {'p': []}


# ── Lists ────────────────────────────────────────────────────────────────────


def test_a_list_that_holds_structures_has_its_positions_as_names() -> None:
    value = {'layers': [{'size': 3}, 7, ([Point(1, 2)],), {}], 'sizes': [[1], 2]}
    assert leaves(value, splits_lists=True) == {
        'p/layers/0/size': 3, 'p/layers/1': 7,
        'p/layers/2/0/0/x': 1, 'p/layers/2/0/0/y': 2,
        'p/sizes': [[1], 2],
    }  # fmt: skip
    config = OmegaConf.create({'layers': [{'size': 3}], 'sizes': [1]})
    assert leaves(config, splits_lists=True) == {'p/layers/0/size': 3, 'p/sizes': [1]}


def test_a_list_stays_a_list_where_it_is_not_to_be_split() -> None:
    value = [{'size': 3}]
    assert leaves({'layers': value}) == {'p/layers': value}


# ── Endless, and deep ────────────────────────────────────────────────────────


def endless(container: Any) -> Any:
    if isinstance(container, list):
        container.append(container)
    elif isinstance(container, dict):
        container['again'] = container
    else:
        container.again = container
    return container


@pytest.mark.parametrize('value', [endless({}), endless(SimpleNamespace()), [endless({})]])
def test_a_structure_that_holds_itself_is_refused(value: object) -> None:
    with pytest.raises(UnsupportedValueError, match="holds itself, at 'p/.*again'"):
        leaves(value, splits_lists=True)


def test_a_structure_that_is_twice_there_does_not_hold_itself() -> None:
    twice = {'x': 1}
    assert leaves({'a': twice, 'b': {'c': twice}}) == {'p/a/x': 1, 'p/b/c/x': 1}


def nested(depth: int, *wraps: Any) -> Any:
    value: Any = {}
    for n in range(depth - 1):
        value = wraps[n % len(wraps)](value)
    return value


def test_structures_may_be_a_hundred_deep() -> None:
    assert leaves(nested(100, lambda value: {'a': value, 'b': 1}))
    for depth in (101, 10_000):
        for wraps in (
            [lambda value: {'a': value}],
            [lambda value: [value], lambda value: {'a': value}],
            [lambda value: SimpleNamespace(a=value)],
        ):
            with pytest.raises(UnsupportedValueError, match='deeper than 100'):
                leaves(nested(depth, *wraps), splits_lists=True)


def test_a_list_of_lists_is_left_to_who_holds_it() -> None:
    deep = nested(10_000, lambda value: [value])
    assert dict(leaves_of('p', deep, splits_lists=True)).keys() == {'p'}
    assert leaves(endless([]), splits_lists=True).keys() == {'p'}


def test_members_are_in_order() -> None:
    assert unfolded({'b': 1, 'a': 2}) == Members([('b', 1), ('a', 2)])
