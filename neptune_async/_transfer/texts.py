"""Values as JSON and as plain text, for files that others read; each reads back as it was.

In JSON a float that JSON does not have is ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, a
datetime is ISO 8601, and an int beyond 64 bits is ``{"int": "0x1f..."}``; what is read back
has to be told the type. A file is what refers to it, and a histogram its counts and edges, as
stores have them (see ``neptune_async._model.values``). Inside a list, where nothing tells it, such
a float is ``{"float": "NaN"}``, and a datetime ``{"datetime": "2020-07-06T14:37:58+00:00"}``, with
``"fold": 1`` where it is the second of two equal wall-clock times, as then anywhere.

As plain text a str is itself, a datetime is ISO 8601, and all else is the JSON
that stores have (see ``neptune_async._model.values``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from neptune_async._model.values import MAX_STEP, Content, datetime_of, decode, encode
from neptune_async.files import FileReference, Histogram


def jsonable(value: Any, *, nested: bool = False) -> Any:
    """Return a value of an atom, a series or a set as JSON can hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        name = 'NaN' if math.isnan(value) else 'Infinity' if value > 0 else '-Infinity'
        return {'float': name} if nested else name
    if isinstance(value, datetime):
        if value.fold:
            return {'datetime': value.isoformat(), 'fold': 1}
        return {'datetime': value.isoformat()} if nested else value.isoformat()
    if isinstance(value, int) and value.bit_length() > 64:
        return {'int': hex(value)}
    if isinstance(value, (FileReference, Histogram)):
        return json.loads(text_of(value))
    if isinstance(value, list):
        return [jsonable(item, nested=True) for item in value]
    return value


def from_jsonable(content: Content, given: Any) -> Any:
    """Return the value that ``jsonable`` was given, of the content that is known of it.

    :raises ValueError, TypeError, KeyError, OverflowError, RecursionError: for what is no such
        value.
    """
    if content == 'float':
        return float(given)
    if content == 'datetime' and isinstance(given, str):
        return datetime_of(given)
    if content == 'int' and isinstance(given, float) and abs(given) <= MAX_STEP:
        return int(given) if given.is_integer() else given  # as others write an int
    return _untagged(given)


def _untagged(given: Any) -> Any:
    if isinstance(given, list):
        return [_untagged(item) for item in given]
    if not isinstance(given, dict):
        return given
    if 'float' in given:
        return float(given['float'])
    if 'int' in given:
        return int(given['int'], 16)
    if 'file' in given or 'histogram' in given:
        return decode(json.dumps(given).encode())
    return datetime_of(given['datetime']).replace(fold=given.get('fold', 0))


def json_members(members: Iterable[Any]) -> list[Any]:
    """Return the members of a set as JSON can hold them, in an order of their own."""
    return [jsonable(member) for member in sorted(members)]


def text_of(value: Any) -> str:
    """Return a value as plain text."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime) and not value.fold:
        return value.isoformat()
    return encode(value).decode('utf-8', 'surrogatepass')


def value_of(content: Content, text: str) -> Any:
    """Return the value that ``text_of`` was given, of the content that is known of it.

    :raises ValueError: for what is no such value.
    """
    if content == 'str':
        return text
    if content == 'float':
        return float(text)
    if content == 'datetime' and not text.startswith('{'):
        return datetime_of(text)
    return decode(text.encode('utf-8', 'surrogatepass'))
