"""The verbs that look at many experiments: ``compare`` and ``plot``."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from neptune_async._engine.reading import tables
from neptune_async._engine.reading.queries import EVERY, Query
from neptune_async._engine.reading.tables import Comparison, Curve
from neptune_async._engine.reading.thinning import Thinning
from neptune_async._engine.store import Store, opened
from neptune_async._model import messages
from neptune_async._model.paths import checked_name, normalise
from neptune_async._model.selection import Selection, any_of, selection
from neptune_async._model.showing import on_one_line
from neptune_async._model.values import shown_step
from neptune_async._storage.points import concatenated, expanded
from neptune_async._transfer.outputs import output
from neptune_async._transfer.texts import json_members, jsonable
from neptune_async.cli.chart import LETTERS, STYLES, Line, drawn
from neptune_async.cli.exit_codes import told_damaged
from neptune_async.cli.options import (
    chosen_names,
    json_option,
    matching_names,
    name_argument,
    needing,
    offered_names_and_paths,
    offered_paths,
    query_options,
    storage_option,
    verb,
)
from neptune_async.cli.output import (
    DAMAGED,
    console,
    json_point,
    plain,
    print_json,
    print_table,
    shown_members,
    shown_value,
)

_HEIGHT = 20
_DRAWN_POINTS = 1000
"""Points of a curve that are drawn, at most: more than any terminal has columns."""
_FILE_POINTS = 5000
_FARTHEST, _SHRUNK = 1e300, 1e10
"""Up to where matplotlib draws an axis, and by what numbers are divided that lie beyond: it reckons
with spans and margins, which would be infinite.
"""
_NO_GLYPH = r'Glyph \d+ '
"""How matplotlib begins to say that a font lacks a character."""


@verb()
@name_argument(nargs=-1)
@click.option(
    '-p',
    '--path',
    'paths',
    multiple=True,
    help='A path, or a glob; absent, all.',
    shell_complete=offered_paths,
)
@click.option('--changed', is_flag=True, help='Leave out what is equal in all of them.')
@query_options
@json_option
@storage_option
def compare(
    name: Sequence[str],
    paths: Sequence[str],
    changed: bool,
    query: Query,
    as_json: bool,
    storage: str | None,
) -> int:
    """Print the last values of each experiment NAME side by side, or of all.

    Names and paths may be globs, as in: compare 'digits-*' -p 'params/*' -p valid/accuracy
    """
    with opened(storage) as store:
        names = chosen_names(store, name) if name else None
        chosen = selection('names', names, checked_name)
        found = store.call(tables.compare_readable, chosen, _paths(paths), query)
    if found.rows or query == EVERY:
        _require(found.paths, paths, len(found.rows))
    if changed:
        found = _changed(found)
    if as_json:
        rows = found.rows.items()
        print_json([{'name': name, 'values': _json_values(values)} for name, values in rows])
    else:
        _print_side_by_side(found)
    return told_damaged(found.damaged.values())


def _changed(found: Comparison) -> Comparison:
    """Leave out the paths whose value is the same in all experiments, and damaged in none."""
    hurt = {path for _, path in found.damaged}
    paths = [
        path
        for path in found.paths
        if path in hurt or len({_key(values, path) for values in found.rows.values()}) > 1
    ]
    rows = {
        name: {path: value for path, value in values.items() if path in paths}
        for name, values in found.rows.items()
    }
    return Comparison(paths, rows, found.damaged)


def _key(values: dict[str, Any], path: str) -> tuple[str, str]:
    """Return what tells values apart: 1, 1.0 and True differ, and one NaN is as another."""
    if path not in values:
        return '', ''
    value = values[path]
    shown = repr(sorted(map(repr, value))) if isinstance(value, set) else repr(value)
    return type(value).__name__, shown


def _json_values(values: dict[str, Any]) -> dict[str, Any]:
    return {
        path: json_members(value) if isinstance(value, set) else jsonable(value)
        for path, value in values.items()
    }


def _print_side_by_side(found: Comparison) -> None:
    """Print a table whose long side goes down."""
    if len(found.rows) >= len(found.paths):
        rows = [
            [on_one_line(name), *(_cell(found, name, path) for path in found.paths)]
            for name in found.rows
        ]
        print_table(['experiment', *map(on_one_line, found.paths)], rows)
    else:
        rows = [
            [on_one_line(path), *(_cell(found, name, path) for name in found.rows)]
            for path in found.paths
        ]
        print_table(['path', *map(on_one_line, found.rows)], rows)


def _cell(found: Comparison, name: str, path: str) -> str:
    values = found.rows[name]
    if path not in values:
        return DAMAGED if (name, path) in found.damaged else ''
    value = values[path]
    return shown_members(sorted(value), 24) if isinstance(value, set) else shown_value(value, 24)


@verb()
@click.argument(
    'names_and_paths',
    nargs=-1,
    required=True,
    metavar='NAME... PATH...',
    shell_complete=offered_names_and_paths,
)
@click.option(
    '-o',
    '--out',
    type=click.Path(dir_okay=False, path_type=Path),
    help='Draw with matplotlib into a .png or .svg file.',
)
@query_options
@json_option
@storage_option
def plot(
    names_and_paths: Sequence[str],
    out: Path | None,
    query: Query,
    as_json: bool,
    storage: str | None,
) -> None:
    """Draw series of floats, over their steps, in the terminal or into a file.

    What comes first is names of experiments, up to the first that is none; what follows is paths.
    Both may be globs. Of a long series its extremes are kept. With --json, all points are printed.
    """
    if out is not None and out.suffix not in ('.png', '.svg'):
        raise click.UsageError(f'{out} must end in .png or .svg')
    most = None if as_json else _DRAWN_POINTS if out is None else _FILE_POINTS
    with opened(storage) as store:
        names, paths = _split(store, names_and_paths)
        chosen = selection('names', names, checked_name)
        thinning = Thinning(max_points=most)
        curves = store.call(tables.curves, chosen, _paths(paths), 'float', thinning, query)
    if not curves and query != EVERY:
        raise click.UsageError(
            'none of these experiments is meant by the query, or has such a series'
        )
    _require([curve.path for curve in curves], paths, len(names))
    if as_json:
        print_json([_json_curve(curve) for curve in curves], indent=None)
    elif out is not None:
        _draw_file([*map(_line, curves)], out)
    else:
        _draw([*map(_line, curves)])


def _json_curve(curve: Curve) -> dict[str, Any]:
    points = [
        json_point(shown_step(step), time, value)
        for piece in curve.pieces
        for step, time, value in zip(expanded(piece.steps), piece.times, piece.values, strict=True)
    ]
    return {'experiment': curve.experiment, 'path': curve.path, 'points': points}


def _line(curve: Curve) -> Line:
    label = f'{on_one_line(curve.experiment)} {on_one_line(curve.path)}'
    if not curve.pieces:
        return Line(label, [], [])
    points = concatenated(curve.pieces)
    return Line(label, expanded(points.steps), points.values)


def _draw(lines: Sequence[Line]) -> None:
    from rich.text import Text

    screen = console()
    rows = drawn(lines, min(screen.width, 100), _HEIGHT)
    for number, line in enumerate(lines):
        mark = LETTERS[number % len(LETTERS)] if len(lines) > 1 else '⠒'
        screen.print(plain(f'{mark}  {line.label}', STYLES[number % len(STYLES)]))
    if rows is None:
        screen.print('no finite value to draw')
        return
    for row in rows:
        text = Text()
        for cell in row:
            text.append(
                cell.character, None if cell.line is None else STYLES[cell.line % len(STYLES)]
            )
        text.rstrip()
        screen.print(text)


def _draw_file(lines: Sequence[Line], out: Path) -> None:
    with needing('plot'):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.subplots()
    across = _divisor(step for line in lines for step in line.steps)
    up = _divisor(value for line in lines for value in line.values)
    for line in lines:
        axes.plot([step / across for step in line.steps], [value / up for value in line.values])
    axes.set_xlabel('step' if across == 1 else f'step / {across:g}')
    axes.set_ylabel('' if up == 1 else f'value / {up:g}')
    axes.grid(alpha=0.3)
    # No label begins with '_', which would leave its curve out.
    legend = axes.legend(axes.lines, [str(number) for number in range(len(lines))])
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set(text=line.label, parse_math=False, usetex=False)
    drawing = io.BytesIO()
    with _missing_characters_told():
        figure.savefig(drawing, dpi=150, format=out.suffix[1:])
    try:
        with output(out) as file:
            file.write(drawing.getbuffer())
    except OSError as error:
        raise click.UsageError(f'{out} cannot be written: {error.strerror}') from error


def _divisor(numbers: Iterable[float]) -> float:
    """Return what to divide the numbers of an axis by, so that it can be drawn."""
    is_far = any(_FARTHEST < abs(number) < math.inf for number in numbers)
    return _SHRUNK if is_far else 1


@contextmanager
def _missing_characters_told() -> Iterator[None]:
    """Say once, and not by a warning each, that matplotlib has no font with some characters."""
    with warnings.catch_warnings(record=True) as met:
        yield
    others = [warning for warning in met if not re.match(_NO_GLYPH, str(warning.message))]
    if len(others) < len(met):
        click.echo(
            'matplotlib has no font with all characters of the names; boxes are drawn for those',
            err=True,
        )
    for other in others:
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


# ── Names and paths ──────────────────────────────────────────────────────────


def _split(store: Store, names_and_paths: Sequence[str]) -> tuple[list[str], Sequence[str]]:
    """Return the names at the front, and the paths behind them: at least one of each."""
    known = store.ask(lambda storage: storage.list_experiments())
    count = 1
    while count < len(names_and_paths) - 1 and matching_names(names_and_paths[count], known):
        count += 1
    names = chosen_names(store, names_and_paths[:count])
    if count == len(names_and_paths):
        raise click.UsageError('name at least one path, too')
    return names, names_and_paths[count:]


def _paths(wanted: Sequence[str]) -> Selection:
    """Return which paths are meant: those that are named, or match one of the globs."""
    if not wanted:
        return selection('paths', None, normalise)
    return any_of([selection('paths', path, normalise) for path in wanted])


def _require(found: Sequence[str], wanted: Sequence[str], experiments: int) -> None:
    """Refuse what is named, or a glob, and stands for nothing.

    :raises VariableNotFoundError: there is such a one.
    """
    for path in wanted:
        if not selection('paths', path, normalise).among(found):
            raise messages.variable_nowhere(experiments, path, found)


VERBS = (compare, plot)
