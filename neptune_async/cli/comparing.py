"""The verbs that look at many experiments: ``compare`` and ``plot``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from neptune_async._engine import tables
from neptune_async._engine.store import Store, opened
from neptune_async._engine.tables import Comparison, Curve, Thinning
from neptune_async._model import messages
from neptune_async._model.paths import checked_name, normalise
from neptune_async._model.selection import Selection, any_of, selection
from neptune_async._model.values import shown_step
from neptune_async._storage.chunks import concatenated, expanded
from neptune_async._transfer.texts import json_members, jsonable
from neptune_async.cli.chart import LETTERS, STYLES, Line, drawn
from neptune_async.cli.options import (
    chosen_names,
    json_option,
    matching_names,
    name_argument,
    needing,
    offered_names_and_paths,
    offered_paths,
    storage_option,
    verb,
)
from neptune_async.cli.output import (
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
@json_option
@storage_option
def compare(name: Sequence[str], paths: Sequence[str], as_json: bool, storage: str | None) -> None:
    """Print the last values of each experiment NAME side by side, or of all.

    Names and paths may be globs, as in: compare 'digits-*' -p 'params/*' -p valid/accuracy
    """
    with opened(storage) as store:
        names = chosen_names(store, name) if name else None
        found = store.call(tables.compare, selection('names', names, checked_name), _paths(paths))
    _require(found.paths, paths, len(found.rows))
    if as_json:
        rows = found.rows.items()
        print_json([{'name': name, 'values': _json_values(values)} for name, values in rows])
    else:
        _print_side_by_side(found)


def _json_values(values: dict[str, Any]) -> dict[str, Any]:
    return {
        path: json_members(value) if isinstance(value, set) else jsonable(value)
        for path, value in values.items()
    }


def _print_side_by_side(found: Comparison) -> None:
    """Print a table whose long side goes down."""
    if len(found.rows) >= len(found.paths):
        rows = [
            [name, *(_cell(values, path) for path in found.paths)]
            for name, values in found.rows.items()
        ]
        print_table(['experiment', *found.paths], rows)
    else:
        rows = [
            [path, *(_cell(values, path) for values in found.rows.values())] for path in found.paths
        ]
        print_table(['path', *found.rows], rows)


def _cell(values: dict[str, Any], path: str) -> str:
    if path not in values:
        return ''
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
@json_option
@storage_option
def plot(
    names_and_paths: Sequence[str], out: Path | None, as_json: bool, storage: str | None
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
        curves = store.call(tables.curves, chosen, _paths(paths), 'float', thinning)
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
    label = f'{curve.experiment} {curve.path}'
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
    for line in lines:
        axes.plot(line.steps, line.values, label=line.label)
    axes.set_xlabel('step')
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        with _missing_characters_told():
            figure.savefig(out, dpi=150)
    except OSError as error:
        raise click.UsageError(f'{out} cannot be written: {error.strerror}') from error


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
