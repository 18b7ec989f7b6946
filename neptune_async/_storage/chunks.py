"""Points as columns: grouped by variable, resolved, packed into chunks and unpacked.

Points arrive interleaved, in the order of the calls and of all series at once
(``POINT`` records). A chunk is the opposite: the points of one series, column
by column, each column in the smallest of a few simple forms:

=========== ====================================================================
form        the bytes
=========== ====================================================================
``f8``      float64, little endian
``f8+zlib`` the same through zlib
``ulp``     float64 that never decrease, as 64-bit integers, each less the one
            before it: neighbouring timestamps differ by few units in the last
            place. Bytes are transposed (all first bytes, then all second
            bytes, ...) and go through zlib.
``json``    a JSON list (see ``neptune_async._model.values``)
``json+zlib`` the same through zlib
=========== ====================================================================

Steps at a regular stride have no column: they are ``first_step + stride * i``.
"""

from __future__ import annotations

import json
import math
import operator
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, compress
from typing import Any, Literal, TypeAlias

from neptune_async._model.operations import (
    AUTOMATIC_STEP,
    POINT,
    POINT_FIELDS,
    variable_of,
)
from neptune_async._model.values import MAX_BYTES, MAX_STEP, decode, encode_points

CHUNK_POINTS = 8192
"""Points a full chunk has: a tail reads one, and its row overhead is below 0.02 bytes a point."""

Form: TypeAlias = Literal['f8', 'f8+zlib', 'ulp', 'json', 'json+zlib']
Values: TypeAlias = 'array[float] | list[Any]'

_list_in_json = json.JSONEncoder(separators=(',', ':')).encode
_NAN_BYTES = array('d', [AUTOMATIC_STEP]).tobytes()
_SAMPLE_BYTES = 2048
_SMALL_BYTES = 256
"""Below this many, zlib takes 30 microseconds to begin with and saves next to nothing."""


@dataclass(slots=True)
class Columns:
    """Points of one variable as they were logged: steps may be automatic."""

    keys: array[float]
    steps: array[float]
    times: array[float]
    values: Values


@dataclass(slots=True)
class Points:
    """Points of one series as they are read: ``len`` of all three is equal.

    :ivar steps: a ``Stride``, or one step a point.
    :ivar times: seconds since the epoch.
    """

    steps: Stride | array[float]
    times: array[float]
    values: Values

    def __len__(self) -> int:
        return len(self.values)

    def sliced(self, start: int, stop: int) -> Points:
        """Return the points from ``start`` up to ``stop``."""
        return Points(self.steps[start:stop], self.times[start:stop], self.values[start:stop])

    def up_to(self, step: float) -> Points:
        """Return the points whose step is not beyond one."""
        if isinstance(self.steps, Stride) and self.steps.stride > 0:
            return self.sliced(0, bisect_right(self.steps.numbers, step))
        steps = expanded(self.steps)
        chosen = [each <= step for each in steps]
        kept = array('d', compress(steps, chosen))
        values = compress(self.values, chosen)
        return Points(
            (kept and as_stride(kept)) or kept,
            array('d', compress(self.times, chosen)),
            array('d', values) if isinstance(self.values, array) else [*values],
        )


@dataclass(frozen=True, slots=True)
class SeriesEnd:
    """Where a series stands: how many points it has, its largest step, its last timestamp."""

    count: int = 0
    largest_step: float = -math.inf
    last_time: float = -math.inf


@dataclass(frozen=True, slots=True)
class Stride:
    """The steps ``first + stride * i`` for i from 0 up to ``count``.

    Both are integral: the sum of two fractions would depend on where it began.
    """

    first: float
    stride: float
    count: int

    def __getitem__(self, index: slice) -> Stride:
        start, stop, _ = index.indices(self.count)
        return Stride(self.first + self.stride * start, self.stride, max(0, stop - start))

    @property
    def numbers(self) -> range:
        """The steps, where their stride is not 0."""
        first, stride = int(self.first), int(self.stride)
        return range(first, first + stride * self.count, stride)

    def expanded(self) -> array[float]:
        """Return the steps one by one."""
        if self.stride == 0:
            return array('d', [self.first]) * self.count
        return array('d', self.numbers)


