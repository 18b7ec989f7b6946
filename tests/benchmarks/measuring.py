"""What workloads are made of: values, loops that log them, and what is measured."""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from .systems import System

Measured: TypeAlias = dict[str, float]
Stage: TypeAlias = Callable[[System, Path, float], Measured]

PATH = 'train/loss'
clock = time.perf_counter


def noise(count: int) -> list[float]:
    """Return values that do not compress."""
    draw = random.Random(0).random
    return [draw() - 0.5 for _ in range(count)]


def loop(statement: str, over: str = 'x') -> Callable[..., None]:
    """Return a function (run, path, items) that executes a statement for each item."""
    return compiled(f"""
def loop(run, path, items):
    for i, {over} in enumerate(items):
        {statement}
""")


def timed_loop(statement: str, over: str = 'x') -> Callable[..., list[int]]:
    """Return the same that returns the nanoseconds of each turn, less those of the clock."""
    return compiled(f"""
from time import perf_counter_ns as clock

def loop(run, path, items):
    turns = []
    append = turns.append
    for i, {over} in enumerate(items):
        start = clock()
        {statement}
        append(clock() - start)
    for i in range(1000):
        start = clock()
        append(clock() - start)
    reading = sorted(turns[-1000:])[500]
    return [turn - reading for turn in turns[:-1000]]
""")


def compiled(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return names['loop']


def peak_memory() -> int:
    """Return the most bytes that the process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())


def until_durable(system: System, run: Any) -> None:
    """Flush, or close where that is the only way to know."""
    if not system.flush(run):
        system.close(run)


def median(numbers: Iterable[float]) -> float:
    return statistics.median(numbers)


def seconds_of(function: Callable[..., object], *arguments: object) -> float:
    start = clock()
    function(*arguments)
    return clock() - start


def work(turns: int) -> int:
    """Compute for so many turns."""
    total = 0
    for turn in range(turns):
        total += turn * turn
    return total


def turns_of_a_millisecond() -> int:
    """Return how many turns of ``work`` take a millisecond."""

    def seconds() -> float:
        start = clock()
        work(10_000)
        return clock() - start

    return int(10_000 * 1e-3 / min(seconds() for _ in range(50)))
