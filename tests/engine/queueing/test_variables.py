"""What a process knows of an experiment's variables, and which writes that allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async._engine.queueing.variables import NO_ENTRY, Variables
from neptune_async._model.operations import Variable
from neptune_async._model.paths import is_at_or_below, namespaces_of
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    NamespaceConflictError,
    NeptuneAsyncError,
    VariableNotFoundError,
)

paths = st.lists(st.sampled_from('abc'), min_size=1, max_size=3).map('/'.join)
changes = st.lists(st.tuples(st.sampled_from(['add', 'forget']), paths), max_size=30)


def series(path: str, variable_id: int = 1) -> Variable:
    return Variable(variable_id, path, 'series', 'float')


def with_stored(*variables: Variable) -> Variables:
    known = Variables('EXP')
    known.load(variables)
    return known


@given(st.sets(paths), changes)
def test_a_namespace_is_what_variables_are_below(
    stored: set[str], changes: list[tuple[str, str]]
) -> None:
    there = {path for path in stored if not stored & {*namespaces_of(path)}}
    known = with_stored(*map(series, there))
    for change, path in changes:
        if change == 'forget':
            gone = {other for other in there if is_at_or_below(other, path)}
            assert {*known.forget_below(path)} == gone
            there -= gone
        else:
            namespaces = {namespace for other in there for namespace in namespaces_of(other)}
            if path in namespaces or there & {*namespaces_of(path)}:
                with pytest.raises(NamespaceConflictError):
                    known.plan('series', [(path, 'float')], 'log')
                continue
            known.add(known.plan('series', [(path, 'float')], 'log').new)
            there.add(path)
        namespaces = {namespace for other in there for namespace in namespaces_of(other)}
        assert {*known.paths()} == there
        assert {path for path in ('a', 'b', 'a/b', 'b/c') if known.is_namespace(path)} == (
            namespaces & {'a', 'b', 'a/b', 'b/c'}
        )


@pytest.mark.parametrize(
    ('path', 'content', 'error'),
    [
        ('loss', 'str', ContentTypeError),
        ('lr', 'float', ContainerTypeError),
        ('loss/train', 'float', NamespaceConflictError),
        ('valid', 'float', NamespaceConflictError),
        ('new', 'float', NamespaceConflictError),
    ],
)
def test_a_plan_that_is_refused_changes_nothing(
    path: str, content: str, error: type[NeptuneAsyncError]
) -> None:
    known = with_stored(series('loss'), series('valid/loss', 2), Variable(3, 'lr', 'atom', 'float'))

    with pytest.raises(error):
        known.plan('series', [('new/one', 'float'), (path, content)], 'log')  # type: ignore[list-item]

    assert {*known.paths()} == {'loss', 'valid/loss', 'lr'}
    assert not known.is_namespace('new')


def test_a_plan_names_an_entry_as_often_as_the_call_does() -> None:
    known = with_stored(series('loss'))

    plan = known.plan('series', [('loss', 'float'), ('new', 'float'), ('new', 'float')], 'log')

    assert [entry.path for entry in plan.entries] == ['loss', 'new', 'new']
    assert plan.entries[1] is plan.entries[2]
    assert [*plan.new] == ['new']


def test_what_storage_has_is_an_entry_once_it_is_named() -> None:
    known = with_stored(series('loss', 7))

    assert known.named('loss') is NO_ENTRY
    entry = known.existing('loss', 'series', 'log')
    assert known.named('loss') is entry
    assert entry.id == 7
    assert entry.key is not None
    with pytest.raises(VariableNotFoundError, match='loss'):
        known.existing('lost', 'series', 'log')


def test_a_forgotten_id_takes_the_key_with_it_and_leaves_the_variable() -> None:
    known = with_stored(series('loss', 7), series('other', 8))
    entry = known.existing('loss', 'series', 'log')

    known.forget_all_ids()

    assert entry.id is entry.key is None
    assert known.existing('other', 'series', 'log').id is None
    assert {*known.paths()} == {'loss', 'other'}
    known.announce(entry, 9)
    assert known.with_ids({9}) == [entry]
    assert entry.key is not None


def test_no_entry_has_a_key_once_they_are_withheld() -> None:
    known = with_stored(series('loss', 7), series('other', 8))
    entry = known.existing('loss', 'series', 'log')

    known.withhold_keys()

    assert entry.key is None
    assert known.existing('other', 'series', 'log').key is None
