"""``--where``, ``--sort``, ``--reverse`` and ``--limit``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neptune_async import Experiment, list_experiments

from .conftest import CommandLine


@pytest.fixture
def runs(run: CommandLine) -> str:
    """A store with four experiments."""
    path = str(run.folder / 'runs.db')
    for number, (lr, acc) in enumerate([(0.1, 0.5), (0.01, 0.9), (0.001, 0.7), ('auto', None)]):
        with Experiment(f'run-{number}', storage=path, echo=False) as exp:
            exp['params'].assign({'lr': lr, 'batch': 32})
            if acc is not None:
                exp['acc'].extend([acc, acc - 0.25])
    return path


def listed(run: CommandLine, store: str, *options: str) -> list[str]:
    ended = run('list', '--json', '--storage', store, *options)
    assert ended.code == 0, ended.err
    return [row['name'] for row in json.loads(ended.out)]


def test_list_shows_what_a_query_says(run: CommandLine, runs: str) -> None:
    assert listed(run, runs, '--where', 'params/lr < 0.05') == ['run-1', 'run-2']
    assert listed(run, runs, '--sort', 'acc.max', '--reverse', '--limit', '2') == ['run-1', 'run-2']
    assert listed(run, runs, '--where', "state = 'closed'", '--reverse') == [
        'run-3', 'run-2', 'run-1', 'run-0',
    ]  # fmt: skip
    nothing = run('list', '--storage', runs, '--where', 'acc > 2')
    assert nothing.code == 0 and 'no experiment is meant' in nothing.err and not nothing.out


def test_compare_and_plot_and_export_take_those_of_a_query(run: CommandLine, runs: str) -> None:
    options = ['--storage', runs, '--where', 'acc.max >= 0.7', '--sort', 'params/lr']
    ended = run('compare', '-p', 'params/lr', '--json', *options)
    assert [row['name'] for row in json.loads(ended.out)] == ['run-2', 'run-1']
    ended = run('plot', 'run-*', 'acc', '--json', *options)
    assert [curve['experiment'] for curve in json.loads(ended.out)] == ['run-2', 'run-1']
    ended = run('export', '--format', 'jsonl', *options)
    found = [json.loads(line)['experiment'] for line in ended.out.splitlines()]
    assert [*dict.fromkeys(found)] == ['run-2', 'run-1']
    ended = run('compare', '-p', 'params/lr', '--storage', runs, '--where', 'acc > 2')
    assert ended.code == 0
    ended = run('plot', 'run-*', 'acc', '--storage', runs, '--where', 'acc > 2')
    assert ended.code == 2 and 'none of these experiments' in ended.err


def test_compare_leaves_out_what_is_equal_everywhere(run: CommandLine, runs: str) -> None:
    ended = run('compare', '--changed', '--json', '--storage', runs)
    rows = json.loads(ended.out)
    assert {path for row in rows for path in row['values']} == {'params/lr', 'acc'}
    assert len(rows) == 4
    with Experiment('run-0', storage=runs, echo=False) as exp:
        exp['params/batch'].assign(32.0)
    ended = run('compare', '--changed', '--storage', runs)
    assert 'params/batch' in ended.out


@pytest.mark.parametrize('extras', [True, False])
def test_sync_copies_those_of_a_query(run: CommandLine, runs: str, extras: bool) -> None:
    target = str(run.folder / 'target.db')
    command = ['sync', runs, target, '--where', 'acc.max > 0.6', '--sort', 'acc', '--limit', '1']
    if extras:
        ended = run(*command)
        assert ended.code == 0, ended.err
    else:
        script = (
            f'from neptune_async.cli.without_extras import run; raise SystemExit(run({command!r}))'
        )
        subprocess.run([sys.executable, '-c', script], check=True)
    assert list_experiments(target) == ['run-2']
    missing = run('sync', runs, target, '--experiment', 'run-9', '--where', 'acc > 0')
    assert missing.code == 2 and "no experiment 'run-9'" in missing.err
    named = run('sync', runs, target, '--experiment', 'run-0', '--where', 'acc > 0.5')
    assert named.code == 0 and 'no experiments to copy' in named.out
    nothing = run('sync', runs, target, '--where', 'acc > 2')
    assert nothing.code == 0 and 'no experiments to copy' in nothing.out
    assert list_experiments(target) == ['run-2']


def test_delete_names_what_it_would_delete_and_asks(run: CommandLine, runs: str) -> None:
    where = ['--storage', runs, '--where', 'acc < 0.5']
    refused = run('delete', *where)
    assert refused.code == 2 and refused.out.split() == ['run-0', 'run-2']
    assert '--yes' in refused.err and len(list_experiments(runs)) == 4
    done = run('delete', '--yes', *where)
    assert done.code == 0 and done.out.split() == ['run-0', 'run-2']
    assert list_experiments(runs) == ['run-1', 'run-3']
    nothing = run('delete', '--yes', *where)
    assert nothing.code == 0 and 'nothing was deleted' in nothing.err
    for wrong in (['delete', '--storage', runs], ['delete', 'run-1', *where]):
        assert run(*wrong).code == 2
    assert list_experiments(runs) == ['run-1', 'run-3']


def test_a_wrong_query_shows_its_place(run: CommandLine, runs: str) -> None:
    for verb in (['list'], ['compare'], ['plot', 'run-*', 'acc'], ['export', '--format', 'csv'],
                 ['delete', '--yes'], ['sync', runs, 'target.db']):  # fmt: skip
        storage = [] if verb[0] == 'sync' else ['--storage', runs]
        ended = run(*verb, *storage, '--where', 'acc < and lr\x1b')
        assert ended.code == 2 and 'Traceback' not in ended.err
        first, line, caret = ended.err.splitlines()
        assert first.startswith('neptune-async: the query is wrong at character 7')
        assert line == '  acc < and lr?' and caret == ' ' * 8 + '^'
    assert run('list', '--storage', runs, '--sort', 'a b').code == 2
    assert run('list', '--storage', runs, '--limit', '-1').code == 2
    assert not Path(run.folder, 'target.db').exists()
    assert len(list_experiments(runs)) == 4
