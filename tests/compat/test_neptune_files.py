"""Code that was written for neptune 1.x and uploads files runs unchanged, but for the import."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import image as matplotlib_image

import neptune_async.compat.neptune as neptune
from neptune_async import File as KeptFile
from neptune_async.compat.neptune.types import Artifact, File, FileSet
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    InvalidArgumentError,
    StorageFormatError,
    UnreadableFileError,
    UnsupportedValueError,
)

HOSTILE = '../../etc/passwd'
HASH = 'fa2dd70a040e868ce714f6e411666e4cde753d96c85d66abd0443c5d9fd951f1'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which a training has left its files."""
    path = tmp_path / 'work'
    for name in ('model.pt', 'src/train.py', 'src/lib/net.py', 'src/notes.txt'):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    monkeypatch.chdir(path)
    return path


def read(field: Any) -> bytes:
    """Return the content of a file as it is kept."""
    content: bytes = field._view.read().bytes()
    return content


# ── As it was written for 1.x ────────────────────────────────────────────────


@pytest.mark.usefixtures('any_store')
def test_a_script_that_uploads_runs_to_its_end(folder: Path) -> None:
    with neptune.init_run(custom_run_id='uploads') as run:
        run['model/weights'].upload('model.pt', wait=True)
        run['report'].upload(File.from_content('# Report', extension='md'))
        run['results'] = {'acc': 0.5, 'scores': File.as_pickle([1, 2]), 'deep': {'x': 1}}
        run['source'].upload_files('src/**/*.py')
        run['data'].track_files('src')
        for step in range(3):
            image = np.full((4, 4), step / 2)
            run['train/images'].append(File.as_image(image), step=step, name=f'epoch {step}')
    os.remove('model.pt')

    run = neptune.init_run(with_id='uploads', mode='read-only')
    run['model/weights'].download()
    assert Path('weights.pt').read_text() == 'model.pt'
    run['report'].download('copy.md')
    assert Path('copy.md').read_text() == '# Report'
    assert run['results'].fetch() == {'acc': 0.5, 'deep': {'x': 1}}
    assert pickle.loads(read(run['results/scores'])) == [1, 2]
    run['train/images'].download('images')
    assert sorted(os.listdir('images')) == ['0.png', '1.png', '2.png']
    assert matplotlib_image.imread('images/2.png').tolist() == [[1.0] * 4] * 4
    run['source'].download()
    with zipfile.ZipFile('source.zip') as archive:
        assert sorted(archive.namelist()) == ['src/lib/net.py', 'src/train.py']
        assert archive.read('src/lib/net.py') == b'src/lib/net.py'
    assert len(run['data'].fetch_files_list()) == 3
    structure = run.get_structure()
    assert structure['data'].field_type() == 'Artifact'
    assert structure['model']['weights'].field_type() == 'File'
    assert structure['train']['images'].field_type() == 'FileSeries'
    run.stop()


def test_source_files_and_dependencies_are_kept_where_1_x_has_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Path('requirements.txt').write_text('numpy')
    with neptune.init_run(
        custom_run_id='a', source_files=['src/*.py', 'model.pt'], dependencies='requirements.txt'
    ) as run:
        assert read(run['source_code/files/src/train.py']) == b'src/train.py'
        assert len(run['source_code/files'].list_fileset_files()) == 2
        assert read(run['source_code/requirements']) == b'numpy'
    with neptune.init_run(with_id='a', source_files='src/notes.txt', mode='read-only') as run:
        assert not run.exists('source_code/files/src/notes.txt')
    assert caplog.records == []
    with neptune.init_run(mode='debug', dependencies='missing.txt') as run:
        assert not run.exists('source_code')
    assert 'missing.txt' in caplog.text


# ── One file ─────────────────────────────────────────────────────────────────


