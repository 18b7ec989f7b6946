"""Ids of new variables."""

from __future__ import annotations

import os


class VariableIds:
    """Ids that no other process draws: 32 random bits, then a counter.

    Drawn without asking the store, so that a write needs no I/O. Should two
    processes draw the same, storage finds out and the worker puts it right.
    """

    def __init__(self) -> None:
        self._base = self._count = 0

    def draw(self) -> int:
        """Return the next id, below 2**52."""
        if self._count % 2**20 == 0:
            self._base = int.from_bytes(os.urandom(4), 'little') << 20
        self._count += 1
        return self._base + self._count % 2**20
