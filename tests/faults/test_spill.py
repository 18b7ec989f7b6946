"""Storage does not take what is pending at the end: it goes to a file, and from there to the
store exactly once.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neptune_async import Experiment
from neptune_async._storage.base import Receipt
from neptune_async._storage.sqlite.storage import SQLiteStorage
from neptune_async.exceptions import StorageError

from .harness import Child, Ended, Store, mark, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

EXIT_TIMEOUT = 0.5
MARGIN = 10.0
"""Seconds above the bound at which an end counts as a hang."""

EXITS_WHILE_LOCKED = f"""
    import os, sys
    from child import experiment, hear, say
    from neptune_async._engine.lifecycle import running_workers
    running_workers.EXIT_TIMEOUT = {EXIT_TIMEOUT}
    exp = experiment()
    exp['before'].log(1.0)
    exp.flush()
    say('open')
    hear()
    for n in range(1000):
        exp['loss'].log(n)
    exp['text'].log('über')
    exp['note'].assign([1, None, 'three'])
    exp['tags'].add('a', 'b')
    exp['tags'].remove('b')
    say('logged')
"""
OPERATIONS = 1004
OPENS = """
    from child import experiment, hear, say
    say('ready')
    hear()
    experiment().close()
"""


def exit_while_locked(start: Start, store: Store, script: str = EXITS_WHILE_LOCKED) -> Ended:
    """Run a script that goes on, and ends, while another process holds the store."""
    child = start(script)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('logged')
        began = time.monotonic()
        ended = child.finish()
        assert time.monotonic() - began < EXIT_TIMEOUT + MARGIN
    return ended


def require_all(store: Store) -> None:
    """All that EXITS_WHILE_LOCKED wrote is in the store, once, and no spill file is left."""
    assert store.spills == []
    store.require('loss', range(1000))
    store.require('text', ['über'])
    with store.reading() as exp:
        assert exp['note'].read() == [1, None, 'three']
        assert exp['tags'].get() == {'a'}


@pytest.mark.failure('F11', 'the store is held by another process at the end')
def test_the_end_is_bounded_and_one_line_names_count_and_spill_file(
    start: Start, store: Store
) -> None:
    ended = exit_while_locked(start, store)

    (line,) = ended.errors.splitlines()
    (spill,) = store.spills
    assert f'{OPERATIONS:,}' in line
    assert 'EXP' in line
    assert str(spill) in line
    assert store.points() == 1
    assert store.values('before') == [1.0]


@pytest.mark.failure('F11', 'the next open takes a spill in')
def test_the_next_open_takes_the_spill_in_once(start: Start, store: Store) -> None:
    exit_while_locked(start, store)

    for _ in range(3):
        store.open_once()
        require_all(store)


@pytest.mark.failure('F11', 'python -m neptune_async recover')
def test_the_command_that_the_line_names_takes_the_spill_in(start: Start, store: Store) -> None:
    command = [sys.executable, '-m', 'neptune_async', 'recover', '--storage', store.path]

    def recover() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    nothing = recover()
    assert (nothing.returncode, nothing.stdout) == (2, '')
    assert nothing.stderr.count('\n') == 1
    assert str(store.path) in nothing.stderr
    ended = exit_while_locked(start, store)
    assert 'python -m neptune_async recover' in ended.errors
    (spill,) = store.spills
    content = spill.read_bytes()

    done = recover()
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == f'{spill}: {OPERATIONS:,} operations are in {store.path} now\n'
    require_all(store)
    again = recover()
    assert (again.returncode, again.stderr) == (0, '')
    assert again.stdout == f'nothing was left behind beside {store.path}\n'

    damaged = spill.with_name('damaged.spill')
    damaged.write_bytes(content[:-1])
    failed = recover()
    assert (failed.returncode, failed.stdout) == (1, '')
    assert str(damaged) in failed.stderr
    assert damaged.exists()


@pytest.mark.failure('F11', 'the process was to end by an exception')
@pytest.mark.parametrize(
    ('end', 'code'), [('raise ValueError', 1), ('sys.exit(3)', 3), ('raise KeyboardInterrupt', -2)]
)
def test_a_spill_keeps_the_exit_code(start: Start, store: Store, end: str, code: int) -> None:
    child = start(EXITS_WHILE_LOCKED + f'    {end}\n')
    child.wait_for('open')
    with store.held():
        child.tell()
        ended = child.finish(code)

    assert ended.errors.count(str(store.spills[0])) == 1
    store.open_once()
    require_all(store)


@pytest.mark.unmeasured
@pytest.mark.failure('F11', 'Ctrl-C while the end waits for the store')
def test_ctrl_c_ends_the_wait_and_what_is_pending_is_spilled(start: Start, store: Store) -> None:
    child = start(
        EXITS_WHILE_LOCKED.replace(f'EXIT_TIMEOUT = {EXIT_TIMEOUT}', 'EXIT_TIMEOUT = 600.0')
        + """
    import threading, traceback
    from child import wait_until

    def waits_in_the_exit_handler():
        frame = sys._current_frames()[threading.main_thread().ident]
        names = [summary.name for summary in traceback.extract_stack(frame)]
        return 'finish' in names and names[-1] == 'wait'

    def tell_when_it_waits():
        wait_until(waits_in_the_exit_handler)
        say('waiting')

    threading.Thread(target=tell_when_it_waits, daemon=True).start()
