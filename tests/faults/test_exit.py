"""The process ends, by every road, and nobody has closed anything: all is stored."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import LIMIT, Child, Ended, Store, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

COUNT = 1000

pytestmark = pytest.mark.busy


@pytest.mark.failure('F7', 'the program falls off its end')
def test_falling_off_the_end_stores_everything(run: Run, store: Store) -> None:
    ended = run("""
        from child import experiment, log_numbers
        exp = experiment()
        log_numbers(exp, range(1000))
        exp['note'].assign('end')
        exp['tags'].add('a', 'b')
    """)

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'the program falls off its end, development mode')
def test_no_warning_is_given_at_exit_in_development_mode(run: Run, store: Store) -> None:
    ended = run(
        """
        from child import experiment, log_numbers
        exp = experiment()
        log_numbers(exp, range(1000))
        """,
        options=['-X', 'dev'],
    )

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'the program ends in a function, its experiment let go of')
def test_an_experiment_that_nobody_holds_is_stored(run: Run, store: Store) -> None:
    ended = run("""
        from child import experiment, log_numbers

        def train():
            exp = experiment()
            log_numbers(exp, range(1000))

        train()
    """)

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'many experiments and stores are open at the end')
def test_every_experiment_of_every_store_is_stored(run: Run, store: Store, tmp_path: Path) -> None:
    run("""
        from child import experiment, log_numbers
        from neptune_async import Experiment
        kept = [experiment(f'EXP-{n}') for n in range(10)]
        kept += [Experiment(f'EXP-{n}', storage=f'other-{n}.db') for n in range(10)]
        for exp in kept:
            log_numbers(exp, range(100))
    """)

    for n in range(10):
        store.require('loss', range(100), name=f'EXP-{n}')
        Store(tmp_path / f'other-{n}.db', store.tally).require('loss', range(100), name=f'EXP-{n}')


UNHANDLED = """
    import sys
    if 'track' in sys.argv:
        from child import experiment
        log = experiment()['loss'].log
    else:
        log = print

    def train():
        for n in range(1000):
            log(n)
        raise ValueError('diverged')

    train()
