"""What verbs print: JSON, tables, values as people read them."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import click

from neptune_async._model.showing import harmless, on_one_line
from neptune_async._transfer.texts import jsonable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

DAMAGED = 'damaged'
"""What stands in a table where a value cannot be read."""
_BARS = '▁▂▃▄▅▆▇█'
_ENDLESS = 10_000
_FOLDED_ROWS = 1000
_SHOWN = 10
"""Reasons of which each is shown; the others are counted."""
_LONGEST_REASON = 400
"""Characters of a reason, which may hold a value of any length."""


def print_json(document: object, *, indent: int | None = 2) -> None:
    """Print a JSON document; with ``indent=None`` on one line, at once."""
    text = json.dumps(document, allow_nan=False, indent=indent)
    print(text, flush=indent is None)


def json_point(step: int | float, timestamp: float, value: Any) -> dict[str, Any]:
    """Return a point of a series as JSON has it."""
    return {'step': step, 'timestamp': timestamp, 'value': jsonable(value)}


def console() -> Console:
    """Return where tables go: as wide as the terminal, or as they need where there is none."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704  # what rich has caught: it would end with an exit code of its own

    return Screen(width=_width(), highlight=False)


def _width() -> int:
    has_width = sys.stdout.isatty() or 'COLUMNS' in os.environ
    return shutil.get_terminal_size().columns if has_width else _ENDLESS


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show, if stderr is a terminal, that something goes on that cannot be counted."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """Print rows of cells below their header.

    A name or a text in a cell is to be ``on_one_line`` already. Cells that are too wide are folded
    by rich, which takes 50 ms to import and 0.4 s for 1,000 rows. Of more rows none is folded.
    """
    columns = [*map(harmless, columns)]
    rows = [[*map(harmless, row)] for row in rows]
    widths = [max(map(_width_of, column)) for column in zip(columns, *rows, strict=True)]
    if len(rows) > _FOLDED_ROWS or sum(widths) + 2 * (len(widths) - 1) <= _width():
        is_right = [column in right for column in columns]
        click.secho(_aligned(columns, widths, is_right), bold=True)
        for row in rows:
            print(_aligned(row, widths, is_right))
        return
    shown = table()
    for column in columns:
        justify: Literal['left', 'right'] = 'right' if column in right else 'left'
        shown.add_column(plain(column), justify=justify, overflow='fold')
    for row in rows:
        shown.add_row(*map(plain, row))
    console().print(shown)


def _aligned(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = []
    for cell, width, is_right in zip(row, widths, right, strict=True):
        space = ' ' * (width - _width_of(cell))
        cells.append(f'{space}{cell}' if is_right else f'{cell}{space}')
    return '  '.join(cells).rstrip()


def _width_of(cell: str) -> int:
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


def table() -> Table:
    """Return a table without rules."""
    from rich.table import Table

    return Table(box=None, header_style='bold', pad_edge=False, padding=(0, 2, 0, 0))


def plain(text: str, style: str = '') -> Text:
    """Return text in which rich finds no markup."""
    from rich.text import Text

    return Text(text, style)


def shown_time(timestamp: float) -> str:
    """Return a timestamp in local time; one that no calendar has as the number."""
    try:
        return datetime.fromtimestamp(timestamp).astimezone().strftime('%Y-%m-%d %H:%M:%S')
    except (OverflowError, OSError, ValueError):
        return str(timestamp)


def shown_value(value: Any, width: int = 40) -> str:
    """Return a value on one short line."""
    try:
        text = f'{value:.6g}' if isinstance(value, float) else str(value)
    except ValueError:  # an int too long for decimal digits
        text = f'a {type(value).__name__} too long to be shown'
    text = on_one_line(text[: width + 1])
    return text if len(text) <= width else f'{text[: width - 1]}…'


def shown_members(members: Iterable[Any], width: int = 40) -> str:
    """Return the members of a set on one short line."""
    return shown_value(', '.join(shown_value(member, width) for member in members), width)


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """Return the course of values as a line of bars, each the mean of a stretch; what is not
    finite is left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    stretches = min(width, len(finite))
    ends = [round(i * len(finite) / stretches) for i in range(stretches + 1)] if finite else []
    means = [
        math.fsum(value / (end - start) for value in finite[start:end])
        for start, end in pairwise(ends)
    ]
    if not means:
        return ''
    low, high = min(means), max(means)
    # Halves, so that the difference of two large numbers stays finite.
    span = (high / 2 - low / 2) or 1.0
    return ''.join(_BARS[int((mean / 2 - low / 2) / span * (len(_BARS) - 1))] for mean in means)


def confirmed(question: str, is_sure: bool) -> bool:
    """Ask before something is lost.

    :raises click.UsageError: when there is nobody to ask.
    """
    if is_sure:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError(f'{question} Say so with --yes.')
    return click.confirm(harmless(question), err=True)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """Show how far long work has come, if stderr is a terminal; give what is told of progress."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def list_reasons(title: str, reasons: Counter[str]) -> None:
    """Say on stderr what there is to be said of rows, and of how many; nothing if of none."""
    if not reasons.total():
        return
    click.echo(f'{title}: {reasons.total():,}', err=True)
    for reason, count in reasons.most_common(_SHOWN):
        if count == 0:
            break
        click.echo(f'{count:>14,}  {_cut(reason)}', err=True)
    if len(reasons) > _SHOWN:
        click.echo(f'{"":>14}  and {len(reasons) - _SHOWN:,} more reasons', err=True)


def _cut(reason: str) -> str:
    line = harmless(reason[: _LONGEST_REASON + 1])
    return line if len(reason) <= _LONGEST_REASON else f'{line[:_LONGEST_REASON]}…'
