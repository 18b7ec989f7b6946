from __future__ import annotations

import enum
import json
import math
import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neptune_async._model.values import (
    MAX_BYTES,
    MAX_STEP,
    atom_value,
    checked_step,
    checked_timestamp,
    content_of,
    decode,
    encode,
    encode_points,
    series_value,
    set_member,
    shown_step,
)
from neptune_async.exceptions import InvalidStepError, InvalidTimestampError, UnsupportedValueError

UTC = timezone.utc
CHARACTERS = 'w' if sys.version_info >= (3, 13) else 'u'
"""The type code of characters: 'u' warns since 'w' is there."""
MOMENT = datetime(2020, 7, 6, 14, 37, 58, 123456, tzinfo=timezone(timedelta(hours=2)))


class Level(enum.IntEnum):
    HIGH = 3


class Name(str, enum.Enum):
    ADAM = 'adam'


class Rate(float, enum.Enum):
    SLOW = 0.25


class Tensor:
    """Like a tensor of PyTorch: ``item()`` and ``__float__``, and an error of its own."""

    def __init__(self, *values: object) -> None:
        self.values = values

    def item(self) -> object:
        if len(self.values) != 1:
            raise RuntimeError('a Tensor with 2 elements cannot be converted to Scalar')
        return self.values[0]

    def __float__(self) -> float:
        return float(self.item())  # type: ignore[arg-type]

    def __index__(self) -> int:
        if len(self.values) != 1 or not isinstance(self.values[0], int):
            raise TypeError('only integer tensors of a single element can be an index')
        return self.values[0]


class Timestamp(datetime):
    """Like pandas.Timestamp: a datetime that may hold nanoseconds."""

    nanosecond = 0


class NanoTimestamp(Timestamp):
    nanosecond = 1


class NotATime(datetime):
    """Like pandas.NaT: a datetime without a date."""

    year = month = day = math.nan  # type: ignore[assignment]


class Opaque:
    def __repr__(self) -> str:
        raise RuntimeError('no repr')


class Mean:
    """Like a running mean of a library: made a float, and no number itself."""

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def __float__(self) -> float:
        return self.mean


class WithItem:
    """Like what has an ``item`` that has nothing to do with scalars."""

    def item(self, key: str) -> str:
        return key


class Color(enum.Enum):
    RED = 'r'


class Shape(enum.Flag):
    ROUND = 1
    FLAT = 2


class Sparse:
    """Like a tensor of PyTorch that has no list."""

    ndim = 1

    def tolist(self) -> list[float]:
        raise RuntimeError('unsupported tensor layout: Sparse')


TEXTS = ['', 'a', '0.5', 'NaN', '\0', '\ud83d\ude00', '\ud800', '\N{PILE OF POO}', 'x' * 100_000]
FLOATS = [0.0, -0.0, 0.1, 5e-324, sys.float_info.max, math.inf, -math.inf]