@dataclass(slots=True)
class Chunk:
    """A packed run of points of one series: a row of the table ``chunks``.

    :ivar first: how many points of the series come before.
    :ivar largest_step: of the series up to the end of this chunk.
    :ivar last_time: the timestamp of the last point.
    """

    first: int
    count: int
    first_step: float
    stride: float | None
    largest_step: float
    last_time: float
    values_form: Form
    values: bytes
    steps_form: Form | None
    steps: bytes | None
    times_form: Form
    times: bytes

    @property
    def head(self) -> tuple[Any, ...]:
        """All but the columns, and the checksum of those, in the order of the table."""
        return (
            self.first, self.count, self.first_step, self.stride, self.largest_step,
            self.last_time, self.values_form, self.steps_form, self.times_form, checksum(self),
        )  # fmt: skip

    @property
    def end(self) -> SeriesEnd:
        """Where the series stands after this chunk."""
        return SeriesEnd(self.first + self.count, self.largest_step, self.last_time)


# ── From the log to columns ──────────────────────────────────────────────────


def columns_by_variable(points: array[float]) -> Iterator[tuple[int, Columns]]:
    """Split interleaved points by variable; each keeps its order.

    A training loop logs one series, or the same few in the same order, again
    and again. Both are found by comparing memory and split by slicing, which
    takes nanoseconds a point; only other orders are walked point by point.
    """
    keys = points[0::POINT_FIELDS]
    period = _period(keys)
    if period:
        cycle = POINT_FIELDS * period
        for start in range(0, cycle, POINT_FIELDS):
            yield variable_of(points[start]), _columns(points, start, cycle)
        return
    records: dict[int, list[bytes]] = {}
    raw = points.tobytes()
    for key, start in zip(keys, range(0, len(raw), POINT.size), strict=True):
        records.setdefault(variable_of(key), []).append(raw[start : start + POINT.size])
    for variable_id, group in records.items():
        yield variable_id, _columns(array('d', b''.join(group)), 0, POINT_FIELDS)


def columns_of(variable_id: int, points: array[float]) -> Columns:
    """Return the points of one variable among interleaved points."""
    return next(
        (columns for found, columns in columns_by_variable(points) if found == variable_id),
        Columns(array('d'), array('d'), array('d'), array('d')),
    )


def text_columns_by_variable(texts: Iterable[Sequence[Any]]) -> Iterator[tuple[int, Columns]]:
    """Split points of str and datetime series by variable; each keeps its order."""
    groups: dict[int, list[Sequence[Any]]] = {}
    for point in texts:
        groups.setdefault(variable_of(point[0]), []).append(point)
    for variable_id, group in groups.items():
        keys, steps, times, values = zip(*group, strict=True)
        yield (
            variable_id,
            Columns(array('d', keys), array('d', steps), array('d', times), list(values)),
        )


def joined(pieces: Sequence[Columns]) -> Columns:
    """Return the points of several pieces of one variable, in their order."""
    if len(pieces) == 1:
        return pieces[0]
    whole = Columns(array('d'), array('d'), array('d'), pieces[0].values[:0])
    for piece in pieces:
        whole.keys += piece.keys
        whole.steps += piece.steps
        whole.times += piece.times
        whole.values += piece.values  # type: ignore[operator]  # a series has one kind of values
    return whole


