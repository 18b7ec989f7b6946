"""What 1.x has in ``neptune.utils``."""

from __future__ import annotations

from typing import Any

from neptune_async._model.arguments import repeatable
from neptune_async._model.structures import Above, Members, name_text, unfolded, within

__all__ = ['stop_synchronization_callback', 'stringify_unsupported']


class StringifyValue:
    """A value of which all that no field can hold is to become a text."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


def stringify_unsupported(value: Any, expand: bool = False) -> Any:
    """Have what no field can hold become a text when it is assigned or appended.

    In a dict, a list or another structure that are its leaves, as ``neptune_async.stringified`` has
    them. None becomes ``'None'``, and lists of what a field can hold stay lists.

    :param expand: make a namespace of each list, tuple and set, with the positions of the items as
        names.
    """
    return _expanded(value, ()) if expand else StringifyValue(repeatable(value))


def _expanded(value: Any, above: Above) -> Any:
    members = unfolded(value)
    if not isinstance(members, Members) and isinstance(members, (list, tuple, set)):
        members = Members(enumerate(members))
    if not isinstance(members, Members):
        return StringifyValue(repeatable(value))
    above = within(above, value, 'stringify_unsupported')
    return {
        str(name) if (text := name_text(name)) is None else text: _expanded(member, above)
        for name, member in members
    }


def stop_synchronization_callback(neptune_object: Any) -> None:
    """Stop a run, within a minute. It is a callback of ``init_run``, which calls none."""
    neptune_object.stop(seconds=60)
