"""Handlers of logging and callbacks that log to the experiment themselves: nothing waits for ever,
and nothing feeds itself.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness import Ended, Store

Run = Callable[..., Ended]

KEPT = """
    import logging, resource, signal, threading
    from child import experiment, say, wait_until

    class ToExperiment(logging.Handler):
        def emit(self, record):
            exp['log'].log(self.format(record))
"""


@pytest.mark.failure('F14', 'a handler at DEBUG logs to an experiment whose queue gets full')
def test_a_handler_at_debug_and_a_full_queue_go_on(run: Run, store: Store) -> None:
    ended = run(
        KEPT
        + """
    exp = experiment(max_pending=500)
    logging.basicConfig(level=logging.DEBUG, handlers=[ToExperiment()])
    for number in range(20_000):
        exp['loss'].log(number)
    exp.close()
    say('closed')
    """
    )

    assert ended.lines[-1] == 'closed'
    store.require('loss', range(20_000))


@pytest.mark.failure('F14', 'a handler at WARNING logs to an experiment whose disk is full')
def test_a_handler_at_warning_and_a_full_disk_go_on_once_there_is_room(
    run: Run, store: Store
) -> None:
    ended = run(
        KEPT
        + """
    exp = experiment(max_pending=200)
    exp['loss'].log(0)
    exp.flush()
    logging.basicConfig(level=logging.WARNING, handlers=[ToExperiment()])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))

    def make_room():
        wait_until(lambda: exp.stats().last_error is not None)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    threading.Thread(target=make_room).start()
    for number in range(1, 2_000):
        exp['loss'].log(number)
    exp.close()
    say('closed')
    """,
        limit=120,
    )

    assert ended.lines[-1] == 'closed'
    store.require('loss', range(2_000))
    assert any('waits in memory' in text for text in store.values('log'))


@pytest.mark.failure('F14', 'a handler at DEBUG logs to an experiment that is idle')
def test_a_handler_that_logs_to_the_experiment_does_not_feed_itself(run: Run, store: Store) -> None:
    run(
        KEPT
        + """
    exp = experiment(flush_interval=0.01)
    logging.basicConfig(level=logging.DEBUG, handlers=[ToExperiment()])
    for number in range(100):
        exp['loss'].log(number)
        exp.flush()
    exp.close()
    """
    )

    store.require('loss', range(100))
    # A flush is no news, and neither aiosqlite nor asyncio speaks on the threads of the library.
    assert store.values('log') == []


@pytest.mark.failure('F14', 'on_error logs to a path that storage rejects')
def test_an_on_error_that_logs_does_not_feed_itself(run: Run, store: Store) -> None:
    ended = run(
        """
    import os, subprocess, sys
    from child import experiment, say, wait_until
    calls = 0

    def on_error(error):
        global calls
        calls += 1
        exp['taken'].log(1.0)

    exp = experiment(on_error=on_error, flush_interval=0.01)
    exp['loss'].log(0)
    exp.flush()
    other = "from child import experiment; experiment('EXP')['taken'].assign('a text')"
    subprocess.run([sys.executable, '-c', other], check=True)
    exp['taken'].log(1.0)
    wait_until(lambda: calls and not exp.pending)
    for number in range(50):
        exp['loss'].log(number)
        try:
            exp.flush()
        except Exception:
            pass
    say('calls', calls)
    os._exit(0)
    """
    )

    assert ended.number('calls') == 1