def _period(keys: array[float]) -> int:
    """Return after how many keys they repeat, each variable once a cycle; 0 if they do not."""
    count = len(keys)
    first = keys[0]
    raw = keys.tobytes()
    if raw == raw[: keys.itemsize] * count:
        return 1
    try:
        period = keys.index(first, 1)
    except ValueError:
        period = count
    repeats = raw[keys.itemsize * period :] == raw[: -keys.itemsize * period]
    distinct = {variable_of(key) for key in keys[:period]} if repeats else ()
    return period if len(distinct) == period else 0


def _columns(points: array[float], start: int, cycle: int) -> Columns:
    return Columns(
        points[start::cycle],
        points[start + 1 :: cycle],
        points[start + 2 :: cycle],
        points[start + 3 :: cycle],
    )


# ── Automatic steps and timestamps ───────────────────────────────────────────


def resolved(columns: Columns, end: SeriesEnd) -> Points:
    """Return points with every step and timestamp as it reads back.

    An automatic step is one more than the largest before it, from 0; an
    automatic timestamp is never before the one before it.

    :param end: where the series stands before these points.
    """
    return Points(
        _resolved_steps(columns.steps, end.largest_step),
        resolved_times(columns.times, columns.keys, end.last_time),
        columns.values,
    )


def _resolved_steps(steps: array[float], largest: float) -> Stride | array[float]:
    count = len(steps)
    if all_automatic(steps) and _counts_up(largest, count):
        return Stride(_following(largest), 1.0, count)
    # NaN in, NaN out: a sum without one has no automatic step among its terms.
    if math.isnan(sum(steps)):
        for i, step in enumerate(steps):
            if step != step:
                steps[i] = step = _following(largest)
            largest = max(largest, step)
    return as_stride(steps) or steps


def all_automatic(steps: array[float]) -> bool:
    """Whether no step was given."""
    return steps.tobytes() == _NAN_BYTES * len(steps)


def _following(largest: float) -> float:
    return 0.0 if largest == -math.inf else largest + 1.0


def _counts_up(largest: float, count: int) -> bool:
    """Whether so many steps that follow are integral, and exact."""
    # Not a sum, which would be rounded.
    return largest == -math.inf or (largest.is_integer() and abs(largest) <= MAX_STEP - count)


def as_stride(steps: array[float]) -> Stride | None:
    """Return steps as first, stride and count if they are regular, integral and exact."""
    count = len(steps)
    first = steps[0]
    stride = steps[1] - first if count > 1 else 1.0
    # The last is compared first, since most that is irregular shows there.
    if not (first.is_integer() and stride.is_integer() and _ends_at(steps, first, stride)):
        return None
    found = Stride(first, stride, count)
    return found if found.expanded() == steps else None


def _ends_at(steps: array[float], first: float, stride: float) -> bool:
    # In ints: beyond 2**53 two steps that follow each other are the same float.
    last = int(first) + int(stride) * (len(steps) - 1)
    return steps[-1] == last and abs(last) <= MAX_STEP


def resolved_times(times: array[float], keys: array[float], last: float) -> array[float]:
    """Return timestamps of which no automatic one is before the one before it."""
    in_order = times[0] >= last and _never_decreases(times)
    if not in_order:
        for i, key in enumerate(keys):
            if times[i] < last and not int(key) & 1:
                times[i] = last
            last = times[i]
    return times


def _never_decreases(times: array[float]) -> bool:
    return all(map(operator.le, times, times[1:]))


# ── Packing ──────────────────────────────────────────────────────────────────


def packed(points: Points, end: SeriesEnd) -> Chunk:
    """Pack points of one series into a chunk.

    :param end: where the series stands before these points.
    """
    steps = points.steps
    if isinstance(steps, Stride):
        first_step, stride = steps.first, steps.stride
        ends = (first_step, first_step + stride * (steps.count - 1))
        steps_form, steps_bytes = None, None
    else:
        first_step, stride = steps[0], None
        ends = (min(steps), max(steps))
        steps_form, steps_bytes = _packed_floats(steps)
    values_form, values = _packed_values(points.values)
    times_form, times = _packed_times(points.times)
    return Chunk(
        first=end.count,
        count=len(points),
        first_step=first_step,
        stride=stride,
        largest_step=max(*ends, end.largest_step),
        last_time=points.times[-1],
        values_form=values_form,
        values=values,
        steps_form=steps_form,
        steps=steps_bytes,
        times_form=times_form,
        times=times,
    )


