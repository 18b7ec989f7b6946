"""What values the containers accept, and the exact form in which they are stored.

A value is either stored so that it reads back equal, bit for bit, or refused at
the call. Scalars of NumPy, PyTorch and JAX count as the Python scalar that
their ``item()`` gives. A datetime keeps its UTC offset, not its zone's name. An Atom takes a
path, a date, a UUID and a member of an Enum as its text, and a one-dimensional array as a list.

Atoms, members of sets, and texts and datetimes in series are stored as JSON in
UTF-8 with two additions: an int beyond 64 bits is ``{"int": "0x1f..."}``, and a
datetime is ``{"datetime": "2020-07-06T14:37:58+00:00"}``, with ``"fold": 1``
where it is the second of two equal wall-clock times. Lone surrogates are kept,
as three bytes each, and NaN and the infinities are written as Python's json
module writes them. A file is ``{"file": [name, media type, size, sha256]}``, and a histogram
``{"histogram": [counts, edges, values that are not finite]}``.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import Any, Literal, TypeAlias
from uuid import UUID

from neptune_async._model.arrays import is_masked, is_time, may_be_a_number, numbers_of
from neptune_async._model.pending_files import PendingFile
from neptune_async._model.showing import shortened
from neptune_async._model.structures import MAX_DEPTH, Members, enum_text, is_structured, unfolded
from neptune_async.exceptions import InvalidStepError, InvalidTimestampError, UnsupportedValueError
from neptune_async.files import File, FileReference, Histogram

Scalar: TypeAlias = bool | int | float | str | datetime | None
AtomValue: TypeAlias = 'Scalar | list[AtomValue] | FileReference'
SeriesValue: TypeAlias = float | str | datetime | FileReference | Histogram
SetMember: TypeAlias = bool | int | float | str
Content: TypeAlias = Literal[
    'bool', 'int', 'float', 'str', 'datetime', 'none', 'list', 'file', 'histogram'
]

CONTENT_TYPES: dict[Content, type] = {
    'bool': bool,
    'int': int,
    'float': float,
    'str': str,
    'datetime': datetime,
    'none': type(None),
    'list': list,
    'file': File,
    'histogram': Histogram,
}
IN_TEXTS = (str, datetime, FileReference, Histogram)
"""What a series that is none of floats may hold."""
_CONTENT_OF: dict[type, Content] = {
    **{kind: content for content, kind in CONTENT_TYPES.items()},
    PendingFile: 'file',
    FileReference: 'file',
}

MAX_STEP = 2**53
MAX_BYTES = 2**26
"""Bytes that an atom, a member of a set, or a text in a series may take as it is stored."""
_SURE_LENGTH = (MAX_BYTES - len('""')) // len(r'\u0000')
"""Characters that a text may have, whatever they are: an escape of JSON is the longest."""
_READ_BACK = (
    'a file that was read back is not written again as it is; give File(file.bytes(), file.name)'
)
_SHA256 = re.compile('[0-9a-f]{64}')


def content_of(value: AtomValue | SeriesValue | File | PendingFile) -> Content:
    """Name the type of a value that one of the functions below has returned."""
    return _CONTENT_OF[type(value)]


def assignable(value: object) -> AtomValue | File:
    """Return what can be assigned: a file, or what ``atom_value`` returns."""
    return value if isinstance(value, File) else atom_value(value)


def atom_value(value: object) -> AtomValue:
    """Return a copy of what an Atom can hold.

    :raises UnsupportedValueError: for any other value.
    """
    return _atom_value(value, 0)


def _atom_value(value: object, depth: int) -> AtomValue:
    if type(value) not in _SCALARS:
        items = _items(value)
        if items is not None:
            if depth == MAX_DEPTH:
                raise UnsupportedValueError(
                    f'an atom cannot hold lists nested deeper than {MAX_DEPTH}; flatten them'
                )
            return [_atom_value(item, depth + 1) for item in items]
    plain: AtomValue = _plain(value)
    if plain is _UNSUPPORTED:
        plain = _text(value)
    if plain is _UNSUPPORTED:
        raise UnsupportedValueError(_no_atom(value))
    return plain


def _no_atom(value: object) -> str:
    if isinstance(value, File):
        return 'a list cannot hold a File; assign each to a path of its own, with a dict'
    if isinstance(value, Histogram):
        return 'an atom cannot hold a Histogram; log it to a series'
    if isinstance(value, FileReference):
        return _READ_BACK
    if isinstance(value, (set, frozenset)):
        return (
            f'an atom cannot hold {_described(value)}; add(*values) makes a Set of it, and '
            'neptune_async.stringified(config) a list'
        )
    if isinstance(value, type) and is_structured(value):
        return f'an atom cannot hold {_described(value)}; assign an instance of it'
    return (
        f'an atom cannot hold {_described(value)}; assign a bool, int, float, str, datetime, '
        'None, a File, a list of these but files, or neptune_async.stringified(config), which '
        'makes a str of all else'
    )


def _items(value: object) -> Sequence[object] | None:
    """Return the items of a list, or of a one-dimensional array of numbers; None of all else."""
    inner = unfolded(value)
    if isinstance(inner, (list, tuple)) and not isinstance(inner, Members):
        return inner
    return numbers_of(value)


def _text(value: object) -> Any:
    """Return the text that stands for a path, a date, a UUID or a member of an Enum."""
    if isinstance(value, Enum):
        return enum_text(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, (PurePath, UUID)) else _UNSUPPORTED


def loggable(value: object) -> SeriesValue | File:
    """Return what can be logged: a file, or what ``series_value`` returns."""
    return value if isinstance(value, File) else series_value(value)


def series_value(value: object) -> SeriesValue:
    """Return what a Series can hold: a float, a str, a datetime or a histogram.

    :raises UnsupportedValueError: for any other value, and for a number that no
        float equals.
    """
    if isinstance(value, (list, tuple, set, frozenset)):
        raise UnsupportedValueError(
            f'log takes one value, not a {type(value).__name__}; '
            'use extend to log several values to a series'
        )
    plain = _plain(value)
    if isinstance(plain, (float, str, datetime)):
        return plain
    if isinstance(plain, int):
        return _exact_float(plain)
    if isinstance(value, Histogram):
        return value
    if plain is _UNSUPPORTED and hasattr(type(value), '__float__') and may_be_a_number(value):
        try:
            converted = float(value)  # type: ignore[arg-type]  # hasattr is the check
            is_rounded = _is_rounded(converted, value)
        except Exception:  # whatever error a library has for what is no number, or is several
            pass
        else:
            if is_rounded:
                raise _no_float_equals(value)
            return converted
    if isinstance(value, FileReference):
        raise UnsupportedValueError(_READ_BACK)
    raise UnsupportedValueError(
        f'a series cannot hold {_described(value)}; log a number, a str, a datetime, a File or a '
        'Histogram'
    )


def set_member(value: object) -> SetMember:
    """Return what a Set can hold: a str, an int, a float or a bool.

    :raises UnsupportedValueError: for any other value, and for NaN, which is
        not equal to itself.
    """
    plain = _plain(value)
    if isinstance(plain, float) and math.isnan(plain):
        raise UnsupportedValueError(
            'a set cannot hold NaN, which is not equal to itself; leave it out'
        )
    if isinstance(plain, (bool, int, float, str)):
        return plain
    raise UnsupportedValueError(
        f'a set cannot hold {_described(value)}; add values of type str, int, float or bool'
    )


def checked_step(step: object) -> float:
    """Return a step as the float that equals it.

    :raises InvalidStepError: for what is neither an int within 2**53 nor a
        finite float.
    """
    plain = _plain(step)
    if plain is _UNSUPPORTED:
        with suppress(TypeError):
            plain = operator.index(step)  # type: ignore[arg-type]  # TypeError is the check
    if isinstance(plain, float) and math.isfinite(plain):
        return plain
    if type(plain) is int and -MAX_STEP <= plain <= MAX_STEP:
        return float(plain)
    raise InvalidStepError(
        f'a step cannot be {_described(step)}; give an int within 2**53 or a finite float'
    )


def shown_step(step: float) -> int | float:
    """Return a stored step as it reads back: an integral one is an int."""
    return int(step) if step.is_integer() else step


def checked_timestamp(timestamp: object) -> float:
    """Return a timestamp in seconds since the epoch; a naive datetime is local time.

    :raises InvalidTimestampError: for what is neither a finite number nor a datetime.
    """
    plain = _plain(timestamp)
    try:
        if isinstance(plain, datetime):
            return plain.timestamp()
        if isinstance(plain, (int, float)) and not isinstance(plain, bool):
            seconds = float(plain)
            if math.isfinite(seconds):
                return seconds
    except (OverflowError, OSError, ValueError):
        pass
    raise InvalidTimestampError(
        f'a timestamp cannot be {_described(timestamp)}; '
        'give finite seconds since the epoch, or a datetime'
    )


def encode(value: AtomValue | SeriesValue | PendingFile) -> bytes:
    """Return the stored form of a checked value, or of a list of checked values.

    :raises UnsupportedValueError: when it takes more than ``MAX_BYTES`` bytes.
    """
    encoded = _dumps(value)
    if len(encoded) > MAX_BYTES:
        raise _over_limit(f'a value of {len(encoded):,} bytes')
    return encoded


def size_of(value: object) -> int:
    """Return about how many characters a value in a series takes as it is stored."""
    if isinstance(value, str):
        return len(value)
    return 10 * (len(value.counts) + len(value.edges)) if isinstance(value, Histogram) else 50


def encode_members(members: Iterable[SetMember]) -> tuple[bytes, ...]:
    """Return the stored form of each of some checked members of a set.

    :raises UnsupportedValueError: as ``encode``.
    """
    return tuple(map(encode, members))


def encode_points(points: list[list[Any]]) -> bytes:
    """Return the stored form of a column, or of rows, of checked values."""
    return _dumps(points)


def decode(stored: bytes) -> Any:
    """Return the value that ``encode`` was given.

    :raises ValueError: when the bytes are not what ``encode`` returns.
    """
    text = stored.decode('utf-8', 'surrogatepass')
    try:
        value, end = _decoder.raw_decode(text)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f'no stored value: {error!r}') from error
    if end != len(text):
        raise ValueError(f'no stored value: something follows at character {end}')
    return value


# json.dumps would make one each time, which takes longer than to encode a number.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(',', ':'))


def _dumps(value: Any) -> bytes:
    # Not ASCII escapes: two lone surrogates in a row would be read back as one character.
    return _encoder.encode(_tagged(value)).encode('utf-8', 'surrogatepass')


def _tagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, datetime):
        tagged: dict[str, object] = {'datetime': value.isoformat()}
        return {**tagged, 'fold': 1} if value.fold else tagged
    if isinstance(value, FileReference):
        return {'file': [value.name, value.media_type, value.size, value.sha256]}
    if isinstance(value, Histogram):
        columns = [[*map(_shortened, each)] for each in (value.counts, value.edges)]
        return {'histogram': [*columns, value.non_finite]}
    if isinstance(value, PendingFile):
        return {'staged': [value.path, value.name, value.media_type, value.staged_as]}
    # Beyond 64 bits as hex: CPython limits decimal conversion to 4,300 digits.
    if isinstance(value, int) and value.bit_length() > 64:
        return {'int': hex(value)}
    return value


def _untagged(tagged: dict[str, Any]) -> Any:
    if 'int' in tagged:
        return int(tagged['int'], 16)
    if 'file' in tagged:
        return _reference(*tagged['file'])
    if 'histogram' in tagged:
        counts, edges, non_finite = tagged['histogram']
        return Histogram(counts=counts, edges=edges, non_finite=non_finite)
    if 'staged' in tagged:
        return PendingFile.staged(*tagged['staged'])
    return datetime_of(tagged['datetime']).replace(fold=tagged.get('fold', 0))


# json.loads would make one each time, too.
_decoder = json.JSONDecoder(object_hook=_untagged)


def _reference(name: object, media_type: object, size: object, sha256: object) -> FileReference:
    if (
        isinstance(name, str)
        and isinstance(media_type, str)
        and type(size) is int
        and isinstance(sha256, str)
        and _SHA256.fullmatch(sha256)
    ):
        return FileReference(name, media_type, size, sha256)
    raise ValueError('it refers to no file')


def _shortened(number: float) -> int | float:
    """Return the int that equals a number, where there is one: it takes fewer characters."""
    is_int = number.is_integer() and abs(number) <= MAX_STEP and (number or not _is_minus(number))
    return int(number) if is_int else number


def _is_minus(number: float) -> bool:
    return math.copysign(1.0, number) < 0


def datetime_of(text: str) -> datetime:
    """Return the datetime that ``isoformat`` made a text of."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is timezone.utc and text[-15:-6] == '00:00:00.':
        # CPython takes an offset of less than a second, as +00:00:00.000001, for none.
        size = timedelta(microseconds=int(text[-6:]))
        moment = moment.replace(tzinfo=timezone(-size if text[-16] == '-' else size))
    return moment