"""
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('waiting')
        child.send(signal.SIGINT)
        ended = child.finish()

    (line,) = ended.errors.splitlines()
    assert str(store.spills[0]) in line
    store.open_once()
    require_all(store)


@pytest.mark.failure('F11', 'close() while the store is held')
def test_a_close_that_times_out_raises_and_spills(start: Start, store: Store) -> None:
    ended = exit_while_locked(
        start,
        store,
        EXITS_WHILE_LOCKED
        + """
    from neptune_async.exceptions import FlushTimeoutError
    try:
        exp.close(timeout=0.2)
    except FlushTimeoutError as error:
        say('pending', error.pending)
""",
    )

    (line,) = ended.errors.splitlines()
    assert ended.number('pending') == OPERATIONS
    assert str(store.spills[0]) in line
    store.open_once()
    require_all(store)


@pytest.mark.failure('F11', 'two and eight processes open at once after a spill')
@pytest.mark.parametrize('processes', [2, 8])
def test_of_many_that_open_at_once_one_takes_the_spill_in(
    start: Start, store: Store, processes: int
) -> None:
    for trial in range(trials(3)):
        store.path.with_name('again').mkdir(exist_ok=True)
        again = Store(store.path.with_name('again') / f'{trial}.db', store.tally)
        env = {'STORE': str(again.path)}
        child = start(EXITS_WHILE_LOCKED, env=env)
        child.wait_for('open')
        with again.held():
            child.tell()
            child.finish()
        opening = [start(OPENS, env=env) for _ in range(processes)]
        for one in opening:
            one.wait_for('ready')
        for one in opening:
            one.tell()
        ended = [one.finish() for one in opening]

        assert ['Traceback' in one.errors for one in ended] == [False] * processes
        assert sum('was taken in' in one.errors for one in ended) >= 1
        assert 'was not taken in' not in ''.join(one.errors for one in ended)
        require_all(again)


@pytest.mark.failure('F11', 'many spill files of many processes')
def test_many_spills_are_taken_in_together(start: Start, store: Store) -> None:
    script = f"""
        import sys
        from child import experiment, hear, say
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = {EXIT_TIMEOUT}
        exp = experiment()
        for n in range(10):
            exp['loss'].log(float(int(sys.argv[1]) * 10**9 + n))
        exp.flush()
        say('open')
        hear()
        for n in range(10, 1000):
            exp['loss'].log(float(int(sys.argv[1]) * 10**9 + n))
    """
    children = [start(script, writer) for writer in range(4)]
    for child in children:
        child.wait_for('open')
    with store.held():
        for child in children:
            child.tell()
        for child in children:
            child.finish()
    assert len(store.spills) == 4

    store.open_once()
    assert store.spills == []
    store.require_interleaved('loss', dict.fromkeys(range(4), 1000))


@pytest.mark.failure('F11', 'a spill file that the disk has no room for, and a later one')
def test_a_later_spill_waits_for_an_earlier_one_that_storage_does_not_take(
    start: Start, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
        import sys
        from child import experiment, hear, say
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = {EXIT_TIMEOUT}
        exp = experiment()
        say('open')
        hear()
        exp['loss'].extend(range(int(sys.argv[1]), int(sys.argv[1]) + 10))
    """
    children = [start(script, first) for first in (0, 10)]
    for child in children:
        child.wait_for('open')
    with store.held():
        for child in children:
            child.tell()
            child.finish()
    assert len(store.spills) == 2

    write = SQLiteStorage.write
    faults = [StorageError('the disk is full')]

    async def write_once_there_is_room(self: SQLiteStorage, *args: Any, **options: Any) -> Receipt:
        if faults:
            raise faults.pop()
        return await write(self, *args, **options)

    monkeypatch.setattr(SQLiteStorage, 'write', write_once_there_is_room)
    with Experiment('EXP', storage=store.path) as exp:
        exp['loss'].extend(range(20, 30))
    assert store.spills == []
    store.require('loss', range(30))


