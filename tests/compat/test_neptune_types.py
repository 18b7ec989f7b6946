"""Values of ``neptune.types``, and what 1.x makes of None, empty keys, lists and other fields."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

import neptune_async.compat.neptune as neptune
from neptune_async.compat.neptune import types
from neptune_async.compat.neptune.utils import stringify_unsupported
from neptune_async.exceptions import (
    ContainerTypeError,
    InvalidArgumentError,
    UnsupportedValueError,
)

NOON = datetime(2026, 3, 5, 12, 0, 0, 123456, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ('value', 'expected', 'field_type'),
    [
        (types.Integer(5), 5, 'Integer'),
        (types.Integer('5'), 5, 'Integer'),
        (types.Integer(0.5), 0, 'Integer'),
        (types.Float(5), 5.0, 'Float'),
        (types.Boolean(1), True, 'Boolean'),
        (types.String('a'), 'a', 'String'),
        (types.String(stringify_unsupported(int)), "<class 'int'>", 'String'),
        (types.Datetime(NOON), NOON, 'Datetime'),
        (types.StringSet(['a', 'b', 'a']), {'a', 'b'}, 'StringSet'),
    ],
)
def test_a_typed_value_makes_a_field_of_its_type(
    run: Any, value: Any, expected: Any, field_type: str
) -> None:
    run['alone'] = value
    run['nested'] = {'deep': {'er': value}}
    assert run.define('defined', value).fetch() == expected
    for field in (run['alone'], run['nested/deep/er'], run['defined']):
        got = field.fetch()
        assert got == expected
        assert type(got) is type(expected)
        assert field.field_type() == field_type


def test_typed_values_are_told_apart_and_converted() -> None:
    assert types.Integer(5) == types.Integer(5) != types.Integer(6)
    assert types.Integer(1) != types.Boolean(True)
    assert types.Integer(1) != 1
    assert (int(types.Integer(5)), float(types.Float(2)), bool(types.Boolean(0))) == (5, 2.0, False)
    assert [*map(repr, (types.Float(2), types.FloatSeries([1]), types.StringSet('a')))] == [
        'Float(2.0)', 'FloatSeries([1.0])', "StringSet({'a'})"
    ]  # fmt: skip
    assert len(types.StringSeries(['a', 'b'])) == 2


@pytest.mark.parametrize(
    ('make', 'error'),
    [
        (lambda: types.String(5), UnsupportedValueError),
        (lambda: types.Datetime('now'), UnsupportedValueError),
        (lambda: types.FloatSeries(5.0), UnsupportedValueError),
        (lambda: types.FloatSeries([1.0], steps=[1, 2]), InvalidArgumentError),
        (lambda: types.StringSeries(['a'], timestamps=[]), InvalidArgumentError),
        (lambda: types.FileSeries([5]), UnsupportedValueError),
        (lambda: types.Artifact('abc'), InvalidArgumentError),
        (lambda: types.Integer('x'), ValueError),
    ],
)
def test_what_a_type_cannot_hold_is_refused(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_a_typed_series_replaces_the_points_of_a_field(run: Any) -> None:
    run['loss'].append(7.0)
    run['loss'] = types.FloatSeries([1, 2.5], steps=[3, 4], timestamps=[5, 6], min=0, unit='bit')
    assert run['loss']._view.all(with_steps=True, with_timestamps=True) == [
        (3, 5.0, 1.0), (4, 6.0, 2.5)
    ]  # fmt: skip
    run['text'] = types.StringSeries(stringify_unsupported([1, None]))
    assert run['text']._view.all() == ['1', 'None']
    run['files'] = types.FileSeries([types.File.from_content('a')], name='first')
    assert [file.name for file in run['files']._view.all()] == ['first.txt']
    run['loss'] = [0.5]
    assert run['loss']._view.all() == [0.5]
    run['loss'] = types.FloatSeries([])
    assert run['loss']._view.all() == []
    run['acc'] = 0.5
    with pytest.raises(ContainerTypeError):
        run['acc'] = types.FloatSeries([1.0])


def test_a_typed_set_replaces_the_members_of_a_field(run: Any) -> None:
    run['tags'].add(['old', 'older'])
    run['tags'] = types.StringSet(['new'])
    assert run['tags'].fetch() == {'new'}
    run['tags'] = types.StringSet([])
    assert run['tags'].fetch() == set()


def test_a_field_is_defined_once(run: Any) -> None:
    field = run.define('a/b', {'c': 1}, wait=True)
    assert field.fetch() == {'c': 1}
    for path in ('a', 'a/b', 'a/b/c'):
        with pytest.raises(neptune.exceptions.MetadataInconsistency, match=path):
            run.define(path, 2)
    assert run['a/b/c'].fetch() == 1


def test_a_field_is_assigned_from_another_one(run: Any) -> None:
    run['a'] = {'acc': 0.5, 'name': 'x', 'when': NOON}
    run['tags'].add('t')
    run['acc'] = run['a/acc']
    run['copies'] = {'name': run['a/name'], 'all': run['a']}
    run['a/acc'] = 0.25
    assert run['acc'].fetch() == 0.5
    assert run['copies'].fetch() == {
        'name': 'x', 'all': {'acc': 0.5, 'name': 'x', 'when': NOON}
    }  # fmt: skip
    run['loss'].append(1.0)
    with pytest.raises(ContainerTypeError, match='fetch_last'):
        run['copy'] = run['loss']
    with pytest.raises(neptune.exceptions.MissingFieldException):
        run['copy'] = run['missing']


def test_none_is_left_out_with_a_warning_as_in_1_x(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run['a'] = None
    run['b'] = {'c': None, 'd': 1}
    run['e'].append(None)
    assert not run.exists('a')
    assert not run.exists('e')
    assert run['b'].fetch() == {'d': 1}
    assert [record.getMessage().count('stringify_unsupported') for record in caplog.records] == [
        1, 1, 1
    ]  # fmt: skip
    run['a'] = stringify_unsupported(None)
    run['b'] = stringify_unsupported({'c': None})
    assert (run['a'].fetch(), run['b/c'].fetch()) == ('None', 'None')


def test_a_list_becomes_a_namespace_where_it_is_to_be_expanded(run: Any) -> None:
    value = {'tuple': ('hi', 1), 'deep': [{'x': [object]}, None], 'metric': 0.87, 'set': {2}}
    run['kept'] = stringify_unsupported({'tuple': ('hi', 'you'), 'metric': 0.87})
    assert run['kept'].fetch() == {'tuple': ['hi', 'you'], 'metric': 0.87}
    run['expanded'] = stringify_unsupported(value, expand=True)
    # As neptune.utils of 1.14.0 has it.
    assert run['expanded'].fetch() == {
        'tuple': {'0': 'hi', '1': 1}, 'metric': 0.87, 'set': {'0': 2},
        'deep': {'0': {'x': {'0': "<class 'object'>"}}, '1': 'None'},
    }  # fmt: skip
    assert str(stringify_unsupported({1: 2, (3, 4): 'x'}, expand=True)) == "{'1': 2, '(3, 4)': 'x'}"
    assert str(stringify_unsupported('x')) == 'x'
    run['single'] = stringify_unsupported(5, expand=True)
    assert run['single'].fetch() == 5
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedValueError, match='holds itself'):
        stringify_unsupported(endless, expand=True)


def test_a_repository_that_is_not_to_be_tracked_is_not_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    neptune.init_run(git_ref=types.GitRef.DISABLED, mode='debug').stop()
    assert caplog.records == []
    neptune.init_run(git_ref=types.GitRef('.'), mode='debug').stop()
    assert 'git_ref' in caplog.text
