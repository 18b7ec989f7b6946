"""The store's file is moved, replaced or damaged: nothing is overwritten, and nothing lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neptune_async import Experiment

from .harness import Child, Ended, Store, Tally

Run = Callable[..., Ended]
Start = Callable[..., Child]

LOGS_ON = """
    from child import experiment, hear, say, wait_until
    from neptune_async.exceptions import StorageError
    errors = []
    exp = experiment(flush_interval=0.01, on_error=errors.append)
    for n in range(1000):
        exp['loss'].log(n)
    exp.flush()
    say('open')
    hear()
    for n in range(1000, 2000):
        exp['loss'].log(n)
    wait_until(lambda: errors)
    try:
        exp.flush()
    except StorageError as error:
        say('raised', error)
    say('pending', exp.pending)
    hear()
"""
"""Logs 0 to 999, waits, logs 1000 to 1999 into a store that does not take them, waits, ends."""


@pytest.fixture
def other(tmp_path: Path, tally: Tally) -> Store:
    """Another store, with an experiment of its own."""
    path = tmp_path / 'other.db'
    with Experiment('OTHER', storage=path) as exp:
        exp['loss'].extend([float(n) for n in range(500)])
    return Store(path, tally)


def beside(store: Store) -> set[str]:
    """Return what is beside a store, but for spill files and our own scripts."""
    return {path.name for path in store.path.parent.iterdir() if path.suffix != '.py'} - {
        store.path.name, f'{store.path.name}.spilled',
    }  # fmt: skip


def change_under(start: Start, store: Store, change: Callable[[], object]) -> tuple[Child, str]:
    """Change the file under a process that logs into it; return what its flush raises."""
    child = start(LOGS_ON)
    child.wait_for('open')
    change()
    child.tell()
    raised = child.wait_for('raised')
    child.wait_for('pending', 1000)
    assert str(store.path) in raised
    assert 'put the file back, or end the process' in raised
    return child, raised


@pytest.mark.failure('F32', 'the file is replaced by another store')
def test_a_store_in_the_place_of_another_is_not_written_to(
    start: Start, store: Store, other: Store
) -> None:
    before = other.path.read_bytes()
    child, raised = change_under(start, store, lambda: other.path.replace(store.path))
    child.tell()
    ended = child.finish()

    assert 'was replaced by another file' in raised
    assert 'Traceback' not in ended.errors
    assert store.path.read_bytes() == before
    assert len(store.spills) == 1
    store.require('loss', [float(n) for n in range(500)], 'OTHER')
    store.open_once()
    assert store.spills == []
    store.require('loss', range(1000, 2000))
    store.require('loss', [float(n) for n in range(500)], 'OTHER')


@pytest.mark.failure('F32', 'the file is removed')
def test_a_file_that_is_removed_is_not_made_again_by_who_wrote_to_it(
    start: Start, store: Store
) -> None:
    child, raised = change_under(start, store, store.path.unlink)
    child.tell()
    ended = child.finish()

    assert 'was removed or renamed' in raised
    assert 'Traceback' not in ended.errors
    assert not store.path.exists()
    store.open_once()
    assert store.spills == []
    store.require('loss', range(1000, 2000))


@pytest.mark.failure('F32', 'the folder of the file is removed')
def test_what_is_logged_after_the_folder_was_removed_is_kept(
    start: Start, tmp_path: Path, tally: Tally
) -> None:
    store = Store(tmp_path / 'folder' / 'experiments.db', tally)
    child = start(LOGS_ON, env={'STORE': str(store.path)})
    child.wait_for('open')
    shutil.rmtree(store.path.parent)
    child.tell()
    child.wait_for('pending', 1000)
    child.tell()
    child.finish()

    assert len(store.spills) == 1
    store.open_once()
    store.require('loss', range(1000, 2000))


@pytest.mark.failure('F32', 'the file is removed, and another process makes a new one')
@pytest.mark.parametrize('change', ['removed', 'replaced'])
def test_a_new_store_under_the_old_name_has_a_wal_of_its_own(
    start: Start, store: Store, other: Store, change: str
) -> None:
    child, _ = change_under(
        start,
        store,
        store.path.unlink if change == 'removed' else lambda: other.path.replace(store.path),
    )
    newcomer = start("""
        from child import experiment, hear, say
        exp = experiment('NEW')
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 1000):
            exp['loss'].log(n)
    """)
    newcomer.wait_for('open')
    wal = Path(f'{store.path}-wal')
    live, content = wal.stat(), wal.read_bytes()
    child.tell()
    child.finish()
    assert (wal.stat().st_ino, wal.read_bytes()) == (live.st_ino, content)
    newcomer.tell()
    newcomer.finish()

    store.open_once()
    store.require('loss', range(1000), 'NEW')
    store.require('loss', range(1000, 2000))


@pytest.mark.failure('F32', 'the file is renamed, and renamed back')
def test_a_file_that_is_back_takes_what_was_logged_meanwhile(start: Start, store: Store) -> None:
    away = store.path.with_name('away.db')
    child = start(
        LOGS_ON
        + """
    exp.flush()
    say('pending', exp.pending)
"""
    )
    child.wait_for('open')
    store.path.rename(away)
    child.tell()
    child.wait_for('pending', 1000)
    away.rename(store.path)
    child.tell()
    child.wait_for('pending', 0)
    child.finish()

    assert store.spills == []
    assert beside(store) == set()
    store.require('loss', range(2000))


@pytest.mark.failure('F32', 'the file is renamed for good')
def test_a_file_that_was_renamed_is_whole_with_the_wal_that_is_named(
    start: Start, store: Store
) -> None:
    away = store.path.with_name('away.db')
    child, raised = change_under(start, store, lambda: store.path.rename(away))
    child.tell()
    child.finish()

    wal = Path(raised.rpartition(' is kept as ')[2])
    wal.rename(f'{away}-wal')
    Store(away, store.tally).require('loss', range(1000))


@pytest.mark.failure('F32', 'the file is cut to nothing')
def test_a_file_that_was_cut_to_nothing_stays_so(start: Start, store: Store) -> None:
    child = start(LOGS_ON)
    child.wait_for('open')
    os.truncate(store.path, 0)
    child.tell()
    raised = child.wait_for('raised')
    child.wait_for('pending', 1000)
    child.tell()
    ended = child.finish()

    assert 'was cut to nothing' in raised
    assert 'end the process' in raised
    assert 'Traceback' not in ended.errors
    assert store.path.read_bytes() == b''
    store.open_once()
    assert store.spills == []
    store.require('loss', range(1000, 2000))


@pytest.mark.failure('F32', 'the -wal is removed')
def test_a_wal_that_is_removed_takes_nothing_more(start: Start, store: Store) -> None:
    child, raised = change_under(start, store, Path(f'{store.path}-wal').unlink)
    child.tell()
    child.finish()

    assert 'has lost experiments.db-wal' in raised
    store.open_once()
    assert store.spills == []
    store.require_whole()
    assert store.values('loss')[-1000:] == [*range(1000, 2000)]
