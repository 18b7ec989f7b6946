from __future__ import annotations

import enum

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neptune_async._model.paths import (
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    checked_name,
    namespaces_of,
    normalise,
)
from neptune_async.exceptions import InvalidNameError, InvalidPathError

REFUSED_CHARACTERS = ['\0', '\n', '\t', '\x1f', '\x7f', '\x80', '\x9f', '\ud800', '\udfff']

segments = st.text(
    st.characters(exclude_categories=('Cc', 'Cs'), exclude_characters='/'), min_size=1, max_size=20
)


class Metric(str, enum.Enum):
    LOSS = 'train/loss'


@pytest.mark.failure('F46', 'odd names: literal, or refused')
@pytest.mark.parametrize(
    ('path', 'normal'),
    [
        ('loss', 'loss'),
        ('train/loss', 'train/loss'),
        ('/train/loss', 'train/loss'),
        ('train/loss/', 'train/loss'),
        ('//train///loss//', 'train/loss'),
        ('.', '.'),
        ('a/../b', 'a/../b'),
        ('Train/Loss', 'Train/Loss'),
        (' a / b ', ' a / b '),
        ('\u202eabc', '\u202eabc'),
        ('\N{PILE OF POO}/\uffff', '\N{PILE OF POO}/\uffff'),
        ("'; DROP TABLE variables; --", "'; DROP TABLE variables; --"),
        ('%_*[a-z]', '%_*[a-z]'),
    ],
)
def test_only_superfluous_slashes_are_left_out(path: str, normal: str) -> None:
    assert normalise(path) == normal


@pytest.mark.failure('F46', 'odd names: literal, or refused')
def test_composed_and_decomposed_characters_are_two_paths() -> None:
    assert normalise('caf\u00e9') != normalise('cafe\u0301')


@pytest.mark.failure('F46', 'odd names: literal, or refused')
@pytest.mark.parametrize('path', ['', '/', '////'])
def test_a_path_without_a_segment_is_refused(path: str) -> None:
    with pytest.raises(InvalidPathError, match='at least one segment'):
        normalise(path)


@pytest.mark.parametrize('path', [None, 1, 1.5, b'loss', ['a'], ('a', 'b'), object()])
def test_what_is_no_str_is_no_path(path: object) -> None:
    with pytest.raises(InvalidPathError, match='must be a str'):
        normalise(path)


@pytest.mark.failure('F46', 'odd names: literal, or refused')
@pytest.mark.parametrize('character', REFUSED_CHARACTERS)
@pytest.mark.parametrize('form', ['{}', 'a{}b', 'a/{}'])
def test_control_characters_and_lone_surrogates_are_refused(form: str, character: str) -> None:
    with pytest.raises(InvalidPathError, match=r'control character|lone surrogate') as caught:
        normalise(form.format(character))
    str(caught.value).encode()  # what is refused as no UTF-8 must not be in the message


@pytest.mark.failure('F46', 'odd names: literal, or refused')
@pytest.mark.parametrize('character', ['a', '\u00e9', '\u20ac', '\N{PILE OF POO}'])
def test_the_limit_counts_bytes_of_utf_8(character: str) -> None:
    longest = character * (MAX_PATH_BYTES // len(character.encode()))
    longest += 'a' * (MAX_PATH_BYTES - len(longest.encode()))
    assert normalise(longest) == longest
    assert normalise(f'//{longest}//') == longest
    with pytest.raises(InvalidPathError, match='1,024'):
        normalise(longest + 'a')


@pytest.mark.failure('F46', 'odd names: literal, or refused')
def test_a_path_of_megabytes_is_refused_in_a_short_message() -> None:
    with pytest.raises(InvalidPathError) as caught:
        normalise('a' * 2**22)
    assert len(str(caught.value)) < 300


@given(st.lists(segments, min_size=1, max_size=5), st.data())
def test_slashes_between_segments_do_not_count(names: list[str], data: st.DataObject) -> None:
    slashes = st.integers(1, 3).map('/'.__mul__)
    path = ''.join(f'{data.draw(slashes)}{name}' for name in names) + '/'
    assert normalise(path) == '/'.join(names)


@given(st.text(st.characters(exclude_categories=())))
@example('\x85')
@example('/\ud83d\ude00')
def test_a_normal_path_is_normal_or_refused(path: str) -> None:
    try:
        normal = normalise(path)
    except InvalidPathError:
        return
    assert normalise(normal) == normal
    assert normal == '/'.join(filter(None, path.split('/')))
    normal.encode()


def test_a_subclass_of_str_becomes_the_str_that_it_is() -> None:
    # Formatted into a path below, an enum would show its own name.
    normal = normalise(Metric.LOSS)
    assert normal == 'train/loss'
    assert f'{normal}/x' == 'train/loss/x'
    assert type(normal) is str


def test_the_namespaces_of_a_path_come_innermost_first() -> None:
    assert [*namespaces_of('a/b/c/d')] == ['a/b/c', 'a/b', 'a']
    assert [*namespaces_of('a')] == []


# ── Names of experiments ─────────────────────────────────────────────────────


@pytest.mark.parametrize('name', ['EXP-1', 'a/b', '/', '..', ' ', '\N{PILE OF POO}', "'; --"])
def test_a_name_is_kept_as_it_is(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize('name', ['', None, 1, b'EXP-1', *REFUSED_CHARACTERS])
def test_a_bad_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidNameError):
        checked_name(name)


def test_the_limit_of_a_name_counts_bytes_of_utf_8() -> None:
    longest = '\u00e9' * (MAX_NAME_BYTES // 2)
    assert checked_name(longest) == longest
    with pytest.raises(InvalidNameError, match='256'):
        checked_name(longest + 'a')


def test_a_name_that_is_a_subclass_of_str_is_the_str_that_it_is() -> None:
    assert checked_name(Metric.LOSS) == 'train/loss'
    assert type(checked_name(Metric.LOSS)) is str
