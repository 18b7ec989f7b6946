"""The faults of a store, and the messages that report them."""

from __future__ import annotations

from neptune_async._engine.worker.sent_batch import SentBatch
from neptune_async._engine.worker.spilled_batches import SpilledBatches, told_on_the_way
from neptune_async._messenger import messenger
from neptune_async.exceptions import StorageError


class Faults:
    """The faults of a store, until it works again. Only the worker's thread uses this; other
    threads may read ``current``.

    :ivar current: the last fault; None while the store works.
    :ivar count: how many faults there were.
    """

    def __init__(self, location: str) -> None:
        self.current: StorageError | None = None
        self.count = 0
        self._location = location
        self._spills = 0

    def begin(self, sent: SentBatch, error: StorageError) -> None:
        """Report that storage fails: in the log and to ``on_error``, once until it works again."""
        is_new = self.current is None
        self.current = error
        self.count += 1
        # on_error comes first: it may free the space that a logging handler waits for.
        for state in sent.states.values():
            state.last_error = error
            if is_new:
                state.tell(error)
        if is_new:
            messenger.warning(
                '%s; what is logged waits in memory, and is tried again until it is stored', error
            )

    def end(self) -> None:
        """Report that storage works again, if it failed before."""
        if self.current is not None:
            messenger.warning('%s takes what is logged again', self._location)
            self.current, self._spills = None, 0

    def tell_of_spill(self, spilled: SpilledBatches) -> None:
        """Report which operations were moved out of memory."""
        self._spills += 1
        if self._spills.bit_count() == 1:
            # Warn only after 1, 2, 4, 8, ... files: a logging handler may write each warning to
            # the experiment, and this may fill the next file.
            messenger.warning('%s', told_on_the_way(spilled, self._location, self.current))
