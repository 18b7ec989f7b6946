"""Children of multiprocessing and of pools, by each way to start them, that close nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness import Ended, Store

Run = Callable[..., Ended]

QUIET = ['-W', 'ignore::DeprecationWarning']

methods = pytest.mark.parametrize(
    ('method', 'beside'),
    # What is started anew is as busy as any process is.
    [('fork', 'idle'), ('fork', 'busy'), ('forkserver', 'idle'), ('spawn', 'idle')],
    indirect=['beside'],
)


@methods
@pytest.mark.failure('F20', 'a child opens an experiment, logs and returns')
def test_a_child_that_logs_and_returns_is_stored(run: Run, store: Store, method: str) -> None:
    ended = run(
        """
        import multiprocessing, sys
        from child import experiment, log_marked, say

        def work(writer):
            exp = experiment()
            log_marked(exp, writer, range(1000))

        if __name__ == '__main__':
            context = multiprocessing.get_context(sys.argv[1])
            children = [context.Process(target=work, args=[n]) for n in range(1, 4)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            say('codes', *[child.exitcode for child in children])
        """,
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['codes 0 0 0']
    store.require_interleaved('loss', {1: 1000, 2: 1000, 3: 1000})


@methods
@pytest.mark.failure('F20', 'a child is given the experiment, logs and returns')
def test_an_experiment_that_a_child_is_given_is_stored(run: Run, store: Store, method: str) -> None:
    ended = run(
        """
        import multiprocessing, sys
        from child import experiment, log_marked, say

        def work(exp, writer):
            log_marked(exp, writer, range(1000))

        if __name__ == '__main__':
            context = multiprocessing.get_context(sys.argv[1])
            exp = experiment(flush_interval=60)
            log_marked(exp, 4, range(500))
            children = [context.Process(target=work, args=[exp, n]) for n in range(1, 4)]
            for child in children:
                child.start()
            log_marked(exp, 4, range(500, 1000))
            for child in children:
                child.join()
            say('codes', *[child.exitcode for child in children])
        """,
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['codes 0 0 0']
    store.require_interleaved('loss', dict.fromkeys(range(1, 5), 1000))


@methods
@pytest.mark.failure('F20', 'an exception or sys.exit ends the child')
@pytest.mark.parametrize(('end', 'code'), [('raise ValueError', 1), ('sys.exit(3)', 3)])
def test_a_child_keeps_its_exit_code(
    run: Run, store: Store, method: str, end: str, code: int
) -> None:
    ended = run(
        f"""
        import multiprocessing, sys
        from child import experiment, log_numbers, say

        def work():
            exp = experiment()
            log_numbers(exp, range(1000))
            {end}

        if __name__ == '__main__':
            child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
            child.start()
            child.join()
            say('code', child.exitcode)
        """,
        method,
        options=QUIET,
    )

    assert ended.number('code') == code
    assert ended.errors.count('Traceback') == (code == 1)
    store.require('loss', range(1000))


@methods
@pytest.mark.failure('F20', "a child's own thread goes on when its work is done")
def test_a_thread_that_outlives_the_childs_work_is_stored(
    run: Run, store: Store, method: str
) -> None:
    ended = run(
        """
        import multiprocessing, sys, threading
        from child import experiment, say, wait_until

        def train(exp):
            threading.main_thread().join()
            for n in range(1000):
                exp['loss'].log(n)
                if n == 500:
                    wait_until(lambda: exp.pending == 0)

        def work():
            threading.Thread(target=train, args=[experiment()]).start()

        if __name__ == '__main__':
            child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
            child.start()
            child.join()
            say('code', child.exitcode)
        """,
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['code 0']
    store.require('loss', range(1000))


@methods
@pytest.mark.failure('F20', 'children of children')
def test_a_grandchild_is_stored(run: Run, store: Store, method: str) -> None:
    ended = run(
        """
        import multiprocessing, sys
        from child import experiment, log_marked, say

        def log(writer):
            exp = experiment()
            log_marked(exp, writer, range(100))

        def work(method):
            log(1)
            child = multiprocessing.get_context(method).Process(target=log, args=[2])
            child.start()
            child.join()
            say('grandchild', child.exitcode)
            log(3)

        if __name__ == '__main__':
            method = sys.argv[1]
            child = multiprocessing.get_context(method).Process(target=work, args=[method])
            child.start()
            child.join()
            say('child', child.exitcode)
        """,
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['grandchild 0', 'child 0']
    store.require_interleaved('loss', {1: 100, 2: 100, 3: 100})


@methods
@pytest.mark.failure('F20', 'a child is started by a thread')
def test_a_child_that_a_thread_starts_is_stored(run: Run, store: Store, method: str) -> None:
    ended = run(
        """
        import multiprocessing, sys, threading
        from child import experiment, log_marked, say

        def work(writer):
            exp = experiment()
            log_marked(exp, writer, range(100))

        def start(context, writer):
            child = context.Process(target=work, args=[writer])
            child.start()
            child.join()
            say('code', child.exitcode)

        if __name__ == '__main__':
            work(0)
            context = multiprocessing.get_context(sys.argv[1])
            threads = [threading.Thread(target=start, args=[context, n]) for n in range(1, 4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        """,
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['code 0'] * 3
    store.require_interleaved('loss', dict.fromkeys(range(4), 100))


KEEPS_ITS_EXPERIMENT = """
    import multiprocessing, sys
    from concurrent.futures import ProcessPoolExecutor
    from child import experiment, log_marked, say

    exp = None

    def work(writer):
        global exp
        exp = exp or experiment()
        log_marked(exp, writer, range(100))
        return writer

"""
"""Its workers open their experiment in their first task, and go on with it in the next."""


@methods
@pytest.mark.failure('F20', 'a process pool is shut down')
def test_the_workers_of_an_executor_are_stored(run: Run, store: Store, method: str) -> None:
    ended = run(
        KEEPS_ITS_EXPERIMENT
        + """
    if __name__ == '__main__':
        context = multiprocessing.get_context(sys.argv[1])
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            say('sum', sum(executor.map(work, range(10))))
""",
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['sum 45']
    store.require_interleaved('loss', dict.fromkeys(range(10), 100))


@methods
@pytest.mark.failure('F20', 'a pool is closed and joined')
def test_the_workers_of_a_pool_are_stored(run: Run, store: Store, method: str) -> None:
    ended = run(
        KEEPS_ITS_EXPERIMENT
        + """
    if __name__ == '__main__':
        pool = multiprocessing.get_context(sys.argv[1]).Pool(2)
        say('sum', sum(pool.map(work, range(10))))
        pool.close()
        pool.join()
""",
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines == ['sum 45']
    store.require_interleaved('loss', dict.fromkeys(range(10), 100))


@methods
@pytest.mark.failure('F20', 'a pool is terminated: SIGTERM to its workers')
def test_what_workers_flushed_survives_the_pools_termination(
    run: Run, store: Store, method: str
) -> None:
    run(
        """
        import multiprocessing, sys
        from child import experiment, log_marked, say

        def work(writer):
            exp = experiment()
            log_marked(exp, writer, range(100))
            exp.flush()

        if __name__ == '__main__':
            with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                pool.map(work, range(10))
        """,
        method,
        options=QUIET,
    )

    store.require_interleaved('loss', dict.fromkeys(range(10), 100))


@pytest.mark.busy
@pytest.mark.failure('F20', 'daemonic loader workers, their iterator dropped mid-epoch')
def test_loader_workers_that_are_dropped_mid_epoch_do_not_hang(run: Run, store: Store) -> None:
    ended = run(
        """
        import gc, multiprocessing
        from child import experiment, say

        exp = experiment()

        def load(index, queue, ends):
            n = 0
            while not ends.is_set():
                exp[f'worker/{index}'].log(n)
                queue.put(n)
                n += 1
            say('logged', index, n)

        class Loader:
            def __init__(self):
                self.queue, self.ends = context.Queue(4), context.Event()
                self.workers = [
                    context.Process(target=load, args=[n, self.queue, self.ends], daemon=True)
                    for n in range(2)
                ]
                for worker in self.workers:
                    worker.start()

            def __del__(self):
                self.ends.set()
                while any(worker.is_alive() for worker in self.workers):
                    while not self.queue.empty():
                        self.queue.get()
                    for worker in self.workers:
                        worker.join(0.05)
                say('codes', *[worker.exitcode for worker in self.workers])

        context = multiprocessing.get_context('fork')
        for epoch in range(3):
            loader = Loader()
            for batch in range(20):
                exp['loss'].log(loader.queue.get())
            del loader
            gc.collect()
        exp['end'].assign(True)
        """,
        options=QUIET,
    )

    assert ended.errors == ''
    assert ended.lines.count('codes 0 0') == 3
    assert len(store.values('loss')) == 60
    logged = [[*map(int, line.split()[1:])] for line in ended.lines if line.startswith('logged')]
    for worker in (0, 1):
        # The processes of an epoch begin when those of the last have ended.
        counts = [count for index, count in logged if index == worker]
        store.require(f'worker/{worker}', [n for count in counts for n in range(count)])


@methods
@pytest.mark.failure('F11', 'the store is held when a child of multiprocessing ends')
def test_a_child_that_cannot_store_spills(run: Run, store: Store, method: str) -> None:
    store.open_once()
    with store.held():
        ended = run(
            """
            import multiprocessing, sys
            from child import log_numbers, say

            def work():
                from child import experiment
                from neptune_async._engine.lifecycle import running_workers
                running_workers.EXIT_TIMEOUT = 0.5
                exp = experiment(flush_interval=60)
                log_numbers(exp, range(1000))

            if __name__ == '__main__':
                child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
                child.start()
                child.join()
                say('code', child.exitcode)
            """,
            method,
            options=QUIET,
        )

    (line,) = ended.errors.splitlines()
    assert ended.number('code') == 0
    assert '1,000 operations of EXP' in line
    store.open_once()
    store.require('loss', range(1000))


@methods
@pytest.mark.failure('F20', 'the end of `with Pool()` terminates children that have logged')
def test_what_children_have_logged_that_a_pool_terminates_is_stored(
    run: Run, store: Store, method: str
) -> None:
    ended = run(
        """
        import multiprocessing, sys
        from child import experiment, log_marked, say

        def work(writer):
            exp = experiment(flush_interval=60)
            log_marked(exp, writer, range(1000))
            kept.append(exp)

        kept = []

        if __name__ == '__main__':
            with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                pool.map(work, range(1, 5))
            say('left')
        """,
        method,
        options=QUIET,
    )

    assert ended.errors == ''
    store.require_interleaved('loss', dict.fromkeys(range(1, 5), 1000))


@pytest.mark.busy
@pytest.mark.failure('F20', 'a child with a handler of its own for SIGTERM is terminated')
def test_a_child_keeps_its_own_handler_of_sigterm(run: Run, store: Store) -> None:
    ended = run(
        """
        import multiprocessing, signal, sys, time
        from child import experiment, say

        def work(logged):
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
            exp = experiment()
            exp['loss'].log(0)
            logged.set()
            while True:
                time.sleep(60)  # until the signal

        if __name__ == '__main__':
            context = multiprocessing.get_context('fork')
            logged = context.Event()
            child = context.Process(target=work, args=[logged])
            child.start()
            logged.wait()
            child.terminate()
            child.join()
            say('code', child.exitcode)
        """,
        options=QUIET,
    )

    assert ended.number('code') == 7
    store.require('loss', [0])
