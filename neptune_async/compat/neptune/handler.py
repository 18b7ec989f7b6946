"""``run['path']``: a field or a namespace of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from neptune_async import Atom, Histogram, Series, Set, StoredFile, stringified
from neptune_async import File as KeptFile
from neptune_async._model.arguments import repeatable
from neptune_async.compat.neptune import artifacts
from neptune_async.compat.neptune.field import Field, R
from neptune_async.compat.neptune.file_field import FileField
from neptune_async.compat.neptune.files import File
from neptune_async.compat.neptune.rendering import IMAGES, PAGES, kind_of
from neptune_async.compat.neptune.types import Artifact, FileSet, SeriesValue, StringSet
from neptune_async.compat.neptune.types import Atom as TypedAtom
from neptune_async.compat.neptune.values import leaves
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    UnsupportedValueError,
    VariableNotFoundError,
)

_FIELD_TYPES: dict[tuple[type, type], str] = {
    (Atom, int): 'Integer',
    (Atom, float): 'Float',
    (Atom, bool): 'Boolean',
    (Atom, str): 'String',
    (Atom, datetime): 'Datetime',
    (Atom, list): 'List',
    (Atom, type(None)): 'None',
    (Series, float): 'FloatSeries',
    (Series, str): 'StringSeries',
    (Series, datetime): 'DatetimeSeries',
    (Series, KeptFile): 'FileSeries',
    (Series, Histogram): 'HistogramSeries',
}


class Handler(FileField[R]):
    """A path of a run, as ``run['train/loss']`` returns it: a field, a namespace, or neither yet.

    Each write takes ``wait=True``, and returns then once it is stored.
    """

    # Else Python would iterate by calling __getitem__ with 0, 1, ... and find no end.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __repr__(self) -> str:
        return f'<field at {self._path!r} of run {self._run.experiment.name!r}>'

    def __getitem__(self, path: str) -> Handler[R]:
        return Handler(self._run, f'{self._path}/{path}')

    def __setitem__(self, path: str, value: Any) -> None:
        self[path].assign(value)

    def __delitem__(self, path: str) -> None:
        self.pop(path)

    def get_root_object(self) -> R:
        """Return the run that the path is of."""
        return self._run

    @property
    def container(self) -> R:
        """The run that the path is of."""
        return self._run

    # ── Writes ───────────────────────────────────────────────────────────────

    def assign(self, value: Any, *, wait: bool = False) -> None:
        """Replace the field's value; of a dict, a dataclass or another structure, those of the
        fields that it names below. Another field is copied, also one of another run.
        """
        self._write(value, self._assign_leaf, wait, splits_lists=True)

    def _assign_leaf(self, path: str, leaf: Any, is_text: bool) -> None:
        field = Handler(self._run, path)
        if isinstance(leaf, Field):
            field._assign_copy(leaf)
        elif isinstance(leaf, SeriesValue):
            field._replace_points(leaf)
        elif isinstance(leaf, StringSet):
            field._replace_members(leaf.values)
        elif isinstance(leaf, FileSet):
            field._replace_files(leaf.file_globs)
        elif isinstance(leaf, Artifact):
            field._view.assign(artifacts.kept(leaf.hash, []))
        elif leaf is None:
            if not is_text:
                raise UnsupportedValueError('None is no value of a field')
            field._view.assign('None')
        else:
            field._assign_value(leaf, is_text)

    def _assign_copy(self, source: Field[Any]) -> None:
        value = Handler(source._run, source._path)._copied()
        if not isinstance(value, StoredFile):
            self.assign(value)
            return
        with TemporaryDirectory() as folder:
            # Its content may be larger than memory.
            copy = value.download(Path(folder, 'copy'))
            self._view.assign(KeptFile(copy, value.name, value.media_type))

    def _copied(self) -> Any:
        return self._view.read() if self._kind() == (Atom, KeptFile) else self.fetch()

    def _assign_value(self, leaf: Any, is_text: bool) -> None:
        value = _as_kept(self._name, leaf)
        try:
            _or_as_text(self._view.assign, value, stringified, is_text)
        except ContainerTypeError:
            # A list replaces the points of a series.
            if not isinstance(value, (list, tuple)) or self._view.variable_type()[0] is not Series:
                raise
            self._replace_points(SeriesValue(value))

    def _replace_points(self, points: SeriesValue) -> None:
        if self._view.exists():
            self.clear()
        name = getattr(points, 'name', None)
        values = [_as_kept(self._name, value, name) for value in points.values]
        self._view.extend(values, steps=points.steps, timestamps=points.timestamps)

    def _replace_members(self, members: Iterable[str]) -> None:
        if self._view.exists():
            self._view.reset(*members)
        else:
            self._view.add(*members)

    def append(
        self,
        value: Any,
        *,
        step: float | None = None,
        timestamp: float | None = None,
        wait: bool = False,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        """Append a value to the series; those of a dict, to the series that it names below.

        :param name: what a file is called; without it, after its path or the field.
        :param description: is not kept.
        """
        if type(value) is float:  # as in each step of a training
            self._view.log(value, step, timestamp)
            self._run._wrote(wait)
            return

        def log(path: str, leaf: Any, is_text: bool) -> None:
            field = Handler(self._run, path)
            leaf = _as_kept(field._name, leaf, name)
            view = field._view
            try:
                _or_as_text(lambda value: view.log(value, step, timestamp), leaf, str, is_text)
            except ContentTypeError:
                if not field._takes_as_paths([leaf]):
                    raise
                view.log(field._files_at([leaf], name)[0], step, timestamp)

        self._write(value, log, wait)

    def extend(
        self,
        values: Any,
        *,
        steps: Iterable[float] | None = None,
        timestamps: Iterable[float] | None = None,
        wait: bool = False,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        """Append several values to the series; those of a dict, to the series that it names
        below.

        :param name, description: as for ``append``.
        """
        steps, timestamps = repeatable(steps), repeatable(timestamps)

        def extend(path: str, leaf: Any, is_text: bool) -> None:
            field = Handler(self._run, path)
            if isinstance(leaf, (list, tuple)):
                leaf = [_as_kept(field._name, each, name) for each in leaf]
            write = partial(field._view.extend, steps=steps, timestamps=timestamps)
            try:
                _or_as_text(write, leaf, lambda each: [*map(str, each)], is_text)
            except ContentTypeError:
                if not field._takes_as_paths(leaf):
                    raise
                write(field._files_at(leaf, name))

        self._write(values, extend, wait)

    def _takes_as_paths(self, values: Any) -> bool:
        """Whether the field is a series of files, in which texts are paths of files."""
        are_texts = isinstance(values, list) and all(isinstance(value, str) for value in values)
        return are_texts and self._kind() == (Series, KeptFile)

    def _files_at(self, paths: list[str], name: str | None) -> list[KeptFile]:
        return [File(path).kept_as(self._name, name) for path in paths]

    def log(
        self,
        value: Any,
        *,
        step: float | None = None,
        timestamp: float | None = None,
        wait: bool = False,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        """Append a value, or each of a list, as 1.x did before it had ``append`` and ``extend``."""
        if not isinstance(value, (list, tuple, set, frozenset)):
            self.append(value, step=step, timestamp=timestamp, wait=wait, name=name)
            return
        if len(value) > 1 and (step, timestamp) != (None, None):
            raise ValueError('step and timestamp are those of one value; use extend for several')
        for each in value:
            self.append(each, step=step, timestamp=timestamp, wait=wait, name=name)

    def add(self, values: str | Iterable[str], *, wait: bool = False) -> None:
        """Add a tag, or several."""
        tags = _listed(values)
        if tags:
            self._view.add(*tags)
        self._run._wrote(wait)

    def remove(self, values: str | Iterable[str], *, wait: bool = False) -> None:
        """Remove a tag, or several; one that is not there is no error."""
        self._view.remove(*_listed(values))
        self._run._wrote(wait)

    def clear(self, *, wait: bool = False) -> None:
        """Remove all tags of the set, or all points of the series."""
        if self._view.variable_type()[0] is Series:
            self._run.experiment.rewind(-sys.float_info.max, self._path)
        else:
            self._view.reset()
        self._run._wrote(wait)

    def pop(self, path: str | None = None, *, wait: bool = False) -> None:
        """Delete the field, or all of the namespace; or what is at a path below."""
        (self if path is None else self[path])._view.delete()
        self._run._wrote(wait)

    def _write(
        self,
        value: Any,
        write: Callable[[str, Any, bool], None],
        wait: bool,
        splits_lists: bool = False,
    ) -> None:
        warn = self._run.warn_once
        for path, leaf, is_text in leaves(self._path, value, warn, splits_lists=splits_lists):
            try:
                write(path, leaf, is_text)
            except UnsupportedValueError as error:
                if is_text:
                    raise
                warn(
                    f'{path} {type(leaf).__name__}',
                    f'{error}; {path!r} was left out, as neptune 1.x does, and so is what follows '
                    'of that type there; stringify_unsupported(value) makes a text of it',
                )
        self._run._wrote(wait)

    # ── Reads ────────────────────────────────────────────────────────────────

    def fetch(self) -> Any:
        """Return the field's value, the members of a set, or the values of a namespace as nested
        dicts.

        :raises MissingFieldException: there is neither field nor namespace.
        """
        kind = self._kind()
        if kind is None:
            return self._run._values_below(self._path)
        container, content = kind
        if container is Series:
            raise self._refusal('fetch', 'use fetch_last(), fetch_values() or download()')
        if container is Set:
            return self._view.get()
        value: Any = self._view.read()
        if content is KeptFile:
            return Artifact(self._artifact('fetch')[0])
        return value

    def fetch_last(self) -> Any:
        """Return the last value of the series."""
        if self._view.variable_type() == (Series, KeptFile):
            raise self._refusal('fetch_last', 'use download_last()')
        last = self._view.tail(1)
        if not last:
            raise VariableNotFoundError(f'the series {self._path!r} has no value')
        return last[0]

    def fetch_values(self, *, include_timestamp: bool = True, progress_bar: Any = None) -> Any:
        """Return the series as a pandas ``DataFrame``: step, value, and the timestamp in local
        time.

        :raises ImportError: pandas is not installed.
        """
        frame = self._view.to_pandas().reset_index()
        frame['timestamp'] = frame['timestamp'].map(datetime.fromtimestamp)  # local, as in 1.x
        return frame[['step', 'value', 'timestamp'] if include_timestamp else ['step', 'value']]

    def field_type(self) -> str:
        """Return the name that 1.x has for the type of the field."""
        container, content = self._view.variable_type()
        if (container, content) == (Atom, KeptFile):
            file: Any = self._view.read()
            return 'Artifact' if file.media_type == artifacts.MEDIA_TYPE else 'File'
        return 'StringSet' if container is Set else _FIELD_TYPES[container, content]


def _as_kept(name: str, value: Any, file_name: str | None = None) -> Any:
    """Return a value as an experiment holds it.

    :param name: that of the field.
    :param file_name: what a file is called, if not after its path or the field.
    """
    kind = type(value)
    if kind is float or kind is str or kind is int:  # as most are
        return value
    if isinstance(value, TypedAtom):
        return value.value
    is_file = isinstance(value, (File, KeptFile)) or kind_of(value) in (*IMAGES, *PAGES)
    return File.create_from(value).kept_as(name, file_name) if is_file else value


def _or_as_text(
    write: Callable[[Any], object], value: Any, as_text: Callable[[Any], Any], is_text: bool
) -> None:
    """Write a value, or the text of it if no field can hold it and it is to become one."""
    try:
        write(value)
    except UnsupportedValueError:
        if not is_text:
            raise
        write(as_text(value))


def _listed(values: Any) -> list[Any]:
    is_one = isinstance(values, str) or not isinstance(values, Iterable)
    return [values] if is_one else [*values]
