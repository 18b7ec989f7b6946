"""Files on their way to storage: whatever happens, what refers to a file finds its content."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neptune_async import Experiment, File
from neptune_async._model import pending_files
from neptune_async.exceptions import StorageFormatError, UnreadableFileError

from .harness import Child, Ended, Store, Tally, mounted_disk, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

SIZES = (100, 300_000)
"""Bytes of a file that is kept in the store, and of one that is beside it."""

LOGS_FILES = """
    import os, sys
    from child import experiment, say
    from neptune_async import File
    round, durability = int(sys.argv[1]), sys.argv[2]
    exp = experiment(flush_interval=0.002, durability=durability)
    n = 0
    while True:
        say('announced', n)
        content = b'%d:%d ' % (round, n)
        exp['small'].log(File(content * 10, name=f'{round}:{n}'))
        exp['large'].log(File(content * 40_000, name=f'{round}:{n}'))
        with open(f'source-{round}', 'wb') as file:
            file.write(content * 40_000)
        exp['copied'].log(File(f'source-{round}', name=f'{round}:{n}'))
        n += 1
        say('logged', n)
        if n % 5 == 0:
            exp.flush()
            say('flushed', n)
"""


def contents(store: Store, path: str) -> dict[str, bytes]:
    """Return the content of each file of a series, by its name. Each is there once."""
    with store.reading() as exp:
        files = exp[path].all() if exp[path].exists() else []
        found = {file.name: file.bytes() for file in files}
    assert len(found) == len(files)
    return found


@pytest.mark.unmeasured
@pytest.mark.parametrize('durability', ['interval', 'call'])
@pytest.mark.failure('F53', 'SIGKILL between a file and what refers to it, and in the middle')
def test_a_kill_leaves_no_reference_without_its_file(
    start: Start, store: Store, durability: str
) -> None:
    rounds = store.tally.trials = trials(12)
    chance = random.Random(2)
    for number in range(rounds):
        child = start(LOGS_FILES, number, durability)
        for _ in range(chance.choice([1, 1, 2, 4])):
            child.wait_for('flushed' if durability == 'interval' else 'logged')
        time.sleep(chance.uniform(0, 0.02))
        child.send(signal.SIGKILL)
        ended = child.finish(code=-signal.SIGKILL)
        start('from child import experiment\nexperiment().close()').finish()

        survive = max(ended.numbers('logged' if durability == 'call' else 'flushed'))
        for path, repeated in (('small', 10), ('large', 40_000), ('copied', 40_000)):
            found = {
                name: content
                for name, content in contents(store, path).items()
                if name.startswith(f'{number}:')
            }
            store.require_equal(
                [int(name.partition(':')[2]) for name in found], [*range(max(survive, len(found)))]
            )
            for name, content in found.items():
                assert content == f'{name} '.encode() * repeated
    store.require_whole()


@pytest.mark.failure('F53', 'what a killed process left of files is read, and taken in once')
def test_files_that_the_dead_left_are_read(start: Start, store: Store) -> None:
    child = start("""
        from child import experiment, hear, say
        from neptune_async import File
        exp = experiment(durability='call', flush_interval=3600.0)
        for n in range(3):
            exp['files'].log(File(b'%d' % n * 300_000, name=str(n)))
        exp['atom'].assign(File(b'atom'))
        say('logged')
        hear()
    """)
    child.wait_for('logged')
    child.send(signal.SIGKILL)
    child.finish(code=-signal.SIGKILL)
    expected = {str(n): b'%d' % n * 300_000 for n in range(3)}
    for _ in range(2):
        assert contents(store, 'files') == expected
        with store.reading() as exp:
            assert exp['atom'].read().bytes() == b'atom'
    store.open_once()
    assert contents(store, 'files') == expected
    assert not [*store.path.parent.rglob('*.staged')]


@pytest.mark.failure('F11', 'files wait while the store is held at the end')
def test_files_are_spilled_with_what_refers_to_them(start: Start, store: Store) -> None:
    child = start("""
        from child import experiment, hear, say
        from neptune_async import File, Histogram
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = 0.5
        exp = experiment()
        exp['before'].log(1.0)
        exp.flush()
        open('source', 'wb').write(bytes(300_000))
        say('open')
        hear()
        exp['small'].assign(File(b'small'))
        exp['large'].log(File('source'))
        exp['weights'].log(Histogram([1.0, 2.0]))
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.finish()
    assert sorted(path.suffix for path in store.spills) == ['.spill', '.staged', '.staged']
    store.open_once()
    with store.reading() as exp:
        assert exp['small'].read().bytes() == b'small'
        assert exp['large'].all()[0].bytes() == bytes(300_000)
        assert sum(exp['weights'].all()[0].counts) == 2
    assert not [*store.path.parent.rglob('*.staged')]


