"""Whatever is kept in a spill file at the end is named in one line on stderr, unless the process is
killed at once.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest

from .harness import Child, Ended, Store, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

COUNT = 10

pytestmark = [pytest.mark.busy, pytest.mark.unmeasured]


def require_named(store: Store, errors: str) -> None:
    """Every spill file is named, and all of them are whole."""
    assert store.spills
    assert [spill for spill in store.spills if str(spill) not in errors] == []
    assert {spill.suffix for spill in store.spills} == {'.spill'}


@pytest.mark.failure('F7', 'SIGTERM or Ctrl-C at each line of the end in turn, while storage fails')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_line_of_the_end_loses_nothing_and_all_is_named(
    run: Run, store: Store, number: signal.Signals, beside: str
) -> None:
    ended = run(
        """
        import os, signal, sys
        from child import experiment, fail_writes, fork, reap, say
        from neptune_async import _held_signals as held_signals, flush_on_signal
        from neptune_async._engine.lifecycle import running_workers
        from neptune_async._engine.worker import outbox, spilled_batches, worker
        number, step = map(int, sys.argv[1:])
        modules = [held_signals, running_workers, outbox, spilled_batches, worker]
        files = {module.__file__ for module in modules}
        fail_writes(lambda: True)

        def end_at(moment):
            exp = experiment(f'EXP-{moment}')
            exp['loss'].extend(range(10))
            seen = set()

            def trace(frame, event, argument):
                if frame.f_code.co_filename not in files:
                    return None
                place = frame.f_code.co_filename, frame.f_lineno
                if event == 'line' and place not in seen:
                    seen.add(place)
                    if len(seen) == moment:
                        say('reached', moment)
                        signal.raise_signal(number)
                return trace

            sys.settrace(trace)

        if number == signal.SIGTERM:
            flush_on_signal()
        moment = 1
        while True:
            reading, writing = os.pipe()
            stdout = os.dup(1)
            os.dup2(writing, 1)
            pid = fork(lambda: end_at(moment))
            os.dup2(stdout, 1)
            os.close(writing)
            with open(reading) as said:
                is_reached = 'reached' in said.read()
            (code,) = reap(pid)
            say('ended', moment, code)
            if not is_reached:
                break
            moment += step
        """,
        int(number),
        -(-2 // trials(1)) if beside == 'idle' else 9,
        limit=180,
    )

    moments = ended.numbers('ended')
    store.tally.trials = len(moments)
    assert moments[-1] > 80
    codes = {line.split()[2] for line in ended.lines}
    assert codes == ({'0', '-15'} if number == signal.SIGTERM else {'0'})
    require_named(store, ended.errors)
    # The worker tries one batch again and again: no second file holds it.
    assert len(store.spills) == len(moments)
    store.open_once()
    assert store.spills == []
    for moment in moments:
        store.require_equal(store.values('loss', f'EXP-{moment}'), [*range(COUNT)])


FAILS = """
    import logging, os, signal, sys
    from child import experiment, fail_writes, wait_until
    from neptune_async import flush_on_signal
    from neptune_async.exceptions import StorageError
    fail_writes(lambda: True)
    logging.getLogger('neptune_async').addHandler(logging.NullHandler())
    logging.getLogger('neptune_async').propagate = False
