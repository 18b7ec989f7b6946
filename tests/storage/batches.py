"""Batches for tests to write, and what they come to."""

from __future__ import annotations

from array import array
from typing import Any

from neptune_async._model.operations import (
    AUTOMATIC_STEP,
    POINT,
    CreateVariable,
    Part,
    Variable,
    point_key,
)
from neptune_async._storage.base import Storage, Window

LOSS = Variable(1, 'loss', 'series', 'float')


def part(experiment: Any, values: list[float], *, creates: bool = False) -> Part:
    """Return a part with points of the series ``LOSS``."""
    points = array('d')
    for value in values:
        points.frombytes(POINT.pack(point_key(LOSS.id), AUTOMATIC_STEP, value, value))
    operations: list[Any] = [CreateVariable(LOSS)] if creates else []
    return Part(
        experiment.id, experiment.name, experiment.epoch, operations, points, count=len(values)
    )


async def values(storage: Storage, experiment: Any) -> list[float]:
    """Return what the series ``LOSS`` holds."""
    reading = await storage.read_series(experiment.id, 'loss', Window(), True, True)
    return [value for piece in reading.pieces for value in piece.values] if reading else []
