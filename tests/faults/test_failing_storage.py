"""Storage fails or is slow while the training runs: it goes on, and all is stored in the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import Child, Ended, Store, Tally, mounted_disk

Run = Callable[..., Ended]
Start = Callable[..., Child]

MOST_BYTES = 1_000_000


@pytest.mark.failure('F27', 'the file may grow no more (EFBIG), then it may again')
def test_a_file_that_may_not_grow_stops_nothing(run: Run, store: Store) -> None:
    ended = run(f"""
        import resource, signal
        from child import experiment, say, wait_until
        from neptune_async.exceptions import NeptuneAsyncError, StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        errors = []
        exp = experiment(on_error=errors.append, flush_interval=0.01)
        for n in range(1000):
            exp['loss'].log(n)
        exp.flush()

        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({MOST_BYTES}, unlimited[1]))
        for n in range(1000, 51_000):
            exp['loss'].log(n)
            if n == 26_000:
                wait_until(lambda: errors)
        assert len(errors) == 1 and isinstance(errors[0], StorageError), errors
        for call in (exp.flush, lambda: exp['loss'].tail(1), exp.flush):
            try:
                call()
            except StorageError as error:
                say('raised', type(error).__name__)
        for n in range(51_000, 52_000):
            exp['loss'].log(n)
        stats = exp.stats()
        assert stats.retries > 0 and stats.last_error is not None
        assert stats.accepted == stats.committed + stats.pending == 52_000
        say('failed', stats.pending)

        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        exp.flush()
        say('pending', exp.pending)
        say('on_error', len(errors))
    """)

    assert ended.lines[:3] == ['raised StorageError'] * 3
    assert ended.number('failed') > 0
    assert ended.number('pending') == 0
    assert ended.number('on_error') == 1
    assert 'Traceback' not in ended.errors
    assert len(ended.errors.splitlines()) == 2  # it fails, it works again
    store.require('loss', range(52_000))


@pytest.fixture
def small_disk(tmp_path: Path, tally: Tally) -> Iterator[Store]:
    """A store on a file system of one megabyte."""
    with mounted_disk(tmp_path, 1, 'F26: a full disk') as folder:
        yield Store(folder / 'experiments.db', tally)


FILLS_THE_DISK = """
    from child import experiment, fill_disk, log_numbers, say, wait_until
    from neptune_async.exceptions import StorageError
    errors = []
    exp = experiment(on_error=errors.append, flush_interval=0.01)
    log_numbers(exp, range(1000))
    exp.flush()
    other = fill_disk()
    log_numbers(exp, range(1000, 11_000))
    wait_until(lambda: errors)
    log_numbers(exp, range(11_000, 12_000))
"""


@pytest.mark.failure('F26', 'the disk is full (ENOSPC), then there is room again')
def test_a_full_disk_stops_nothing(start: Start, small_disk: Store) -> None:
    ended = start(
        FILLS_THE_DISK
        + """
    try:
        exp.flush()
    except StorageError as error:
        say('raised')
    assert exp.pending == 11_000
    other.unlink()
    exp.flush()
    say('pending', exp.pending)
    say('on_error', len(errors))
""",
        env={'STORE': str(small_disk.path)},
    ).finish()

    assert ended.lines == ['raised', 'pending 0', 'on_error 1']
    assert 'Traceback' not in ended.errors
    small_disk.require('loss', range(12_000))


@pytest.mark.failure('F26', 'the disk is full when the process ends')
def test_what_a_full_disk_does_not_take_is_spilled_elsewhere(
    start: Start, small_disk: Store, tmp_path: Path
) -> None:
    temporary = tmp_path / 'tmp'
    temporary.mkdir()
    env = {'STORE': str(small_disk.path), 'TMPDIR': str(temporary)}
    ended = start(FILLS_THE_DISK, env=env).finish()

    (spill,) = temporary.rglob('*.spill')
    assert str(spill) in ended.errors
    assert '11,000 operations' in ended.errors
    assert 'Traceback' not in ended.errors
    small_disk.require('loss', range(1000))
    small_disk.path.with_name('other').unlink()
    start('from child import experiment\nexperiment()', env=env).finish()
    small_disk.require('loss', range(12_000))


@pytest.mark.failure('F26', 'no disk has room when the process ends')
def test_what_can_be_kept_nowhere_is_said_to_be_lost(start: Start, small_disk: Store) -> None:
    env = {'STORE': str(small_disk.path), 'TMPDIR': str(small_disk.path.parent)}
    ended = start(FILLS_THE_DISK, env=env).finish()

    last = ended.errors.splitlines()[-1]
    assert '11,000 operations of EXP are lost' in last
    assert 'Traceback' not in ended.errors
    small_disk.path.with_name('other').unlink()
    small_disk.require('loss', range(1000))


@pytest.mark.failure('F29', 'another process holds the store for a while')
def test_a_store_that_others_hold_stops_nothing(start: Start, store: Store) -> None:
    child = start("""
        from child import experiment, hear, say, wait_until
        from neptune_async.exceptions import FlushTimeoutError
        errors = []
        exp = experiment(on_error=errors.append, flush_interval=0.01)
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 50_000):
            exp['loss'].log(n)
        wait_until(lambda: exp.stats().retries > 0)
        for timeout in (0.0, 0.2):
            try:
                exp.flush(timeout=timeout)
            except FlushTimeoutError as error:
                say('pending', error.pending)
        say('logged')
        hear()
        exp.flush()
        say('errors', len(errors))
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('logged')
    child.tell()
    ended = child.finish()

    assert ended.errors == ''
    assert ended.numbers('pending') == [49_999, 49_999]
    assert ended.number('errors') == 0
    store.require('loss', range(50_000))


