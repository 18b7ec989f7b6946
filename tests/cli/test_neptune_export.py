"""``import neptune-export``: without loss, and each row once whatever happens."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from contextlib import closing
from datetime import timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neptune_async import Experiment, delete_experiment, list_experiments

from .conftest import CommandLine
from .contents import contents, experiment_contents
from .exporter import EVERY_TYPE, WHEN, atom, points, write

STORE = 'runs.db'
START = 1_741_168_800.0


def test_every_type_is_taken_in_without_loss(run: CommandLine) -> None:
    write(run.folder / 'export', EVERY_TYPE)
    done = run('import', 'neptune-export', 'export', '--storage', STORE, '--json')
    assert done.code == 0 and done.err == ''
    assert done.json['read'] == done.json['stored'] == len(EVERY_TYPE)
    assert done.json['kinds'] == {
        'string': 1, 'float': 2, 'int': 1, 'bool': 1, 'datetime': 1, 'string_set': 2, 'file': 1,
        'float_series': 5, 'string_series': 3, 'file_series': 2, 'histogram_series': 2,
    }  # fmt: skip

    with Experiment('RUN-1', storage=run.folder / STORE, mode='read') as exp:
        assert exp['sys/creation_time'].read() == WHEN
        assert WHEN.tzinfo is timezone.utc
        assert exp['sys/group_tags'].get() == set()
        histogram = exp['weights'].tail(1)[0]
        assert isinstance(histogram, str)
        assert json.loads(histogram) == {
            'type': 'COUNTING', 'edges': [0.0, 0.5, 1.0], 'values': [3.5, 4.0]
        }  # fmt: skip
    found = experiment_contents(run.folder / STORE, 'RUN-1')
    assert found['params/big'] == ('Atom', 'int', repr(2**62))
    assert found['params/nan'] == ('Atom', 'float', 'nan')
    assert found['params/amp'] == ('Atom', 'bool', 'False')
    assert found['sys/tags'] == ('Set', 'str', "['baseline', 'cnn']")
    assert found['model/weights'] == ('Atom', 'str', "'RUN-1/model/weights.pt'")
    assert found['train/loss'] == ('Series', 'float', repr([
        (0, START, 0.5), (0.5, START + 0.25, float('nan')), (0.5, START + 0.5, 0.25),
        (0.000001, START + 0.75, float('inf')), (123456.654321, START + 1, -0.0),
    ]))  # fmt: skip
    assert found['logs/out'] == ('Series', 'str', repr([
        (0, START, 'begun'), (1, START + 0.25, 'ünïcode\n'), (1, START + 0.5, ''),
    ]))  # fmt: skip
    assert found['samples'][2] == repr([(1, START, 'a.png'), (2, START + 0.25, 'b.png')])


def test_an_experiment_was_made_when_its_run_was_begun(run: CommandLine) -> None:
    write(run.folder / 'export', points('x', 'float', 'float_value', [1.0], '0'))
    write(run.folder / 'export', [atom('sys/creation_time', 'datetime', WHEN)], part=1)
    write(run.folder / 'export', [atom('a', 'int', 1)], run='RUN-2')
    assert run('import', 'neptune-export', 'export', '--storage', STORE).code == 0
    known, unknown = run('list', '--json', '--storage', STORE).json
    assert known['created'] == WHEN.timestamp()
    assert unknown['created'] > WHEN.timestamp() + 1e6  # now


def many_rows(part: int, count: int) -> list[dict[str, object]]:
    values = [i / 3 for i in range(part * count, (part + 1) * count)]
    steps = [f'{i}.5' for i in range(count)]
    return [
        *points('train/loss', 'float', 'float_value', values, *steps),
        *points('logs/out', 'string', 'string_value', [f'line {v}' for v in values], *steps),
        atom('sys/tags', 'string_set', ['a', 'b']),
    ]


@pytest.mark.failure('F1', 'SIGKILL while an export is taken in')
def test_killed_and_begun_again_it_ends_the_same(run: CommandLine) -> None:
    for part in range(3):
        write(run.folder / 'export', many_rows(part, 1500), part=part, row_group=100)
        write(run.folder / 'export', many_rows(part, 250), run='RUN-2', part=part, row_group=100)
    command = ['import', 'neptune-export', 'export', '--json', '--storage']
    whole = run(*command, 'whole.db')
    assert whole.json['stored'] == whole.json['read'] == 10_506

    kills = 0
    for progress in sorted(random.sample(range(1, 95), 4)):
        with run.start(*command, STORE) as child:
            until_marks(run.folder / STORE, progress, child.poll)
            child.kill()
            kills += child.wait() == -9
    ended = run(*command, STORE)
    assert kills >= 3
    assert ended.code == 0
    assert ended.json['known'] > 0
    assert ended.json['known'] + ended.json['stored'] == ended.json['read'] == 10_506
    assert contents(run.folder / STORE) == contents(run.folder / 'whole.db')

    again = run(*command, STORE).json
    assert (again['stored'], again['known']) == (0, 10_506)
    assert contents(run.folder / STORE) == contents(run.folder / 'whole.db')


def until_marks(store: Path, count: int, poll: object) -> None:
    """Wait until so many batches are stored, or the process has ended."""
    assert callable(poll)
    end = time.monotonic() + 60
    while poll() is None and time.monotonic() < end:
        if store.exists():
            with closing(sqlite3.connect(f'file:{store}?mode=ro', uri=True)) as connection:
                try:
                    (marks,) = connection.execute('SELECT count(*) FROM writers').fetchone()
                except sqlite3.OperationalError:
                    marks = 0
            if marks >= count:
                return
        time.sleep(0.001)  # between two looks at the condition


def test_runs_of_one_id_in_several_projects_are_kept_apart(run: CommandLine) -> None:
    rows = [atom('sys/id', 'string', 'RUN-1')]
    for project in ('ws/a', 'ws/b'):
        write(run.folder / 'export', rows, project=project)
    write(run.folder / 'export', rows, project='ws/b', run='RUN-2')
    done = run('import', 'neptune-export', 'export', '--storage', STORE, '--prefix', 'old-')
    assert done.code == 0
    names = sorted(list_experiments(run.folder / STORE))
    assert names == ['old-RUN-2', 'old-ws/a/RUN-1', 'old-ws/b/RUN-1']


def test_nothing_is_mixed_with_an_experiment_from_elsewhere(run: CommandLine) -> None:
    store = run.folder / STORE
    with Experiment('RUN-1', storage=store, echo=False) as exp:
        exp['train/loss'].log(1.0)
    write(run.folder / 'export', EVERY_TYPE)
    refused = run('import', 'neptune-export', 'export', '--storage', STORE)
    assert refused.code == 1
    assert "there is an experiment 'RUN-1' already" in refused.err
    assert [*experiment_contents(store, 'RUN-1')] == ['train/loss']

    delete_experiment('RUN-1', store)
    assert run('import', 'neptune-export', 'export', '--storage', STORE).code == 0
    first = contents(store)
    delete_experiment('RUN-1', store)
    assert run('import', 'neptune-export', 'export', '--storage', STORE).code == 0
    assert contents(store) == first


def test_a_part_that_comes_later_is_taken_in_wherever_the_files_are(run: CommandLine) -> None:
    write(run.folder / 'export', points('x', 'float', 'float_value', [1.0], '0'))
    assert run('import', 'neptune-export', 'export', '--storage', STORE).code == 0
    (run.folder / 'export').rename(run.folder / 'moved')
    write(run.folder / 'moved', points('x', 'float', 'float_value', [2.0], '1'), part=10)
    write(run.folder / 'moved', points('x', 'float', 'float_value', [1.5], '1'), part=9)
    done = run('import', 'neptune-export', 'moved', '--storage', STORE, '--json').json
    assert (done['stored'], done['known']) == (2, 1)
    with Experiment('RUN-1', storage=run.folder / STORE, mode='read') as exp:
        assert exp['x'].all() == [1.0, 1.5, 2.0]


def test_what_cannot_be_stored_is_left_out_counted_and_told(run: CommandLine) -> None:
    rows = [
        atom('a', 'int', 1),
        *points('a', 'float', 'float_value', [1.0, 2.0], '0', '1'),
        *points('b', 'float', 'float_value', [3.0], '0'),
        *points('c', 'float', 'float_value', [3.0], '12345678901.234567'),
        atom('bad\x07path', 'string', 'x'),
        {**atom('z', 'string', 'x'), 'attribute_type': 'git_ref'},
    ]
    write(run.folder / 'export', rows)
    done = run('import', 'neptune-export', 'export', '--storage', STORE, '--json')
    assert done.code == 1
    assert (done.json['read'], done.json['stored'], done.json['refused']) == (7, 3, 4)
    assert sum(done.json['notes'].values()) == 1
    again = run('import', 'neptune-export', 'export', '--storage', STORE, '--json')
    assert again.code == 1  # they are not there, however often that was said
    assert again.json == {**done.json, 'stored': 0, 'known': 3}
    told = run('import', 'neptune-export', 'export', '--storage', 'other.db').err
    assert "'a': the variable at that path is of type Atom of int" in told
    assert 'control character' in told and "'git_ref' are not known" in told
    assert experiment_contents(run.folder / STORE, 'RUN-1')['b'][2] == f'[(0, {START}, 3.0)]'


def test_what_was_refused_before_an_interruption_is_told_by_the_import_that_goes_on(
    run: CommandLine,
) -> None:
    artifact = {**atom('z', 'string', 'x'), 'attribute_type': 'git_ref'}
    write(run.folder / 'export', [artifact, atom('a', 'int', 1)])
    run('import', 'neptune-export', 'export', '--storage', STORE)
    write(run.folder / 'export', [artifact, atom('b', 'int', 2)], part=1)
    done = run('import', 'neptune-export', 'export', '--storage', STORE, '--json')
    assert done.code == 1
    counts = [done.json[what] for what in ('read', 'stored', 'known', 'refused')]
    assert counts == [4, 1, 1, 2]


@pytest.mark.parametrize('is_deeper_first', [False, True])
def test_an_attribute_that_is_a_namespace_too_is_kept_and_told(
    run: CommandLine, is_deeper_first: bool
) -> None:
    rows = [
        *points('loss', 'float', 'float_value', [0.5], '0'),
        *points('loss/train', 'float', 'float_value', [0.25], '0'),
        atom('loss/train/kind', 'string', 'mean'),
    ]
    ordered = rows[::-1] if is_deeper_first else rows
    write(run.folder / 'export', ordered[:1])
    write(run.folder / 'export', ordered[1:], part=1)
    command = ['import', 'neptune-export', 'export', '--storage', STORE, '--json']
    for stored in (3, 0):  # told again, as long as it is so
        done = run(*command)
        assert (done.code, done.json['stored'], done.json['refused']) == (0, stored, 0)
        assert done.json['notes'] == {
            f'RUN-1: {path!r} is a variable and a namespace, and is kept as both': 1
            for path in ('loss', 'loss/train')
        }
    with Experiment('RUN-1', storage=run.folder / STORE, mode='read') as exp:
        assert (exp['loss'].all(), exp['loss/train'].all()) == ([0.5], [0.25])
        assert exp.to_dict() == {'loss': {'': 0.5, 'train': {'': 0.25, 'kind': 'mean'}}}
    shown = run('show', 'RUN-1', '--json', '--storage', STORE).json['variables']
    assert [v['path'] for v in shown] == ['loss', 'loss/train', 'loss/train/kind']


def test_rows_of_no_run_are_one_line_that_names_the_file(run: CommandLine) -> None:
    file = write(run.folder / 'export', EVERY_TYPE)
    table = pq.read_table(file)
    place = table.schema.get_field_index('run_id')
    for value in (None, 7):
        column = pa.array([value] * len(table), pa.string() if value is None else pa.int64())
        pq.write_table(table.set_column(place, 'run_id', column), file)
        refused = run('import', 'neptune-export', 'export', '--storage', STORE)
        assert (refused.code, refused.out, refused.err.count('\n')) == (2, '', 1)
        assert f'{file.name} has rows without a run_id' in refused.err


def test_what_is_no_export_is_one_line(run: CommandLine) -> None:
    foreign = run.folder / 'notes.txt'
    foreign.write_text('no store at all')
    write(run.folder / 'export', EVERY_TYPE)
    refused = run('import', 'neptune-export', 'export', '--storage', foreign)
    assert (refused.code, refused.out, refused.err.count('\n')) == (2, '', 1)
    (run.folder / 'empty').mkdir()
    broken = run.folder / 'broken' / 'x_part_0.parquet'
    broken.parent.mkdir()
    broken.write_bytes(b'PAR1 and nothing more')
    for folder in ('nowhere', 'empty', 'broken'):
        refused = run('import', 'neptune-export', folder, '--storage', STORE)
        assert (refused.code, refused.out) == (2, '')
        assert refused.err.count('\n') == 1
    assert not (run.folder / STORE).exists()
