"""What has members with names: dicts, and configurations of every kind.

The libraries that such a configuration comes from are never imported. Its type tells what it is,
and is looked at once.
"""

from __future__ import annotations

import enum
import operator
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, TypeAlias

from neptune_async._model.paths import normalise
from neptune_async._model.showing import shortened
from neptune_async.exceptions import InvalidPathError, UnsupportedValueError
from neptune_async.files import File, FileReference, Histogram

MAX_DEPTH = 100
"""How deep structures and lists may be nested."""

Above: TypeAlias = tuple[int, ...]
"""The ids of what a value is nested in."""

Join: TypeAlias = Callable[[str, object], 'str | None']
"""Returns the path of a member by that of the structure and its name; None leaves it out."""

_ABSENT: Any = object()
_LONGEST_INT = 2**12
"""Bits of an int that is a key. Beyond, the path would be over its limit."""


class Members(list[tuple[object, object]]):
    """The members of a structure, each with its name: one level, in order."""


def is_scalar(value: object) -> bool:
    """Whether a value is neither a structure nor a list."""
    return _unfold(value) is None


def is_structured(kind: type) -> bool:
    """Whether instances of a class are structures, or lists."""
    return _unfolding(kind) is not None


def unfolded(value: object) -> object:
    """Return the ``Members`` of a structure, the items of a list or tuple, or any other value
    itself.

    :raises UnsupportedValueError: the structure's own code fails.
    """
    unfold = _unfold(value)
    if unfold is None:
        return value
    try:
        return unfold(value)
    except Exception as error:  # a property, a mapping or a resolver: anybody's code
        kind = type(value).__name__
        raise UnsupportedValueError(
            f'the members of a value of type {kind} cannot be read: {error!r}; give them as a dict'
        ) from error


def leaves_of(
    path: str, value: object, *, splits_lists: bool = False, join: Join | None = None
) -> Iterator[tuple[str, object]]:
    """Yield path and value of each leaf of nested structures; of any other value, itself.

    :param splits_lists: whether the members of a list that holds structures are leaves, too, with
        their positions as names.
    :param join: what makes the paths of members; None is ``joined``.
    :raises InvalidPathError: a name is none.
    :raises UnsupportedValueError: the value holds itself, or is nested too deep.
    """
    return _leaves_of(path, value, (), splits_lists, join or joined)


def _leaves_of(
    path: str, value: object, above: Above, splits_lists: bool, join: Join
) -> Iterator[tuple[str, object]]:
    members = unfolded(value)
    if splits_lists and holds_structures(members):
        members = Members(enumerate(members))  # type: ignore[arg-type]  # a list, or a tuple
    if not isinstance(members, Members):
        yield path, members
        return
    above = within(above, value, path)
    for name, member in members:
        below = join(path, name)
        if below is None:
            continue
        if is_scalar(member):  # as most are
            yield below, member
        else:
            yield from _leaves_of(below, member, above, splits_lists, join)


def holds_structures(items: object, depth: int = 0) -> bool:
    """Whether there is a structure in a list, or in the lists in it."""
    # One list of many numbers is the usual one, and is told by the types of its items.
    if not isinstance(items, (list, tuple)) or isinstance(items, Members):
        return False
    if not any(map(_unfolding, {*map(type, items)})) or depth == MAX_DEPTH:
        return False
    inner = map(unfolded, items)
    return any(isinstance(one, Members) or holds_structures(one, depth + 1) for one in inner)


def within(above: Above, value: object, where: str) -> Above:
    """Return what the members of a value are nested in.

    :param where: the value's path, for the error.
    :raises UnsupportedValueError: the value holds itself, or is nested too deep.
    """
    if id(value) in above:
        raise UnsupportedValueError(
            f'a {type(value).__name__} holds itself, at {shortened(where)}; leave that out'
        )
    if len(above) == MAX_DEPTH:
        raise UnsupportedValueError(
            f'what is at {shortened(where)} is nested deeper than {MAX_DEPTH}; flatten it'
        )
    return (*above, id(value))


# ── Names ────────────────────────────────────────────────────────────────────


def joined(path: str, name: object) -> str:
    """Return the path of a member.

    :raises InvalidPathError: its name is no path, or makes one that is too long.
    """
    text = name if type(name) is str else name_text(name)
    if text is None:
        raise InvalidPathError(
            f'a key must be a str, an int or an Enum, not {type(name).__name__}: '
            f'{shortened(name)}, at {shortened(path)}; neptune_async.stringified(config) makes a '
            'str of it'
        )
    # By itself only where it is empty: the error says so, and all else is in the path.
    return normalise(f'{path}/{text}' if text.strip('/') else text)