LOSES_THE_REPLY = """
    import sys
    from child import experiment, say, wait_until
    from neptune_async._engine.lifecycle import running_workers
    from neptune_async._storage.sqlite.storage import SQLiteStorage
    from neptune_async.exceptions import StorageBusyError, StorageError
    write = SQLiteStorage.write
    fault = StorageBusyError if sys.argv[1] == 'busy' else StorageError
    lost = int(sys.argv[2])
    if lost > 100:
        running_workers.EXIT_TIMEOUT = 0.5

    async def commit_and_fail(self, batch, **options):
        global lost
        receipt = await write(self, batch, **options)
        if batch.parts and any(part.points for part in batch.parts) and lost:
            lost -= 1
            raise fault('the reply was lost')
        return receipt

    SQLiteStorage.write = commit_and_fail
    exp = experiment()
    for n in range(1000):
        exp['loss'].log(n)
        if n == 300:
            wait_until(lambda: exp.stats().retries > 0)
    if lost < 100:
        wait_until(lambda: exp.pending == 0)
"""


@pytest.mark.failure('F11', 'the spilled batch had been committed')
@pytest.mark.parametrize('fault', ['busy', 'failed'])
def test_a_spilled_batch_that_had_been_committed_is_not_stored_again(
    run: Run, store: Store, fault: str
) -> None:
    ended = run(LOSES_THE_REPLY, fault, 10**9)

    assert len(store.spills) == 1
    assert 'Traceback' not in ended.errors
    store.open_once()
    assert store.spills == []
    store.require('loss', range(1000))


@pytest.mark.failure('F11', 'the reply of a commit is lost, then storage works again')
@pytest.mark.parametrize('fault', ['busy', 'failed'])
def test_a_batch_that_is_sent_again_is_stored_once(run: Run, store: Store, fault: str) -> None:
    run(LOSES_THE_REPLY, fault, 3)

    assert store.spills == []
    store.require('loss', range(1000))


