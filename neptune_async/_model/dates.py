"""Dates that people and other programs write."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

# datetime.fromisoformat is none for this: what it understands differs from one Python to the next.
_DATE = re.compile(
    r'(\d{4})(-?)(\d\d)\2(\d\d)'
    r'(?:[T ](\d\d)(?:(:?)(\d\d)(?:\6(\d\d)(?:[.,](\d+))?)?)?'
    r'(?:(Z)|([+-])(\d\d)(?::?([0-5]\d)(?::?([0-5]\d))?)?)?)?',
    re.ASCII,
)


def date_of(text: str) -> datetime:
    """Return the datetime of a text in ISO 8601, with or without the characters between its parts.

    A date is its midnight. Parts of a second are cut off after the microseconds. Without an offset
    the datetime has none.

    :raises ValueError: it is none.
    """
    found = _DATE.fullmatch(text)
    try:
        if found is not None:
            return _datetime(found)
    except ValueError:
        pass  # it has a 13th month, or the like
    raise ValueError(f'{text!r} is no date in ISO 8601')


def _datetime(found: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second = (int(found[n] or 0) for n in (1, 3, 4, 5, 7, 8))
    microsecond = int((found[9] or '')[:6].ljust(6, '0'))
    offset = None
    if found[10] is not None:
        offset = timezone.utc
    elif found[11] is not None:
        hours, minutes, seconds = (int(found[n] or 0) for n in (12, 13, 14))
        east = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        offset = timezone(-east if found[11] == '-' else east)
    return datetime(year, month, day, hour, minute, second, microsecond, offset)
