"""Images and pages of what libraries draw, as 1.x makes them.

None of the libraries is imported here: the type of a value tells what it is, and is looked at once.
"""

from __future__ import annotations

import base64
import io
import logging
import sys
import warnings
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, TypeAlias

from neptune_async import File
from neptune_async.exceptions import InvalidArgumentError, UnsupportedValueError

logger = logging.getLogger('neptune_async')

Kind: TypeAlias = Literal[
    'array', 'pillow', 'matplotlib', 'seaborn', 'plotly', 'altair', 'bokeh', 'pandas'
]

IMAGES = ('pillow', 'matplotlib', 'seaborn')
"""Kinds of what is an image when it is assigned, appended or uploaded as it is."""
PAGES = ('altair', 'bokeh', 'plotly')
"""The same for pages."""

_CLASSES: dict[tuple[str, str], Kind] = {
    ('numpy', 'ndarray'): 'array',
    ('PIL', 'Image'): 'pillow',
    ('matplotlib', 'Figure'): 'matplotlib',
    ('matplotlib', 'Axes'): 'matplotlib',
    ('seaborn', 'FacetGrid'): 'seaborn',
    ('seaborn', 'PairGrid'): 'seaborn',
    ('seaborn', 'JointGrid'): 'seaborn',
    ('plotly', 'Figure'): 'plotly',
    ('altair', 'TopLevelMixin'): 'altair',
    ('bokeh', 'figure'): 'bokeh',
    ('pandas', 'DataFrame'): 'pandas',
}


def kind_of(value: object) -> Kind | None:
    """Return what draws a value, or None."""
    kind: Any = type(value)  # mypy says that a type cannot be hashed
    return _kind_of(kind)


@lru_cache(maxsize=1024)
def _kind_of(kind: type) -> Kind | None:
    for base in kind.__mro__:
        known = _CLASSES.get((base.__module__.partition('.')[0], base.__name__))
        if known is not None:
            return known
    return None


# ── Images ───────────────────────────────────────────────────────────────────


def image_of(image: Any, *, autoscale: bool = True) -> File:
    """Return a PNG file of an image.

    :param image: an array, a tensor (with its channels last), an image of Pillow, or a figure of
        Matplotlib or seaborn.
    :param autoscale: take numbers that go up to 1 at most as fractions of the brightest.
    :raises InvalidArgumentError: it is None.
    :raises UnsupportedValueError: it is none of these.
    """
    if image is None:
        raise InvalidArgumentError('the image is None; give an array, a tensor or a figure')
    kind = kind_of(image)
    if kind == 'pillow':
        return File.image(image)
    if kind in ('matplotlib', 'seaborn'):
        return File(_drawn(image), 'figure.png')
    array = _array_of(image)
    if array is None:
        raise UnsupportedValueError(
            f'an image cannot be made of a {type(image).__name__}; give an array, a tensor, an '
            'image of Pillow, or a figure of Matplotlib or seaborn'
        )
    return File.image(_with_pixels(array, autoscale))


def _drawn(figure: Any) -> bytes:
    """Return a figure as PNG. It is drawn at once, since it may change."""
    figure = getattr(figure, 'figure', figure)  # of axes, and of what seaborn has made
    file = io.BytesIO()
    figure.savefig(file, format='png', bbox_inches='tight')
    return file.getvalue()


def _array_of(image: Any) -> Any:
    if kind_of(image) == 'array':
        return image
    if callable(getattr(image, 'detach', None)):  # of PyTorch
        image = image.detach().cpu()
    return image.numpy() if callable(getattr(image, 'numpy', None)) else None


def _with_pixels(array: Any, autoscale: bool) -> Any:
    """Return an array that has what 1.x takes for pixels as what they are here: bytes, or
    fractions from 0 to 1.
    """
    import numpy as np

    if not array.size or array.dtype.kind not in 'biuf':
        return array  # an error, which says what an image is
    is_fraction = autoscale and array.min() >= 0 and array.max() <= 1
    if array.dtype.kind == 'f' and is_fraction:
        return array
    if is_fraction:
        return (array * np.uint8(255)).astype(np.uint8)
    if array.dtype == np.uint16 and array.max() > 255:
        return array
    if not (array.min() >= 0 and array.max() <= 255):
        logger.warning(
            'the image has values from %s to %s; an image has those from 0 to 255, or from 0.0 to '
            '1.0, and what is beyond is kept as the nearest of these',
            array.min(), array.max(),
        )  # fmt: skip
    return np.nan_to_num(array, nan=0).clip(0, 255).astype(np.uint8)


# ── Pages ────────────────────────────────────────────────────────────────────


def page_of(chart: Any, *, include_plotlyjs: bool | str = True) -> str:
    """Return a page in HTML of a chart, or of a frame of pandas.

    :param include_plotlyjs: as for ``plotly.io.write_html``.
    :raises InvalidArgumentError: it is neither.
    """
    kind = kind_of(chart)
    if kind == 'pandas':
        return str(chart.to_html())
    if kind == 'plotly':
        return str(chart.to_html(include_plotlyjs=include_plotlyjs))
    if kind == 'altair':
        text = io.StringIO()
        chart.save(text, format='html')
        return text.getvalue()
    if kind == 'bokeh':
        embed, resources = sys.modules['bokeh.embed'], sys.modules['bokeh.resources']
        return str(embed.file_html(chart, resources.CDN))
    if kind in ('matplotlib', 'seaborn'):
        return _page_of_figure(getattr(chart, 'figure', chart), include_plotlyjs)
    raise InvalidArgumentError(
        f'a page cannot be made of a {type(chart).__name__}; give a chart of Altair, Bokeh, '
        'Matplotlib, Plotly or seaborn, or a frame of pandas'
    )


def _page_of_figure(figure: Any, include_plotlyjs: bool | str) -> str:
    """Return a figure of Matplotlib as one of Plotly if that can be made of it, or as an image."""
    try:
        tools = import_module('plotly.tools')

        with warnings.catch_warnings():
            # So Plotly says that it leaves points out.
            warnings.filterwarnings(
                'error', '.*Plotly can only import path collections', category=UserWarning
            )
            chart = tools.mpl_to_plotly(figure)
    except Exception as error:  # it goes through parts of Matplotlib that change
        logger.warning(
            'Plotly cannot be had, or cannot show the figure of Matplotlib; it is kept as an '
            'image: %.200r', error
        )  # fmt: skip
        image = base64.b64encode(_drawn(figure)).decode()
        return f"<img src='data:image/png;base64,{image}'/>"
    return str(chart.to_html(include_plotlyjs=include_plotlyjs))
