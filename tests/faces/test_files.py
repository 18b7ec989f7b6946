"""Files and histograms: what is logged is what is read back, on both faces and both stores."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neptune_async import Atom, Experiment, File, FileReference, Histogram, Series
from neptune_async.exceptions import (
    ContentTypeError,
    ExperimentClosedError,
    InvalidArgumentError,
    QueueFullError,
    UnreadableFileError,
    UnsupportedValueError,
)

pytestmark = pytest.mark.anyio

SMALL, LARGE = b'small' * 10, bytes(range(256)) * 10_000


def found(folder: Path, pattern: str) -> list[Path]:
    return [*folder.rglob(pattern)]


@pytest.mark.parametrize('content', [b'', SMALL, LARGE], ids=['empty', 'small', 'large'])
@pytest.mark.parametrize('source', ['path', 'bytes', 'object'])
async def test_a_file_reads_back_as_it_was_assigned(
    face: Any, tmp_path: Path, content: bytes, source: str
) -> None:
    path = tmp_path / 'model.pt'
    path.write_bytes(content)
    given = {'path': path, 'bytes': content, 'object': io.BytesIO(content)}[source]
    async with face.open() as exp:
        exp['model'].assign(File(given, name='model.pt'))
        path.write_bytes(b'something else')  # what was assigned is what was there at the call
        file = await face.get(exp['model'].read)
        assert (file.name, file.size) == ('model.pt', len(content))
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert await face.get(file.bytes) == content
        with await face.get(file.open) as opened:
            assert opened.read() == content
        copy = await face.get(file.download, tmp_path / 'copy.pt')
        assert (copy, copy.read_bytes()) == (tmp_path / 'copy.pt', content)
        assert await face.get(exp['model'].variable_type) == (Atom, File)
    async with face.open(mode='read') as exp:
        file = await face.get(exp['model'].read)
        assert await face.get(file.bytes) == content


async def test_files_of_a_series_read_back_in_order(face: Any) -> None:
    async with face.open() as exp:
        for step in range(3):
            exp['samples'].log(File.text(f'sample {step}'), step=10 * step)
        exp['samples'].extend([File(SMALL), File(LARGE)], steps=[30, 40])
        expected = [b'sample 0', b'sample 1', b'sample 2', SMALL, LARGE]
        files = await face.get(exp['samples'].all)
        assert [await face.get(file.bytes) for file in files] == expected
        last = (await face.get(exp['samples'].tail, 1, with_steps=True))[0]
        assert (last[0], await face.get(last[1].bytes)) == (40, LARGE)
        contents = await face.get(exp.to_dict)
        assert await face.get(contents['samples'].bytes) == LARGE
        assert await face.get(exp['samples'].variable_type) == (Series, File)


async def test_a_batch_may_hold_files_beside_other_values(face: Any) -> None:
    async with face.open() as exp:
        exp['a'].log({'image': File(SMALL), 'loss': 0.5, 'text': 'x'})
        exp['b'].assign({'file': File(LARGE), 'lr': 0.1})
        assert await face.get((await face.get(exp['b/file'].read)).bytes) == LARGE
        assert await face.get(exp['a/loss'].all) == [0.5]
        assert await face.get((await face.get(exp['a/image'].all))[0].bytes) == SMALL


async def test_an_atom_may_change_between_a_file_and_a_value(face: Any) -> None:
    async with face.open() as exp:
        for value in (1, File(SMALL), 'text', File(LARGE)):
            exp['x'].assign(value)
        assert await face.get((await face.get(exp['x'].read)).bytes) == LARGE
        exp['x'].assign(None)
        assert await face.get(exp['x'].read) is None


async def test_a_histogram_reads_back_exactly(face: Any) -> None:
    values = np.array([0.1, 0.2, 0.7, 5e-324, -1e300, np.nan, np.inf])
    logged = [Histogram(values, bins=7), Histogram(counts=[1, 0.5], edges=[-0.0, 1 / 3, 2])]
    async with face.open() as exp:
        exp['weights'].log(logged[0], step=3)
        exp['weights'].log(logged[1])
        assert await face.get(exp['weights'].all) == logged
        read = (await face.get(exp['weights'].all))[0]
        assert (sum(read.counts), read.non_finite) == (5, 2)
        assert str((await face.get(exp['weights'].all))[1].edges[0]) == '-0.0'
        assert await face.get(exp['weights'].variable_type) == (Series, Histogram)


@pytest.mark.failure('F54', 'a file is missing, a folder or a FIFO')
async def test_a_file_that_cannot_be_read_is_refused_at_the_call(face: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'fifo')
    async with face.open() as exp:
        for path, why in (
            ('missing.pt', 'No such file'), ('.', 'is a folder'), ('fifo', 'no regular file')
        ):  # fmt: skip
            with pytest.raises(UnreadableFileError, match=why) as refused:
                exp['model'].assign(File(tmp_path / path))
            assert "'model'" in str(refused.value)
            with pytest.raises(UnreadableFileError, match=why):
                exp['model'].log(File(tmp_path / path))
        assert not await face.get(exp['model'].exists)


async def test_a_batch_with_a_file_that_cannot_be_read_leaves_nothing(
    face: Any, tmp_path: Path
) -> None:
    (tmp_path / 'there').write_bytes(LARGE)
    async with face.open() as exp:
        with pytest.raises(UnreadableFileError):
            exp['x'].assign({'a': File(tmp_path / 'there'), 'b': File(tmp_path / 'missing')})
        assert not await face.get(exp['x'].exists)
    assert not found(tmp_path, '*.staged')


async def test_what_holds_no_file_refuses_one(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(0.5)
        exp['samples'].log(File(SMALL))
        exp['weights'].log(Histogram([1.0]))
        for path, value in (
            ('loss', File(SMALL)), ('samples', 1.0), ('samples', 'x'), ('samples', Histogram([1])),
            ('weights', File(SMALL)),
        ):  # fmt: skip
            with pytest.raises(ContentTypeError):
                exp[path].log(value)
        with pytest.raises(UnsupportedValueError, match='path of its own'):
            exp['list'].assign([File(SMALL)])
        with pytest.raises(UnsupportedValueError, match='log it to a series'):
            exp['histogram'].assign(Histogram([1.0]))
        with pytest.raises(UnsupportedValueError, match='cannot hold'):
            exp['set'].add(File(SMALL))
        read = (await face.get(exp['samples'].all))[0]
        for write in (exp['again'].assign, exp['again'].log):
            with pytest.raises(UnsupportedValueError, match='give File'):
                write(read)


@pytest.mark.failure('F47', 'names of files that lead out of the folder')
@pytest.mark.parametrize('name', ['../../x', '/etc/passwd', '..', '.', 'a\nb', 'é' * 200, 'CON'])
async def test_a_name_never_leads_out_of_the_folder(face: Any, tmp_path: Path, name: str) -> None:
    folder = tmp_path / 'inner' / 'folder'
    folder.mkdir(parents=True)
    async with face.open() as exp:
        exp['model'].assign(File(SMALL, name=name))
        file = await face.get(exp['model'].read)
        assert file.name == name
        path = await face.get(file.download, folder)
    assert [*folder.iterdir()] == [path]
    assert path.read_bytes() == SMALL
    assert path.name not in ('CON', '.', '..')


async def test_a_download_replaces_a_file_and_nothing_else(face: Any, tmp_path: Path) -> None:
    (tmp_path / 'there').write_bytes(b'old')
    os.mkfifo(tmp_path / 'fifo')
    async with face.open() as exp:
        exp['model'].assign(File(SMALL))
        file = await face.get(exp['model'].read)
        await face.get(file.download, str(tmp_path / 'there'))
        assert (tmp_path / 'there').read_bytes() == SMALL
        with pytest.raises(UnreadableFileError, match='no regular file'):
            await face.get(file.download, tmp_path / 'fifo')
        with pytest.raises(UnreadableFileError, match='cannot be written'):
            await face.get(file.download, tmp_path / 'no folder' / 'x')
        with pytest.raises(InvalidArgumentError, match='cannot be 7'):
            await face.get(file.download, 7)
    with pytest.raises(ExperimentClosedError):
        await face.get(file.bytes)
    assert not found(tmp_path, '.*.part')


async def test_a_fork_shares_files_and_a_deletion_lets_go_of_them(face: Any) -> None:
    async with face.open() as exp:
        exp['model'].assign(File(LARGE))
        exp['samples'].extend([File(SMALL), File(LARGE)], steps=[1, 2])
        fork = await face.get(exp.fork, 'fork', step=1)
        await face.get(exp['model'].delete)
        files = await face.get(fork['samples'].all)
        assert [await face.get(file.bytes) for file in files] == [SMALL]
        assert await face.get((await face.get(fork['model'].read)).bytes) == LARGE
        await face.close(fork)


async def test_bytes_that_wait_are_bounded(face: Any) -> None:
    image = File(bytes(2_000))
    async with face.open(max_pending_bytes=5_000, overflow='raise', flush_interval=3_600.0) as exp:
        await face.get(exp.flush)
        with pytest.raises(QueueFullError, match='max_pending_bytes=5,000'):
            for _ in range(10_000):  # the worker is woken, and may be faster than a few calls
                exp['samples'].log(image)
        await face.get(exp.flush)
        exp['samples'].log(image)
        await face.get(exp.flush)
        assert exp._state.queue.bytes == 0


@pytest.mark.parametrize('limit', [0, -1, 1.5, True, None])
def test_a_limit_of_bytes_is_a_positive_int(limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match='max_pending_bytes must be a positive number'):
        Experiment('EXP', storage=':memory:', max_pending_bytes=limit)


async def test_a_file_that_was_read_is_pickled_without_its_experiment(face: Any) -> None:
    async with face.open() as exp:
        exp['model'].assign(File(SMALL, name='a.txt'))
        file = await face.get(exp['model'].read)
        there = pickle.loads(pickle.dumps(file))
    assert there == FileReference('a.txt', 'text/plain', len(SMALL), file.sha256)
    assert str(there) == 'a.txt (text/plain, 50 bytes)'


async def test_a_store_in_memory_and_a_disabled_one_keep_files(face: Any, tmp_path: Path) -> None:
    (tmp_path / 'model').write_bytes(LARGE)
    for arguments in ({'storage': ':memory:'}, {'mode': 'disabled'}):
        async with face.open('in memory', **arguments) as exp:
            exp['model'].assign(File(tmp_path / 'model'))
            assert await face.get((await face.get(exp['model'].read)).bytes) == LARGE
