"""Copies of configurations in which an atom can hold everything."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

from neptune_async._model.paths import normalise
from neptune_async._model.showing import harmless
from neptune_async._model.structures import (
    Above,
    Members,
    holds_structures,
    name_text,
    unfolded,
    within,
)
from neptune_async._model.values import AtomValue, assignable
from neptune_async.exceptions import InvalidPathError, UnsupportedValueError
from neptune_async.files import File

Stringified: TypeAlias = 'AtomValue | File | list[Stringified] | dict[str, Stringified]'


def stringified(config: object) -> Stringified:
    """Return a copy of a configuration in which what cannot be kept is ``str`` of it, so that
    ``assign`` takes the copy.

    ::

        >>> config = {'lr': 0.1, 'loss': abs, 'layers': {64, 10}, ('a', 1): 1j}
        >>> stringified(config)
        {'lr': 0.1, 'loss': '<built-in function abs>', 'layers': [10, 64], "('a', 1)": '1j'}

    Structures of every kind (a dataclass, ``argparse.Namespace``, OmegaConf, ...) become dicts,
    tuples and one-dimensional arrays become lists, and a set becomes a sorted list. What ``assign``
    keeps as a text, as a path or a date, is that text, and a ``File`` stays one. A key that can be
    none is ``str`` of it, with escapes for control characters; one that is there already gets a
    number, as ``'1 (2)'``.

    The original stays as it is. A text over the limit of 64 MB is not cut, and two keys of several
    levels that name one path, as in ``{'a/b': 1, 'a': {'b': 2}}``, are not told apart: ``assign``
    refuses them.

    :raises UnsupportedValueError: the configuration holds itself, or is nested deeper than 100.
    """
    return _stringified(config, 'config', ())


def _stringified(value: object, where: str, above: Above) -> Stringified:
    try:
        inner = unfolded(value)
    except UnsupportedValueError:
        return _text(value)
    if isinstance(inner, Members):
        return _dict(inner, where, within(above, value, where))
    if isinstance(inner, (list, tuple, set, frozenset)):
        above = within(above, value, where)
        items: list[Any] = [
            _stringified(item, f'{where}/{n}', above) for n, item in enumerate(inner)
        ]
        if not holds_structures(items):
            # It stays a list, which holds no files.
            items = [_text(item) if isinstance(item, File) else item for item in items]
        return _sorted(items) if isinstance(inner, (set, frozenset)) else items
    try:
        return assignable(inner)
    except UnsupportedValueError:
        return _text(inner)


def _dict(members: Members, where: str, above: Above) -> dict[str, Stringified]:
    copy: dict[str, Any] = {}
    for name, member in members:
        text = _free(_name(name), copy)
        copy[text] = _stringified(member, f'{where}/{text}', above)
    return copy


def _name(name: object) -> str:
    """Return a key that a path can have."""
    text = name_text(name)
    text = _text(name) if text is None else text
    try:
        return normalise(text)
    except InvalidPathError:
        return '/'.join(filter(None, harmless(text).split('/'))) or repr(text)


def _free(name: str, taken: Collection[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f'{name} ({number})'
    return free


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # of several types, or of one that has no order
        return sorted(items, key=lambda item: (type(item).__name__, str(item)))


def _text(value: object) -> str:
    try:
        # str(bytes) is a warning, or an error, under python -b; their repr is the same text.
        return repr(value) if isinstance(value, (bytes, bytearray)) else str(value)
    except Exception:  # anybody's code
        return object.__repr__(value)
