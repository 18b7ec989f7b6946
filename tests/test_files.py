"""What a file or a histogram is made of, and what is refused."""

from __future__ import annotations

import csv
import io
import math
import struct
import tracemalloc
import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image as matplotlib_image
from matplotlib.figure import Figure

from neptune_async import File, Histogram
from neptune_async._model.pending_files import PendingFile
from neptune_async.exceptions import InvalidArgumentError, UnsupportedValueError


def content(file: File) -> bytes:
    pending = PendingFile.of('path', file)
    pending.load()
    return pending.content()


def pixels(file: File) -> Any:
    """Return the pixels of a PNG as another library reads them."""
    return matplotlib_image.imread(io.BytesIO(content(file)), format='png')


# ── Files ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('name', 'media_type'),
    [
        ('a.png', 'image/png'), ('a.txt', 'text/plain'), ('page.html', 'text/html'),
        ('model.pt', 'application/octet-stream'), ('a.csv.gz', 'application/octet-stream'),
        ('noend', 'application/octet-stream'),
    ],
)  # fmt: skip
def test_the_name_tells_the_media_type(name: str, media_type: str) -> None:
    assert File(b'', name=name).media_type == media_type
    assert File(b'', name=name, media_type='x/y').media_type == 'x/y'


def test_a_file_of_a_path_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'model.pt').write_bytes(b'here')
    monkeypatch.chdir(tmp_path)
    file = File('model.pt')
    monkeypatch.chdir('/')
    assert (file.name, content(file)) == ('model.pt', b'here')


def test_what_was_given_may_change_afterwards() -> None:
    buffer = bytearray(b'before')
    file = File(buffer)
    buffer[:] = b'behind'
    array = np.zeros((2, 2), np.uint8)
    image = File.image(array)
    array[:] = 255
    assert content(file) == b'before'
    assert not pixels(image).any()


