"""What the views of both faces share: all writes. ``log`` is the hot path."""

from __future__ import annotations

import operator
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Protocol, SupportsFloat, TypeAlias

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.lock_free import unlocked
from neptune_async._engine.queueing.queue import Queue
from neptune_async._engine.queueing.variables import NO_ENTRY, Entry
from neptune_async._model.operations import AUTOMATIC_STEP, POINT
from neptune_async._model.values import MAX_STEP
from neptune_async.exceptions import InvalidArgumentError
from neptune_async.files import File, Histogram

SeriesScalar: TypeAlias = SupportsFloat | str | datetime | File | Histogram
SetScalar: TypeAlias = bool | int | float | str


class _Dataclass(Protocol):
    """An instance of a dataclass, as type checkers know it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Structure: TypeAlias = Mapping[Any, Any] | _Dataclass
Loggable: TypeAlias = SeriesScalar | Structure

_pack_point = POINT.pack
_now = time.time


class Owner(Protocol):
    """The part of an experiment that its views need."""

    _is_closed: bool

    def __getitem__(self, path: str) -> Any: ...

    @property
    def _state(self) -> ExperimentState: ...

    def _normalised(self, path: object) -> str: ...

    def _keep(self, view: BaseView, name: str) -> None: ...

    def _write(self, write: Callable[..., None], *arguments: object) -> None: ...


class BaseView:
    """A path of an experiment, with the methods that write to it.

    :ivar _entry: what this process knows of the variable; ``NO_ENTRY`` if it knows nothing yet.
    :ivar _leaves: the same for the paths below that dicts have named.
    """

    __slots__ = ('_entry', '_experiment', '_leaves', '_name', '_path', '_queue', '_state')

    # Without this, Python would iterate by calling __getitem__ with 0, 1, ...
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __init__(self, experiment: Owner, path: str, name: str) -> None:
        self._experiment = experiment
        self._path = path
        self._name = name
        self._state: ExperimentState = experiment._state
        self._queue: Queue = self._state.queue
        self._entry = NO_ENTRY
        self._leaves: dict[str, Entry] | None = None

    def __setitem__(self, path: str, value: object) -> None:
        """Assign a value to the atom at a path below this one."""
        self._experiment[self._below(path)].assign(value)

    def _below(self, path: str) -> str:
        return f'{self._path}/{self._experiment._normalised(path)}'

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._path!r} of experiment {self._state.name!r}>'

    @unlocked
    def log(
        self,
        value: Loggable,
        step: float | None = None,
        timestamp: float | datetime | None = None,
    ) -> None:
        """Append a value to the series. The first call creates the series.

        Returns at once: the value is in memory, in order, and is stored within
        ``flush_interval``. Any thread may call this, and a signal handler, too.

        :param value: a number, a str, a datetime, a ``File`` or a ``Histogram``, of the type that
            the series has. Numbers become float. A dict is a batch: all its leaves are logged,
            each to the path that its keys name below this one, or none is. So is a
            dataclass or another structure that ``assign`` takes.
        :param step: an int from -2**53 to 2**53, or a finite float; steps may come
            in any order. Without it, the largest step in the series plus one; the first is 0.
        :param timestamp: seconds since the epoch, or a datetime (a naive one is
            local time). Without it, now, but never earlier than the last in the series.
        :raises UnsupportedValueError: no series can hold the value.
        :raises ContentTypeError: this series holds another type.
        :raises ContainerTypeError: the variable is not a Series.
        :raises NamespaceConflictError: the path is a namespace, or below a variable.
        :raises InvalidStepError, InvalidTimestampError: the step or the timestamp is not as above.
        :raises QueueFullError: the queue is full, and ``overflow`` is 'raise'.
        """
        # The hot path: a training loop calls this millions of times. A float for a known variable
        # of floats needs only these checks, and one call into C to add it to the queue.
        if timestamp is None:
            if step is None:
                number: float = AUTOMATIC_STEP
            elif type(step) is int and -MAX_STEP <= step <= MAX_STEP:
                number = step
            else:
                return self._log(value, step, timestamp)
            queue = self._queue
            if isinstance(value, float):
                key = self._entry.key
                if key is not None and len(queue.points) < queue.mark:
                    queue.append_point(_pack_point(key, number, _now(), value))
                    return None
            elif type(value) is dict and self._log_floats(value, number):
                return None
        return self._log(value, step, timestamp)

    @unlocked
    def _log_floats(self, values: dict[str, object], step: float) -> bool:
        """Log a batch if it needs no more checks: all its values are floats, for variables that are
        known to hold floats. Return False if it needs them.
        """
        leaves = self._leaves
        if leaves is None:
            return False
        points: list[float] = []
        now = _now()
        try:
            for name, value in values.items():
                key = leaves[name].key
                if key is None or not isinstance(value, float):
                    return False
                points += (key, step, now, value)
        except KeyError:
            return False
        queue = self._queue
        if len(queue.points) + len(points) > queue.mark:
            return False
        # One call for all points, so that the worker takes all of them or none.
        queue.append_points(array('d', points).tobytes())
        return True

    def _log(self, value: object, step: object, timestamp: object) -> None:
        self._experiment._write(self._state.writes.log, self._path, value, step, timestamp)
        if self._state.numbers_steps or self._experiment._is_closed:
            return
        # So the next call of log finds the variable at once, and the next exp[path] this view.
        if self._entry is NO_ENTRY and self._leaves is None:
            self._experiment._keep(self, self._name)
        if isinstance(value, dict):
            # Of keys that are equal, as 1 and True, each is another path: only texts are kept.
            names = (name for name in value if isinstance(name, str))
            paths = ((name, f'{self._path}/{str.__str__(name)}') for name in names)
            self._leaves = {name: self._state.entry(path) for name, path in paths}
        else:
            self._entry = self._state.entry(self._path)

    def extend(
        self,
        values: Iterable[SeriesScalar] | Structure,
        *,
        steps: Iterable[float] | None = None,
        timestamps: Iterable[float | datetime] | None = None,
    ) -> None:
        """Append several values to the series, as ``log`` appends one.

        :param values: a list, a generator or a one-dimensional array of values that ``log`` takes,
            all of one type. A dict has such values in each leaf, for a series below this path.
        :param steps: as many as values. Without them, as in ``log``.
        :param timestamps: as many as values. Without them, now for all.
        :raises NeptuneAsyncError: as ``log``. Nothing is logged then. But a call that waits for
            room adds 16,384 points at a time: if Ctrl-C, or a ``close`` on another thread, ends the
            wait, the points that were added are logged.
        """
        self._experiment._write(self._state.writes.extend, self._path, values, steps, timestamps)

    def assign(self, value: object) -> None:
        """Set the value of the atom. The first call creates the atom.

        ::

            exp['params'].assign(config)

        :param value: a bool, int, float, str, datetime, None, a ``File``, or a list or tuple
            of these but files. Its type may differ from the last. A path, a date, a UUID and a
            member of an Enum are kept as their text, and a one-dimensional array of numbers as a
            list. A dict is a batch: all its leaves are assigned, each to the path that its keys
            name below this one, or none is. So is a dataclass instance, a named tuple,
            ``argparse.Namespace``, ``SimpleNamespace``, a configuration of attrs, pydantic or
            OmegaConf, any Mapping, and a list that holds one of these: there the names are
            the positions. Keys may be str, int or members of an Enum.
        :raises UnsupportedValueError: no atom can hold the value;
            ``assign(neptune_async.stringified(value))`` makes a str of what cannot be kept.
        :raises InvalidArgumentError, InvalidPathError: two keys name one path, or one names none.
        :raises ContainerTypeError: the variable is not an Atom.
        :raises NamespaceConflictError: the path is a namespace, or below a variable.
        """
        self._experiment._write(self._state.writes.assign, self._path, value)

    def add(self, *values: SetScalar | Structure) -> None:
        """Add values to the set. The first call creates the set.

        :param values: str, int, float or bool, all of the type that the set
            has. One dict is a batch: each leaf is a value or a list of values. All leaves
            are added, each to the set that its keys name below this path, or none is.
        :raises UnsupportedValueError: no set can hold the value, or types differ.
        :raises ContentTypeError: this set holds another type.
        :raises ContainerTypeError: the variable is not a Set.
        :raises NamespaceConflictError: the path is a namespace, or below a variable.
        """
        self._experiment._write(self._state.writes.add, self._path, values)

    def remove(self, *values: SetScalar) -> None:
        """Remove values from the set. A value that is not in the set is no error.

        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is not a Set.
        """
        self._experiment._write(self._state.writes.remove, self._path, values)

    def reset(self, *values: SetScalar) -> None:
        """Replace all values of the set. Their type may change.

        :raises UnsupportedValueError: no set can hold the value, or types differ.
        :raises VariableNotFoundError: there is no variable at the path.
        :raises ContainerTypeError: the variable is not a Set.
        """
        self._experiment._write(self._state.writes.reset, self._path, values)


def checked_count(method: str, n: object) -> int:
    """Return a number of points, checked.

    :param method: the method that takes it, for the error.
    :raises InvalidArgumentError: it is not an int, or is negative.
    """
    if type(n) is bool or not hasattr(type(n), '__index__'):
        raise InvalidArgumentError(f'{method} takes a number of points, not {n!r}')
    count = operator.index(n)  # type: ignore[arg-type]  # hasattr is the check
    if count < 0:
        raise InvalidArgumentError(f'{method} takes a number of points from 0 on, not {count}')
    return count
