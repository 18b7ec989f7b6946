"""What 1.x has in ``neptune.utils``."""

from __future__ import annotations

from typing import Any

from neptune_async._model.arguments import repeatable

__all__ = ['stringify_unsupported']


class StringifyValue:
    """A value of which all that no field can hold is to become a text."""

    def __init__(self, value: Any) -> None:
        self.value = value


def stringify_unsupported(value: Any) -> StringifyValue:
    """Have what no field can hold become a text when it is assigned or appended.

    In a dict, a list or another structure that are its leaves, as ``neptune_async.stringified`` has
    them. None and lists of what a field can hold stay what they are.
    """
    return StringifyValue(repeatable(value))
