"""Operations that have left the queues of a worker, and are not stored or rejected yet."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.storing.batches import Renames
from neptune_async._engine.worker.sent_batch import SentBatch
from neptune_async._engine.worker.spilled_batches import SpilledBatches, told_at_the_end
from neptune_async._messenger import print_line
from neptune_async._model.operations import Batch
from neptune_async._storage.base import Storage


class Outbox:
    """The batch that is on its way to storage, and the batches that were spilled before it.

    :ivar lock: held while operations move from the queues into a batch. It is reentrant, because a
        signal handler may interrupt the thread that holds it.
    :ivar in_flight: the batch that is on its way; None if there is none.
    :ivar renames: the variables that other processes created first.
    """

    def __init__(self, storage: Storage) -> None:
        self.lock = threading.RLock()
        self.in_flight: SentBatch | None = None
        self.renames = Renames()
        self._storage = storage
        self._spilled: deque[SpilledBatches] = deque()
        self._is_over = False
        self._begin_writer()

    def _begin_writer(self) -> None:
        self._writer, self._stored = uuid.uuid4().bytes, 0

    # ── The next batch ───────────────────────────────────────────────────────

    def take(self, states: Sequence[ExperimentState]) -> SentBatch:
        """Move all that experiments have queued into the next batch, and return it."""
        with self.lock:
            # The batch is in flight before it is filled: if the worker dies in between, nothing
            # is lost.
            sent = self.in_flight = self.next_batch()
            self._fill(sent, states)
        return sent

    def next_batch(self) -> SentBatch:
        """Return the next batch, still empty."""
        return SentBatch(Batch(self._writer, self._stored + 1, []), {})

    def settle(self, sent: SentBatch) -> None:
        """Record that a batch is stored, or that storage refused it for good."""
        if sent.batch.parts:
            self._stored = sent.batch.number
        self.in_flight = None

    def _fill(self, sent: SentBatch, states: Iterable[ExperimentState]) -> None:
        """Move what experiments have queued into a batch. Replace the ids of variables that were
        renamed after the operations were queued.
        """
        for state in states:
            part = sent.new_part(state)
            if state.take(part, sent.batch):
                self.renames.apply(part)
            else:
                sent.drop_last_part()

    # ── Spilled batches ──────────────────────────────────────────────────────

    @property
    def has_spilled(self) -> bool:
        """Whether spilled batches wait to be stored."""
        return bool(self._spilled)

    def has_spilled_to(self, path: Path) -> bool:
        """Whether this process wrote a spill file and will store it before its next batch."""
        return any(path == spilled.path for spilled in [*self._spilled])

    def has_spilled_of(self, name: str) -> bool:
        """Whether spilled batches of an experiment wait to be stored. They may be older than the
        last opening of the experiment.
        """
        # A copy, because other threads may spill at the same time.
        return any(name in spilled.names for spilled in [*self._spilled])

    def spill(self, states: Sequence[ExperimentState], *, at_the_end: bool) -> None:
        """Move what experiments have in memory to a spill file. Any thread may call this.

        :param at_the_end: True if nobody will try again to store the spilled batches. All spill
            files are to be named once more then, and no other is written.
        """
        with self.lock:
            sent = self.in_flight
            is_kept = sent is None or any(spilled.keeps(sent) for spilled in [*self._spilled])
            ahead = [] if sent is None or is_kept else [sent.copied(states)]
            spilled = SpilledBatches(ahead, self._taken_from(states))
            if spilled.count:
                spilled.write(self._storage.spill_folder)
                self._spilled.append(spilled)
            if at_the_end:
                self._is_over = True
                for spilled in [*self._spilled]:
                    spilled.is_named = False

    def name_spilled(self, why: object) -> None:
        """Name on stderr the spill files that no line has named. If another thread is spilling,
        wait for it.
        """
        with self.lock:
            unnamed = [spilled for spilled in [*self._spilled] if not spilled.is_named]
        if unnamed:
            print_line(told_at_the_end(unnamed, self._storage.location, why))
        # Now: a signal may end the process while it prints. Better a file is named twice.
        for spilled in unnamed:
            spilled.is_named = True

    def spill_over(
        self, sent: SentBatch, states: Sequence[ExperimentState]
    ) -> SpilledBatches | None:
        """Make room in memory while storage fails: move the batch that is on its way, and all that
        is queued, to a spill file.

        :returns: the spilled batches; None if there was nothing to move, or at the end.
        """
        with self.lock:
            if self._is_over:
                return None  # all is in a file that was named
            sent.bring_all_variables()
            spilled = SpilledBatches([sent], self._taken_from(states), is_handed_over=True)
            if not spilled.names:
                return None  # memory is full of batches for which no file could be written before
            spilled.write(self._storage.spill_folder)
            self._spilled.append(spilled)
            self.in_flight = None
            # A new writer: the next batches must not depend on a file that somebody may delete.
            self._begin_writer()
            return spilled

    async def store_spilled(self, then: Callable[[], object]) -> None:
        """Store the spilled batches, in order.

        :param then: is called after each of them.
        """
        while self._spilled:
            await self._spilled[0].store(self._storage, self.renames)
            self._spilled.popleft()
            then()

    def _taken_from(self, states: Sequence[ExperimentState]) -> list[SentBatch]:
        """Return all that experiments have queued, in batches that create all their variables."""
        batches = max((state.queue.batches for state in states), default=0)
        return [self._taken_once_from(states) for _ in range(batches)]

    def _taken_once_from(self, states: Sequence[ExperimentState]) -> SentBatch:
        sent = SentBatch(Batch(uuid.uuid4().bytes, 1, []), {})
        self._fill(sent, states)
        sent.bring_all_variables()
        return sent
