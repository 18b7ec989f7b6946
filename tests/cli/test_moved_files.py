"""What exports and imports do with files and histograms."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from postgres_server import PostgresServer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from neptune_async import Experiment, File, Histogram
from neptune_async._media.dimensions import dimensions
from neptune_async._model.operations import Batch
from neptune_async._storage.base import Receipt
from neptune_async._storage.sqlite.storage import SQLiteStorage
from neptune_async._transfer.exported_files import name_in_folder
from neptune_async._transfer.files import JsonLines
from neptune_async._transfer.names import digest_name
from neptune_async.files import FileReference

from . import exporter
from .conftest import CommandLine, Ended
from .contents import contents
from .test_neptune_export import until_marks
from .test_round_trips import taken_in

FORMS = ['csv', 'jsonl', 'parquet', 'neptune-export']
LARGE = bytes(range(256)) * 1_000
NAMES = {'../../x\n': b'up', '/etc/passwd': b'absolute', 'ü' * 255: b'long', 'plain.bin': LARGE}


def fill(folder: Path) -> Path:
    """Return a store with files of all names, in a series and in atoms, and a histogram."""
    path = folder / 'from.db'
    with Experiment('a/../kept', storage=path, echo=False) as exp:
        files = [File(content, name) for name, content in NAMES.items()]
        exp['series'].extend(files, steps=[0, 1, 1.5, 7], timestamps=[1.5, 2, 3, 4])
        exp['../atom'].assign(File(LARGE, 'plain.bin', 'some/kind'))
        exp['weights'].log(Histogram(counts=[1, 2.5], edges=[-0.0, 0.1, 2]), timestamp=1)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.failure('F47', 'files that an export writes beside its table')
@pytest.mark.parametrize('form', ['csv', 'jsonl', 'parquet'])
def test_an_export_has_files_beside_it_by_their_content(run: CommandLine, form: str) -> None:
    fill(run.folder)
    (run.folder / 'inner').mkdir()
    before = files_below(run.folder)
    for _ in range(2):
        exported = run(
            'export',
            '--storage',
            'from.db',
            '--format',
            form,
            '--out',
            f'inner/out.{form}',
            '--force',
        )
        assert (exported.code, exported.err) == (0, '')
    after = files_below(run.folder)
    assert {path: content for path, content in after.items() if path not in before} == {
        f'inner/out.{form}': after[f'inner/out.{form}'],
        f'inner/out.{form}.files/{digest(b"up")}-.._.._x_': b'up',
        f'inner/out.{form}.files/{digest(b"absolute")}-_etc_passwd': b'absolute',
        f'inner/out.{form}.files/{digest(b"long")}': b'long',
        f'inner/out.{form}.files/{digest(LARGE)}-plain.bin': LARGE,
    }


def test_neptunes_form_names_the_files_beside_it(run: CommandLine) -> None:
    fill(run.folder)
    exported = run(
        'export', '--storage', 'from.db', '--format', 'neptune-export', '--out', 'out',
        '--project', 'ws/proj',
    )  # fmt: skip
    assert exported.code == 0
    (part,) = (run.folder / 'out').rglob('*.parquet')
    rows = pq.read_table(part).to_pylist()
    found = [
        (row['attribute_path'], row['attribute_type'], row['step'], row['file_value']['path'])
        for row in rows
        if row['file_value'] is not None
    ]
    folder = run.folder / 'out.files' / digest_name('ws/proj')
    assert [(*row, (folder / path).read_bytes()) for *row, path in found] == [
        ('../atom', 'file', None, LARGE),
        *(
            ('series', 'file_series', step, content)
            for step, content in zip([0, 1, 1.5, 7], NAMES.values(), strict=True)
        ),
    ]
    assert len(files_below(folder)) == 4
    assert {path.split('/')[0] for *_, path in found} == {digest_name('a/../kept')}


def test_beside_a_stream_there_is_no_place_for_files(run: CommandLine) -> None:
    fill(run.folder)
    printed = run('export', '--storage', 'from.db', '--format', 'csv')
    assert printed.code == 1
    assert '5  the content of files of a/../kept; neptune-async files writes it' in printed.err
    assert not [*run.folder.glob('*.files/*-*')]


def test_a_damaged_file_is_told_and_keeps_nothing_else_from_being_exported(
    run: CommandLine,
) -> None:
    path = fill(run.folder)
    sha256 = digest(LARGE)
    Path(f'{path}.files', sha256[:2], sha256).write_bytes(LARGE[:-1])
    exported = run('export', '--storage', path, '--format', 'jsonl', '--out', 'out.jsonl')
    assert exported.code == 1
    assert "a/../kept: '../atom': the file 'plain.bin' of" in exported.err
    assert "'series': the file 'plain.bin' of" in exported.err
    assert len((run.folder / 'out.jsonl').read_text().splitlines()) == 6
    assert sorted(files_below(run.folder / 'out.jsonl.files').values()) == [
        b'absolute', b'long', b'up',
    ]  # fmt: skip


def test_where_no_files_can_be_written_the_place_is_named(run: CommandLine) -> None:
    fill(run.folder)
    (run.folder / 'out.csv.files').write_text('in the way')
    exported = run('export', '--storage', 'from.db', '--format', 'csv', '--out', 'out.csv')
    assert exported.code != 0
    assert 'out.csv.files cannot be written' in exported.err
    assert len(exported.err.splitlines()) == 1
    assert not (run.folder / 'out.csv').exists()


def encoded(kind: str, width: int, height: int) -> bytes:
    content = io.BytesIO()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def test_tensorboard_shows_images_and_histograms(run: CommandLine) -> None:
    png, jpeg = encoded('png', 7, 5), encoded('jpeg', 30, 20)
    with Experiment('kept', storage=run.folder / 'kept.db', echo=False) as exp:
        exp['weights'].log(Histogram(counts=[1, 2], edges=[0, 0.5, 2]), step=7)
        files = [File(png, 'a.png'), File(jpeg, 'a.jpg'), File(encoded('gif', 2, 2), 'a.gif')]
        exp['samples'].extend([*files, File(b'none', 'none.png')], steps=[1, 2, 3, 4])
        exp['figure'].assign(File(png, media_type='image/png'))
        exp['model'].assign(File(b'weights', 'model.pt'))
        exp['lr'].assign(0.1)
    exported = run(
        'export', 'kept', '--storage', 'kept.db', '--format', 'tensorboard', '--out', 'out'
    )
    assert exported.code == 1
    assert '3  files have no form in TensorBoard but PNG and JPEG' in exported.err
    assert '1  atoms have no form in TensorBoard' in exported.err
    assert '1  images of no series are at step 0' in exported.err
    events = EventAccumulator(str(run.folder / 'out' / 'kept'))
    events.Reload()
    assert {*events.Tags()['tensors']} == {'weights', 'samples', 'figure'}
    assert events.SummaryMetadata('weights').plugin_data.plugin_name == 'histograms'
    (event,) = events.Tensors('weights')
    assert event.step == 7
    assert tensor_util.make_ndarray(event.tensor_proto).tolist() == [[0, 0.5, 1], [0.5, 2, 2]]
    for tag, steps in (('samples', [1, 2]), ('figure', [0])):
        assert events.SummaryMetadata(tag).plugin_data.plugin_name == 'images'
        assert [event.step for event in events.Tensors(tag)] == steps
    shown = [[*event.tensor_proto.string_val] for event in events.Tensors('samples')]
    assert shown == [[b'7', b'5', png], [b'30', b'20', jpeg]]


@pytest.mark.parametrize('kind', ['png', 'jpeg'])
@pytest.mark.parametrize('size', [(1, 1), (300, 2), (65_000, 1)])
def test_an_image_says_how_large_it_is(kind: str, size: tuple[int, int]) -> None:
    content = encoded(kind, *size)
    assert dimensions(content) == size
    for end in range(min(len(content), 700)):
        assert dimensions(content[:end]) in (None, size)


@pytest.mark.parametrize(
    'content',
    [b'', b'GIF89a', b'\xff\xd8', b'\xff\xd8' + b'\xff' * 99, b'\xff\xd8' + b'\xff\xe0\0\0' * 99],
)
def test_what_is_neither_png_nor_jpeg_has_no_size(content: bytes) -> None:
    assert dimensions(content) is None


# ── Imports ──────────────────────────────────────────────────────────────────


def out_of(form: str) -> str:
    return 'out' if form == 'neptune-export' else f'out.{form}'


def export(run: CommandLine, form: str) -> Path:
    """Export what ``fill`` makes, and return the folder of its files."""
    fill(run.folder)
    out = out_of(form)
    assert run('export', '--storage', 'from.db', '--format', form, '--out', out).code == 0
    (project,) = [*run.folder.glob('out.files/*')] or [run.folder / f'{out}.files']
    return project / digest_name('a/../kept') if form == 'neptune-export' else project


def imported(run: CommandLine, form: str, *options: object) -> Ended:
    kind = 'neptune-export' if form == 'neptune-export' else 'file'
    return run('import', kind, out_of(form), '--storage', 'to.db', '--json', *options)


def read(storage: Path | str, name: str = 'a/../kept') -> dict[str, list[bytes]]:
    """Return the contents of all files of an experiment."""
    with Experiment(name, storage=storage, mode='read', echo=False) as exp:
        atom = exp['../atom']
        return {
            'series': [file.bytes() for file in exp['series'].all()],
            'atom': [atom.read().bytes()] if atom.exists() else [],
        }


@pytest.mark.parametrize('form', FORMS)
def test_files_and_histograms_are_taken_back_each_once(run: CommandLine, form: str) -> None:
    export(run, form)
    first = imported(run, form)
    assert (first.code, first.json['stored'], first.json['refused']) == (0, 6, 0)
    assert contents(run.folder / 'to.db') == contents(run.folder / 'from.db')
    assert read(run.folder / 'to.db') == {'series': [*NAMES.values()], 'atom': [LARGE]}
    again = imported(run, form)
    assert (again.code, again.json['stored'], again.json['known']) == (0, 0, 6)
    assert contents(run.folder / 'to.db') == contents(run.folder / 'from.db')


def test_files_are_taken_into_postgresql(run: CommandLine, postgres: PostgresServer) -> None:
    export(run, 'jsonl')
    url = postgres.url()
    taken = run('import', 'file', 'out.jsonl', '--storage', url)
    assert (taken.code, taken.err) == (0, '')
    assert read(url) == {'series': [*NAMES.values()], 'atom': [LARGE]}
    assert run('export', '--storage', url, '--format', 'csv', '--out', 'back.csv').code == 0
    assert files_below(run.folder / 'back.csv.files') == files_below(run.folder / 'out.jsonl.files')


@pytest.mark.failure('F47', 'files beside a table that are missing, damaged, or lead elsewhere')
@pytest.mark.parametrize('form', FORMS)
def test_what_is_not_the_file_that_was_exported_is_refused_row_by_row(
    run: CommandLine, form: str
) -> None:
    folder = export(run, form)
    places = [folder / name_in_folder(FileReference(n, '', 0, digest(c))) for n, c in NAMES.items()]
    missing, damaged, linked, fifo = places
    secret = run.folder / 'secret'
    secret.write_bytes(linked.read_bytes())
    missing.unlink()
    damaged.write_bytes(b'ABSOLUTE')
    linked.unlink()
    linked.symlink_to(secret)
    fifo.unlink()
    os.mkfifo(fifo)
    taken = imported(run, form)
    assert (taken.code, taken.json['stored'], taken.json['refused']) == (1, 1, 5)
    reasons = '\n'.join(taken.json['reasons'])
    assert reasons.count('No such file or directory') == 1
    assert reasons.count('has another content than was exported') == 1
    assert reasons.count('or along a symbolic link') == 1
    assert reasons.count('is no regular file') == 2  # of the series, and of the atom
    with Experiment('a/../kept', storage=run.folder / 'to.db', mode='read', echo=False) as exp:
        assert len(exp['weights'].all()) == 1
        assert not exp['../atom'].exists() and not exp['series'].exists()
    # What was refused is still not there, and is told again.
    missing.write_bytes(b'up')
    again = imported(run, form)
    assert (again.code, again.json['known'], again.json['refused']) == (1, 1, 5)
    assert 'could not be stored when it was imported' in '\n'.join(again.json['reasons'])


@pytest.mark.parametrize('form', ['csv', 'jsonl', 'parquet'])
def test_a_reference_of_no_file_is_refused(run: CommandLine, form: str) -> None:
    export(run, form)
    shutil.rmtree(run.folder / f'out.{form}.files')
    taken = imported(run, form)
    assert (taken.code, taken.json['stored'], taken.json['refused']) == (1, 1, 5)
    hostile = '{"file":["x","text/plain",1,"../../../etc/passwd"]}'
    row = {'experiment': 'e', 'path': 'x', 'container': 'atom', 'content': 'file'}
    (run.folder / 'evil.jsonl').write_text(json.dumps({**row, 'value': json.loads(hostile)}))
    evil = run('import', 'file', 'evil.jsonl', '--storage', 'to.db')
    assert evil.code == 1
    assert 'it refers to no file' in evil.err


@pytest.mark.parametrize('form', FORMS)
def test_the_folder_of_files_may_be_elsewhere(run: CommandLine, form: str) -> None:
    export(run, form)
    (run.folder / f'{out_of(form)}.files').rename(run.folder / 'elsewhere')
    taken = imported(run, form, '--files', 'elsewhere')
    assert (taken.code, taken.json['stored']) == (0, 6)
    assert read(run.folder / 'to.db')['atom'] == [LARGE]


def exported_by_neptune(folder: Path, rows: list[exporter.Row], files: dict[str, bytes]) -> None:
    """Write data and files in the folders that the exporter writes to."""
    exporter.write(folder / 'data', rows)
    for path, content in files.items():
        place = folder / 'files' / digest_name('ws/proj') / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


BELOW = 'ws/proj/RUN-1'
EXPORTED = {
    f'{BELOW}/model/weights.pt': LARGE,
    f'{BELOW}/samples/1.0.png': b'one',
    f'{BELOW}/samples/2.0.png': b'two',
    f'{BELOW}/source_code/files/files.zip': b'zip',
    f'{BELOW}/data/files_list.json': b'[]',
    f'{BELOW}/table.parquet': b'none of the exporter',
}


@pytest.mark.parametrize('which', ['exports', 'exports/data'])
def test_files_of_neptunes_exporter_are_taken_in(run: CommandLine, which: str) -> None:
    atoms = {
        'model/weights': ('file', 'model/weights.pt'),
        'table': ('file', 'table.parquet'),
        'source_code/files': ('file_set', 'source_code/files'),
        'data': ('artifact', 'data/files_list.json'),
    }
    rows = [
        {'attribute_path': path, 'attribute_type': kind, 'file_value': {'path': f'{BELOW}/{place}'}}
        for path, (kind, place) in atoms.items()
    ]
    samples = [{'path': f'{BELOW}/samples/{step}.0.png'} for step in (1, 2)]
    rows += exporter.points('samples', 'file', 'file_value', samples, '1', '2')
    exported_by_neptune(run.folder / 'exports', rows, EXPORTED)
    taken = run('import', 'neptune-export', which, '--storage', 'to.db', '--json')
    assert (taken.code, taken.json['stored'], taken.json['notes']) == (0, 6, {})
    with Experiment('RUN-1', storage=run.folder / 'to.db', mode='read', echo=False) as exp:
        found = {path: exp[path].read() for path in atoms}
        assert {path: (file.name, file.bytes()) for path, file in found.items()} == {
            'model/weights': ('weights.pt', LARGE),
            'table': ('table.parquet', b'none of the exporter'),
            'source_code/files': ('files.zip', b'zip'),
            'data': ('files_list.json', b'[]'),
        }
        images = exp['samples'].all(with_steps=True)
    assert [(step, file.name, file.media_type) for step, file in images] == [
        (1, '1.0.png', 'image/png'),
        (2, '2.0.png', 'image/png'),
    ]
    again = run('import', 'neptune-export', which, '--storage', 'to.db', '--json')
    assert (again.code, again.json['stored'], again.json['known']) == (0, 0, 6)


@pytest.mark.failure('F47', 'paths in an export that lead out of its folder')
def test_no_path_in_an_export_leads_out_of_its_folder(run: CommandLine) -> None:
    secret = run.folder / 'secret'
    secret.mkdir()
    (secret / 'key').write_bytes(b'secret')
    hostile = [
        '../../../secret/key', str(secret / 'key'), 'link/key', 'inner', '.', '..', 'a//b', '',
        'a/../../../../secret/key', 'nul\0', 'x' * 300, 'two',
        f'../{digest_name("ws/proj")}/ok',
    ]  # fmt: skip
    rows = [exporter.atom(f'a{i}', 'file', {'path': path}) for i, path in enumerate(hostile)]
    rows.append({**exporter.atom('set', 'file', {'path': 'two'}), 'attribute_type': 'file_set'})
    rows += [exporter.atom('none', 'file', None), exporter.atom('ok', 'file', {'path': 'ok'})]
    files = {'inner/x': b'', 'ok': b'ok', 'two/1': b'', 'two/2': b''}
    exported_by_neptune(run.folder / 'exports', rows, files)
    project = run.folder / 'exports' / 'files' / digest_name('ws/proj')
    (project / 'link').symlink_to(secret)
    taken = run('import', 'neptune-export', 'exports/data', '--storage', 'to.db', '--json')
    assert (taken.code, taken.json['stored'], taken.json['refused']) == (1, 1, len(hostile) + 2)
    reasons = '\n'.join(taken.json['reasons'])
    assert 'has 2 files, and not one' in reasons
    assert "'none': its file was not exported" in reasons
    assert reasons.count('Is a directory') == 2
    with Experiment('RUN-1', storage=run.folder / 'to.db', mode='read', echo=False) as exp:
        assert [*exp.namespace_contents()] == ['ok']
    assert digest(b'secret') not in (run.folder / 'to.db').read_bytes().hex()


def test_an_import_that_finds_no_room_for_a_copy_goes_on_later(run: CommandLine) -> None:
    export(run, 'csv')
    with Experiment('other', storage=run.folder / 'to.db', echo=False):
        pass
    folder = SQLiteStorage(str(run.folder / 'to.db')).spill_folder
    assert folder is not None
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text('in the way')
    ended = run('import', 'file', 'out.csv', '--storage', 'to.db')
    assert ended.code == 1
    assert f'a file cannot be copied to {folder}' in ended.err
    assert 'not stored' not in ended.err
    folder.unlink()
    taken = imported(run, 'csv')
    assert (taken.code, taken.json['stored']) == (0, 6)
    assert read(run.folder / 'to.db')['atom'] == [LARGE]


@pytest.mark.parametrize('is_still_there', [True, False])
def test_who_cleans_up_takes_no_file_from_an_import(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, is_still_there: bool
) -> None:
    folder = export(run, 'jsonl')
    with taken_in(run.folder / 'to.db', str) as importer:
        store = importer._store.store
        cleaned: list[int] = []

        def clean_and_store(batch: Batch) -> Receipt:
            cleaned.append(len(importer._store.clean().contents.sizes))
            for path in folder.iterdir() if not is_still_there else ():
                path.write_bytes(b'changed since')
            return store(batch)

        monkeypatch.setattr(importer._store, 'store', clean_and_store)
        importer.take([JsonLines(run.folder / 'out.jsonl')])
    assert cleaned == [4]
    spilled = SQLiteStorage(str(run.folder / 'to.db')).spill_folder
    assert spilled is not None and not [*spilled.glob('*.staged')]
    if is_still_there:
        assert not importer.report.refused
        assert read(run.folder / 'to.db') == {'series': [*NAMES.values()], 'atom': [LARGE]}
    else:
        assert importer.report.refused.total() == 5
        assert 'the content of the file is gone' in str(importer.report.refused)


def test_a_content_that_the_store_has_lost_is_told_by_the_next_import(run: CommandLine) -> None:
    export(run, 'jsonl')
    assert imported(run, 'jsonl').code == 0
    shutil.rmtree(run.folder / 'to.db.files')
    again = imported(run, 'jsonl')
    assert (again.code, again.json['known'], again.json['refused']) == (1, 4, 2)
    assert 'was the store copied without the folder beside it?' in str(again.json['reasons'])


@pytest.mark.failure('F1', 'SIGKILL while files are taken in')
def test_killed_and_begun_again_each_file_is_there_once(run: CommandLine) -> None:
    for number in range(40):
        with Experiment(f'e{number:02}', storage=run.folder / 'from.db', echo=False) as exp:
            exp['../atom'].assign(File(LARGE + bytes([number]), 'x'))
            exp['series'].extend([File(bytes([number])), File(LARGE)], timestamps=[1, 2])
    exported = run('export', '--storage', 'from.db', '--format', 'jsonl', '--out', 'out.jsonl')
    assert exported.code == 0
    kills = 0
    for marks in (3, 11, 23):
        with run.start('import', 'file', 'out.jsonl', '--storage', 'to.db') as child:
            until_marks(run.folder / 'to.db', marks, child.poll)
            child.kill()
            kills += child.wait() == -9
    assert kills >= 2
    ended = imported(run, 'jsonl')
    assert ended.code == 0
    assert ended.json['known'] > 0
    assert ended.json['known'] + ended.json['stored'] == 120
    assert contents(run.folder / 'to.db') == contents(run.folder / 'from.db')
    for number in range(40):
        series = [bytes([number]), LARGE]
        found = read(run.folder / 'to.db', f'e{number:02}')
        assert found == {'series': series, 'atom': [LARGE + bytes([number])]}
