"""A run of 1.x, which is an experiment."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, ClassVar, Literal, NoReturn, TypeAlias

from neptune_async import Atom, Experiment, Namespace, StoredFile
from neptune_async.compat.neptune.handler import Handler
from neptune_async.compat.neptune.types import GitRef
from neptune_async.exceptions import (
    FlushTimeoutError,
    InvalidArgumentError,
    NamespaceConflictError,
    StorageError,
)

logger = logging.getLogger('neptune_async')

Mode: TypeAlias = Literal['async', 'sync', 'offline', 'read-only', 'debug']

_MODES: tuple[Mode, ...] = ('async', 'sync', 'offline', 'read-only', 'debug')
_LONGEST_INTERVAL = 0.2
"""Seconds after which what was logged is stored, however long ``flush_period`` is."""


class Run:
    """A tracked run, to be started with ``init_run``; it takes what 1.x takes.

    :param with_id: a run that is there, to go on with it or to read it.
    :param project: kept as ``sys/project``; the store has the runs of all projects.
    :param custom_run_id: the run of this name, new or not.
    :param mode: ``async``, ``offline``: what is logged is stored soon; ``sync``: each call
        returns once it is; ``read-only``: nothing is written; ``debug``: nothing is
        stored. None is what the environment variable ``NEPTUNE_MODE`` says, else ``async``.
    :param name, description, tags: go to ``sys/``.
    :param flush_period: seconds after which what was logged is stored, 0.2 at most.
    :param capture_traceback, fail_on_exception: of an exception that ends the ``with`` block.
    :param monitoring_namespace: where its traceback goes.
    :raises RunNotFound: there is no run ``with_id``.
    :raises ValueError: the mode is none of these, or a run is named twice or not at all.
    """

    # Else Python would iterate by calling __getitem__ with 0, 1, ... and find no end.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    _is_stopped = False

    def __init__(
        self,
        with_id: str | None = None,
        *,
        project: str | None = None,
        api_token: str | None = None,
        custom_run_id: str | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | str | None = None,
        source_files: Sequence[str] | str | None = None,
        capture_stdout: bool | None = None,
        capture_stderr: bool | None = None,
        capture_hardware_metrics: bool | None = None,
        fail_on_exception: bool = True,
        monitoring_namespace: str | None = None,
        flush_period: float = 5,
        proxies: Mapping[str, str] | None = None,
        capture_traceback: bool = True,
        git_ref: Any = None,
        dependencies: str | os.PathLike[str] | None = None,
        async_lag_callback: Callable[[Any], object] | None = None,
        async_lag_threshold: float = 1800,
        async_no_progress_callback: Callable[[Any], object] | None = None,
        async_no_progress_threshold: float = 300,
    ) -> None:
        self._mode = _checked_mode(mode or os.environ.get('NEPTUNE_MODE') or 'async')
        custom_run_id = custom_run_id or os.environ.get('NEPTUNE_CUSTOM_RUN_ID')
        self.experiment = _opened(with_id, custom_run_id, self._mode, flush_period)
        self._failure = _Failure(monitoring_namespace, capture_traceback, fail_on_exception)
        self._warned: set[str] = set()
        self._describe(name, description, tags, project, custom_run_id)
        _warn_of_unsupported(
            source_files=source_files, capture_stdout=capture_stdout,
            capture_stderr=capture_stderr, capture_hardware_metrics=capture_hardware_metrics,
            git_ref=git_ref, dependencies=dependencies, async_lag_callback=async_lag_callback,
            async_no_progress_callback=async_no_progress_callback,
        )  # fmt: skip
        atexit.register(self._stop_at_exit, os.getpid())

    def _describe(
        self,
        name: str | None,
        description: str | None,
        tags: Sequence[str] | str | None,
        project: str | None,
        custom_run_id: str | None,
    ) -> None:
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
                    'failed': False,
                }
            )
        given = {
            'name': name, 'description': description,
            'project': project or os.environ.get('NEPTUNE_PROJECT'),
            'custom_run_id': custom_run_id, 'state': 'Active',
        }  # fmt: skip
        system.assign({field: value for field, value in given.items() if value is not None})
        if tags:
            self['sys/tags'].add(tags)
        self._wrote()

    def __repr__(self) -> str:
        return f'<Run {self.experiment.name!r}>'

    # ── Fields ───────────────────────────────────────────────────────────────

    def __getitem__(self, path: str) -> Handler[Run]:
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

    def define(self, path: str, value: Any, *, wait: bool = False) -> Handler[Run]:
        """Assign a value to a field that is not there yet, and return the field.

        :raises MetadataInconsistency: there is a field or a namespace at the path.
        """
        if self.exists(path):
            raise NamespaceConflictError(
                f'there is a field or a namespace at {path!r}; assign to it, or pop it before'
            )
        self[path].assign(value, wait=wait)
        return self[path]

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
        values: dict[str, Any] = {}
        for name, kind in self._contents(path).items():
            below = f'{path}/{name}'
            if kind is Namespace:
                values[name] = self._values_below(below)
            elif kind is Atom:
                value = self.experiment[below].read()
                if not isinstance(value, StoredFile):
                    values[name] = value
        return values

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

    def __enter__(self) -> Run:
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
                    self._failure.note(self, exception_type, exception, trace)
            finally:
                self.stop()
        except Exception as error:
            if exception is None:
                raise
            # What ended the body matters more.
            logger.warning('%s', error)

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


class _Failure:
    """What a run notes of an exception that ends its ``with`` block.

    :param namespace: where the traceback goes; None is what ``NEPTUNE_MONITORING_NAMESPACE``
        says, else ``monitoring``.
    :param keeps_traceback: note the traceback.
    :param fails: set ``sys/failed``.
    """

    def __init__(self, namespace: str | None, keeps_traceback: bool, fails: bool) -> None:
        self._namespace = (
            namespace or os.environ.get('NEPTUNE_MONITORING_NAMESPACE') or 'monitoring'
        )
        self._keeps_traceback, self._fails = keeps_traceback, fails

    def note(
        self,
        run: Run,
        exception_type: type[BaseException] | None,
        exception: BaseException,
        trace: TracebackType | None,
    ) -> None:
        if self._keeps_traceback:
            lines = traceback.format_exception(exception_type, exception, trace)
            run[f'{self._namespace}/traceback'].extend(lines)
        if self._fails:
            run['sys/failed'] = True


def _checked_mode(mode: str) -> Mode:
    for known in _MODES:
        if mode == known:
            return known
    raise InvalidArgumentError(f'mode must be {", ".join(map(repr, _MODES))}, not {mode!r}')


def _opened(
    with_id: str | None, custom_run_id: str | None, mode: Mode, flush_period: float
) -> Experiment:
    if with_id and custom_run_id:
        raise InvalidArgumentError(
            f'the run is named twice, with_id={with_id!r} and custom_run_id={custom_run_id!r}; '
            'give one of them'
        )
    name = with_id or custom_run_id
    if mode == 'debug':
        return Experiment(name, mode='disabled', echo=False)
    if mode == 'read-only':
        if name is None:
            raise InvalidArgumentError("mode='read-only' needs with_id, the run to read")
        return Experiment(name, mode='read', echo=False)
    if with_id:
        # It has to be there: a misspelt id must not begin another run.
        Experiment(with_id, mode='read', echo=False).close()
    if isinstance(flush_period, (int, float)):
        flush_period = min(flush_period, _LONGEST_INTERVAL)
    return Experiment(name, echo=False, flush_interval=flush_period)


def _warn_of_unsupported(**wishes: Any) -> None:
    asked = [argument for argument, wish in wishes.items() if wish and wish != GitRef.DISABLED]
    if asked:
        logger.warning(
            'neptune_async tracks no source code, output, hardware or dependencies, and calls '
            'nothing back: %s %s no effect; log what you need with run[path] = value',
            ', '.join(asked), 'has' if len(asked) == 1 else 'have',
        )  # fmt: skip


def _print_structure(structure: Mapping[str, Any], depth: int) -> None:
    for name, field in structure.items():
        indented = f'{"    " * depth}{name!r}:'
        if isinstance(field, dict):
            print(indented)
            _print_structure(field, depth + 1)
        else:
            print(indented, field.field_type())


# ── What there is not ────────────────────────────────────────────────────────


def init_project(*_: Any, **__: Any) -> NoReturn:
    """:raises NotImplementedError: it says what to use for a project."""
    raise NotImplementedError(
        'neptune_async has no projects: one store holds the runs of all; list_experiments() names '
        'them, and what concerns them all has its place in a run of its own, '
        "init_run(custom_run_id='project')"
    )


def init_model(*_: Any, **__: Any) -> NoReturn:
    """:raises NotImplementedError: it says what to use for a model."""
    raise NotImplementedError(
        'neptune_async has no model registry: log what describes a model, and the path of its '
        "file, to a run of its own, init_run(custom_run_id='model-1')"
    )


init_model_version = init_model
