"""Code that was written for neptune 1.x runs unchanged, but for the import."""

from __future__ import annotations

import argparse
import inspect
import logging
import math
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neptune_async.compat.neptune as neptune
from neptune_async import Experiment, list_experiments
from neptune_async.compat.neptune.utils import stringify_unsupported
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    ExperimentClosedError,
    InvalidArgumentError,
    ReadOnlyError,
    StorageError,
    UnsupportedValueError,
)

# ── As it was written for 1.x ────────────────────────────────────────────────


def test_a_training_loop() -> None:
    run = neptune.init_run(
        project='ml-team/classification',
        api_token=neptune.ANONYMOUS_API_TOKEN,
        name='neural-net-mnist',
        description='first try',
        tags=['maskRCNN', 'finetune'],
    )
    params = {'batch_size': 64, 'dropout': 0.2, 'optim': {'name': 'SGD', 'learning_rate': 0.001}}
    run['parameters'] = params
    run['parameters/activation'] = 'ReLU'
    run['train/dataset/path'].assign('data/train')
    for epoch in range(3):
        for batch in range(4):
            run['train/batch/loss'].append(1 / (1 + batch))
        run['train/epoch'].append({'loss': 0.5 - epoch / 10, 'acc': np.float32(0.5)}, step=epoch)
        run['logs'].append(f'epoch {epoch} done')
    run['evaluation/score'] = 0.66
    run['sys/tags'].add('finished')
    run.wait()

    assert run['parameters/optim/learning_rate'].fetch() == 0.001
    assert run['parameters'].fetch() == {**params, 'activation': 'ReLU'}
    assert run['train/batch/loss'].fetch_last() == 0.25
    assert run['logs'].fetch_last() == 'epoch 2 done'
    assert run['sys/tags'].fetch() == {'maskRCNN', 'finetune', 'finished'}
    assert run['sys/id'].fetch() == 'EXP-1'
    assert run['sys/name'].fetch() == 'neural-net-mnist'
    run.stop()

    with Experiment('EXP-1', mode='read') as exp:
        assert exp['train/epoch/loss'].all(with_steps=True) == [(0, 0.5), (1, 0.4), (2, 0.3)]
        assert len(exp['train/batch/loss'].all()) == 12
        assert exp['sys/project'].read() == 'ml-team/classification'


def test_a_run_that_is_resumed() -> None:
    with neptune.init_run(name='first') as run:
        run['train/loss'].append(0.5)
        run_id = run['sys/id'].fetch()
        created = run['sys/creation_time'].fetch()
    with neptune.init_run(with_id=run_id) as run:
        assert run['sys/state'].fetch() == 'Active'
        run['train/loss'].append(0.4)
        assert run['sys/name'].fetch() == 'first'
        assert run['sys/creation_time'].fetch() == created
    run = neptune.init_run(with_id=run_id, mode='read-only')
    assert run['train/loss'].fetch_values(include_timestamp=False)['value'].tolist() == [0.5, 0.4]
    assert run['sys/state'].fetch() == 'Inactive'
    assert run['sys/modification_time'].fetch() > created
    run.stop()
    assert list_experiments() == [run_id]


def test_processes_that_share_a_custom_run_id(monkeypatch: pytest.MonkeyPatch) -> None:
    with neptune.init_run(custom_run_id='sweep-7') as run:
        run['worker/0/loss'].append(0.5)
    monkeypatch.setenv('NEPTUNE_CUSTOM_RUN_ID', 'sweep-7')
    with neptune.init_run() as run:
        run['worker/1/loss'].append(0.4)
        assert run['sys/custom_run_id'].fetch() == 'sweep-7'
        assert [*run.get_structure()['worker']] == ['0', '1']
    assert list_experiments() == ['sweep-7']


def test_arguments_of_a_command_line() -> None:
    arguments = argparse.Namespace(lr=0.1, layers=[64, 10], name=None, deep={'x': True})
    with neptune.init_run(mode='offline') as run:
        run['args'] = arguments
        assert run['args'].fetch() == {
            'lr': 0.1, 'layers': [64, 10], 'deep': {'x': True},
        }  # fmt: skip
        run['texts'] = stringify_unsupported(arguments)
        assert run['texts/name'].fetch() == 'None'
        run['empty'] = {}
        assert not run.exists('empty')


