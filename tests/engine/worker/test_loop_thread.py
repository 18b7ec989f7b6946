"""The thread with an event loop: whoever calls it is answered, also when it dies."""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import pytest

from neptune_async._engine.worker import loop_thread
from neptune_async._engine.worker.loop_thread import LoopThread
from neptune_async._engine.worker.reply import Reply
from neptune_async.exceptions import StorageError

_BOUND = 10.0


async def answer() -> int:
    return 42


async def wait_for_ever() -> None:
    await anyio.sleep_forever()


def test_a_call_that_comes_while_a_dying_loop_cancels_the_others_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_thread, '_FIRST_PAUSE', 0.0)
    lives = 0
    is_alive_again = threading.Event()
    late: list[Reply[None]] = []

    async def main() -> None:
        nonlocal lives, ends
        lives += 1
        ends = anyio.Event()
        if lives == 2:
            is_alive_again.set()
        await ends.wait()
        if lives == 1:
            raise RuntimeError('injected')

    async def nothing() -> None:
        pass

    async def call_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            # Has its turn when no task is left, and the loop has not come to its end yet.
            thread.post(lambda: late.append(thread.call(wait_for_ever)))

    thread = LoopThread('dies', main, nothing)
    ends = anyio.Event()
    last = thread.call(call_when_cancelled)
    thread.post(lambda: ends.set())

    with pytest.raises(StorageError, match='ended before it answered'):
        last.result(_BOUND)
    assert is_alive_again.wait(_BOUND)
    assert thread.call(answer).result(_BOUND) == 42
    assert late[0].is_settled
    thread.post(lambda: ends.set())
    thread.join(_BOUND)
    assert not thread.is_running


@pytest.mark.busy
def test_a_call_that_comes_while_the_loop_closes_is_answered(beside: str) -> None:
    late: list[Reply[int]] = []

    async def main() -> None:
        pass

    async def close() -> None:
        thread.post(lambda: late.append(thread.call(answer)))
        while not late:
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()

    thread = LoopThread('closes', main, close)
    thread.post(lambda: None)
    thread.join(_BOUND)

    with pytest.raises(StorageError, match='ended before it answered'):
        late[0].result(_BOUND)


def test_a_result_that_came_just_after_its_call_was_cancelled_is_undone() -> None:
    undone: list[int] = []
    ends: anyio.Event

    async def main() -> None:
        nonlocal ends
        ends = anyio.Event()
        await ends.wait()

    async def nothing() -> None:
        pass

    async def answer_when_cancelled() -> int:
        called.set()
        # No await comes in between: the loop learns of it only once there is a result.
        assert cancelled.wait(_BOUND)
        return 42

    called, cancelled = threading.Event(), threading.Event()
    thread = LoopThread('undoes', main, nothing)
    call = thread.call(answer_when_cancelled, undo=undone.append)
    assert called.wait(_BOUND)
    assert call.cancel()
    cancelled.set()

    assert thread.call(answer).result(_BOUND) == 42
    assert undone == [42]
    thread.post(lambda: ends.set())
    thread.join(_BOUND)
