"""Chunks: the points of one series, packed column by column, and unpacked.

Each column is in the smallest of a few simple forms:

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

import math
import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, TypeAlias

from neptune_async._model.values import IN_TEXTS, MAX_BYTES, MAX_STEP, decode, encode_points
from neptune_async._storage.loaded_numpy import loaded_numpy
from neptune_async._storage.points import Points, SeriesEnd, Stride, Values, never_decreases
from neptune_async._storage.summaries import NO_POINTS, SeriesSummary, packed_summary, summarised

CHUNK_POINTS = 8192
"""Points a full chunk has: a tail reads one, and its row overhead is below 0.02 bytes a point."""

Form: TypeAlias = Literal['f8', 'f8+zlib', 'ulp', 'json', 'json+zlib']

_HEAD = struct.Struct('<qqq8dII')
"""The numbers that ``head_checksum`` is made of."""
_SAMPLE_BYTES = 2048
_SMALL_BYTES = 256
"""Below this many, zlib takes 30 microseconds to begin with and saves next to nothing."""


@dataclass(slots=True)
class Chunk:
    """A packed run of points of one series: a row of the table ``chunks``.

    :ivar first: how many points of the series come before.
    :ivar largest_step: of the series up to the end of this chunk.
    :ivar last_time: the timestamp of the last point.
    :ivar least_step, greatest_step, least_time, greatest_time: of the points of this chunk.
    :ivar summary: what else is to be known of them (see ``summaries``).
    """

    first: int
    count: int
    first_step: float
    stride: float | None
    largest_step: float
    last_time: float
    least_step: float
    greatest_step: float
    least_time: float
    greatest_time: float
    values_form: Form
    values: bytes
    steps_form: Form | None
    steps: bytes | None
    times_form: Form
    times: bytes
    summary: bytes

    @property
    def head(self) -> tuple[Any, ...]:
        """All but the columns and the summary, and the checksums of those, in the order of the
        table.
        """
        return (
            self.first, self.count, self.first_step, self.stride, self.largest_step,
            self.last_time, self.least_step, self.greatest_step, self.least_time,
            self.greatest_time, self.values_form, self.steps_form, self.times_form,
            zlib.crc32(self.summary), checksum(self),
        )  # fmt: skip

    @property
    def columns(self) -> tuple[bytes, bytes, bytes | None, bytes]:
        """The summary and the columns, in the order of the table."""
        return self.summary, self.values, self.steps, self.times

    @property
    def end(self) -> SeriesEnd:
        """Where the series stands after this chunk."""
        return SeriesEnd(self.first + self.count, self.largest_step, self.last_time)


# ── Packing ──────────────────────────────────────────────────────────────────


def packed(points: Points, end: SeriesEnd, before: SeriesSummary = NO_POINTS) -> Chunk:
    """Pack points of one series into a chunk.

    :param end: where the series stands before these points.
    :param before: the summary of the series before these points.
    """
    steps = points.steps
    if isinstance(steps, Stride):
        first_step, stride = steps.first, steps.stride
        steps_form, steps_bytes = None, None
    else:
        first_step, stride = steps[0], None
        steps_form, steps_bytes = _packed_floats(steps)
    values_form, values = _packed_values(points.values)
    times_ascend = never_decreases(points.times)
    times_form, times = _packed_times(points.times, times_ascend)
    summary = summarised(points, before, times_ascend)
    own = summary.chunk
    return Chunk(
        first=end.count,
        count=len(points),
        first_step=first_step,
        stride=stride,
        largest_step=max(own.greatest_step, end.largest_step),
        last_time=points.times[-1],
        least_step=own.least_step,
        greatest_step=own.greatest_step,
        least_time=own.least_time,
        greatest_time=own.greatest_time,
        values_form=values_form,
        values=values,
        steps_form=steps_form,
        steps=steps_bytes,
        times_form=times_form,
        times=times,
        summary=packed_summary(summary),
    )


def checksum(chunk: Chunk) -> int:
    """Return the CRC-32 of a chunk's columns, one after the other."""
    crc = zlib.crc32(chunk.values)
    crc = zlib.crc32(chunk.steps or b'', crc)
    return zlib.crc32(chunk.times, crc)


def head_checksum(variable_id: int, head: Sequence[Any]) -> int:
    """Return the CRC-32 of all that a row of chunks holds but its columns and its summary.

    :raises ValueError: when the head holds what no head can.
    """
    first, count, first_step, stride, *steps_and_times = head[:10]
    forms = [form or '' for form in head[10:13]]
    try:
        # A REAL column does not keep the sign of zero.
        floats = [each + 0.0 for each in steps_and_times]
        numbers = _HEAD.pack(
            variable_id, first, count, first_step + 0.0,
            math.nan if stride is None else stride + 0.0, *floats, *head[13:],
        )  # fmt: skip
        return zlib.crc32('\0'.join(forms).encode(), zlib.crc32(numbers))
    except (TypeError, struct.error):
        raise ValueError('it holds what no head of a chunk can') from None


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


def _packed_times(times: array[float], ascend: bool) -> tuple[Form, bytes]:
    is_small = len(times) * times.itemsize < _SMALL_BYTES
    is_negative = math.copysign(1.0, times[0]) < 0
    if is_small or is_negative or not ascend:
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
        last_step(chunk.first_step, chunk.stride, chunk.count)
        found = Stride(chunk.first_step, chunk.stride, chunk.count)
    elif steps:
        found = unpacked_floats(chunk.steps_form, chunk.steps or b'', chunk.count)
    return Points(
        found,
        unpacked_floats(chunk.times_form, chunk.times, chunk.count) if times else array('d'),
        unpacked_values(chunk.values_form, chunk.values, chunk.count),
    )


def last_step(first: float, stride: float, count: int) -> float:
    """Return the last of so many steps at a regular stride.

    :raises ValueError: there are no such steps.
    """
    if first.is_integer() and stride.is_integer():
        last = int(first) + int(stride) * (count - 1)
        if abs(last) <= MAX_STEP:
            return float(last)
    raise ValueError(f'there are no {count} steps from {first} at {stride}')


def unpacked_values(form: str, stored: bytes, count: int) -> Values:
    """Return the values of a chunk: an array of floats, or a list of the others.

    :raises ValueError: when the bytes are not what the form and the count say.
    """
    if form not in ('json', 'json+zlib'):
        return unpacked_floats(form, stored, count)
    most = count * (MAX_BYTES + 64)
    values = decode(_inflated(stored, most) if form == 'json+zlib' else stored)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f'a column of {count} values holds something else')
    if not all(isinstance(value, IN_TEXTS) for value in values):
        raise ValueError('a column of texts, datetimes, files or histograms holds something else')
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
    numpy = loaded_numpy()
    if numpy is not None:
        lanes = numpy.frombuffer(raw, 'u1').reshape(8, count)
        sums = lanes.T.copy().view('<i8').ravel().cumsum()
        if (sums[1:] < sums[:-1]).any():  # they never decrease, but for an overflow
            raise ValueError('a column of timestamps adds up to no timestamp')
        return array('d', sums.tobytes())
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
