"""What calls are given, checked and taken apart: batches, columns, members of sets."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from neptune_async._model.arrays import is_time
from neptune_async._model.pending_files import PendingFile
from neptune_async._model.showing import on_one_line
from neptune_async._model.structures import Members, is_scalar, leaves_of, unfolded
from neptune_async._model.values import (
    Content,
    SeriesValue,
    checked_step,
    checked_timestamp,
    content_of,
    loggable,
    set_member,
    shown_step,
)
from neptune_async.exceptions import (
    InvalidArgumentError,
    InvalidStepError,
    InvalidTimestampError,
    UnsupportedValueError,
)
from neptune_async.files import File

T = TypeVar('T')

_COLLECTIONS = (list, tuple, set, frozenset)

_LONGEST = 4_000_000.0
"""Seconds, 46 days, beyond which a timeout is none: Windows cannot wait for much longer."""


def batch_of(path: str, value: object, *, splits_lists: bool = False) -> list[tuple[str, object]]:
    """Return path and value of each leaf of nested structures; of any other value, itself.

    :param splits_lists: as for ``leaves_of``.
    :raises InvalidArgumentError: when two keys name one path, as in ``{'a/b': 1, 'a': {'b': 2}}``.
    """
    if is_scalar(value):
        return [(path, value)]
    leaves = [*leaves_of(path, value, splits_lists=splits_lists)]
    if len(leaves) > 1:
        seen: set[str] = set()
        for leaf, _ in leaves:
            if leaf in seen:
                raise InvalidArgumentError(
                    f'two keys of the batch name the path {leaf!r}, and each would replace or '
                    'follow the other; give it once'
                )
            seen.add(leaf)
    return leaves


def checked_members(values: Iterable[object], method: str = 'add') -> tuple[Any, ...]:
    """Return values as the members of a set.

    :param method: the method that takes them, for the error.
    :raises UnsupportedValueError: one of them is none, as a list that has to be unpacked.
    """
    return tuple(_member(value, method) for value in values)


def _member(value: object, method: str) -> Any:
    try:
        return set_member(value)
    except UnsupportedValueError:
        if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
            raise
        raise UnsupportedValueError(
            f'{method} takes the values one by one, not a {type(value).__name__} of them; '
            f'unpack it: {method}(*values)'
        ) from None


def members_of_leaf(value: object) -> tuple[Any, ...]:
    """Return the members in a leaf of a dict: one value, or a collection of values."""
    return tuple(map(set_member, value if isinstance(value, _COLLECTIONS) else [value]))


def is_structure(value: object) -> bool:
    """Whether a value has members with names, as a dict has."""
    return not is_scalar(value) and isinstance(unfolded(value), Members)


def common_content(members: Sequence[Any]) -> Content:
    """Return the one type that members of a set have.

    :raises UnsupportedValueError: when they have none, or several.
    """
    contents = {content_of(member) for member in members}
    if not members:
        raise UnsupportedValueError('add needs at least one value')
    if len(contents) > 1:
        held = ' and '.join(sorted(contents))
        raise UnsupportedValueError(f'the members of a set must be of one type, not {held}')
    return contents.pop()


@dataclass(frozen=True, slots=True)
class Column:
    """Checked arguments of extend; None is automatic."""

    values: Sequence[SeriesValue | File | PendingFile]
    steps: array[float] | None
    timestamps: array[float] | None

    def slices(self, size: int) -> Iterator[Column]:
        """Yield the points in columns of so many, the last of what is left."""
        for start in range(0, len(self.values), size):
            stop = start + size
            yield Column(
                self.values[start:stop],
                self.steps and self.steps[start:stop],
                self.timestamps and self.timestamps[start:stop],
            )


def checked_column(values: object, steps: object, timestamps: object) -> Column:
    """Return what extend is to append.

    :raises NeptuneAsyncError: when an argument is refused, or their lengths differ.
    """
    column: list[Any] = _listed('values', values)
    # All floats, as most are, are found out in a fraction of the time that checking each takes.
    kinds = set(map(type, column))
    if kinds != {float}:
        if not kinds.isdisjoint(_COLLECTIONS):
            raise _nested(values)
        column = [loggable(value) for value in column]
    if len({content_of(value) for value in column}) > 1:
        raise UnsupportedValueError('extend got values of several types; a series holds one')
    checked_steps = checked_times = None
    if steps is not None:
        checked_steps = array('d', map(checked_step, _listed('steps', steps)))
        if len(checked_steps) != len(column):
            raise InvalidStepError(
                f'extend got {len(column)} values and {len(checked_steps)} steps; give as many'
            )
    if timestamps is not None:
        checked_times = array('d', map(checked_timestamp, _listed('timestamps', timestamps)))
        if len(checked_times) != len(column):
            raise InvalidTimestampError(
                f'extend got {len(column)} values and {len(checked_times)} timestamps; give as many'
            )
    return Column(column, checked_steps, checked_times)


def _listed(argument: str, values: object) -> list[Any]:
    if hasattr(values, 'tolist') and not is_time(values):
        values = values.tolist()  # an array: its scalars as Python has them, all at once
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UnsupportedValueError(
            f'extend takes several {argument}, not a {type(values).__name__}; use log for one value'
        )
    return list(values)


def _nested(values: object) -> UnsupportedValueError:
    shape = getattr(values, 'shape', None)
    what = 'collections' if shape is None else f'an array of shape {tuple(shape)}'
    return UnsupportedValueError(
        f'extend takes the values of one series, one after the other, not {what}; give it one '
        "dimension, as values.ravel(), or a dict with a series a column, as {'x': values[:, 0]}"
    )


def repeatable(values: T) -> T | list[Any]:
    """Return the items of an iterator, which gives them once, as a list; all else as it is."""
    return [*values] if isinstance(values, Iterator) else values


def log_line(step: float, timestamp: float, value: object) -> str:
    """Return what echo prints of a point."""
    return f'log step={shown_step(step)}, timestamp={timestamp}, value={shown_value(value)}'


def shown_value(value: object) -> str:
    """Return what echo prints of an atom or of members of a set."""
    if isinstance(value, str):
        return on_one_line(value)
    try:
        return str(value)
    except ValueError:  # an int too long for decimal digits
        return f'a value of type {type(value).__name__}'


def check_choice(argument: str, value: object, choices: tuple[object, ...]) -> None:
    """:raises InvalidArgumentError: for a value that is none of the choices."""
    if value not in choices:
        raise InvalidArgumentError(
            f'{argument} must be {", ".join(map(repr, choices))}, not {value!r}'
        )


def check_limit(argument: str, limit: object, unit: str) -> None:
    """:raises InvalidArgumentError: for what is no int from 1 on."""
    if type(limit) is not int or limit < 1:
        raise InvalidArgumentError(f'{argument} must be a positive number of {unit}, not {limit!r}')


def checked_timeout(timeout: object) -> float | None:
    """Return how many seconds to wait at most; None for as long as it takes.

    :raises InvalidArgumentError: for what is no number of seconds from 0 on, or None.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidArgumentError(
            f'timeout must be a number of seconds from 0 on, or None for no limit, not {timeout!r}'
        )
    return None if timeout > _LONGEST else float(timeout)


def checked_seconds(argument: str, seconds: object) -> float:
    """Return a positive number of seconds.

    :raises InvalidArgumentError: for anything else.
    """
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 < seconds < math.inf
    ):
        raise InvalidArgumentError(
            f'{argument} must be a positive number of seconds, not {seconds!r}'
        )
    return float(seconds)