@pytest.mark.parametrize(
    ('make', 'why'),
    [
        (lambda: File(7), 'cannot be made of int'),
        (lambda: File(None), 'cannot be made of NoneType'),
        (lambda: File(''), 'cannot be'),
        (lambda: File('a\0b'), 'cannot be'),
        (lambda: File(io.StringIO('text')), 'binary mode'),
        (lambda: File(b'', name=''), 'name must be a text of 1 to 255'),
        (lambda: File(b'', name='a' * 256), 'name must be'),
        (lambda: File(b'', name=b'a'), 'name must be'),
        (lambda: File(b'', media_type=''), 'media_type must be'),
        (lambda: File.text(b'bytes'), 'File.text takes a str'),
        (lambda: File.html(7), 'File.html takes a str'),
    ],
)
def test_what_makes_no_file_is_refused(make: Any, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        make()


def test_a_text_is_utf_8() -> None:
    assert content(File.text('ü')) == 'ü'.encode()
    assert File.html('<p>').media_type == 'text/html'
    with pytest.raises(UnsupportedValueError, match='UTF-8'):
        File.text('\ud800')


# ── Images ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('shape', [(1, 1), (3, 5), (3, 5, 1), (3, 5, 3), (3, 5, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_an_image_has_the_pixels_that_were_given(shape: tuple[int, ...], dtype: Any) -> None:
    top = np.iinfo(dtype).max
    image = np.random.default_rng(1).integers(0, top, shape, dtype, endpoint=True)
    seen = np.rint(pixels(File.image(image)) * top).reshape(shape)
    # What reads it here makes 8 bits of 16, but for grey.
    rounded = 257 if dtype is np.uint16 and shape[2:] > (1,) else 0
    assert np.abs(seen - image).max() <= rounded


def test_grey_with_alpha_is_kept() -> None:
    image = np.array([[[10, 255], [20, 0]]], np.uint8)
    seen = np.rint(pixels(File.image(image)) * 255).astype(np.uint8)
    assert np.array_equal(seen[..., [0, -1]], image)


def test_floats_and_truth_values_are_scaled() -> None:
    seen = np.rint(pixels(File.image(np.array([[0.0, 0.5, 1.0]]))) * 255)
    assert seen.tolist() == [[0, 128, 255]]
    assert np.rint(pixels(File.image(np.array([[True, False]]))) * 255).tolist() == [[255, 0]]
    assert np.rint(pixels(File.image(np.array([[7, 255]]))) * 255).tolist() == [[7, 255]]


def test_the_pixels_of_an_image_are_copied_once() -> None:
    image = np.zeros((512, 512, 4), 'uint8')
    File.image(image[:1])
    tracemalloc.start()
    try:
        file = File.image(image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    image[:] = 1
    assert peak < 1.5 * image.nbytes
    assert not pixels(file).any()


def test_an_image_of_big_endian_or_of_strides_is_the_same() -> None:
    image = np.arange(24, dtype='>u2').reshape(4, 6)
    seen = np.rint(pixels(File.image(image[::2, ::-1])) * 65_535)
    assert np.array_equal(seen, image[::2, ::-1])


@pytest.mark.parametrize(
    ('image', 'why'),
    [
        (np.zeros((3, 4, 5)), 'the shape'), (np.zeros(3), 'the shape'), (np.zeros((0, 4)), 'shape'),
        (np.full((2, 2), 1.5), 'from 0 to 1'), (np.full((2, 2), np.nan), 'from 0 to 1'),
        (np.full((2, 2), -0.1), 'from 0 to 1'), (np.full((2, 2), 256), 'beyond 0 to 255'),
        (np.full((2, 2), 1j), 'cannot hold complex'), ('a.png', 'cannot be made of a str'),
        (None, 'cannot be made of a NoneType'),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(image: Any, why: str) -> None:
    with pytest.raises(UnsupportedValueError, match=why):
        File.image(image)


def test_a_figure_is_drawn_at_the_call() -> None:
    figure = Figure(figsize=(2, 1), dpi=50)
    axes = figure.add_subplot()
    axes.plot([1, 2])
    before, after = File.figure(figure), None
    axes.plot([2, 1])
    after = File.figure(figure)
    assert pixels(before).shape == (50, 100, 4)
    assert not np.array_equal(pixels(before), pixels(after))
    with pytest.raises(UnsupportedValueError, match='no figure'):
        File.figure('x')


def test_a_figure_of_plotly_is_a_page() -> None:
    class Plotted:
        def to_html(self) -> str:
            return '<html>'

    file = File.figure(Plotted())
    assert (content(file), file.media_type) == (b'<html>', 'text/html')


# ── Sound and tables ─────────────────────────────────────────────────────────


def test_sound_has_the_samples_that_were_given() -> None:
    samples = np.array([[0, 1], [-32768, 32767], [5, -5]], np.int16)
    with wave.open(io.BytesIO(content(File.audio(samples, 8_000)))) as read:
        assert read.getparams()[:4] == (2, 2, 8_000, 3)
        assert read.readframes(3) == samples.astype('<i2').tobytes()
    floats = content(File.audio(np.array([0.1, -0.2], np.float32), 44_100))
    assert struct.unpack('<HHIIHH', floats[20:36]) == (3, 1, 44_100, 176_400, 4, 32)
    assert np.frombuffer(floats[44:], '<f4').tolist() == pytest.approx([0.1, -0.2])


@pytest.mark.parametrize(
    ('samples', 'rate', 'error'),
    [
        (np.zeros((1, 2, 3)), 8_000, UnsupportedValueError),
        (np.array([1j]), 8_000, UnsupportedValueError),
        (np.zeros(3), 0, InvalidArgumentError),
        (np.zeros(3), 8_000.0, InvalidArgumentError),
    ],
)
def test_what_is_no_sound_is_refused(samples: Any, rate: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        File.audio(samples, rate)


COLUMNS = {'a': [1, 2], 'b,"c': ['x', 'y\nz']}


@pytest.mark.parametrize('make', [dict, pd.DataFrame, pa.table])
def test_a_table_is_csv(make: Any) -> None:
    table = make(COLUMNS)
    file = File.table(table)
    rows = [*csv.reader(io.StringIO(content(file).decode(), newline=''))]
    assert rows == [['a', 'b,"c'], ['1', 'x'], ['2', 'y\nz']]


@pytest.mark.parametrize('table', [[1, 2], 'a', {'a': [1], 'b': [1, 2]}])
def test_what_is_no_table_is_refused(table: Any) -> None:
    with pytest.raises(UnsupportedValueError):
        File.table(table)


# ── Histograms ───────────────────────────────────────────────────────────────


@given(st.lists(st.floats(width=32)), st.integers(1, 20))
def test_every_value_is_in_one_bin(values: list[float], bins: int) -> None:
    of_list, of_array = Histogram(values, bins), Histogram(np.array(values), bins)
    assert of_list == of_array
    assert sum(of_list.counts) + of_list.non_finite == len(values)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        assert of_list.edges[0] <= min(finite) <= max(finite) <= of_list.edges[-1]


@pytest.mark.parametrize(
    'values',
    [
        [1.7e308, -1.7e308], [1.7976931348623157e308], [5e-324, 0.0], [1.0, 1.0000000000000002],
        [0.0, -0.0], [],
    ],
)  # fmt: skip
def test_bins_ascend_whatever_the_values_are(values: list[float]) -> None:
    histogram = Histogram(values)
    assert sum(histogram.counts) == len(values)
    assert histogram == Histogram(np.array(values))


def test_a_histogram_counts_as_numpy_does() -> None:
    values = np.random.default_rng(2).normal(size=10_000)
    counts, edges = np.histogram(values, 32)
    histogram = Histogram(values.reshape(100, 100), 32)
    assert histogram.edges == pytest.approx(edges)
    assert sum(abs(np.array(histogram.counts) - counts)) <= 2  # at edges that are rounded otherwise


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        ({}, 'takes values'),
        ({'values': [1], 'counts': [1], 'edges': [0, 1]}, 'takes values'),
        ({'counts': [1]}, 'takes values'),
        ({'counts': [1], 'edges': [0]}, 'one more edge'),
        ({'counts': [], 'edges': [0]}, 'one more edge'),
        ({'counts': [1], 'edges': [1, 1]}, 'must ascend'),
        ({'counts': [-1], 'edges': [0, 1]}, 'negative'),
        ({'counts': [math.nan], 'edges': [0, 1]}, 'finite numbers'),
        ({'counts': ['x'], 'edges': [0, 1]}, 'finite numbers'),
        ({'counts': [1], 'edges': [0, 1], 'non_finite': -1}, 'non_finite'),
        ({'values': [1], 'bins': 0}, 'bins must be'),
        ({'values': [1], 'bins': 2.0}, 'bins must be'),
    ],
)
def test_what_is_no_histogram_is_refused(arguments: Any, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        Histogram(**arguments)


@pytest.mark.parametrize('values', ['text', 7, [1, 'x'], np.array(['a']), np.array([1j])])
def test_what_cannot_be_counted_is_refused(values: Any) -> None:
    with pytest.raises(UnsupportedValueError, match='counts numbers'):
        Histogram(values)


def test_a_png_is_one_by_the_book() -> None:
    png = content(File.image(np.zeros((2, 3), np.uint8)))
    assert png[:8] == b'\x89PNG\r\n\x1a\n'
    position, kinds = 8, []
    while position < len(png):
        length, kind = struct.unpack_from('>I4s', png, position)
        chunk = png[position + 4 : position + 8 + length]
        assert struct.unpack_from('>I', png, position + 8 + length) == (zlib.crc32(chunk),)
        kinds.append(kind)
        position += 12 + length
    assert kinds == [b'IHDR', b'IDAT', b'IEND']
