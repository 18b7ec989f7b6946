"""What surrounds a training: notebooks, clocks, memory that runs out, threads that never pause, and
bytes that somebody put into a store.
"""

from __future__ import annotations

import pickle
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from neptune_async._storage.sqlite.checksums import value_checksum
from neptune_async.exceptions import StorageFormatError

from .harness import Child, Ended, Store

Run = Callable[..., Ended]
Start = Callable[..., Child]


# ── Memory ───────────────────────────────────────────────────────────────────


@pytest.mark.failure('F2', 'the worker is refused memory (RLIMIT_AS), then there is some again')
@pytest.mark.failure('F2', 'the kernel kills for memory: that is a SIGKILL, see F1')
def test_a_batch_that_memory_was_too_short_for_is_tried_again(run: Run, store: Store) -> None:
    ended = run("""
        import resource
        from child import experiment, say
        from neptune_async.exceptions import StorageError
        exp = experiment(flush_interval=60.0)
        exp['text'].log('first')
        exp.flush()
        for n in range(60):
            exp['text'].log(chr(97 + n % 26) * 2**20)
        with open('/proc/self/statm') as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        unlimited = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + 5 * 2**20, unlimited[1]))
        try:
            exp.flush(timeout=30)
        except StorageError as error:
            say('raised', error)
        exp['loss'].log(1.0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        exp.flush()
        stats = exp.stats()
        say('committed', stats.committed)
        say('rejected', stats.rejected)
    """)
    assert 'no memory' in ended.lines[0]
    assert ended.number('committed') == 62
    assert ended.number('rejected') == 0
    store.require('text', ['first', *(chr(97 + n % 26) * 2**20 for n in range(60))])
    store.require('loss', [1.0])


# ── Notebooks ────────────────────────────────────────────────────────────────


@pytest.mark.failure('F15', 'the plain calls inside a running event loop, as in a notebook')
def test_the_synchronous_face_works_inside_a_running_loop(run: Run, store: Store) -> None:
    run("""
        import asyncio
        from child import experiment

        async def cell():
            exp = experiment()
            for n in range(100):
                exp['loss'].log(n)
            assert exp['loss'].all() == [*range(100)]
            exp.flush()
            exp.close()
            exp.close()

        asyncio.run(cell())
    """)
    store.require('loss', range(100))


@pytest.mark.failure('F15', 'a cell is run again, its experiment still open; modules are reloaded')
def test_a_cell_that_runs_again_goes_on(run: Run, store: Store) -> None:
    run("""
        import importlib, sys
        from child import experiment
        cell = 'exp = experiment()\\nfor n in range(10): exp["loss"].log(n)'
        names = {'experiment': experiment}
        for _ in range(3):
            exec(cell, names)
        import neptune_async, neptune_async.experiment
        importlib.reload(neptune_async.experiment)
        importlib.reload(neptune_async)
        again = neptune_async.Experiment('EXP', storage=__import__('os').environ['STORE'])
        again['loss'].log(10)
        assert again['loss'].tail(2) == [9, 10]
    """)
    store.require('loss', [*range(10)] * 3 + [10])


@pytest.mark.unmeasured
@pytest.mark.failure('F15', 'a cell is interrupted in flush, the kernel interrupted, then killed')
def test_a_kernel_that_is_restarted_keeps_what_was_stored(start: Start, store: Store) -> None:
    child = start("""
        import itertools
        from child import experiment, say, wait_until
        exp = experiment(flush_interval=0.01)
        for n in range(100):
            exp['loss'].log(n)
        try:
            say('logged')
            while True:
                exp.flush()
        except KeyboardInterrupt:
            say('interrupted')
        # The next cell
        exp['loss'].log(100)
        exp.flush()
        say('flushed')
        for n in itertools.count(101):
            exp['loss'].log(n)
            say('a', n)
    """)
    child.wait_for('logged')
    child.send(signal.SIGINT)
    child.wait_for('interrupted')
    child.wait_for('flushed')
    child.wait_for('a')
    child.send(signal.SIGKILL)
    ended = child.finish(-signal.SIGKILL)
    store.require_prefix('loss', 101, ended.number('a') + 2)


# ── Clocks ───────────────────────────────────────────────────────────────────


@pytest.mark.failure('F49', 'the clock jumps back an hour, then ahead a day')
def test_a_clock_that_jumps_changes_no_order_and_no_interval(run: Run, store: Store) -> None:
    run("""
        import time
        now, offset = time.time, 0.0
        time.time = lambda: now() + offset
        from child import experiment, wait_until
        exp = experiment(flush_interval=0.01)
        for n, jump in enumerate([0, -3600, -7200, 86_400, 0]):
            offset = jump
            for _ in range(50):
                exp['loss'].log(n)
                exp['wide'].log({'a': n, 'b': n})
            wait_until(lambda: exp.pending == 0)
        exp.flush(timeout=30)
        times = [when for when, _ in exp['loss'].all(with_timestamps=True)]
        assert times == sorted(times)
        assert times[-1] - times[0] > 80_000
    """)
    store.require('loss', [n for n in range(5) for _ in range(50)])
    assert store.steps('loss') == [*range(250)]


# ── A main thread that never pauses ──────────────────────────────────────────


@pytest.mark.failure('F52', 'the main thread computes in pure Python without pause')
def test_a_busy_main_thread_does_not_keep_what_it_logs_from_being_stored(
    run: Run, store: Store
) -> None:
    ended = run("""
        import time
        from child import experiment, say
        exp = experiment(flush_interval=0.05)
        end, n = time.monotonic() + 30.0, 0
        # Never a call that would let go of the GIL.
        while exp.stats().committed < 20_000 and time.monotonic() < end:
            exp['loss'].log(n)
            n += 1
        say('committed', exp.stats().committed)
        say('logged', n)
    """)
    assert ended.number('committed') >= 20_000
    store.require('loss', range(ended.number('logged')))


# ── What somebody put into a store ───────────────────────────────────────────


class _Touches:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, 'w')


@pytest.mark.failure('F48', 'a pickle that runs code, as a value in the store')
def test_a_pickle_in_a_store_is_never_run(run: Run, store: Store) -> None:
    run("""
        from child import experiment
        with experiment() as exp:
            exp['note'].assign('harmless')
            exp['text'].log('harmless')
    """)
    touched = store.path.with_name('touched')
    hostile = pickle.dumps(_Touches(str(touched)))
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.create_function('checksum', 2, value_checksum)
        connection.execute(
            'UPDATE atoms SET value = ?1, crc32 = checksum(variable_id, ?1)', (hostile,)
        )
        connection.execute('UPDATE chunks SET "values" = ?', (hostile,))
        connection.execute('UPDATE log SET points = ?', (hostile,))
    with store.reading() as exp:
        for read in (exp['note'].read, exp['text'].all):
            with pytest.raises(StorageFormatError):
                read()
    assert not touched.exists()
