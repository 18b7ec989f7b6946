"""Storage fails for longer than memory has room: what waits goes to files, and comes back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import Child, Ended, Store, Tally, mounted_disk

Run = Callable[..., Ended]
Start = Callable[..., Child]

MAX_PENDING = 4_000
FAILING = 40_000
"""Points that are logged while storage fails: ten times what memory has room for."""


@pytest.fixture
def small_disk(tmp_path: Path, tally: Tally) -> Iterator[Store]:
    """A store on a file system of 32 megabytes."""
    with mounted_disk(tmp_path, 32, 'a full disk') as folder:
        yield Store(folder / 'experiments.db', tally)


@pytest.fixture
def spilling(start: Start, small_disk: Store, tmp_path: Path) -> Callable[..., Child]:
    """Start a script that has filled the disk and logged past its limit, to go on with another."""
    (tmp_path / 'tmp').mkdir()

    def start_spilling(then: str, policy: str = 'block', **options: object) -> Child:
        child = start(
            SPILLS + then,
            policy,
            env={'STORE': str(small_disk.path), 'TMPDIR': str(tmp_path / 'tmp')},
            **options,
        )
        child.wait_for('logged')
        return child

    return start_spilling


SPILLS = f"""
    import sys
    from child import experiment, fill_disk, hear, log_numbers, say, wait_until
    from neptune_async.exceptions import StorageError
    errors = []
    exp = experiment(
        on_error=errors.append, flush_interval=0.01,
        max_pending={MAX_PENDING}, overflow=sys.argv[1],
    )
    log_numbers(exp, range(1000))
    exp['text'].log('before')
    exp.flush()
    other = fill_disk()
    exp['loss'].log(1000)
    wait_until(lambda: errors)
    queue = exp._state.queue
    for n in range(1001, {FAILING}):
        exp['loss'].log(n)
        if n % 500 == 0:
            exp['text'].log(str(n))
            # A policy that does not wait would drop what comes faster than the files are written.
            wait_until(lambda: queue.in_memory < {MAX_PENDING} // 2)
        assert queue.in_memory <= {MAX_PENDING}
    stats = exp.stats()
    assert stats.dropped == stats.rejected == 0, stats
    assert stats.accepted == stats.committed + stats.pending, stats
    assert stats.pending >= {FAILING} - 1000, stats
    assert stats.oldest_pending_age > 0
    say('logged')
    hear()
"""
TEXTS = ['before', *map(str, range(1500, FAILING, 500))]


def spill_files(folder: Path) -> list[Path]:
    return [*(folder / 'tmp').rglob('*.spill')]


@pytest.mark.failure('F26', 'storage fails until ten times the limit was logged')
@pytest.mark.parametrize('policy', ['block', 'drop', 'raise'])
def test_what_memory_has_no_room_for_is_spilled_and_comes_back(
    spilling: Callable[..., Child], small_disk: Store, tmp_path: Path, policy: str
) -> None:
    child = spilling(
        f"""
    try:
        exp.flush()
    except StorageError:
        say('raised')
    other.unlink()
    exp.flush()
    exp['loss'].log({FAILING})
    assert exp['loss'].tail(2) == [{FAILING - 1}, {FAILING}]
    assert exp['text'].tail(1) == ['{TEXTS[-1]}']
    assert exp.pending == 0
    stats = exp.stats()
    assert stats.accepted == stats.committed, stats
    say('errors', len(errors))
""",
        policy,
    )
    assert spill_files(tmp_path)
    child.tell()
    ended = child.finish()

    assert ended.lines[-2:] == ['raised', 'errors 1']
    assert 'Traceback' not in ended.errors
    assert spill_files(tmp_path) == []
    small_disk.require('loss', range(FAILING + 1))
    small_disk.require('text', TEXTS)


@pytest.mark.failure('F26', 'storage fails from then on to the end of the process')
def test_the_end_names_all_files_and_the_next_open_takes_them_in(
    spilling: Callable[..., Child], small_disk: Store, tmp_path: Path, start: Start
) -> None:
    child = spilling('')
    child.tell()
    ended = child.finish()

    files = spill_files(tmp_path)
    last = ended.errors.splitlines()[-1]
    assert len(files) > 1
    assert all(str(file) in last for file in files)
    assert f'{FAILING - 1000 + len(TEXTS) - 1:,} operations of EXP' in last
    small_disk.path.with_name('other').unlink()
    start(
        'from child import experiment\nexperiment().close()',
        env={'STORE': str(small_disk.path), 'TMPDIR': str(tmp_path / 'tmp')},
    ).finish()
    assert spill_files(tmp_path) == []
    small_disk.require('loss', range(FAILING))
    small_disk.require('text', TEXTS)


@pytest.mark.failure('F26', 'another process takes in the files of one that lives')
def test_files_that_another_process_takes_in_are_stored_once(
    spilling: Callable[..., Child], small_disk: Store, tmp_path: Path, start: Start
) -> None:
    child = spilling(
        f"""
    exp['loss'].log({FAILING})
    exp['new'].log(1.0)
    exp.flush()
    say('pending', exp.pending)
"""
    )
    child.send(signal.SIGSTOP)
    small_disk.path.with_name('other').unlink()
    try:
        start(
            'from child import experiment\nexperiment().close()',
            env={'STORE': str(small_disk.path), 'TMPDIR': str(tmp_path / 'tmp')},
        ).finish()
        assert spill_files(tmp_path) == []
    finally:
        child.send(signal.SIGCONT)
    child.tell()
    ended = child.finish()

    assert ended.number('pending') == 0
    small_disk.require('loss', range(FAILING + 1))
    small_disk.require('text', TEXTS)
    small_disk.require('new', [1.0])


@pytest.mark.failure('F26', 'the files are deleted before storage works again')
def test_files_that_somebody_deletes_are_said_to_be_lost(
    spilling: Callable[..., Child], small_disk: Store, tmp_path: Path
) -> None:
    child = spilling("""
    other.unlink()
    from neptune_async.exceptions import RejectedOperationsError
    try:
        exp.flush()
    except RejectedOperationsError as error:
        say('raised', str(error))
    stats = exp.stats()
    assert stats.rejected > 0 and stats.pending == 0
    assert stats.accepted == stats.committed + stats.rejected, stats
    say('rejected', stats.rejected)
""")
    for file in spill_files(tmp_path):
        file.unlink()
    child.tell()
    ended = child.finish()

    assert 'is gone' in next(line for line in ended.lines if line.startswith('raised'))
    kept = small_disk.values('loss')
    assert kept[:1000] == [*range(1000)]
    assert kept == sorted({*kept})
    texts = len(small_disk.values('text'))
    assert len(kept) + texts + ended.number('rejected') == FAILING + len(TEXTS)


@pytest.mark.failure('F26', 'SIGKILL while storage fails and much was spilled')
def test_what_was_spilled_survives_the_death_of_its_process(
    spilling: Callable[..., Child], small_disk: Store, tmp_path: Path, start: Start
) -> None:
    child = spilling('')
    files = spill_files(tmp_path)
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)

    small_disk.path.with_name('other').unlink()
    start(
        'from child import experiment\nexperiment().close()',
        env={'STORE': str(small_disk.path), 'TMPDIR': str(tmp_path / 'tmp')},
    ).finish()
    assert spill_files(tmp_path) == []
    assert files
    stored = small_disk.require_prefix('loss', FAILING - MAX_PENDING, FAILING)
    assert stored >= FAILING - MAX_PENDING


@pytest.mark.failure('F26', 'an experiment is closed and opened again while storage fails')
def test_what_was_spilled_by_close_comes_before_what_is_logged_next(
    small_disk: Store, tmp_path: Path, start: Start
) -> None:
    (tmp_path / 'tmp').mkdir()
    ended = start(
        """
        from child import experiment, fill_disk, say
        from neptune_async.exceptions import StorageError
        exp = experiment()
        exp['loss'].extend(range(1000))
        exp.flush()
        other = fill_disk()
        exp['loss'].extend(range(1000, 20_000))
        try:
            exp.close()
        except StorageError as error:
            say('raised')
        exp = experiment()
        exp['loss'].extend(range(20_000, 40_000))
        try:
            exp.flush()
        except StorageError as error:
            say('raised')
        other.unlink()
        exp.flush()
        say('pending', exp.pending)
        """,
        env={'STORE': str(small_disk.path), 'TMPDIR': str(tmp_path / 'tmp')},
    ).finish()
    assert ended.lines == ['raised', 'raised', 'pending 0']
    assert spill_files(tmp_path) == []
    assert 'Traceback' not in ended.errors
    small_disk.require('loss', range(40_000))


@pytest.mark.failure('F27', 'the file may grow no more (EFBIG), and what waits has left memory')
def test_a_read_of_what_was_spilled_fails_as_storage_does_and_never_answers_without_it(
    run: Run, store: Store
) -> None:
    ended = run("""
        import os, resource, signal
        from child import experiment, say, wait_until
        from neptune_async.exceptions import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        exp = experiment(max_pending=2000, flush_interval=0.01)
        exp['loss'].log(0)
        exp.flush()
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        written = os.path.getsize(os.environ['STORE'] + '-wal')
        resource.setrlimit(resource.RLIMIT_FSIZE, (written + 2000, unlimited[1]))
        exp['loss'].log(1)
        exp['new/x'].log(0)
        for n in range(1200):
            exp['other'].assign(n)
        wait_until(lambda: exp._state.queue.counters.spilled)  # the first, and with it the points

        for read in (exp['loss'].all, exp['new'].exists, exp.namespace_contents):
            try:
                say('answered', read())
            except StorageError:
                say('raised')
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        say(exp['loss'].all())
    """)

    assert ended.lines == ['raised'] * 3 + ['[0.0, 1.0]']
