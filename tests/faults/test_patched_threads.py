"""gevent or eventlet replaces the threads of Python: all works, or one sentence says what to do."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

from neptune_async import Experiment

from .harness import Ended, Store

Run = Callable[..., Ended]

pytest.importorskip('gevent')


@pytest.mark.unmeasured
@pytest.mark.failure('F23', 'gevent replaces threads before the library is imported')
def test_threads_that_are_replaced_first_work(run: Run, store: Store) -> None:
    run("""
        import gevent.monkey
        gevent.monkey.patch_all()
        import gevent
        from child import experiment
        with experiment() as exp:
            gevent.joinall([gevent.spawn(exp['loss'].log, n) for n in range(10)])
            exp.flush()
            assert exp['loss'].all() == list(range(10))
    """)

    store.require('loss', range(10))


@pytest.mark.unmeasured
@pytest.mark.failure('F23', 'eventlet replaces threads before the library is imported, and forks')
def test_threads_that_eventlet_replaces_first_work_and_so_does_a_fork(
    run: Run, store: Store
) -> None:
    # Not imported here: it would warn of each fork of the tests.
    if find_spec('eventlet') is None:
        pytest.skip('eventlet is not installed')
    ended = run("""
        import warnings
        warnings.simplefilter('ignore')  # it says of itself that nobody should begin with it
        import eventlet
        eventlet.monkey_patch()
        import os, sys
        from child import experiment
        exp = experiment()
        pool = eventlet.GreenPool()
        for n in range(10):
            pool.spawn(exp['loss'].log, n)
        pool.waitall()
        exp.flush()
        child = os.fork()
        if not child:
            exp['loss'].log(10)
            exp.close()
            sys.exit()
        os.waitpid(child, 0)
        assert exp['loss'].all() == list(range(11))
        exp.close()
    """)

    assert ended.errors == ''
    store.require('loss', range(11))


@pytest.mark.unmeasured
@pytest.mark.failure('F23', 'gevent replaces threads in a child that was forked before')
def test_threads_that_are_replaced_late_are_told_and_nothing_is_lost(
    run: Run, store: Store
) -> None:
    ended = run("""
        import os
        from child import experiment, say
        from neptune_async.exceptions import StorageError
        exp = experiment()
        exp['loss'].log(0)
        exp.flush()
        if os.fork():
            os.wait()
        else:
            import gevent.monkey
            gevent.monkey.patch_all()
            for n in range(1, 10):
                exp['loss'].log(n)
            for call in (exp.flush, exp['loss'].all, lambda: experiment('OTHER')):
                try:
                    call()
                except StorageError as error:
                    say('told', 'patch first' in str(error))
    """)

    assert ended.lines == ['told True'] * 3
    assert 'are kept in' in ended.errors
    Experiment('EXP', storage=store.path).close()  # takes in what was kept
    store.require('loss', range(10))
