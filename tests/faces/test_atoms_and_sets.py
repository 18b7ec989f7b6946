"""Atoms hold one value, sets distinct ones; both exactly as they were given."""

from __future__ import annotations

import enum
import math
import struct
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from neptune_async import Atom, Set
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    UnsupportedValueError,
    VariableNotFoundError,
)

pytestmark = pytest.mark.anyio


class Optimizer(str, enum.Enum):
    ADAM = 'adam'


ATOMS = [
    True, 0, -7, 2**200, -(2**64), 10**5000, 1.5, -0.0, 5e-324, math.inf, '', 'é\0🙂',
    '\ud800\udc00', None,
    datetime(2020, 7, 6, 14, 37, 58, 527955),
    datetime(2020, 7, 6, fold=1),
    datetime(2020, 7, 6, tzinfo=timezone(timedelta(seconds=12_345))),
    [], [1, [2.5, 'x', None, [datetime(2020, 1, 1)]], True],
]  # fmt: skip


@pytest.mark.parametrize('value', ATOMS, ids=range(len(ATOMS)))
async def test_an_atom_reads_back_as_it_was_assigned(face: Any, value: Any) -> None:
    async with face.open() as exp:
        exp['atom'].assign(value)
        for _ in range(2):
            stored = await face.get(exp['atom'].read)
            assert stored == value
            assert type(stored) is type(value)
            assert getattr(stored, 'fold', 0) == getattr(value, 'fold', 0)
            if isinstance(value, float):
                assert struct.pack('d', stored) == struct.pack('d', value)
        assert await face.get(exp['atom'].variable_type) == (Atom, type(value))


async def test_an_atom_is_replaced_and_may_change_its_type(face: Any) -> None:
    async with face.open() as exp:
        exp['author'].assign('John Doe')
        exp['author'].assign('Jane Doe')
        assert await face.get(exp['author'].read) == 'Jane Doe'
        exp['author'].assign(7)
        assert await face.get(exp['author'].variable_type) == (Atom, int)
    async with face.open() as exp:
        assert await face.get(exp['author'].read) == 7
        assert await face.get(exp['author'].variable_type) == (Atom, int)


async def test_tuples_and_kinds_of_scalars_read_back_plain(face: Any) -> None:
    async with face.open() as exp:
        for value, plain in (
            ((1, (2, 3)), [1, [2, 3]]),
            (np.float64(0.1), 0.1),
            (np.int64(3), 3),
            (Optimizer.ADAM, 'adam'),
        ):
            exp['atom'].assign(value)
            stored = await face.get(exp['atom'].read)
            assert stored == plain
            assert type(stored) is type(plain)


async def test_an_atom_keeps_a_copy(face: Any) -> None:
    async with face.open() as exp:
        layers = [64, 10]
        exp['layers'].assign(layers)
        layers.append(1)
        assert await face.get(exp['layers'].read) == [64, 10]


