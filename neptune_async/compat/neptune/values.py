"""Values as 1.x takes them: nested, or to be made texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from neptune_async._model.arguments import repeatable
from neptune_async._model.structures import joined, leaves_of, name_text
from neptune_async.compat.neptune.utils import StringifyValue


def leaves(
    path: str,
    value: Any,
    warn: Callable[[str, str], object],
    *,
    splits_lists: bool,
    is_text: bool = False,
) -> Iterator[tuple[str, Any, bool]]:
    """Yield path and value of each leaf of nested structures, or of a value itself, and whether it
    is to become a text if no field can hold it.

    :param warn: is told of a key that is left out: what it is, and the warning.
    :param splits_lists: whether the items of a list that holds structures are leaves, too.
    """
    join = partial(_joined, warn)
    for below, leaf in leaves_of(path, value, splits_lists=splits_lists, join=join):
        if isinstance(leaf, StringifyValue):
            yield from leaves(below, leaf.value, warn, splits_lists=splits_lists, is_text=True)
        else:
            # What cannot be logged as it is, is gone through once more, to have it become texts.
            yield below, repeatable(leaf) if is_text else leaf, is_text


def _joined(warn: Callable[[str, str], object], path: str, name: object) -> str | None:
    """Return the path of a member; None for a key that is empty."""
    text = name_text(name)
    text = str(name) if text is None else text
    if text.strip('/'):
        return joined(path, text)
    warn(path, f'{path!r}: a key of a dict is empty; it was left out, as in 1.x')
    return None
