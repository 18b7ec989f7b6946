"""Values that say of what type the field is to be, as ``neptune.types`` has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from neptune_async.compat.neptune.files import File
from neptune_async.compat.neptune.utils import StringifyValue
from neptune_async.exceptions import InvalidArgumentError, UnsupportedValueError

__all__ = [
    'Artifact',
    'Boolean',
    'Datetime',
    'File',
    'FileSeries',
    'FileSet',
    'Float',
    'FloatSeries',
    'GitRef',
    'Integer',
    'String',
    'StringSeries',
    'StringSet',
]


class Atom:
    """A value for a field of one value.

    :ivar value: what the field gets.
    """

    value: Any

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.value})'

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Atom):
            return NotImplemented
        return type(other) is type(self) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]  # as in 1.x, where they are dataclasses


class Integer(Atom):
    """An int; of what is none, what ``int`` makes of it."""

    def __init__(self, value: Any) -> None:
        self.value: int = int(_plain(value))

    def __int__(self) -> int:
        return self.value


class Float(Atom):
    """A float; of what is none, what ``float`` makes of it."""

    def __init__(self, value: Any) -> None:
        self.value: float = float(_plain(value))

    def __float__(self) -> float:
        return self.value


class Boolean(Atom):
    """A bool; of what is none, what ``bool`` makes of it."""

    def __init__(self, value: Any) -> None:
        self.value: bool = bool(_plain(value))

    def __bool__(self) -> bool:
        return self.value


class String(Atom):
    """A text, of any length."""

    def __init__(self, value: Any) -> None:
        if isinstance(value, StringifyValue):
            value = str(value.value)
        if not isinstance(value, (str, type(None))):
            raise UnsupportedValueError(f'String takes a str, not a {type(value).__name__}')
        self.value: str | None = value


class Datetime(Atom):
    """A time, with its microseconds."""

    def __init__(self, value: Any) -> None:
        value = _plain(value)
        if not isinstance(value, datetime):
            raise UnsupportedValueError(f'Datetime takes a datetime, not a {type(value).__name__}')
        self.value: datetime = value


class Artifact:
    """An artifact of which only the hash is known.

    :param value: a SHA-256, in hexadecimal digits; None is no hash yet.
    """

    def __init__(self, value: Any = None) -> None:
        value = _plain(value)
        if value is not None and len(str(value)) != 64:
            raise InvalidArgumentError(f'the hash of an artifact is a SHA-256, not {value!r:.80}')
        self.hash = str(value)

    def __repr__(self) -> str:
        return f'Artifact({self.hash})'


class GitRef:
    """Where the repository of the source code is. ``init_run`` takes it, and tracks none."""

    DISABLED: ClassVar[str] = 'DO_NOT_TRACK_GIT_REPOSITORY'

    def __init__(self, repository_path: Any = None) -> None:
        self.repository_path = repository_path


class SeriesValue:
    """The points of a series, which replace those that a field has.

    :param values: as many as the steps and timestamps, where these are given.
    """

    def __init__(
        self,
        values: Any,
        timestamps: Sequence[float] | None = None,
        steps: Sequence[float] | None = None,
    ) -> None:
        values = _plain(values)
        if not isinstance(values, (list, tuple, set)):
            raise UnsupportedValueError(
                f'{type(self).__name__} takes a list of values, not a {type(values).__name__}'
            )
        for argument, given in (('steps', steps), ('timestamps', timestamps)):
            if given is not None and len(given) != len(values):
                raise InvalidArgumentError(
                    f'{len(given)} {argument} for {len(values)} values; give one a value'
                )
        self.values = [self._converted(value) for value in values]
        self.steps, self.timestamps = steps, timestamps

    def _converted(self, value: Any) -> Any:
        return value

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.values})'


class FloatSeries(SeriesValue):
    """Numbers.

    :param min, max, unit: of the axis that 1.x drew; they are not kept.
    """

    def __init__(
        self,
        values: Any,
        min: float | None = None,  # noqa: A002 - its name in 1.x
        max: float | None = None,  # noqa: A002
        unit: str | None = None,
        timestamps: Sequence[float] | None = None,
        steps: Sequence[float] | None = None,
    ) -> None:
        super().__init__(values, timestamps, steps)
        self.min, self.max, self.unit = min, max, unit

    def _converted(self, value: Any) -> float:
        return float(value)


class StringSeries(SeriesValue):
    """Texts, of any length; of ``stringify_unsupported(values)``, ``str`` of each."""

    def __init__(
        self,
        values: Any,
        timestamps: Sequence[float] | None = None,
        steps: Sequence[float] | None = None,
    ) -> None:
        if isinstance(values, StringifyValue):
            values = [*map(str, values.value)]
        super().__init__(values, timestamps, steps)


class FileSeries(SeriesValue):
    """Files, or what ``File.create_from`` makes one of.

    :param name: what the files are called.
    """

    def __init__(
        self,
        values: Any,
        timestamps: Sequence[float] | None = None,
        steps: Sequence[float] | None = None,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__(values, timestamps, steps)
        self.name, self.description = name, description

    def _converted(self, value: Any) -> File:
        return File.create_from(value)


class StringSet:
    """The members of a set, which replace those that a field has."""

    def __init__(self, values: Iterable[str]) -> None:
        self.values = set(values)

    def __repr__(self) -> str:
        return f'StringSet({self.values})'


class FileSet:
    """Files that replace those that a field has.

    :param file_globs: paths of files and folders, and patterns, as ``upload_files`` takes them.
    """

    def __init__(self, file_globs: str | Iterable[str]) -> None:
        self.file_globs = [file_globs] if isinstance(file_globs, str) else [*file_globs]

    def __repr__(self) -> str:
        return f'FileSet({self.file_globs})'


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StringifyValue) else value
