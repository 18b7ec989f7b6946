"""Calls that concern a whole store, written once for both faces.

Each function checks its arguments and returns a ``StoreCall``. Each face turns it into a function
that waits for the answer, or one that awaits it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, get_args, overload

from neptune_async import _tables
from neptune_async._engine.lifecycle import experiments
from neptune_async._engine.reading import tables
from neptune_async._engine.reading.queries import EVERY
from neptune_async._engine.reading.tables import SeriesContent
from neptune_async._engine.reading.thinning import Duplicates
from neptune_async._engine.worker.loop_thread import Function
from neptune_async._faces.querying import query
from neptune_async._faces.windows import thinning
from neptune_async._model.arguments import check_choice
from neptune_async._model.paths import checked_name, normalise
from neptune_async._model.selection import Wanted, selection

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Output: TypeAlias = Literal['pandas', 'arrow']
T = TypeVar('T')


def _as_it_is(answer: Any) -> Any:
    return answer


@dataclass(frozen=True, slots=True)
class StoreCall(Generic[T]):
    """A call of a store that is not made yet.

    :ivar storage: as for ``Experiment``.
    :ivar read: the coroutine function to run on the worker's loop. It takes the worker, then the
        arguments.
    :ivar arguments: the arguments of ``read`` after the worker.
    :ivar build: makes the answer from what ``read`` returns. It computes, and may import a library.
    """

    storage: str | os.PathLike[str] | None
    read: Function[Any]
    arguments: tuple[object, ...] = ()
    build: Callable[[Any], T] = _as_it_is


def list_experiments(
    storage: str | os.PathLike[str] | None = None,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
) -> StoreCall[list[str]]:
    """Return the names of the experiments in a store, in the order in which they were made.

    ::

        list_experiments(where="params/lr < 0.01 and 'cnn' in tags", sort='valid/acc.max')

    :param storage: as for ``Experiment``.
    :param where: a query that says which experiments are meant; docs/queries.md tells the
        language. What this process has logged is stored first.
    :param sort: what they are sorted by: a path, what is known of a series, as in
        ``valid/acc.max``, or ``name``, ``created``, ``last_time`` or ``state``. An experiment that
        does not have it comes last.
    :param descending: whether the greatest comes first; without ``sort``, what was made last.
    :param limit: how many names to return at most.
    :raises InvalidQueryError: ``where`` or ``sort`` is no query; the message shows the place.
    :raises InvalidArgumentError: another argument is refused.
    :raises StorageError: the store does not exist, or cannot be read.
    """
    wanted = query(where, sort, descending, limit)
    if wanted == EVERY:
        return StoreCall(storage, experiments.list_experiments)
    return StoreCall(storage, tables.list_names, (wanted,))


def delete_experiment(name: str, storage: str | os.PathLike[str] | None = None) -> StoreCall[None]:
    """Delete an experiment with all its variables.

    If another process still logs to it, that process creates the experiment again, with what it
    logs from then on, and warns of that in the log ``neptune_async``.

    :param storage: as for ``Experiment``.
    :raises ExperimentNotFoundError: there is no experiment of that name.
    :raises StorageError: the experiment is open in this process, or the store fails.
    """
    return StoreCall(storage, experiments.delete_experiment, (checked_name(name),))


@overload
def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
    storage: str | os.PathLike[str] | None = None,
    output: Literal['pandas'] = 'pandas',
) -> StoreCall[pd.DataFrame]: ...
@overload
def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
    storage: str | os.PathLike[str] | None = None,
    output: Literal['arrow'],
) -> StoreCall[pa.Table]: ...
def compare(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
    storage: str | os.PathLike[str] | None = None,
    output: Output = 'pandas',
) -> StoreCall[pd.DataFrame] | StoreCall[pa.Table]:
    """Return a table with a row for each experiment and a column for each path. It has the values
    of atoms, the members of sets, and the last value of each series.

    ::

        compare('digits-*', ['params/lr', 'valid/accuracy'])
        compare(paths=re.compile('loss$'))

    Experiments are in the order in which they were created, unless ``sort`` says another. What
    this process has logged to them is stored first. The number of queries is small, and does not
    grow with the number of experiments.

    :param names, paths: the experiments and the variables to compare. Each is one name, a glob, a
        list of names and globs, or a compiled regular expression; None is all. A glob is a str
        with ``*``, ``?`` or ``[`` that is not itself a name; ``*`` also matches slashes. A regular
        expression may match anywhere in the name.
    :param where, sort, descending, limit: which of these experiments to compare, and their order,
        as for ``list_experiments``.
    :param storage: as for ``Experiment``.
    :param output: 'pandas' is a frame with the names of the experiments as its index; 'arrow' is an
        Arrow table with the names in its first column, and with texts in JSON in a column of
        several types.
    :raises InvalidArgumentError, InvalidNameError, InvalidPathError: an argument is refused.
    :raises ExperimentNotFoundError: an experiment that is given by its name does not exist.
    :raises VariableNotFoundError: a path is given by its name, and no experiment has a variable
        there.
    :raises MissingExtraError: pandas, or pyarrow, is not installed.
    :raises StorageError: the store does not exist, or fails.
    :raises WorkerThreadError: in a signal handler or finalizer that interrupts a write.
    """
    check_choice('output', output, get_args(Output))
    wanted = selection('names', names, checked_name), selection('paths', paths, normalise)
    build = _tables.comparison_frame if output == 'pandas' else _tables.comparison_table
    meant = query(where, sort, descending, limit)
    return StoreCall(storage, tables.compare, (*wanted, meant), build)


@overload
def fetch_metrics(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
    storage: str | os.PathLike[str] | None = None,
    content: SeriesContent = 'float',
    first_step: float | None = None,
    last_step: float | None = None,
    first_time: float | datetime | None = None,
    last_time: float | datetime | None = None,
    duplicates: Duplicates = 'last',
    max_points: int | None = None,
    output: Literal['pandas'] = 'pandas',
) -> StoreCall[pd.DataFrame]: ...
@overload
def fetch_metrics(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
    storage: str | os.PathLike[str] | None = None,
    content: SeriesContent = 'float',
    first_step: float | None = None,
    last_step: float | None = None,
    first_time: float | datetime | None = None,
    last_time: float | datetime | None = None,
    duplicates: Duplicates = 'last',
    max_points: int | None = None,
    output: Literal['arrow'],
) -> StoreCall[pa.Table]: ...
def fetch_metrics(
    names: Wanted = None,
    paths: Wanted = None,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
    storage: str | os.PathLike[str] | None = None,
    content: SeriesContent = 'float',
    first_step: float | None = None,
    last_step: float | None = None,
    first_time: float | datetime | None = None,
    last_time: float | datetime | None = None,
    duplicates: Duplicates = 'last',
    max_points: int | None = None,
    output: Output = 'pandas',
) -> StoreCall[pd.DataFrame] | StoreCall[pa.Table]:
    """Return a table with a row for each point: experiment, path, step, timestamp (seconds since
    the epoch) and value.

    ::

        fetch_metrics('digits-*', 'train/*', max_points=500)

    :param names, paths, where, sort, descending, limit, storage, output: as for ``compare``.
    :param content: the type of the series to fetch. Others are left out.
    :param first_step, last_step: the range of steps; both are included.
    :param duplicates: which points to return if several have the same step. With 'last' and
        'first' the points of a series are sorted by step; with 'all' they are in the order in
        which they were logged.
    :param max_points: how many points of each series to return, at most. These are its first and
        last point. The points between them are divided into groups of equal size, and the least
        and the greatest of each group are returned, so that no peak is lost. Points of texts and
        datetimes are spread evenly. Of a long series only the stored chunks are read that may have
        such points. All are read, to return the same points, if only one point of a step is
        wanted and steps do not rise, or if the range is not one run of points.
    :raises NeptuneAsyncError: as ``compare``.
    :raises ContainerTypeError, ContentTypeError: a path is given by its name, and the variable
        there is not a series of this content.
    """
    check_choice('content', content, get_args(SeriesContent))
    check_choice('duplicates', duplicates, get_args(Duplicates))
    check_choice('output', output, get_args(Output))
    wanted_points = thinning(first_step, last_step, first_time, last_time, max_points, duplicates)
    wanted = selection('names', names, checked_name), selection('paths', paths, normalise)
    build = _tables.metrics_frame if output == 'pandas' else _tables.metrics_table
    return StoreCall(
        storage,
        tables.curves,
        (*wanted, content, wanted_points, query(where, sort, descending, limit)),
        lambda curves: build(curves, content),
    )
