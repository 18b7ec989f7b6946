"""Waiting for a reply: signals are looked for however long it takes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from neptune_async._engine.worker import reply as module
from neptune_async._engine.worker.reply import Reply


class DeafLatch:
    """A latch whose waits no signal ends, as where it came just before: each takes its time."""

    def __init__(self, reply: Reply[Any]) -> None:
        self.timeouts: list[float] = []
        self._reply = reply

    def acquire(self, timeout: float) -> bool:
        self.timeouts.append(timeout)
        if len(self.timeouts) == 3:
            self._reply.settle('answer')
            return True
        return False

    def release(self) -> None:
        pass


@pytest.mark.parametrize('timeout', [None, 60.0])
def test_a_wait_lets_the_interpreter_look_for_signals_again_and_again(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    reply: Reply[str] = Reply()
    latch = DeafLatch(reply)
    monkeypatch.setattr(module, 'closed_latch', lambda: latch)
    assert reply.result(timeout) == 'answer'
    assert latch.timeouts == [module._LOOK] * 3


@pytest.mark.parametrize('timeout', [0.0, 0.01])
def test_a_wait_ends_when_its_time_is_over(timeout: float) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Reply[int]().result(timeout)
    assert time.monotonic() - began >= timeout
