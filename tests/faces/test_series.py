"""Series: points in the order in which they were logged, exactly as they were."""

from __future__ import annotations

import math
import struct
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from neptune_async import Series
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    InvalidArgumentError,
    InvalidStepError,
    InvalidTimestampError,
    UnsupportedValueError,
    VariableNotFoundError,
)

pytestmark = pytest.mark.anyio


async def test_values_are_read_in_the_order_of_the_calls(face: Any) -> None:
    async with face.open() as exp:
        for value in (0.3, 0.1, 0.2):
            exp['loss'].log(value)
        assert await face.get(exp['loss'].all) == [0.3, 0.1, 0.2]
        assert await face.get(exp['loss'].tail, 2) == [0.1, 0.2]
        assert await face.get(exp['loss'].tail, 9) == [0.3, 0.1, 0.2]
        assert await face.get(exp['loss'].tail, 0) == []
        assert await face.get(exp['loss'].variable_type) == (Series, float)


async def test_a_negative_or_odd_tail_is_refused(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0)
        for n in (-1, 1.5, True, 'all', None):
            with pytest.raises(InvalidArgumentError) as refused:
                await face.get(exp['loss'].tail, n)
            assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    'value',
    [
        3, True, np.float32(0.1), np.float64(0.1), np.int64(7), np.bool_(True), np.array(2.5),
        np.array([2.5]), Decimal('0.25'),
    ],
    ids=repr,
)  # fmt: skip
async def test_numbers_become_floats(face: Any, value: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(value)
        (stored,) = await face.get(exp['loss'].all)
        assert type(stored) is float
        assert stored == value


async def test_odd_floats_keep_their_bits(face: Any) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308]
    async with face.open() as exp:
        for value in values:
            exp['loss'].log(value)
        stored = await face.get(exp['loss'].all)
        assert [struct.pack('d', v) for v in stored] == [struct.pack('d', v) for v in values]
    async with face.open() as exp:
        stored = await face.get(exp['loss'].all)
        assert [struct.pack('d', v) for v in stored] == [struct.pack('d', v) for v in values]


@pytest.mark.parametrize(
    'value',
    [
        None,
        b'x',
        1j,
        object,
        np.zeros(2),
        np.datetime64('2020-01-01'),
        2**53 + 1,
        10**400,
    ],
    ids=repr,
)
async def test_what_a_series_cannot_hold_is_refused_and_leaves_no_trace(
    face: Any, value: Any
) -> None:
    async with face.open() as exp:
        with pytest.raises(UnsupportedValueError, match=r"'NPT-1'.*'a/loss'"):
            exp['a/loss'].log(value)
        assert exp.pending == 0
        assert not await face.get(exp['a/loss'].exists)
        assert await face.get(exp.namespace_contents) == {}
        exp['a/loss'].assign(1)