def checksum(chunk: Chunk) -> int:
    """Return the CRC-32 of a chunk's columns, one after the other."""
    crc = zlib.crc32(chunk.values)
    crc = zlib.crc32(chunk.steps or b'', crc)
    return zlib.crc32(chunk.times, crc)


def head_checksum(variable_id: int, head: Sequence[Any]) -> int:
    """Return the CRC-32 of all that a row of chunks holds but its columns.

    :raises TypeError: when the head holds what no head can.
    """
    # A REAL column does not keep the sign of zero.
    stored = [field + 0.0 if isinstance(field, float) else field for field in head]
    return zlib.crc32(_list_in_json([variable_id, *stored]).encode())


def _packed_values(values: Values) -> tuple[Form, bytes]:
    if isinstance(values, array):
        return _packed_floats(values)
    raw = encode_points(values)
    if len(raw) < _SMALL_BYTES:
        return 'json', raw
    smaller = zlib.compress(raw)
    return ('json+zlib', smaller) if len(smaller) < len(raw) else ('json', raw)


def _packed_floats(floats: array[float]) -> tuple[Form, bytes]:
    raw = little_endian(floats).tobytes()
    if len(raw) < _SMALL_BYTES:
        return 'f8', raw
    # A sample decides: zlib takes 400 ns for each noisy float, and saves 4 % of it.
    sample = raw[:_SAMPLE_BYTES]
    if len(zlib.compress(sample, 1)) <= 0.8 * len(sample):
        smaller = zlib.compress(raw, 1)
        if len(smaller) < len(raw):
            return 'f8+zlib', smaller
    return 'f8', raw


def _packed_times(times: array[float]) -> tuple[Form, bytes]:
    is_small = len(times) * times.itemsize < _SMALL_BYTES
    is_negative = math.copysign(1.0, times[0]) < 0
    if is_small or is_negative or not _never_decreases(times):
        return _packed_floats(times)
    # The integers of growing positive floats grow too, so no lane of this one subtraction of
    # numbers as long as the column borrows from the next: 8 bytes a lane, all lanes at once.
    raw = little_endian(times).tobytes()
    size = len(raw)
    wide = int.from_bytes(raw, 'little')
    shifted = int.from_bytes(raw[:-8], 'little') << 64
    deltas = (wide - shifted).to_bytes(size, 'little')
    transposed = b''.join([deltas[i::8] for i in range(8)])
    return 'ulp', zlib.compress(transposed, 1)


# ── Unpacking ────────────────────────────────────────────────────────────────


def unpacked(chunk: Chunk, steps: bool = True, times: bool = True) -> Points:
    """Return the points of a chunk; a column that is not wanted stays empty.

    :raises ValueError: when a column is not what its form and the count say.
    """
    if not 1 <= chunk.count <= CHUNK_POINTS:
        raise ValueError(f'a chunk cannot have {chunk.count} points')
    found: Stride | array[float] = array('d')
    if chunk.stride is not None:
        found = _checked_stride(Stride(chunk.first_step, chunk.stride, chunk.count))
    elif steps:
        found = unpacked_floats(chunk.steps_form, chunk.steps or b'', chunk.count)
    return Points(
        found,
        unpacked_floats(chunk.times_form, chunk.times, chunk.count) if times else array('d'),
        unpacked_values(chunk.values_form, chunk.values, chunk.count),
    )


def _checked_stride(steps: Stride) -> Stride:
    if steps.first.is_integer() and steps.stride.is_integer():
        last = int(steps.first) + int(steps.stride) * (steps.count - 1)
        if abs(last) <= MAX_STEP:
            return steps
    raise ValueError(f'there are no {steps.count} steps from {steps.first} at {steps.stride}')


