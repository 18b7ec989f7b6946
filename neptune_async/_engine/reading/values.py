"""What reads answer: one coroutine a method of the views, run on the worker's loop.

Each waits for what this process has enqueued of the path, queries storage, and
turns the answer into what the user gets, so that this costs no other thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, TypeAlias

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.reading.damage import pieces_at_end
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async._model.messages import CONTAINERS
from neptune_async._model.operations import Container, Variable
from neptune_async._model.values import CONTENT_TYPES, decode, shown_step
from neptune_async._storage.base import SeriesReading, Window
from neptune_async._storage.points import Points, Stride
from neptune_async.exceptions import StorageFormatError
from neptune_async.variable import Atom, Namespace, Series, Set

ContainerType: TypeAlias = type[Atom] | type[Series] | type[Set]
NamespaceEntry: TypeAlias = ContainerType | type[Namespace]


async def atom(worker: Worker, state: ExperimentState, path: str) -> Any:
    """Return the value of an atom."""
    found = await worker.read(state, path, worker.storage.read_atom, state.id, path)
    variable, value = found or (None, None)
    await require(worker, state, path, variable, 'atom', 'read')
    return None if value is None else decoded(worker, state.name, path, value)


async def members(worker: Worker, state: ExperimentState, path: str) -> set[Any]:
    """Return a new set of the members of a set."""
    found = await worker.read(state, path, worker.storage.read_set, state.id, path)
    variable, encoded = found or (None, ())
    await require(worker, state, path, variable, 'set', 'get')
    return {decoded(worker, state.name, path, member) for member in encoded}


def decoded(worker: Worker, experiment: str, path: str, stored: bytes) -> Any:
    """Return the value of an atom, or a member of a set, as it reads back."""
    try:
        return decode(stored)
    except ValueError as error:
        raise StorageFormatError(
            f'experiment {experiment!r}: {path}: what is stored in {worker.location} is damaged: '
            f'{error}; restore the file from a copy'
        ) from error


async def series(
    worker: Worker,
    state: ExperimentState,
    path: str,
    last: int | None,
    with_steps: bool,
    with_timestamps: bool,
) -> list[Any]:
    """Return the last points of a series, or all if ``last`` is None."""
    method = 'all' if last is None else 'tail'
    reading = await points(
        worker, state, path, Window(last=last), method, with_steps, with_timestamps
    )
    items: list[Any] = []
    for piece in pieces_at_end(reading, worker.location, state.name, last):
        items += items_of(piece, with_steps, with_timestamps)
    return items if last is None else items[max(0, len(items) - last) :]


async def points(
    worker: Worker,
    state: ExperimentState,
    path: str,
    window: Window,
    method: str,
    with_steps: bool = True,
    with_timestamps: bool = True,
) -> SeriesReading:
    """Return the points of a series, at least those in a window, for a method of its view."""
    reading = await worker.read(
        state, path, worker.storage.read_series, state.id, path, window, with_steps,
        with_timestamps,
    )  # fmt: skip
    variable = None if reading is None else reading.variable
    await require(worker, state, path, variable, 'series', method)
    assert reading is not None  # or it would have raised
    return reading


async def variable_type(
    worker: Worker, state: ExperimentState, path: str
) -> tuple[ContainerType, type]:
    """Return the container and the type of the content of a variable."""
    variable = await worker.read(state, path, worker.storage.find_variable, state.id, path)
    if variable is None:
        raise messages.variable_not_found(state.name, path, await known_paths(worker, state))
    return CONTAINERS[variable.container], CONTENT_TYPES[variable.content]


async def namespace_contents(
    worker: Worker, state: ExperimentState, path: str | None
) -> dict[str, NamespaceEntry]:
    """Return what is in a namespace, one level, by name; None is the root."""
    variables = await worker.read(state, None, worker.storage.list_variables, state.id, path)
    if not variables and path is not None:
        raise messages.namespace_not_found(state.name, path, await known_paths(worker, state))
    skipped = 0 if path is None else len(path) + 1
    contents: dict[str, NamespaceEntry] = {}
    for variable in variables:
        name, slash, _ = variable.path[skipped:].partition('/')
        contents[name] = Namespace if slash else CONTAINERS[variable.container]
    return dict(sorted(contents.items()))


async def exists(worker: Worker, state: ExperimentState, path: str) -> bool:
    """Tell whether a path has a variable or is a namespace."""
    if await worker.read(state, None, worker.storage.find_variable, state.id, path):
        return True
    return bool(await worker.storage.list_variables(state.id, path))


async def require(
    worker: Worker,
    state: ExperimentState,
    path: str,
    variable: Variable | None,
    container: Container,
    method: str,
) -> None:
    """Refuse what is no variable of a container, for a method of its view."""
    if variable is None:
        raise messages.variable_not_found(state.name, path, await known_paths(worker, state))
    if variable.container != container:
        raise messages.wrong_container(state.name, path, variable.container, method)


async def known_paths(worker: Worker, state: ExperimentState) -> list[str]:
    """Return the paths of all variables of an experiment."""
    variables = await worker.storage.list_variables(state.id, None)
    return [variable.path for variable in variables]


def _shown_steps(steps: Stride | array[float]) -> list[int | float]:
    if isinstance(steps, Stride):
        return list(map(int, steps.expanded()))
    return [shown_step(step) for step in steps]


def items_of(points: Points, with_steps: bool, with_timestamps: bool) -> Sequence[Any]:
    columns: list[Sequence[Any]] = []
    if with_steps:
        columns.append(_shown_steps(points.steps))
    if with_timestamps:
        columns.append(points.times)
    if not columns:
        return points.values if isinstance(points.values, list) else points.values.tolist()
    return list(zip(*columns, points.values, strict=True))