def test_a_path_keeps_its_name_and_what_is_in_memory_gets_that_of_the_field(run: Any) -> None:
    for value, name, media_type in (
        ('model.pt', 'model.pt', 'application/octet-stream'),
        (Path('src/notes.txt'), 'notes.txt', 'text/plain'),
        (File.from_path('model.pt', extension='bin'), 'field.bin', 'application/octet-stream'),
        (File.from_path('src/notes.txt', extension='txt'), 'notes.txt', 'text/plain'),
        (File.from_content('text'), 'field.txt', 'text/plain'),
        (File.from_content(b'\0'), 'field.bin', 'application/octet-stream'),
        (File.from_content('a,b', extension='csv'), 'field.csv', 'text/csv'),
        (File.as_image(np.zeros((2, 2))), 'field.png', 'image/png'),
        (KeptFile(b'', 'own.json'), 'own.json', 'application/json'),
    ):
        run['deep/field'].upload(value)
        kept = run['deep/field']._view.read()
        assert (kept.name, kept.media_type) == (name, media_type)
        assert run['deep/field'].fetch_extension() == name.rpartition('.')[2]


def test_a_file_without_an_extension_has_none(run: Any) -> None:
    Path('Makefile').write_text('all:')
    run['build'].upload('Makefile')
    assert run['build'].fetch_extension() == ''
    run['build'].download()
    assert Path('build').read_text() == 'all:'


def test_a_stream_is_read_when_it_is_uploaded_and_once(run: Any) -> None:
    stream = io.StringIO('behind')
    file = File.from_stream(stream)
    assert file.extension == 'txt'
    stream.write('before')
    stream.seek(0)
    run['text'].upload(file)
    assert read(run['text']) == b'before'
    with pytest.raises(neptune.exceptions.StreamAlreadyUsedException):
        run['again'].upload(file)
    binary = io.BytesIO(b'0123')
    run['rest'].upload(File.from_stream(binary, seek=2))
    assert read(run['rest']) == b'23'
    assert File.from_stream(binary, seek=None).content == b''


def test_a_file_tells_its_path_or_its_content() -> None:
    file = File('model.pt')
    assert (file.path, file.extension) == (str(Path('model.pt').absolute()), 'pt')
    with pytest.raises(neptune.exceptions.NeptuneException, match='read it there'):
        assert file.content
    with pytest.raises(neptune.exceptions.NeptuneException, match='no path'):
        assert File.from_content('x').path
    assert 'model.pt' in repr(file)


