"""flush_on_signal: a process that is told to end stores first what it has logged."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from neptune_async import flush_on_signal
from neptune_async.exceptions import InvalidArgumentError

from .harness import Child, Store, trials

Start = Callable[..., Child]

# Coverage has a lock that the main thread may hold when the signal comes, and that the worker needs
# to go on: the flush would time out and spill.
pytestmark = [pytest.mark.unmeasured, pytest.mark.busy]

TRAINS = """
    import itertools, os, signal, sys
    from child import experiment, say
    from neptune_async import flush_on_signal
    exp = experiment(flush_interval=60.0)
    exp['loss'].log(0)
    exp.flush()
"""
LOGS = """
    say('open')
    for n in itertools.count(1):
        os.write(1, b'a %d\\n' % n)
        exp['loss'].log(n)
        os.write(1, b'b %d\\n' % n)
"""


def end_by(
    start: Start, store: Store, script: str, code: int, number: signal.Signals = signal.SIGTERM
) -> None:
    """Send SIGTERM to a script in the middle of its logging; all that it logged is stored."""
    child = start(TRAINS + script + LOGS)
    child.wait_for('b', 50)
    child.send(number)
    ended = child.finish(code)
    stored = store.require_prefix('loss', ended.number('b') + 1, ended.number('a') + 1)
    assert stored > 50
    assert 'Traceback' not in ended.errors


@pytest.mark.failure('F4', 'SIGTERM with flush_on_signal')
def test_a_signal_that_ends_the_process_flushes_first(start: Start, store: Store) -> None:
    end_by(start, store, '    flush_on_signal()\n', -signal.SIGTERM)


@pytest.mark.failure('F4', 'SIGHUP, as of a closed terminal, with flush_on_signal')
def test_several_signals_flush_first(start: Start, store: Store) -> None:
    script = (
        # nohup, under which the tests may run, has it ignored.
        '    signal.signal(signal.SIGHUP, signal.SIG_DFL)\n'
        '    flush_on_signal(signal.SIGTERM, signal.SIGHUP)\n'
    )
    end_by(start, store, script, -signal.SIGHUP, signal.SIGHUP)


@pytest.mark.failure('F4', 'SIGTERM with flush_on_signal, again and again within a write')
def test_a_signal_that_interrupts_a_write_flushes_when_that_is_over(
    start: Start, store: Store
) -> None:
    rounds = store.tally.trials = trials(6)
    for number in range(rounds):
        child = start(
            """
            import itertools, os, sys
            from child import experiment
            from neptune_async import flush_on_signal
            exp = experiment(sys.argv[1], flush_interval=60.0)
            flush_on_signal()
            for n in itertools.count():
                os.write(1, b'a %d\\n' % n)
                # Not the short way of log: all of this holds the lock.
                exp['loss'].extend([2 * n, 2 * n + 1])
                os.write(1, b'b %d\\n' % n)
            """,
            f'EXP-{number}',
        )
        child.wait_for('b', 20)
        time.sleep(0.003 * number)
        child.send(signal.SIGTERM)
        ended = child.finish(-signal.SIGTERM)
        store.require_prefix(
            'loss', 2 * ended.number('b') + 2, 2 * ended.number('a') + 2, f'EXP-{number}'
        )


@pytest.mark.failure('F4', 'SIGTERM with flush_on_signal, while a read calls the worker')
def test_a_signal_that_interrupts_a_call_of_the_worker_waits_for_no_other_thread(
    start: Start, store: Store
) -> None:
    child = start(
        TRAINS
        + """
    import threading
    from child import wait_until
    flush_on_signal()
    # A thread that logs holds the queue's lock, and waits for the one of the call.
    def log():
        exp['loss'].log(1)
        os.write(1, b'b 1\\n')

    logs = threading.Thread(target=log)

    def is_logging():
        # The worker may hold it, too, for a moment.
        return f'owner={logs.ident} ' in repr(exp._state.queue.lock)

    exp.flush()
    os.write(1, b'b 0\\n')
    exp._state.queue.rest()  # as the worker does once nothing is logged: the next log wakes it
    loop = exp._worker.thread._loop
    post = loop.call_soon_threadsafe

    def post_interrupted(*args, **options):
        del loop.call_soon_threadsafe
        logs.start()
        wait_until(is_logging)
        signal.raise_signal(signal.SIGTERM)
        return post(*args, **options)

    loop.call_soon_threadsafe = post_interrupted
    exp['loss'].all()
    threading.Event().wait()
