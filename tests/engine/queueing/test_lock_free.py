"""A close waits for calls that append without a lock, and for no others."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from neptune_async._engine.queueing.lock_free import calls_end, unlocked

_BOUND = 10.0

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return 'asyncio'


@unlocked
def append(steps: list[str]) -> None:
    steps.append('looked')
    while 'may go on' not in steps:
        pass
    steps.append('appended')


def check(steps: list[str]) -> None:
    steps.append('looked')
    while 'may go on' not in steps:
        pass


async def begin(function: Callable[[list[str]], None]) -> tuple[threading.Thread, list[str]]:
    steps: list[str] = []
    thread = threading.Thread(target=function, args=(steps,), daemon=True)
    thread.start()
    with anyio.fail_after(_BOUND):
        while not steps:
            await anyio.lowlevel.checkpoint()
    return thread, steps


@pytest.mark.busy
async def test_a_call_that_has_looked_is_waited_for(beside: str) -> None:
    thread, steps = await begin(append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls_end)
        await anyio.wait_all_tasks_blocked()
        assert steps == ['looked']
        steps.append('may go on')
    assert steps[-1] == 'appended'
    thread.join(_BOUND)


async def test_other_calls_are_not_waited_for() -> None:
    thread, steps = await begin(check)
    with anyio.fail_after(0.5):  # half as long as the longest wait
        await calls_end()
    steps.append('may go on')
    thread.join(_BOUND)


@pytest.mark.busy
async def test_a_call_that_a_signal_handler_holds_up_is_not_waited_for_forever(beside: str) -> None:
    thread, steps = await begin(append)
    with anyio.fail_after(_BOUND):
        await calls_end()
    assert steps == ['looked']
    steps.append('may go on')
    thread.join(_BOUND)
