"""Reading queries: a text becomes an expression. Nothing of it is ever evaluated as code."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args

from neptune_async._model.paths import normalise
from neptune_async._model.query import (
    And,
    Aspect,
    Builtin,
    Comparison,
    Exists,
    Expression,
    Field,
    Literals,
    Not,
    Operand,
    Operator,
    Or,
    Variable,
    moment,
)
from neptune_async._model.showing import harmless
from neptune_async._model.states import State
from neptune_async.exceptions import InvalidPathError, InvalidQueryError

MOST_CHARACTERS = 10_000
MOST_NESTED = 50
"""Parentheses and ``not`` within each other."""

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<ticked>`(?:[^`]|``)*`(?:\.[a-z_]+)?)
    | (?P<operator><=|>=|!=|==|<>|[=<>~(),])
    | (?P<word>[^\s'"`=<>!~(),]+)
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(r'[+-]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][+-]?\d+)?')
_CONSTANTS: dict[str, bool | float | None] = {
    'true': True, 'false': False, 'null': None,
    'nan': math.nan, 'inf': math.inf, '+inf': math.inf, '-inf': -math.inf,
}  # fmt: skip
_KEYWORDS = ('and', 'or', 'not', 'in', 'exists')
_OPERATORS = ('=', '!=', '<', '<=', '>', '>=', '~')
_MISTAKEN = {'==': '=', '<>': '!='}
_END = 'the end'


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int

    @property
    def shown(self) -> str:
        return _END if self.kind == 'end' else repr(self.text)


def parsed(query: object) -> Expression:
    """Return what a query says.

    :raises InvalidQueryError: it is no query; the message shows where, and what was expected.
    """
    parser = _Parser(_checked(query))
    return parser.whole()


def parsed_operand(text: object) -> Operand:
    """Return what to sort by: a variable, an aspect of one, or a field.

    :raises InvalidQueryError: it is none of these.
    """
    parser = _Parser(_checked(text))
    operand = parser.operand()
    if isinstance(operand, Literals):
        raise parser.error(0, 'a path or a field to sort by')
    parser.require_end()
    return operand


def _checked(query: object) -> str:
    if not isinstance(query, str):
        raise InvalidQueryError(f'a query must be a str, not {type(query).__name__}')
    if len(query) > MOST_CHARACTERS:
        raise InvalidQueryError(
            f'a query may have {MOST_CHARACTERS:,} characters; this one has {len(query):,}'
        )
    return query


class _Parser:
    """Reads one query from left to right."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens = [*self._tokenised()]
        self._next = 0
        self._depth = 0

    def _tokenised(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._query):
            found = _TOKEN.match(self._query, position)
            if found is None:
                if self._query[position] in '\'"`':
                    raise self.error(position, f'another {self._query[position]} behind it')
                raise self.error(position, 'a path, a value or an operator')
            kind = str(found.lastgroup)
            if kind != 'space':
                yield _Token(kind, found[0], position)
            position = found.end()
        yield _Token('end', '', position)

    def error(self, position: int, expected: str, found: str | None = None) -> InvalidQueryError:
        """Return the error at a position of the query."""
        start = max(0, position - 60)
        line = self._query[start : start + 120]
        # One sign for each, so that the caret stands below the right one.
        line = ''.join(sign if harmless(sign) == sign else '?' for sign in line)
        instead = '' if found is None else f', not {harmless(found)}'
        return InvalidQueryError(
            f'the query is wrong at character {position + 1}: expected {expected}{instead}\n'
            f'  {line}\n  {" " * (position - start)}^'
        )

    def _wrong(self, token: _Token, expected: str) -> InvalidQueryError:
        return self.error(token.position, expected, token.shown)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _has(self, text: str) -> bool:
        """Take the next token if it is an operator or a keyword."""
        token = self._token
        is_it = token.kind in ('word', 'operator') and token.text.lower() == text
        self._next += is_it
        return is_it

    def require_end(self) -> None:
        """Refuse what is left."""
        if self._token.kind != 'end':
            raise self._wrong(self._token, "'and', 'or' or the end")

    def whole(self) -> Expression:
        """Read the whole query."""
        expression = self._either()
        self.require_end()
        return expression

    def _either(self) -> Expression:
        parts = [self._both()]
        while self._has('or'):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(parts)

    def _both(self) -> Expression:
        parts = [self._one()]
        while self._has('and'):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(parts)

    def _one(self) -> Expression:
        token = self._token
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise self.error(token.position, f'at most {MOST_NESTED} parts within each other')
        try:
            if self._has('not'):
                return Not(self._one())
            if self._has('('):
                inner = self._either()
                self._require(')')
                return inner
            if self._has('exists'):
                return self._existence()
            return self._comparison()
        finally:
            self._depth -= 1

    def _require(self, text: str) -> None:
        if not self._has(text):
            raise self._wrong(self._token, repr(text))

    def _existence(self) -> Expression:
        self._require('(')
        token = self._token
        operand = self.operand()
        if isinstance(operand, Literals):
            raise self._wrong(token, 'a path')
        self._require(')')
        return Exists(operand)

    def _comparison(self) -> Expression:
        first = self._token
        left = self.operand()
        operator = self._token
        if self._has('not'):
            self._require('in')
            return Not(self._membership(left))
        if self._has('in'):
            return self._membership(left)
        if operator.text in _MISTAKEN:
            raise self._wrong(operator, repr(_MISTAKEN[operator.text]))
        if operator.kind != 'operator' or operator.text not in _OPERATORS:
            raise self._wrong(operator, "one of = != < <= > >= ~ or 'in'")
        self._next += 1
        second = self._token
        right = self.operand()
        if isinstance(left, Literals) and isinstance(right, Literals):
            raise self._wrong(first, 'a path on one side')
        if operator.text == '~' and not _is_text(right):
            raise self._wrong(second, "a glob in quotes, as 'digits-*'")
        if operator.text != '~':
            self._check_field(left, right, second)
            self._check_field(right, left, first)
        return Comparison(left, cast('Operator', operator.text), right)

    def _membership(self, left: Operand | Literals) -> Expression:
        if not self._has('('):
            token = self._token
            right = self.operand()
            if isinstance(right, Literals):
                raise self._wrong(token, 'a path, or values in parentheses')
            return Comparison(left, 'in', right)
        values: list[Any] = []
        while not values or self._has(','):
            token = self._token
            value = self.operand()
            if not isinstance(value, Literals):
                raise self._wrong(token, 'a value; texts are in quotes')
            self._check_field(left, value, token)
            values += value.values
        self._require(')')
        if isinstance(left, Literals):
            raise self.error(0, 'a path before the values')
        return Comparison(left, 'in', Literals(tuple(values)))

    def _check_field(
        self, one: Operand | Literals, other: Operand | Literals, token: _Token
    ) -> None:
        """Refuse to compare what is known of each experiment with what it never is."""
        if not isinstance(one, Builtin) or not isinstance(other, Literals):
            return
        (value,) = other.values
        if one.field in ('created', 'last_time'):
            if not (isinstance(value, str) and isinstance(moment(value), datetime)):
                raise self._wrong(token, "a date in quotes, as '2026-11-01' or '2026-11-01 12:30'")
        elif one.field == 'state' and value not in get_args(State):
            raise self._wrong(token, f'one of {", ".join(map(repr, get_args(State)))}')

    def operand(self) -> Operand | Literals:
        """Read a value, a path or a field."""
        token = self._take()
        if token.kind == 'text':
            quote = token.text[0]
            return Literals((token.text[1:-1].replace(quote * 2, quote),))
        if token.kind == 'ticked':
            inner, _, aspect = token.text[1:].rpartition('`')
            return self._variable(token, inner.replace('``', '`'), aspect[1:] or None)
        if token.kind != 'word' or token.text.lower() in _KEYWORDS:
            raise self._wrong(token, 'a path or a value')
        if token.text.lower() in _CONSTANTS:
            return Literals((_CONSTANTS[token.text.lower()],))
        if _NUMBER.fullmatch(token.text):
            return Literals((self._number(token),))
        if token.text in get_args(Field):
            return Builtin(cast('Field', token.text))
        path, dot, aspect = token.text.rpartition('.')
        if dot and aspect in get_args(Aspect):
            return self._variable(token, path, aspect)
        return self._variable(token, token.text, None)

    def _number(self, token: _Token) -> int | float:
        try:
            return int(token.text)
        except ValueError:
            pass
        try:
            return float(token.text)
        except ValueError:
            raise self._wrong(token, 'a number') from None

    def _variable(self, token: _Token, path: str, aspect: str | None) -> Variable:
        if aspect is not None and aspect not in get_args(Aspect):
            raise self._wrong(token, f'one of .{", .".join(get_args(Aspect))}')
        try:
            return Variable(normalise(path), cast('Aspect | None', aspect))
        except InvalidPathError:
            raise self._wrong(token, 'a path') from None


def _is_text(side: Operand | Literals) -> bool:
    return isinstance(side, Literals) and isinstance(side.values[0], str)
