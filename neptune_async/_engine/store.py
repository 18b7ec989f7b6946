"""A store as a whole, for what is no experiment's: lists, imports, exports."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from neptune_async._engine import lifecycle
from neptune_async._engine.loop import Function
from neptune_async._engine.reads import decoded
from neptune_async._engine.recovery import LeftBehind
from neptune_async._engine.worker import Worker
from neptune_async._model import messages
from neptune_async._model.operations import Batch, Variable
from neptune_async._model.paths import normalise
from neptune_async._storage import registry
from neptune_async._storage.base import ExperimentRecord, ExperimentSummary, Receipt, Storage

T = TypeVar('T')


class Store:
    """An open store; every call waits for what it asks.

    Nothing is written, locked or made until a call says that it stores something.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @property
    def location(self) -> str:
        """Where it is, for people to read."""
        return self._worker.location

    @property
    def spill_folder(self) -> Path | None:
        """Where what could not be stored is kept; None if the store is in memory."""
        return self._worker.storage.spill_folder

    def ask(self, query: Callable[[Storage], Awaitable[T]]) -> T:
        """Return what the store answers to a query.

        :raises StorageError: it is not there, or cannot be read.
        """
        answer: T = self._call(self._worker.connection.ask, query)
        return answer

    def call(self, read: Function[T], *arguments: object) -> T:
        """Return what a coroutine function of ``tables`` reads, on the worker's loop."""
        return self._call(read, self._worker, *arguments)

    def find(self, name: str) -> ExperimentSummary:
        """Return what a list says of an experiment.

        :raises ExperimentNotFoundError: there is none of that name.
        """
        experiments = self.ask(lambda storage: storage.find_experiments([name]))
        if not experiments:
            known = self.ask(lambda storage: storage.list_experiments())
            raise messages.experiment_not_found(name, self.location, known)
        return experiments[0]

    def variables(self, experiment: ExperimentSummary, path: str | None = None) -> list[Variable]:
        """Return the variables of an experiment, or those at and below a path.

        :raises VariableNotFoundError: there is none at the path, or below it.
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
        """Return the value of an atom, or a member of a set, as it reads back.

        :raises StorageFormatError: it is damaged.
        """
        return decoded(self._worker, experiment, path, stored)

    def open_for_writing(self) -> None:
        """Make sure that it can be written to; make it if it is not there."""
        self._call(self._worker.connection.open_for_writing)

    def make(self, name: str, created: float | None = None) -> ExperimentRecord:
        """Return the experiment of a name; make it, and the store, if there is none.

        :param created: as for ``Storage.create_experiment``.
        """
        return self._call(self._worker.connection.make_experiment, name, created)

    def store(self, batch: Batch) -> Receipt:
        """Store a batch that brings its variables along; one that is there already is left out."""
        return self._call(self._worker.store, batch)

    def tidy(self) -> None:
        """Merge what batches have left, however little that is."""
        self._call(self._worker.connection.tidy)

    def recover(self) -> list[LeftBehind]:
        """Store what processes that have ended left behind; return what that was."""
        return self._call(self._worker.connection.recover)

    def _call(self, function: Function[T], *arguments: object) -> T:
        future: Future[T] = self._worker.call(function, *arguments)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


@contextmanager
def opened(storage: str | os.PathLike[str] | None) -> Iterator[Store]:
    """Give a store for as long as the body runs.

    :param storage: as for ``Experiment``.
    """
    worker = lifecycle.acquire(registry.resolve(storage))
    try:
        yield Store(worker)
    finally:
        if lifecycle.release(worker):
            worker.thread.join(lifecycle.EXIT_TIMEOUT)
