"""When the worker is woken to empty a queue."""

from __future__ import annotations

from typing import Protocol

_HURRY = 2**16
"""Points after which the worker is woken before its interval is over."""


class Consumer(Protocol):
    """Whoever empties a queue."""

    def wake(self, hurry: bool) -> None:
        """Empty the queue when the interval is over, or now, and then once an interval until
        ``rest`` is called.
        """


class Alarm:
    """Wakes the worker once, not with each operation. The queue owns it, and its lock guards it.

    :ivar hurry_at: how many operations wake the worker before its interval is over.
    :ivar is_awake: whether the worker comes by itself, once an interval.
    :ivar is_hurried: whether it was told to come now.
    """

    def __init__(self, consumer: Consumer, max_pending: int) -> None:
        # Woken at the limit, the worker would come too late for a policy that does not wait.
        self.hurry_at = min(_HURRY, max(1, max_pending // 2))
        self._consumer = consumer
        self.is_awake = self.is_hurried = False

    def wake(self) -> None:
        """Let the worker come when its interval is over."""
        # First the call, then the note of it: a Ctrl-C between them wakes it once too often.
        self._consumer.wake(False)
        self.is_awake = True

    def hurry(self) -> None:
        """Let the worker come now."""
        self._consumer.wake(True)
        self.is_hurried = True

    def insist(self) -> None:
        """Let the worker come now, also if it was told so before."""
        self._consumer.wake(True)
