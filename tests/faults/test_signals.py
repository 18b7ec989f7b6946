"""Signals, interrupts and finalizers come in at the worst moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import LIMIT, Child, Ended, Store, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]


pytestmark = pytest.mark.unmeasured


@pytest.mark.busy
@pytest.mark.failure('F13', 'Ctrl-C again and again during log and flush')
def test_interrupts_lose_nothing_that_returned(start: Start, store: Store) -> None:
    interrupts = trials(300)
    child = start(
        """
        import signal, sys
        from child import experiment, say, wait_until
        exp = experiment(flush_interval=0.002)
        returned, n, interrupted, armed = [], 0, 0, False

        def interrupt(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        say('ready')
        while interrupted < int(sys.argv[1]):
            try:
                armed = True
                exp['loss'].log(n)
                returned.append(n)
                n += 1
                exp[f'some/{n % 100}'].log(n)
                if n % 50 == 0:
                    exp.flush()
                    exp['loss'].tail(1)
                armed = False
            except KeyboardInterrupt:
                interrupted += 1
                n += 1
        exp['loss'].log(n)
        returned.append(n)
        wait_until(lambda: exp.pending == 0)  # the worker is alive
        exp.flush()
        say('interrupted', interrupted)
        for n in returned:
            say('returned', n)
        """,
        interrupts,
        limit=LIMIT * trials(1),
    )
    child.wait_for('ready')
    while child.process.poll() is None and not child.has_said('interrupted'):
        child.send(signal.SIGINT)
        time.sleep(0.003)
    ended = child.finish()

    store.tally.trials = ended.number('interrupted')
    assert 'Traceback' not in ended.errors
    store.require_whole()
    found = store.values('loss')
    assert found == sorted({*found})  # in order, and none twice
    lost = {*ended.numbers('returned')} - {*found}
    store.tally.lost += len(lost)
    assert lost == set()
    # Of the calls that were interrupted some have enqueued their value.
    assert len(found) <= len(ended.numbers('returned')) + interrupts


INTERRUPTED_EVERYWHERE = """
    import linecache, os, sys
    from child import experiment, say, wait_until
    import neptune_async
    package = os.path.dirname(neptune_async.__file__)
    exp = experiment(flush_interval=0.01)
    exp['loss'].log(0)
    exp.flush()

    def in_package(code):
        return code.co_filename.startswith(package)

    def interrupt():
        raise KeyboardInterrupt

    def interrupted_at(moment, call, is_meant=in_package, handle=interrupt):
        '''Run a call, interrupted at its n-th line in the code that is meant; whether it returned,
        and whether it has so many lines.

        Not at a `with`, into and out of which a signal's handler does not come.
        '''
        global where
        passed, where = 0, 'nowhere'

        def trace(frame, event, argument):
            global where
            nonlocal passed
            if not is_meant(frame.f_code):
                return None
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if event == 'line' and not line.startswith('with '):
                passed += 1
                if passed == moment:
                    where = f'{os.path.basename(frame.f_code.co_filename)}: {line}'
                    handle()
            return trace

        sys.settrace(trace)
        try:
            call()
        except KeyboardInterrupt:
            return False, True
        finally:
            sys.settrace(None)
        return True, passed >= moment
"""


@pytest.mark.busy
@pytest.mark.failure('F13', 'Ctrl-C at each line of log in turn')
@pytest.mark.parametrize('what', ['known', 'new', 'text', 'dict', 'assign'])
def test_an_interrupt_anywhere_in_a_write_leaves_no_trace_but_that(
    run: Run, store: Store, what: str
) -> None:
    ended = run(
        INTERRUPTED_EVERYWHERE
        + """
    n, moment, returned, reached = 1, 0, [], True
    while reached:
        moment += 1
        wait_until(lambda: exp.pending == 0)  # so that the call has to wake the worker
        what = sys.argv[1]
        call = {
            'known': lambda: exp['loss'].log(n),
            'new': lambda: exp[f'new/{n}'].log(n),
            'text': lambda: exp['texts'].log(str(n)),
            'dict': lambda: exp['dict'].log({'a': n, 'b': n}),
            'assign': lambda: exp[f'atoms/{n}'].assign(n),
        }[what]
        ok, reached = interrupted_at(moment, call)
        if ok:
            returned.append(n)
        n += 1
        # What comes after it is stored by itself, as ever.
        exp['loss'].log(10**6 + n)
        try:
            wait_until(lambda: exp.pending == 0, seconds=2)
        except TimeoutError:
            say('asleep', where)
            exp.flush()
        stats = exp.stats()
        if stats.accepted != stats.committed:
            say('miscounted', where, stats)
            exp.flush()
    say('moments', moment)
    for number in returned:
        say('returned', number)
    """,
        what,
    )

    assert ended.errors == ''
    store.tally.trials = ended.number('moments')
    assert ended.number('moments') > 5
    assert [line for line in ended.lines if line.startswith(('asleep', 'miscounted'))] == []
    store.require_whole()
    later = [value for value in store.values('loss') if value > 10**6]
    store.require_equal(later, [10**6 + n + 1.0 for n in range(1, ended.number('moments') + 1)])
    returned = ended.numbers('returned')
    if what == 'known':
        found = [value for value in store.values('loss') if 0 < value <= 10**6]
        assert {*returned} <= {*found}
        assert found == sorted({*found})
    if what == 'text':
        assert {*map(str, returned)} <= {*store.values('texts')}
    if what == 'dict':
        assert {*returned} <= {*store.values('dict/a')}
        assert store.values('dict/a') == store.values('dict/b')
    with store.reading() as exp:
        for number in returned:
            if what == 'new':
                assert exp[f'new/{number}'].all() == [number]
            if what == 'assign':
                assert exp[f'atoms/{number}'].read() == number


@pytest.mark.busy
@pytest.mark.failure('F13', 'Ctrl-C at each line of flush and of a read in turn')
@pytest.mark.parametrize('what', ['flush', 'read', 'open', 'close'])
def test_an_interrupt_anywhere_in_a_wait_harms_nothing(run: Run, store: Store, what: str) -> None:
    ended = run(
        INTERRUPTED_EVERYWHERE
        + """
    n, moment, reached = 1, 0, True
    kept = []

    def close():
        other = experiment(f'OTHER-{n}')
        other['loss'].log(n)
        say('other', n)
        other.close()

    while reached:
        moment += 1
        exp['loss'].log(n)
        call = {
            'flush': lambda: exp.flush(),
            'read': lambda: exp['loss'].tail(1),
            'open': lambda: kept.append(experiment(f'OTHER-{n}')),
            'close': close,
        }[sys.argv[1]]
        ok, reached = interrupted_at(moment, call)
        n += 1
        exp['loss'].log(n)
        assert exp['loss'].tail(2) == [n - 1, n]
        n += 1
    say('last', n)
    say('moments', moment)
    """,
        what,
    )

    assert 'Traceback' not in ended.errors
    store.tally.trials = ended.number('moments')
    store.require('loss', range(ended.number('last')))
    # A close that is interrupted keeps in a file what it has not stored; the worker, where it lives
    # on, has stored that since.
    assert len(store.spills) <= ended.errors.count('they are kept in')
    store.open_once()
    assert store.spills == []
    for number in ended.numbers('other'):
        assert store.values('loss', f'OTHER-{number}') == [number]


@pytest.mark.busy
@pytest.mark.failure('F13', 'Ctrl-C at each line of the start and the end of a thread in turn')
@pytest.mark.parametrize('what', ['open', 'close'])
def test_an_interrupt_of_a_thread_that_begins_or_ends_is_that_interrupt(
    run: Run, store: Store, what: str
) -> None:
    ended = run(
        INTERRUPTED_EVERYWHERE
        + """
    import signal, threading
    storage = os.environ['STORE'] + '.one'
    what = sys.argv[1]
    n = moment = 0
    reached = True

    def opened():
        one = experiment('ONE', storage=storage)
        one['loss'].log(n)
        say('logged', n)
        return one

    def in_threading(code):
        return code.co_filename == threading.__file__

    def ctrl_c():
        signal.raise_signal(signal.SIGINT)

    while reached:
        moment += 1
        one = opened() if what == 'close' else None
        call = one.close if what == 'close' else lambda: opened().close()
        _, reached = interrupted_at(moment, call, in_threading, ctrl_c)
        n += 1
    opened().close()
    say('moments', moment)
    """,
        what,
    )

    assert not ended.errors, ended.errors
    store.tally.trials = ended.number('moments')
    assert ended.number('moments') > 3
    assert Store(Path(f'{store.path}.one'), store.tally).values('loss', 'ONE') == ended.numbers(
        'logged'
    )


@pytest.mark.busy
@pytest.mark.failure('F13', 'Ctrl-C at each line of the wait for room in turn')
def test_an_interrupt_of_a_wait_for_room_is_that_interrupt(run: Run, store: Store) -> None:
    ended = run(
        INTERRUPTED_EVERYWHERE
        + """
    import sqlite3, threading
    wait = threading.Condition.wait.__code__
    full = experiment('FULL', max_pending=10, overflow='block')
    full['loss'].log(-1)
    full.flush()
    holder = sqlite3.connect(os.environ['STORE'], isolation_level=None)
    holder.execute('BEGIN IMMEDIATE')
    for n in range(10):
        full['loss'].log(n)
    log = lambda: full['loss'].log(10)
    for moment in range(1, 12):
        returned, _ = interrupted_at(moment, log, lambda code: code is wait)
        assert not returned
        say('interrupted', moment)
    holder.execute('ROLLBACK')
    full['loss'].log(11)  # there is room again
    full.flush()
    """
    )

    store.tally.trials = len(ended.numbers('interrupted'))
    assert store.tally.trials == 11
    store.require('loss', [*range(-1, 10), 11], 'FULL')


@pytest.mark.busy
@pytest.mark.failure('F13', 'Ctrl-C while flush waits for a store that others hold')
def test_an_interrupt_ends_a_flush_that_waits(start: Start, store: Store) -> None:
    child = start("""
        from child import experiment, hear, say, wait_until
        exp = experiment()
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        exp['loss'].log(1)
        wait_until(lambda: exp.stats().retries > 0)
        say('flushing')
        try:
            exp.flush()
        except KeyboardInterrupt:
            say('interrupted')
        exp['loss'].log(2)
        hear()
        wait_until(lambda: exp.pending == 0)
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('flushing')
        time.sleep(0.1)  # until it waits; before that, the signal has the same effect
        child.send(signal.SIGINT)
        child.wait_for('interrupted')
    child.tell()
    ended = child.finish()

    assert ended.errors == ''
    store.require('loss', range(3))


@pytest.mark.busy
@pytest.mark.failure('F14', 'a signal handler logs while the main thread does')
@pytest.mark.parametrize('what', ['same', 'new', 'text', 'full'])
def test_a_signal_handler_may_log(run: Run, store: Store, what: str) -> None:
    ended = run(
        """
        import signal, sys
        from child import experiment, say
        exp = experiment(flush_interval=0.002, max_pending=50 if 'full' in sys.argv else 200_000)
        exp['one'].log(0.0)
        handled = 0

        def handle(*_):
            global handled
            handled += 1
            value = float(10**9 + handled - 1)
            exp['one'].log(value)
            if 'new' in sys.argv:
                exp[f'new/{handled % 5000}'].log(value)
            if 'text' in sys.argv:
                exp['texts'].log(str(value))
                exp['atom'].assign(handled)
                exp['tags'].add(str(handled % 10))
            # Only now: one that waits for room for longer would interrupt itself for ever.
            signal.setitimer(signal.ITIMER_REAL, 0.001)

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        n = 1
        while handled < 1000:
            exp['one'].log(float(n))
            n += 1
            if 'new' in sys.argv:
                exp[f'new/{n % 5000}'].log(float(n))
            if 'text' in sys.argv:
                exp['texts'].log(str(n))
                exp['atom'].assign(n)
                exp['tags'].add(str(n % 10))
            if n % 1000 == 0:
                exp.flush()
        # A handler that is about to run would start the timer anew, and the signal would then kill
        # the process at its end.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        say('handled', handled)
        say('logged', n)
        """,
        what,
        limit=120,
    )

    store.tally.trials = ended.number('handled')
    assert 'Traceback' not in ended.errors
    assert len(ended.errors.splitlines()) == (1 if what == 'full' else 0)  # "log waits"
    found = store.values('one')
    store.require_equal([v for v in found if v < 10**9], [*range(ended.number('logged'))])
    # One handler may interrupt another, so these are not in order.
    handled = [v - 10**9 for v in found if v >= 10**9]
    store.require_equal(sorted(handled), [*range(ended.number('handled'))])
    if what == 'text':
        assert len(store.values('texts')) == ended.number('handled') + ended.number('logged') - 1
    if what == 'new':
        assert store.points() == 2 * (ended.number('handled') + ended.number('logged')) - 1


@pytest.mark.busy
@pytest.mark.failure('F14', 'a signal handler flushes, reads and opens')
def test_a_signal_handler_may_flush_and_read(run: Run, store: Store) -> None:
    ended = run(
        """
        import os, signal
        from child import experiment, say
        from neptune_async import compare
        from neptune_async.exceptions import WorkerThreadError
        storage = os.environ['STORE']
        exp = experiment(flush_interval=0.002)
        handled = refused = n = 0
        exp['one'].log(0.0)
        compare('EXP', 'one', storage=storage, output='arrow')  # it imports pyarrow once

        def handle(*_):
            global handled, refused
            handled += 1
            try:
                if handled % 2:
                    compare('EXP', 'one', storage=storage, output='arrow')
                exp.flush()
                exp['one'].tail(1)
                with experiment(f'OTHER-{handled % 3}') as other:
                    other['loss'].log(handled)
            except WorkerThreadError:  # in the middle of a write: it must not hang
                refused += 1
            # Only now: a handler that is slower than its signals would interrupt itself for ever.
            signal.setitimer(signal.ITIMER_REAL, 0.005)

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        while handled < 50:
            n += 1
            exp['one'].log(float(n))
            if n % 100 == 0:
                exp['one'].tail(1)
                experiment('MORE').close()
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # as above
        signal.setitimer(signal.ITIMER_REAL, 0)
        say('logged', n + 1)
        say('refused', refused)
        """,
        limit=120,
    )

    assert ended.errors == ''
    assert ended.number('refused') < 50
    store.require('one', range(ended.number('logged')))


@pytest.mark.failure('F14', 'a signal handler waits for storage at each line of a call in turn')
@pytest.mark.parametrize('what', ['log', 'new', 'flush', 'read', 'open', 'close'])
@pytest.mark.parametrize(
    ('waits', 'beside'),
    [('flush', 'idle'), ('flush', 'busy'), ('read', 'idle'), ('open', 'idle'), ('list', 'idle')],
    indirect=['beside'],
)
def test_a_signal_handler_may_wait_or_is_refused(
    run: Run, store: Store, what: str, waits: str
) -> None:
    ended = run(
        INTERRUPTED_EVERYWHERE
        + """
    from child import wait_for_storage
    from neptune_async.exceptions import WorkerThreadError
    what, waits = sys.argv[1:]
    other = experiment('OTHER')
    logged = n = moment = 0
    reached = True

    def handle():
        global logged
        other['loss'].log(logged)
        logged += 1
        try:
            wait_for_storage(waits, other)
        except WorkerThreadError:
            say('refused', where)

    while reached:
        moment += 1
        wait_until(lambda: exp.pending == 0)  # so that the call has to wake the worker
        n += 1
        exp['loss'].log(n)
        if what == 'close':
            one = experiment('ONE')
            one['loss'].log(n)
        call = {
            'log': lambda: exp['more'].log(n),
            'new': lambda: exp[f'new/{n}'].log(n),
            'flush': lambda: exp.flush(),
            'read': lambda: exp['loss'].tail(1),
            'open': lambda: experiment('ONE').close(),
            'close': lambda: one.close(),
        }[what]
        _, reached = interrupted_at(moment, call, handle=handle)
    say('moments', moment)
    say('logged', logged)
    """,
        what,
        waits,
    )

    assert ended.errors == ''
    store.tally.trials = ended.number('moments')
    assert ended.number('moments') > 5
    store.require('loss', range(ended.number('moments') + 1))
    store.require('loss', range(ended.number('logged')), 'OTHER')


@pytest.mark.failure('F14', '__del__ logs whenever garbage is collected')
@pytest.mark.parametrize('most', [200_000, 100])
def test_a_finalizer_may_log_on_any_thread(run: Run, store: Store, most: int) -> None:
    ended = run(
        """
        import gc, sys, threading
        from child import experiment, say
        from neptune_async.exceptions import QueueFullError
        most = int(sys.argv[1])
        exp = experiment(flush_interval=0.001, max_pending=most)
        exp['gone'].log(0.0)
        logged = 1
        refused = 0
        threads = set()

        class Batch:
            def __init__(self):
                self.self = self  # only the collector frees it, on whichever thread it runs

            def __del__(self):
                global logged, refused
                threads.add(threading.current_thread().name.split()[0])
                try:
                    exp['gone'].log(1.0)
                    logged += 1
                except QueueFullError:  # what never waits on the worker's own thread
                    refused += 1

        gc.set_threshold(1)
        for n in range(3000):
            exp['loss'].log(float(n))
            exp[f'some/{n % 10}'].log({'a': float(n)})
            Batch()
            if n % 300 == 0:
                exp.flush()
        gc.collect()
        gc.set_threshold(10_000)
        say('logged', logged)
        say('refused', refused)
        say('threads', *threads)
        """,
        most,
        limit=90,
    )

    assert 'Traceback' not in ended.errors
    assert ended.number('logged') + ended.number('refused') == 3001
    store.require('loss', range(3000))
    assert len(store.values('gone')) == ended.number('logged')
