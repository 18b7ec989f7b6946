"""A run of 1.x, which is an experiment."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from neptune_async import Experiment
from neptune_async.compat.neptune.container import Container, Mode, checked_mode, opened
from neptune_async.compat.neptune.types import GitRef
from neptune_async.exceptions import InvalidArgumentError

logger = logging.getLogger('neptune_async')


class Run(Container):
    """A tracked run, to be started with ``init_run``; it takes what 1.x takes.

    :param with_id: a run that is there, to go on with it or to read it.
    :param project: kept as ``sys/project``; the store has the runs of all projects.
    :param custom_run_id: the run of this name, new or not.
    :param mode: ``async``, ``offline``: what is logged is stored soon; ``sync``: each call
        returns once it is; ``read-only``: nothing is written; ``debug``: nothing is
        stored. None is what the environment variable ``NEPTUNE_MODE`` says, else ``async``.
    :param name, description, tags: go to ``sys/``.
    :param source_files: paths and patterns of files for ``source_code/files``; none without it.
    :param dependencies: a file for ``source_code/requirements``.
    :param flush_period: seconds after which what was logged is stored, 0.2 at most.
    :param capture_traceback, fail_on_exception: of an exception that ends the ``with`` block.
    :param monitoring_namespace: where its traceback goes.
    :raises RunNotFound: there is no run ``with_id``.
    :raises ValueError: the mode is none of these, or a run is named twice or not at all.
    """

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
        mode = checked_mode(mode)
        custom_run_id = custom_run_id or os.environ.get('NEPTUNE_CUSTOM_RUN_ID')
        self._failure = _Failure(monitoring_namespace, capture_traceback, fail_on_exception)
        super().__init__(_opened(with_id, custom_run_id, mode, flush_period), mode, 'run')
        project = project or os.environ.get('NEPTUNE_PROJECT')
        self._name(name=name, description=description, custom_run_id=custom_run_id, project=project)
        self._begin(tags, source_files, dependencies)
        _warn_of_unsupported(
            capture_stdout=capture_stdout, capture_stderr=capture_stderr,
            capture_hardware_metrics=capture_hardware_metrics, git_ref=git_ref,
            dependencies=dependencies == 'infer', async_lag_callback=async_lag_callback,
            async_no_progress_callback=async_no_progress_callback,
        )  # fmt: skip

    def _begin(
        self,
        tags: Sequence[str] | str | None,
        source_files: Sequence[str] | str | None,
        dependencies: str | os.PathLike[str] | None,
    ) -> None:
        if self._mode == 'read-only':
            return
        if not self.exists('sys/failed'):
            self['sys/failed'] = False
        if tags:
            self['sys/tags'].add(tags)
        if source_files:
            self['source_code/files'].upload_files(source_files)
        if dependencies and dependencies != 'infer':
            self._upload_dependencies(os.fspath(dependencies))

    def _upload_dependencies(self, path: str) -> None:
        if os.path.isfile(path):
            self['source_code/requirements'].upload(path)
        else:
            self.warn_once(path, f'dependencies={path!r} is no file; it was left out')

    def _note_failure(self, exception: BaseException, trace: TracebackType | None) -> None:
        self._failure.note(self, exception, trace)


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
        exception: BaseException,
        trace: TracebackType | None,
    ) -> None:
        if self._keeps_traceback:
            lines = traceback.format_exception(type(exception), exception, trace)
            run[f'{self._namespace}/traceback'].extend(lines)
        if self._fails:
            run['sys/failed'] = True


def _opened(
    with_id: str | None, custom_run_id: str | None, mode: Mode, flush_period: float
) -> Experiment:
    if with_id and custom_run_id:
        raise InvalidArgumentError(
            f'the run is named twice, with_id={with_id!r} and custom_run_id={custom_run_id!r}; '
            'give one of them'
        )
    name = with_id or custom_run_id
    if mode == 'read-only' and name is None:
        raise InvalidArgumentError("mode='read-only' needs with_id, the run to read")
    return opened(name, mode, flush_period, is_there=bool(with_id))


def _warn_of_unsupported(**wishes: Any) -> None:
    asked = [argument for argument, wish in wishes.items() if wish and wish != GitRef.DISABLED]
    if asked:
        logger.warning(
            'neptune_async tracks no output, hardware or repository, infers no dependencies and '
            'calls nothing back: %s %s no effect; log what you need with run[path] = value',
            ', '.join(asked), 'has' if len(asked) == 1 else 'have',
        )  # fmt: skip
