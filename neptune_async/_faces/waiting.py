"""How the synchronous face waits for a worker."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from neptune_async._engine.lifecycle import running_workers, workers
from neptune_async._engine.worker.reply import Reply
from neptune_async._engine.worker.worker import Worker
from neptune_async._faces.store_calls import StoreCall
from neptune_async._messenger import messenger
from neptune_async._storage import registry
from neptune_async.exceptions import NeptuneAsyncError

P = ParamSpec('P')
T = TypeVar('T')


def waiting(ask: Callable[P, StoreCall[T]]) -> Callable[P, T]:
    """Return a function that waits for the answer of a store."""

    @wraps(ask)
    def wait(*args: P.args, **kwargs: P.kwargs) -> T:
        call = ask(*args, **kwargs)
        worker = workers.acquire(registry.resolve(call.storage))
        try:
            answer = result(worker.call(call.read, worker, *call.arguments))
        finally:
            workers.release(worker)
            join(worker)
        return call.build(answer)

    return shown_as(wait, ask)


def shown_as(function: Callable[P, T], ask: Callable[P, object]) -> Callable[P, T]:
    """Make ``help`` show a function with the arguments of another one, and return the function."""
    signature = inspect.signature(ask).replace(return_annotation=inspect.Signature.empty)
    setattr(function, '__signature__', signature)  # noqa: B010 - no function has it for mypy
    return function


def join(worker: Worker) -> None:
    """If nobody uses a worker any more, wait until its thread has ended."""
    if not worker.users:
        worker.thread.join(running_workers.EXIT_TIMEOUT)


def result(reply: Reply[T], timeout: float | None = None) -> T:
    """Wait for the worker, and until all warnings are printed. To interrupt this ends the wait;
    operations stay in the queue.

    :param timeout: the longest time to wait for the worker, in seconds; None has no limit.
    """
    try:
        answer = reply.result(timeout)
    except NeptuneAsyncError:
        messenger.drain()
        raise
    except BaseException:
        reply.cancel()
        raise
    messenger.drain()
    return answer