"""
    )
    ended = child.finish(-signal.SIGTERM)
    # The thread lets go of the lock before it puts the point, so the end may come in between.
    store.require_prefix('loss', ended.number('b') + 1, 2)


@pytest.mark.failure('F4', 'SIGTERM with flush_on_signal and a handler of the user')
def test_the_handler_that_was_there_comes_next(start: Start, store: Store) -> None:
    end_by(
        start,
        store,
        """
    def handler(number, frame):
        say('handled', number, exp.pending)
        os._exit(7)
    signal.signal(signal.SIGTERM, handler)
    flush_on_signal()
    flush_on_signal(timeout=5.0)  # once more is as once
""",
        7,
    )


@pytest.mark.failure('F4', 'SIGTERM that is ignored, with flush_on_signal')
def test_a_signal_that_was_ignored_only_flushes(start: Start, store: Store) -> None:
    child = start(
        TRAINS
        + """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    flush_on_signal(signal.SIGTERM)
    from child import wait_until
    exp['loss'].log(1)
    say('open')
    wait_until(lambda: exp.pending == 0)
    say('flushed')
    os._exit(0)
"""
    )
    child.wait_for('open')
    child.send(signal.SIGTERM)
    child.finish()
    store.require('loss', [0, 1])


@pytest.mark.failure('F4', 'SIGTERM while the store is held, with flush_on_signal')
def test_what_storage_does_not_take_in_time_is_spilled(start: Start, store: Store) -> None:
    child = start(
        TRAINS
        + """
    flush_on_signal(timeout=0.5)
    from child import hear
    say('open')
    hear()
    for n in range(1, 100):
        exp['loss'].log(n)
    say('logged')
    hear()
"""
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('logged')
        child.send(signal.SIGTERM)
        ended = child.finish(-signal.SIGTERM)
    (spill,) = store.spills
    assert str(spill) in ended.errors
    store.open_once()
    store.require('loss', range(100))


@pytest.mark.failure('F4', 'SIGUSR1 before the end of a time limit, the process goes on')
def test_a_process_that_goes_on_loses_and_doubles_nothing_either(
    start: Start, store: Store
) -> None:
    child = start(
        TRAINS
        + """
    from child import hear, wait_until
    signal.signal(signal.SIGUSR1, lambda *_: say('checkpoint'))
    flush_on_signal(signal.SIGUSR1, timeout=0.5)
    say('open')
    hear()
    for n in range(1, 100):
        exp['loss'].log(n)
    say('logged')
    hear()
    for n in range(100, 200):
        exp['loss'].log(n)
    exp.flush()
    say('pending', exp.pending)
"""
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('logged')
        child.send(signal.SIGUSR1)
        child.wait_for('checkpoint')
        assert len(store.spills) == 1
    child.tell()
    ended = child.finish()
    assert ended.number('pending') == 0
    assert store.spills == []
    store.require('loss', range(200))


@pytest.mark.parametrize(
    ('arguments', 'options', 'match'),
    [
        ((), {'timeout': 0}, 'timeout'),
        ((), {'timeout': 'soon'}, 'timeout'),
        ((signal.SIGKILL,), {}, 'SIGKILL'),
        ((10_000,), {}, '10000'),
        (('SIGTERM',), {}, 'SIGTERM'),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: tuple, options: dict, match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match):
        flush_on_signal(*arguments, **options)