def identical(left: object, right: object) -> bool:
    """Whether two values are of one type and have the same bits."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(identical, left, right))
    if isinstance(left, float) and isinstance(right, float):
        is_nan = left != left and right != right
        return is_nan or (left == right and math.copysign(1, left) == math.copysign(1, right))
    if isinstance(left, datetime) and isinstance(right, datetime):
        return left.isoformat() == right.isoformat() and left.fold == right.fold
    return left == right


# ── Atoms ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    'value', [True, False, None, 0, -1, 2**63, 2**200, -(2**200), MOMENT, *FLOATS, *TEXTS]
)
def test_an_atom_holds_scalars_as_they_are(value: object) -> None:
    assert identical(atom_value(value), value)
    assert identical(atom_value([[value]]), [[value]])


def test_a_tuple_becomes_a_list_at_every_depth() -> None:
    assert atom_value((1, [2, (3, ())])) == [1, [2, [3, []]]]


@pytest.mark.failure('F44', 'a list is changed after it was assigned')
def test_a_list_is_copied() -> None:
    inner = [1]
    outer = [inner]
    kept = atom_value(outer)
    inner.append(2)
    outer.append([3])
    assert kept == [[1]]


@pytest.mark.failure('F44', 'scalars of other libraries: taken exactly, or refused')
@pytest.mark.parametrize(
    ('value', 'plain'),
    [
        (Level.HIGH, 3),
        (Name.ADAM, 'adam'),
        (Rate.SLOW, 0.25),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.int64(-(2**63)), -(2**63)),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_('a\0b'), 'a\0b'),
        (np.array(7), 7),
        (np.array([['a']]), 'a'),
        (np.array(2**200, dtype=object), 2**200),
        (Tensor(0.5), 0.5),
        (Tensor(5), 5),
        (Timestamp(2020, 7, 6, fold=1), datetime(2020, 7, 6, fold=1)),
    ],
)
def test_an_atom_takes_other_scalars_as_those_of_python(value: object, plain: object) -> None:
    assert identical(atom_value(value), plain)


@pytest.mark.failure('F44', 'scalars of other libraries: taken exactly, or refused')
@pytest.mark.parametrize(
    'value',
    [
        {},
        {1},
        b'bytes',
        bytearray(b'bytes'),
        1j,
        object(),
        Opaque(),
        WithItem(),
        Tensor(1.0, 2.0),
        Tensor([1.0]),
        Decimal(1),
        Fraction(1, 2),
        timedelta(1),
        time(12, 30),
        memoryview(b'bytes'),
        array(CHARACTERS, 'ab'),
        np.array([[1, 2]]),
        np.array([1, 2], dtype='c16'),
        np.array([1, 2], dtype=np.longdouble),
        np.array(['a', 'b']),
        np.array([b'a', b'b']),
        np.array([(1, 2), (3, 4)], dtype='i4,i4'),
        np.array([1, None], dtype=object),
        np.ma.masked_array([1, 2], [False, True]),
        pd.Series([1, 2]),
        Sparse(),
        np.longdouble(1),
        np.complex128(1),
        np.datetime64('2020-07-06'),
        np.datetime64('2020-07-06T00:00:00.000000000'),
        np.timedelta64(1, 'ns'),
        np.array(['2020-07-06'], dtype='M8[ns]'),
        NanoTimestamp(2020, 7, 6),
        NotATime(2020, 7, 6),
        int,
        lambda: None,
    ],
)
def test_an_atom_refuses_all_else(value: object) -> None:
    for offered in (value, [1, value]):
        with pytest.raises(UnsupportedValueError, match='an atom cannot hold'):
            atom_value(offered)


def test_a_value_that_is_refused_is_told_of_stringified() -> None:
    with pytest.raises(UnsupportedValueError, match=r'neptune_async\.stringified\('):
        atom_value(object())


@pytest.mark.parametrize(
    ('value', 'remedy'),
    [
        ({'a'}, r'add\(\*values\).*stringified\('),
        (OrderedDict, 'assign an instance'),
        (list, 'assign an'),
    ],
)
def test_a_set_and_a_class_are_told_what_to_do(value: object, remedy: str) -> None:
    with pytest.raises(UnsupportedValueError, match=remedy):
        atom_value(value)


def test_a_value_is_shown_on_one_line() -> None:
    with pytest.raises(
        UnsupportedValueError, match=r'array\(\[\[0., 0.\], \[0., 0.\]\]\) '
    ) as caught:
        atom_value(np.zeros((2, 2)))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (Path('runs') / 'a b.txt', 'runs/a b.txt'),
        (PureWindowsPath('C:/runs'), 'C:\\runs'),
        (Path('\udcff'), '\udcff'),
        (date(2020, 7, 6), '2020-07-06'),
        (UUID(int=1), '00000000-0000-0000-0000-000000000001'),
        (Color.RED, 'RED'),
        (Shape.FLAT, 'FLAT'),
    ],
)
def test_an_atom_takes_what_has_one_text_as_that_text(value: object, text: str) -> None:
    assert identical(atom_value(value), text)
    assert identical(atom_value([value]), [text])


def test_members_of_a_flag_are_a_text() -> None:
    # Before Python 3.11 they have no name of their own.
    assert 'ROUND' in str(atom_value(Shape.ROUND | Shape.FLAT))


@pytest.mark.parametrize(
    ('value', 'items'),
    [
        (np.array([1.5, -0.0, np.inf]), [1.5, -0.0, math.inf]),
        (np.array([0.5], dtype='f4'), [0.5]),
        (np.array([1, 2], dtype='u1'), [1, 2]),
        (np.array([True, False]), [True, False]),
        (np.array([]), []),
        (np.array([2**200, 1], dtype=object), [2**200, 1]),
        (np.ma.masked_array([1, 2], [False, False]), [1, 2]),
        (array('d', [0.1, 0.2]), [0.1, 0.2]),
        (array('b', [1, -1]), [1, -1]),
    ],
)
def test_an_atom_takes_numbers_in_one_dimension_as_a_list(value: object, items: list[Any]) -> None:
    assert identical(atom_value(value), items)
    assert identical(atom_value((value, 1)), [items, 1])


def test_lists_may_be_a_hundred_deep() -> None:
    def nested(depth: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(depth - 1):
            value = [value]
        return value

    assert decode(encode(atom_value(nested(100)))) == nested(100)
    with pytest.raises(UnsupportedValueError, match='deeper than 100'):
        atom_value(nested(101))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedValueError, match='deeper than 100'):
        atom_value(endless)


@pytest.mark.failure('F45', 'a text over the limit')
def test_a_text_has_a_limit() -> None:
    for longest in ('x' * (MAX_BYTES - 2), '\0' * (MAX_BYTES // 6)):
        for accept in (atom_value, series_value, set_member):
            assert accept(longest) is longest
            with pytest.raises(UnsupportedValueError, match='67,108,864'):
                accept(longest + longest[0])
            # However it comes: an array of NumPy's with one text gives it by its item().
            with pytest.raises(UnsupportedValueError, match='67,108,864'):
                accept(Tensor(longest + longest[0]))
        assert len(encode(longest)) <= MAX_BYTES


def test_an_atom_has_a_limit_in_bytes() -> None:
    half = '\N{PILE OF POO}' * (MAX_BYTES // 8)
    with pytest.raises(UnsupportedValueError, match='67,108,864'):
        encode(atom_value([half, half]))


def test_a_refused_value_shows_only_the_beginning_of_its_repr() -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        atom_value({'x' * 10_000})
    assert len(str(caught.value)) < 300


# ── Series ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('value', [*FLOATS, MOMENT, *TEXTS])
def test_a_series_holds_floats_texts_and_datetimes_as_they_are(value: object) -> None:
    assert identical(series_value(value), value)


@pytest.mark.failure('F44', 'scalars of other libraries: taken exactly, or refused')
@pytest.mark.parametrize(
    ('value', 'number'),
    [
        (True, 1.0),
        (3, 3.0),
        (-(2**53), -(2.0**53)),
        (2**60, 2.0**60),
        (10**22, 1e22),
        (2**1023, 2.0**1023),
        (Level.HIGH, 3.0),
        (Rate.SLOW, 0.25),
        (Decimal('0.5'), 0.5),
        (Decimal('NaN'), math.nan),
        (Decimal('-Infinity'), -math.inf),
        (Fraction(1, 4), 0.25),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.1), float(np.float16(0.1))),
        (np.float64(-0.0), -0.0),
        (np.int8(-1), -1.0),
        (np.uint64(2**63), 2.0**63),
        (np.bool_(False), 0.0),
        (np.array(0.5), 0.5),
        (np.array([0.5]), 0.5),
        (Tensor(0.5), 0.5),
        (Tensor(5), 5.0),
        (Tensor(True), 1.0),
        (np.longdouble(0.5), 0.5),
        (np.longdouble('nan'), math.nan),
        (np.array(0.5, 'g'), 0.5),
        (Mean(0.1), 0.1),
    ],
)
def test_numbers_of_all_kinds_become_floats(value: object, number: float) -> None:
    assert identical(series_value(value), number)


@pytest.mark.failure('F44', 'scalars of other libraries: taken exactly, or refused')
@pytest.mark.parametrize(
    'value',
    [
        Decimal('0.1'),
        Decimal('1e400'),
        Fraction(1, 3),
        np.longdouble(1) / 3,
        np.array(np.longdouble(1) / 3),
        np.array(Decimal('0.1'), object),
    ],
    ids=repr,
)
def test_a_number_that_no_float_equals_is_refused(value: object) -> None:
    if float(value) == value:  # type: ignore[arg-type]  # all are numbers
        pytest.skip('a long double is a double here')
    with pytest.raises(UnsupportedValueError, match=r'none equals .*; log float\(value\)'):
        series_value(value)


def test_a_numeric_text_stays_a_text() -> None:
    assert series_value('0.5') == '0.5'
    assert series_value(Name.ADAM) == 'adam'
    assert type(series_value(np.str_('1'))) is str


@pytest.mark.parametrize(
    'value', [2**53 + 1, -(2**53) - 1, 2**1024, 2**5000, np.int64(2**53 + 1), Tensor(2**53 + 1)]
)
def test_an_int_that_no_float_equals_is_refused(value: object) -> None:
    with pytest.raises(UnsupportedValueError, match='none equals'):
        series_value(value)


@pytest.mark.failure('F44', 'scalars of other libraries: taken exactly, or refused')
@pytest.mark.parametrize(
    'value',
    [
        None,
        b'1.5',
        1j,
        {},
        object(),
        Opaque(),
        WithItem(),
        date(2020, 7, 6),
        timedelta(1),
        Decimal('sNaN'),
        np.array([1.0, 2.0]),
        np.array([]),
        np.array([None]),
        np.datetime64('2020-07-06T00:00:00.000000000'),
        np.timedelta64(1, 'ns'),
        np.array(['2020-07-06'], dtype='M8[ns]'),
        NanoTimestamp(2020, 7, 6),
        NotATime(2020, 7, 6),
        float,
    ],
)
def test_a_series_refuses_all_else(value: object) -> None:
    with pytest.raises(UnsupportedValueError, match='a series cannot hold'):
        series_value(value)


@pytest.mark.filterwarnings('ignore::numpy.exceptions.ComplexWarning')
def test_a_complex_number_does_not_lose_its_imaginary_part() -> None:
    with pytest.raises(UnsupportedValueError, match='a series cannot hold'):
        series_value(np.complex128(1 + 2j))


def test_bytes_of_numpy_are_no_number() -> None:
    with pytest.raises(UnsupportedValueError, match='a series cannot hold'):
        series_value(np.bytes_(b'1.5'))


def test_a_masked_value_is_no_zero() -> None:
    with pytest.raises(UnsupportedValueError):
        series_value(np.ma.masked)


def test_a_tensor_of_several_elements_is_refused_whatever_error_its_library_has() -> None:
    with pytest.raises(UnsupportedValueError, match='a series cannot hold'):
        series_value(Tensor(1.0, 2.0))


@pytest.mark.parametrize('value', [[1.0], (1.0,), {1.0}, frozenset({1.0}), []])
def test_a_collection_is_refused_with_a_word_on_extend(value: object) -> None:
    with pytest.raises(UnsupportedValueError, match='extend'):
        series_value(value)


@pytest.mark.failure('F42', 'ints that no float equals')
@given(st.integers())
@example(2**1024 - 2**970)
@example(2**1024 - 2**970 - 1)
def test_an_int_is_either_kept_exactly_or_refused(value: int) -> None:
    try:
        kept = series_value(value)
    except UnsupportedValueError:
        with suppress(OverflowError):
            assert float(value) != value
    else:
        assert isinstance(kept, float)
        assert kept == value


# ── Sets ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('value', [True, 0, 2**200, *FLOATS, *TEXTS])
def test_a_set_holds_scalars_as_they_are(value: object) -> None:
    assert identical(set_member(value), value)


@pytest.mark.failure('F44', 'scalars of other libraries: taken exactly, or refused')
@pytest.mark.parametrize(
    ('value', 'plain'),
    [(Level.HIGH, 3), (Name.ADAM, 'adam'), (np.int8(3), 3), (np.bool_(True), True), (Tensor(1), 1)],
)
def test_a_set_takes_other_scalars_as_those_of_python(value: object, plain: object) -> None:
    assert identical(set_member(value), plain)


@pytest.mark.parametrize('nan', [math.nan, np.float32('nan'), Tensor(math.nan)])
def test_a_set_refuses_nan(nan: object) -> None:
    with pytest.raises(UnsupportedValueError, match='NaN'):
        set_member(nan)


@pytest.mark.failure('F44', 'scalars of other libraries: taken exactly, or refused')
@pytest.mark.parametrize(
    'value', [None, MOMENT, [1], (1,), {}, b'a', Decimal(1), np.array([1, 2]), Tensor(None)]
)
def test_a_set_refuses_all_else(value: object) -> None:
    with pytest.raises(UnsupportedValueError, match='a set cannot hold'):
        set_member(value)


# ── Steps ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('step', 'number'),
    [
        (0, 0.0),
        (-5, -5.0),
        (MAX_STEP, 2.0**53),
        (-MAX_STEP, -(2.0**53)),
        (0.5, 0.5),
        (1e300, 1e300),
        (Level.HIGH, 3.0),
        (Rate.SLOW, 0.25),
        (np.int32(7), 7.0),
        (np.float32(0.5), 0.5),
        (np.array(7), 7.0),
        (np.array([0.5]), 0.5),
        (Tensor(7), 7.0),
        (Tensor(0.5), 0.5),
    ],
)
def test_a_step_is_the_float_that_equals_it(step: object, number: float) -> None:
    assert identical(checked_step(step), number)


@pytest.mark.parametrize(
    'step',
    [
        MAX_STEP + 1,
        -MAX_STEP - 1,
        2**5000,
        math.nan,
        math.inf,
        -math.inf,
        np.float64('nan'),
        Tensor(math.inf),
        True,
        np.bool_(True),
        '1',
        None,
        1j,
        MOMENT,
        [1],
        Tensor(1, 2),
        Decimal(1),
        np.array([1, 2]),
        np.datetime64(7, 's'),
        np.timedelta64(7, 's'),
    ],
)
def test_what_is_neither_an_exact_int_nor_a_finite_float_is_no_step(step: object) -> None:
    with pytest.raises(InvalidStepError, match='a step cannot be'):
        checked_step(step)


def test_an_integral_step_reads_back_as_an_int() -> None:
    assert identical(shown_step(3.0), 3)
    assert identical(shown_step(-0.5), -0.5)
    assert identical(shown_step(2.0**70), 2**70)


# ── Timestamps ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('timestamp', 'seconds'),
    [
        (0, 0.0),
        (-1.5, -1.5),
        (np.float64(7.5), 7.5),
        (np.int64(7), 7.0),
        (Tensor(7.5), 7.5),
        (datetime(1970, 1, 2, tzinfo=UTC), 86400.0),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0.0),
        (Timestamp(1970, 1, 2, tzinfo=UTC), 86400.0),
    ],
)
def test_a_timestamp_is_in_seconds_since_the_epoch(timestamp: object, seconds: float) -> None:
    assert identical(checked_timestamp(timestamp), seconds)


def test_a_naive_datetime_is_local_time() -> None:
    naive = datetime(2020, 7, 6, 12)
    assert checked_timestamp(naive) == naive.timestamp()


@pytest.mark.parametrize(
    'timestamp',
    [
        math.nan,
        math.inf,
        10**400,
        True,
        '2020-07-06',
        None,
        date(2020, 7, 6),
        [1],
        np.datetime64('2020-07-06'),
        NanoTimestamp(2020, 7, 6),
        NotATime(2020, 7, 6),
        datetime.min,
        Tensor(1, 2),
    ],
)
def test_what_is_neither_finite_nor_a_datetime_is_no_timestamp(timestamp: object) -> None:
    with pytest.raises(InvalidTimestampError, match='a timestamp cannot be'):
        checked_timestamp(timestamp)


# ── Datetimes that only their zone can refuse ────────────────────────────────


class Zoneless(tzinfo):
    """A zone that cannot tell its offset."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise NotImplementedError


