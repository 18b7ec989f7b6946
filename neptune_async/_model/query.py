"""The query language: which experiments are meant, by what they hold.

An ``Expression`` tells whether it is true of an experiment; ``query_parsing`` makes one of a text.
docs/queries.md tells the language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import translate
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Literal, Protocol, TypeAlias

from neptune_async._model.dates import date_of

Aspect: TypeAlias = Literal[
    'last', 'first', 'min', 'max', 'mean', 'count', 'last_step', 'last_time'
]
Field: TypeAlias = Literal['name', 'created', 'last_time', 'state']
Operator: TypeAlias = Literal['=', '!=', '<', '<=', '>', '>=', '~', 'in']

MISSING: Any = object()
"""What an operand is where the experiment has nothing of that name, or nothing of that kind."""


@dataclass(frozen=True, slots=True)
class Variable:
    """What a variable holds.

    :ivar aspect: of a series; None is the value of an atom, the members of a set, and the last
        value of a series.
    """

    path: str
    aspect: Aspect | None = None


@dataclass(frozen=True, slots=True)
class Builtin:
    """What is known of each experiment."""

    field: Field


@dataclass(frozen=True, slots=True)
class Literals:
    """A value that stands in the query, or several in parentheses."""

    values: tuple[bool | int | float | str | None, ...]


Operand: TypeAlias = Variable | Builtin
Lookup: TypeAlias = Callable[[Operand], Any]
"""Returns what an operand is of one experiment: ``MISSING``, or a value; a set for a set."""


class Expression(Protocol):
    """A part of a query, or all of it."""

    def holds(self, lookup: Lookup) -> bool:
        """Whether it is true of an experiment."""

    def operands(self) -> Iterator[Operand]:
        """Yield what it has to know of an experiment."""


@dataclass(frozen=True, slots=True)
class And:
    parts: Sequence[Expression]

    def holds(self, lookup: Lookup) -> bool:
        return all(part.holds(lookup) for part in self.parts)

    def operands(self) -> Iterator[Operand]:
        for part in self.parts:
            yield from part.operands()


@dataclass(frozen=True, slots=True)
class Or:
    parts: Sequence[Expression]

    def holds(self, lookup: Lookup) -> bool:
        return any(part.holds(lookup) for part in self.parts)

    def operands(self) -> Iterator[Operand]:
        for part in self.parts:
            yield from part.operands()


@dataclass(frozen=True, slots=True)
class Not:
    part: Expression

    def holds(self, lookup: Lookup) -> bool:
        return not self.part.holds(lookup)

    def operands(self) -> Iterator[Operand]:
        return self.part.operands()


@dataclass(frozen=True, slots=True)
class Exists:
    operand: Operand

    def holds(self, lookup: Lookup) -> bool:
        return lookup(self.operand) is not MISSING

    def operands(self) -> Iterator[Operand]:
        yield self.operand


@dataclass(frozen=True, slots=True)
class Comparison:
    left: Operand | Literals
    operator: Operator
    right: Operand | Literals

    def holds(self, lookup: Lookup) -> bool:
        left = self.left if isinstance(self.left, Literals) else lookup(self.left)
        right = self.right if isinstance(self.right, Literals) else lookup(self.right)
        if left is MISSING or right is MISSING:
            return False
        if self.operator == 'in':
            return _is_in(left, right)
        return _compared(_plain(left), self.operator, _plain(right))

    def operands(self) -> Iterator[Operand]:
        for side in (self.left, self.right):
            if not isinstance(side, Literals):
                yield side


def parts_of(expression: Expression | None) -> Sequence[Expression]:
    """Return what all has to hold for an expression to hold; None always holds."""
    if expression is None:
        return []
    return expression.parts if isinstance(expression, And) else [expression]


def _plain(side: Any) -> Any:
    return side.values[0] if isinstance(side, Literals) else side


def _is_in(left: Any, right: Any) -> bool:
    value = _plain(left)
    members = right.values if isinstance(right, Literals) else right
    if not isinstance(members, (set, list, tuple)):
        return False
    return any(_compared(value, '=', member) for member in members)


_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    '=': eq,
    '!=': ne,
    '<': lt,
    '<=': le,
    '>': gt,
    '>=': ge,
}


def _compared(left: Any, operator: str, right: Any) -> bool:
    """Compare two values; False if they are of different types."""
    if operator == '~':
        return isinstance(left, str) and isinstance(right, str) and bool(_glob(right).match(left))
    if isinstance(left, datetime) or isinstance(right, datetime):
        left, right = moment(left), moment(right)
    kinds = _kind(left), _kind(right)
    if 'null' in kinds and operator in ('=', '!='):
        return (kinds[0] == kinds[1]) == (operator == '=')
    if kinds[0] != kinds[1] or kinds[0] in ('null', 'other'):
        return False
    if kinds[0] in ('bool', 'list') and operator not in ('=', '!='):
        return False
    return _ORDERED[operator](left, right)


_KINDS: dict[type, str] = {
    type(None): 'null',
    bool: 'bool',
    int: 'number',
    float: 'number',
    str: 'text',
    datetime: 'datetime',
    list: 'list',
    set: 'list',
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), 'other')


def moment(value: Any) -> Any:
    """Return a datetime that has an offset, of one or of a text in ISO 8601; else the value."""
    found = _moment_of_text(value) if isinstance(value, str) else value
    if not isinstance(found, datetime):
        return value
    if found.tzinfo is not None:
        return found
    try:
        return found.astimezone()  # without an offset it is local time, as everywhere
    except (OSError, OverflowError, ValueError):
        # At the ends of what a datetime can be, local time is not known.
        return found.replace(tzinfo=timezone.utc)


@lru_cache(maxsize=256)
def _moment_of_text(text: str) -> datetime | None:
    try:
        return date_of(text)
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _glob(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))
