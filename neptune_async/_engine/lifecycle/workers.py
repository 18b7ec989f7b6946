"""The worker of a store: ``acquire`` it, and ``release`` it."""

from __future__ import annotations

from neptune_async._engine.lifecycle import at_exit, at_fork
from neptune_async._engine.lifecycle.running_workers import running
from neptune_async._engine.worker.worker import Worker
from neptune_async._storage import registry

at_exit.register()
at_fork.register()


def acquire(url: str, *, shared: bool = True) -> Worker:
    """Return the worker of a store. The caller gives it back with ``release``.

    :param shared: False for a store that nobody else in this process may see.
    """
    with running.lock:
        for worker in running.in_use:
            if shared and worker.url == url and worker.is_shared:
                worker.users += 1
                return worker
        worker = Worker(url, registry.create, shared, at_exit.watch_child, lambda: running.lock)
        worker.users = 1
        running.in_use.append(worker)
        return worker


def share(worker: Worker) -> Worker:
    """Count one more user of a worker that is in use, and return it. That user calls ``release``,
    too.
    """
    with running.lock:
        worker.users += 1
    return worker


def release(worker: Worker) -> bool:
    """Give a worker back. If nobody else uses it, it stops. The caller may wait for its thread.

    :returns: whether nobody else uses it.
    """
    with running.lock:
        worker.users -= 1
        if worker.users:
            return False
        if worker in running.in_use:
            running.in_use.remove(worker)
    worker.stop()
    return True
