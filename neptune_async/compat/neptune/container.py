"""What runs, projects, models and versions of models have in common."""

from __future__ import annotations

import atexit
import logging
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from neptune_async import Atom, Experiment, Namespace, StoredFile
from neptune_async.compat.neptune.handler import Handler
from neptune_async.exceptions import (
    FlushTimeoutError,
    InvalidArgumentError,
    NamespaceConflictError,
    StorageError,
)

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger('neptune_async')

Mode: TypeAlias = Literal['async', 'sync', 'offline', 'read-only', 'debug']
Kind: TypeAlias = Literal['run', 'project', 'model', 'model_version']

KIND = 'sys/container'
"""Where an experiment that is no run says what it is."""

_MODES: tuple[Mode, ...] = ('async', 'sync', 'offline', 'read-only', 'debug')
_LONGEST_INTERVAL = 0.2
"""Seconds after which what was logged is stored, however long ``flush_period`` is."""


class Container:
    """An experiment with what 1.x has in ``sys/``.

    :ivar experiment: it.
    """

    # Else Python would iterate by calling __getitem__ with 0, 1, ... and find no end.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    _is_stopped = False

    def __init__(self, experiment: Experiment, mode: Mode, kind: Kind) -> None:
        self.experiment = experiment
        self._mode = mode
        self._warned: set[str] = set()
        self._describe(kind)
        atexit.register(self._stop_at_exit, os.getpid())

    def _describe(self, kind: Kind) -> None:
        if self._mode == 'read-only':
            return
        system = self.experiment['sys']
        if not system['id'].exists():
            system.assign(
                {
                    'id': self.experiment.name,
                    'name': 'Untitled',
                    'description': '',
                    'creation_time': datetime.now(timezone.utc),
                    'hostname': platform.node(),
                }
            )
            if kind != 'run':
                self.experiment[KIND].assign(kind)
        system['state'].assign('Active')

    def _name(self, **given: str | None) -> None:
        """Assign to fields below ``sys`` what was given of them."""
        if self._mode != 'read-only':
            named = {field: value for field, value in given.items() if value is not None}
            self.experiment['sys'].assign(named)
            self._wrote()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.experiment.name!r}>'

    def get_root_object(self) -> Self:
        """Return the object itself."""
        return self

    # ── Fields ───────────────────────────────────────────────────────────────

    def __getitem__(self, path: str) -> Handler[Self]:
        """Return the field, or the namespace, at a path."""
        return Handler(self, path)

    def __setitem__(self, path: str, value: Any) -> None:
        self[path].assign(value)

    def __delitem__(self, path: str) -> None:
        self[path].pop()

    def assign(self, value: Any, *, wait: bool = False) -> None:
        """Assign the values of a dict to the fields that it names."""
        self[''].assign(value, wait=wait)

    def pop(self, path: str, wait: bool = False) -> None:
        """Delete a field, or all of a namespace."""
        self[path].pop(wait=wait)

    def define(self, path: str, value: Any, *, wait: bool = False) -> Handler[Self]:
        """Assign a value to a field that is not there yet, and return the field.

        :raises MetadataInconsistency: there is a field or a namespace at the path.
        """
        if self.exists(path):
            raise NamespaceConflictError(
                f'there is a field or a namespace at {path!r}; assign to it, or pop it before'
            )
        self[path].assign(value, wait=wait)
        return self[path]

    def get_attribute(self, path: str) -> Handler[Self] | None:
        """Return the field or the namespace at a path, or None."""
        return self[path] if self.exists(path) else None

    def exists(self, path: str) -> bool:
        """Tell whether there is a field or a namespace at a path."""
        return self.experiment[path].exists()

    def fetch(self) -> dict[str, Any]:
        """Return the values of all fields that hold one value, as nested dicts."""
        return self._values_below('')

    def get_structure(self) -> dict[str, Any]:
        """Return all fields, as nested dicts."""
        return self._structure_below('')

    def print_structure(self) -> None:
        """Print all fields with their types, indented by namespace."""
        _print_structure(self.get_structure(), 0)

    def _contents(self, path: str) -> Mapping[str, type]:
        experiment = self.experiment
        return (experiment[path] if path else experiment).namespace_contents()

    def _values_below(self, path: str) -> dict[str, Any]:
        # One read has the values, also of series, and one a namespace says which are these.
        experiment = self.experiment
        contents = (experiment[path] if path else experiment).to_dict()
        return self._values_and_files(path, contents)[0]

    def _values_and_files(self, path: str, contents: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the values below a path, and whether there are none, but only files."""
        values: dict[str, Any] = {}
        are_files = True
        for name, kind in self._contents(path).items():
            value, is_file = contents.get(name), False
            if kind is Namespace:
                value, is_file = self._values_and_files(f'{path}/{name}', value or {})
            elif kind is Atom:
                is_file = isinstance(value, StoredFile)
            if kind in (Namespace, Atom) and not is_file:
                values[name] = value
            are_files = are_files and is_file
        return values, are_files

    def _structure_below(self, path: str) -> dict[str, Any]:
        return {
            name: self._structure_below(f'{path}/{name}') if kind is Namespace
            else self[f'{path}/{name}']
            for name, kind in self._contents(path).items()
        }  # fmt: skip

    # ── Its life ─────────────────────────────────────────────────────────────

    def wait(self, disk_only: bool = False) -> None:
        """Return once everything that was logged is stored."""
        self.experiment.flush()

    def sync(self, wait: bool = True) -> None:
        """Return once everything that was logged is stored; reads are always of now."""
        if wait:
            self.experiment.flush()

    def stop(self, seconds: float | None = None) -> None:
        """Store everything and end the run; a second call does nothing.

        :param seconds: to wait at most. What is not stored by then is kept in a file that a line
            on stderr names, and the next run takes it in.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        atexit.unregister(self._stop_at_exit)
        if self._mode != 'read-only':
            now = datetime.now(timezone.utc)
            self.experiment['sys'].assign({'state': 'Inactive', 'modification_time': now})
        try:
            self.experiment.close(timeout=seconds)
        except (FlushTimeoutError, StorageError) as error:
            logger.warning('%s', error)

    def get_state(self) -> str:
        """Return ``started`` or ``stopped``."""
        return 'stopped' if self._is_stopped else 'started'

    def get_url(self) -> str:
        """Return where the run is, for people to read: there is no server, and no URL."""
        return repr(self.experiment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            try:
                if exception is not None and self._mode != 'read-only' and not self._is_stopped:
                    self._note_failure(exception, trace)
            finally:
                self.stop()
        except Exception as error:
            if exception is None:
                raise
            # What ended the body matters more.
            logger.warning('%s', error)

    def _note_failure(self, exception: BaseException, trace: TracebackType | None) -> None:
        """Keep what is to be known of an exception that ends the ``with`` block."""

    def _wrote(self, wait: bool = False) -> None:
        """Return once what was just written is stored, where that is wanted."""
        if wait or self._mode == 'sync':
            self.experiment.flush()

    def warn_once(self, what: str, warning: str) -> None:
        """Warn of something that may come at each step, the first time only, as 1.x does."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning('%s', warning)

    def _stop_at_exit(self, process: int) -> None:
        # In a forked child the run goes on: it is the parent's.
        if os.getpid() == process:
            self.stop()


def checked_mode(mode: str | None) -> Mode:
    """Return a mode, or the one that ``NEPTUNE_MODE`` says, or ``async``."""
    mode = mode or os.environ.get('NEPTUNE_MODE') or 'async'
    for known in _MODES:
        if mode == known:
            return known
    raise InvalidArgumentError(f'mode must be {", ".join(map(repr, _MODES))}, not {mode!r}')


def opened(
    name: str | None, mode: Mode, flush_period: float, *, is_there: bool = False
) -> Experiment:
    """Return the experiment of a name.

    :param name: None takes the next free one.
    :param flush_period: seconds.
    :param is_there: whether it has to be there: a misspelt id must not begin another one.
    :raises RunNotFound: it is to be there, and is not.
    """
    if mode == 'debug':
        return Experiment(name, mode='disabled', echo=False)
    if mode == 'read-only':
        return Experiment(name, mode='read', echo=False)
    if is_there:
        Experiment(name, mode='read', echo=False).close()
    if isinstance(flush_period, (int, float)):
        flush_period = min(flush_period, _LONGEST_INTERVAL)
    return Experiment(name, echo=False, flush_interval=flush_period)


def _print_structure(structure: Mapping[str, Any], depth: int) -> None:
    for name, field in structure.items():
        indented = f'{"    " * depth}{name!r}:'
        if isinstance(field, dict):
            print(indented)
            _print_structure(field, depth + 1)
        else:
            print(indented, field.field_type())
