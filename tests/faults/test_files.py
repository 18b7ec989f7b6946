"""The store's file is moved, replaced or damaged: nothing is overwritten, and nothing lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from neptune_async import Experiment
from neptune_async._engine.durability.spill_files import read_spill

from .harness import LOGS_ON, Child, Ended, Store, Tally, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]


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
        from child import experiment, hear, log_numbers, say
        exp = experiment('NEW')
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        log_numbers(exp, range(1, 1000))
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


# ── Damage ───────────────────────────────────────────────────────────────────

OPENS_AND_LOGS = """
    from child import experiment, log_numbers, say
    from neptune_async.exceptions import StorageError
    try:
        exp = experiment()
    except StorageError as error:
        say('unopened', error)
    else:
        try:
            say('read', len(exp['loss'].all()))
        except StorageError as error:
            say('unread', error)
        try:
            log_numbers(exp, range(5000, 6000))
            exp.flush()
            say('stored')
        except StorageError as error:
            say('raised', error)
"""


def cut_in_half(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def with_tables_of_garbage(raw: bytes) -> bytes:
    """The roots of all tables are among the first pages."""
    return raw[:8192] + os.urandom(12 * 4096) + raw[14 * 4096 :]


def with_a_garbage_header(raw: bytes) -> bytes:
    return os.urandom(100) + raw[100:]


def with_a_schema_of_garbage(raw: bytes) -> bytes:
    return raw[:100] + os.urandom(3996) + raw[4096:]


DAMAGES = [cut_in_half, with_tables_of_garbage, with_a_garbage_header, with_a_schema_of_garbage]


def new_points_kept(store: Store) -> set[float]:
    """Return the values from 5000 on that spill files hold."""
    return {
        value
        for spill in store.spills
        for batch in read_spill(spill)
        for part in batch.parts
        for value in part.points[3::4]
    }


@pytest.mark.failure('F31', 'the file is damaged when it is opened')
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_file_is_refused_and_left_as_it_is(
    run: Run, store: Store, damage: Callable[[bytes], bytes]
) -> None:
    with Experiment('EXP', storage=store.path) as exp:
        exp['loss'].extend([float(n) for n in range(5000)])
        exp['texts'].extend([f'text {n}' for n in range(5000)])
    before = damage(store.path.read_bytes())
    store.path.write_bytes(before)
    ended = run(OPENS_AND_LOGS)

    assert 'Traceback' not in ended.errors
    assert ended.lines[0].startswith('unopened')
    assert str(store.path) in ended.lines[0]
    assert 'nothing was changed' in ended.lines[0]
    assert store.path.read_bytes() == before


@pytest.mark.failure('F31', 'the file is damaged under a process that logs')
@pytest.mark.parametrize('damage', DAMAGES)
def test_what_a_damaged_file_does_not_take_is_kept_apart(
    start: Start, store: Store, damage: Callable[[bytes], bytes]
) -> None:
    with Experiment('EXP', storage=store.path) as exp:
        exp['loss'].extend([float(n) for n in range(5000)])
    child = start("""
        from child import experiment, hear, log_numbers, say
        from neptune_async.exceptions import StorageError
        exp = experiment()
        exp['other'].log(1)
        exp.flush()
        say('open')
        hear()
        log_numbers(exp, range(5000, 6000))
        try:
            exp.flush()
            say('stored')
        except StorageError as error:
            say('raised', error)
    """)
    child.wait_for('open')
    make_others_look_anew(store)
    overwrite(store.path, damage(store.path.read_bytes()))
    child.tell()
    ended = child.finish()

    assert 'Traceback' not in ended.errors
    _, said = ended.lines
    # The schema is not looked at again, and what is in the tables is whole.
    if damage is not with_a_schema_of_garbage:
        assert said.startswith('raised')
        assert str(store.path) in said
        assert new_points_kept(store) == {float(n) for n in range(5000, 6000)}


def make_others_look_anew(store: Store) -> None:
    """Copy the whole -wal into the file, and change it: what others have cached is void."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO writers VALUES (x'00', 1)")
        ((_, frames, copied),) = connection.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchall()
        assert copied == frames


def overwrite(path: Path, raw: bytes) -> None:
    """Change a file in place, as a faulty disk does."""
    with path.open('r+b') as file:
        file.write(raw)
        file.truncate()


@pytest.mark.failure('F31', 'the file is a folder, empty, or of something else')
@pytest.mark.parametrize('what', ['folder', 'sqlite', 'text'])
def test_a_file_of_something_else_is_left_as_it_is(run: Run, store: Store, what: str) -> None:
    if what == 'folder':
        store.path.mkdir()
    elif what == 'sqlite':
        with closing(sqlite3.connect(store.path)) as connection:
            connection.execute('CREATE TABLE theirs (x)')
    else:
        store.path.write_text('lr = 0.1')
    before = b'' if what == 'folder' else store.path.read_bytes()
    ended = run(OPENS_AND_LOGS)

    (line,) = ended.lines
    assert line.startswith('unopened')
    assert str(store.path) in line
    assert ended.errors == ''
    assert beside(store) == set()
    if what != 'folder':
        assert store.path.read_bytes() == before


@pytest.mark.failure('F31', 'the file has no bytes')
def test_a_file_of_no_bytes_becomes_a_store(run: Run, store: Store) -> None:
    store.path.touch()
    run("from child import experiment\nexperiment()['loss'].log(0)")

    store.require('loss', [0])


def killed_while_it_logged(start: Start, store: Store) -> int:
    """Leave a store with a -wal, parts of which are in the file; return how much was logged."""
    child = start("""
        from child import experiment, say
        from neptune_async._storage.sqlite import checkpoint
        checkpoint.CHECKPOINT_BYTES = 2**17
        exp = experiment(flush_interval=0.001)
        for n in range(100_000):
            exp['loss'].log(n)
            if n % 100 == 0:
                say('announced', n + 101)
                exp.flush()
            if n == 20_000:
                say('enough')
    """)
    child.wait_for('enough')
    child.send(signal.SIGKILL)
    return child.finish(-signal.SIGKILL).number('announced')


@pytest.mark.failure('F31', 'the -wal of a killed process is missing')
def test_without_its_wal_a_store_holds_a_prefix(start: Start, store: Store) -> None:
    announced = killed_while_it_logged(start, store)
    Path(f'{store.path}-wal').unlink()
    store.open_once()

    store.require_prefix('loss', 0, announced)


@pytest.mark.failure('F6', 'power failure: the -wal ends anywhere, or in garbage')
def test_a_wal_that_is_torn_anywhere_leaves_a_prefix(
    start: Start, store: Store, tally: Tally, tmp_path: Path
) -> None:
    announced = killed_while_it_logged(start, store)
    file, wal = store.path.read_bytes(), Path(f'{store.path}-wal').read_bytes()
    frame = 24 + 4096
    ends = [32 + frame * n for n in range((len(wal) - 32) // frame + 1)]
    chosen = random.Random(0)
    tally.trials = min(len(ends), trials(20))
    found = []
    for number, end in enumerate(sorted(chosen.sample(ends, tally.trials))):
        folder = tmp_path / f'torn{number}'
        folder.mkdir()
        torn = Store(folder / 'experiments.db', tally)
        torn.path.write_bytes(file)
        tail = [b'', wal[end : end + chosen.randrange(frame)], chosen.randbytes(2 * frame)][
            number % 3
        ]
        Path(f'{torn.path}-wal').write_bytes(wal[:end] + tail)
        torn.open_once()
        found.append(torn.require_prefix('loss', 0, announced))

    assert found == sorted(found)
    assert found[-1] > found[0]
