"""What a notebook shows of an experiment: a small table, safe whatever the values are.

There is no script and no style sheet in it. Every text is escaped, and cut.
"""

from __future__ import annotations

import math
import reprlib
from array import array
from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from itertools import groupby

from neptune_async._engine.reading.preview import Preview, Shown
from neptune_async._media.histogram_svg import bars
from neptune_async._model.messages import CONTAINERS
from neptune_async._model.showing import harmless
from neptune_async.files import FileReference, Histogram

_MOST_CHARACTERS = 80
_LEFT = 'text-align:left'
_WIDTH, _HEIGHT = 120, 20
"""Of a sparkline, in pixels."""

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxlong = _MOST_CHARACTERS
_repr.maxlist = _repr.maxset = _MOST_CHARACTERS // 3


def notice(title: str, text: object) -> str:
    """Return what is shown where there is no more to say than a sentence."""
    return f'<div><code>{_escaped(title)}</code><br>{_escaped(str(text))}</div>'


def table(title: str, path: str | None, preview: Preview) -> str:
    """Return a row for each variable, and for each namespace that they are in.

    :param path: the namespace, or the variable, that is shown; None is the root.
    """
    if not preview.shown:
        return notice(title, 'nothing was logged here yet')
    rows = ''.join(_rows(path, preview.shown))
    more = f'<div>{preview.hidden:,} more variables are not shown</div>' if preview.hidden else ''
    return f'<div><code>{_escaped(title)}</code><table>{rows}</table>{more}</div>'


def _rows(path: str | None, shown: Iterable[Shown]) -> Iterator[str]:
    skipped = 0 if path is None else len(path) + 1
    above: list[str] = []
    for one in shown:
        *namespaces, name = (one.variable.path[skipped:] or one.variable.path).split('/')
        for depth, namespace in enumerate(namespaces):
            if above[: depth + 1] != namespaces[: depth + 1]:
                yield _row(depth, f'<b>{_escaped(namespace)}/</b>')
        above = namespaces
        yield _row(
            len(namespaces),
            _escaped(name),
            escape(_type_of(one)),
            '<i>damaged</i>' if one.is_damaged else _escaped(shown_value(one.value)),
            _drawing(one),
        )


def _escaped(text: str) -> str:
    return escape(harmless(text))


def _row(depth: int, name: str, *cells: str) -> str:
    span = '' if cells else ' colspan="4"'
    indented = f'{_LEFT};padding-left:{depth + 0.5:.1f}em'
    others = ''.join(f'<td style="{_LEFT}">{cell}</td>' for cell in cells)
    return f'<tr><td{span} style="{indented}">{name}</td>{others}</tr>'


def _type_of(one: Shown) -> str:
    kind = f'{CONTAINERS[one.variable.container].__name__} of {one.variable.content}'
    if one.count is None:
        return kind
    return f'{kind}, {one.count:,} {"point" if one.count == 1 else "points"}'


def _drawing(one: Shown) -> str:
    if isinstance(one.value, Histogram):
        path = bars(one.value.counts, one.value.edges, 0, _WIDTH, 1, _HEIGHT - 1)
        return (
            f'<svg width="{_WIDTH}" height="{_HEIGHT}" fill="currentColor"><path d="{path}"/></svg>'
        )
    return '' if one.curve is None else sparkline(one.curve)


def shown_value(value: object) -> str:
    """Return a value as a line of a few characters."""
    if isinstance(value, float):
        return f'{value:.6g}'
    if isinstance(value, datetime):
        return value.isoformat(' ')
    if isinstance(value, (FileReference, Histogram)):
        return str(value)
    try:
        text = _repr.repr(value)
    except ValueError:  # an int too long for decimal digits
        return f'a {type(value).__name__} too long to be shown'
    return text if len(text) <= _MOST_CHARACTERS else f'{text[: _MOST_CHARACTERS - 3]}...'


def sparkline(values: array[float]) -> str:
    """Return a small drawing of values in their order; a gap where one is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ''
    least, greatest = min(finite), max(finite)
    # Halves, so that the difference of any two floats is finite.
    height = (greatest / 2 - least / 2) or 1.0
    points = [
        None
        if not math.isfinite(value)
        else f'{_WIDTH * i / (len(values) - 1):.1f},'
        f'{1 + (_HEIGHT - 2) * (1 - (value / 2 - least / 2) / height):.1f}'
        for i, value in enumerate(values)
    ]
    lines = ''.join(
        f'<polyline points="{" ".join(filter(None, run))}"/>'
        for is_line, run in groupby(points, lambda point: point is not None)
        if is_line
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="currentColor">{lines}</svg>'
    )