@pytest.mark.parametrize('accept', [atom_value, series_value])
def test_a_datetime_whose_zone_tells_no_offset_is_refused_at_the_call(
    accept: Callable[[object], object],
) -> None:
    with pytest.raises(UnsupportedValueError):
        accept(datetime(2020, 7, 6, tzinfo=Zoneless()))
    with pytest.raises(UnsupportedValueError):
        accept(Tensor(datetime(2020, 7, 6, tzinfo=Zoneless())))


def test_a_timestamp_whose_zone_tells_no_offset_is_refused() -> None:
    with pytest.raises(InvalidTimestampError):
        checked_timestamp(datetime(2020, 7, 6, tzinfo=Zoneless()))


# ── The stored form ──────────────────────────────────────────────────────────

texts = st.text(st.characters(exclude_categories=()))
zones = st.none() | st.builds(
    timezone,
    st.timedeltas(-timedelta(hours=23, minutes=59), timedelta(hours=23, minutes=59)),
)
moments = st.builds(
    datetime.replace, st.datetimes(timezones=zones, allow_imaginary=True), fold=st.integers(0, 1)
)
integers = st.integers() | st.integers(-(2**300), 2**300)
scalars = st.none() | st.booleans() | integers | st.floats() | texts | moments
atoms = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


@pytest.mark.failure('F42', 'NaN, -0.0, long ints, lone surrogates, NUL')
@given(atoms)
@example(2**64)
@example(-(2**64))
@example(2**64 - 1)
@example(10**5000)
@example(['\ud83d\ude00', '\ud83d', '\ude00', '\N{GRINNING FACE}'])
@example([math.nan, math.inf, -math.inf, -0.0, 5e-324])
@example(datetime(1, 1, 1))
@example(datetime.max)
@example(datetime(2020, 7, 6, tzinfo=timezone(timedelta(microseconds=1))))
@example(datetime(2020, 7, 6, tzinfo=timezone(timedelta(microseconds=-1))))
@example([True, 1, 1.0, '1', None])
def test_what_an_atom_accepts_is_stored_bit_for_bit(value: Any) -> None:
    accepted = atom_value(value)
    assert identical(accepted, value)
    assert identical(decode(encode(accepted)), value)


