"""What reads answer: one coroutine a method of the views, run on the worker's loop.

Each waits for what this process has enqueued of the path, queries storage, and
turns the answer into what the user gets, so that this costs no other thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import anyio

from neptune_async._engine.experiments import number_steps
from neptune_async._engine.state import ExperimentState, Origin
from neptune_async._engine.worker import Worker
from neptune_async._model import messages
from neptune_async._model.messages import CONTAINERS
from neptune_async._model.operations import Container, Variable
from neptune_async._model.values import CONTENT_TYPES, decode, shown_step
from neptune_async._storage.base import SeriesReading, Window
from neptune_async._storage.chunks import Points, Stride
from neptune_async.exceptions import StorageError, StorageFormatError
from neptune_async.variable import Atom, Namespace, Point, Series, Set

_BESIDES = Origin('head-room')
"""Of a write that is made on the worker's thread, which must not wait for room."""

ContainerType: TypeAlias = type[Atom] | type[Series] | type[Set]
NamespaceEntry: TypeAlias = ContainerType | type[Namespace]


async def atom(worker: Worker, state: ExperimentState, path: str) -> Any:
    """Return the value of an atom."""
    found = await worker.read(state, path, worker.storage.read_atom, state.id, path)
    variable, value = found or (None, None)
    await _require(worker, state, path, variable, 'atom', 'read')
    return None if value is None else decoded(worker, state.name, path, value)


async def members(worker: Worker, state: ExperimentState, path: str) -> set[Any]:
    """Return a new set of the members of a set."""
    found = await worker.read(state, path, worker.storage.read_set, state.id, path)
    variable, encoded = found or (None, ())
    await _require(worker, state, path, variable, 'set', 'get')
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
    for piece in reading.pieces:
        items += _items(piece, with_steps, with_timestamps)
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
    await _require(worker, state, path, variable, 'series', method)
    assert reading is not None  # or it would have raised
    return reading


@dataclass(frozen=True, slots=True)
class Position:
    """How far a series was followed.

    :ivar variable_id: None before anything was seen: a variable that was
        deleted and made anew has another id, and is followed from its start.
    :ivar count: how many of its points were seen.
    :ivar last: the last of them, which a rewind may have dropped; None if none was.
    """

    variable_id: int | None = None
    count: int = 0
    last: Point | None = None


async def begin_follow(
    worker: Worker, state: ExperimentState, path: str, last: int | None
) -> Position:
    """Return the position before the last points that are committed, or before all."""
    reading = await _read_from(worker, state, path, Window(last=(last or 0) + 1))
    if reading is None or last is None:
        return Position()
    count = max(0, reading.end - last)
    before = _points(reading)[: max(0, count - reading.first)]
    return Position(reading.variable.id, count, before[-1] if before else None)


async def follow(
    worker: Worker,
    state: ExperimentState,
    path: str,
    position: Position,
    timeout: float | None = None,
) -> tuple[Position, list[Point]]:
    """Return the points beyond a position, once there are any.

    :param timeout: seconds to wait where there is none yet, and then to return none.
    """
    position, points = await _beyond(worker, state, path, position)
    if not points:
        with anyio.move_on_after(timeout):
            async with worker.storage.watch(state.id) as changed:
                while not points:
                    await worker.next_commit(changed)
                    position, points = await _beyond(worker, state, path, position)
    return position, points


async def _beyond(
    worker: Worker, state: ExperimentState, path: str, position: Position
) -> tuple[Position, list[Point]]:
    # With the last that was seen: a rewind may have dropped it.
    window = Window(first=max(0, position.count - 1))
    reading = await _read_from(worker, state, path, window)
    if reading is None:
        return position, []
    if reading.variable.id != position.variable_id:
        return await _beyond(worker, state, path, Position(reading.variable.id))
    points = _points(reading)
    new = points[max(0, position.count - reading.first) :]
    seen, last = points[: len(points) - len(new)][-1:], position.last
    if last is not None and [point[:2] for point in seen] != [last[:2]]:
        # What was logged since then has later timestamps than all before.
        reading = await _read_from(worker, state, path, Window()) or reading
        points = _points(reading)
        new = [point for point in points if point.timestamp > last.timestamp]
    return replace(position, count=reading.end, last=points[-1] if points else None), new


def _points(reading: SeriesReading) -> list[Point]:
    points: list[Point] = []
    for piece in reading.pieces:
        points += map(Point._make, _items(piece, True, True))
    return points


async def _read_from(
    worker: Worker, state: ExperimentState, path: str, window: Window
) -> SeriesReading | None:
    reading = await worker.query(
        state, worker.storage.read_series, state.id, path, window, True, True
    )
    if reading is not None and reading.variable.container != 'series':
        raise messages.wrong_container(state.name, path, reading.variable.container, 'follow')
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


async def delete(worker: Worker, state: ExperimentState, path: str) -> None:
    """Delete a variable, or all below a namespace, of this or another process.

    :raises RejectedOperationsError: storage refused some operations before; nothing is deleted.
    """
    await worker.drain(state)
    state.raise_rejections()
    if not state.delete(path, _BESIDES):
        if not await exists(worker, state, path):
            raise messages.variable_not_found(state.name, path, await known_paths(worker, state))
        state.put_delete(path, _BESIDES)


async def rewind(worker: Worker, state: ExperimentState, path: str, step: float) -> None:
    """Drop the points beyond a step from the series at a path and below it; from all if it is
    empty.

    :raises RejectedOperationsError: storage refused some operations before; nothing is dropped.
    """
    await worker.drain(state)
    state.raise_rejections()
    if not state.rewind(path, step, _BESIDES):
        if not await exists(worker, state, path):
            raise messages.nothing_found(state.name, path, await known_paths(worker, state))
        variable = await worker.query(state, worker.storage.find_variable, state.id, path)
        if variable is not None:
            await _require(worker, state, path, variable, 'series', 'rewind')
        state.put_rewind(path, step, _BESIDES)
    if state.numbers_steps:
        # If storage fails it numbers the steps itself, later; they just cannot be printed.
        with suppress(StorageError):
            await number_steps(worker, state)


async def _require(
    worker: Worker,
    state: ExperimentState,
    path: str,
    variable: Variable | None,
    container: Container,
    method: str,
) -> None:
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


def _items(points: Points, with_steps: bool, with_timestamps: bool) -> Sequence[Any]:
    columns: list[Sequence[Any]] = []
    if with_steps:
        columns.append(_shown_steps(points.steps))
    if with_timestamps:
        columns.append(points.times)
    if not columns:
        return points.values if isinstance(points.values, list) else points.values.tolist()
    return list(zip(*columns, points.values, strict=True))
