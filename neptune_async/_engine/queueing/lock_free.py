"""Calls that append to a queue without its lock, and how to wait until they have ended.

Such a call first looks whether it may append, and then appends. Another thread may run between
the two. Whoever closes the queue takes away what the call looks for, and then waits only for the
calls that had looked before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any, TypeVar

import anyio

F = TypeVar('F', bound=Callable[..., Any])

_LONGEST_CALL = 1.0
"""Seconds to wait for a call at most. If it takes longer, a signal handler has interrupted it, and
that handler may wait for the thread that waits here.
"""

_codes: set[CodeType] = set()


def unlocked(function: F) -> F:
    """Mark a function that appends without a lock."""
    _codes.add(function.__code__)
    return function


async def calls_end() -> None:
    """Return when every such call that is going on now has ended."""
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