def test_structures_of_every_kind_are_namespaces() -> None:
    @dataclass
    class Config:
        lr: float
        layers: list[Any]

    config = Config(0.1, [{'size': 3, 1: stringify_unsupported(object)}, 5])
    with neptune.init_run(mode='offline') as run:
        run['config'] = config
        run['train'].append(Config(0.5, 0.25), step=3)  # type: ignore[arg-type]
        assert run['config'].fetch() == {
            'lr': 0.1, 'layers': {'0': {'size': 3, '1': "<class 'object'>"}, '1': 5}
        }  # fmt: skip
        assert run['train/layers'].fetch_last() == 0.25
        run['set'] = stringify_unsupported({'modules': {'v', 'q'}, (1, 2): 3, 'path': Path('a')})
        assert run['set'].fetch() == {'modules': ['q', 'v'], '(1, 2)': 3, 'path': 'a'}
        endless: dict[str, Any] = {}
        endless['again'] = endless
        for given in (endless, stringify_unsupported(endless)):
            with pytest.raises(UnsupportedValueError, match='holds itself'):
                run['endless'] = given


def test_a_logger_that_keeps_a_handler() -> None:
    class Logger:
        def __init__(self, run: neptune.Run, prefix: str) -> None:
            self.run, self.base = run, run[prefix]

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            for key, value in metrics.items():
                self.base[key].append(value, step=step)

        def log_hyperparams(self, params: dict[str, Any]) -> None:
            self.base['hyperparams'] = neptune.utils.stringify_unsupported(params)

    with neptune.init_run() as run:
        logger = Logger(run, 'training')
        logger.log_hyperparams({'lr': 0.1, 'decimal': Decimal('0.5'), 'callbacks': [print]})
        for step in range(3):
            logger.log_metrics({'train/loss': 1.0, 'val/acc': 0.5}, step=step)
        assert logger.base.get_root_object() is run is logger.base.container
        assert run['training/train/loss'].fetch_values()['step'].tolist() == [0, 1, 2]
        assert run['training/hyperparams'].fetch() == {
            'lr': 0.1, 'decimal': '0.5', 'callbacks': [str(print)],
        }  # fmt: skip


