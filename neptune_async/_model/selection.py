"""Which of many names or paths a call means."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import partial
from typing import TypeAlias, TypeGuard

from neptune_async.exceptions import InvalidArgumentError

Wanted: TypeAlias = str | re.Pattern[str] | Iterable[str] | None
"""One name or path, a glob, several of these, or a compiled regular expression; None is all."""

_GLOB_CHARACTERS = re.compile(r'[*?[]')


@dataclass(frozen=True, slots=True)
class Selection:
    """Names of which each is meant exactly, or all that match a pattern.

    :ivar named: the names and globs that were given.
    :ivar exact: the names; None if there is a pattern.
    :ivar required: the names, of which each has to be there.
    """

    named: tuple[str, ...]
    exact: tuple[str, ...] | None
    required: tuple[str, ...]
    _among: Callable[[Collection[str]], Iterable[str]]

    def among(self, known: Collection[str]) -> list[str]:
        """Return which of some names are meant, in the order in which they are."""
        meant = frozenset(self._among(known))
        return [name for name in known if name in meant]


def selection(argument: str, wanted: object, check: Callable[[object], str]) -> Selection:
    """Return what an argument selects.

    A str that has one of the characters ``*?[`` is a glob, unless it is itself one of the names;
    ``*`` stands for slashes, too.

    :param check: returns an exact name as it is stored, or raises.
    :raises InvalidArgumentError: when the argument selects nothing that could be.
    """
    if wanted is None:
        return Selection((), None, (), frozenset)
    if isinstance(wanted, re.Pattern):
        if not isinstance(wanted.pattern, str):
            raise InvalidArgumentError(f'{argument} must match str, not bytes: {wanted!r}')
        return Selection((), None, (), partial(filter, wanted.search))
    if _is_glob(wanted):
        return _glob(wanted)
    if not isinstance(wanted, Iterable) or isinstance(wanted, (bytes, bytearray, dict)):
        raise InvalidArgumentError(
            f'{argument} must be a name, a glob, a compiled regular expression or a list of names, '
            f'not {wanted!r}'
        )
    items = [wanted] if isinstance(wanted, str) else [*wanted]
    if any(map(_is_glob, items)):
        return any_of([_glob(each) if _is_glob(each) else _exact([check(each)]) for each in items])
    return _exact([*map(check, items)])


def _is_glob(wanted: object) -> TypeGuard[str]:
    return isinstance(wanted, str) and _GLOB_CHARACTERS.search(wanted) is not None


def _glob(glob: str) -> Selection:
    return Selection((glob,), None, (), partial(_of_glob, glob))


def _exact(names: Sequence[str]) -> Selection:
    exact = tuple(names)
    return Selection(exact, exact, exact, frozenset(exact).intersection)


def any_of(selections: Sequence[Selection]) -> Selection:
    """Return the selection of what at least one of several selects."""
    named = tuple(name for one in selections for name in one.named)
    is_exact = all(one.exact is not None for one in selections)
    return Selection(
        named,
        named if is_exact else None,
        tuple(name for one in selections for name in one.required),
        lambda known: (name for one in selections for name in one.among(known)),
    )


def _of_glob(glob: str, known: Collection[str]) -> Iterable[str]:
    return (glob,) if glob in known else filter(re.compile(translate(glob)).match, known)
