"""``run['path']``: a field or a namespace of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar, Generic, NoReturn, Protocol, TypeVar

from neptune_async import Atom, Experiment, ExperimentView, Series, Set, stringified
from neptune_async._model.arguments import repeatable
from neptune_async.compat.neptune.types import refuse_file
from neptune_async.compat.neptune.values import leaves
from neptune_async.exceptions import (
    ContainerTypeError,
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
}


class Owner(Protocol):
    """The run that a handler is of, as far as the handler needs it."""

    @property
    def experiment(self) -> Experiment: ...

    def warn_once(self, what: str, warning: str) -> None: ...

    def _wrote(self, wait: bool = False) -> None: ...

    def _values_below(self, path: str) -> dict[str, Any]: ...


R = TypeVar('R', bound=Owner)


class Handler(Generic[R]):
    """A path of a run, as ``run['train/loss']`` returns it: a field, a namespace, or neither yet.

    Each write takes ``wait=True``, and returns then once it is stored.
    """

    # Else Python would iterate by calling __getitem__ with 0, 1, ... and find no end.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __init__(self, run: R, path: str) -> None:
        self._run = run
        self._path = path

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

    @property
    def _view(self) -> ExperimentView:
        return self._run.experiment[self._path]

    # ── Writes ───────────────────────────────────────────────────────────────

    def assign(self, value: Any, *, wait: bool = False) -> None:
        """Replace the field's value; of a dict, a dataclass or another structure, those of the
        fields that it names below.
        """
        if isinstance(value, Handler):
            value = value.fetch()
        self._write(value, lambda view, leaf: view.assign(leaf), stringified, wait, True)

    def append(
        self,
        value: Any,
        *,
        step: float | None = None,
        timestamp: float | None = None,
        wait: bool = False,
    ) -> None:
        """Append a value to the series; those of a dict, to the series that it names below."""
        self._write(value, lambda view, leaf: view.log(leaf, step, timestamp), str, wait)

    def extend(
        self,
        values: Any,
        *,
        steps: Iterable[float] | None = None,
        timestamps: Iterable[float] | None = None,
        wait: bool = False,
    ) -> None:
        """Append several values to the series; those of a dict, to the series that it names
        below.
        """
        steps, timestamps = repeatable(steps), repeatable(timestamps)
        self._write(
            values,
            lambda view, leaf: view.extend(leaf, steps=steps, timestamps=timestamps),
            lambda leaf: [*map(str, leaf)],
            wait,
        )

    def log(
        self,
        value: Any,
        *,
        step: float | None = None,
        timestamp: float | None = None,
        wait: bool = False,
    ) -> None:
        """Append a value, or each of a list, as 1.x did before it had ``append`` and ``extend``."""
        if not isinstance(value, (list, tuple, set, frozenset)):
            self.append(value, step=step, timestamp=timestamp, wait=wait)
            return
        if len(value) > 1 and (step, timestamp) != (None, None):
            raise ValueError('step and timestamp are those of one value; use extend for several')
        for each in value:
            self.append(each, step=step, timestamp=timestamp, wait=wait)

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
        write: Callable[[ExperimentView, Any], object],
        as_text: Callable[[Any], Any],
        wait: bool,
        splits_lists: bool = False,
    ) -> None:
        warn = self._run.warn_once
        for path, leaf, is_text in leaves(self._path, value, warn, splits_lists=splits_lists):
            view = self._run.experiment[path]
            try:
                write(view, leaf)
            except UnsupportedValueError as error:
                if is_text:
                    write(view, as_text(leaf))
                else:
                    warn(
                        f'{path} {type(leaf).__name__}',
                        f'{error}; it was left out, as neptune 1.x does, and so is what follows of '
                        'that type there; stringify_unsupported(value) makes a text of it',
                    )
        self._run._wrote(wait)

    # ── Reads ────────────────────────────────────────────────────────────────

    def fetch(self) -> Any:
        """Return the field's value, the members of a set, or the values of a namespace as nested
        dicts.

        :raises MissingFieldException: there is neither field nor namespace.
        """
        view = self._view
        try:
            container, _ = view.variable_type()
        except VariableNotFoundError:
            view.namespace_contents()
            return self._run._values_below(self._path)
        if container is Series:
            raise ContainerTypeError(
                f'{self._path!r} is a series; use fetch_last() or fetch_values()'
            )
        return view.get() if container is Set else view.read()

    def fetch_last(self) -> Any:
        """Return the last value of the series."""
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
        return 'StringSet' if container is Set else _FIELD_TYPES[container, content]

    # ── What there is not ────────────────────────────────────────────────────

    def _stores_no_files(self, *_: Any, **__: Any) -> NoReturn:
        refuse_file(repr(self._path))

    upload = upload_files = delete_files = list_fileset_files = _stores_no_files
    download = download_last = fetch_extension = _stores_no_files
    track_files = fetch_hash = fetch_files_list = _stores_no_files


def _listed(values: Any) -> list[Any]:
    is_one = isinstance(values, str) or not isinstance(values, Iterable)
    return [values] if is_one else [*values]
