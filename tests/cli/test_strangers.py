"""What others wrote is shown on one line, and no terminal obeys it: by every verb."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async import Experiment, File
from neptune_async._model.showing import harmless, on_one_line
from neptune_async._storage.sqlite.checksums import experiment_checksum, variable_checksum
from neptune_async._transfer.long_rows import COLUMNS
from neptune_async.cli.app import program

from . import exporter, test_tensorboard
from .conftest import CommandLine
from .test_terminal import on_terminal

HOSTILE = (
    'x\x1b]0;PWN\x07\x9b31m\x08\r\u202eright\u2066\u200e\u061c\u2028\u0085 [red]$x_{'
    '\nforged 2026-01-01\n'
)
OBEYED = re.compile(
    '[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]'
)
NAME, PATH = f'n{HOSTILE}', f'_p{HOSTILE}'


@pytest.fixture
def hostile(run: CommandLine) -> CommandLine:
    """Return what runs commands where a stranger made the store, and files to be imported."""
    store = run.folder / '.neptune_async' / 'experiments.db'
    for name in ('name', 'second'):
        with Experiment(name, storage=store, echo=False) as exp:
            exp['path'].extend([0.5, 0.25])
            exp['atom'].assign(HOSTILE)
            exp['list'].assign([HOSTILE])
            exp['texts'].log(HOSTILE)
            exp['set'].add(HOSTILE)
            exp['file'].assign(File(b'', name=HOSTILE, media_type=HOSTILE))
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE experiments SET name = ? WHERE name = 'name'", (NAME,))
        connection.execute("UPDATE variables SET path = ? WHERE path = 'path'", (f'a/{PATH}',))
        connection.execute("UPDATE variables SET path = ? WHERE path = 'set'", (f'{PATH}/set',))
        connection.create_function('sealed_experiment', 4, experiment_checksum)
        connection.create_function('sealed_variable', 5, variable_checksum)
        connection.execute(
            'UPDATE experiments SET crc32 = sealed_experiment(id, name, created, epoch)'
        )
        connection.execute(
            'UPDATE variables SET '
            'crc32 = sealed_variable(id, experiment_id, path, container, content)'
        )
        connection.execute(
            'INSERT INTO rejected VALUES (1, 1.0, ?, ?, ?, 1, ?)',
            (NAME, PATH, HOSTILE, HOSTILE),
        )
    Path(f'{store}.spilled').mkdir()
    (Path(f'{store}.spilled') / f'{HOSTILE}.spill').write_bytes(b'no spill file')
    (run.folder / 'x.csv').write_text(
        f'{",".join(COLUMNS)}\na,"{HOSTILE}","{HOSTILE}",str,,,1\n"{NAME}",x,atom,str,,,1\n'
        f'a,x,atom,int,,,"{HOSTILE}"\n',
        newline='',
    )
    pq.write_table(pa.table({HOSTILE: [1]}), run.folder / 'x.parquet')
    bad = exporter.atom(PATH, 'string', HOSTILE)
    exporter.write(run.folder / 'export', [bad, {**bad, 'attribute_type': HOSTILE}], run='r')
    exporter.write(run.folder / 'export', [bad], run=NAME.replace('/', ''))
    tensor = test_tensorboard.text(PATH, 0, HOSTILE)
    tensor.summary.value[0].metadata.plugin_data.plugin_name = HOSTILE
    test_tensorboard.write(
        run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host',
        tensor, test_tensorboard.text(PATH, 0, HOSTILE), test_tensorboard.text('t', 0, HOSTILE),
    )  # fmt: skip
    return run


COMMANDS: dict[str, list[list[str]]] = {
    'list': [['list'], ['list', '--json'], ['list', '--storage', HOSTILE]],
    'show': [['show', NAME], ['show', NAME, '--json'], ['show', HOSTILE], ['show', NAME, HOSTILE]],
    'tail': [['tail', NAME, 'texts'], ['tail', NAME, PATH], ['tail', NAME, 'atom']],
    'compare': [['compare'], ['compare', NAME], ['compare', '-p', HOSTILE], ['compare', '--json']],
    'plot': [['plot', NAME, 'a/*'], ['plot', NAME, 'second', 'a/*'], ['plot', NAME, 'texts'],
             ['plot', NAME, 'a/*', '-o', f'{HOSTILE}.pdf'], ['plot', NAME, 'a/*', '-o', 'x.svg'],
             ['plot', NAME, 'a/*', '--json']],
    'export': [['export', '--format', form, '-o', f'out.{form}']
               for form in ('csv', 'jsonl', 'parquet', 'neptune-export', 'tensorboard')]
              + [['export', '--format', 'csv', '-o', f'{HOSTILE}/x'],
                 ['export', HOSTILE, '--format', 'csv']],
    'import': [['import', 'file', 'x.csv', '--storage', 't.db'],
               ['import', 'file', 'x.parquet', '--storage', 't.db'],
               ['import', 'file', HOSTILE, '--storage', 't.db'],
               ['import', 'neptune-export', 'export', '--storage', 't.db'],
               ['import', 'tensorboard', 'logs', '--storage', 't.db'],
               ['import', 'tensorboard', 'logs', '--storage', 't2.db', '--json']],
    'files': [['files', NAME], ['files', NAME, '--json'], ['files', NAME, '--out', 'kept'],
              ['files', HOSTILE], ['files', NAME, HOSTILE]],
    'delete': [['delete', NAME], ['delete', HOSTILE, '-y'], ['delete', NAME, f'a/{PATH}', '-y'],
               ['delete', NAME, '-y']],
    'recover': [['recover']],
    'sync': [['sync', '.neptune_async/experiments.db', 't3.db'], ['sync', HOSTILE, 't3.db']],
    'clean': [['clean', '--dry-run'], ['clean', '--json'], ['clean', '--storage', HOSTILE]],
    'doctor': [['doctor'], ['doctor', '--json']],
    'completion': [],
    HOSTILE: [[HOSTILE], ['list', f'--{HOSTILE}']],
}  # fmt: skip


def test_no_verb_is_left_out() -> None:
    assert {*COMMANDS} - {HOSTILE} == {*program.commands}
    importing = program.commands['import']
    assert isinstance(importing, click.Group)
    assert {*importing.commands} == {command[1] for command in COMMANDS['import']}


@pytest.mark.parametrize('verb', [verb for verb, commands in COMMANDS.items() if commands],
                         ids=lambda verb: verb if verb.isalpha() else 'no verb')  # fmt: skip
def test_a_stranger_neither_forges_a_line_nor_commands_a_terminal(
    hostile: CommandLine, verb: str
) -> None:
    shown = ''
    for command in COMMANDS[verb]:
        for width in ('80', '1000'):
            done = hostile(*command, COLUMNS=width, NEPTUNE_ASYNC_ECHO='1')
            printed = done.out + done.err
            assert 'Traceback' not in printed, command
            assert not OBEYED.search(printed), (command, printed)
            assert not re.search('^ *forged', printed, re.MULTILINE), (command, printed)
            shown += re.sub(r'\s', '', printed)
    assert r'\x1b]0;PWN' in shown or r'\u001b]0;PWN' in shown or verb == 'export'


def test_a_shell_is_offered_only_what_it_can_put_on_its_line(hostile: CommandLine) -> None:
    for shell in ('bash', 'zsh', 'fish'):
        for words in ('neptune-async show ', 'neptune-async tail second '):
            done = hostile(  # to fish it is the word itself
                COMP_WORDS=words, COMP_CWORD='' if shell == 'fish' else str(len(words.split())),
                _NEPTUNE_ASYNC_COMPLETE=f'{shell}_complete',
            )  # fmt: skip
            assert 'forged' not in done.out and not OBEYED.search(done.out)
            assert 'second' in done.out or 'texts' in done.out


def test_the_progress_of_a_sync_shows_names_as_they_are(hostile: CommandLine) -> None:
    shown = on_terminal(hostile, 'sync', '.neptune_async/experiments.db', 't.db', COLUMNS='300')
    assert '\x1b]0;PWN' not in shown and '\nforged' not in shown and '[red]' in shown


def test_echo_prints_a_line_a_write(capsys: pytest.CaptureFixture[str]) -> None:
    with Experiment('a', storage=':memory:', echo=True) as exp:
        exp['series'].log(HOSTILE)
        exp['batch'].log({'a\u202eb': HOSTILE})
        exp['atom'].assign(HOSTILE)
        exp['list'].assign([HOSTILE])
        exp['set'].add(HOSTILE)
    printed = capsys.readouterr().out
    assert printed.count('\n') == 5 and not OBEYED.search(printed)


def test_a_notebook_shows_what_turns_characters_round(tmp_path: Path) -> None:
    with Experiment('a\u202eb<b>', storage=tmp_path / 'x.db', echo=False) as exp:
        exp['c\u2066/d\u2028'].assign(HOSTILE)
        exp.flush()
        shown = exp._repr_html_() + exp['c\u2066']._repr_html_()
    assert not OBEYED.search(shown) and '&lt;b&gt;' in shown


def test_a_curve_is_in_the_legend_whatever_its_name_is(run: CommandLine) -> None:
    with Experiment('_$x_{', storage=run.folder / 'x.db', echo=False) as exp:
        exp['$\\frac{}$'].extend([0.5, 0.25])
    with Experiment('second', storage=run.folder / 'x.db', echo=False) as exp:
        exp['$\\frac{}$'].extend([0.5, 0.25])
    for names in (['_$x_{'], ['_$x_{', 'second']):
        drawn = run('plot', *names, '$*', '-o', 'x.svg', '--storage', 'x.db')
        assert (drawn.code, drawn.err) == (0, '')
        legend = (run.folder / 'x.svg').read_text().partition('id="legend_1"')[2]
        for name in names:
            assert f'<!-- {name} $\\frac{{}}$ -->' in legend


UNESCAPED = re.compile(r'\\(\\|n|r|t|x..|u....|U........)', re.DOTALL)


@given(st.text(st.sampled_from('\\nxu1bab\n\x1b\u202e\U000e0041\ud800 é')))
def test_no_two_texts_are_shown_alike(text: str) -> None:
    shown = on_one_line(text)
    assert not OBEYED.search(shown) and '\n' not in shown
    assert harmless(shown) == shown
    assert UNESCAPED.sub(lambda found: unescaped(found[0]), shown) == text


def unescaped(escape: str) -> str:
    return escape.encode('ascii').decode('unicode_escape')