@pytest.mark.parametrize('how', ['longer', 'shorter', 'other'])
@pytest.mark.failure('F54', 'a file grows, shrinks or changes while it is copied')
def test_a_file_that_changes_while_it_is_copied_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    source = tmp_path / 'source'
    source.write_bytes(bytes(3_000_000))
    copy = pending_files._copy_bytes

    def changed(*args: Any) -> int:
        count = copy(*args)
        with source.open('r+b') as file:
            if how == 'shorter':
                file.truncate(10)
            else:
                file.seek(0, os.SEEK_END if how == 'longer' else os.SEEK_SET)
                file.write(b'more')
        os.utime(source, (1, 1))
        return count

    with Experiment('EXP', storage=store.path, echo=False) as exp:
        with monkeypatch.context() as patched:
            patched.setattr(pending_files, '_copy_bytes', changed)
            with pytest.raises(UnreadableFileError, match='has changed while it was copied'):
                exp['model'].assign(File(source))
        exp['loss'].log(1.0)
        exp['model'].assign(File(source))
        assert exp['model'].read().bytes() == source.read_bytes()


@pytest.mark.failure('F54', 'a file whose size is not what it says')
@pytest.mark.skipif(not Path('/proc/version').exists(), reason='the system has no such file')
def test_a_file_without_a_true_size_is_refused(store: Store) -> None:
    exp = Experiment('EXP', storage=store.path, echo=False)
    with exp, pytest.raises(UnreadableFileError, match='has changed'):
        exp['model'].assign(File('/proc/version'))


@pytest.fixture
def small_disk(tmp_path: Path, tally: Tally) -> Iterator[Store]:
    with mounted_disk(tmp_path, 4, 'F55: a full disk') as folder:
        yield Store(folder / 'experiments.db', tally)


@pytest.mark.failure('F55', 'the disk is full when files are logged')
def test_a_full_disk_keeps_files_until_there_is_room(
    start: Start, small_disk: Store, tmp_path: Path
) -> None:
    source = tmp_path / 'source'
    source.write_bytes(b'x' * 700_000)
    ended = start(
        """
        import sys
        from child import experiment, fill_disk, say, wait_until
        from neptune_async import File
        from neptune_async.exceptions import StorageError
        errors = []
        exp = experiment(on_error=errors.append, flush_interval=0.01)
        exp['loss'].log(0.0)
        exp.flush()
        other = fill_disk()
        exp['copied'].assign(File(sys.argv[1]))
        exp['made'].assign(File(b'y' * 800_000))
        exp['small'].assign(File(b'z'))
        wait_until(lambda: errors)
        try:
            exp.flush()
        except StorageError:
            say('raised')
        other.unlink()
        exp.flush()
        say('pending', exp.pending)
        """,
        source,
        env={'STORE': str(small_disk.path)},
    ).finish()
    assert ended.lines == ['raised', 'pending 0']
    with small_disk.reading() as exp:
        assert exp['copied'].read().bytes() == b'x' * 700_000
        assert exp['made'].read().bytes() == b'y' * 800_000
        assert exp['small'].read().bytes() == b'z'
    assert not [*small_disk.path.parent.rglob('*.staged')]