@pytest.mark.parametrize('value', [object, b'x', {1, 2}, 1j, [object], np.zeros((2, 2))], ids=repr)
async def test_what_an_atom_cannot_hold_is_refused(face: Any, value: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(UnsupportedValueError, match=r"'NPT-1'.*'a/b'"):
            exp['a/b'].assign(value)
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(UnsupportedValueError, match='nested'):
            exp['a/b'].assign(endless)
        assert await face.get(exp.namespace_contents) == {}


async def test_a_dict_assigns_each_leaf_or_none(face: Any) -> None:
    async with face.open() as exp:
        exp['params'].assign({'lr': 0.1, 'opt': {'name': 'adam', 'betas': (0.9, 0.999)}})
        assert await face.get(exp['params/opt/name'].read) == 'adam'
        assert await face.get(exp['params/opt/betas'].read) == [0.9, 0.999]
        for batch in ({'lr': 0.2, 'bad': object()}, {'lr': 0.2, 0.5: 1}, {'lr': 0.2, 'opt': 1}):
            with pytest.raises((TypeError, ValueError)):
                exp['params'].assign(batch)
        assert await face.get(exp['params/lr'].read) == 0.1


async def test_a_set_adds_removes_and_resets(face: Any) -> None:
    async with face.open() as exp:
        exp['tags'].add('cnn', 'rnn')
        exp['tags'].add('transformer', 'cnn')
        assert await face.get(exp['tags'].get) == {'cnn', 'rnn', 'transformer'}
        exp['tags'].remove('cnn', 'never there')
        assert await face.get(exp['tags'].get) == {'rnn', 'transformer'}
        exp['tags'].reset('attention')
        assert await face.get(exp['tags'].get) == {'attention'}
        assert await face.get(exp['tags'].variable_type) == (Set, str)
        exp['tags'].reset()
        assert await face.get(exp['tags'].get) == set()
    async with face.open() as exp:
        exp['tags'].add('late')
        assert await face.get(exp['tags'].get) == {'late'}


async def test_a_member_that_is_refused_changes_nothing(face: Any) -> None:
    huge = 1 << 2**28
    async with face.open() as exp:
        exp['tags'].add('a')
        for refused in (
            lambda: exp['new'].add({'first': 'ok', 'second': huge}),
            lambda: exp['tags'].reset(huge),
            lambda: exp['tags'].remove(huge),
        ):
            with pytest.raises(UnsupportedValueError, match="experiment 'NPT-1', '.*limit"):
                refused()
        exp['tags'].add('b')
        assert await face.get(exp['tags'].get) == {'a', 'b'}
        assert not await face.get(exp['new'].exists)
        assert exp.stats().accepted == 2


async def test_get_returns_a_set_of_its_own(face: Any) -> None:
    async with face.open() as exp:
        exp['tags'].add('a')
        (await face.get(exp['tags'].get)).add('b')
        assert await face.get(exp['tags'].get) == {'a'}


async def test_a_set_holds_one_type_until_it_is_reset(face: Any) -> None:
    async with face.open() as exp:
        exp['tags'].add(1, 2**200)
        with pytest.raises(ContentTypeError, match='int, not str'):
            exp['tags'].add('x')
        with pytest.raises(UnsupportedValueError, match='one type'):
            exp['tags'].reset(1, 'x')
        exp['tags'].reset(True, False)
        assert await face.get(exp['tags'].get) == {True, False}
        assert await face.get(exp['tags'].variable_type) == (Set, bool)
        exp['tags'].add(False)
        with pytest.raises(ContentTypeError):
            exp['tags'].add(0)


async def test_both_zeros_are_one_member(face: Any) -> None:
    async with face.open() as exp:
        exp['zeros'].add(0.0)
        exp['zeros'].add(-0.0, 1.5)
        assert await face.get(exp['zeros'].get) == {0.0, 1.5}
        exp['zeros'].remove(-0.0)
        assert await face.get(exp['zeros'].get) == {1.5}


@pytest.mark.parametrize('value', [math.nan, None, ['a'], b'x', datetime(2020, 1, 1)], ids=repr)
async def test_what_a_set_cannot_hold_is_refused(face: Any, value: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(UnsupportedValueError, match=r"'NPT-1'.*'tags'"):
            exp['tags'].add('a', value)
        with pytest.raises(UnsupportedValueError):
            exp['tags'].add()
        assert not await face.get(exp['tags'].exists)


async def test_a_dict_adds_to_each_set(face: Any) -> None:
    async with face.open() as exp:
        exp['tags'].add({'model': ['cnn', 'rnn'], 'data': {'split': 'train'}, 'n': (1, 2)})
        assert await face.get(exp['tags/model'].get) == {'cnn', 'rnn'}
        assert await face.get(exp['tags/data/split'].get) == {'train'}
        assert await face.get(exp['tags/n'].get) == {1, 2}


async def test_remove_and_reset_create_nothing(face: Any) -> None:
    async with face.open() as exp:
        for write in (exp['tags'].remove, exp['tags'].reset):
            with pytest.raises(VariableNotFoundError, match="'tags'"):
                write('x')
        exp['tags/a'].add('x')
        with pytest.raises(VariableNotFoundError, match='namespace'):
            exp['tags'].remove('x')


async def test_other_containers_methods_are_refused(face: Any) -> None:
    async with face.open() as exp:
        exp['atom'].assign(1)
        exp['set'].add(1)
        with pytest.raises(ContainerTypeError, match='Atom.*assign, read'):
            exp['atom'].log(1.0)
        with pytest.raises(ContainerTypeError, match='Set.*add, remove, reset, get'):
            exp['set'].assign(1)
        with pytest.raises(ContainerTypeError):
            await face.get(exp['set'].read)
        with pytest.raises(ContainerTypeError):
            await face.get(exp['atom'].tail, 1)
