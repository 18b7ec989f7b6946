"""How the awaited face waits for a worker: without a thread, on any event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from neptune_async._engine.lifecycle import workers
from neptune_async._engine.worker.reply import Reply, arrival
from neptune_async._faces.store_calls import StoreCall
from neptune_async._faces.waiting import shown_as
from neptune_async._messenger import PATIENCE, messenger
from neptune_async._storage import registry

P = ParamSpec('P')
T = TypeVar('T')


def awaited(ask: Callable[P, StoreCall[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a coroutine function that waits for the answer of a store."""

    @wraps(ask)
    async def wait(*args: P.args, **kwargs: P.kwargs) -> T:
        call = ask(*args, **kwargs)
        worker = workers.acquire(registry.resolve(call.storage))
        try:
            answer = await result(worker.call(call.read, worker, *call.arguments))
        finally:
            workers.release(worker)
        # Not on this loop: to import pandas takes a second, and to build a large table as long.
        return await anyio.to_thread.run_sync(call.build, answer)

    return shown_as(wait, ask)


async def result(reply: Reply[T]) -> T:
    """Wait for the worker. To cancel this cancels the wait; operations stay in the queue."""
    try:
        await arrival(reply)
    except BaseException:
        reply.cancel()
        raise
    await told()
    return reply.result()


async def told() -> None:
    """Wait until all warnings are printed, but at most ``PATIENCE`` seconds."""
    if messenger.is_expected:
        reply: Reply[None] = Reply()
        messenger.then(partial(reply.settle, None))
        with anyio.move_on_after(PATIENCE):
            await arrival(reply)
            return
        messenger.give_up()