@pytest.mark.failure('F42', 'NaN, -0.0, long ints, lone surrogates, NUL')
@given(st.lists(texts) | st.lists(moments))
def test_columns_of_texts_and_datetimes_are_stored_bit_for_bit(values: list[Any]) -> None:
    assert identical(decode(encode_points(values)), values)


@given(atoms)
def test_a_stored_value_is_json_but_for_what_json_has_no_number_for(value: Any) -> None:
    text = encode(atom_value(value)).decode('utf-8', 'surrogatepass')
    # Called for NaN, Infinity and -Infinity, which JSON does not have and common parsers take.
    require_plain(json.loads(text, parse_constant=float))


def require_plain(parsed: Any) -> None:
    """There are only numbers that other languages have, and objects that are documented."""
    if isinstance(parsed, list):
        for item in parsed:
            require_plain(item)
    elif isinstance(parsed, dict):
        assert [*parsed] in (['int'], ['datetime'], ['datetime', 'fold'])
    elif isinstance(parsed, int):
        assert parsed.bit_length() <= 64


def test_the_stored_form_is_the_one_that_is_documented() -> None:
    assert encode(True) == b'true'
    assert encode(None) == b'null'
    assert encode([1, 0.5, 'a"\u00e9']) == '[1,0.5,"a\\"\u00e9"]'.encode()
    assert encode(-(2**70)) == b'{"int":"-0x400000000000000000"}'
    assert encode(MOMENT) == b'{"datetime":"2020-07-06T14:37:58.123456+02:00"}'
    assert encode(datetime(2020, 7, 6, fold=1)) == b'{"datetime":"2020-07-06T00:00:00","fold":1}'
    assert encode('\ud800') == b'"\xed\xa0\x80"'
    assert encode(math.nan) == b'NaN'


