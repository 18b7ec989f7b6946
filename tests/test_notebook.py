"""What a notebook shows of an experiment."""

from __future__ import annotations

import base64
import io
import math
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import nbformat
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter, HTMLFormatter
from nbclient import NotebookClient
from PIL import Image

from neptune_async import Experiment, File, Histogram
from neptune_async._engine.reading.preview import MOST_VARIABLES
from neptune_async._faces.stored_files import LARGEST_SHOWN
from neptune_async._html import shown_value
from neptune_async.exceptions import RejectedOperationsError, Rejection


class Page(HTMLParser):
    """The tags and the texts of what is shown; fails where tags are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.points: list[list[tuple[float, float]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != 'br':
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == 'path':
            self.tags.append(tag)
            return
        assert tag == 'polyline'
        pairs = (dict(attrs)['points'] or '').split()
        self.points.append([(float(x), float(y)) for x, y in (pair.split(',') for pair in pairs)])

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'experiments.db'


@pytest.fixture
def exp(path: Path) -> Iterator[Experiment]:
    with Experiment('NPT-1', storage=path) as opened:
        yield opened


def page(shown: Any) -> Page:
    html = HTMLFormatter()(shown)
    assert html is not None
    return Page(html)


def test_an_experiment_is_a_tree_with_types_values_and_sparklines(exp: Experiment) -> None:
    exp['params'].assign({'lr': 0.1, 'opt': {'name': 'adam'}})
    exp['params/tags'].add('b', 'a')
    exp['train/loss'].extend([1.0, 0.5, 0.25])
    exp['train/note'].log('done')
    shown = page(exp)
    assert shown.texts == [
        repr(exp),
        'params/',
        'lr', 'Atom of float', '0.1',
        'opt/',
        'name', 'Atom of str', "'adam'",
        'tags', 'Set of str', "{'a', 'b'}",
        'train/',
        'loss', 'Series of float, 3 points', '0.25',
        'note', 'Series of str, 1 point', "'done'",
    ]  # fmt: skip
    assert shown.tags.count('svg') == 1
    assert shown.points == [[(0.0, 1.0), (60.0, 13.0), (120.0, 19.0)]]


def test_a_view_shows_its_namespace_or_its_variable(exp: Experiment) -> None:
    exp['train'].log({'loss': 0.5, 'deep/acc': 0.25})
    exp['lr'].assign(0.1)
    assert page(exp['train']).texts[1:] == [
        'deep/', 'acc', 'Series of float, 1 point', '0.25',
        'loss', 'Series of float, 1 point', '0.5',
    ]  # fmt: skip
    assert page(exp['train/deep/acc']).texts[1:] == [
        'train/', 'deep/', 'acc', 'Series of float, 1 point', '0.25',
    ]  # fmt: skip
    assert page(exp['nowhere']).texts[1:] == ['nothing was logged here yet']


def test_nothing_that_was_logged_is_taken_for_html(path: Path) -> None:
    evil = '<script>alert(1)</script>&"\''
    with Experiment(evil, storage=path) as exp:
        exp[f'{evil}/{evil}'].assign(evil)
        exp['<b>set</b>'].add(evil)
        exp['<i>series</i>'].log(evil)
        exp['surrogate'].assign('\ud800')
        for shown in (exp, exp[evil], exp['<b>set</b>']):
            html = page(shown).html
            assert '<script' not in html
            assert '<b>set' not in html
            assert '<i>' not in html
            html.encode()


@pytest.mark.parametrize(
    ('value', 'shown'),
    [
        (0.1 + 0.2, '0.3'),
        (math.nan, 'nan'),
        (datetime(2020, 7, 6, 12), '2020-07-06 12:00:00'),
        (None, 'None'),
        ([1, [None, 'a']], "[1, [None, 'a']]"),
    ],
    ids=repr,
)
def test_a_value_is_shown_in_a_few_characters(value: Any, shown: str) -> None:
    assert shown_value(value) == shown


@pytest.mark.parametrize(
    'value',
    ['x' * 10**7, [*range(10**6)], {*range(10**6)}, 10**5000, [['x' * 99] * 99] * 99],
    ids=['text', 'list', 'set', 'int', 'nested'],
)
def test_a_long_value_is_cut(value: Any) -> None:
    assert len(shown_value(value)) <= 80


def test_what_is_shown_is_bounded_and_says_what_is_not(exp: Experiment) -> None:
    exp['many'].assign({f'x{n:04}': 'long' * 1_000 for n in range(3_000)})
    exp['long'].extend([math.sin(n / 50) for n in range(50_000)])
    shown = page(exp)
    assert shown.texts[-1] == f'{3_001 - MOST_VARIABLES:,} more variables are not shown'
    assert len(shown.html) < 30_000
    ((*curve,),) = shown.points
    assert 50 <= len(curve) <= 100
    assert {y for _, y in curve} >= {1.0, 19.0}


def test_a_sparkline_has_a_gap_where_a_value_is_not_finite(exp: Experiment) -> None:
    exp['gap'].extend([0.0, 1.0, math.nan, math.inf, 1.0, 0.0])
    exp['flat'].extend([2.0, 2.0])
    exp['huge'].extend([1.7e308, -1.7e308])
    exp['nan'].extend([math.nan, math.nan])
    flat, gap, more, huge = page(exp).points
    assert [x for x, _ in gap + more] == [0.0, 24.0, 96.0, 120.0]
    assert [y for _, y in flat] == [19.0, 19.0]
    assert [y for _, y in huge] == [1.0, 19.0]


def test_what_cannot_be_read_is_shown_as_a_sentence(path: Path) -> None:
    exp = Experiment('NPT-1', storage=path)
    view = exp['loss']
    view.log(0.5)
    exp.close()
    assert 'NPT-1' in page(exp).html
    assert 'is closed' in page(exp).texts[-1]
    assert 'is closed' in page(view).texts[-1]


def test_a_store_that_does_not_answer_is_not_waited_for(path: Path) -> None:
    with Experiment('NPT-1', storage=path) as exp:
        exp['loss'].log(0.5)
        exp.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute('BEGIN IMMEDIATE')
            exp['loss'].log(0.25)
            start = time.monotonic()
            assert 'no answer within 2 seconds' in page(exp).texts[-1]
            assert time.monotonic() - start < 10
            other.execute('ROLLBACK')
        assert page(exp).texts[-1] == '0.25'


def test_to_look_hides_no_rejection(path: Path) -> None:
    with Experiment('NPT-1', storage=path) as exp:
        exp['loss'].log(0.5)
        exp._state.rejections.append(Rejection('NPT-1', 'x', 'create', 'a test'))
        assert page(exp).texts[-1] == '0.5'
        with pytest.raises(RejectedOperationsError):
            exp.flush()


# ── Files and histograms ─────────────────────────────────────────────────────


def shown(value: Any) -> dict[str, Any]:
    """Return what a notebook may choose from to show a value, by media type."""
    data, _ = DisplayFormatter().format(value)
    return data


PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_a_notebook_shows_an_image_as_an_image_and_a_histogram_as_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path))  # not the user's own settings
    with Experiment('NPT-1', storage=tmp_path / 'experiments.db') as exp:
        exp['image'].assign(File.image(PIXELS))
        exp['samples'].log(File.image(PIXELS))
        exp['weights'].log(Histogram([1.0, 2.0, 2.0]))
    cells = [
        'from neptune_async import AsyncExperiment, Experiment',
        "exp = Experiment('NPT-1', storage='experiments.db', mode='read')",
        "exp['image'].read()",
        "exp['samples'].all()[0]",
        "exp['weights'].tail(1)[0]",
        "other = await AsyncExperiment.open('NPT-1', storage='experiments.db', mode='read')",
        "(await other['weights'].all())[0]",
        "await other['image'].read()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, resources={'metadata': {'path': tmp_path}}).execute()
    _, _, image, of_series, plot, _, awaited_plot, awaited = (
        cell.outputs[-1].data if cell.outputs else {} for cell in notebook.cells
    )
    for found in (image, of_series):
        assert 'text/html' not in found
        with Image.open(io.BytesIO(base64.b64decode(found['image/png']))) as picture:
            assert (np.asarray(picture) == PIXELS).all()
    for found in (plot, awaited_plot):
        assert found['image/svg+xml'].startswith('<svg ')
        assert '3 values, at most 2 in a bin' in found['image/svg+xml']
    assert [*awaited] == ['text/plain']


@pytest.mark.parametrize('kind', ['png', 'jpeg', 'gif', 'webp'])
def test_an_image_is_shown_as_what_it_is(exp: Experiment, kind: str) -> None:
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, kind)
    exp['image'].assign(File(content.getvalue(), f'image.{kind}', f'image/{kind}'))
    data = shown(exp['image'].read())
    assert {*data} == {f'image/{kind}', 'text/plain'}
    assert base64.b64decode(data[f'image/{kind}']) == content.getvalue()


def test_no_script_of_a_drawing_or_of_a_page_gets_into_the_notebook(exp: Experiment) -> None:
    evil = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"></svg>'
    exp['drawing'].assign(File(evil.encode(), 'x.svg', 'image/svg+xml; charset="<b>"'))
    exp['page'].assign(File.html(evil, name='<b>.html'))
    exp['image'].assign(File(evil.encode(), '<b>.png', 'image/png'))
    data = shown(exp['drawing'].read())
    assert {*data} == {'text/html', 'text/plain'}
    encoded = base64.b64encode(evil.encode()).decode()
    assert data['text/html'] == f'<img src="data:image/svg+xml;base64,{encoded}">'
    assert {*shown(exp['page'].read())} == {'text/plain'}
    assert {*shown(exp['image'].read())} == {'image/png', 'text/plain'}


def test_an_image_that_is_too_large_is_a_line_of_text(exp: Experiment) -> None:
    exp['large'].assign(File(bytes(LARGEST_SHOWN + 1), '\x1b.png', 'image/png'))
    exp['fits'].assign(File(bytes(LARGEST_SHOWN), 'fits.png', 'image/png'))
    data = shown(exp['large'].read())
    assert data == {
        'text/plain': r'\x1b.png (image/png, 2,097,153 bytes): larger than 2,097,152 bytes; '
        'download() it'
    }
    assert 'image/png' in shown(exp['fits'].read())


def test_an_image_that_cannot_be_read_says_why(path: Path) -> None:
    with Experiment('NPT-1', storage=path) as exp:
        exp['image'].assign(File.image(PIXELS))
        exp['large'].assign(File(bytes(100_000), 'large.png'))
        image, large = exp['image'].read(), exp['large'].read()
        Path(f'{path}.files', large.sha256[:2], large.sha256).write_bytes(bytes(99_999))
        assert 'has another content than was stored' in shown(large)['text/plain']
    assert 'is closed' in shown(image)['text/plain']


@pytest.mark.parametrize(
    'histogram',
    [
        Histogram(range(1000), bins=1000),
        Histogram([]),
        Histogram(counts=[0, 0], edges=[-1.7e308, 0, 1.7e308]),
        Histogram(counts=[1.7e308, 1.7e308], edges=[0, 5e-324, 1e-323]),
        Histogram([1.0, math.nan, math.inf]),
    ],
    ids=['many', 'empty', 'wide', 'narrow', 'not finite'],
)
def test_a_plot_of_a_histogram_is_small_and_whole(exp: Experiment, histogram: Histogram) -> None:
    plot = shown(histogram)['image/svg+xml']
    assert len(plot) < 5_000
    (bars, _) = ET.fromstring(plot).findall('{http://www.w3.org/2000/svg}path')
    outline = [float(number) for number in re.findall(r'[VH](-?[\d.]+)', bars.attrib['d'])]
    assert all(8 <= x <= 312 for x in outline[1::2])
    assert all(22 <= y <= 130 for y in outline[::2])
    exp['weights'].log(histogram)
    assert 'path' in page(exp).tags
    assert 'values from' in page(exp).texts[-1]


def test_the_bars_of_a_plot_are_as_high_as_their_counts() -> None:
    plot = Histogram(counts=[1, 0, 4], edges=[0, 1, 2, 4])._repr_svg_()
    assert '<path d="M8,130V103.0H84.0V130.0H160.0V22.0H312.0V130Z"' in plot
    peak = Histogram(counts=[*[1] * 5_000, 100, *[1] * 5_000], edges=range(10_002))._repr_svg_()
    assert 'V22.0' in peak
    assert '; 2 not finite' in Histogram([1.0, math.nan, math.inf])._repr_svg_()