@pytest.mark.parametrize(
    ('make', 'error', 'why'),
    [
        (File, InvalidArgumentError, 'from_content'),
        (lambda: File(5), UnsupportedValueError, 'from_content'),
        (lambda: File.from_content(5), UnsupportedValueError, 'int'),  # type: ignore[arg-type]
        (lambda: File.from_stream('model.pt'), UnsupportedValueError, 'open'),
        (lambda: File.as_image(None), InvalidArgumentError, 'None'),
        (lambda: File.as_image('model.png'), UnsupportedValueError, 'str'),
        (lambda: File.as_image(np.zeros((2, 2, 7))), UnsupportedValueError, 'shape'),
        (lambda: File.as_image(np.array([['a']])), UnsupportedValueError, 'U1'),
        (lambda: File.as_html('<p>'), InvalidArgumentError, 'str'),
        (lambda: File.create_from(np.zeros(2)), UnsupportedValueError, 'as_image'),
        (lambda: File.create_from(pd.DataFrame()), UnsupportedValueError, 'as_html'),
        (lambda: File.create_from(7), UnsupportedValueError, 'as_pickle'),
    ],
)
def test_what_is_no_file_is_refused(make: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        make()


def test_a_file_that_is_not_there_is_an_error_at_the_call(run: Any) -> None:
    for missing in ('missing.pt', 'src'):
        with pytest.raises(neptune.exceptions.FileUploadError, match=missing):
            run['model'].upload(missing)
    with pytest.raises(neptune.exceptions.FileUploadError, match='use upload_files'):
        run['model'].upload(Path('src'))
    assert not run.exists('model')


def test_what_is_no_file_gives_none(run: Any) -> None:
    run['acc'] = 0.5
    run['tags'].add('x')
    run['model'].upload('model.pt')
    run['images'].append(File.as_image(np.zeros((2, 2))))
    for call in (
        run['acc'].download, run['tags'].download, run['model'].download_last,
        run['acc'].fetch_extension, run['model'].fetch, run['images'].fetch,
        run['images'].fetch_last, run['model'].fetch_hash, run['acc'].fetch_files_list,
    ):  # fmt: skip
        with pytest.raises(neptune.exceptions.TypeDoesNotSupportAttributeException, match='has no'):
            call()
    with pytest.raises(neptune.exceptions.MissingFieldException):
        run['missing'].download()


def test_what_a_namespace_gives_has_no_files(run: Any) -> None:
    run['a'] = {'acc': 0.5, 'model': File('model.pt')}
    run['a/code'].upload_files('src')
    run['a/series/loss'].append(1.0)
    run['a/mixed'].upload_files('src')
    run['a/mixed/src/lines'] = 5
    assert run['a'].fetch() == {'acc': 0.5, 'series': {}, 'mixed': {'src': {'lines': 5}}}
    assert run['a/code'].fetch() == {}


def test_a_field_can_be_a_copy_of_a_file_of_another_run(run: Any) -> None:
    with neptune.init_run(mode='debug') as other:
        other['model'].upload('model.pt')
        run['best'] = other['model']
        run['all'] = {'weights': other['model'], 'acc': 0.5}
    assert read(run['best']) == read(run['all/weights']) == b'model.pt'
    assert run['best']._view.read().name == 'model.pt'


def test_a_pickle_is_never_read(run: Any) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return pytest.fail, ('it was read',)

    run['trap'].upload(File.as_pickle(Trap()))
    run['traps'].append(File.as_pickle(Trap()))
    run['copy'] = run['trap']
    run['trap'].download()
    run['traps'].download_last('.')
    assert Path('trap.pkl').read_bytes() == Path('0.pkl').read_bytes() == read(run['copy'])


# ── Series of files ──────────────────────────────────────────────────────────


def test_files_of_a_series_are_called_by_their_positions(run: Any, folder: Path) -> None:
    series = run['train/images']
    series.append(File.as_image(np.zeros((2, 2))), step=10, name='first', description='black')
    series.append(File('src/notes.txt'), step=20)
    series.extend([File.from_content('a'), File.from_content('b')], steps=[30, 40], name='x.txt')
    assert [file.name for file in series._view.all()] == [
        'first.png', 'notes.txt', 'x.txt', 'x.txt'
    ]  # fmt: skip
    series.download()
    assert sorted(os.listdir('neptune/images')) == ['0.png', '1.txt', '2.txt', '3.txt']
    series.download_last('last')
    assert os.listdir('last') == ['3.txt']
    assert Path('last/3.txt').read_bytes() == b'b'
    series.clear()
    with pytest.raises(ValueError, match='has no file'):
        series.download_last()


def test_a_text_is_a_path_in_a_series_of_files(run: Any) -> None:
    run['texts'].append('model.pt')
    assert run['texts'].fetch_last() == 'model.pt'
    run['files'].append(File.from_content('first'))
    run['files'].append('model.pt', step=5)
    run['files'].extend(['src/notes.txt', 'src/train.py'], steps=[6, 7], name='x')
    points = run['files']._view.all(with_steps=True)
    assert [(step, file.name, file.bytes()) for step, file in points[1:]] == [
        (5, 'model.pt', b'model.pt'), (6, 'x.txt', b'src/notes.txt'), (7, 'x.py', b'src/train.py')
    ]  # fmt: skip
    with pytest.raises(UnreadableFileError, match='missing'):
        run['files'].append('missing.pt')
    for wrong in (5.0, [5.0]):
        with pytest.raises(ContentTypeError):
            run['files'].log(wrong)
    with pytest.raises(ContentTypeError):
        run['files'].extend([5.0])


def test_what_a_file_is_called_leads_nowhere(run: Any, folder: Path) -> None:
    run['images'].append(KeptFile(b'x', HOSTILE + './../a'), name=HOSTILE)
    run['..'].upload(KeptFile(b'x', f'{HOSTILE}.pt'))
    run['..'].download('src')
    run['images'].download()
    assert (folder / 'src' / '...pt').read_bytes() == b'x'
    assert os.listdir('neptune/images') == ['0']
    assert sorted(os.listdir(folder.parent)) == ['work']


# ── Sets of files ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('globs', 'expected'),
    [
        ('src', ['src/lib/net.py', 'src/notes.txt', 'src/train.py']),
        ('src/*.py', ['src/train.py']),
        (['src/**/*.py', 'src/train.py'], ['src/lib/net.py', 'src/train.py']),
        ('model.pt', ['model.pt']),
        (['model.pt', 'src/lib'], ['model.pt', 'src/lib/net.py']),
    ],
)
def test_a_set_has_the_files_that_patterns_name(run: Any, globs: Any, expected: list[str]) -> None:
    run['code'].upload_files(globs)
    run['code'].download('all.zip')
    with zipfile.ZipFile('all.zip') as archive:
        assert archive.namelist() == expected
        assert [archive.read(name).decode() for name in expected] == expected


