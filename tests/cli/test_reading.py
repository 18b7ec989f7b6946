"""``list``, ``show`` and ``tail``: what they print, and that they change nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from neptune_async import Experiment
from neptune_async.cli import main, reading

from .conftest import COMMAND, CommandLine, digests, lose


def test_list_tells_what_is_in_a_store(run: CommandLine, store: Path) -> None:
    experiments = run('list', '--json').json
    assert [(e['name'], e['variables']) for e in experiments] == [('digits-1', 7), ('digits-2', 1)]
    assert experiments[0]['created'] <= experiments[1]['created']
    assert [e['last_point'] for e in experiments] == [1_700_000_003.5, None]

    shown = run('list', TZ='UTC')
    assert shown.code == 0 and shown.err == ''
    header, first, second = shown.out.splitlines()
    assert header.split() == ['name', 'state', 'created', 'last', 'point', 'variables']
    assert first.split()[:2] == ['digits-1', 'closed']
    assert first.split()[4:] == ['2023-11-14', '22:13:23', '7']
    assert second.split()[:2] == ['digits-2', 'closed'] and second.split()[4:] == ['1']
    assert '\x1b' not in shown.out


def test_list_and_show_tell_what_runs_and_what_is_lost(run: CommandLine, store: Path) -> None:
    for name in ('digits-3', 'digits-4'):
        lose(run, name)
    with Experiment('digits-2', storage=store, echo=False):
        states = {
            'digits-1': 'closed', 'digits-2': 'running', 'digits-3': 'lost', 'digits-4': 'lost'
        }  # fmt: skip
        assert {e['name']: e['state'] for e in run('list', '--json').json} == states
        rows = [line.split()[:2] for line in run('list').out.splitlines()[1:]]
        assert rows == [[*item] for item in states.items()]
        for name, state in states.items():
            assert run('show', name).out.startswith(f'{name}: {state}, made 20')
            assert run('show', name, '--json').json['state'] == state


def test_list_and_show_tell_what_is_written_of_an_experiment(run: CommandLine, store: Path) -> None:
    assert 'description' not in run('list').out
    assert run('show', 'digits-1', '--json').json['description'] is None
    text = 'The first\n  that works: \x1b[31m' + 'long ' * 20
    with Experiment('digits-2', storage=store, echo=False) as exp:
        exp['description'] = text
    with Experiment('digits-3', storage=store, echo=False) as exp:
        exp['description/of'] = 'a namespace is none'
    with Experiment('digits-4', storage=store, echo=False) as exp:
        exp['description'].log('nor is a series')
    with Experiment('digits-5', storage=store, echo=False) as exp:
        exp['description'] = 5
    header, *rows = run('list', COLUMNS='200').out.splitlines()
    assert header.split()[-1] == 'description'
    assert rows[1].endswith(r'The first that works: \x1b[31mlong long…')
    assert [row.split()[-1] for row in rows[:1] + rows[2:]] == ['7', '1', '1', '1']
    told = {e['name']: e['description'] for e in run('list', '--json').json}
    assert told == {**dict.fromkeys(f'digits-{n}' for n in range(1, 6)), 'digits-2': text}

    shown = run('show', 'digits-2').out.splitlines()
    assert shown[0].startswith('digits-2: closed')
    assert shown[1:3] == ['  The first', r'    that works: \x1b[31m' + 'long ' * 20]
    assert run('show', 'digits-2', '--json').json['description'] == text
    assert run('show', 'digits-5').code == 0


def test_list_looks_for_no_last_points_where_there_are_too_many_series(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, '_MOST_LOOKED_AT', 7)
    assert main(['list', '--storage', str(store)]) == 0
    assert 'last point' not in capsys.readouterr().out
    assert main(['list', '--json', '--storage', str(store)]) == 0
    assert all('last_point' not in experiment for experiment in json.loads(capsys.readouterr().out))


def test_a_table_is_folded_only_where_it_does_not_fit(run: CommandLine, store: Path) -> None:
    blocked = run.folder / 'blocked' / 'rich'
    blocked.mkdir(parents=True)
    (blocked / '__init__.py').write_text('raise ModuleNotFoundError(name="rich")')
    fits = run(
        'list', PYTHONPATH=os.pathsep.join([str(blocked.parent), *sys.path])
    )  # as it is fast
    assert (fits.code, fits.err) == (0, '')
    assert len(fits.out.splitlines()) == 3
    with Experiment('long' * 30, storage=store, echo=False):
        pass
    for width in (40, 80):
        folded = run('list', COLUMNS=str(width)).out.splitlines()
        assert all(len(line) <= width for line in folded)
        assert ''.join(line.split(' ')[0] for line in folded).endswith('long' * 30)
    with Experiment('日本', storage=store, echo=False):
        pass
    rows = run('list', COLUMNS='200').out.splitlines()[1:]
    assert {cell_len(row.partition(' closed')[0]) for row in rows} == {len('long' * 30) + 1}


def test_list_of_an_empty_store_prints_an_empty_list(run: CommandLine, store: Path) -> None:
    for name in ('digits-1', 'digits-2'):
        assert run('delete', name, '--yes').code == 0
    assert run('list', '--json').json == []
    assert 'no experiment' in run('list').err


def test_show_tells_types_and_last_values(run: CommandLine, store: Path) -> None:
    shown = run('show', 'digits-1', '--json').json
    variables = {variable.pop('path'): variable for variable in shown['variables']}
    assert [*variables] == [
        'events', 'made', 'params/lr', 'params/optimizer/name', 'params/seeds', 'tags', 'train/loss'
    ]  # fmt: skip
    assert variables['made'] == {
        'container': 'atom', 'content': 'datetime', 'value': '2026-11-24T00:00:00+00:00'
    }  # fmt: skip
    assert variables['params/seeds']['value'] == [1, None]
    assert variables['tags']['members'] == ['baseline', 'cnn']
    assert variables['train/loss']['count'] == 4
    assert variables['train/loss']['last'] == {
        'step': 1.5, 'timestamp': 1_700_000_003.5, 'value': 0.25
    }  # fmt: skip

    tree = run('show', 'digits-1')
    assert tree.code == 0
    assert all(len(line) <= 80 for line in tree.out.splitlines())
    assert tree.out.splitlines()[-1].split() == ['loss', 'series', 'of', 'float', '0.25', '4', '█▁']
    one = run('show', 'digits-1', 'params/optimizer', '--json').json
    assert [variable['path'] for variable in one['variables']] == ['params/optimizer/name']


def test_what_a_terminal_has_no_character_for_is_shown_as_far_as_it_can_be(
    run: CommandLine, store: Path
) -> None:
    with Experiment('odd', storage=store, echo=False) as exp:
        exp['ü'].assign('lone \udc80 [bold]')
        exp['x'].log(0.5)
    for encoding in ('ascii', 'utf-8'):
        shown = run('show', 'odd', PYTHONIOENCODING=encoding, PYTHONUTF8='0')
        assert (shown.code, shown.err) == (0, '')
        assert r'lone \udc80 [bold]' in shown.out
    values = run('show', 'odd', '--json', PYTHONIOENCODING='ascii').json['variables']
    assert values[1] == {
        'path': 'ü', 'container': 'atom', 'content': 'str', 'value': 'lone \udc80 [bold]'
    }  # fmt: skip


def test_an_int_of_any_length_is_shown_as_far_as_it_can_be(run: CommandLine, store: Path) -> None:
    with Experiment('odd', storage=store, echo=False) as exp:
        exp['atom'].assign(10**5000)
        exp['list'].assign([10**5000])
        exp['set'].add(1, 10**5000)
    for verb in ('show', 'compare'):
        shown = run(verb, 'odd')
        assert (shown.code, shown.err) == (0, '')
        assert 'a int too long' in shown.out and 'a list too long' in shown.out
        assert '1, a int too' in shown.out


def test_tail_prints_points(run: CommandLine, store: Path) -> None:
    points = run('tail', 'digits-1', 'train/loss', '-n', '3', '--json').lines
    assert [(point['step'], point['value']) for point in points] == [
        (0.5, 'NaN'), (1, 'Infinity'), (1.5, 0.25)
    ]  # fmt: skip
    printed = run('tail', 'digits-1', 'events', TZ='UTC').out
    assert printed == '         0  2023-11-14 22:13:20  begun\n'


def test_no_text_rings_moves_or_colours_a_terminal(run: CommandLine, store: Path) -> None:
    text = 'a\x1b[31m red\nand \x07 \x9b1A' + 'long ' * 20
    with Experiment('odd', storage=store, echo=False) as exp:
        exp['texts'].log(text)
        exp['text'].assign(text)
        exp['set'].add(text)
    (run.folder / 'odd.csv').write_text(
        f'experiment,path,container,content,step,timestamp,value\na,x,"{text}",str,,,1\n'
    )
    for command in (
        ['tail', 'odd', 'texts'],
        ['show', 'odd'],
        ['compare', 'odd'],
        ['import', 'file', 'odd.csv', '--storage', 'other.db'],
    ):
        shown = run(*command)
        assert r'a\x1b[31m red\nand' in shown.out
        assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f]', shown.out + shown.err)
    tail = run('tail', 'odd', 'texts').out
    assert tail.count('\n') == 1 and tail.endswith(' long \n')  # not shortened


def test_tail_follows_a_series_until_ctrl_c(run: CommandLine, store: Path) -> None:
    with Experiment('digits-1', storage=store, echo=False) as exp:
        command = ['tail', '-f', 'digits-1', 'train/loss', '-n', '1', '--json']
        with run.start(*command) as following:
            assert following.stdout is not None and following.stderr is not None
            assert json.loads(following.stdout.readline())['value'] == 0.25
            exp['train/loss'].log(0.125)
            assert json.loads(following.stdout.readline())['value'] == 0.125
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == 130
            assert following.stderr.read() == ''


def test_what_is_not_there_is_one_line_with_a_near_match(run: CommandLine, store: Path) -> None:
    misses = {
        ('show', 'digits1'): "did you mean 'digits-1'",
        ('show', 'unlike'): 'neptune-async list tells which there are',
        ('show', 'digits-1', 'quite/else'): 'neptune-async show digits-1 tells which it has',
        ('compare', 'digits-1', '-p', 'quite/else'): 'neptune-async show tells what there is',
        ('plot', 'digits-1', 'events'): 'neptune-async tail and export print its points',
        ('show', 'digits-1', 'train/los'): "did you mean 'train/loss'",
        ('tail', 'digits-1', 'train/los'): "did you mean 'train/loss'",
        ('tail', 'digits-1', 'params/lr'): 'neptune-async show digits-1 params/lr tells what it',
        ('tail', 'digit-1', 'x'): "did you mean 'digits-1'",
        ('list', '--storage', '.neptune_async/experimnts.db'): "did you mean 'experiments.db'",
        ('list', '--storage', 'nowhere/runs.db'): 'there is no such file',
        ('list', '--storage', 'mysql://host/db'): 'mysql',
        ('list', '--storage', '.'): 'it is a folder; name a file in it',
        ('lits',): "Did you mean 'list'",
        ('list', '--jsn'): "Did you mean '--json'",
    }
    for arguments, hint in misses.items():
        ended = run(*arguments)
        assert (ended.code, ended.out) == (2, ''), arguments
        assert hint in ended.err
        assert ended.err.count('\n') == 1
        # What is called in a program is of no use here.
        assert not any(call in ended.err for call in ('()', 'assign', 'mode=', 'content='))
    assert not (run.folder / 'nowhere').exists()


def test_reading_changes_no_file_of_a_store_that_is_being_written(
    run: CommandLine, store: Path
) -> None:
    with Experiment('digits-1', storage=store, echo=False) as exp:
        exp['train/loss'].log(0.0625)
        exp.flush()
        before = digests(store.parent)
        assert '.db-wal' in ''.join(before)
        assert run('list', '--json').code == 0
        shown = run('show', 'digits-1', 'train/loss', '--json').json
        assert shown['variables'][0]['last']['value'] == 0.0625
        assert run('tail', 'digits-1', 'train/loss').code == 0
        assert run('doctor').code == 0
        assert digests(store.parent) == before
        exp['train/loss'].log(0.03125)
        exp.flush()


def test_reading_changes_no_file_of_a_store_at_rest(run: CommandLine, store: Path) -> None:
    before = digests(store.parent)
    for arguments in (['list'], ['show', 'digits-1'], ['tail', 'digits-1', 'events'], ['doctor']):
        assert run(*arguments).code == 0
        assert digests(store.parent) == before


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='nothing here is full')
@pytest.mark.parametrize(
    'command',
    [
        ['list'], ['compare'], ['show', 'digits-1', '--json'], ['export', '--format', 'csv'],
        ['--help'], ['--version'],
    ],
)  # fmt: skip
def test_an_output_that_is_full_or_closed_is_one_line_or_none(
    run: CommandLine, store: Path, command: list[str]
) -> None:
    with open('/dev/full', 'w') as full:
        ended = subprocess.run(
            [*COMMAND, *command], stdout=full, stderr=subprocess.PIPE, text=True, cwd=run.folder
        )
    assert ended.returncode == 1 and ended.stderr.count('\n') == 1
    assert 'No space left on device' in ended.stderr
    closed = subprocess.run(
        ['sh', '-c', '"$@" >&-', 'sh', *COMMAND, *command],
        stderr=subprocess.PIPE, text=True, cwd=run.folder,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr) == (0, '')


def test_a_reader_that_goes_away_ends_a_command_quietly(run: CommandLine, store: Path) -> None:
    with Experiment('long', storage=store, echo=False) as exp:
        exp['x'].extend([0.0] * 20_000)
    with Experiment('folded' * 30, storage=store, echo=False):
        pass
    printing = ['tail', 'long', 'x', '-n', '20000'], ['list']
    helping = ['--help'], ['--version'], ['list', '--help'], ['import'], []
    for arguments in (*printing, *helping):
        with run.start(*arguments) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == '', arguments
            assert process.wait(60) == 141, arguments