def test_a_script_that_ends_without_stop(store: Path) -> None:
    script = """
        import os, sys
        import neptune_async.compat.neptune as neptune
        run = neptune.init_run(custom_run_id='script')
        for n in range(1000):
            run['loss'].append(n)
        pid = os.fork()
        if pid == 0:
            sys.exit()      # a child that ends does not end the run
        os.waitpid(pid, 0)
        assert run['sys/state'].fetch() == 'Active'
        run['loss'].append(1000)
    """
    ended = subprocess.run(
        # From 3.12 on, Python warns of every fork beside threads.
        [sys.executable, '-W', 'ignore::DeprecationWarning', '-c', textwrap.dedent(script)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, '')
    with Experiment('script', mode='read') as exp:
        assert exp['loss'].all() == [*range(1001)]
        assert exp['sys/state'].read() == 'Inactive'


def test_an_exception_that_ends_a_run() -> None:
    with pytest.raises(ZeroDivisionError), neptune.init_run(custom_run_id='failing') as run:
        run['loss'].append(1.0)
        1 / 0  # noqa: B018 - the exception is what it is for
    with neptune.init_run(with_id='failing', mode='read-only') as run:
        assert run['sys/failed'].fetch() is True
        lines = run['monitoring/traceback'].fetch_values()['value'].tolist()
        assert lines[0].startswith('Traceback')
        assert lines[-1] == 'ZeroDivisionError: division by zero\n'
    with (
        pytest.raises(ZeroDivisionError),
        neptune.init_run(custom_run_id='quiet', capture_traceback=False, fail_on_exception=False),
    ):
        1 / 0  # noqa: B018
    with neptune.init_run(with_id='quiet', mode='read-only') as run:
        assert run['sys/failed'].fetch() is False
        assert not run.exists('monitoring')


def test_what_ends_a_run_is_raised_whatever_storage_rejects(
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = """
        import neptune_async.compat.neptune as neptune
        with neptune.init_run(with_id='shared') as run:
            run['loss'] = 'a text'
    """
    with pytest.raises(ZeroDivisionError), neptune.init_run(custom_run_id='shared') as run:
        run.wait()
        subprocess.run([sys.executable, '-c', textwrap.dedent(other)], check=True)
        run['loss'].append(1.0)
        1 / 0  # noqa: B018
    assert "'shared': 'loss': create Series of float" in caplog.text


def test_what_ends_a_run_is_raised_even_if_it_cannot_be_noted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ZeroDivisionError), neptune.init_run() as run:
        run['monitoring/traceback'] = 'a text'
        1 / 0  # noqa: B018
    assert run.get_state() == 'stopped'
    assert 'monitoring/traceback' in caplog.text


# ── Fields ───────────────────────────────────────────────────────────────────


def test_fields_of_every_type_read_back_as_they_were() -> None:
    then = datetime(2026, 3, 5, 10, tzinfo=timezone.utc)
    values = {'int': 2**70, 'float': math.inf, 'bool': True, 'str': 'ü' * 20_000, 'datetime': then}
    with neptune.init_run() as run:
        run.assign({'fields': values})
        run['copy'] = run['fields/str']
        assert run['fields'].fetch() == values
        assert run.fetch()['fields'] == values
        assert run['copy'].fetch() == values['str']
        run['fields/int'] = 0.5
        assert run['fields/int'].fetch() == 0.5
        del run['fields/int']
        run['fields'].pop('bool')
        del run['fields']['str']
        run.pop('copy')
        assert run['fields'].fetch() == {'float': math.inf, 'datetime': then}
        run['fields'].pop()
        assert not run.exists('fields')


def test_no_point_is_dropped() -> None:
    with neptune.init_run() as run:
        series = run['metrics']['loss']
        series.append(0.5, step=10, timestamp=2_000.0)
        series.append(math.nan, step=1.5, timestamp=1_000.0)
        series.extend([0.25, -math.inf], steps=[1.5, 1.5])
        series.log(0.125)
        series.log([1, 2])
        frame = series.fetch_values()
        assert [*frame.columns] == ['step', 'value', 'timestamp']
        assert frame['step'].tolist() == [10, 1.5, 1.5, 1.5, 11, 12, 13]
        np.testing.assert_equal(
            frame['value'].tolist(), [0.5, math.nan, 0.25, -math.inf, 0.125, 1.0, 2.0]
        )
        assert frame['timestamp'][1] == datetime.fromtimestamp(1_000)
        assert series.fetch_last() == 2.0


def test_a_dict_extends_the_series_that_it_names() -> None:
    with neptune.init_run() as run:
        run['train'].extend({'loss': [0.5, 0.4], 'deep': {'er': (1, 2)}}, steps=[3, 4])
        assert run['train/deep/er'].fetch_values()['step'].tolist() == [3, 4]
        with pytest.raises(ValueError, match='1 steps'):
            run['train'].extend({'loss': [0.5, 0.4]}, steps=[3])
        with pytest.raises(ValueError, match='extend'):
            run['train/loss'].log([1.0, 2.0], step=1)


def test_iterators_give_all_that_they_have() -> None:
    with neptune.init_run() as run:
        texts = stringify_unsupported({'texts': (kind for kind in (object, 1))})
        run['a'].extend(texts, steps=iter([3, 4]))
        assert run['a/texts'].fetch_values()['value'].tolist() == ["<class 'object'>", '1']
        run['b'].extend({'x': [1, 2], 'y': [3, 4]}, steps=iter([5, 6]), timestamps=iter([7, 8]))
        assert run['b/y'].fetch_values()['step'].tolist() == [5, 6]
        assert run['b/y'].fetch_values()['value'].tolist() == [3.0, 4.0]


def test_tags_are_added_removed_and_cleared() -> None:
    with neptune.init_run(tags='one') as run:
        tags = run['sys/tags']
        tags.add(['two', 'three'])
        tags.remove('one')
        tags.remove(('two', 'never'))
        assert tags.fetch() == {'three'}
        tags.clear()
        tags.add([])
        assert tags.fetch() == set()


def test_a_series_that_is_cleared_is_there_and_empty() -> None:
    with neptune.init_run() as run:
        run['loss'].extend([1.0, 2.0], steps=[-1e300, 3])
        run['loss'].clear()
        assert run['loss'].fetch_values().empty
        with pytest.raises(neptune.exceptions.MissingFieldException, match='no value'):
            run['loss'].fetch_last()
        run['loss'].append(3.0)
        assert run['loss'].fetch_last() == 3.0


def test_what_no_field_can_hold_is_left_out_with_a_warning_or_made_a_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with neptune.init_run() as run, caplog.at_level(logging.WARNING, 'neptune_async'):
        run['params'] = {'lr': 0.1, 'model': object}
        run['loss'].append(object)
        run['texts'].extend([object, object])
        mentions = [record.getMessage().count('stringify_unsupported') for record in caplog.records]
        assert mentions == [1, 1, 1]
        assert 'params/model' in caplog.text
        assert run['params'].fetch() == {'lr': 0.1}
        assert not run.exists('loss')
        run['params'] = {'': 1, 'deep': {'/': 2, 'there': 3}}
        assert run['params/deep'].fetch() == {'there': 3}
        del run['params/deep']

        run['params'] = stringify_unsupported({'lr': 0.1, 'model': {1: object}})
        run['loss'].append(stringify_unsupported(object))
        run['texts'].extend(stringify_unsupported(iter([object, 1])))
        assert run['params'].fetch() == {'lr': 0.1, 'model': {'1': "<class 'object'>"}}
        assert run['loss'].fetch_last() == "<class 'object'>"
        assert run['texts'].fetch_last() == '1'
    assert len(caplog.records) == 5


def test_a_field_keeps_its_type() -> None:
    with neptune.init_run() as run:
        run['a/loss'].append(1.0)
        with pytest.raises(ContentTypeError):
            run['a/loss'].append('0.5')
        with pytest.raises(TypeError):
            run['a/loss'] = 1.0
        with pytest.raises(neptune.exceptions.MetadataInconsistency):
            run['a'] = 1.0
        with pytest.raises(ContainerTypeError, match='fetch_last'):
            run['a/loss'].fetch()
        for missing in (run['a/los'].fetch, run['b'].fetch, run['b'].fetch_values, run['b'].pop):
            with pytest.raises(neptune.exceptions.MissingFieldException) as refused:
                missing()
            assert isinstance(refused.value, (KeyError, AttributeError))


def test_the_structure_is_printed_by_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    with neptune.init_run() as run:
        run['a/deep'] = {'i': 1, 'f': 0.5, 'b': True, 's': '', 'l': []}
        run.experiment['a/deep/n'].assign(None)
        run['a/when'] = datetime(2026, 3, 5)
        run['a/loss'].append(1.0)
        run['a/text'].append('')
        run['a/tags'].add('x')
        structure = run.get_structure()
        assert structure['a']['deep']['f'].fetch() == 0.5
        del run['sys']
        run.print_structure()
        run['sys/id'] = ''
    assert capsys.readouterr().out == textwrap.dedent("""\
        'a':
            'deep':
                'b': Boolean
                'f': Float
                'i': Integer
                'l': List
                'n': None
                's': String
            'loss': FloatSeries
            'tags': StringSet
            'text': StringSeries
            'when': Datetime
        """)


# ── Modes ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('mode', ['sync', 'async', 'offline'])
def test_a_call_waits_until_it_is_stored_where_that_is_wished_for(mode: Any) -> None:
    with neptune.init_run(mode=mode) as run:
        calls: list[Callable[..., None]] = [
            lambda **wait: run['a'].assign(1, **wait),
            lambda **wait: run['s'].append(1, **wait),
            lambda **wait: run['s'].extend([1, 2], **wait),
            lambda **wait: run['s'].log(1, **wait),
            lambda **wait: run['t'].add('x', **wait),
            lambda **wait: run['t'].remove('x', **wait),
            lambda **wait: run['t'].clear(**wait),
            lambda **wait: run['a'].pop(**wait),
        ]
        for call in calls:
            call(**({} if mode == 'sync' else {'wait': True}))
            assert run.experiment.pending == 0
        run['s'].append(3)
        run.sync()
        assert run.experiment.pending == 0


def test_debug_stores_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('NEPTUNE_MODE', 'debug')
    with neptune.init_run() as run:
        run['loss'].append(0.5)
        assert run['loss'].fetch_last() == 0.5
        assert run['sys/name'].fetch() == 'Untitled'
    assert not store.exists()


def test_read_only_refuses_writes() -> None:
    with neptune.init_run(custom_run_id='there') as run:
        run['a'] = 1
    with neptune.init_run(with_id='there', mode='read-only') as run:
        with pytest.raises(ReadOnlyError):
            run['a'] = 2
        assert run['a'].fetch() == 1


def test_a_run_that_is_named_wrongly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r'experiments\.db'):
        neptune.init_run(with_id='EXP-1')
    neptune.init_run(custom_run_id='digits-1').stop()
    with pytest.raises(neptune.exceptions.RunNotFound, match='digits-1'):
        neptune.init_run(with_id='digits-2')
    for arguments in (
        {'with_id': 'a', 'custom_run_id': 'b'},
        {'mode': 'read-only'},
        {'mode': 'on'},
        {'flush_period': 'x'},
    ):
        with pytest.raises(InvalidArgumentError):
            neptune.init_run(**arguments)  # type: ignore[arg-type]
    assert list_experiments() == ['digits-1']


