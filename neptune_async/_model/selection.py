"""Which of many names or paths a call means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from typing import TypeAlias

from neptune_async.exceptions import InvalidArgumentError

Wanted: TypeAlias = str | re.Pattern[str] | Iterable[str] | None
"""One name or path, a glob, a compiled regular expression, or several names; None is all."""

_GLOB_CHARACTERS = re.compile(r'[*?[]')


@dataclass(frozen=True, slots=True)
class Selection:
    """Names of which each is meant exactly, or all that match a pattern.

    :ivar exact: the names; None if there is a pattern.
    """

    exact: tuple[str, ...] | None
    _matches: Callable[[str], object]

    def has(self, name: str) -> bool:
        """Whether a name is meant."""
        return bool(self._matches(name))


def selection(argument: str, wanted: object, check: Callable[[object], str]) -> Selection:
    """Return what an argument selects.

    A str that has one of the characters ``*?[`` is a glob; ``*`` stands for slashes, too.

    :param check: returns an exact name as it is stored, or raises.
    :raises InvalidArgumentError: when the argument selects nothing that could be.
    """
    if wanted is None:
        return Selection(None, re.compile('').match)
    if isinstance(wanted, re.Pattern):
        if not isinstance(wanted.pattern, str):
            raise InvalidArgumentError(f'{argument} must match str, not bytes: {wanted!r}')
        return Selection(None, wanted.search)
    if isinstance(wanted, str) and _GLOB_CHARACTERS.search(wanted):
        return Selection(None, re.compile(translate(wanted)).match)
    if not isinstance(wanted, Iterable) or isinstance(wanted, (bytes, bytearray, dict)):
        raise InvalidArgumentError(
            f'{argument} must be a name, a glob, a compiled regular expression or a list of names, '
            f'not {wanted!r}'
        )
    exact = tuple(map(check, [wanted] if isinstance(wanted, str) else wanted))
    return Selection(exact, frozenset(exact).__contains__)
