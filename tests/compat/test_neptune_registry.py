"""Projects, models and tables of runs, as code that was written for neptune 1.x uses them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import neptune_async.compat.neptune as neptune
from neptune_async import Experiment, list_experiments
from neptune_async.compat.neptune.types import File
from neptune_async.exceptions import (
    ExperimentExistsError,
    InvalidArgumentError,
    InvalidQueryError,
    ReadOnlyError,
)


def ids(table: Any) -> list[str]:
    return [row['sys/id'].get() for row in table]


@pytest.fixture
def runs() -> None:
    """Three runs, of which two are of one project."""
    for name, project, tags, lr in (
        ('a', 'team/digits', ['cnn', 'best'], 0.1),
        ('b', 'team/digits', ['cnn'], 0.01),
        ("c'", None, [], 0.5),
    ):
        with neptune.init_run(custom_run_id=name, project=project, tags=tags) as run:
            run['params'] = {'lr': lr, 'note': 'x'}
            run['loss'].extend([1.0, lr])
            run['weights'].upload(File.from_content(name))
            run['images'].append(File.from_content(name))
            run['data'].track_files(__file__)


# ── Projects ─────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures('any_store', 'runs')
def test_a_table_has_the_runs_of_a_project() -> None:
    with neptune.init_project(project='team/digits') as project:
        project['dataset'].upload(File.from_content('all'))
        project['general/brief'] = 'digits'
        frame = project.fetch_runs_table().to_pandas()
        assert frame['sys/id'].tolist() == ['b', 'a']  # the newest first
        assert frame['loss'].tolist() == [0.01, 0.1]
        assert frame['sys/tags'].tolist() == ['cnn', 'best,cnn']
        assert frame['data'].nunique() == 1
        assert len(frame['data'][0]) == 64
        assert frame.columns[0].startswith('sys/')
        assert not {'weights', 'images'} & {*frame.columns}
    with neptune.init_project(mode='read-only') as every:
        assert ids(every.fetch_runs_table(ascending=True)) == ['a', 'b', "c'"]
    assert list_experiments() == ['a', 'b', "c'", 'team/digits']


@pytest.mark.usefixtures('runs')
@pytest.mark.parametrize(
    ('criteria', 'expected'),
    [
        ({'id': 'a'}, ['a']),
        ({'id': ["c'", 'b', 'missing']}, ["c'", 'b']),
        ({'tag': 'cnn'}, ['b', 'a']),
        ({'tag': ['cnn', 'best']}, ['a']),
        ({'state': 'Inactive', 'id': ['a']}, ['a']),
        ({'state': ['active']}, []),
        ({'query': 'params/lr < 0.2 and loss.max = 1'}, ['b', 'a']),
        ({'query': 'params/lr = 0.1 or params/lr = 0.5'}, ["c'", 'a']),
        ({'sort_by': 'params/lr'}, ["c'", 'a', 'b']),
        ({'sort_by': 'params/lr', 'ascending': True, 'limit': 2}, ['b', 'a']),
        ({'trashed': True}, []),
        ({'trashed': None, 'progress_bar': False}, ["c'", 'b', 'a']),
    ],
)
def test_runs_are_told_by_criteria(criteria: dict[str, Any], expected: list[str]) -> None:
    with neptune.init_project(mode='read-only') as project:
        table = project.fetch_runs_table(**criteria)
        assert table.to_pandas().get('sys/id', default=[]).__len__() == len(expected)
        assert ids(table) == expected


@pytest.mark.usefixtures('runs')
def test_a_table_has_the_columns_that_are_asked_for() -> None:
    with neptune.init_project(mode='read-only') as project:
        table = project.fetch_runs_table(columns=['params/lr', 'no/such'], sort_by='loss')
    assert [*table.to_pandas().columns] == ['sys/id', 'loss', 'params/lr']
    assert len(table.to_rows()) == 3
    assert table.to_rows() == []


@pytest.mark.usefixtures('runs')
def test_a_row_gives_its_values_and_files(tmp_path: Path) -> None:
    with neptune.init_project(mode='read-only') as project:
        (row,) = project.fetch_runs_table(id='a').to_rows()
    assert row['params']['lr'].get() == row.get_attribute_value('params/lr') == 0.1
    assert row['loss'].get() == 0.1
    assert row['sys/tags'].get() == {'cnn', 'best'}
    assert len(row['data'].get()) == 64
    row['weights'].download(str(tmp_path / 'copy'))
    assert (tmp_path / 'copy').read_text() == 'a'
    with pytest.raises(ValueError, match='no/such'):
        row['no/such'].get()
    for path in ('weights', 'images'):
        with pytest.raises(neptune.exceptions.TypeDoesNotSupportAttributeException):
            row[path].get()


@pytest.mark.parametrize(
    ('criteria', 'error', 'why'),
    [
        ({'query': 'a = 1', 'id': 'a'}, InvalidArgumentError, 'or else'),
        ({'query': '(acc: float > 0.9)'}, InvalidQueryError, 'not NQL'),
        ({'owner': 'ada'}, InvalidArgumentError, 'owner'),
        ({'state': 'idle'}, InvalidArgumentError, 'idle'),
        ({'limit': 0}, InvalidArgumentError, 'limit'),
        ({'tag': [5]}, InvalidArgumentError, 'int'),
    ],
)
def test_criteria_that_mean_nothing_are_refused(
    criteria: dict[str, Any], error: type[Exception], why: str
) -> None:
    with neptune.init_project() as project, pytest.raises(error, match=why):
        project.fetch_runs_table(**criteria)


def test_a_project_need_not_be_there_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    neptune.init_run(project='team/digits', custom_run_id='a').stop()
    monkeypatch.setenv('NEPTUNE_PROJECT', 'team/digits')
    with neptune.init_project(mode='read-only') as project:
        assert ids(project.fetch_runs_table()) == ['a']
        assert project.fetch() == {}
    assert list_experiments() == ['a']
    neptune.init_project().stop()
    with neptune.init_project(mode='read-only') as project:
        assert project['sys/id'].fetch() == 'team/digits'
        assert project.get_root_object() is project
        with pytest.raises(ReadOnlyError):
            project['a'] = 1


# ── Models ───────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures('any_store')
def test_a_model_has_versions_with_stages() -> None:
    with neptune.init_model(key='DIGITS', name='classifier', project='p') as model:
        model['signature'].upload(File.from_content('{}', extension='json'))
        assert model['sys/name'].fetch() == 'classifier'
    for acc in (0.5, 0.75):
        with neptune.init_model_version(model='DIGITS', project='p') as version:
            version['acc'] = acc
            assert version['sys/stage'].fetch() == 'none'
    with neptune.init_model_version(with_id='DIGITS-2') as version:
        version.change_stage('production')
        assert version.experiment.pending == 0
        with pytest.raises(ValueError, match='staging'):
            version.change_stage('shipped')
    with neptune.init_model(with_id='DIGITS', mode='read-only') as model:
        versions = model.fetch_model_versions_table(sort_by='acc').to_pandas()
        assert versions['sys/id'].tolist() == ['DIGITS-2', 'DIGITS-1']
        assert versions['sys/stage'].tolist() == ['production', 'none']
        good = model.fetch_model_versions_table(query='acc > 0.6')
        assert ids(good) == ['DIGITS-2']
    with neptune.init_project(project='p', mode='read-only') as project:
        assert ids(project.fetch_models_table()) == ['DIGITS']
        assert ids(project.fetch_runs_table()) == []


def test_a_version_takes_the_next_number_that_is_free() -> None:
    neptune.init_model(key='M').stop()
    Experiment('M-1', echo=False).close()
    with neptune.init_model_version(model='M') as version:
        assert version['sys/id'].fetch() == 'M-2'


def test_projects_and_models_can_be_kept_nowhere(store: Path) -> None:
    with (
        neptune.init_project(mode='debug') as project,
        neptune.init_model(key='M', mode='debug') as model,
        neptune.init_model_version(model='M', mode='debug') as version,
    ):
        for container in (project, model, version):
            container['a'] = 1
            assert container['a'].fetch() == 1
        assert (model['sys/id'].fetch(), version['sys/id'].fetch()) == ('M', 'M-1')
    assert not store.exists()


def test_what_is_another_thing_is_refused() -> None:
    neptune.init_run(custom_run_id='digits').stop()
    neptune.init_model(key='M').stop()
    for call, error, why in (
        (lambda: neptune.init_project('digits'), InvalidArgumentError, 'is a run'),
        (lambda: neptune.init_model(with_id='digits'), InvalidArgumentError, 'no model'),
        (lambda: neptune.init_model_version(model='digits'), InvalidArgumentError, 'no model'),
        (lambda: neptune.init_model_version(with_id='M'), InvalidArgumentError, 'is a model'),
        (lambda: neptune.init_model(key='M'), ExperimentExistsError, 'M'),
        (lambda: neptune.init_model(), InvalidArgumentError, 'with_id or key'),
        (lambda: neptune.init_model_version(), InvalidArgumentError, 'with_id or model'),
        (lambda: neptune.init_model(key='N', mode='read-only'), InvalidArgumentError, 'with_id'),
        (lambda: neptune.init_model(with_id='N'), neptune.exceptions.RunNotFound, 'N'),
        (lambda: neptune.init_model_version(model='N'), neptune.exceptions.RunNotFound, 'N'),
    ):
        with pytest.raises(error, match=why):
            call()
    assert list_experiments() == ['digits', 'M']


def test_the_arguments_of_projects_and_models_are_those_of_1_14() -> None:
    others = [
        'mode', 'flush_period', 'proxies', 'async_lag_callback', 'async_lag_threshold',
        'async_no_progress_callback', 'async_no_progress_threshold',
    ]  # fmt: skip
    for init, expected in (
        (neptune.init_project, ['project', 'api_token']),
        (neptune.init_model, ['with_id', 'name', 'key', 'project', 'api_token']),
        (neptune.init_model_version, ['with_id', 'name', 'model', 'project', 'api_token']),
    ):
        assert [*inspect.signature(init).parameters] == expected + others
