"""The operations that wait in a queue, except float points."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from neptune_async._model.operations import CreateVariable, Operation, Part, TextPoint


@dataclass(slots=True)
class Share:
    """What is to become a part of one batch.

    :ivar others: how many operations of the user it has, texts included. A ``CreateVariable``
        does not count.
    """

    operations: list[Operation] = field(default_factory=list)
    texts: list[TextPoint] = field(default_factory=list)
    others: int = 0


class Backlog:
    """Operations and points of texts, in the order of the calls. The queue owns it, and its lock
    guards it.
    """

    def __init__(self) -> None:
        self._current = Share()
        self._sealed: deque[Share] = deque()
        # What a journal does not have yet; None if there is no journal.
        self._unjournaled: Share | None = None

    @property
    def current(self) -> Share:
        """The share that operations are put into."""
        return self._current

    @property
    def others(self) -> int:
        """How many of the user's operations wait, in all shares together."""
        # Counted once, in its share: a Ctrl-C between two counts would make them differ for ever.
        return self._current.others + sum(share.others for share in self._sealed)

    @property
    def is_sealed(self) -> bool:
        """Whether a share waits that nothing is put into any more."""
        return bool(self._sealed)

    @property
    def shares(self) -> int:
        """How many there are."""
        return len(self._sealed) + 1

    def put_operation(self, operation: Operation) -> None:
        """Append an operation."""
        self._current.operations.append(operation)
        if self._unjournaled is not None:
            self._unjournaled.operations.append(operation)
        if not isinstance(operation, CreateVariable):
            self._current.others += 1

    def put_text(self, point: TextPoint) -> None:
        """Append a point of a str or datetime series."""
        self._current.texts.append(point)
        if self._unjournaled is not None:
            self._unjournaled.texts.append(point)
        self._current.others += 1

    def seal(self) -> None:
        """Put what comes from now on into another share."""
        self._sealed.append(self._current)
        self._current = Share()

    def take(self, part: Part) -> int:
        """Move the oldest share into a part of a batch; return how many operations it has."""
        if self._sealed:
            share = self._sealed.popleft()
        else:
            share, self._current = self._current, Share()
        part.operations, part.texts = share.operations, share.texts
        return share.others

    # ── The journal ──────────────────────────────────────────────────────────

    @property
    def is_journaled(self) -> bool:
        """Whether what is put is to be in a journal."""
        return self._unjournaled is not None

    def begin_journal(self) -> None:
        """Keep from now on what the journal does not have yet."""
        self._unjournaled = Share()

    def end_journal(self) -> None:
        """Keep nothing for a journal any more."""
        self._unjournaled = None

    def take_unjournaled(self) -> Share | None:
        """Return what was put since the last call; None if nothing was."""
        share = self._unjournaled
        if share is None or not (share.operations or share.texts):
            return None
        self._unjournaled = Share()
        return share