@given(atoms, st.data())
def test_damaged_bytes_are_a_value_error(value: Any, data: st.DataObject) -> None:
    stored = bytearray(encode(atom_value(value)))
    position = data.draw(st.integers(0, len(stored) - 1))
    if data.draw(st.booleans()):
        del stored[position:]
    else:
        stored[position] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError):
        decode(bytes(stored))


@pytest.mark.parametrize(
    'stored',
    [
        b'',
        b'\xff',
        b'{}',
        b'{"float":"1"}',
        b'{"int":5}',
        b'{"int":"0xzz"}',
        b'{"datetime":5}',
        b'{"datetime":"2020-99-99"}',
        b'{"datetime":"2020-07-06T00:00:00","fold":7}',
        b'{"datetime":"2020-07-06T00:00:00","fold":"1"}',
        b'[' * 100_000,
        b'1 2',
        b'"a" ',
    ],
)
def test_what_encode_never_returns_is_a_value_error(stored: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is json's or datetime's
        decode(stored)


@pytest.mark.parametrize(
    ('value', 'content'),
    [
        (True, 'bool'),
        (1, 'int'),
        (1.0, 'float'),
        ('1', 'str'),
        (MOMENT, 'datetime'),
        (None, 'none'),
        ([1], 'list'),
    ],
)
def test_the_type_of_a_value_has_a_name(value: Any, content: str) -> None:
    assert content_of(value) == content
