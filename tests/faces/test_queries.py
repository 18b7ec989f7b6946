"""Experiments that satisfy a query, on both faces and both kinds of stores."""

from __future__ import annotations

from typing import Any

import pytest

from neptune_async import aio, list_experiments
from neptune_async.exceptions import (
    ExperimentNotFoundError,
    InvalidArgumentError,
    InvalidQueryError,
    VariableNotFoundError,
)

pytestmark = pytest.mark.anyio


async def fill(face: Any) -> None:
    for number, (lr, tags, curve) in enumerate(
        [
            (0.1, ['cnn'], [0.5, 0.9, 0.7]),
            (0.01, ['cnn', 'best'], [0.2, 0.95, 0.9]),
            (0.001, [], [0.1, float('nan'), 0.3]),
            ('auto', ['rnn'], []),
        ]
    ):
        async with face.open(f'run-{number}') as exp:
            exp['params/lr'].assign(lr)
            exp['tags'].add('all', *tags)
            if curve:
                exp['acc'].extend(curve, timestamps=[1e9 + number, 2e9 - number, 1.5e9 + number])
            if number == 2:
                exp['error'].assign('out of memory')


async def names(face: Any, **query: Any) -> list[str]:
    function = aio.list_experiments if face.is_async else list_experiments
    found: list[str] = await face.get(function, face.storage, **query)
    return [name.removeprefix('run-') for name in found]


FOUND = [
    ('params/lr < 0.05', '12'),
    ("params/lr = 'auto'", '3'),
    ('params/lr != 0.1', '12'),
    ("'cnn' in tags and params/lr <= 0.01", '1'),
    ('acc > 0.5', '01'),
    ('acc.first < 0.3', '12'),
    ('acc.max > 0.9', '1'),
    ('acc.min = 0.1', '2'),
    ('acc.mean > 0.19 and acc.mean < 0.21', '2'),
    ('acc.count = 3', '012'),
    ('acc.last_step = 2', '012'),
    ("acc.last_time > '2017-07-14T02:40:01Z'", '2'),
    ("last_time < '2020-01-01'", '012'),
    ('exists(error)', '2'),
    ('not exists(acc)', '3'),
    ("name ~ '*-[13]'", '13'),
    ("created > '2020-01-01' and created < '2999-01-01'", '0123'),
    ("state = 'closed'", '0123'),
    ("state = 'running'", ''),
    ('params/lr in (0.1, 0.001)', '02'),
    ('nothing = 1', ''),
    ('not nothing = 1', '0123'),
]


async def test_a_query_finds_the_experiments_that_it_says(face: Any) -> None:
    await fill(face)
    found = {where: await names(face, where=where) for where, _ in FOUND}
    assert found == {where: [*expected] for where, expected in FOUND}


async def test_experiments_are_sorted_and_bounded(face: Any) -> None:
    await fill(face)
    assert await names(face, sort='acc.max') == ['2', '0', '1', '3']
    assert await names(face, sort='acc.max', descending=True) == ['1', '0', '2', '3']
    assert await names(face, sort='params/lr') == ['2', '1', '0', '3']
    assert await names(face, sort='params/lr', descending=True) == ['3', '0', '1', '2']
    assert await names(face, sort='acc.count', descending=True) == ['0', '1', '2', '3']
    assert await names(face, descending=True, limit=2) == ['3', '2']
    assert await names(face, sort='name', limit=1) == ['0']
    assert await names(face, where='acc > 0', sort='created', descending=True) == ['2', '1', '0']
    assert await names(face, limit=0) == []


async def test_integers_that_no_float_can_hold_are_sorted_and_compared(face: Any) -> None:
    for number, value in enumerate([10**400, float('inf'), -(10**400), float('nan'), 0.5]):
        async with face.open(f'run-{number}') as exp:
            exp['n'].assign(value)
    assert await names(face, sort='n') == ['2', '4', '0', '1', '3']
    assert await names(face, sort='n', descending=True) == ['1', '0', '4', '2', '3']
    assert await names(face, where='n > 1e300') == ['0', '1']


async def test_tables_are_of_the_experiments_of_a_query(face: Any) -> None:
    await fill(face)
    table = await face.compare('run-[012]', ['params/lr'], where='acc.max > 0.5', sort='params/lr')
    assert [*table.index] == ['run-1', 'run-0']
    assert [*table['params/lr']] == [0.01, 0.1]
    fetched = await face.fetch_metrics(paths='acc', where='exists(error)', duplicates='all')
    assert {*fetched.experiment} == {'run-2'} and len(fetched) == 3
    nothing = await face.compare(paths=['params/lr'], where='nothing = 1')
    assert len(nothing) == 0


async def test_a_list_of_names_or_paths_may_hold_globs(face: Any) -> None:
    await fill(face)
    fetched = await face.fetch_metrics(['run-[01]', 'run-2'], ['ac*', 'acc'])
    assert [*dict.fromkeys(fetched.experiment)] == ['run-0', 'run-1', 'run-2']
    table = await face.compare(['run-3', 'no-*'], ['params/*', 'tags'])
    assert [*table.index] == ['run-3'] and [*table.columns] == ['params/lr', 'tags']
    assert len(await face.compare(['no-*'], ['params/*'])) == 0
    assert len(await face.fetch_metrics('run-1', ['no/*'])) == 0
    with pytest.raises(ExperimentNotFoundError):
        await face.compare(['run-*', 'no-3'])
    with pytest.raises(VariableNotFoundError):
        await face.compare('run-*', ['params/*', 'acd'])


async def test_a_query_sees_what_was_logged_before_it(face: Any) -> None:
    async with face.open('run-0') as exp:
        exp['lr'].assign(0.5)
        assert await names(face, where="lr = 0.5 and state = 'running'") == ['0']
        exp['lr'].assign(0.25)
        assert await names(face, where='lr = 0.5') == []


async def test_a_wrong_query_is_refused_before_anything_is_read(face: Any) -> None:
    for wrong in ('lr <', '((((', 3, "lr = '"):
        for arguments in ({'where': wrong}, {'sort': wrong}):
            with pytest.raises(InvalidQueryError):
                await names(face, **arguments)
            with pytest.raises(InvalidQueryError):
                await face.compare(**arguments)
            with pytest.raises(InvalidQueryError):
                await face.fetch_metrics(**arguments)
    for arguments in ({'limit': -1}, {'limit': 1.5}, {'limit': True}, {'descending': 1}):
        with pytest.raises(InvalidArgumentError):
            await names(face, **arguments)
