"""``files``: what files an experiment has, and copies of them that stay in their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from neptune_async import Experiment, File

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