def test_a_set_of_a_folder_elsewhere_begins_in_it(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir('/')
    run['code'].upload_files(str(folder / 'src'))
    assert [entry.name for entry in run['code'].list_fileset_files()] == [
        'lib', 'notes.txt', 'train.py'
    ]  # fmt: skip


def test_a_set_is_listed_added_to_deleted_from_and_replaced(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    code = run['code']
    code.upload_files(['src', 'model.pt'])
    assert [(each.name, each.size, each.file_type) for each in code.list_fileset_files()] == [
        ('model.pt', 8, 'file'), ('src', None, 'directory')
    ]  # fmt: skip
    inside = [each.name for each in code.list_fileset_files('src/')]
    assert inside == ['lib', 'notes.txt', 'train.py']
    code.delete_files(['src/lib', 'model.pt'], wait=True)
    code.delete_files('missing')
    assert 'missing' in caplog.text
    with pytest.raises(InvalidArgumentError, match='pop'):
        code.delete_files(['src/train.py', '/'])
    assert [each.name for each in code.list_fileset_files()] == ['src']
    Path('src/train.py').write_text('changed')
    code.upload_files('src/train.py', wait=True)
    assert read(code['src/train.py']) == b'changed'
    run['code'] = FileSet('model.pt')
    assert [each.name for each in code.list_fileset_files()] == ['model.pt']
    run['other'] = FileSet(['src'])
    assert len(run['other'].list_fileset_files('src')) == 3


def test_what_cannot_be_read_is_left_out_of_a_set_with_a_warning(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo('src/pipe')
    os.symlink('nowhere', 'src/broken')
    Path('src/a\nb').write_text('x')
    run['code'].upload_files('src')
    run['none'].upload_files('*.missing')
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4
    for warned in ('pipe', 'broken', 'a control character', "no file at '*.missing'"):
        assert sum(warned in each for each in told) == 1
    assert len(run['code'].list_fileset_files('src')) == 3
    with pytest.raises(UnsupportedValueError, match='int'):
        run['code'].upload_files([5])


def test_the_archive_of_a_set_leads_nowhere(run: Any) -> None:
    run['set/../../up'].upload('model.pt')
    run['set/a\\b'].upload('model.pt')
    run['set'].download()
    with zipfile.ZipFile('set.zip') as archive:
        assert sorted(archive.namelist()) == ['_/_/up', 'a_b']


def test_a_namespace_of_more_than_files_is_no_set(run: Any) -> None:
    run['code'].upload_files('src')
    run['code/acc'] = 0.5
    for call in (run['code'].download, run['code'].list_fileset_files):
        with pytest.raises(ContainerTypeError, match='more than files'):
            call()
    assert not list(Path().glob('*.zip'))


# ── Artifacts ────────────────────────────────────────────────────────────────


def test_the_hash_of_an_artifact_is_that_of_1_x(run: Any) -> None:
    run['data'].track_files('src', destination='x/y')
    # As LocalArtifactDriver and FileHasher.get_artifact_hash_without_metadata of 1.14.0 have it.
    assert run['data'].fetch_hash() == HASH
    assert run['data'].fetch().hash == HASH
    files = {file.file_path: file for file in run['data'].fetch_files_list()}
    assert [*files] == ['x/y/lib/net.py', 'x/y/notes.txt', 'x/y/train.py']
    train = files['x/y/train.py']
    assert (train.type, train.size) == ('Local', 12)
    assert train.file_hash == '24fd76e59b023e2096faaa3a12caeb9a87e7448b'
    assert train.metadata['file_path'] == f'file://{Path("src/train.py").resolve()}'


def test_an_artifact_tracks_more_with_each_call(run: Any) -> None:
    run['data'].track_files('file://src/train.py', wait=True)
    first = run['data'].fetch_hash()
    Path('src/train.py').write_text('changed')
    run['data'].track_files('src/train.py')
    run['data'].track_files('model.pt')
    assert [file.file_path for file in run['data'].fetch_files_list()] == ['train.py', 'model.pt']
    assert run['data'].fetch_hash() != first
    run['data'] = Artifact('0' * 64)
    assert (run['data'].fetch_hash(), run['data'].fetch_files_list()) == ('0' * 64, [])


def test_what_an_artifact_tracks_is_copied_from_where_it_is(run: Any, folder: Path) -> None:
    run['data'].track_files('src')
    run['data'].download('copies')
    assert Path('copies/lib/net.py').read_text() == 'src/lib/net.py'
    assert not Path('copies/lib/net.py').is_symlink()
    Path('src/lib/net.py').write_text('changed')
    with pytest.raises(UnreadableFileError, match='not what was tracked'):
        run['data'].download('later')
    assert not Path('later/lib/net.py').exists()
    os.remove('src/lib/net.py')
    with pytest.raises(UnreadableFileError, match='not there any more'):
        run['data'].download('later')


@pytest.mark.parametrize('destination', ['../up', '/tmp/up', 'a/../../up'])
def test_an_artifact_is_copied_to_nowhere_else(run: Any, folder: Path, destination: str) -> None:
    run['data'].track_files('model.pt', destination=destination)
    with pytest.raises(InvalidArgumentError, match='out of the folder'):
        run['data'].download('copies')
    assert sorted(os.listdir(folder.parent)) == ['work']


def test_a_link_in_the_folder_leads_nowhere(run: Any, tmp_path: Path) -> None:
    run['data'].track_files('src')
    Path('copies').mkdir()
    os.symlink(tmp_path, 'copies/lib')
    with pytest.raises(InvalidArgumentError, match='is a link'):
        run['data'].download('copies')
    assert not (tmp_path / 'net.py').exists()


def test_what_cannot_be_tracked_is_refused(run: Any) -> None:
    for path, error, why in (
        ('s3://bucket/data', InvalidArgumentError, 'this machine'),
        ('src/*', InvalidArgumentError, 'pattern'),
        ('missing', UnreadableFileError, 'no file at'),
    ):
        with pytest.raises(error, match=why):
            run['data'].track_files(path)
    run['data'].upload('model.pt')
    with pytest.raises(ContainerTypeError, match='no artifact'):
        run['data'].track_files('src')


@pytest.mark.parametrize(
    'content',
    [
        '', '[]', '{"hash": "x", "files": [{}]}', '{"hash": "x", "files": [5]}',
        '{"hash": "x", "files": [{"file_path": 5, "file_hash": "", "type": "", "metadata": {}}]}',
    ],
)  # fmt: skip
def test_a_damaged_artifact_is_told_as_that(run: Any, content: str) -> None:
    media_type = 'application/vnd.neptune-async.artifact+json'
    run.experiment['data'].assign(KeptFile(content.encode(), 'x.json', media_type))
    with pytest.raises(StorageFormatError, match=r'x\.json'):
        run['data'].fetch_hash()