def name_text(name: object) -> str | None:
    """Return the text of a key that is a str, an int or an Enum; None of any other."""
    if isinstance(name, str):
        return str.__str__(name)  # an enum would format as its own name
    if isinstance(name, bool):
        return str(name)
    with suppress(TypeError):
        number = operator.index(name)  # type: ignore[arg-type]  # TypeError is the check
        return str(number) if number.bit_length() < _LONGEST_INT else None
    return enum_text(name) if isinstance(name, enum.Enum) else None


def enum_text(member: enum.Enum) -> str:
    """Return the name of a member of an Enum."""
    # A Flag of several has none before Python 3.11.
    name: str | None = member.name
    return str(member) if name is None else name


# ── Kinds of structures ──────────────────────────────────────────────────────


def _unfold(value: object) -> Callable[[Any], object] | None:
    kind: Any = type(value)  # mypy says that a type cannot be hashed
    return _unfolding(kind)


@lru_cache(maxsize=1024)
def _unfolding(kind: type) -> Callable[[Any], object] | None:
    """Return what unfolds values of a type; None if that is neither a structure nor a list."""
    if issubclass(kind, (str, int, float, enum.Enum, File, FileReference, Histogram)):
        return None
    omegaconf = sys.modules.get('omegaconf')
    if issubclass(kind, getattr(omegaconf, 'DictConfig', ())):
        return _omegaconf_dict
    if issubclass(kind, getattr(omegaconf, 'ListConfig', ())):
        return _omegaconf_list
    if issubclass(kind, Mapping):
        return lambda value: Members(value.items())
    if issubclass(kind, tuple) and isinstance(getattr(kind, '_fields', None), tuple):
        return lambda value: Members(zip(value._fields, value, strict=True))
    if issubclass(kind, (list, tuple)):
        return lambda value: value
    argparse = sys.modules.get('argparse')
    if issubclass(kind, (SimpleNamespace, getattr(argparse, 'Namespace', SimpleNamespace))):
        return lambda value: Members(vars(value).items())
    return _unfolding_of_fields(kind)


def _unfolding_of_fields(kind: Any) -> Callable[[Any], object] | None:
    """The same for a dataclass, or a class of attrs or pydantic."""
    if hasattr(kind, '__dataclass_fields__'):
        return partial(_fields, [field.name for field in fields(kind)])
    if hasattr(kind, '__attrs_attrs__'):
        return partial(_fields, [attribute.name for attribute in kind.__attrs_attrs__])
    if getattr(kind, '__pydantic_root_model__', False):
        return lambda value: unfolded(value.root)
    # A field that is excluded, as one with a password, is in no form that pydantic writes.
    if hasattr(kind, '__pydantic_complete__'):
        known = kind.model_fields.items()
        return partial(_fields, [name for name, field in known if not field.exclude])
    if hasattr(kind, '__fields_set__') and hasattr(kind, '__validators__'):  # pydantic 1
        known = kind.__fields__.items()
        return partial(_all_but, {name for name, field in known if field.field_info.exclude})
    return None


def _fields(names: Collection[str], value: Any) -> Members:
    pairs = [(name, getattr(value, name, _ABSENT)) for name in names]
    # What a model of pydantic was given beside its fields.
    others = getattr(value, '__pydantic_extra__', None) or {}
    # A field has no value yet where a class has init=False for it, and sets it later.
    return Members([*(pair for pair in pairs if pair[1] is not _ABSENT), *others.items()])


def _all_but(names: Collection[str], value: Any) -> Members:
    return Members((name, member) for name, member in vars(value).items() if name not in names)


def _omegaconf_dict(config: Any) -> object:
    members = Members((key, _resolved(config, key)) for key in config)
    # Without a member, None, '???' or an interpolation may be in the place of the dict.
    written = {} if members else _as_written(config)
    return members if written == {} else written


def _omegaconf_list(config: Any) -> object:
    return [_resolved(config, n) for n in range(len(config))] or _as_written(config)


def _resolved(config: Any, key: object) -> object:
    """Return what is in a container of OmegaConf: of what is missing, and of an interpolation that
    fails or leads to what it is in, its text, which is ``???`` or ``${...}``.
    """
    try:
        value = config[key]
    except Exception:  # of many kinds, for a resolver is anybody's code
        return _as_written(config)[key]
    above = config
    while above is not None:
        if above is value:
            return _as_written(config)[key]
        above = above._get_parent()
    return value


def _as_written(config: Any) -> Any:
    return sys.modules['omegaconf'].OmegaConf.to_container(config, resolve=False)