"""


@pytest.mark.failure('F4', 'SIGTERM with flush_on_signal, after files were written in the meantime')
def test_a_signal_names_the_files_that_made_room_before(run: Run, store: Store) -> None:
    ended = run(
        FAILS
        + """
    flush_on_signal()
    exp = experiment(max_pending=100, flush_interval=0.001)
    for n in range(1000):
        exp['loss'].log(n)
    signal.raise_signal(signal.SIGTERM)
    """,
        code=-signal.SIGTERM,
    )

    assert len(store.spills) > 1
    require_named(store, ended.errors)
    assert len(ended.errors.splitlines()) == 1
    store.open_once()
    store.require('loss', range(1000))


@pytest.mark.failure('F4', 'SIGUSR1 with flush_on_signal, twice while storage fails')
def test_a_second_signal_writes_no_second_copy(run: Run, store: Store) -> None:
    ended = run(
        FAILS
        + """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    flush_on_signal(signal.SIGUSR1)
    exp = experiment()
    exp['loss'].extend(range(10))
    for _ in range(3):
        signal.raise_signal(signal.SIGUSR1)
    """
    )

    (spill,) = store.spills
    # At the signal, and once more at the end.
    assert ended.errors.count(str(spill)) == 2
    store.open_once()
    store.require('loss', range(COUNT))


@pytest.mark.failure('F4', 'SIGUSR1 with flush_on_signal, and the spill file is deleted')
def test_a_batch_whose_file_is_gone_is_spilled_again(run: Run, store: Store) -> None:
    run(
        FAILS
        + """
    from pathlib import Path
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    flush_on_signal(signal.SIGUSR1)
    exp = experiment()
    exp['loss'].extend(range(10))
    wait_until(lambda: exp.stats().retries)  # it is on its way
    signal.raise_signal(signal.SIGUSR1)
    (spill,) = Path(os.environ['STORE'] + '.spilled').iterdir()
    spill.unlink()
    """
    )

    store.open_once()
    store.require('loss', range(COUNT))


@pytest.mark.failure('F11', 'a handler of logging is stuck while a close spills')
def test_a_file_that_the_messenger_could_not_name_is_named_at_the_end(
    run: Run, store: Store
) -> None:
    ended = run(
        FAILS
        + """
    import threading

    class Stuck(logging.Handler):
        def createLock(self):  # or logging would wait for it at the end
            self.lock = None

        def emit(self, record):
            threading.Event().wait()

    logging.getLogger('neptune_async').addHandler(Stuck())
    exp = experiment()
    exp['loss'].extend(range(10))
    try:
        exp.close()
    except StorageError:
        pass
    """
    )

    require_named(store, ended.errors)


@pytest.mark.failure('F4', 'SIGTERM with flush_on_signal, within a print to stderr')
def test_a_signal_within_a_print_to_stderr_names_the_file_and_ends_the_process(
    run: Run, store: Store
) -> None:
    ended = run(
        FAILS
        + """
    import io

    class Interrupted(io.FileIO):
        def write(self, data):
            if b'progress' in bytes(data):
                signal.raise_signal(signal.SIGTERM)
            return super().write(data)

    flush_on_signal()
    exp = experiment()
    exp['loss'].extend(range(10))
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(Interrupted(2, 'w')))
    print('progress', file=sys.stderr, flush=True)
    """,
        code=-signal.SIGTERM,
    )

    require_named(store, ended.errors)


@pytest.mark.failure('F11', 'storage fails after the last spill')
def test_no_file_is_written_after_the_last(run: Run, store: Store) -> None:
    ended = run("""
        import atexit

        @atexit.register
        def last():
            is_over.set()
            wait_until(lambda: exp.stats().retries > 1 or len(spills()) > 1)

        import os, threading
        from pathlib import Path
        import anyio
        from child import experiment, wait_until
        from neptune_async._engine.lifecycle import running_workers
        from neptune_async._storage.sqlite.storage import SQLiteStorage
        from neptune_async.exceptions import StorageError
        running_workers.EXIT_TIMEOUT = 0.5
        is_over = threading.Event()

        def spills():
            return [*Path(os.environ['STORE'] + '.spilled').iterdir()]

        async def write(self, batch, **options):
            while not is_over.is_set():
                await anyio.sleep(0.01)
            raise StorageError('injected')

        exp = experiment(max_pending=100)
        SQLiteStorage.write = write
        for n in range(100):
            exp['loss'].log(n)
        wait_until(lambda: exp._worker._outbox.in_flight)
    """)

    assert 'Traceback' not in ended.errors
    require_named(store, ended.errors)
    store.open_once()
    store.require('loss', range(100))


def test_the_line_names_each_file_once(run: Run, store: Store) -> None:
    ended = run(FAILS + "    experiment()['loss'].extend(range(10))\n")

    assert re.fullmatch(r'neptune_async: 10 operations of EXP .*\n', ended.errors)
    assert ended.errors.count(str(store.spills[0])) == 1
