"""Closing an experiment: what is pending is stored, or goes to a spill file."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from neptune_async._engine.lifecycle.running_workers import running
from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.lock_free import calls_end
from neptune_async._engine.storing.retries import Patience
from neptune_async._engine.worker.connection import TIDY_SECONDS
from neptune_async._engine.worker.worker import Worker
from neptune_async._messenger import messenger
from neptune_async._model import messages
from neptune_async.exceptions import NeptuneAsyncError


def give_back(worker: Worker, state: ExperimentState, is_writer: bool) -> None:
    """Close an experiment now. If nobody else has it open, spill what is in its queue."""
    _let_go(state, is_writer)
    if state.users == 0:
        state.close()
        _end(worker, state)


def _let_go(state: ExperimentState, is_writer: bool) -> None:
    state.users -= 1
    state.writers -= is_writer


def _end(worker: Worker, state: ExperimentState) -> None:
    if state.queue.pending:
        running.spill(worker, [state])
    state.queue.end()
    worker.remove(state)


class Closing:
    """Stores what is pending in an experiment, and closes it. If nobody else has it open, what
    could not be stored is spilled.

    :param is_writer: whether it was opened for writing.
    :param timeout: the longest time that storage may take, in seconds; None has no limit.

    :ivar ended: the reply to wait for. If the wait is interrupted, call ``give_up`` and wait again:
        it ends soon then.
    """

    def __init__(
        self, worker: Worker, state: ExperimentState, is_writer: bool, timeout: float | None
    ) -> None:
        self._worker = worker
        self._state = state
        self._is_writer = is_writer
        self._timeout = timeout
        self.ended = worker.call(self._close)

    def give_up(self) -> None:
        """Stop waiting for storage. What is not stored yet is spilled."""
        self._worker.call(self._stop)

    async def _stop(self) -> None:
        self._scope.cancel()

    async def _close(self) -> None:
        worker, state = self._worker, self._state
        _let_go(state, self._is_writer)
        is_last = state.users == 0
        if is_last:
            state.close()
        try:
            with anyio.move_on_after(self._timeout) as self._scope:
                await calls_end()
                await worker.flush(state)
            if self._scope.cancelled_caught:
                raise messages.flush_timeout(state.name, state.queue.pending, self._timeout)
        finally:
            if is_last:
                _end(worker, state)
        with anyio.CancelScope(deadline=self._scope.deadline) as self._scope:
            await _wind_up(worker, state, self._is_writer)


async def _wind_up(worker: Worker, state: ExperimentState, is_writer: bool) -> None:
    """Do what is left once all is stored.

    :param is_writer: whether the one that was closed could write.
    """
    patience = Patience(TIDY_SECONDS)
    # First, since merging may take long: a process that is killed meanwhile has closed it.
    goes_on = not is_writer or state.writers > 0
    is_ended = goes_on or await worker.heartbeats.end_once([state])
    if state.users == 0:
        await worker.connection.tidy()
    if not is_ended:
        await worker.heartbeats.end([state], patience)


async def retire(
    worker: Worker, state: ExperimentState, is_writer: bool, then: Callable[[], object]
) -> None:
    """Flush and close an experiment that nobody uses any more. Nobody waits for this.

    :param then: is called when the experiment is closed.
    """
    try:
        await worker.flush(state)
        give_back(worker, state, is_writer)
        await _wind_up(worker, state, is_writer)
    except NeptuneAsyncError as error:
        # The experiment stays open: the end of the process stores or spills what is pending.
        messenger.debug('%s was not closed when it was let go: %s', state.name, error)
    else:
        then()
