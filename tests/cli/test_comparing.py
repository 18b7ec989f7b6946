"""``compare`` and ``plot``."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from neptune_async import Experiment
from neptune_async.cli.chart import Cell, Line, drawn

from .conftest import CommandLine


@pytest.fixture
def curves(store: Path) -> Path:
    for number in (1, 2):
        with Experiment(f'curve-{number}', storage=store, echo=False) as exp:
            exp['sine'].extend([math.sin(i / 200) * number for i in range(3000)])
            exp['lr'].assign(0.1 * number)
            exp['tags'].add('[red]')
    return store


def test_compare_puts_last_values_side_by_side(run: CommandLine, curves: Path) -> None:
    rows = run('compare', 'curve-*', '-p', 'lr', '-p', 't*', '--json').json
    assert rows == [
        {'name': 'curve-1', 'values': {'lr': 0.1, 'tags': ['[red]']}},
        {'name': 'curve-2', 'values': {'lr': 0.2, 'tags': ['[red]']}},
    ]
    everything = run('compare', '--json').json
    assert [row['name'] for row in everything] == ['digits-1', 'digits-2', 'curve-1', 'curve-2']
    assert everything[0]['values']['train/loss'] == 0.25

    shown = run('compare', 'curve-1', 'curve-2').out.splitlines()
    assert [line.split() for line in shown] == [
        ['path', 'curve-1', 'curve-2'],
        ['lr', '0.1', '0.2'],
        ['sine', f'{math.sin(2999 / 200):.6g}', f'{2 * math.sin(2999 / 200):.6g}'],
        ['tags', '[red]', '[red]'],
    ]
    assert all(len(line) <= 80 for line in run('compare').out.splitlines())


def test_plot_draws_in_the_terminal_and_into_files(run: CommandLine, curves: Path) -> None:
    one = run('plot', 'curve-1', 'sine')
    assert one.code == 0
    lines = one.out.splitlines()
    assert lines[0] == '⠒  curve-1 sine'
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].startswith('         1│') and lines[-1].split() == ['0', '2999']
    several = run('plot', 'curve-*', 'sine').out
    assert several.startswith('a  curve-1 sine\nb  curve-2 sine\n') and '\x1b' not in several

    for name, begins in {'x.png': b'\x89PNG', 'x.svg': b'<?xml'}.items():
        assert run('plot', 'curve-1', 'curve-2', 'sine', '--out', name).code == 0
        assert (run.folder / name).read_bytes().startswith(begins)

    [curve] = run('plot', 'curve-2', 'sine', '--json').json
    assert (curve['experiment'], curve['path'], len(curve['points'])) == ('curve-2', 'sine', 3000)
    assert curve['points'][200]['value'] == 2 * math.sin(1)
    [odd] = run('plot', 'digits-1', 'train/loss', '--json').json
    assert [p['value'] for p in odd['points']] == [0.5, 'NaN', 'Infinity', 0.25]


def test_what_is_not_there_is_one_line(run: CommandLine, curves: Path) -> None:
    for arguments, hint in {
        ('compare', 'curve1'): "did you mean 'curve-1'",
        ('compare', 'nothing-*'): "no experiment 'nothing-*'",
        ('compare', '-p', 'tag'): "did you mean 'tags'",
        ('compare', '-p', 'lr', '-p', 'x*'): "variable 'x*'",
        ('plot', 'curve-1', 'sin'): "did you mean 'sine'",
        ('plot', 'curve-3', 'sine'): "did you mean 'curve-",
        ('plot', 'curve-1'): 'at least one path',
        ('plot', 'curve-1', 'lr'): 'no points',
        ('plot', 'curve-1', 'sine', '-o', 'x.pdf'): '.png or .svg',
        ('plot', 'curve-1', 'sine', '-o', 'no/x.png'): 'No such file',
    }.items():
        refused = run(*arguments)
        assert (refused.code, refused.out) == (2, ''), arguments
        assert hint in refused.err, refused.err
        assert refused.err.count('\n') == 1


def characters(rows: list[list[Cell]] | None) -> list[str]:
    assert rows is not None
    return [''.join(cell.character for cell in row) for row in rows]


def test_a_chart_takes_any_floats() -> None:
    assert drawn([Line('x', [0, 1], [math.nan, math.inf])], 40, 5) is None
    assert drawn([Line('x', [], [])], 40, 5) is None
    huge = Line('x', [-1e308, 1e308], [-1.7e308, 1.7e308])
    rows = characters(drawn([huge], 40, 5))
    assert len(rows) == 7 and {len(row) for row in rows} == {40}
    constant = characters(drawn([Line('x', [3], [1.0]), Line('y', [3], [1.0])], 40, 5))
    assert sum('b' in row for row in constant) == 1


def test_a_file_and_all_that_is_shown_take_any_floats(run: CommandLine, tmp_path: Path) -> None:
    with Experiment('a', storage=tmp_path / 'runs.db', echo=False) as exp:
        exp['values'].extend([1e308, -1e308, math.inf])
        exp['steps'].extend([5e-324, 0.0, 0.0], steps=[-1e308, 1e308, 1.7e308])
        exp['one'].log(1.7e308)
        assert exp._repr_html_()
    for arguments in (
        *(['plot', 'a', path, '-o', 'x.png'] for path in ('values', 'steps', 'one')),
        ['plot', 'a', '*'], ['show', 'a'],
    ):  # fmt: skip
        drawn = run(*arguments, '--storage', 'runs.db')
        assert (drawn.code, drawn.err) == (0, ''), arguments


def test_a_chart_has_any_width(run: CommandLine, curves: Path) -> None:
    lines = [Line('x', [0, 1], [0.5, 0.25]), Line('y', [0, 1], [0.5, 0.25])]
    for width in range(14):
        for some in (lines, lines[:1]):
            assert len(characters(drawn(some, width, 5))) == 7
    narrow = run('plot', 'curve-*', 'sine', COLUMNS='5')
    assert (narrow.code, narrow.err) == (0, '')


def test_characters_that_no_font_has_are_told_once(run: CommandLine, tmp_path: Path) -> None:
    with Experiment('日本語', storage=tmp_path / 'runs.db', echo=False) as exp:
        exp['损失'].extend([0.5, 0.25])
    drawn = run('plot', '日本語', '损失', '-o', 'x.png', '--storage', 'runs.db')
    assert drawn.code == 0
    assert drawn.err == (
        'matplotlib has no font with all characters of the names; boxes are drawn for those\n'
    )