@pytest.mark.failure('F55', 'the disk is full when a process ends that has logged files')
def test_a_full_disk_at_the_end_spills_files_elsewhere(
    start: Start, small_disk: Store, tmp_path: Path
) -> None:
    temporary = tmp_path / 'tmp'
    temporary.mkdir()
    env = {'STORE': str(small_disk.path), 'TMPDIR': str(temporary)}
    ended = start(
        """
        from child import experiment, fill_disk
        from neptune_async import File
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = 0.5
        exp = experiment()
        exp['loss'].log(0.0)
        exp.flush()
        fill_disk()
        exp['made'].assign(File(b'y' * 800_000))
        """,
        env=env,
    ).finish()
    (spill,) = temporary.rglob('*.spill')
    assert str(spill) in ended.errors
    assert 'Traceback' not in ended.errors
    small_disk.path.with_name('other').unlink()
    start('from child import experiment\nexperiment().close()', env=env).finish()
    with small_disk.reading() as exp:
        assert exp['made'].read().bytes() == b'y' * 800_000
    assert not [*temporary.rglob('*.staged')]


@pytest.mark.failure('F31', 'a file beside the store, or in it, is damaged or gone')
@pytest.mark.parametrize('how', ['flipped', 'shorter', 'gone'])
def test_nobody_gets_a_content_that_is_not_what_was_stored(store: Store, how: str) -> None:
    with Experiment('EXP', storage=store.path, echo=False) as exp:
        exp['model'].assign(File(bytes(300_000)))
        exp['other'].assign(File(bytes(400_000)))
        file = exp['model'].read()
        path = Path(f'{store.path}.files', file.sha256[:2], file.sha256)
        if how == 'gone':
            path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes(content[:-1] if how == 'shorter' else b'\1' + content[1:])
        target = store.path.with_name('copy')
        for read in (file.bytes, file.open, lambda: file.download(target)):
            with pytest.raises(StorageFormatError):
                read()
        assert not target.exists()
        assert exp['other'].read().bytes() == bytes(400_000)


@pytest.mark.failure('F56', 'processes log one file at once')
def test_a_file_that_many_processes_log_is_kept_once(start: Start, store: Store) -> None:
    script = """
        from child import experiment, hear, say
        from neptune_async import File
        exp = experiment()
        say('ready')
        hear()
        for n in range(20):
            exp['files'].log(File(bytes(200_000)))
            exp['small'].log(File(b'small'))
            if n % 5 == 0:
                exp.flush()
        exp.close()
    """
    children = [start(script) for _ in range(4)]
    for child in children:
        child.wait_for('ready')
    for child in children:
        child.tell()
    for child in children:
        child.finish()
    with store.reading() as exp:
        files = exp['files'].all()
        assert len(files) == 80
        assert {file.sha256 for file in files} == {files[0].sha256}
        assert files[0].bytes() == bytes(200_000)
        assert len(exp['small'].all()) == 80
    kept = [path for path in Path(f'{store.path}.files').rglob('*') if path.is_file()]
    assert len(kept) == 1


def test_a_forked_child_begins_without_the_files_of_its_parent(start: Start, store: Store) -> None:
    start("""
        from child import experiment, fork, reap
        from neptune_async import File
        exp = experiment(flush_interval=3600.0)
        open('source', 'wb').write(bytes(300_000))
        exp['parent'].log(File('source'))
        def body():
            exp['child'].log(File('source'))
        reap(fork(body))
        exp.close()
    """).finish()
    assert len(contents_of_one_name(store, 'parent')) == 1
    assert len(contents_of_one_name(store, 'child')) == 1


def contents_of_one_name(store: Store, path: str) -> list[bytes]:
    with store.reading() as exp:
        return [file.bytes() for file in exp[path].all()]


def test_importing_loads_nothing_that_files_need() -> None:
    code = 'import neptune_async, sys; print({"mimetypes", "csv", "numpy"} & {*sys.modules})'
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    assert done.stdout == 'set()\n'
