"""The query language: what queries mean, and what is said of those that are none."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neptune_async._model.query import MISSING, Builtin, Operand, Variable
from neptune_async._model.query_parsing import (
    MOST_CHARACTERS,
    MOST_NESTED,
    parsed,
    parsed_operand,
)
from neptune_async.exceptions import InvalidQueryError, NeptuneAsyncError

NOON = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
VALUES: dict[str, Any] = {
    'params/lr': 0.005, 'params/epochs': 20, 'params/optimizer': 'adam', 'params/flag': True,
    'params/seed': None, 'params/layers': [1, 2, 3], 'tags': {'cnn', 'it\'s'}, 'acc': 0.9,
    'acc.max': 0.95, 'acc.count': 100, 'odd name (1)': 3, 'a-b.c': 1, 'undefined': math.nan,
    'when': NOON, 'text': '2026-11-01', 'state': 'mine',
}  # fmt: skip
FIELDS: dict[str, Any] = {'name': 'digits-7', 'created': NOON, 'state': 'closed'}


def look_up(operand: Operand) -> Any:
    if isinstance(operand, Builtin):
        return FIELDS.get(operand.field, MISSING)
    aspect = '' if operand.aspect is None else f'.{operand.aspect}'
    return VALUES.get(operand.path + aspect, MISSING)


def holds(query: str) -> bool:
    return parsed(query).holds(look_up)


@pytest.mark.parametrize(
    'query',
    [
        'params/lr < 0.01', '0.01 > params/lr', 'params/lr=5e-3', 'params/epochs = 20.0',
        'params/lr != 0.1', "params/optimizer = 'adam'", 'params/optimizer = "adam"',
        "params/optimizer >= 'ad'", "params/optimizer ~ 'a*m'", "name ~ 'digits-[0-9]'",
        'params/flag = true', 'params/flag != false', 'params/flag = TRUE',
        'params/seed = null', 'params/lr != null', 'not params/lr = null',
        "'cnn' in tags", "'it''s' in tags", '2 in params/layers', 'params/lr in (0.1, 0.005)',
        'params/lr not in (0.1, 0.2)', 'params/epochs in (20)', 'exists(params/seed)',
        'exists(name)', 'acc.max > 0.9', 'acc.max>acc', '`acc`.max = 0.95', '`odd name (1)` = 3',
        'a-b.c = 1', 'acc.count = 100', "state = 'closed'", "`state` = 'mine'",
        "created > '2026-10-31'", "created > '20261031'", "created = '20261101T120000Z'",
        "created = '2026-11-01T12:00:00Z'", "created < '2026-11-01 13:00+00:00'",
        "when <= '2026-11-01T12:00:00+00:00'", "text = '2026-11-01'", 'undefined != 1',
        'params/lr > -inf',
        'not nothing = 1', 'not (params/lr > 1 or params/epochs < 5)',
        'params/lr > 1 or params/epochs > 5 and acc > 0.5', 'NOT params/lr > 1 AND acc > 0.5',
        '  params/lr\n<\t1 ', '/params/lr/ < 1',
    ],
)  # fmt: skip
def test_what_is_true(query: str) -> None:
    assert holds(query)


@pytest.mark.parametrize(
    'query',
    [
        'nothing = 1', 'nothing != 1', 'nothing < 1', '1 in nothing', "nothing ~ '*'",
        'exists(nothing)', 'not exists(params/lr)', "params/lr = '0.005'", "params/lr != '0.005'",
        'params/flag = 1', 'params/flag != 1', 'params/optimizer < 3', 'params/seed = 0',
        'params/seed < 1', 'params/lr = null', 'nothing = null', 'nothing != null',
        "params/optimizer ~ 'd*'", "params/optimizer ~ 'ada'", "params/lr ~ '*'", "'rnn' in tags",
        "'a' in params/optimizer", "'2' in params/layers", 'true in params/layers',
        'params/lr in (1, 2)', 'nothing in (1)', 'acc.min > 0',
        'undefined = undefined', 'undefined < 1',
        "when < 'soon'", "when = 5", 'params/layers = 1', 'params/flag < true',
        "state = 'lost'", "state ~ 'mine'", "last_time > '2020-01-01'",
        'params/lr < 1 and nothing = 1',
        '(params/lr > 1 or params/epochs > 5) and acc < 0.5',
    ],
)  # fmt: skip
def test_what_is_false(query: str) -> None:
    assert not holds(query)


def test_integers_and_floats_compare_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUES, 'n', 2**53 + 1)
    assert holds(f'n = {2**53 + 1}') and not holds(f'n = {2**53}.0') and holds(f'n > {2**53}.0')


def test_a_date_at_the_ends_of_time_compares_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert holds("created > '0001-01-01'") and holds("created < '9999-12-31T23:59:59.999999'")
    monkeypatch.setitem(VALUES, 'when', datetime.min)
    assert holds("when < '2026-11-01'") and holds("when < '9999-12-31'")


def test_a_day_without_an_offset_begins_at_local_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = datetime(2026, 11, 2).astimezone()
    monkeypatch.setitem(FIELDS, 'created', midnight)
    assert holds("created = '2026-11-02'") and not holds("created < '2026-11-02'")
    monkeypatch.setitem(FIELDS, 'created', midnight - timedelta(microseconds=1))
    assert holds("created < '2026-11-02'")


@pytest.mark.parametrize(
    ('query', 'character', 'expected'),
    [
        ('', 1, 'a path or a value'),
        ('params/lr', 10, 'one of = !='),
        ('params/lr <', 12, 'a path or a value, not the end'),
        ('params/lr < and acc > 1', 13, "a path or a value, not 'and'"),
        ('params/lr == 1', 11, "'=', not '=='"),
        ('params/lr <> 1', 11, "'!=', not '<>'"),
        ('a = 1 b = 2', 7, "'and', 'or' or the end, not 'b'"),
        ('(a = 1', 7, "')'"),
        ('a = 1)', 6, "'and', 'or' or the end"),
        ("a = 'x", 5, "another ' behind it"),
        ('a = `x', 5, 'another ` behind it'),
        ('a ! 1', 3, 'a path, a value or an operator'),
        ('1 = 2', 1, 'a path on one side'),
        ('exists 3', 8, "'('"),
        ('exists(3)', 8, 'a path'),
        ('a ~ b', 5, 'a glob in quotes'),
        ('a ~ 3', 5, 'a glob in quotes'),
        ('3 in 4', 6, 'a path, or values in parentheses'),
        ('a in (b)', 7, 'a value; texts are in quotes'),
        ('a in ()', 7, 'a path or a value'),
        ('1 in (1)', 1, 'a path before the values'),
        ('a not = 1', 7, "'in'"),
        ('created > 5', 11, 'a date in quotes'),
        ("created > 'soon'", 11, 'a date in quotes'),
        ("'soon' < last_time", 1, 'a date in quotes'),
        ("created in ('2026-11-01', 'soon')", 27, 'a date in quotes'),
        ("state = 'runing'", 9, "one of 'running', 'closed', 'lost'"),
        ('state = 3', 9, "one of 'running'"),
        ("state in ('lost', 'dead')", 19, "one of 'running'"),
        ('`a`.most = 1', 1, 'one of .last, .first'),
        ('`` = 1', 1, 'a path'),
        ('not', 4, 'a path or a value'),
        ('a = 1 and', 10, 'a path or a value, not the end'),
    ],
)
def test_what_is_no_query_is_told_with_its_place(query: str, character: int, expected: str) -> None:
    with pytest.raises(InvalidQueryError) as raised:
        parsed(query)
    assert isinstance(raised.value, ValueError) and isinstance(raised.value, NeptuneAsyncError)
    first, line, caret = str(raised.value).split('\n')
    assert first.startswith(f'the query is wrong at character {character}: expected {expected}')
    assert line == f'  {query}'
    assert caret.index('^') == character + 1


def test_a_stranger_forges_no_line_of_a_message() -> None:
    with pytest.raises(InvalidQueryError) as raised:
        parsed('a = \x1b[31m\u202e \n ==' + ' ' * 200 + '&')
    message = str(raised.value)
    assert message.count('\n') == 2 and '\x1b' not in message and '\u202e' not in message


@pytest.mark.parametrize('query', [None, 3, b'a = 1', ['a = 1']])
def test_a_query_is_a_str(query: Any) -> None:
    with pytest.raises(InvalidQueryError, match='must be a str'):
        parsed(query)


def test_a_query_is_bounded() -> None:
    parsed('(' * (MOST_NESTED - 1) + 'a = 1' + ')' * (MOST_NESTED - 1))
    for deep in ('(' * 5000 + 'a = 1' + ')' * 4000, 'not ' * 2000 + 'a = 1'):
        with pytest.raises(InvalidQueryError, match='within each other'):
            parsed(deep)
    with pytest.raises(InvalidQueryError, match='10,000 characters'):
        parsed('a' * (MOST_CHARACTERS + 1))


_WORDS = [
    'a', 'b/c', '1', '0.5', "'t'", '`a b`', 'and', 'or', 'not', 'in', 'exists', '(', ')', ',', '=',
    '!=', '<', '~', 'true', 'null', 'name', 'created', "'2026-01-01'", 'a.max', '==', '!', "'",
]  # fmt: skip


@given(st.text(max_size=60) | st.lists(st.sampled_from(_WORDS), max_size=14).map(' '.join))
@example('0_ = a')
@example('1' * 5000 + ' = a')
@example('٣ = a')
def test_whatever_the_text_it_is_a_query_or_told(text: str) -> None:
    try:
        expression = parsed(text)
    except InvalidQueryError:
        return
    assert expression.holds(look_up) in (True, False)
    assert all(isinstance(each, (Builtin, Variable)) for each in expression.operands())


atoms = st.sampled_from(['params/lr < 1', 'params/lr > 1', 'nothing = 1', 'exists(acc)'])


@st.composite
def nested(draw: st.DrawFn, depth: int = 4) -> tuple[str, bool]:
    """Return a query and whether it holds, by an evaluation of its own."""
    kind = draw(st.sampled_from(['atom', 'not', 'and', 'or'])) if depth else 'atom'
    if kind == 'atom':
        atom = draw(atoms)
        return atom, atom in ('params/lr < 1', 'exists(acc)')
    one, one_holds = draw(nested(depth=depth - 1))
    if kind == 'not':
        return f'not ({one})', not one_holds
    other, other_holds = draw(nested(depth=depth - 1))
    both = one_holds and other_holds if kind == 'and' else one_holds or other_holds
    return f'({one}) {kind} ({other})', both


@given(nested())
def test_and_or_and_not_mean_what_they_say(case: tuple[str, bool]) -> None:
    query, expected = case
    assert holds(query) is expected


def test_what_is_sorted_by_is_one_operand() -> None:
    assert parsed_operand('valid/acc.max') == Variable('valid/acc', 'max')
    assert parsed_operand(' created ') == Builtin('created')
    for wrong in ('', '3', "'a'", 'a = 1', 'a b', 'not a'):
        with pytest.raises(InvalidQueryError):
            parsed_operand(wrong)