def concatenated(pieces: Sequence[Points]) -> Points:
    """Return the points of several pieces that follow each other."""
    if len(pieces) == 1:
        return pieces[0]
    times = array('d')
    values = pieces[0].values[:0]
    for piece in pieces:
        times += piece.times
        values += piece.values  # type: ignore[operator]  # a series has one kind of values
    columns = [piece.steps for piece in pieces]
    return Points(_one_stride(columns) or _joined_steps(columns), times, values)


def _one_stride(columns: Sequence[Stride | array[float]]) -> Stride | None:
    """Return steps that go on at the same stride from each column to the next, if they do."""
    whole = columns[0]
    for column in columns[1:]:
        if not (isinstance(whole, Stride) and isinstance(column, Stride)):
            return None
        # In ints: beyond 2**53 two steps that follow each other are the same float.
        following = int(whole.first) + int(whole.stride) * whole.count
        if column.first != following or (column.count > 1 and column.stride != whole.stride):
            return None
        whole = Stride(whole.first, whole.stride, whole.count + column.count)
    return whole if isinstance(whole, Stride) else None


def _joined_steps(columns: Sequence[Stride | array[float]]) -> Stride | array[float]:
    steps = array('d')
    for column in columns:
        steps += expanded(column)
    return as_stride(steps) or steps


def expanded(steps: Stride | array[float]) -> array[float]:
    """Return steps one by one."""
    return steps.expanded() if isinstance(steps, Stride) else steps


def unpacked_values(form: str, stored: bytes, count: int) -> Values:
    """Return the values of a chunk: an array of floats, or a list of str or datetime.

    :raises ValueError: when the bytes are not what the form and the count say.
    """
    if form not in ('json', 'json+zlib'):
        return unpacked_floats(form, stored, count)
    most = count * (MAX_BYTES + 64)
    values = decode(_inflated(stored, most) if form == 'json+zlib' else stored)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f'a column of {count} values holds something else')
    if not all(isinstance(value, (str, datetime)) for value in values):
        raise ValueError('a column of texts and datetimes holds something else')
    return values


def unpacked_floats(form: str | None, stored: bytes, count: int) -> array[float]:
    """Return a column of floats.

    :raises ValueError: when the bytes are not what the form and the count say.
    """
    if form not in ('f8', 'f8+zlib', 'ulp'):
        raise ValueError(f'a column cannot have the form {form!r}')
    raw = stored if form == 'f8' else _inflated(stored, 8 * count)
    if len(raw) != 8 * count:
        raise ValueError(f'a column of {count} numbers has {len(raw)} bytes')
    if form != 'ulp':
        return little_endian(array('d', raw))
    deltas = bytearray(len(raw))
    for i in range(8):
        deltas[i::8] = raw[i * count : (i + 1) * count]
    floats = array('d')
    try:
        floats.frombytes(array('q', accumulate(little_endian(array('q', bytes(deltas))))).tobytes())
    except OverflowError:
        raise ValueError('a column of timestamps adds up to no timestamp') from None
    return floats


def _inflated(stored: bytes, most: int) -> bytes:
    """Decompress; never to more bytes than there may be, whatever is claimed of them."""
    inflater = zlib.decompressobj()
    try:
        # One more: what is at an end is seen only after it.
        raw = inflater.decompress(stored, most + 1)
    except zlib.error as error:
        raise ValueError(f'a column does not decompress: {error}') from None
    if len(raw) > most or not inflater.eof or inflater.unused_data:
        raise ValueError(f'a column does not decompress to {most} bytes at most')
    return raw


def little_endian(numbers: array[Any]) -> array[Any]:
    """Return the array in little-endian order, or one of that order in the machine's."""
    if sys.byteorder == 'big':
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
