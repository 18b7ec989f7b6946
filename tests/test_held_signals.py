"""Signals are handled after a block, and none of them is lost."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from neptune_async._held_signals import signals_held, start

FIRST, SECOND = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """The numbers of two signals, as they are handled; the handler of the first one raises."""
    numbers: list[int] = []

    def interrupt(number: int, _: object) -> None:
        numbers.append(number)
        raise KeyboardInterrupt

    before = [
        (FIRST, signal.signal(FIRST, interrupt)),
        (SECOND, signal.signal(SECOND, lambda number, _: numbers.append(number))),
    ]
    yield numbers
    for number, handler in before:
        signal.signal(number, handler)


def test_each_signal_is_handled_once_after_the_block(handled: list[int]) -> None:
    handlers = [signal.getsignal(FIRST), signal.getsignal(SECOND)]

    with pytest.raises(KeyboardInterrupt), signals_held():
        for number in (FIRST, SECOND, FIRST):
            signal.raise_signal(number)
        assert handled == []

    assert handled == [FIRST, SECOND]
    assert [signal.getsignal(FIRST), signal.getsignal(SECOND)] == handlers


def test_an_error_in_the_block_is_told_when_the_signals_are_handled(handled: list[int]) -> None:
    with pytest.raises(OSError, match='full'), signals_held():
        signal.raise_signal(SECOND)
        raise OSError('full')

    assert handled == [SECOND]


def test_a_signal_that_comes_while_handlers_are_put_back_is_handled(
    handled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = signal.signal

    def interrupted(number: int, handler: object) -> None:
        put(number, handler)  # type: ignore[arg-type]
        if number == FIRST and not isinstance(handler, type(held)):
            signal.raise_signal(FIRST)

    with pytest.raises(KeyboardInterrupt), signals_held():
        held = signal.getsignal(FIRST)
        monkeypatch.setattr(signal, 'signal', interrupted)
    signal.raise_signal(SECOND)

    assert handled == [FIRST, SECOND]


def test_a_signal_that_asyncio_handles_is_handled_once() -> None:
    numbers: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        later = loop.create_future()
        loop.add_signal_handler(FIRST, numbers.append, FIRST)
        loop.add_signal_handler(SECOND, later.set_result, None)
        with signals_held():
            signal.raise_signal(FIRST)
        signal.raise_signal(SECOND)
        await later

    asyncio.run(main())

    assert numbers == [FIRST]


def test_a_thread_is_started_before_a_signal_is_handled(
    handled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = threading.Event()
    thread = threading.Thread(target=ran.set)
    begin = thread.start

    def interrupted() -> None:
        signal.raise_signal(FIRST)
        begin()

    monkeypatch.setattr(thread, 'start', interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(thread)

    thread.join()
    assert ran.is_set()
    assert handled == [FIRST]


def test_on_another_thread_nothing_is_held(handled: list[int]) -> None:
    seen: list[object] = []

    def hold() -> None:
        with signals_held():
            seen.append(signal.getsignal(SECOND))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()

    assert seen == [signal.getsignal(SECOND)]