@pytest.mark.failure('F29', 'a store is held for longer than is patient')
def test_a_store_that_is_held_too_long_is_a_fault_and_is_tried_on(
    start: Start, store: Store
) -> None:
    child = start("""
        from child import experiment, hear, say, wait_until
        from neptune_async._engine.storing import retries
        from neptune_async.exceptions import StorageBusyError
        retries.BUSY_PATIENCE = 0.2
        errors = []
        exp = experiment(on_error=errors.append, flush_interval=0.01)
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 1000):
            exp['loss'].log(n)
        wait_until(lambda: errors)
        assert isinstance(errors[0], StorageBusyError), errors
        try:
            exp.flush()
        except StorageBusyError:
            say('raised')
        try:
            experiment('NEW')
        except StorageBusyError as error:
            say('unopened', str(error).count('experiments.db'))
        say('held')
        hear()
        wait_until(lambda: exp.pending == 0)
        say('on_error', len(errors))
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('held')
    child.tell()
    ended = child.finish()

    assert ended.lines == ['open', 'raised', 'unopened 1', 'held', 'on_error 1']
    assert 'Traceback' not in ended.errors
    store.require('loss', range(1000))


@pytest.mark.failure('F29', 'a store is held while processes open it')
def test_what_is_in_a_held_store_can_be_read_and_logged_to(start: Start, store: Store) -> None:
    store.open_once()
    with store.held():
        child = start("""
            from child import experiment, say, wait_until
            exp = experiment()
            for n in range(1000):
                exp['loss'].log(n)
            assert experiment(mode='read').name == 'EXP'
            wait_until(lambda: exp.stats().retries > 0)
            say('logged')
        """)
        child.wait_for('logged')
    child.finish()

    store.require('loss', range(1000))


@pytest.mark.failure('F24', 'flush, read, open and close are called by on_error')
def test_on_error_may_wait_for_the_worker(run: Run, store: Store) -> None:
    ended = run("""
        import os, threading
        from child import experiment, fail_writes, log_numbers, say
        from neptune_async import delete_experiment, list_experiments
        from neptune_async.exceptions import StorageError
        fails = True
        done = threading.Event()
        fail_writes(lambda: fails)

        def on_error(error):
            global fails
            try:
                exp.flush()
            except StorageError:
                say('told')
            fails = False
            for name, call in calls.items():
                call()
                say('answered', name)
            exp['from on_error'].log(1)
            say('done')
            done.set()

        store = os.environ['STORE']
        exp = experiment(on_error=on_error)
        calls = {
            'flush': exp.flush,
            'read': lambda: exp['loss'].all(),
            'exists': lambda: exp['loss'].exists(),
            'delete': lambda: exp['gone'].delete(),
            'open': lambda: experiment('OTHER').close(),
            'list_experiments': lambda: list_experiments(store),
            'delete_experiment': lambda: delete_experiment('OTHER', store),
        }
        exp['gone'].assign(1)
        log_numbers(exp, range(100))
        assert done.wait(30)
    """)

    assert ended.lines[0] == 'told' and ended.lines[-1] == 'done'
    assert ended.lines[1:-1] == [
        f'answered {name}'
        for name in (
            'flush',
            'read',
            'exists',
            'delete',
            'open',
            'list_experiments',
            'delete_experiment',
        )
    ]
    assert 'Traceback' not in ended.errors
    store.require('loss', range(100))
    store.require('from on_error', [1.0])


@pytest.mark.failure('F24', 'close is called by on_error')
def test_on_error_may_close_the_experiment(run: Run, store: Store) -> None:
    ended = run("""
        from child import experiment, fail_writes, log_numbers, say, wait_until
        fails = True
        fail_writes(lambda: fails)

        def on_error(error):
            global fails
            fails = False
            exp.close()
            say('closed')

        exp = experiment(on_error=on_error)
        log_numbers(exp, range(100))
        wait_until(lambda: exp._is_closed)
    """)

    assert ended.lines == ['closed']
    assert 'Traceback' not in ended.errors
    store.require('loss', range(100))


@pytest.mark.failure('F24', 'on_error itself fails')
def test_an_on_error_that_fails_stops_nothing(run: Run, store: Store) -> None:
    ended = run("""
        from child import experiment, fail_writes, log_numbers, say, wait_until
        left = [True] * 3
        fail_writes(lambda: left and left.pop())

        def on_error(error):
            say('called')
            raise ValueError('a fault of the user')

        exp = experiment(on_error=on_error)
        log_numbers(exp, range(100))
        wait_until(lambda: exp.pending == 0)
    """)

    assert ended.lines == ['called']
    store.require('loss', range(100))


@pytest.mark.failure('F28', 'the store cannot be opened')
@pytest.mark.parametrize('obstacle', ['folder', 'file above', 'foreign'])
def test_a_store_that_cannot_be_opened_is_named(run: Run, store: Store, obstacle: str) -> None:
    path = store.path
    if obstacle == 'folder':
        path.mkdir()
    elif obstacle == 'file above':
        path.write_text('in the way')
        path = path / 'experiments.db'
    else:
        path.write_bytes(os.urandom(10_000))
    before = path.read_bytes() if obstacle == 'foreign' else b''
    ended = run(
        """
        from child import experiment, say
        from neptune_async.exceptions import StorageError
        for _ in range(2):
            try:
                experiment()
            except StorageError as error:
                say('refused', error)
        """,
        env={'STORE': str(path)},
    )

    assert [str(path) in line for line in ended.lines] == [True, True]
    assert ended.errors == ''
    if obstacle == 'foreign':
        assert path.read_bytes() == before
