"""The process forks: what the parent has queued is the parent's, and the child begins anew."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .harness import LIMIT, Child, Ended, Store, mark, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

# From Python 3.12 on, forking a process that has threads is warned of.
QUIET = ['-W', 'ignore::DeprecationWarning']

pytestmark = pytest.mark.busy


@pytest.mark.failure('F16', 'fork with 1,000 operations queued')
def test_operations_queued_at_a_fork_are_stored_once(run: Run, store: Store) -> None:
    ended = run(
        """
        from child import experiment, fork, log_marked, reap, say
        exp = experiment(flush_interval=60)
        log_marked(exp, 1, range(1000))

        def body():
            say('pending', exp.pending)
            say('accepted', exp.stats().accepted)
            log_marked(exp, 2, range(100))

        child = fork(body, limit=30)
        say('code', *reap(child))
        say('mine', exp.pending)
        log_marked(exp, 1, range(1000, 1100))
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['pending 0', 'accepted 0', 'code 0', 'mine 1000']
    store.require_interleaved('loss', {1: 1100, 2: 100})
    assert store.steps('loss') == [*range(1200)]


@pytest.mark.failure('F16', 'fork while a batch is on its way')
def test_a_batch_in_flight_at_a_fork_is_stored_once(start: Start, store: Store) -> None:
    child = start(
        """
        from child import experiment, fork, hear, log_marked, mark, reap, say, wait_until
        exp = experiment()
        exp['loss'].log(mark(1, 0))
        exp.flush()
        say('open')
        hear()
        log_marked(exp, 1, range(1, 1000))
        wait_until(lambda: exp.stats().retries > 3)
        log_marked(exp, 1, range(1000, 2000))

        def body():
            log_marked(exp, 2, range(100))

        child = fork(body, limit=30)
        say('forked')
        say('code', *reap(child))
        """,
        options=QUIET,
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('forked')
    ended = child.finish()

    assert ended.number('code') == 0
    store.require_interleaved('loss', {1: 2000, 2: 100})


@pytest.mark.failure('F16', 'the child only exits')
@pytest.mark.parametrize('end', ['pass', 'sys.exit(0)', 'os._exit(0)', 'raise SystemExit'])
def test_a_child_that_only_exits_takes_nothing_along(run: Run, store: Store, end: str) -> None:
    ended = run(
        f"""
        import os, sys
        from child import experiment, fork, log_numbers, reap, say
        exp = experiment(flush_interval=60)
        log_numbers(exp, range(1000))

        def body():
            {end}

        say('codes', *reap(*[fork(body, limit=30) for _ in range(3)]))
        log_numbers(exp, range(1000, 1100))
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['codes 0 0 0']
    store.require('loss', range(1100))


@pytest.mark.failure('F16', 'the child leaves a `with` of the parent')
def test_a_child_that_leaves_the_parents_with_block_closes_nothing_of_it(
    run: Run, store: Store
) -> None:
    ended = run(
        """
        import os, signal
        from child import experiment, log_marked, reap, say
        with experiment(flush_interval=60) as exp:
            log_marked(exp, 1, range(1000))
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                log_marked(exp, 2, range(100))
            else:
                say('code', *reap(pid))
                log_marked(exp, 1, range(1000, 2000))
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.number('code') == 0
    store.require_interleaved('loss', {1: 2000, 2: 100})


@pytest.mark.failure('F16', "the child logs to the parent's new variables and to its own")
@pytest.mark.parametrize('is_stored', [False, True])
def test_a_child_logs_to_variables_of_the_parent_and_to_new_ones(
    run: Run, store: Store, is_stored: bool
) -> None:
    ended = run(
        f"""
        from child import experiment, fork, mark, reap, say
        exp = experiment(flush_interval=60)
        exp['old'].log(mark(1, 0))
        exp['text'].log('parent')
        exp['atom'].assign('parent')
        exp['set'].add('parent')
        exp['kept'].assign('parent')
        if {is_stored}:
            exp.flush()

        def body():
            exp['old'].log(mark(2, 0))
            exp['new'].log(mark(2, 0))
            exp['text'].log('child')
            exp['atom'].assign('child')
            exp['set'].add('child')
            exp['both'].log(mark(2, 0))
            exp.flush()
            say('tail', exp['new'].tail(1))

        child = fork(body, limit=30)
        say('code', *reap(child))
        exp['both'].log(mark(1, 0))
        exp['old'].log(mark(1, 1))
        exp.flush()
        assert exp['new'].all() == [float(2 * 10**9)]
        assert exp['set'].get() == {{'parent', 'child'}}
        assert exp['kept'].read() == 'parent'
        assert sorted(exp['text'].all()) == ['child', 'parent']
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['tail [2000000000.0]', 'code 0']
    store.require_interleaved('old', {1: 2, 2: 1})
    store.require_interleaved('both', {1: 1, 2: 1})


@pytest.mark.failure('F16', 'the child deletes, the parent goes on')
def test_a_child_deletes_what_the_parent_goes_on_logging_to(run: Run, store: Store) -> None:
    ended = run(
        """
        from child import experiment, fork, reap, say
        exp = experiment()
        for n in range(100):
            exp['a/loss'].log(n)
        exp.flush()

        def body():
            del exp['a']
            exp['b'].log(1)

        say('code', *reap(fork(body, limit=30)))
        for n in range(100, 200):
            exp['a/loss'].log(n)
        exp.flush()
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    store.require('a/loss', range(100, 200))


@pytest.mark.failure('F16', 'an experiment of another type, echoing, or disabled')
@pytest.mark.parametrize('option', ['echo=True', "mode='disabled'", "storage=':memory:'"])
def test_a_fork_does_no_harm_to_an_experiment_with(run: Run, store: Store, option: str) -> None:
    ended = run(
        f"""
        import os
        from child import fork, log_marked, reap, say
        from neptune_async import Experiment
        options = {{'storage': os.environ['STORE']}} | dict({option})
        exp = Experiment('EXP', **options)
        log_marked(exp, 1, range(10))

        def body():
            log_marked(exp, 2, range(10))
            exp.flush()
            assert exp['loss'].all()[-1] == float(2 * 10**9 + 9)

        say('code', *reap(fork(body, limit=30)))
        log_marked(exp, 1, range(10, 20))
        assert exp['loss'].all()[-1] == float(10**9 + 19)
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert 'code 0' in ended.lines
    if option == 'echo=True':
        store.require_interleaved('loss', {1: 20, 2: 10})


@pytest.mark.failure('F20', 'a grandchild')
def test_each_generation_stores_its_own(run: Run, store: Store) -> None:
    ended = run(
        """
        from child import experiment, fork, log_marked, reap, say
        exp = experiment()

        def log(writer):
            log_marked(exp, writer, range(100))

        def child():
            log(2)
            grandchild = fork(lambda: log(3), limit=30)
            log(4)
            say('grandchild', *reap(grandchild))

        log(1)
        say('child', *reap(fork(child, limit=30)))
        log(5)
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['grandchild 0', 'child 0']
    store.require_interleaved('loss', dict.fromkeys(range(1, 6), 100))


@pytest.mark.failure('F20', 'fork from a thread')
def test_a_fork_from_a_thread(run: Run, store: Store) -> None:
    ended = run(
        """
        import os, threading
        from child import experiment, fork, log_marked, reap, say
        exp = experiment(flush_interval=60)

        def log(writer):
            log_marked(exp, writer, range(100))

        def body():
            log(2)
            exp.flush()
            os._exit(0)  # the end of a thread would not end the process

        def in_thread():
            say('code', *reap(fork(body, limit=30)))

        log(1)
        thread = threading.Thread(target=in_thread)
        thread.start()
        log(3)
        thread.join()
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.number('code') == 0
    store.require_interleaved('loss', {1: 100, 2: 100, 3: 100})


@pytest.mark.failure('F20', 'the parent opened nothing, its children do')
def test_children_open_experiments_of_their_own(run: Run, store: Store) -> None:
    ended = run(
        """
        from child import experiment, fork, log_numbers, reap, say

        def body(name):
            exp = experiment(name)
            log_numbers(exp, range(100))

        children = [fork(lambda: body(f'EXP-{n}'), limit=30) for n in range(4)]
        say('codes', *reap(*children))
        """,
        options=QUIET,
    )

    assert ended.lines == ['codes 0 0 0 0']
    for n in range(4):
        store.require('loss', range(100), name=f'EXP-{n}')


@pytest.mark.failure('F20', 'the parent closed its experiment before')
def test_a_child_opens_again_what_the_parent_has_closed(run: Run, store: Store) -> None:
    ended = run(
        """
        from child import experiment, fork, mark, reap, say
        with experiment() as exp:
            exp['loss'].log(mark(1, 0))

        def body():
            with experiment() as exp:
                exp['loss'].log(mark(2, 0))

        say('code', *reap(fork(body, limit=30)))
        with experiment() as exp:
            exp['loss'].log(mark(1, 1))
        """,
        options=QUIET,
    )

    assert ended.lines == ['code 0']
    store.require_interleaved('loss', {1: 2, 2: 1})


@pytest.mark.failure('F16', 'the parent closes the store, and its child goes on')
@pytest.mark.parametrize('first', ['before', 'after', 'slow'])
@pytest.mark.parametrize('generations', [1, 2])
def test_a_child_that_outlives_its_parents_close_goes_on(
    run: Run, store: Store, first: str, generations: int, beside: str
) -> None:
    rounds = trials(10 if beside == 'idle' else 3)
    ended = run(
        """
        import os, sys, time
        rounds, first, generations = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
        if first == 'slow':  # to begin: the parent comes to its close long before
            os.register_at_fork(after_in_child=lambda: time.sleep(0.3))
        from child import experiment, fork, mark, reap, say

        def go_on():
            if generations == 2 and not os.environ.get('GRANDCHILD'):
                os.environ['GRANDCHILD'] = '1'
                sys.exit(max(reap(fork(go_on, limit=50))))
            for value in range(100):
                if value == (first == 'before'):
                    os.write(ready, b'x')
                    os.read(closed, 1)
                exp['loss'].log(mark(n + 2, value))
                exp.flush()

        for n in range(rounds):
            exp = experiment()
            exp['loss'].log(mark(1, 100 * n))
            exp.flush()
            is_ready, ready = os.pipe()
            closed, close = os.pipe()
            child = fork(go_on, limit=50)
            if first == 'before':
                os.read(is_ready, 1)
            exp.close()  # with 'after' at once: the child may not have run at all
            os.write(close, b'x')
            with experiment() as exp:
                for value in range(1, 100):
                    exp['loss'].log(mark(1, 100 * n + value))
                    exp.flush()
            say('code', *reap(child))
        """,
        rounds,
        first,
        generations,
        limit=LIMIT * trials(1),
    )

    assert ended.errors == ''
    assert ended.numbers('code') == [0] * rounds
    children = dict.fromkeys(range(2, rounds + 2), 100)
    store.require_interleaved('loss', {1: 100 * rounds, **children})
    assert store.spills == []


@pytest.mark.failure('F17', 'fork while two threads hammer the store')
def test_no_child_hangs_that_is_forked_under_load(run: Run, store: Store) -> None:
    forks = trials(40)
    ended = run(
        f"""
        import os, sys, threading
        from child import experiment, fork, mark, reap, say
        from neptune_async import Experiment
        exp, other = experiment(flush_interval=0.001), Experiment('EXP', storage='other.db')
        ends = threading.Event()
        logged = [0, 0]

        def hammer(thread):
            n = 0
            while not ends.is_set():
                exp['loss'].log(mark(thread, n))
                n += 1
                logged[thread] = n
                if n % 100 == 0:
                    exp.flush()
                    other['loss'].log(n)
                    other['loss'].tail(10)

        threads = [threading.Thread(target=hammer, args=[thread]) for thread in range(2)]
        for thread in threads:
            thread.start()

        def body(writer):
            exp['loss'].log(mark(writer, 0))
            exp['loss'].log(mark(writer, 1))
            exp.flush()
            with experiment(f'CHILD-{{writer}}') as own:
                own['loss'].log(writer)
            exp['loss'].log(mark(writer, 2))

        hung = 0
        for writer in range(2, {forks} + 2):
            (code,) = reap(fork(lambda: body(writer), limit=10))
            if code:
                hung += 1
                print('fork', writer, 'ended with', code, file=sys.stderr)
        ends.set()
        for thread in threads:
            thread.join()
        say('hung', hung)
        say('logged', *logged)
        """,
        options=QUIET,
        limit=120 + 12 * forks,
    )

    store.tally.trials, store.tally.hung = forks, ended.number('hung')
    assert ended.number('hung') == 0, ended.errors
    first, second = map(int, ended.lines[-1].split()[1:])
    store.require_interleaved(
        'loss', {0: first, 1: second, **dict.fromkeys(range(2, forks + 2), 3)}
    )
    for writer in (2, forks + 1):
        store.require('loss', [writer], name=f'CHILD-{writer}')


@pytest.mark.failure('F18', 'fork while another process holds the store')
def test_a_fork_does_not_wait_for_a_lock_of_others(start: Start, store: Store) -> None:
    child = start(
        """
        import time
        from child import experiment, fork, hear, mark, reap, say, wait_until
        exp = experiment()
        exp['loss'].log(mark(1, 0))
        exp.flush()
        say('open')
        hear()
        exp['loss'].log(mark(1, 1))
        wait_until(lambda: exp.stats().retries > 3)
        children = []
        for writer in range(2, 12):
            def body():
                exp['loss'].log(mark(writer, 0))
            children.append(fork(body))
        # While the store is still held: the test lets go of it only when it has heard this.
        say('forked')
        say('codes', *reap(*children))
        """,
        options=QUIET,
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        began = time.monotonic()
        child.wait_for('forked')
        assert time.monotonic() - began < 30.0
    ended = child.finish()

    assert ended.lines[-1] == 'codes' + 10 * ' 0'
    store.require_interleaved('loss', {1: 2, **dict.fromkeys(range(2, 12), 1)})


@pytest.mark.failure('F19', 'the child collects garbage, drops everything and exits')
def test_a_child_leaves_the_parents_connection_and_wal_alone(start: Start, store: Store) -> None:
    child = start(
        """
        import gc, os, sqlite3
        from child import experiment, fork, hear, log_numbers, reap, say
        exp = experiment()
        log_numbers(exp, range(1000))
        exp.flush()

        def body():
            global exp
            exp = None
            gc.collect()

        say('code', *reap(fork(body, limit=30)))
        say('forked')
        hear()
        log_numbers(exp, range(1000, 2000), flush_every=100)
        exp.flush()
        say('flushed')
        hear()
        os._exit(0)  # as a kill would: what is in the -wal must still be there
        """,
        options=QUIET,
    )
    child.wait_for('forked')
    wal = store.path.with_name(f'{store.path.name}-wal')
    inode = wal.stat().st_ino
    # Others read and let go, as they would.
    store.require('loss', range(1000))
    assert wal.stat().st_ino == inode
    child.tell()
    child.wait_for('flushed')
    store.require('loss', range(2000))
    assert wal.stat().st_ino == inode
    child.tell()
    ended = child.finish()

    assert ended.errors == ''
    assert ended.number('code') == 0
    store.require('loss', range(2000))


@pytest.mark.failure('F19', 'the child writes, closes and exits while the parent is in a batch')
def test_a_child_that_closes_takes_no_lock_of_the_parent(start: Start, store: Store) -> None:
    child = start(
        """
        import gc, sys
        from child import experiment, fork, mark, reap, say
        exp = experiment(flush_interval=0.001)
        writer = 2
        for n in range(20000):
            exp['loss'].log(mark(1, n))
            if n % 1000 == 0:
                def body():
                    exp['loss'].log(mark(writer, 0))
                    exp.close()
                    gc.collect()
                say('code', *reap(fork(body, limit=30)))
                writer += 1
        """,
        options=QUIET,
    )
    ended = child.finish()

    assert ended.errors == ''
    assert ended.numbers('code') == [0] * 20
    store.require_interleaved('loss', {1: 20000, **dict.fromkeys(range(2, 22), 1)})


@pytest.mark.failure('F20', 'subprocess and os.posix_spawn from the training loop')
def test_a_subprocess_does_no_harm(run: Run, store: Store) -> None:
    ended = run("""
        import subprocess, sys
        from child import experiment
        exp = experiment(flush_interval=0.001)
        for n in range(1000):
            exp['loss'].log(n)
            if n % 100 == 0:
                subprocess.run([sys.executable, '-S', '-c', 'pass'], check=True)
                subprocess.run(
                    [sys.executable, '-S', '-c', 'pass'], check=True, preexec_fn=lambda: None
                )
    """, options=QUIET)  # fmt: skip

    assert ended.errors == ''
    store.require('loss', range(1000))


@pytest.mark.failure('F5', 'exec in the training loop')
def test_exec_keeps_what_was_flushed_and_no_descriptor(run: Run, store: Store) -> None:
    ended = run("""
        import os, sys
        from child import experiment, log_numbers
        exp = experiment()
        log_numbers(exp, range(1000))
        exp.flush()
        lists = "import os; print(*[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir("
        lists += "'/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')], sep='\\\\n')"
        os.execv(sys.executable, [sys.executable, '-S', '-c', lists])
    """)

    assert not [line for line in ended.lines if str(store.path) in line]
    store.require('loss', range(1000))


@pytest.mark.failure('F16', 'an exception ends the child')
def test_a_child_that_an_exception_ends_stores_what_it_logged(run: Run, store: Store) -> None:
    ended = run(
        """
        import os, signal
        from child import experiment, mark, reap, say
        exp = experiment(flush_interval=60)
        exp['loss'].log(mark(1, 0))
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            exp['loss'].log(mark(2, 0))
            raise ValueError('diverged')
        say('code', *reap(pid))
        exp['loss'].log(mark(1, 1))
        """,
        options=QUIET,
    )

    assert ended.number('code') == 1
    assert ended.errors.count('Traceback') == 1
    store.require_interleaved('loss', {1: 2, 2: 1})
    assert mark(2, 0) in store.values('loss')


@pytest.mark.failure('F16', 'fork while the end of the parent waits for the store')
def test_a_child_that_is_forked_at_the_end_of_its_parent_logs_on(
    start: Start, store: Store
) -> None:
    child = start("""
        import os, threading
        from child import experiment, hear, say, wait_until
        from neptune_async._engine.lifecycle import running_workers
        exp = experiment()
        exp['parent'].log(0)
        exp.flush()

        def fork_at_the_end():
            wait_until(lambda: running_workers.running.finishing)
            if os.fork() == 0:
                exp['child'].log(1)
                say('forked')
                exp.flush(20)
                say('flushed')
                os._exit(0)

        threading.Thread(target=fork_at_the_end, daemon=True).start()
        say('open')
        hear()
        exp['parent'].log(1)
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('forked')
    child.wait_for('flushed')
    assert child.finish().errors == ''
    store.require('parent', [0.0, 1.0])
    store.require('child', [1.0])


@pytest.mark.failure('F16', 'a child whose store was made anew forks itself')
def test_a_grandchild_opens_what_has_taken_the_place_of_its_ancestors_store(
    run: Run, store: Store
) -> None:
    ended = run(
        """
        import os
        from child import experiment, fork, reap, say
        with experiment() as exp:
            exp['loss'].log(0)
            exp.flush()
            is_closed, closing = os.pipe()

            def grandchild():
                with experiment('NEW') as exp:
                    exp['loss'].log(1)

            def body():
                os.close(closing)
                os.read(is_closed, 1)
                for suffix in ('', '-wal', '-shm'):
                    if os.path.exists(os.environ['STORE'] + suffix):
                        os.unlink(os.environ['STORE'] + suffix)
                with experiment('NEW') as exp:
                    exp['loss'].log(0)
                say('code', *reap(fork(grandchild, limit=30)))

            child = fork(body, limit=60)
        os.close(closing)
        say('code', *reap(child))
        """
    )

    assert ended.lines == ['code 0', 'code 0']
    store.require('loss', [0, 1], 'NEW')


@pytest.mark.unmeasured
@pytest.mark.failure('F16', 'a signal handler raises while the process forks')
def test_a_handler_that_raises_in_a_fork_leaves_nothing_locked(run: Run, store: Store) -> None:
    interrupts = trials(100)
    ended = run(
        """
        import os, signal, sys, threading
        from child import experiment, reap, say
        threading.excepthook = sys.unraisablehook = lambda *_: None  # what a hook at a fork raises

        class Interrupt(Exception):
            pass

        def interrupt(*_):
            raise Interrupt

        large = bytearray(100 << 20)
        large[::4096] = b'x' * len(large[::4096])  # it takes a while to fork with it
        exp = experiment()
        exp['loss'].log(0)
        exp.flush()
        signal.signal(signal.SIGALRM, interrupt)
        interrupted, parent = 0, os.getpid()
        while interrupted < int(sys.argv[1]):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                signal.setitimer(signal.ITIMER_REAL, 0)
                os.waitpid(pid, 0)
            except Interrupt:
                if os.getpid() != parent:
                    os._exit(0)
            interrupted += 1
        exp['loss'].log(1)
        exp.flush(30)
        exp.close()
        """,
        interrupts,
        limit=LIMIT * trials(1),
    )

    assert ended.errors == ''
    store.tally.trials = interrupts
    store.require('loss', [0, 1])