"""


@pytest.mark.failure('F7', 'an unhandled exception')
def test_an_unhandled_exception_stores_everything_and_shows_as_ever(run: Run, store: Store) -> None:
    tracked, plain = run(UNHANDLED, 'track', code=1), run(UNHANDLED, 'no', code=1)

    def shown(ended: Ended) -> list[str]:
        return [line for line in ended.errors.splitlines() if 'File' not in line]

    assert 'ValueError: diverged' in tracked.errors
    assert shown(tracked) == shown(plain)
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'an unhandled exception inside `with`')
def test_an_exception_leaves_a_with_block_stored(run: Run, store: Store) -> None:
    ended = run(
        """
        from child import experiment, log_numbers
        with experiment() as exp:
            log_numbers(exp, range(1000))
            raise ValueError('diverged')
        """,
        code=1,
    )

    assert ended.errors.count('Traceback') == 1
    assert ended.errors.rstrip().endswith('ValueError: diverged')
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'sys.exit in the main thread')
def test_sys_exit_keeps_its_code(run: Run, store: Store) -> None:
    ended = run(
        """
        import sys
        from child import experiment, log_numbers
        exp = experiment()
        log_numbers(exp, range(1000))
        sys.exit(3)
        """,
        code=3,
    )

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'sys.exit in a thread')
def test_sys_exit_in_a_thread_ends_that_thread_only(run: Run, store: Store) -> None:
    ended = run("""
        import sys, threading
        from child import experiment, log_numbers
        exp = experiment()

        def log(numbers):
            log_numbers(exp, numbers)
            sys.exit(3)

        thread = threading.Thread(target=log, args=[range(500)])
        thread.start()
        thread.join()
        log_numbers(exp, range(500, 1000))
    """)

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.unmeasured
@pytest.mark.failure('F7', 'Ctrl-C in the training loop')
@pytest.mark.parametrize('body', ['plain', 'with'])
def test_ctrl_c_in_the_training_loop_stores_what_was_logged(
    start: Start, store: Store, body: str
) -> None:
    child = start(
        """
        import contextlib, sys
        from child import experiment, say
        exp = experiment()
        n = 0
        with exp if 'with' in sys.argv else contextlib.nullcontext():
            try:
                while True:
                    exp['loss'].log(n)
                    n += 1
                    if n == 5000:
                        say('training')
            finally:
                say('returned', n)
        """,
        body,
    )
    child.wait_for('training')
    child.send(signal.SIGINT)
    ended = child.finish(code=-signal.SIGINT)

    assert ended.errors.count('Traceback') == 1
    assert ended.errors.rstrip().endswith('KeyboardInterrupt')
    # The call that was interrupted may have enqueued its value before.
    store.require_prefix('loss', ended.number('returned'), ended.number('returned') + 1)


@pytest.mark.failure('F8', "a user's thread outlives the main one")
def test_a_thread_that_outlives_main_goes_on_logging(run: Run, store: Store) -> None:
    ended = run("""
        import threading
        from child import experiment, wait_until
        exp = experiment()

        def train():
            threading.main_thread().join()
            for n in range(1000):
                exp['loss'].log(n)
                if n == 500:
                    wait_until(lambda: exp.pending == 0)

        threading.Thread(target=train).start()
    """)

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F8', 'a thread opens an experiment after main has ended')
def test_a_thread_that_outlives_main_may_open_an_experiment(run: Run, store: Store) -> None:
    if sys.version_info[:3] in {(3, 12, 0), (3, 12, 1), (3, 12, 2)}:
        pytest.skip('this Python starts no thread once main has ended: its issue 113964')
    ended = run("""
        import threading
        from child import experiment, log_numbers

        def train():
            threading.main_thread().join()
            exp = experiment()
            log_numbers(exp, range(1000))

        threading.Thread(target=train).start()
    """)

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F9', 'a daemon thread logs for ever')
@pytest.mark.parametrize('trial', range(5))
def test_what_a_daemon_thread_logs_at_the_end_is_stored_or_counted_as_dropped(
    run: Run, store: Store, trial: int
) -> None:
    ended = run("""
        import atexit

        def report():  # runs last
            before = exp.stats()
            while True:
                stats = exp.stats()
                if stats.dropped > before.dropped or not thread.is_alive():
                    break
            say('accepted', stats.accepted - stats.dropped)
            say('pending', stats.pending)

        atexit.register(report)

        import threading
        from child import experiment, say, wait_until
        exp = experiment()

        def train():
            n = 0
            while True:
                exp['loss'].log(n)
                n += 1

        thread = threading.Thread(target=train, daemon=True)
        thread.start()
        wait_until(lambda: exp.stats().committed > 1000)
    """)

    # One call may have been under way when the queue was closed: then it counts as pending.
    assert ended.number('pending') <= 1
    accepted = ended.number('accepted')
    store.require_prefix('loss', accepted - ended.number('pending'), accepted)
    assert 'could not be stored' not in ended.errors
    assert 'Traceback' not in ended.errors
    assert len(ended.errors.splitlines()) <= 1


@pytest.mark.failure('F10', 'an exit handler logs, registered after the import')
def test_a_log_from_a_later_exit_handler_is_stored(run: Run, store: Store) -> None:
    ended = run("""
        import atexit
        from child import experiment, log_numbers
        exp = experiment()

        @atexit.register
        def last():
            log_numbers(exp, range(1000))
    """)

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F10', 'an exit handler logs, registered before the import')
def test_a_log_from_an_earlier_exit_handler_is_counted_as_dropped(run: Run, store: Store) -> None:
    ended = run("""
        import atexit

        @atexit.register
        def last():
            for n in range(1000, 1010):
                exp['loss'].log(n)
                exp['new'].log(n)
                exp['note'].assign(n)
            stats = exp.stats()
            say('dropped', stats.dropped)
            say('pending', stats.pending)

        from child import experiment, log_numbers, say
        exp = experiment()
        log_numbers(exp, range(1000))
    """)

    assert (ended.number('dropped'), ended.number('pending')) == (30, 0)
    assert 'Traceback' not in ended.errors
    assert len(ended.errors.splitlines()) == 1
    assert 'EXP' in ended.errors
    assert 'dropped' in ended.errors
    store.require('loss', range(COUNT))


@pytest.mark.failure('F10', 'an exit handler flushes and reads, before and after the import')
def test_an_exit_handler_may_flush_read_and_close(run: Run, store: Store) -> None:
    ended = run("""
        import atexit

        @atexit.register
        def last():
            try:
                say('read', int(exp['loss'].tail(1)[0]))
                exp.close()
            except Exception as error:
                say('refused', type(error).__name__)

        from child import experiment, log_numbers, say
        exp = experiment()
        log_numbers(exp, range(1000))

        @atexit.register
        def first():
            exp.flush()
            say('first', int(exp['loss'].tail(1)[0]))
    """)

    assert ended.number('first') == 999
    assert 'Traceback' not in ended.errors
    store.require('loss', range(COUNT))


@pytest.mark.failure('F10', '__del__ logs at shutdown')
def test_a_log_from_del_at_shutdown_does_no_harm(run: Run, store: Store) -> None:
    ended = run("""
        import builtins, sys
        from child import experiment, log_numbers, say
        exp = experiment()

        class Model:
            def __del__(self, exp=exp, say=say):
                exp['loss'].log(1000)
                exp['new'].assign('gone')
                stats = exp.stats()
                say('dropped', stats.dropped, stats.pending)

        log_numbers(exp, range(1000))
        model = Model()
        model.self = model  # a cycle, which is collected when modules are
        builtins.kept = Model()  # the last of all to go
    """)

    assert 'Traceback' not in ended.errors
    assert 'Exception ignored' not in ended.errors
    assert len(ended.numbers('dropped')) == 2
    assert ended.lines[-1] == 'dropped 4 0'
    store.require('loss', range(COUNT))


@pytest.mark.failure('F10', 'weakref.finalize logs at shutdown')
@pytest.mark.parametrize('order', ['before', 'after'])
def test_a_log_from_a_finalizer_at_shutdown_does_no_harm(
    run: Run, store: Store, order: str
) -> None:
    ended = run(
        """
        import sys, weakref

        class Model:
            pass

        model = Model()
        if 'before' in sys.argv:  # registers its exit handler before the library does
            weakref.finalize(model, lambda: last())
        from child import experiment, log_numbers, say
        exp = experiment()
        log_numbers(exp, range(1000))
        if 'after' in sys.argv:
            weakref.finalize(model, lambda: last())

        def last():
            exp['loss'].log(1000)
            stats = exp.stats()
            say('dropped', stats.dropped)
            say('accepted', stats.accepted - stats.dropped)
        """,
        order,
    )

    assert 'Traceback' not in ended.errors
    assert 'Exception ignored' not in ended.errors
    store.require('loss', range(ended.number('accepted')))
    assert ended.number('accepted') + ended.number('dropped') == 1001


@pytest.mark.failure('F12', 'no thread can be started any more')
def test_the_end_needs_no_new_thread(run: Run, store: Store) -> None:
    ended = run("""
        import atexit, threading
        from child import experiment, log_numbers
        exp = experiment()
        log_numbers(exp, range(1000))

        @atexit.register
        def refuse():
            def start(self):
                raise RuntimeError("can't create new thread at interpreter shutdown")
            threading.Thread.start = start
    """)

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F21', 'asyncio.run ends with operations pending')
@pytest.mark.parametrize('end', ['return', 'raise', 'cancel'])
def test_asyncio_run_may_end_with_operations_pending(run: Run, store: Store, end: str) -> None:
    ended = run(
        """
        import asyncio, sys
        from child import experiment, log_numbers

        async def train():
            exp = experiment()
            log_numbers(exp, range(1000))
            if 'raise' in sys.argv:
                raise SystemExit(0)
            if 'cancel' in sys.argv:
                asyncio.get_running_loop().stop()
                await asyncio.sleep(60)

        try:
            asyncio.run(train())
        except RuntimeError as error:  # the loop stopped before its task was done
            assert 'cancel' in sys.argv
        """,
        end,
    )

    assert ended.errors == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'stderr is closed, or a pipe that nobody reads')
@pytest.mark.parametrize('closing', ['os.close(2)', 'sys.stderr.close()', 'sys.stderr = None'])
def test_a_closed_stderr_does_no_harm(run: Run, store: Store, closing: str) -> None:
    ended = run(f"""
        import os, sys
        from child import experiment, log_numbers
        exp = experiment()
        log_numbers(exp, range(1000))
        {closing}
    """)

    assert ended.lines == []
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'the program is read from stdin')
def test_a_program_that_is_read_from_stdin_is_stored(store: Store) -> None:
    ended = subprocess.run(
        [sys.executable, '-'],
        input=(
            'from neptune_async import Experiment\n'
            f'exp = Experiment("EXP", storage={str(store.path)!r})\n'
            'for n in range(1000):\n'
            '    exp["loss"].log(n)\n'
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={'PYTHONPATH': ':'.join(sys.path)},
    )

    assert ended.stderr == ''
    store.require('loss', range(COUNT))


@pytest.mark.failure('F7', 'SIGTERM, whose handler calls sys.exit, while the last flush waits')
@pytest.mark.parametrize('where', ['close', 'with', 'exit'])
def test_sys_exit_in_a_handler_while_storage_is_waited_for_keeps_everything(
    start: Start, store: Store, where: str
) -> None:
    child = start(
        """
        import os, signal, sys, threading
        from child import experiment, hear, log_numbers, say, wait_until
        from neptune_async import Experiment
        from neptune_async._engine.worker.reply import Reply
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        where, = sys.argv[1:]
        ends = False

        def terminate():
            main, wait = threading.main_thread().ident, Reply.wait.__code__
            wait_until(lambda: ends and sys._current_frames()[main].f_code is wait)
            os.kill(os.getpid(), signal.SIGTERM)

        other = Experiment('OTHER', storage='other.db')
        exp = experiment()
        other['loss'].log(0)
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        log_numbers(exp, range(1, 1000))
        threading.Thread(target=terminate, daemon=True).start()
        ends = True
        if where == 'close':
            exp.close()
        if where == 'with':
            with exp:
                pass
        """,
        where,
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        ended = child.finish(0 if where == 'exit' else 143)

    (spill,) = store.spills
    assert str(spill) in ended.errors
    assert 'Traceback' not in ended.errors
    store.open_once()
    store.require('loss', range(COUNT))
    other = Store(store.path.with_name('other.db'), store.tally)
    other.require('loss', [0], 'OTHER')


@pytest.mark.failure('F7', 'two threads close one experiment while another process holds the store')
def test_two_that_close_at_once_keep_everything(run: Run, store: Store) -> None:
    ended = run(
        """
        import os, sqlite3, threading
        from child import experiment, say
        from neptune_async.exceptions import FlushTimeoutError
        keeper = experiment('OTHER')
        for round in range(10):
            both = [experiment(), experiment()]
            both[0].flush()
            holder = sqlite3.connect(os.environ['STORE'], isolation_level=None)
            holder.execute('BEGIN IMMEDIATE')
            for n in range(100):
                both[n % 2]['loss'].log(100 * round + n)

            def close(exp):
                try:
                    exp.close(timeout=0.2)
                except FlushTimeoutError:
                    say('late')

            threads = [threading.Thread(target=close, args=(exp,)) for exp in both]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            holder.execute('ROLLBACK')
            holder.close()
        """
    )

    assert ended.lines.count('late') == 20
    store.tally.trials = 10
    store.open_once()
    store.require('loss', range(1000))


@pytest.mark.failure('F7', 'a thread goes on logging while another closes the experiment')
def test_what_was_logged_before_a_close_refuses_it_is_stored(
    run: Run, store: Store, beside: str
) -> None:
    rounds = trials(300 if beside == 'idle' else 50)
    ended = run(
        """
        import sys, threading
        from child import experiment, say, wait_until
        from neptune_async.exceptions import ExperimentClosedError
        n = 0
        if sys.argv[2] == 'idle':
            sys.setswitchinterval(1e-5)  # between any two bytecodes another thread comes in

        def log(view):
            global n
            try:
                while True:
                    view.log(n)
                    n += 1
            except ExperimentClosedError:
                pass

        for round in range(int(sys.argv[1])):
            exp, before = experiment(), n
            thread = threading.Thread(target=log, args=(exp['loss'],))
            thread.start()
            wait_until(lambda: n > before + 100)
            exp.close()
            thread.join()
        say('returned', n)
        """,
        rounds,
        beside,
        limit=LIMIT * trials(1),
    )

    store.tally.trials = rounds
    store.require('loss', range(ended.number('returned')))


@pytest.mark.failure('F15', 'an experiment is closed in __del__ while the interpreter ends')
@pytest.mark.parametrize('cycle', [False, True])
def test_a_close_in_del_at_shutdown_does_no_harm(run: Run, store: Store, cycle: bool) -> None:
    ended = run(
        """
        import sys
        from child import experiment, say

        class Logger:
            def __init__(self):
                self.exp = experiment()

            def __del__(self):
                self.exp.close()
                say('closed')

        logger = Logger()
        logger.exp['loss'].log(1)
        if sys.argv[1] == 'True':
            logger.itself = logger
        """,
        cycle,
    )

    assert ended.errors == ''
    assert ended.lines in ([], ['closed'])  # Python need not free what is in a cycle
    store.require('loss', [1])


@pytest.mark.failure('F7', 'SIGTERM while what is left at the end is written to a spill file')
def test_a_second_flush_on_signal_waits_for_the_last_spill(start: Start, store: Store) -> None:
    child = start(
        """
        import os, signal
        from child import experiment, hear, log_numbers, say
        from neptune_async import flush_on_signal
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = 1.0
        flush_on_signal(timeout=1.0)
        exp = experiment()
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        log_numbers(exp, range(1, 1000))

        def interrupted(descriptor):
            os.fsync = fsync
            os.kill(os.getpid(), signal.SIGTERM)
            return fsync(descriptor)

        fsync, os.fsync = os.fsync, interrupted
        """
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        child.process.wait(30)
    ended = child.finish(child.process.returncode)

    assert store.spills
    assert all(str(spill) in ended.errors for spill in store.spills)
    store.open_once()
    store.require('loss', range(COUNT))
