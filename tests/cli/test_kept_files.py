"""``files``: what files an experiment has, and copies of them that stay in their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from neptune_async import Experiment, File, Histogram

from .conftest import CommandLine

pytestmark = pytest.mark.usefixtures('store')


def log_files(store: Path) -> None:
    with Experiment('digits-1', storage=store, echo=False) as exp:
        exp['model'].assign(File(b'weights', name='model.pt'))
        exp['a/../samples'].log(File.text('third', name='../../x\n'), step=3)
        files = [File(b'1', name='y.txt'), File(b'2', name='y.txt')]
        exp['a/../samples'].extend(files, steps=[4, 4])


def test_files_are_listed(run: CommandLine, store: Path) -> None:
    log_files(store)
    listed = run('files', 'digits-1')
    assert listed.code == 0
    assert [line.split() for line in listed.out.splitlines()] == [
        ['path', 'step', 'name', 'type', 'bytes'],
        ['a/../samples', '3', r'../../x\n', 'application/octet-stream', '5'],
        ['a/../samples', '4', 'y.txt', 'text/plain', '1'],
        ['a/../samples', '4', 'y.txt', 'text/plain', '1'],
        ['model', 'model.pt', 'application/octet-stream', '7'],
    ]
    told = run('files', 'digits-1', 'model', '--json').json
    assert [(one['path'], one['step'], one['name'], one['size']) for one in told] == [
        ('model', None, 'model.pt', 7)
    ]


@pytest.mark.failure('F47', 'files and paths that lead out of the folder, on the command line')
def test_copies_stay_in_the_folder_and_replace_nothing(run: CommandLine, store: Path) -> None:
    log_files(store)
    for _ in range(2):
        written = run('files', 'digits-1', '--out', 'inner/out')
        assert written.code == 0
    out = run.folder / 'inner' / 'out'
    assert {
        path.relative_to(run.folder).as_posix(): path.read_bytes()
        for path in (run.folder / 'inner').rglob('*')
        if path.is_file()
    } == {
        'inner/out/model/model.pt': b'weights',
        'inner/out/model/model-2.pt': b'weights',
        'inner/out/a/_/samples/3-.._.._x_': b'third',
        'inner/out/a/_/samples/3-.._.-2._x_': b'third',
        'inner/out/a/_/samples/4-y.txt': b'1',
        'inner/out/a/_/samples/4-y-2.txt': b'2',
        'inner/out/a/_/samples/4-y-3.txt': b'1',
        'inner/out/a/_/samples/4-y-4.txt': b'2',
    }
    assert written.out.splitlines()[-1] == str(out / 'model' / 'model-2.pt')


def test_a_damaged_file_is_told_and_the_others_are_written(run: CommandLine, store: Path) -> None:
    with Experiment('digits-1', storage=store, echo=False) as exp:
        exp['large'].assign(File(bytes(100_000), name='large'))
        exp['small'].assign(File(b'small', name='small'))
        sha256 = exp['large'].read().sha256
    Path(f'{store}.files', sha256[:2], sha256).write_bytes(bytes(99_999))
    written = run('files', 'digits-1', '--out', 'out')
    assert written.code == 1
    assert "the file 'large'" in written.err
    assert [path.name for path in (run.folder / 'out').rglob('*') if path.is_file()] == ['small']


def test_what_is_not_there_is_told(run: CommandLine) -> None:
    assert "no experiment 'digits'" in run('files', 'digits').err
    assert run('files', 'digits-1', 'nothing').code == 2
    none = run('files', 'digits-1')
    assert (none.code, none.out) == (0, '')
    assert 'has no files there' in none.err


@pytest.mark.parametrize('form', ['csv', 'jsonl', 'parquet', 'neptune-export'])
def test_an_export_says_what_files_it_leaves_out_and_keeps_histograms(
    run: CommandLine, form: str
) -> None:
    histogram = Histogram(counts=[1, 2.5], edges=[-0.0, 0.1, 2])
    with Experiment('kept', storage=run.folder / 'kept.db', echo=False) as exp:
        exp['files'].extend([File(b'1'), File(b'2')])
        exp['atom'].assign(File(b'3'))
        exp['weights'].log(histogram)
    out = 'out' if form == 'neptune-export' else f'out.{form}'
    exported = run('export', 'kept', '--storage', 'kept.db', '--format', form, '--out', out)
    assert exported.code == 1
    assert '3  the content of files of kept; neptune-async files writes it' in exported.err
    kind = 'neptune-export' if form == 'neptune-export' else 'file'
    imported = run('import', kind, out, '--storage', 'back.db')
    assert 'the content of a file is in no such table; sync copies files' in imported.err
    with Experiment('kept', storage=run.folder / 'back.db', mode='read', echo=False) as exp:
        assert exp['weights'].all() == [histogram]
        assert not exp['atom'].exists()


def test_tensorboard_shows_histograms(run: CommandLine) -> None:
    with Experiment('kept', storage=run.folder / 'kept.db', echo=False) as exp:
        exp['weights'].log(Histogram(counts=[1, 2], edges=[0, 0.5, 2]), step=7)
        exp['model'].log(File(b'1'))
    run('export', 'kept', '--storage', 'kept.db', '--format', 'tensorboard', '--out', 'out')
    events = EventAccumulator(str(run.folder / 'out' / 'kept'))
    events.Reload()
    metadata = events.SummaryMetadata('weights')
    assert metadata.plugin_data.plugin_name == 'histograms'
    (event,) = events.Tensors('weights')
    assert event.step == 7
    shown = tensor_util.make_ndarray(event.tensor_proto)
    assert shown.tolist() == [[0, 0.5, 1], [0.5, 2, 2]]
    assert events.Tags()['tensors'] == ['weights']
