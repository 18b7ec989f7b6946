"""Defines variables and container types.

Neptune defines three container types: Atom, Series, and Set.

A variable is one container at one path of an experiment. Its container is
fixed by the write that creates it. The type of its content is fixed with it in
a Series and a Set, while an Atom takes a new one with each ``assign``.

Detailed documentation on creating / modifying / reading variables of a
container type, refer to the documentation for the given container type,
e.g. ``help(Series)``.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, NamedTuple

from neptune_async.files import FileReference, Histogram

__all__ = ['Atom', 'Namespace', 'Point', 'Series', 'Set']


class Atom:
    """
    Modifying / initializing methods: assign
    Reading methods: read

    Holds one value: a bool, an int of any size, a float, a str, a datetime,
    None, a file, or a list of these but files. ``assign`` replaces the whole value, and may
    change its type. A tuple or a one-dimensional array reads back as a list, and
    a path, a date, a UUID or a member of an Enum as a str.
    """

    methods: ClassVar[tuple[str, ...]] = ('assign', 'read')


class Series:
    """
    Writing / initializing methods: log, extend
    Reading methods: tail, all, follow, to_pandas, to_numpy, to_arrow

    Holds points in the order in which they were logged, each with a step, a
    timestamp in seconds since the epoch, and a value. All values are float, or
    all str, all datetime, all files or all histograms, as the first ``log`` was.
    """

    methods: ClassVar[tuple[str, ...]] = (
        'log', 'extend', 'tail', 'all', 'follow', 'to_pandas', 'to_numpy', 'to_arrow',
    )  # fmt: skip


class Set:
    """
    Modifying / initializing methods: add
    Writing methods: remove, reset
    Reading methods: get

    Holds distinct values of one type: str, int, float or bool, as the first
    ``add`` had them. ``reset`` replaces all of them, and may change the type.
    """

    methods: ClassVar[tuple[str, ...]] = ('add', 'remove', 'reset', 'get')


class Point(NamedTuple):
    """A point of a series: step, timestamp in seconds since the epoch, value."""

    step: int | float
    timestamp: float
    value: float | str | datetime | FileReference | Histogram


class Namespace:
    """
    A path that has variables below it, and holds no value of its own.
    """