_UNSUPPORTED: Any = object()
_SCALARS = frozenset({bool, int, float, str, datetime, type(None)})


def _plain(value: object) -> Any:
    """Return the scalar of Python's own that equals a value, or ``_UNSUPPORTED``."""
    kind = type(value)
    if kind is str:
        return _within_limit(value)  # type: ignore[arg-type]  # kind is the check
    if kind is datetime:
        return value if _tells_its_offset(value) else _UNSUPPORTED  # type: ignore[arg-type]
    if kind in _SCALARS:
        return value
    if isinstance(value, str):
        return _within_limit(str.__str__(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return _plain_datetime(value)
    if not callable(getattr(value, 'item', None)) or is_time(value) or is_masked(value):
        return _UNSUPPORTED
    try:
        item = value.item()  # type: ignore[attr-defined]  # callable is the check
    except Exception:  # an array of several elements, or an item() of another meaning
        return _UNSUPPORTED
    # It is checked as if it had been given: a text may be too long, a zone may tell no offset.
    return _plain(item) if type(item) in _SCALARS else _UNSUPPORTED


def _plain_datetime(value: datetime) -> Any:
    # pandas.Timestamp is a datetime that can hold nanoseconds, and NaT one without a date.
    if getattr(value, 'nanosecond', 0):
        return _UNSUPPORTED
    try:
        plain = datetime(
            value.year, value.month, value.day, value.hour, value.minute, value.second,
            value.microsecond, value.tzinfo, fold=value.fold,
        )  # fmt: skip
    except (TypeError, ValueError):
        return _UNSUPPORTED
    return plain if _tells_its_offset(plain) else _UNSUPPORTED


def _tells_its_offset(value: datetime) -> bool:
    try:
        value.utcoffset()
    except Exception:  # a tzinfo is anybody's code
        return False
    return True


def _within_limit(text: str) -> str:
    # Encoded only where its length does not tell: that takes a second.
    if len(text) > _SURE_LENGTH and (len(text) > MAX_BYTES or len(_dumps(text)) > MAX_BYTES):
        raise _over_limit(f'a str of {len(text):,} characters')
    return text


def _over_limit(what: str) -> UnsupportedValueError:
    return UnsupportedValueError(
        f'{what} is over the limit: {MAX_BYTES:,} bytes, as JSON in UTF-8; '
        'keep it in a file of its own and log its path'
    )


def _exact_float(number: int) -> float:
    try:
        converted = float(number)
    except OverflowError:
        converted = math.inf
    if converted != number:
        raise _no_float_equals(number)
    return converted


def _is_rounded(converted: float, value: object) -> bool:
    """Whether a number is another one than the float that it was made."""
    # What is only made a float, as a running mean, is a number to nobody, and equal to none.
    is_number = isinstance(value, Number) or hasattr(value, 'dtype')
    return is_number and not math.isnan(converted) and bool(converted != value)


def _no_float_equals(number: object) -> UnsupportedValueError:
    return UnsupportedValueError(
        f'a series holds floats, and none equals {_described(number)}; '
        'log float(value) to have it rounded, or str(value) to keep it'
    )


def _described(value: object) -> str:
    """Return the beginning of the repr of a value, and its type, for an error."""
    shown = shortened(value)
    kind = type(value).__name__
    return shown if shown == f'a value of type {kind}' else f'{shown} ({kind})'
