"""What exports and imports do with files and histograms."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from neptune_async import Experiment, File, Histogram
from neptune_async._media.dimensions import dimensions
from neptune_async._transfer.names import digest_name

from .conftest import CommandLine

LARGE = bytes(range(256)) * 1_000
NAMES = {'../../x\n': b'up', '/etc/passwd': b'absolute', 'ü' * 255: b'long', 'plain.bin': LARGE}


def fill(folder: Path) -> Path:
    """Return a store with files of all names, in a series and in atoms, and a histogram."""
    path = folder / 'from.db'
    with Experiment('a/../kept', storage=path, echo=False) as exp:
        exp['series'].extend(
            [File(content, name) for name, content in NAMES.items()], steps=[0, 1, 1.5, 7]
        )
        exp['../atom'].assign(File(LARGE, 'plain.bin', 'some/kind'))
        exp['weights'].log(Histogram(counts=[1, 2.5], edges=[-0.0, 0.1, 2]))
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
