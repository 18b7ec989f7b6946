"""A configuration is assigned as it is, whatever it is made of."""

from __future__ import annotations

import argparse
import enum
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import numpy as np
import pydantic
import pytest
from omegaconf import OmegaConf

from neptune_async import Series, stringified
from neptune_async.exceptions import (
    ContainerTypeError,
    InvalidArgumentError,
    InvalidPathError,
    NeptuneAsyncError,
    ReadOnlyError,
    UnsupportedValueError,
)

pytestmark = pytest.mark.anyio


class Split(enum.Enum):
    TRAIN = 1


@dataclass
class Optimizer:
    name: str = 'adam'
    betas: tuple[float, float] = (0.9, 0.999)


@attrs.define
class Schedule:
    warmup: int = 10


class Model(pydantic.BaseModel):
    layers: list[int] = [64, 10]


class Metrics(NamedTuple):
    loss: float
    acc: float


@dataclass
class Config:
    lr: float = 0.1
    folder: Path = Path('runs/1')
    split: Split = Split.TRAIN
    day: date = date(2026, 11, 1)
    id: UUID = field(default_factory=lambda: UUID(int=7))
    weights: Any = field(default_factory=lambda: np.array([0.25, 0.75]))
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    model: Model = field(default_factory=Model)
    blocks: list[Any] = field(default_factory=lambda: [{'size': 3}, {'size': 5}])
    by_epoch: dict[int, float] = field(default_factory=lambda: {0: 0.1, 10: 0.01})
    hydra: Any = field(default_factory=lambda: OmegaConf.create({'a': '???', 'b': [1, '${c}']}))


READ = {
    'lr': 0.1,
    'folder': 'runs/1',
    'split': 'TRAIN',
    'day': '2026-11-01',
    'id': '00000000-0000-0000-0000-000000000007',
    'weights': [0.25, 0.75],
    'optimizer': {'name': 'adam', 'betas': [0.9, 0.999]},
    'schedule': {'warmup': 10},
    'model': {'layers': [64, 10]},
    'blocks': {'0': {'size': 3}, '1': {'size': 5}},
    'by_epoch': {'0': 0.1, '10': 0.01},
    'hydra': {'a': '???', 'b': [1, '${c}']},
}


async def test_a_configuration_of_many_kinds_is_assigned_as_it_is(face: Any) -> None:
    async with face.open() as exp:
        exp['config'].assign(Config())
        exp['args'].assign(argparse.Namespace(config=Config(), seed=None))
        assert await face.get(exp['config'].to_dict) == READ
        assert await face.get(exp['args'].to_dict) == {'config': READ, 'seed': None}


async def test_a_configuration_is_assigned_whole_or_not_at_all(face: Any) -> None:
    async with face.open() as exp:
        for config, place in (
            (Config(weights={1, 2}), 'config/weights'),
            (Config(weights=b'ab'), 'config/weights'),
            (Config(blocks=[{'size': object()}]), 'config/blocks/0/size'),
            (Config(by_epoch={0.5: 1}), 'config/by_epoch'),
        ):
            with pytest.raises(NeptuneAsyncError, match=place) as refused:
                exp['config'].assign(config)
            assert isinstance(refused.value, (UnsupportedValueError, InvalidPathError))
            assert 'neptune_async.stringified(' in str(refused.value)
        with pytest.raises(InvalidArgumentError, match="two keys.*'config/1'"):
            exp['config'].assign({'lr': 0.1, 1: 'a', '1': 'b'})
        endless: dict[str, Any] = {'lr': 0.1}
        endless['again'] = endless
        deep: Any = 1
        for _ in range(10_000):
            deep = {'a': [deep]}
        for config in (endless, deep):
            with pytest.raises(UnsupportedValueError, match='holds itself|deeper than 100'):
                exp['config'].assign(config)
        assert await face.get(exp.namespace_contents) == {}


async def test_what_cannot_be_kept_is_kept_as_its_str(face: Any) -> None:
    async with face.open() as exp:
        exp['config'].assign(
            stringified(Config(weights={'v', 'q'}, split=print, by_epoch={0.5: 1}))
        )
        read = await face.get(exp['config'].to_dict)
        changed = {'weights': ['q', 'v'], 'split': str(print), 'by_epoch': {'0.5': 1}}
        assert read == {**READ, **changed}


async def test_with_strict_false_a_configuration_that_fails_ends_nothing(face: Any) -> None:
    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError('no items')

    async with face.open(strict=False) as exp:
        exp['config'].assign(Broken())
        exp['config'].assign({'a': Broken()})
        assert exp.stats().rejected == 2


async def test_an_item_that_is_set_is_assigned(face: Any) -> None:
    async with face.open() as exp:
        exp['lr'] = 0.1
        exp['config'] = Config()
        exp['config']['optimizer']['name'] = 'sgd'
        exp['loss'].log(1.0)
        assert await face.get(exp['lr'].read) == 0.1
        assert (await face.get(exp['config'].to_dict))['optimizer']['name'] == 'sgd'
        with pytest.raises(ContainerTypeError, match='no method assign'):
            exp['loss'] = 0.5
        with pytest.raises(InvalidPathError):
            exp['/'] = 1
        with pytest.raises(InvalidPathError):
            exp['config'][''] = 1
    async with face.open(mode='read') as exp:
        with pytest.raises(ReadOnlyError):
            exp['lr'] = 0.2


async def test_structures_are_batches_to_every_method_that_takes_a_dict(face: Any) -> None:
    async with face.open() as exp:
        for step in range(3):
            exp['train'].log(Metrics(0.5, 1.0), step=step)
        exp['valid'].extend(argparse.Namespace(loss=[1, 2], acc=np.array([3, 4])))
        exp['tags'].add(argparse.Namespace(model=['cnn', 'rnn'], data='mnist'))
        assert await face.get(exp['train/loss'].all) == [0.5] * 3
        assert await face.get(exp['valid/acc'].all) == [3.0, 4.0]
        assert await face.get(exp['tags/model'].get) == {'cnn', 'rnn'}
        assert await face.get(exp['tags/data'].get) == {'mnist'}


async def test_keys_that_are_equal_and_name_two_paths_are_told_apart(face: Any) -> None:
    async with face.open() as exp:
        for _ in range(3):
            exp['rank'].log({1: 0.5, 'x': 1.0})
            exp['rank'].log({True: 0.25})
        assert await face.get(exp['rank/1'].all) == [0.5] * 3
        assert await face.get(exp['rank/True'].all) == [0.25] * 3
        assert await face.get(exp['rank/1'].variable_type) == (Series, float)


async def test_a_list_that_is_added_is_to_be_unpacked(face: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(UnsupportedValueError, match=r"'tags'.*unpack it: add\(\*values\)"):
            exp['tags'].add(['a', 'b'])
        exp['tags'].add(*['a', 'b'])
        with pytest.raises(UnsupportedValueError, match=r'unpack it: reset\(\*values\)'):
            exp['tags'].reset(('c',))
        with pytest.raises(UnsupportedValueError, match=r'unpack it: remove\(\*values\)'):
            exp['tags'].remove({'a'})
        assert await face.get(exp['tags'].get) == {'a', 'b'}
