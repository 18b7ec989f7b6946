"""The workers that run in this process, and the calls that concern all of them."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.locks import is_held_here
from neptune_async._engine.worker.worker import Worker
from neptune_async._held_signals import signals_held
from neptune_async._messenger import PATIENCE, is_own_thread, messenger
from neptune_async.exceptions import NeptuneAsyncError

EXIT_TIMEOUT = 10.0
"""How long the end of the process waits for storage, in seconds. What is left then is spilled."""

_MOST_INTERRUPTS = 100
"""How often the end begins anew after an interrupt. More is an error of our own."""

_FAILURES = (NeptuneAsyncError, TimeoutError, RuntimeError)
"""The errors that a wait for a worker may raise."""


class RunningWorkers:
    """The workers of this process: one for each store that is in use.

    :ivar lock: guards the two lists, and the number of users of each worker. It is reentrant,
        because a finalizer may run on a thread that holds it already.
    :ivar in_use: the workers that experiments and stores use.
    :ivar finishing: the workers that the end of the process is ending.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.in_use: list[Worker] = []
        self.finishing: list[Worker] = []
        # Those that may have written a spill file which no line has named. An entry is added or
        # removed in one step.
        self._spilling: list[Worker] = []
        self._deadline = 0.0  # of the end of the process; 0.0 until it begins

    def is_writing_here(self) -> bool:
        """Whether the calling thread is in the middle of a write or a call of a worker, or is
        opening or closing an experiment. Only a signal handler can find it so.
        """
        return any(is_held_here(lock) for lock in self._locks())

    def wait_for_writes(self) -> None:
        """Return once all writes that are going on now have ended."""
        with self.lock:
            locks = self._locks()
        for lock in locks:
            with lock:
                pass

    def flush(self, timeout: float) -> None:
        """Store what is pending for all stores. Spill what they do not take in time.

        :param timeout: the longest time for all stores together, in seconds.
        """
        deadline = time.monotonic() + timeout
        for worker in [*self.in_use, *self.finishing]:
            states = [*worker.states.values()]
            try:
                worker.flush_all(max(0.0, deadline - time.monotonic()))
            except _FAILURES as error:
                messenger.debug('the flush of %s failed: %r', worker.location, error)
                self.spill(worker, states)
        messenger.drain()
        self._name_spills()

    def finish(self) -> None:
        """Store or spill what is pending, and end the workers. This takes at most ``EXIT_TIMEOUT``
        for all stores together, however often it is called.
        """
        deadline = self._deadline = self._deadline or time.monotonic() + EXIT_TIMEOUT
        workers: list[Worker] = []
        for _ in range(_MOST_INTERRUPTS):
            try:
                with self.lock:
                    workers += [worker for worker in self.in_use if worker not in workers]
                    self.finishing.extend(self.in_use)
                    self.in_use.clear()
                while workers:
                    self._end(workers[0], deadline)
                    workers.pop(0)
                messenger.drain(max(PATIENCE, deadline - time.monotonic()))
                self._name_spills()
            except BaseException as error:
                # A second Ctrl-C, or a signal handler that calls sys.exit. Wait no more for any
                # store, but spill all that is pending: nobody else will.
                messenger.debug('the end was broken off: %r', error)
                deadline = 0.0
            else:
                return

    def _end(self, worker: Worker, deadline: float) -> None:
        states = [*worker.states.values()]
        # End the queues first: a daemon thread that logs for ever would keep the flush going.
        for state in states:
            state.queue.finish()
        try:
            worker.finish(max(0.0, deadline - time.monotonic()))
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        except _FAILURES as error:
            messenger.debug('the last flush of %s failed: %r', worker.location, error)
        self.spill(worker, states, at_the_end=True)
        for state in states:
            state.queue.end()

    def spill(
        self, worker: Worker, states: list[ExperimentState], *, at_the_end: bool = False
    ) -> None:
        """Move what storage does not take to a spill file, and name the file on stderr."""
        # First: whoever interrupts this, or ends the process before it is done, names the file.
        self._spilling.append(worker)
        with signals_held():
            worker.spill(states, at_the_end=at_the_end)
        if is_own_thread():
            messenger.call(self._name_spills_of, worker)
        else:
            messenger.drain()
            self._name_spills_of(worker)  # not through the messenger, whose thread may be stuck

    def _name_spills(self) -> None:
        """Name on stderr each spill file that no line has named."""
        for worker in dict.fromkeys([*self.in_use, *self.finishing, *self._spilling]):
            self._name_spills_of(worker)

    def _name_spills_of(self, worker: Worker) -> None:
        worker.name_spills()
        with suppress(ValueError):
            self._spilling.remove(worker)

    def begin_in_child(self) -> None:
        """Start again in a forked child, with empty queues and no thread or connection.

        The files that the parent had open stay open in the child, unused: to close them would break
        the parent's locks on them. The parent stores what it had queued itself.
        """
        # A thread that does not exist in the child may hold the old lock.
        self.lock = threading.RLock()
        # The parent may be ending. The child is not.
        self.in_use.extend(worker for worker in self.finishing if worker not in self.in_use)
        self.finishing.clear()
        self._spilling.clear()
        self._deadline = 0.0
        for worker in self.in_use:
            worker.abandon()

    def _locks(self) -> list[threading.RLock]:
        """Return the locks that a flush takes, in this thread or in a worker's thread."""
        workers = [*self.in_use, *self.finishing]
        return [self.lock, *(lock for worker in workers for lock in worker.locks)]


running = RunningWorkers()
"""The workers of this process."""
