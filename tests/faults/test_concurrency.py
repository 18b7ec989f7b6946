"""Many threads and many processes log at once: nothing is lost, each keeps its own order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness import Child, Ended, Store, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

pytestmark = pytest.mark.unmeasured


@pytest.mark.failure('F50', 'four threads log to one series and to many')
@pytest.mark.parametrize('interval', [0.2, 0.001])
def test_threads_lose_nothing_and_keep_their_order(run: Run, store: Store, interval: float) -> None:
    ended = run(f"""
        import sys, threading
        from child import experiment, mark
        sys.setswitchinterval(1e-5)
        exp = experiment(flush_interval={interval})
        together = threading.Barrier(4)

        def train(thread):
            together.wait()
            for n in range(20_000):
                value = mark(thread, n)
                exp['one'].log(value)
                exp[f'many/{{n % 50}}'].log(value)
                if n % 10 == 0:
                    exp['batch'].log({{'a': value, 'b': value}})
                    exp['texts'].log(str(value))

        threads = [threading.Thread(target=train, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """)

    assert ended.errors == ''
    store.require_interleaved('one', dict.fromkeys(range(4), 20_000))
    assert store.steps('one') == [*range(80_000)]
    for path in ('batch/a', 'batch/b'):
        found = store.values(path)
        for thread in range(4):
            own = [value for value in found if value // 10**9 == thread]
            assert own == [float(thread * 10**9 + n) for n in range(0, 20_000, 10)]
    assert store.values('batch/a') == store.values('batch/b')
    assert sorted(store.values('texts')) == sorted(map(str, store.values('batch/a')))
    for n in range(50):
        found = store.values(f'many/{n}')
        for thread in range(4):
            own = [value for value in found if value // 10**9 == thread]
            assert own == [float(thread * 10**9 + m) for m in range(n, 20_000, 50)]
        assert store.steps(f'many/{n}') == [*range(1600)]


@pytest.mark.failure('F50', 'threads create the same variables at the same time')
def test_threads_that_create_a_variable_at_once_make_one(run: Run, store: Store) -> None:
    ended = run("""
        import sys, threading
        from child import experiment, mark
        sys.setswitchinterval(1e-6)
        exp = experiment(flush_interval=0.001)
        together = threading.Barrier(4)

        def train(thread):
            for n in range(300):
                together.wait()
                exp[f'new/{n}'].log(mark(thread, 0))
                exp[f'new/{n}'].log(mark(thread, 1))

        threads = [threading.Thread(target=train, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """)

    assert ended.errors == ''
    for n in range(300):
        assert sorted(store.values(f'new/{n}')) == [
            float(thread * 10**9 + m) for thread in range(4) for m in range(2)
        ]
    store.require_whole()


@pytest.mark.failure('F50', 'threads log, flush, read, assign and delete at once')
def test_threads_that_do_everything_at_once_do_not_disturb_each_other(
    run: Run, store: Store
) -> None:
    ended = run("""
        import sys, threading
        from child import experiment
        sys.setswitchinterval(1e-5)
        exp = experiment(flush_interval=0.001)
        ends = threading.Event()
        failed = []

        def forever(body):
            def run():
                try:
                    while not ends.is_set():
                        body()
                except BaseException as error:
                    failed.append(error)
                    raise
            return threading.Thread(target=run)

        def read():
            before = exp['loss'].tail(5)
            assert before == sorted(before)

        def come_and_go():
            exp['gone/a'].log(1.0)
            exp['gone/b'].assign(1)
            del exp['gone']

        exp['loss'].log(0)
        threads = [
            forever(read),
            forever(come_and_go),
            forever(exp.flush),
            forever(lambda: exp['tags'].add('a', 'b')),
            forever(exp.namespace_contents),
        ]
        for thread in threads:
            thread.start()
        for n in range(1, 20_000):
            exp['loss'].log(n)
        ends.set()
        for thread in threads:
            thread.join()
        sys.exit(len(failed))
    """)

    assert ended.errors == ''
    store.require('loss', range(20_000))


@pytest.mark.failure('F50', 'the queue is full: block')
def test_blocked_threads_lose_nothing(run: Run, store: Store) -> None:
    ended = run("""
        import threading
        from child import experiment, log_marked, say
        exp = experiment(max_pending=100)

        def train(thread):
            log_marked(exp, thread, range(5_000))

        threads = [threading.Thread(target=train, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """)

    assert len(ended.errors.splitlines()) == 1  # the warning that log waits
    store.require_interleaved('loss', dict.fromkeys(range(4), 5_000))


@pytest.mark.failure('F50', 'the store is held and four threads log flat out: drop')
def test_what_is_dropped_is_counted_exactly(start: Start, store: Store) -> None:
    child = start("""
        import threading
        from child import experiment, hear, log_marked, say
        exp = experiment(max_pending=1000, overflow='drop')
        exp['loss'].log(0.0)
        exp.flush()
        say('open')
        hear()

        def train(thread):
            log_marked(exp, thread, range(20_000))

        threads = [threading.Thread(target=train, args=[n]) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = exp.stats()
        say('dropped', stats.dropped)
        say('pending', stats.pending)
        assert stats.accepted == 80_001
        say('logged')
        hear()
        exp.flush()
        say('committed', exp.stats().committed)
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('logged')
    child.tell()
    ended = child.finish()

    assert ended.number('pending') <= 1004  # the limit, and a call of each thread
    assert ended.number('committed') + ended.number('dropped') == 80_001
    found = store.values('loss')
    assert len(found) == ended.number('committed')
    assert len({*found}) == len(found)
    for thread in range(1, 5):
        own = [value for value in found if value // 10**9 == thread]
        assert own == sorted(own)
    store.require_whole()


EIGHT = """
    import random, sys
    from child import experiment, hear, mark, say
    writer = int(sys.argv[1])
    say('ready')
    hear()
    exp = experiment(flush_interval=random.Random(writer).uniform(0.001, 0.05))
    for n in range(3_000):
        exp['loss'].log(mark(writer, n))
        if n % 10 == 0:
            exp[f'many/{n % 70}'].log(mark(writer, n))
            exp['tags'].add(f'{writer}:{n}')
        if n % 500 == 499:
            exp.flush()
        if n % 1000 == 999:
            exp.close()
            exp = experiment(flush_interval=0.001)
    exp['last'].assign(writer)
"""


@pytest.mark.failure('F30', 'eight processes log to one experiment, which none has made yet')
def test_processes_lose_nothing_and_keep_their_order(start: Start, store: Store) -> None:
    rounds = store.tally.trials = trials(1)
    for _ in range(rounds):
        for file in store.path.parent.glob('experiments.db*'):
            file.unlink()
        children = [start(EIGHT, writer) for writer in range(8)]
        for child in children:
            child.wait_for('ready')
        for child in children:
            child.tell()
        ended = [child.finish() for child in children]

        assert ''.join(one.errors for one in ended) == ''
        store.require_interleaved('loss', dict.fromkeys(range(8), 3_000))
        assert store.steps('loss') == [*range(24_000)]
        for n in range(0, 70, 10):
            found = store.values(f'many/{n}')
            assert store.steps(f'many/{n}') == [*range(len(found))]
            for writer in range(8):
                own = [value for value in found if value // 10**9 == writer]
                assert own == [float(writer * 10**9 + m) for m in range(n, 3_000, 70)]
        with store.reading() as exp:
            expected = {f'{writer}:{n}' for writer in range(8) for n in range(0, 3_000, 10)}
            assert exp['tags'].get() == expected


@pytest.mark.failure('F30', 'fifty processes make the store at the same instant')
def test_many_processes_make_the_store_at_once(start: Start, store: Store) -> None:
    processes = store.tally.trials = min(trials(16), 50)
    children = [
        start(
            """
            import sys
            from child import experiment, hear, say
            from neptune_async import Experiment
            say('ready')
            hear()
            experiment()['loss'].log(float(int(sys.argv[1]) * 10**9))
            with experiment(None) as exp:
                say('name', exp.name)
            """,
            writer,
        )
        for writer in range(processes)
    ]
    for child in children:
        child.wait_for('ready')
    for child in children:
        child.tell()
    ended = [child.finish() for child in children]

    assert ''.join(one.errors for one in ended) == ''
    store.require_interleaved('loss', dict.fromkeys(range(processes), 1))
    names = sorted(int(one.lines[-1].removeprefix('name EXP-')) for one in ended)
    assert names == [*range(1, processes + 1)]


@pytest.mark.failure('F30', 'processes disagree about the type of a variable')
def test_a_conflict_is_rejected_and_takes_nothing_else_with_it(start: Start, store: Store) -> None:
    script = """
        import sys
        from child import experiment, hear, say
        from neptune_async.exceptions import RejectedOperationsError
        value = {'float': 1.0, 'str': 'one'}[sys.argv[1]]
        exp = experiment(flush_interval=60)
        say('ready')
        hear()
        exp['contested'].log(value)
        for n in range(1000):
            exp[sys.argv[1]].log(n)
        exp['contested'].log(value)
        try:
            exp.flush()
        except RejectedOperationsError as error:
            say('rejected', sum(rejection.count for rejection in error.rejections))
        stats = exp.stats()
        say('committed', stats.committed)
    """
    one, other = children = [start(script, kind) for kind in ('float', 'str')]
    for child in children:
        child.wait_for('ready')
    one.tell()
    first = one.finish()
    other.tell()
    second = other.finish()

    assert first.number('committed') == 1002
    assert (second.number('committed'), second.number('rejected')) == (1000, 2)
    store.require('contested', [1.0, 1.0])
    store.require('float', range(1000))
    store.require('str', range(1000))


@pytest.mark.failure('F50', 'threads open and close experiments while another flushes all')
def test_a_flush_of_all_does_not_mind_experiments_that_come_and_go(run: Run, store: Store) -> None:
    ended = run("""
        import sys, threading, time
        from child import experiment
        sys.setswitchinterval(1e-5)
        kept = experiment()
        is_over = threading.Event()

        def come_and_go(thread):
            n = 0
            while not is_over.is_set():
                experiment(f'{thread}-{n % 50}').close()
                n += 1

        threads = [threading.Thread(target=come_and_go, args=[n]) for n in range(3)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 3
        try:
            while time.monotonic() < end:
                kept._worker.flush_all(5)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
    """)

    assert ended.errors == ''
