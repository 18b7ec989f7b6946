"""Images and pages of what libraries draw are made as 1.x makes them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from neptune_async.compat.neptune import rendering
from neptune_async.compat.neptune.types import File
from neptune_async.exceptions import UnsupportedValueError

altair = pytest.importorskip('altair')
bokeh = pytest.importorskip('bokeh.plotting')
pd = pytest.importorskip('pandas')
pillow = pytest.importorskip('PIL.Image')
plotly = pytest.importorskip('plotly.graph_objects')
seaborn = pytest.importorskip('seaborn')


def read(field: Any) -> bytes:
    """Return the content of a file as it is kept."""
    content: bytes = field._view.read().bytes()
    return content


def pixels(file: File) -> Any:
    """Return the pixels of an image as another library reads them."""
    return np.asarray(pillow.open(io.BytesIO(file.content))).tolist()


@pytest.mark.parametrize(
    ('array', 'autoscale', 'expected'),
    [
        (np.array([[0.0, 1.0]]), True, [[0, 255]]),
        (np.array([[0, 1]]), True, [[0, 255]]),
        (np.array([[False, True]]), True, [[0, 255]]),
        (np.array([[0, 200]]), True, [[0, 200]]),
        (np.array([[0.5, 200.5]]), True, [[0, 200]]),
        (np.array([[0, 1]]), False, [[0, 1]]),
        (np.array([[0.0, 1.0]]), False, [[0, 1]]),
        (np.array([[[1], [2]]]), True, [[1, 2]]),
        (np.array([[[1, 2, 3]]]), True, [[[1, 2, 3]]]),
        (np.array([[0, 60_000]], np.uint16), True, [[0, 60_000]]),
    ],
)
def test_an_array_becomes_the_pixels_that_1_x_takes_it_for(
    array: Any, autoscale: bool, expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert pixels(File.as_image(array, autoscale=autoscale)) == expected
    assert caplog.records == []


def test_what_is_beyond_the_range_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    file = File.as_image(np.array([[-5.0, 300.0, np.nan, 7.0]]))
    assert pixels(file) == [[0, 255, 0, 7]]
    assert 'from 0 to 255' in caplog.text


def test_a_tensor_is_an_array_with_its_channels_last() -> None:
    class Tensor:
        """As those of PyTorch; those of TensorFlow have ``numpy`` only."""

        def detach(self) -> Tensor:
            return self

        cpu = detach

        def numpy(self) -> Any:
            return np.array([[[1, 2, 3]]])

    assert pixels(File.as_image(Tensor())) == [[[1, 2, 3]]]


def drawn() -> Any:
    """Return what each library draws, by its name."""
    frame = pd.DataFrame({'a': [1, 2], 'b': [3, 4]})
    figure = Figure()
    figure.subplots().plot([1, 2])
    page = bokeh.figure()
    page.line([1, 2], [3, 4])
    grid = seaborn.FacetGrid(frame)
    return {
        'pillow': pillow.new('RGB', (2, 2)), 'matplotlib': figure, 'axes': figure.axes[0],
        'seaborn': grid, 'plotly': plotly.Figure(), 'bokeh': page,
        'altair': altair.Chart(frame).mark_point().encode(x='a'), 'pandas': frame,
    }  # fmt: skip


def test_what_is_drawn_is_an_image_or_a_page_as_it_is(run: Any) -> None:
    libraries = drawn()
    frame = libraries.pop('pandas')
    for name, value in libraries.items():
        assert File.is_convertable(value)
        run['uploaded'][name].upload(value)
        run[f'assigned/{name}'] = value
        run['appended'][name].append(value)
        run['extended'].extend({name: [value, value]})
        run['logged'][name].log([value])
        expected = 'html' if name in ('plotly', 'bokeh', 'altair') else 'png'
        assert File.is_convertable_to_html(value) is (expected == 'html')
        assert File.is_convertable_to_image(value) is (expected == 'png')
        for field in (run[f'uploaded/{name}'], run[f'assigned/{name}']):
            assert field.fetch_extension() == expected
            start = read(field).lstrip()[:9].lower()
            assert start == b'<!doctype' or start.startswith(b'\x89png') or start == b'<html>\n  '
        for series, count in (('appended', 1), ('extended', 2), ('logged', 1)):
            assert len(run[series][name]._view.all()) == count
    assert File.is_convertable(frame)
    assert not File.is_convertable(5)
    with pytest.raises(UnsupportedValueError, match='as_html'):
        run['frame'].upload(frame)


def test_pages_are_made_of_charts_and_frames() -> None:
    libraries = drawn()
    del libraries['pillow']
    for value in libraries.values():
        file = File.as_html(value, include_plotlyjs='cdn')
        assert file.extension == 'html'
        assert b'<' in file.content
    assert b'<table' in File.as_html(libraries['pandas']).content
    assert len(File.as_html(libraries['plotly']).content) > 2**20
    assert len(File.as_html(libraries['plotly'], include_plotlyjs='cdn').content) < 2**20


def test_a_figure_that_plotly_cannot_show_is_an_image_in_a_page(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(rendering, 'import_module', missing)
    content = File.as_html(drawn()['matplotlib']).content
    assert content.startswith(b"<img src='data:image/png;base64,")
    assert 'kept as an image' in caplog.text
