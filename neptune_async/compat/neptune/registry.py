"""Projects, models and versions of models of 1.x: experiments of their own in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, Literal, get_args

from neptune_async import Experiment, list_experiments
from neptune_async.compat.neptune.container import (
    KIND,
    Container,
    Kind,
    Mode,
    checked_mode,
    opened,
)
from neptune_async.compat.neptune.tables import Table, all_of, any_of, own_query, quoted
from neptune_async.exceptions import (
    ExperimentExistsError,
    ExperimentNotFoundError,
    InvalidArgumentError,
    StorageError,
)

Stage = Literal['none', 'staging', 'production', 'archived']
_NEWEST = 'sys/creation_time'


class Project(Container):
    """What concerns all runs of a project, and a table of them.

    It is an experiment that has the name of the project.

    :param project: None is what ``NEPTUNE_PROJECT`` says, else ``project``, which has all runs of
        the store.
    :param mode: as of a run. With ``read-only`` it need not be there.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        api_token: str | None = None,
        mode: Mode | None = None,
        flush_period: float = 5,
        proxies: Mapping[str, str] | None = None,
        async_lag_callback: Callable[[Any], object] | None = None,
        async_lag_threshold: float = 1800,
        async_no_progress_callback: Callable[[Any], object] | None = None,
        async_no_progress_threshold: float = 300,
    ) -> None:
        mode = checked_mode(mode)
        self._project = project or os.environ.get('NEPTUNE_PROJECT')
        experiment = _project(self._project or 'project', mode, flush_period)
        super().__init__(_of_kind(experiment, 'project'), mode, 'project')

    def fetch_runs_table(
        self,
        *,
        query: str | None = None,
        id: str | Iterable[str] | None = None,  # noqa: A002 - its name in 1.x
        state: str | Iterable[str] | None = None,
        owner: str | Iterable[str] | None = None,
        tag: str | Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
        trashed: bool | None = False,
        limit: int | None = None,
        sort_by: str = _NEWEST,
        ascending: bool = False,
        progress_bar: Any = None,
    ) -> Table:
        """Return a table of the runs of the project.

        :param query: in the language of docs/queries.md; not with ``id``, ``state`` or ``tag``.
        :param id, state: of one of these, where given; ``active`` or ``inactive``.
        :param owner: a store knows none.
        :param tag: with all of these.
        :param trashed: nothing is: True is an empty table.
        """
        if query is not None and any((id, state, owner, tag)):
            raise InvalidArgumentError('give a query, or else id, state and tag')
        if owner:
            raise InvalidArgumentError('a store knows no owners of runs; leave owner out')
        states = [each.lower() for each in _listed(state)]
        if not {*states} <= {'active', 'inactive'}:
            raise InvalidArgumentError(f"state is 'active' or 'inactive', not {state!r}")
        where = all_of(
            f'not exists({KIND})',
            own_query(query),
            any_of('name', _listed(id)),
            any_of('sys/state', map(str.capitalize, states)),
            *(f'{quoted(each)} in sys/tags' for each in _listed(tag)),
        )
        return self._table(where, columns, trashed, limit, sort_by, ascending)

    def fetch_models_table(
        self,
        *,
        query: str | None = None,
        columns: Iterable[str] | None = None,
        trashed: bool | None = False,
        limit: int | None = None,
        sort_by: str = _NEWEST,
        ascending: bool = False,
        progress_bar: Any = None,
    ) -> Table:
        """Return a table of the models of the project; see ``fetch_runs_table``."""
        where = all_of(f"{KIND} = 'model'", own_query(query))
        return self._table(where, columns, trashed, limit, sort_by, ascending)

    def _table(
        self,
        where: str,
        columns: Iterable[str] | None,
        trashed: bool | None,
        limit: int | None,
        sort_by: str,
        ascending: bool,
    ) -> Table:
        project = f'sys/project = {quoted(self._project)}' if self._project else ''
        where = all_of(where, project, "name = ''" if trashed else '')
        return Table(where, columns, limit, sort_by, ascending)


