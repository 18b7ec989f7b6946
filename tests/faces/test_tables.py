"""Tables: what was logged, as NumPy arrays, pandas frames and Arrow tables."""

from __future__ import annotations

import math
import re
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from neptune_async import _tables
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    ExperimentNotFoundError,
    InvalidArgumentError,
    InvalidNameError,
    InvalidPathError,
    InvalidStepError,
    MissingExtraError,
    UnsupportedValueError,
    VariableNotFoundError,
)

pytestmark = pytest.mark.anyio

ODD = [math.nan, math.inf, -math.inf, -0.0, 5e-324]
NOON = datetime(2020, 7, 6, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))


def bits(values: Any) -> bytes:
    return np.asarray(values, 'd').tobytes()


# ── One series ───────────────────────────────────────────────────────────────


async def test_a_series_is_a_frame_by_step(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend(ODD, steps=[3, 1, 3, 0, 9], timestamps=[5.0, 4.5, 6.0, 7.0, 1e300])
        frame = await face.get(exp['loss'].to_pandas)
        assert [*frame.columns] == ['timestamp', 'value']
        assert (frame.index.name, frame.index.dtype) == ('step', 'int64')
        assert frame.index.tolist() == [3, 1, 3, 0, 9]
        assert frame.timestamp.tolist() == [5.0, 4.5, 6.0, 7.0, 1e300]
        assert bits(frame.value) == bits(ODD)


async def test_a_series_is_a_structured_array(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend(ODD, steps=[3, 1.5, 3, 0, 9], timestamps=range(5))
        read = await face.get(exp['loss'].to_numpy)
        assert read.dtype == [('step', 'f8'), ('timestamp', 'f8'), ('value', 'f8')]
        assert read['step'].tolist() == [3.0, 1.5, 3.0, 0.0, 9.0]
        assert read['timestamp'].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert bits(read['value']) == bits(ODD)


async def test_a_step_beyond_64_bits_makes_all_steps_of_a_table_floats(face: Any) -> None:
    steps = [-1e300, 3, float(2**63)]
    async with face.open() as exp:
        exp['loss'].extend(ODD[:3], steps=steps)
        assert (await face.get(exp['loss'].to_pandas)).index.tolist() == steps
        assert (await face.get(exp['loss'].to_numpy))['step'].tolist() == steps
        assert (await face.get(exp['loss'].to_arrow))['step'].to_pylist() == steps
        exp['other'].log(0.5, step=7)
        assert (await face.fetch_metrics()).step.tolist() == [*steps, 7]
        assert (await face.fetch_metrics(output='arrow'))['step'].to_pylist() == [*steps, 7]


async def test_a_series_is_an_arrow_table_of_its_chunks(face: Any) -> None:
    logged = np.random.default_rng(0).normal(size=20_000)
    async with face.open() as exp:
        exp['loss'].extend(logged)
    async with face.open() as exp:
        exp['loss'].extend(ODD)
        read = await face.get(exp['loss'].to_arrow)
        assert read.schema == pa.schema(
            {'step': pa.int64(), 'timestamp': pa.float64(), 'value': pa.float64()}
        )
        assert read['step'].to_pylist() == [*range(20_005)]
        assert bits(read['value'].to_numpy()) == bits([*logged, *ODD])
        assert read['value'].num_chunks > 1


@pytest.mark.parametrize('values', [['', 'é🙂', '1.5'], [NOON, NOON.replace(tzinfo=None)]])
async def test_texts_and_datetimes_are_kept_as_they_are(face: Any, values: list[Any]) -> None:
    async with face.open() as exp:
        exp['x'].extend(values, steps=range(len(values)))
        assert (await face.get(exp['x'].to_pandas)).value.tolist() == values
        assert (await face.get(exp['x'].to_numpy))['value'].tolist() == values
        shown = [value if isinstance(value, str) else value.isoformat() for value in values]
        assert (await face.get(exp['x'].to_arrow))['value'].to_pylist() == shown


async def test_a_lone_surrogate_is_read_or_refused_but_never_changed(face: Any) -> None:
    async with face.open() as exp:
        exp['texts'].log('a \ud800')
        exp['text'].assign('a \ud800')
        assert (await face.get(exp['texts'].to_pandas)).value.tolist() == ['a \ud800']
        assert (await face.compare()).loc['NPT-1', 'text'] == 'a \ud800'
        with pytest.raises(UnsupportedValueError, match=r'\\ud800'):
            await face.get(exp['texts'].to_arrow)
        with pytest.raises(UnsupportedValueError, match=r'\\ud800'):
            await face.compare(output='arrow')


async def test_a_read_into_a_table_sees_what_was_logged_before_it(face: Any) -> None:
    async with face.open(flush_interval=3600.0) as exp:
        exp['loss'].log(0.5)
        assert len(await face.get(exp['loss'].to_pandas)) == 1
        exp['loss'].log(0.25)
        assert (await face.compare()).loc['NPT-1', 'loss'] == 0.25
        exp['loss'].log(0.125)
        assert (await face.fetch_metrics()).value.tolist() == [0.5, 0.25, 0.125]
        exp['loss'].log(0.0625)
        assert await face.get(exp.to_dict) == {'loss': 0.0625}


@pytest.mark.parametrize('method', ['to_pandas', 'to_numpy', 'to_arrow'])
async def test_what_is_no_series_is_no_table(face: Any, method: str) -> None:
    async with face.open() as exp:
        exp['lr'].assign(0.1)
        with pytest.raises(ContainerTypeError, match=f'no method {method}'):
            await face.get(getattr(exp['lr'], method))
        with pytest.raises(VariableNotFoundError, match="did you mean 'lr'"):
            await face.get(getattr(exp['lrr'], method))


@pytest.mark.parametrize(
    ('module', 'method', 'extra'),
    [('pandas', 'to_pandas', 'pandas'), ('numpy', 'to_numpy', 'numpy'),
     ('pyarrow', 'to_arrow', 'arrow')],
)  # fmt: skip
async def test_a_missing_library_is_named_with_what_installs_it(
    face: Any, module: str, method: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('in_numpy', 'in_pandas', 'in_arrow'):
        monkeypatch.delitem(sys.modules, f'neptune_async._tables.{name}', raising=False)
        monkeypatch.delattr(_tables, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # what Python takes for not installed
    async with face.open() as exp:
        exp['loss'].log(0.5)
        with pytest.raises(MissingExtraError, match=rf'{module}.*neptune-async\[{extra}\]') as told:
            await face.get(getattr(exp['loss'], method))
        assert isinstance(told.value, ImportError)


# ── An experiment as a whole ─────────────────────────────────────────────────


async def test_an_experiment_is_a_dict_as_its_paths_are(face: Any) -> None:
    async with face.open() as exp:
        assert await face.get(exp.to_dict) == {}
        exp['params'].assign({'lr': 0.1, 'none': None, 'opt': {'name': 'adam', 'betas': (0.9, 1)}})
        exp['tags'].add('a', 'b')
        exp['empty'].add(1)
        exp['empty'].remove(1)
        exp['train/loss'].extend([0.5, 0.25])
        exp['train/events/text'].log('done')
        exp['nothing'].extend([])
        params = {'lr': 0.1, 'none': None, 'opt': {'name': 'adam', 'betas': [0.9, 1]}}
        assert await face.get(exp.to_dict) == {
            'params': params,
            'tags': {'a', 'b'},
            'empty': set(),
            'train': {'loss': 0.25, 'events': {'text': 'done'}},
        }
        assert await face.get(exp['params'].to_dict) == params
        with pytest.raises(VariableNotFoundError, match='it is a variable'):
            await face.get(exp['tags'].to_dict)
        with pytest.raises(VariableNotFoundError, match="did you mean 'params'"):
            await face.get(exp['parms'].to_dict)


# ── Comparisons ──────────────────────────────────────────────────────────────


async def log_runs(face: Any) -> None:
    """Make run-0, run-1 and run-2, and one of another name, that differ in what they have."""
    for n in range(3):
        async with face.open(f'run-{n}') as exp:
            exp['params'].assign({'lr': [0.1, 1, 0.01][n], 'size': 2**n, 'name': f'r{n}'})
            exp['valid/loss'].extend([0.5, 0.1 * n])
            exp['tags'].add('all', f'run{n}')
    async with face.open('run-2') as exp:
        exp['only'].assign([1, 2])
    async with face.open('other') as exp:
        exp['params/size'].assign(True)


async def test_a_comparison_is_a_row_an_experiment(face: Any) -> None:
    await log_runs(face)
    frame = await face.compare()
    assert frame.index.name == 'experiment'
    assert frame.index.tolist() == ['run-0', 'run-1', 'run-2', 'other']
    assert [*frame.columns] == [
        'only', 'params/lr', 'params/name', 'params/size', 'tags', 'valid/loss',
    ]  # fmt: skip
    assert frame.loc['run-2'].to_dict() == {
        'only': [1, 2], 'params/lr': 0.01, 'params/name': 'r2', 'params/size': 4,
        'tags': {'all', 'run2'}, 'valid/loss': 0.2,
    }  # fmt: skip
    assert frame['params/lr'].dtype == frame['valid/loss'].dtype == 'float64'
    assert frame.loc['other'].drop('params/size').isna().all()


async def test_patterns_choose_rows_and_columns(face: Any) -> None:
    await log_runs(face)
    frame = await face.compare('run-[01]', re.compile('size|loss'))
    assert frame.index.tolist() == ['run-0', 'run-1']
    assert [*frame.columns] == ['params/size', 'valid/loss']
    assert frame['params/size'].dtype == 'int64'
    named = await face.compare(['other', 'run-1'], ['params/size', 'params/lr'])
    assert named.index.tolist() == ['run-1', 'other']
    assert [*named.columns] == ['params/size', 'params/lr']
    assert (await face.compare('run-*', 'only')).only.tolist() == [None, None, [1, 2]]
    for nothing in ('nobody*', []):
        assert (await face.compare(nothing)).shape == (0, 0)
    assert (await face.compare(paths='x*')).shape == (4, 0)


async def test_what_a_glob_names_exactly_is_meant_before_what_it_matches(face: Any) -> None:
    for name in ('run[1]', 'run1'):
        async with face.open(name) as exp:
            exp['x[1]'].log(0.5)
            exp['x1'].log(0.5)
            exp['lr[1]'].assign(0.1)
    frame = await face.compare('run[1]', 'x[1]')
    assert (frame.index.tolist(), [*frame.columns]) == (['run[1]'], ['x[1]'])
    frame = await face.fetch_metrics('run[1]', 'x[1]')
    assert frame[['experiment', 'path']].to_numpy().tolist() == [['run[1]', 'x[1]']]
    assert (await face.compare('run[12]')).index.tolist() == ['run1']
    with pytest.raises(ContainerTypeError, match=r"'lr\[1\]'.*Atom of float"):
        await face.fetch_metrics(paths='lr[1]')


@pytest.mark.parametrize(
    ('values', 'dtype'),
    [
        ([True, False], 'bool'),
        ([True], 'boolean'),
        ([1, -(2**63)], 'int64'),
        ([2**53 + 1], 'Int64'),
        ([0.5, 1], 'float64'),
        ([math.nan], 'float64'),
        ([0.5, 2**53 + 1], 'object'),
        ([2**63, 1], 'object'),
        ([1, True], 'object'),
        ([1, 'a'], 'object'),
        ([NOON, NOON.replace(tzinfo=None)], 'object'),
    ],
    ids=repr,
)
async def test_a_column_keeps_values_as_they_are(face: Any, values: list[Any], dtype: str) -> None:
    for n in range(2):
        async with face.open(f'run-{n}') as exp:
            exp['x'].assign({'nothing': None, **dict(zip('x', values[n : n + 1], strict=False))})
    column = (await face.compare(paths='x/x'))['x/x']
    assert column.dtype == dtype
    for value, read in zip(values, column, strict=False):
        assert read == value or (value != value and read != read)
    assert column.isna().tolist()[len(values) :] == [True] * (2 - len(values))
    table = await face.compare(paths='x/x', output='arrow')
    assert table['x/x'].null_count == 2 - len(values)


async def test_a_comparison_is_an_arrow_table(face: Any) -> None:
    await log_runs(face)
    table = await face.compare(output='arrow')
    assert table.schema == pa.schema(
        {
            'experiment': pa.string(),
            'only': pa.list_(pa.int64()),
            'params/lr': pa.float64(),
            'params/name': pa.string(),
            'params/size': pa.string(),
            'tags': pa.list_(pa.string()),
            'valid/loss': pa.float64(),
        }
    )
    assert table['params/size'].to_pylist() == ['1', '2', '4', 'true']
    assert table['tags'].to_pylist() == [['all', f'run{n}'] for n in range(3)] + [None]


async def test_what_is_named_exactly_has_to_be_there(face: Any) -> None:
    await log_runs(face)
    for ask in (face.compare, face.fetch_metrics):
        with pytest.raises(ExperimentNotFoundError, match="'run-9'.*did you mean 'run-"):
            await ask(['run-1', 'run-9'])
        with pytest.raises(VariableNotFoundError, match="none of 4.*did you mean 'valid/loss'"):
            await ask(None, 'valid/los')
        with pytest.raises(VariableNotFoundError, match=r"it is a namespace; 'params/\*'"):
            await ask('other', 'params')


async def test_bad_arguments_are_refused_by_name(face: Any) -> None:
    async with face.open():
        pass
    for error, arguments in (
        (InvalidArgumentError, {'names': 3}),
        (InvalidArgumentError, {'paths': re.compile(b'x')}),
        (InvalidNameError, {'names': ['']}),
        (InvalidPathError, {'paths': '//'}),
        (InvalidArgumentError, {'output': 'csv'}),
    ):
        for ask in (face.compare, face.fetch_metrics):
            with pytest.raises(error):
                await ask(**arguments)
    for error, arguments in (
        (InvalidArgumentError, {'content': 'int'}),
        (InvalidArgumentError, {'duplicates': 'none'}),
        (InvalidArgumentError, {'max_points': 0}),
        (InvalidArgumentError, {'max_points': 2.5}),
        (InvalidArgumentError, {'first_step': 3, 'last_step': 2}),
        (InvalidStepError, {'first_step': math.nan}),
    ):
        with pytest.raises(error):
            await face.fetch_metrics(**arguments)


# ── Points of many series ────────────────────────────────────────────────────


async def test_metrics_are_a_row_a_point(face: Any) -> None:
    for n in range(2):
        async with face.open(f'run-{n}') as exp:
            exp['train/loss'].extend([n, n + 0.5], timestamps=[1.0, 2.0])
            exp['train/acc'].extend([math.nan], timestamps=[3.0])
            exp['train/text'].log('no metric')
            exp['params/lr'].assign(0.1)
    frame = await face.fetch_metrics(names='run-?', paths='train/*')
    assert [*frame.columns] == ['experiment', 'path', 'step', 'timestamp', 'value']
    assert frame.drop(columns='value').to_numpy().tolist() == [
        ['run-0', 'train/acc', 0, 3.0],
        ['run-0', 'train/loss', 0, 1.0],
        ['run-0', 'train/loss', 1, 2.0],
        ['run-1', 'train/acc', 0, 3.0],
        ['run-1', 'train/loss', 0, 1.0],
        ['run-1', 'train/loss', 1, 2.0],
    ]
    assert bits(frame.value) == bits([math.nan, 0.0, 0.5, math.nan, 1.0, 1.5])
    assert [*frame.dtypes[2:]] == ['int64', 'float64', 'float64']
    table = await face.fetch_metrics(names='run-?', paths='train/*', output='arrow')
    pd.testing.assert_frame_equal(
        table.to_pandas(), frame, check_dtype=False, check_categorical=False
    )


async def test_steps_duplicates_and_number_of_points_are_chosen(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([0.0, 1.0, 2.0, 3.0, 4.0], steps=[0, 2, 1, 2, 2.5])

    async def points(**arguments: Any) -> list[tuple[float, float]]:
        frame = await face.fetch_metrics(**arguments)
        return [*zip(frame.step.tolist(), frame.value.tolist(), strict=True)]

    assert await points() == [(0, 0.0), (1, 2.0), (2, 3.0), (2.5, 4.0)]
    assert await points(duplicates='first') == [(0, 0.0), (1, 2.0), (2, 1.0), (2.5, 4.0)]
    assert await points(duplicates='all') == [(0, 0.0), (2, 1.0), (1, 2.0), (2, 3.0), (2.5, 4.0)]
    assert await points(first_step=1, last_step=2) == [(1, 2.0), (2, 3.0)]
    assert await points(first_step=3) == []
    assert await points(max_points=2) == [(0, 0.0), (2.5, 4.0)]


async def test_other_contents_are_fetched_when_asked_for(face: Any) -> None:
    async with face.open() as exp:
        exp['texts'].extend(['a', 'b'])
        exp['times'].extend([NOON, NOON.replace(tzinfo=None)])
        exp['loss'].log(0.5)
        exp['lr'].assign(0.1)
    texts = await face.fetch_metrics(content='str')
    assert texts.value.tolist() == ['a', 'b']
    times = await face.fetch_metrics(content='datetime')
    assert times.value.tolist() == [NOON, NOON.replace(tzinfo=None)]
    table = await face.fetch_metrics(paths='t*', content='datetime', output='arrow')
    assert table['value'].to_pylist()[0] == '2020-07-06T12:00:00+05:30'
    with pytest.raises(ContentTypeError, match="'texts'.*content='str'"):
        await face.fetch_metrics(paths=['loss', 'texts'])
    with pytest.raises(ContainerTypeError, match="'lr'.*Atom of float"):
        await face.fetch_metrics(paths='lr')


async def test_an_empty_table_has_its_columns(face: Any) -> None:
    async with face.open() as exp:
        exp['lr'].assign(0.1)
    for content in ('float', 'str'):
        frame = await face.fetch_metrics(content=content)
        assert (len(frame), len(frame.columns)) == (0, 5)
        table = await face.fetch_metrics(content=content, output='arrow')
        assert (table.num_rows, table.num_columns) == (0, 5)
    assert (await face.compare('nobody*', output='arrow')).column_names == ['experiment']


async def test_more_series_than_are_read_at_a_time_are_all_there(face: Any) -> None:
    async with face.open() as exp:
        for step in range(3):
            exp['many'].log({f'x{n:03}': n + step / 4 for n in range(200)}, step=step)
    frame = await face.fetch_metrics(paths='many/*')
    assert frame.value.tolist() == [n + step / 4 for n in range(200) for step in range(3)]
    assert frame.path.tolist() == [f'many/x{n:03}' for n in range(200) for _ in range(3)]
