"""Cancelled at any await: nothing is lost, doubled or left open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from neptune_async import AsyncExperiment, aio
from neptune_async._engine.lifecycle import running_workers
from neptune_async._engine.worker.connection import Connection
from neptune_async.exceptions import ExperimentExistsError

Hold = Callable[[], AbstractContextManager[None]]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.failure('F22', 'a call is cancelled at each of its awaits in turn, or times out'),
]

MOST_AWAITS = 100


class CancelledAt:
    """Awaits something, and cancels a scope when it comes to wait for the n-th time."""

    def __init__(self, awaitable: Awaitable[Any], number: int, scope: anyio.CancelScope) -> None:
        self.was_cancelled = False
        self._awaitable = awaitable
        self._number = number
        self._scope = scope

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaitable.__await__()
        resume: Callable[[], Any] = lambda: next(steps)  # noqa: E731 - replaced at each step
        for number in range(1, MOST_AWAITS):
            try:
                trap = resume()
            except StopIteration as stopped:
                return stopped.value
            if number == self._number:
                self.was_cancelled = True
                self._scope.cancel()
            try:
                sent = yield trap
            except BaseException as error:
                resume = lambda error=error: steps.throw(error)  # noqa: E731
            else:
                resume = lambda sent=sent: steps.send(sent)  # noqa: E731
        raise AssertionError('it does not come to an end')


async def sweep(call: Callable[[], Awaitable[Any]], check: Callable[[], Awaitable[None]]) -> int:
    """Cancel a call at its first await, at its second, and so on; return how many it has."""
    for number in range(1, MOST_AWAITS):
        with anyio.CancelScope() as scope:
            attempt = CancelledAt(call(), number, scope)
            await attempt
        await check()
        if not attempt.was_cancelled:
            return number - 1
    raise AssertionError('it does not come to an end')


CALLS: dict[str, Callable[[AsyncExperiment], Awaitable[Any]]] = {
    'tail': lambda exp: exp['series'].tail(1),
    'all': lambda exp: exp['series'].all(),
    'follow': lambda exp: anext(exp['series'].follow(last=1)),
    'to_pandas': lambda exp: exp['series'].to_pandas(),
    'to_numpy': lambda exp: exp['series'].to_numpy(),
    'to_arrow': lambda exp: exp['series'].to_arrow(),
    'to_dict': lambda exp: exp.to_dict(),
    'read': lambda exp: exp['atom'].read(),
    'get': lambda exp: exp['set'].get(),
    'variable_type': lambda exp: exp['series'].variable_type(),
    'namespace_contents': lambda exp: exp['a'].namespace_contents(),
    'root_contents': lambda exp: exp.namespace_contents(),
    'exists': lambda exp: exp['series'].exists(),
    'flush': lambda exp: exp.flush(),
    'drain': lambda exp: exp.drain(),
}


@pytest.mark.parametrize('method', CALLS)
async def test_a_cancelled_call_loses_and_doubles_nothing(method: str, store: Path) -> None:
    async with AsyncExperiment('sweep', storage=store, max_pending=50) as exp:
        logged: list[float] = []

        async def call() -> Any:
            for _ in range(60):
                logged.append(float(len(logged)))
                exp['series'].log(logged[-1])
            exp['atom'].assign(len(logged))
            exp['set'].add(len(logged))
            exp['a/b'].assign(1)
            return await CALLS[method](exp)

        async def check() -> None:
            assert await exp['series'].all() == logged
            assert await exp['atom'].read() == len(logged)
            connection = exp._worker.storage.below._connection  # type: ignore[attr-defined]
            assert not connection.in_transaction
            stats = exp.stats()
            assert stats.accepted == stats.committed + stats.pending

        assert await sweep(call, check) >= 1


async def test_a_cancelled_delete_happens_or_does_not(store: Path) -> None:
    async with AsyncExperiment('sweep', storage=store) as exp:

        async def call() -> None:
            exp['doomed'].log(1.0)
            exp['kept'].log(1.0)
            await exp['doomed'].delete()

        async def check() -> None:
            assert await exp['kept'].exists()
            if await exp['doomed'].exists():
                assert set(await exp['doomed'].all()) == {1.0}

        await sweep(call, check)
        if await exp['doomed'].exists():
            await exp['doomed'].delete()
        assert not await exp['doomed'].exists()


async def test_a_cancelled_fork_is_made_once_when_it_is_called_again(store: Path) -> None:
    async with AsyncExperiment('sweep', storage=store) as exp:
        logged: list[float] = []
        forks: list[AsyncExperiment] = []

        async def call() -> None:
            logged.append(float(len(logged)))
            exp['series'].log(logged[-1])
            forks.append(await exp.fork(f'fork-{len(logged)}'))

        async def check() -> None:
            name = f'fork-{len(logged)}'
            fork = forks.pop() if forks else await exp.fork(name)
            assert await fork['series'].all() == logged
            await fork.aclose()
            with pytest.raises(ExperimentExistsError):
                await exp.fork(name)

        assert await sweep(call, check) >= 2


async def test_a_cancelled_rename_happens_or_does_not(store: Path) -> None:
    async with AsyncExperiment('sweep', storage=store) as exp:
        logged: list[float] = []

        async def call() -> None:
            logged.append(float(len(logged)))
            exp['series'].log(logged[-1])
            await exp.rename(f'renamed-{len(logged)}')

        async def check() -> None:
            exp['series'].log(float(len(logged)))
            logged.append(float(len(logged)))
            assert await exp['series'].all() == logged
            with anyio.fail_after(10):
                # It may come to its end yet.
                while await aio.list_experiments(store) != [exp.name]:
                    await anyio.lowlevel.checkpoint()

        assert await sweep(call, check) >= 1
        assert exp.name == f'renamed-{len(logged) - 1}'
    assert await aio.list_experiments(store) == [exp.name]


async def test_a_cancelled_opening_leaves_nothing_open(store: Path) -> None:
    async def call() -> None:
        exp = await AsyncExperiment.open('sweep', storage=store)
        await exp.aclose()

    async def check() -> None:
        with anyio.fail_after(10):
            while running_workers.running.in_use:
                await anyio.lowlevel.checkpoint()

    assert await sweep(call, check) >= 2
    assert await aio.list_experiments(store) == ['sweep']


@pytest.mark.busy
async def test_a_cancelled_close_stores_or_spills_everything(store: Path, beside: str) -> None:
    closes = 0

    async def call() -> None:
        nonlocal closes
        exp = await AsyncExperiment.open('sweep', storage=store)
        exp['series'].log(float(closes))
        closes += 1
        await exp.aclose()

    async def check() -> None:
        async with AsyncExperiment('sweep', storage=store) as exp:
            if closes:
                assert await exp['series'].all() == [float(n) for n in range(closes)]

    await sweep(call, check)


@pytest.mark.busy
@pytest.mark.parametrize('holders', [1, 2, 10])
@pytest.mark.parametrize('is_held', [False, True])
async def test_tasks_that_are_cancelled_at_once_store_or_spill_everything(
    holders: int, is_held: bool, store: Path, held: Hold, beside: str
) -> None:
    opened = 0

    async def hold_open(log: anyio.Event) -> None:
        nonlocal opened
        async with AsyncExperiment('shared', storage=store) as exp:
            opened += 1
            await log.wait()
            for _ in range(10):
                exp['series'].log(1.0)
            await anyio.sleep_forever()

    # Its worker lives on, which nobody's end then waits for.
    async with AsyncExperiment('other', storage=store):
        for n in range(1, 6):
            log = anyio.Event()
            async with AsyncExitStack() as stack:
                tasks = await stack.enter_async_context(anyio.create_task_group())
                for _ in range(holders):
                    tasks.start_soon(hold_open, log)
                with anyio.fail_after(10):
                    while opened < n * holders:
                        await anyio.lowlevel.checkpoint()
                holding = held() if is_held else nullcontext()
                with holding:
                    log.set()
                    await anyio.wait_all_tasks_blocked()
                    tasks.cancel_scope.cancel()
                    await stack.aclose()
            async with AsyncExperiment('shared', storage=store) as exp:
                assert len(await exp['series'].all()) == 10 * holders * n


@pytest.mark.busy
async def test_an_experiment_that_is_being_closed_opens_anew_after_that(
    store: Path, held: Hold, beside: str
) -> None:
    exp = await AsyncExperiment.open('twice', storage=store)
    async with AsyncExperiment('other', storage=store):
        async with anyio.create_task_group() as tasks:
            with held():
                exp['series'].log(1.0)
                tasks.start_soon(exp.aclose)
                await anyio.wait_all_tasks_blocked()
                opening = AsyncExperiment('twice', storage=store)
                tasks.start_soon(opening.__aenter__)
                await anyio.wait_all_tasks_blocked()
        opening['series'].log(2.0)
        assert await opening['series'].all() == [1.0, 2.0]
        await opening.aclose()


async def test_a_close_takes_no_longer_than_its_timeout_to_merge_what_is_stored(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExperiment('other', storage=store):
        exp = await AsyncExperiment.open('merges', storage=store)
        with monkeypatch.context() as slow:
            slow.setattr(Connection, 'tidy', lambda _: anyio.sleep_forever())
            with anyio.fail_after(10):
                await exp.aclose(timeout=0.1)
            exp = await AsyncExperiment.open('merges', storage=store)
            with anyio.fail_after(10), anyio.move_on_after(0.1):
                await exp.aclose()


@pytest.mark.busy
@pytest.mark.parametrize('anyio_backend', ['asyncio'])
async def test_a_close_that_is_thrown_away_lets_go(store: Path, beside: str) -> None:
    exp = await AsyncExperiment.open('thrown', storage=store)
    exp['series'].log(1.0)
    closing = exp.aclose()
    closing.send(None)
    closing.close()
    with anyio.fail_after(10):
        while running_workers.running.in_use:
            await anyio.lowlevel.checkpoint()
    async with AsyncExperiment('thrown', storage=store) as exp:
        assert await exp['series'].all() == [1.0]


@pytest.mark.busy
@pytest.mark.parametrize('anyio_backend', ['asyncio'])
async def test_who_opens_anew_after_a_close_that_was_thrown_away_sees_all(
    store: Path, beside: str
) -> None:
    for number in range(100):
        exp = await AsyncExperiment.open(f'thrown-{number}', storage=store)
        exp['series'].log(1.0)
        closing = exp.aclose()
        closing.send(None)
        closing.close()
        async with AsyncExperiment(f'thrown-{number}', storage=store) as exp:
            assert await exp['series'].exists(), number
            assert await exp['series'].all() == [1.0], number


LOOKS: dict[str, Callable[[Path], Awaitable[Any]]] = {
    'list': lambda store: aio.list_experiments(store),
    'delete': lambda store: aio.delete_experiment('doomed', store),
    'compare': lambda store: aio.compare('doomed', storage=store),
    'fetch_metrics': lambda store: aio.fetch_metrics('doomed', storage=store),
}


@pytest.mark.parametrize('function', LOOKS)
async def test_a_cancelled_look_at_the_store_leaves_nothing_open(
    function: str, store: Path
) -> None:
    async def call() -> None:
        async with AsyncExperiment('doomed', storage=store) as exp:
            exp['series'].log(1.0)
        await LOOKS[function](store)

    async def check() -> None:
        with anyio.fail_after(10):
            while running_workers.running.in_use:
                await anyio.lowlevel.checkpoint()

    await sweep(call, check)


async def test_a_timeout_of_a_flush_loses_and_doubles_nothing(store: Path, held: Hold) -> None:
    async with AsyncExperiment('held', storage=store) as exp:
        await exp.flush()
        with held():
            for value in range(100):
                exp['series'].log(float(value))
            with anyio.move_on_after(0.05) as scope:
                await exp.flush()
            assert scope.cancelled_caught
            assert exp.pending == 100
        assert await exp['series'].all() == [float(value) for value in range(100)]
