"""A store as a whole, for lists, imports and exports."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from neptune_async._engine.durability.cleaning import Waste
from neptune_async._engine.durability.recovery import LeftBehind
from neptune_async._engine.lifecycle import running_workers, workers
from neptune_async._engine.reading.values import decoded
from neptune_async._engine.worker.loop_thread import Function
from neptune_async._engine.worker.reply import Reply
from neptune_async._engine.worker.worker import Worker
from neptune_async._messenger import messenger
from neptune_async._model import messages
from neptune_async._model.operations import Batch, Variable
from neptune_async._model.paths import normalise
from neptune_async._storage import registry
from neptune_async._storage.base import ExperimentRecord, ExperimentSummary, Receipt, Storage

T = TypeVar('T')


class Store:
    """An open store. Each call waits for its result.

    Nothing is written, locked or created before the first call that writes.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @property
    def location(self) -> str:
        """Where the store is, for people to read."""
        return self._worker.location

    @property
    def spill_folder(self) -> Path | None:
        """The folder for spill files and journals; None if the store is in memory."""
        return self._worker.storage.spill_folder

    def ask(self, query: Callable[[Storage], Awaitable[T]]) -> T:
        """Return the result of a query.

        :raises StorageError: the store does not exist, or cannot be read.
        """
        answer: T = self._call(self._worker.connection.ask, query)
        return answer

    def call(self, read: Function[T], *arguments: object) -> T:
        """Run a coroutine function of ``reading.tables`` on the worker's loop."""
        return self._call(read, self._worker, *arguments)

    def find(self, name: str) -> ExperimentSummary:
        """Return the summary of an experiment, as in a list.

        :raises ExperimentNotFoundError: there is no experiment of that name.
        """
        experiments = self.ask(lambda storage: storage.find_experiments([name]))
        if not experiments:
            known = self.ask(lambda storage: storage.list_experiments())
            raise messages.experiment_not_found(name, self.location, known)
        return experiments[0]

    def variables(self, experiment: ExperimentSummary, path: str | None = None) -> list[Variable]:
        """Return the variables of an experiment, or only those at a path and below it.

        :raises VariableNotFoundError: there is no variable at the path or below it.
        """
        known = self.ask(lambda storage: storage.list_variables(experiment.id, None))
        if path is None:
            return known
        wanted = normalise(path)
        found = [v for v in known if f'{v.path}/'.startswith(f'{wanted}/')]
        if not found:
            raise messages.variable_not_found(experiment.name, wanted, [v.path for v in known])
        return found

    def decoded(self, experiment: str, path: str, stored: bytes) -> Any:
        """Return the value of an atom, or a member of a set, as a read returns it.

        :raises StorageFormatError: the value is damaged.
        """
        return decoded(self._worker, experiment, path, stored)

    def open_for_writing(self) -> None:
        """Open the store for writing. Create it if it does not exist."""
        self._call(self._worker.connection.open_for_writing)

    def make(self, name: str, created: float | None = None) -> ExperimentRecord:
        """Return the experiment with this name. Create it, and the store, if it does not exist.

        :param created: as for ``Storage.create_experiment``.
        """
        return self._call(self._worker.connection.make_experiment, name, created)

    def store(self, batch: Batch) -> Receipt:
        """Store a batch that creates all its variables itself, if it is not stored already."""
        return self._call(self._worker.store, batch)

    def tidy(self) -> None:
        """Merge everything that batches wrote."""
        self._call(self._worker.connection.tidy)

    def recover(self) -> list[LeftBehind]:
        """Store what dead processes left, and return what that was."""
        return self._call(self._worker.connection.recover)

    def find_waste(self) -> Waste:
        """Return what ``clean`` would remove, and change nothing."""
        return self._call(self._worker.connection.find_waste)

    def clean(self) -> Waste:
        """Remove contents of files that nothing refers to, and what the dead have left of files,
        and return what that was.
        """
        return self._call(self._worker.connection.clean)

    def _call(self, function: Function[T], *arguments: object) -> T:
        reply: Reply[T] = self._worker.call(function, *arguments)
        try:
            return reply.result()
        except BaseException:
            reply.cancel()
            raise
        finally:
            messenger.drain()


@contextmanager
def opened(storage: str | os.PathLike[str] | None) -> Iterator[Store]:
    """Open a store for the body of a ``with`` statement.

    :param storage: as for ``Experiment``.
    """
    worker = workers.acquire(registry.resolve(storage))
    try:
        yield Store(worker)
    finally:
        if workers.release(worker):
            worker.thread.join(running_workers.EXIT_TIMEOUT)