class Model(Container):
    """What the versions of a model have in common: an experiment that has its key as name.

    :param with_id: the key of one that is there.
    :param key: of a new one.
    :raises ExperimentExistsError: the key is that of another one.
    """

    def __init__(
        self,
        with_id: str | None = None,
        *,
        name: str | None = None,
        key: str | None = None,
        project: str | None = None,
        api_token: str | None = None,
        mode: Mode | None = None,
        flush_period: float = 5,
        proxies: Mapping[str, str] | None = None,
        async_lag_callback: Callable[[Any], object] | None = None,
        async_lag_threshold: float = 1800,
        async_no_progress_callback: Callable[[Any], object] | None = None,
        async_no_progress_threshold: float = 300,
    ) -> None:
        mode = checked_mode(mode)
        _check_named('init_model', 'key', with_id, key, mode)
        experiment = _new(key, mode) if with_id is None else _there(with_id, mode, flush_period)
        super().__init__(_of_kind(experiment, 'model'), mode, 'model')
        self._name(name=name, project=project or os.environ.get('NEPTUNE_PROJECT'))

    def fetch_model_versions_table(
        self,
        *,
        query: str | None = None,
        columns: Iterable[str] | None = None,
        limit: int | None = None,
        sort_by: str = _NEWEST,
        ascending: bool = False,
        progress_bar: Any = None,
    ) -> Table:
        """Return a table of the versions of the model; see ``Project.fetch_runs_table``."""
        where = all_of(f'sys/model_id = {quoted(self.experiment.name)}', own_query(query))
        return Table(where, columns, limit, sort_by, ascending)


class ModelVersion(Container):
    """A version of a model: an experiment with the name ``KEY-1``, ``KEY-2``, ...

    :param with_id: one that is there.
    :param model: the model of which to make a new one.
    :raises RunNotFound: there is no such model, or version.
    """

    def __init__(
        self,
        with_id: str | None = None,
        *,
        name: str | None = None,
        model: str | None = None,
        project: str | None = None,
        api_token: str | None = None,
        mode: Mode | None = None,
        flush_period: float = 5,
        proxies: Mapping[str, str] | None = None,
        async_lag_callback: Callable[[Any], object] | None = None,
        async_lag_threshold: float = 1800,
        async_no_progress_callback: Callable[[Any], object] | None = None,
        async_no_progress_threshold: float = 300,
    ) -> None:
        mode = checked_mode(mode)
        _check_named('init_model_version', 'model', with_id, model, mode)
        if with_id is None:
            assert model is not None  # was checked
            experiment = _next_version(model, mode)
        else:
            experiment = _there(with_id, mode, flush_period)
        super().__init__(_of_kind(experiment, 'model_version'), mode, 'model_version')
        if mode != 'read-only' and not self.exists('sys/stage'):
            self['sys'] = {'model_id': model, 'stage': 'none'}
        self._name(name=name, project=project or os.environ.get('NEPTUNE_PROJECT'))

    def change_stage(self, stage: str) -> None:
        """Set ``sys/stage``, and return once it is stored.

        :param stage: ``none``, ``staging``, ``production`` or ``archived``.
        """
        if stage not in get_args(Stage):
            raise InvalidArgumentError(f'stage must be one of {get_args(Stage)}, not {stage!r}')
        self['sys/stage'].assign(stage, wait=True)


def _project(name: str, mode: Mode, flush_period: float) -> Experiment:
    try:
        return opened(name, mode, flush_period)
    except (ExperimentNotFoundError, StorageError):
        if mode != 'read-only':
            raise
        # It is there for its runs, and need have nothing of its own.
        return Experiment(name, mode='disabled', echo=False)


def _there(name: str, mode: Mode, flush_period: float) -> Experiment:
    return opened(name, mode, flush_period, is_there=True)


def _new(name: str | None, mode: Mode) -> Experiment:
    return Experiment(name, mode='disabled' if mode == 'debug' else 'create', echo=False)


def _next_version(model: str, mode: Mode) -> Experiment:
    if mode == 'debug':
        return Experiment(f'{model}-1', mode='disabled', echo=False)
    _of_kind(Experiment(model, mode='read', echo=False), 'model').close()
    there = list_experiments(where=f'sys/model_id = {quoted(model)}')
    for number in count(len(there) + 1):
        try:
            return _new(f'{model}-{number}', mode)
        except ExperimentExistsError:
            continue  # another process has made it
    raise AssertionError('count() has no end')


def _of_kind(experiment: Experiment, kind: Kind) -> Experiment:
    """Return an experiment that is new, or of a kind.

    :raises InvalidArgumentError: it is another thing.
    """
    is_new = not experiment.namespace_contents()
    found = experiment[KIND].read() if experiment[KIND].exists() else 'run'
    if not is_new and found != kind:
        experiment.close()
        raise InvalidArgumentError(
            f'{experiment.name!r} is a {found} in this store, and no {kind}; give another name'
        )
    return experiment


def _check_named(
    method: str, argument: str, with_id: str | None, given: str | None, mode: Mode
) -> None:
    if with_id is None and given is None:
        raise InvalidArgumentError(f'{method} needs with_id or {argument}')
    if with_id is None and mode == 'read-only':
        raise InvalidArgumentError("mode='read-only' needs with_id, which says what to read")


def _listed(values: str | Iterable[str] | None) -> list[str]:
    if values is None:
        return []
    return [values] if isinstance(values, str) else [*values]
