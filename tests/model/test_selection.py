"""What selects names and paths, and what does not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from neptune_async._model.paths import checked_name, normalise
from neptune_async._model.selection import any_of, selection
from neptune_async.exceptions import InvalidArgumentError, InvalidNameError, InvalidPathError

NAMES = ['a', 'b', 'a/b', 'a/bc', 'A', 'b[1]', 'b1', 'ab']


@pytest.mark.parametrize(
    ('wanted', 'chosen'),
    [
        (None, NAMES),
        ('a', ['a']),
        (['b', 'a', 'nowhere'], ['a', 'b']),
        ([], []),
        ({'b[1]'}, ['b[1]']),
        ({'a': 1, 'b': 2}.keys(), ['a', 'b']),
        ('a*', ['a', 'a/b', 'a/bc', 'ab']),
        ('b[1]', ['b[1]']),
        ('b[12]', ['b1']),
        ('a/?', ['a/b']),
        ('[!a]', ['b', 'A']),
        ('*', NAMES),
        (['a/*', 'b'], ['b', 'a/b', 'a/bc']),
        (['b[1]', 'nowhere*', 'A'], ['A', 'b[1]']),
        (re.compile('b$'), ['b', 'a/b', 'ab']),
        (re.compile('^a$', re.IGNORECASE), ['a', 'A']),
    ],
    ids=repr,
)
def test_a_selection_has_what_it_names(wanted: Any, chosen: list[str]) -> None:
    selected = selection('names', wanted, checked_name)
    assert selected.among(NAMES) == chosen


def test_several_selections_have_what_each_of_them_has() -> None:
    several = [selection('names', wanted, checked_name) for wanted in ('b[1]', 'b', '?')]
    assert any_of(several).among(NAMES) == ['a', 'b', 'A', 'b[1]']
    assert any_of(several).exact is None
    assert any_of(several[1:2] * 2).exact == ('b', 'b')


def test_only_names_are_exact() -> None:
    assert selection('names', ['b', 'a'], checked_name).exact == ('b', 'a')
    assert selection('paths', '/a//b/', normalise).exact == ('a/b',)
    for pattern in (None, 'a*', re.compile('a')):
        assert selection('names', pattern, checked_name).exact is None


def test_of_a_list_each_name_has_to_be_there_and_no_glob_has() -> None:
    assert selection('names', ['b', 'a*', 'A'], checked_name).required == ('b', 'A')
    assert selection('names', ['b', 'A'], checked_name).required == ('b', 'A')
    for pattern in (None, 'a*', re.compile('a')):
        assert selection('names', pattern, checked_name).required == ()


@pytest.mark.parametrize('wanted', [3, b'a', {'a': 1}, re.compile(b'a')], ids=repr)
def test_what_can_be_no_selection_is_refused_by_its_argument(wanted: Any) -> None:
    with pytest.raises(InvalidArgumentError, match='^paths must'):
        selection('paths', wanted, normalise)


def test_exact_names_are_checked() -> None:
    with pytest.raises(InvalidNameError):
        selection('names', '', checked_name)
    with pytest.raises(InvalidPathError):
        selection('paths', ['a', '//'], normalise)