def test_a_stopped_run_takes_nothing_more() -> None:
    run = neptune.init_run()
    assert run.get_state() == 'started'
    assert 'EXP-1' in run.get_url()
    run.stop()
    run.stop()
    assert run.get_state() == 'stopped'
    with pytest.raises(ExperimentClosedError):
        run['a'] = 1


def test_a_stop_that_takes_too_long_gives_up_and_keeps_what_is_left(
    store: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = neptune.init_run(custom_run_id='late')
    run.wait()
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute('BEGIN IMMEDIATE')
    run['loss'].append(0.5)
    run.stop(seconds=0.1)
    connection.close()
    assert 'were not stored within 0.1 seconds' in caplog.text
    assert '.spill' in capfd.readouterr().err
    with neptune.init_run(with_id='late', mode='read-only'):
        pass
    with neptune.init_run(with_id='late') as run:
        assert run['loss'].fetch_last() == 0.5


def test_what_is_asked_for_and_not_there_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    neptune.init_run(source_files=[], capture_stdout=False, git_ref=False).stop()
    assert caplog.records == []
    neptune.init_run(git_ref=True, capture_stdout=True, dependencies='infer').stop()
    (record,) = caplog.records
    assert 'capture_stdout, git_ref, dependencies have no effect' in record.getMessage()


def test_neither_a_run_nor_a_field_is_iterable() -> None:
    with neptune.init_run(mode='debug') as run:
        for one in (run, run['metrics']):
            with pytest.raises(TypeError, match='is not iterable'):
                iter(one)  # type: ignore[call-overload]  # as is right
            with pytest.raises(TypeError, match=r'is not (iterable|a container)'):
                assert 'loss' in one  # type: ignore[operator]  # as is right


def test_the_arguments_are_those_of_1_14() -> None:
    assert [*inspect.signature(neptune.init_run).parameters] == [
        'with_id', 'project', 'api_token', 'custom_run_id', 'mode', 'name', 'description', 'tags',
        'source_files', 'capture_stdout', 'capture_stderr', 'capture_hardware_metrics',
        'fail_on_exception', 'monitoring_namespace', 'flush_period', 'proxies',
        'capture_traceback', 'git_ref', 'dependencies', 'async_lag_callback',
        'async_lag_threshold', 'async_no_progress_callback', 'async_no_progress_threshold',
    ]  # fmt: skip


def test_what_comes_at_each_step_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with neptune.init_run(custom_run_id='warns') as run:
        for step in range(10):
            run['m'].append({'loss': 1.0, 'acc': None, '': 1.0}, step=step)
        run['m/acc'].append(object())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert sum('NoneType' in each for each in told) == 1
    assert sum('a key of a dict is empty' in each for each in told) == 1