async def test_a_list_names_extend(face: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(UnsupportedValueError, match='extend'):
            exp['loss'].log([1.0, 2.0])


async def test_texts_and_datetimes_are_series_too(face: Any) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    times = [datetime(2020, 7, 6, 14, 37, 58, 527955), datetime(2020, 7, 6, tzinfo=zone)]
    texts = ['', '1.5', 'nul \0', '\ud800', '\ud800\udc00', 'x' * 100_000, 'é🙂']
    async with face.open() as exp:
        for text in texts:
            exp['texts'].log(text)
        for time in times:
            exp['times'].log(time)
        assert await face.get(exp['texts'].all) == texts
        assert await face.get(exp['times'].all) == times
        assert await face.get(exp['texts'].variable_type) == (Series, str)
        assert await face.get(exp['times'].variable_type) == (Series, datetime)
    async with face.open() as exp:
        exp['texts'].log('more')
        assert await face.get(exp['texts'].all) == [*texts, 'more']
        assert await face.get(exp['times'].tail, 1) == times[1:]


async def test_an_offset_of_less_than_a_second_is_kept(face: Any) -> None:
    zones = [timezone(timedelta(microseconds=micros)) for micros in (1, -1)]
    times = [datetime(2020, 7, 6, tzinfo=zone) for zone in zones]
    async with face.open() as exp:
        for time in times:
            exp['times'].log(time)
        stored = await face.get(exp['times'].all)
    assert [time.isoformat() for time in stored] == [time.isoformat() for time in times]


async def test_the_first_value_fixes_the_type(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0)
        exp['text'].log('1.0')
        for path, value in (('loss', '1.0'), ('text', 1.0), ('loss', datetime(2020, 1, 1))):
            with pytest.raises(ContentTypeError, match='cannot log a new type to a series') as no:
                exp[path].log(value)
            assert isinstance(no.value, TypeError)
        assert await face.get(exp['loss'].all) == [1.0]


async def test_steps_count_on_from_the_largest(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(0.0)
        exp['loss'].log(0.1, step=10)
        exp['loss'].log(0.2)
        exp['loss'].log(0.3, step=3)
        exp['loss'].log(0.4)
        exp['loss'].log(0.5, step=12.5)
        exp['loss'].log(0.6)
        points = await face.get(exp['loss'].all, with_steps=True)
        assert [step for step, _ in points] == [0, 10, 11, 3, 12, 12.5, 13.5]
        assert [type(step) for step, _ in points] == [int] * 5 + [float] * 2
    async with face.open() as exp:
        exp['loss'].log(0.7)
        assert await face.get(exp['loss'].tail, 1, with_steps=True) == [(14.5, 0.7)]


async def test_steps_may_come_in_any_order_and_again(face: Any) -> None:
    async with face.open() as exp:
        for step in (5, 5, 0, -3, 2**53, 0.5, 2.0, np.int64(4)):
            exp['loss'].log(1.0, step=step)
        steps = [step for step, _ in await face.get(exp['loss'].all, with_steps=True)]
        assert steps == [5, 5, 0, -3, 2**53, 0.5, 2, 4]


@pytest.mark.parametrize('step', [math.nan, math.inf, 2**53 + 1, '1', True, 1j, [1]], ids=repr)
async def test_a_bad_step_is_refused(face: Any, step: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(InvalidStepError, match="'loss'"):
            exp['loss'].log(1.0, step=step)
        assert not await face.get(exp['loss'].exists)


async def test_timestamps_are_kept(face: Any) -> None:
    aware = datetime(2020, 7, 6, tzinfo=timezone.utc)
    naive = datetime(2020, 7, 6, 12, 30)
    async with face.open() as exp:
        for timestamp in (12.25, -1.5, 0, aware, naive):
            exp['loss'].log(1.0, timestamp=timestamp)
        points = await face.get(exp['loss'].all, with_timestamps=True)
        times = [time for time, _ in points]
        assert times == [12.25, -1.5, 0.0, aware.timestamp(), naive.timestamp()]
        whole = await face.get(exp['loss'].tail, 1, with_steps=True, with_timestamps=True)
        assert whole == [(4, naive.timestamp(), 1.0)]


async def test_an_automatic_timestamp_is_never_before_the_last(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0, timestamp=9e9)
        exp['loss'].log(2.0)
        exp['loss'].log(3.0, timestamp=5.0)
        exp['loss'].log(4.0)
        times = [time for time, _ in await face.get(exp['loss'].all, with_timestamps=True)]
        assert times[:3] == [9e9, 9e9, 5.0]
        assert 1.7e9 < times[3] < 9e9


@pytest.mark.parametrize('timestamp', [math.nan, math.inf, 'now', True, 10**400], ids=repr)
async def test_a_bad_timestamp_is_refused(face: Any, timestamp: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(InvalidTimestampError, match="'loss'"):
            exp['loss'].log(1.0, timestamp=timestamp)
        assert not await face.get(exp['loss'].exists)


async def test_a_dict_is_a_batch_of_namespaces(face: Any) -> None:
    async with face.open() as exp:
        exp['train'].log({'loss': 0.3, 'by': {'class/a': 1, 'b': 'text'}}, step=7, timestamp=5.0)
        for path, value in (('loss', 0.3), ('by/class/a', 1.0), ('by/b', 'text')):
            points = await face.get(exp['train'][path].all, True, True)
            assert points == [(7, 5.0, value)]


async def test_a_batch_with_one_bad_leaf_logs_nothing(face: Any) -> None:
    async with face.open() as exp:
        exp['train/loss'].log(0.1)
        for leaf in ({'new': 1.0, 'bad': None}, {'loss': 0.2, 'bad': [1]}, {'loss': 'text'}):
            with pytest.raises(TypeError):
                exp['train'].log({'first': 1.0, **leaf})
        assert await face.get(exp['train'].namespace_contents) == {'loss': Series}
        assert await face.get(exp['train/loss'].all) == [0.1]
        assert exp.stats().accepted == 1


@pytest.mark.parametrize(
    'values',
    [[1.0, 2.0], [1, 2], (1.0, 2), np.array([1.0, 2.0]), np.array([1, 2]), range(1, 3)],
    ids=['floats', 'ints', 'both', 'array', 'int array', 'range'],
)
async def test_extend_logs_several_values(face: Any, values: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend(values)
        assert await face.get(exp['loss'].all, with_steps=True) == [(0, 1.0), (1, 2.0)]


async def test_extend_takes_steps_and_timestamps(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([1.0, 2.0], steps=[5, 2.5], timestamps=[3.0, 1.0])
        exp['more'].extend({'texts': ['a', 'b'], 'floats': [1, 2]}, steps=[1, 2])
        exp['none'].extend([])
        assert await face.get(exp['loss'].all, True, True) == [(5, 3.0, 1.0), (2.5, 1.0, 2.0)]
        assert await face.get(exp['more/texts'].all, True) == [(1, 'a'), (2, 'b')]
        assert not await face.get(exp['none'].exists)


async def test_every_leaf_takes_the_steps_and_timestamps_of_iterators(face: Any) -> None:
    async with face.open() as exp:
        exp['train'].extend({'a': [1, 2], 'b': [3, 4]}, steps=iter([5, 6]), timestamps=iter([7, 8]))
        assert await face.get(exp['train/a'].all, True, True) == [(5, 7.0, 1.0), (6, 8.0, 2.0)]
        assert await face.get(exp['train/b'].all, True, True) == [(5, 7.0, 3.0), (6, 8.0, 4.0)]


async def test_extend_refuses_what_does_not_fit_and_logs_none_of_it(face: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(InvalidStepError, match='2 values and 1 steps'):
            exp['loss'].extend([1.0, 2.0], steps=[1])
        with pytest.raises(InvalidTimestampError, match='2 values and 3 timestamps'):
            exp['loss'].extend([1.0, 2.0], timestamps=[1, 2, 3])
        for values in ([1.0, None], [1.0, 'text'], 5.0, 'text'):
            with pytest.raises(UnsupportedValueError):
                exp['loss'].extend(values)
        assert not await face.get(exp['loss'].exists)


async def test_many_extended_points_read_back(face: Any) -> None:
    values = np.random.default_rng(0).normal(size=100_000).tolist()
    async with face.open() as exp:
        exp['loss'].extend(values)
        assert await face.get(exp['loss'].all) == values
        assert await face.get(exp['loss'].tail, 3, with_steps=True) == [
            (99_997 + i, value) for i, value in enumerate(values[-3:])
        ]


async def test_other_containers_methods_are_refused(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0)
        with pytest.raises(ContainerTypeError, match='Series.*tail') as refused:
            exp['loss'].assign(1.0)
        assert isinstance(refused.value, TypeError) and isinstance(refused.value, AttributeError)
        for write in (exp['loss'].add, exp['loss'].remove, exp['loss'].reset):
            with pytest.raises(ContainerTypeError):
                write('x')
        for read in (exp['loss'].read, exp['loss'].get):
            with pytest.raises(ContainerTypeError):
                await face.get(read)


async def test_reading_what_is_not_there_names_what_is_near(face: Any) -> None:
    async with face.open() as exp:
        exp['train/loss'].log(1.0)
        with pytest.raises(VariableNotFoundError, match="'train/los'.*'train/loss'") as missing:
            await face.get(exp['train/los'].tail, 1)
        assert isinstance(missing.value, AttributeError) and isinstance(missing.value, KeyError)
        with pytest.raises(VariableNotFoundError, match='namespace'):
            await face.get(exp['train'].all)
        assert not await face.get(exp['train/los'].exists)
