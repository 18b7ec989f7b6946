"""Calls that append to a queue without its lock, and how to wait for those that are on their way.

Such a call looks whether it may, and then appends, and between the two any other thread may have
its turn. Once what it looks for is taken away, only those have to be waited for that had looked
before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any, TypeVar

import anyio

F = TypeVar('F', bound=Callable[..., Any])

_LONGEST_CALL = 1.0
"""Seconds after which a call is not waited for any more: a signal handler holds it up, it may be
one that waits for who waits here.
"""

_codes: set[CodeType] = set()


def unlocked(function: F) -> F:
    """Mark a function that appends without a lock."""
    _codes.add(function.__code__)
    return function


async def calls_end() -> None:
    """Return once every such call that a thread is in now has ended."""
    calls = [
        (thread, frame) for thread, frame in sys._current_frames().items() if frame.f_code in _codes
    ]
    with anyio.move_on_after(_LONGEST_CALL):
        while _is_one_going_on(calls):  # noqa: ASYNC110 - it tells nobody when it ends
            await anyio.sleep(0.001)


def _is_one_going_on(calls: Sequence[tuple[int, FrameType]]) -> bool:
    return any(frame in _frames(thread) for thread, frame in calls)


def _frames(thread: int) -> Iterator[FrameType]:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        yield frame
        frame = frame.f_back
