"""What became of the operations of one experiment, in numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What became of the operations of an experiment, in this process.

    ``accepted == committed + pending + rejected + dropped`` at any time.

    :ivar accepted: operations that were offered, and not refused by an exception.
    :ivar committed: those that are in a committed transaction.
    :ivar pending: those that wait, in memory or in a spill file.
    :ivar rejected: those that were counted instead of stored: refused by
        storage, or with ``strict=False`` by a check.
    :ivar dropped: those that ``overflow='drop'`` dropped, or that came after
        the interpreter had ended.
    :ivar retries: how often writing a batch was tried again.
    :ivar last_error: the last fault, None if there was none.
    :ivar oldest_pending_age: seconds that the oldest pending operation has
        waited, or up to ``flush_interval`` more; 0.0 if none is pending.
    """

    accepted: int
    committed: int
    pending: int
    rejected: int
    dropped: int
    retries: int
    last_error: Exception | None
    oldest_pending_age: float


class Counters:
    """How many operations were taken from a queue, and how each of them ended. The queue owns
    them, and its lock guards them.

    :ivar taken: operations that became a part of a batch.
    :ivar settled: those of them that are committed or rejected.
    :ivar committed, rejected: how they were settled.
    :ivar spilled: those that are not settled, and wait in a file instead of memory.
    :ivar refused: operations that a check refused, and that did not raise.
    :ivar dropped: operations for which there was no room, or that came after the end.
    """

    def __init__(self) -> None:
        self.taken = self.settled = self.committed = self.spilled = 0
        self.rejected = self.refused = self.dropped = 0
        # When the oldest operation came that waits in the queue, in a batch, in a file; 0.0 if
        # none does.
        self._since = self._in_flight_since = self._spilled_since = 0.0

    def note_arrival(self) -> None:
        """Note that what waits in the queue has waited since now."""
        self._since = time.monotonic()

    def take(self, count: int) -> None:
        """Count operations as taken."""
        self.taken += count

    def note_departure(self) -> None:
        """Note that a batch is on its way with what waited in the queue."""
        self._in_flight_since = self._since

    def settle(self, count: int, rejected: int, *, spilled: bool) -> None:
        """Count taken operations as committed, and some of them as rejected.

        :param spilled: whether they had been spilled.
        """
        self.settled += count
        self.committed += count - rejected
        self.rejected += rejected
        if spilled:
            self.spilled -= count
            self._spilled_since = self._spilled_since if self.spilled else 0.0
        else:
            self._in_flight_since = 0.0

    def spill(self, count: int) -> None:
        """Count operations that were taken as kept in a file until storage takes them."""
        self.spilled += count
        self._spilled_since = self._spilled_since or self._in_flight_since
        self._in_flight_since = 0.0

    def stats(self, offered: int, retries: int, last_error: Exception | None) -> Stats:
        """Return all numbers.

        :param offered: how many operations were ever put into the queue.
        """
        pending = offered - self.settled
        since = self._spilled_since or self._in_flight_since or self._since
        return Stats(
            accepted=offered + self.refused + self.dropped,
            committed=self.committed,
            pending=pending,
            rejected=self.rejected + self.refused,
            dropped=self.dropped,
            retries=retries,
            last_error=last_error,
            oldest_pending_age=time.monotonic() - since if pending else 0.0,
        )
