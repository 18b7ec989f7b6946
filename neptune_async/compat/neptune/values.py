"""Values as 1.x takes them: nested, from argparse, or to be made texts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from neptune_async._model.arguments import repeatable
from neptune_async.compat.neptune.utils import StringifyValue


def leaves(
    path: str, value: Any, warn: Callable[[str, str], object], is_text: bool = False
) -> Iterator[tuple[str, Any, bool]]:
    """Yield path and value of each leaf of nested dicts and namespaces, or of a value itself, and
    whether it is to become a text if no field can hold it.

    :param warn: is told of a key that is left out: what it is, and the warning.
    """
    if isinstance(value, StringifyValue):
        yield from leaves(path, value.value, warn, True)
    elif isinstance(value, argparse.Namespace):
        yield from leaves(path, vars(value), warn, is_text)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if str(name).strip('/'):
                yield from leaves(f'{path}/{name}', item, warn, is_text)
            else:
                warn(path, f'{path!r}: a key of a dict is empty; it was left out, as in 1.x')
    else:
        # What cannot be logged as it is, is gone through once more, to have it become texts.
        yield path, repeatable(value) if is_text else value, is_text
