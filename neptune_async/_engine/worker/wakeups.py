"""The events that the main loop of a worker waits for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from neptune_async._engine.worker.loop_thread import Event

GLANCE = 5.0
"""Seconds of a wait after which the worker looks around."""

Look: TypeAlias = Callable[[], Awaitable[object]]


class Wakeups:
    """Two ways to wake the worker: to look at its queues after an interval, or to look now. Only
    the tasks of the worker's loop use this.
    """

    def __init__(self) -> None:
        self._awake, self._hurried = Event(), Event()

    def rouse(self, hurry: bool) -> None:
        """End the sleep of the worker.

        :param hurry: True to end its interval, too.
        """
        self._awake.set()
        if hurry:
            self._hurried.set()

    @property
    def is_hurried(self) -> bool:
        """Whether the worker is to look at its queues now."""
        return self._hurried.is_set()

    async def turn(self, seconds: float, look: Look | None = None) -> bool:
        """Wait for an interval, or until somebody hurries the worker.

        :param look: is called each time after ``GLANCE`` seconds of waiting, and at its end.
        :returns: whether somebody hurried the worker.
        """
        await _wait(self._hurried, seconds, look)
        was_hurried = self._hurried.is_set()
        self._hurried = Event()
        return was_hurried

    def fall_asleep(self) -> None:
        """Set ``is_awake`` to False, until somebody wakes the worker."""
        self._awake = Event()

    @property
    def is_awake(self) -> bool:
        """Whether somebody has woken the worker since it fell asleep."""
        return self._awake.is_set()

    async def sleep(self, seconds: float, look: Look) -> None:
        """Wait until somebody wakes the worker, but not longer than some seconds.

        :param look: as ``turn``.
        """
        await _wait(self._awake, seconds, look)


async def _wait(event: Event, seconds: float, look: Look | None) -> None:
    while True:
        some = seconds if look is None else min(seconds, GLANCE)
        with anyio.move_on_after(some):
            await event.wait()
        if event.is_set():
            return
        if look is not None:
            await look()
        seconds -= some
        if seconds <= 0:
            return
