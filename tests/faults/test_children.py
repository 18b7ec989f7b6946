"""Children that are forked in any thread, by any library: what they have logged is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness import Ended, Store

Run = Callable[..., Ended]

pytestmark = pytest.mark.busy

QUIET = ['-W', 'ignore::DeprecationWarning']

CHILD = """
    import asyncio, importlib, multiprocessing, os, sys, threading
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing.pool import ThreadPool
    from child import experiment, say

    context = multiprocessing.get_context('fork')
    exp = experiment()
    exp['begin'].log(0)
    exp.flush()

    def work(*numbers):
        for number in numbers:
            exp['child'].log(number)

    def started(*numbers):
        process = context.Process(target=work, args=numbers)
        process.start()
        process.join()
        return process.exitcode
"""


@pytest.mark.failure('F20', 'a pool replaces its workers, which a daemon thread of its forks')
def test_the_workers_that_a_pool_replaces_are_stored(run: Run, store: Store) -> None:
    run(
        CHILD
        + """
    with context.Pool(2, maxtasksperchild=1) as pool:
        pool.map(work, range(12), chunksize=1)
    """,
        options=QUIET,
    )

    assert sorted(store.values('child')) == list(range(12))


@pytest.mark.failure('F20', 'a daemon thread, or one of an executor, starts a process')
@pytest.mark.parametrize('thread', ['daemon', 'executor', 'to_thread'])
def test_a_process_that_a_thread_starts_is_stored(run: Run, store: Store, thread: str) -> None:
    run(
        CHILD
        + """
    if sys.argv[1] == 'daemon':
        thread = threading.Thread(target=started, args=[0, 1], daemon=True)
        thread.start()
        thread.join()
    elif sys.argv[1] == 'executor':
        with ThreadPoolExecutor(1) as pool:
            pool.submit(started, 0, 1).result()
    else:
        async def main():
            await asyncio.to_thread(started, 0, 1)
        asyncio.run(main())
    """,
        thread,
        options=QUIET,
    )

    store.require('child', [0, 1])


@pytest.mark.failure('F20', 'a daemon thread of a child is the first that logs')
@pytest.mark.parametrize('thread', ['daemon', 'pool'])
def test_what_a_daemon_thread_of_a_child_logs_is_stored(
    run: Run, store: Store, thread: str
) -> None:
    run(
        CHILD
        + """
    def by_thread():
        if sys.argv[1] == 'daemon':
            thread = threading.Thread(target=work, args=range(10), daemon=True)
            thread.start()
            thread.join()
        else:
            with ThreadPool(2) as pool:
                pool.map(work, range(10))

    process = context.Process(target=by_thread)
    process.start()
    process.join()
    say('code', process.exitcode)
    """,
        thread,
        options=QUIET,
    )

    assert sorted(store.values('child')) == list(range(10))


@pytest.mark.failure('F20', 'a child of a copy of multiprocessing: pathos, Celery')
@pytest.mark.parametrize('library', ['multiprocess', 'billiard'])
def test_the_children_of_copies_of_multiprocessing_are_stored(
    run: Run, store: Store, library: str
) -> None:
    pytest.importorskip(library)
    run(
        CHILD
        + """
    context = importlib.import_module(sys.argv[1]).get_context('fork')
    say('code', started(0, 1))
    """,
        library,
        options=QUIET,
    )

    store.require('child', [0, 1])


@pytest.mark.failure('F16', 'a thread forks, and the child ends with the thread')
@pytest.mark.parametrize('how', ['returns', 'exits'])
def test_a_child_that_a_thread_forks_is_stored_and_ends(run: Run, store: Store, how: str) -> None:
    run(
        CHILD
        + """
    def fork():
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        else:
            work(0, 1)
            if sys.argv[1] == 'exits':
                sys.exit()

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    """,
        how,
        options=QUIET,
    )

    store.require('child', [0, 1])
