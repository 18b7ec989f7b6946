"""The variables of an open experiment, as the views of the process share them."""

from __future__ import annotations

import os

from neptune_async._model.operations import Container, Variable
from neptune_async._model.values import Content


class Entry:
    """A variable of an open experiment, shared by all views of its path.

    :ivar id: None until storage is told of the variable, which the next write does.
    :ivar key: what marks its points in the queue if it is a float series that
        can be logged to without any check; None if not.
    """

    __slots__ = ('container', 'content', 'id', 'key', 'path')

    def __init__(self, path: str, container: Container, content: Content) -> None:
        self.path = path
        self.container: Container = container
        self.content: Content = content
        self.id: int | None = None
        self.key: float | None = None

    @property
    def known_id(self) -> int:
        """The id of a variable that storage was told of."""
        assert self.id is not None
        return self.id

    def variable(self) -> Variable:
        """Return the variable as storage is to know it."""
        return Variable(self.known_id, self.path, self.container, self.content)

    def forget_id(self) -> None:
        """Have the next write tell storage of the variable again."""
        self.id = self.key = None


NO_ENTRY = Entry('', 'series', 'float')
"""What a view has that knows of no entry."""


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
