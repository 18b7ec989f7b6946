"""Following a series: the points that are there, and those that come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import anyio

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.reading.damage import damaged, pieces_at_end
from neptune_async._engine.reading.values import items_of
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async._storage.base import SeriesReading, Window
from neptune_async._storage.points import Points
from neptune_async.variable import Point


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
    pieces = pieces_at_end(reading, worker.location, state.name, last)
    points = _points(pieces)
    before = points[: max(0, len(points) - last)]
    return Position(reading.variable.id, max(0, reading.end - last), before[-1] if before else None)


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
    seen, new, end, is_whole = _unseen(reading, position)
    last = position.last
    if last is not None and [point[:2] for point in seen] != [last[:2]]:
        # What was logged since then has later timestamps than all before.
        reading = await _read_from(worker, state, path, Window()) or reading
        seen = _points(pieces_at_end(reading, worker.location, state.name))
        new = [point for point in seen if point.timestamp > last.timestamp]
        end = reading.end
    elif not new and not is_whole:
        raise damaged(reading, worker.location, state.name)
    points = [*seen, *new]
    return replace(position, count=end, last=points[-1] if points else None), new


def _unseen(
    reading: SeriesReading, position: Position
) -> tuple[list[Point], list[Point], int, bool]:
    """Return the last point before a position, those behind it, up to the first that is damaged,
    how many points come before that, and whether none is.

    A point before the position that is damaged now is taken for what it was.
    """
    seen: list[Point] = []
    new: list[Point] = []
    first = reading.first
    for run in reading.runs:
        is_behind = first + len(run) > position.count
        if isinstance(run, Points):
            points = _points([run])
            before = max(0, position.count - first)
            seen = points[:before][-1:] or seen
            new += points[before:]
        elif is_behind or (run.count is None and first >= position.count):
            return seen, new, first, False
        else:
            seen = [] if position.last is None else [position.last]
        first += len(run)
    return seen, new, first, True


def _points(pieces: Iterable[Points]) -> list[Point]:
    points: list[Point] = []
    for piece in pieces:
        points += map(Point._make, items_of(piece, True, True))
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