@pytest.mark.failure('F11', 'the owner of a spill lives on and stores it, too')
def test_a_spill_whose_owner_lives_on_is_stored_once(start: Start, store: Store) -> None:
    child = start("""
        from child import experiment, hear, say, wait_until
        from neptune_async.exceptions import FlushTimeoutError
        kept = experiment('OTHER')  # keeps the worker alive, which goes on trying
        exp = experiment()
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 1000):
            exp['loss'].log(n)
        wait_until(lambda: exp.stats().retries > 0)
        for n in range(1000, 1010):
            exp['loss'].log(n)
        try:
            exp.close(timeout=0.2)
        except FlushTimeoutError:
            say('spilled')
        hear()
        kept['loss'].log(1.0)
        kept.flush()
        again = experiment()
        again['loss'].log(1010)
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('spilled')
        assert len(store.spills) == 1
    child.tell()
    child.finish()

    store.open_once()
    assert store.spills == []
    found = store.values('loss')
    # What was spilled comes in when the store is next opened, which is after 1010 was logged.
    store.tally.lost += len({*range(1011)} - {*found})
    store.tally.doubled += len(found) - len({*found})
    assert sorted(found) == [*range(1011)]


@pytest.mark.failure('F11', 'a spill is as large as memory allows')
def test_a_spill_of_many_points_comes_back_bit_for_bit(start: Start, store: Store) -> None:
    exit_while_locked(
        start,
        store,
        f"""
        import math
        from child import experiment, hear, say
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = {EXIT_TIMEOUT}
        exp = experiment(max_pending=10**6)
        exp['loss'].log(0.0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 300_000):
            exp['loss'].log(math.sin(n))
        exp['odd'].extend([math.nan, math.inf, -math.inf, -0.0, 5e-324])
        exp['text'].extend(['\\x00', '\\ud800', '\\U0001f600', ''])
        say('logged')
        """,
    )
    store.open_once()

    import math

    store.require('loss', [math.sin(n) for n in range(300_000)])
    assert repr(store.values('odd')) == '[nan, inf, -inf, -0.0, 5e-324]'
    assert store.values('text') == ['\x00', '\ud800', '\U0001f600', '']


@pytest.mark.failure('F11', 'two stores are held, and nobody reads stderr')
def test_a_broken_stderr_keeps_no_store_from_being_spilled(
    start: Start, store: Store, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    other = Store(tmp_path / 'other.db', store.tally)
    child = start(
        f"""
        from child import experiment, hear, say
        from neptune_async import Experiment
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = {EXIT_TIMEOUT}
        both = [experiment(), Experiment('EXP', storage='other.db')]
        for exp in both:
            exp['loss'].log(0)
            exp.flush()
        say('open')
        hear()
        for exp in both:
            for n in range(1, 1000):
                exp['loss'].log(n)
        """,
        stderr=writing,
    )
    os.close(writing)
    child.wait_for('open')
    os.close(reading)
    with store.held(), other.held():
        child.tell()
        child.finish(code=None)

    for one in (store, other):
        one.open_once()
        one.require('loss', range(1000))


@pytest.mark.failure('F11', 'the folder of the spill cannot be written to')
def test_a_spill_goes_to_the_temporary_folder_if_it_must(
    start: Start, store: Store, tmp_path: Path
) -> None:
    # A file where the folder would be: what root, too, cannot write to.
    Path(f'{store.path}.spilled').write_text('in the way')
    temporary = tmp_path / 'tmp'
    temporary.mkdir()
    child = start(EXITS_WHILE_LOCKED, env={'TMPDIR': str(temporary)})
    child.wait_for('open')
    with store.held():
        child.tell()
        ended = child.finish()

    (spill,) = temporary.rglob('*.spill')
    assert str(spill) in ended.errors
    opening = start(OPENS, env={'TMPDIR': str(temporary)})
    opening.tell()
    opening.finish()
    Path(f'{store.path}.spilled').unlink()
    require_all(store)


@pytest.mark.failure('F11', 'a spill file is damaged')
@pytest.mark.parametrize('damage', ['cut', 'flipped', 'foreign', 'empty'])
def test_a_damaged_spill_is_left_as_it_is_and_named(
    start: Start, run: Run, store: Store, damage: str
) -> None:
    exit_while_locked(start, store)
    (spill,) = store.spills
    content = spill.read_bytes()
    middle = len(content) // 2
    damaged = {
        'cut': content[:middle],
        'flipped': content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        'foreign': b'something else\n',
        'empty': b'',
    }[damage]
    spill.write_bytes(damaged)

    ended = run("""
        from child import experiment
        with experiment() as exp:
            exp['loss'].log(7)
    """)

    assert 'Traceback' not in ended.errors
    assert str(spill) in ended.errors
    assert 'was not taken in' in ended.errors
    assert spill.read_bytes() == damaged
    store.require('loss', [7.0])


@pytest.mark.failure('F11', 'a process is killed while it takes a spill in')
def test_a_spill_that_was_taken_in_and_not_removed_is_not_taken_in_again(
    start: Start, store: Store
) -> None:
    exit_while_locked(start, store)
    (spill,) = store.spills
    content = spill.read_bytes()
    store.open_once()

    spill.write_bytes(content)  # as if the process had died before it removed the file
    store.open_once()

    require_all(store)


@pytest.mark.failure('F11', 'the experiment was deleted before its spill comes in')
def test_a_spill_of_a_deleted_experiment_makes_it_anew(
    start: Start, run: Run, store: Store
) -> None:
    child = start(EXITS_WHILE_LOCKED)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.finish()
    (spill,) = store.spills
    away = spill.rename(store.path.with_name('away'))
    run("""
        import os
        from neptune_async import delete_experiment
        delete_experiment('EXP', storage=os.environ['STORE'])
    """)
    away.rename(spill)

    store.open_once()

    require_all(store)


@pytest.mark.failure('F11', 'others write between a spill and its return')
def test_a_spill_is_appended_to_what_others_wrote_meanwhile(
    start: Start, run: Run, store: Store
) -> None:
    exit_while_locked(
        start,
        store,
        f"""
        from child import experiment, hear, log_marked, say
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = {EXIT_TIMEOUT}
        exp = experiment()
        say('open')
        hear()
        log_marked(exp, 1, range(1000))
        say('logged')
        """,
    )
    (spill,) = store.spills
    away = spill.rename(store.path.with_name('away'))
    run("""
        from child import experiment, log_marked
        exp = experiment()
        log_marked(exp, 2, range(1000))
    """)
    away.rename(spill)

    store.open_once()

    store.require_interleaved('loss', {1: 1000, 2: 1000})
    assert store.steps('loss') == [*range(2000)]
    assert store.values('loss')[0] == mark(2, 0)


@pytest.mark.failure('F11', 'the store is in memory')
def test_nothing_is_said_of_a_store_in_memory(run: Run) -> None:
    ended = run("""
        from neptune_async import Experiment
        exp = Experiment('EXP', storage=':memory:')
        off = Experiment('EXP', mode='disabled')
        for n in range(1000):
            exp['loss'].log(n)
            off['loss'].log(n)
    """)

    assert ended.errors == ''


def test_the_line_says_what_was_left(start: Start, store: Store) -> None:
    ended = exit_while_locked(start, store)

    assert re.fullmatch(
        rf'neptune_async: {OPERATIONS:,} operations of EXP could not be stored in \S+ \(.+\); '
        rf'they are kept in \S+\.spill, .*\n',
        ended.errors,
    )
    assert sys.executable not in ended.errors


def test_the_line_names_no_experiment_of_which_nothing_was_left(start: Start, store: Store) -> None:
    script = EXITS_WHILE_LOCKED.replace(
        'exp.flush()', "other = experiment('OTHER')\n    exp.flush()"
    )

    ended = exit_while_locked(start, store, script)

    assert f'{OPERATIONS:,} operations of EXP could not be stored' in ended.errors
    assert 'OTHER' not in ended.errors
