"""The worker itself fails: the next call says so, or it starts again, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness import Ended, Store

Run = Callable[..., Ended]

INJECTS = """
    import inspect, os, sys, threading
    from child import experiment, say, wait_until
    from neptune_async import Experiment
    from neptune_async._engine.lifecycle import experiments
    from neptune_async._engine.worker.connection import Connection
    from neptune_async._engine.worker.outbox import Outbox
    from neptune_async._engine.worker.worker import Worker
    from neptune_async._storage.sqlite.storage import SQLiteStorage
    from neptune_async.exceptions import FlushTimeoutError, NeptuneAsyncError

    def fail_once(owner, name, error):
        '''Have a method raise once, when the worker calls it, from the moment it is armed.'''
        method = owner.__dict__[name]
        fault = {'armed': False, 'fired': False}

        def fail():
            on_worker = threading.current_thread().name.startswith('neptune_async')
            if fault['armed'] and on_worker:
                fault.update(armed=False, fired=True)
                raise error

        def failing(*args, **kwargs):
            fail()
            return method(*args, **kwargs)

        async def failing_when_awaited(*args, **kwargs):
            fail()
            return await method(*args, **kwargs)

        is_awaited = inspect.iscoroutinefunction(method)
        setattr(owner, name, failing_when_awaited if is_awaited else failing)
        return fault, lambda: setattr(owner, name, method)
"""


@pytest.mark.failure('F51', 'the worker dies while it writes')
@pytest.mark.parametrize('error', ['RuntimeError', 'MemoryError', 'SystemExit', 'GeneratorExit'])
@pytest.mark.parametrize(
    ('owner', 'name'),
    [
        ('Worker', '_write_pending'),
        ('Worker', '_commit'),
        ('Worker', '_settle'),
        ('Outbox', '_fill'),
        ('Worker', '_interval'),
        ('Worker', '_compact'),
    ],
)
def test_a_worker_that_died_is_not_silent_and_loses_nothing(
    run: Run, store: Store, owner: str, name: str, error: str
) -> None:
    ended = run(
        INJECTS
        + """
    owner, name, error = sys.argv[1:]
    fault, repair = fail_once(eval(owner), name, eval(error)('injected'))
    exp = experiment(flush_interval=0.01)
    for n in range(100):
        exp['loss'].log(n)
    exp.flush()
    fault['armed'] = True
    for n in range(100, 200):
        exp['loss'].log(n)
    wait_until(lambda: fault['fired'])
    for n in range(200, 300):
        exp['loss'].log(n)
    # What is logged from here on must be stored without another word from the caller.
    wait_until(lambda: exp.pending == 0, seconds=10)
    exp.flush()
    exp['loss'].tail(1)
    """,
        owner,
        name,
        error,
    )

    assert 'injected' in ended.errors
    store.require('loss', range(300))


@pytest.mark.failure('F51', 'each function of worker, connection and storage fails in turn')
def test_no_function_that_fails_once_loses_anything(run: Run, store: Store) -> None:
    ended = run(
        INJECTS
        + """
    def methods(owner):
        return [
            (owner, name)
            for name, value in vars(owner).items()
            if callable(value) and not name.startswith('__') and not isinstance(value, type)
        ]

    functions = [
        (experiments, name)
        for name, value in vars(experiments).items()
        if inspect.isfunction(value) and value.__module__ == experiments.__name__
    ]
    methods_of_all = methods(Worker) + methods(Connection) + methods(SQLiteStorage)
    for owner, name in functions + methods_of_all:
        where = f'{owner.__name__}.{name}'
        store = f'{where}.db'
        fault, repair = fail_once(owner, name, RuntimeError(where))
        exp = Experiment('EXP', storage=store, flush_interval=0.01)
        for n in range(100):
            exp['loss'].log(n)
        fault['armed'] = True
        for n in range(100, 200):
            exp['loss'].log(n)
        try:
            exp.flush(timeout=20)
            exp['loss'].tail(1)
            exp['loss'].exists()
        except FlushTimeoutError:
            say('hung', where)
        except NeptuneAsyncError:
            pass
        except RuntimeError as error:
            assert str(error) == where, error
        for n in range(200, 300):
            exp['loss'].log(n)
        try:
            exp.flush(timeout=20)
        except FlushTimeoutError:
            say('hung', where)
        except (NeptuneAsyncError, RuntimeError):
            exp.flush(timeout=20)
        try:
            exp.close(timeout=20)
        except FlushTimeoutError:
            say('hung', where)
        except (NeptuneAsyncError, RuntimeError):
            pass
        repair()
        if fault['fired']:
            say('fired', where)
        with Experiment('EXP', storage=store, mode='read') as exp:
            if exp['loss'].all() != [*range(300)]:
                say('lost', where, len(exp['loss'].all()))
    """,
        limit=240,
    )

    store.tally.trials = sum(line.startswith('fired') for line in ended.lines)
    store.tally.hung = sum(line.startswith('hung') for line in ended.lines)
    store.tally.lost = sum(line.startswith('lost') for line in ended.lines)
    assert store.tally.trials > 15
    assert [line for line in ended.lines if not line.startswith('fired')] == []


@pytest.mark.failure('F51', 'the worker dies while callers wait for it')
def test_those_who_wait_for_a_worker_that_dies_are_told(run: Run, store: Store) -> None:
    ended = run(
        INJECTS
        + """
    fault, repair = fail_once(Worker, '_write_pending', RuntimeError('injected'))
    exp = experiment(flush_interval=60)
    for n in range(100):
        exp['loss'].log(n)
    fault['armed'] = True

    def wait():
        while True:
            try:
                exp.flush()
                say('flushed')
                return
            except NeptuneAsyncError as error:
                say('told', type(error).__name__)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    """
    )

    assert ended.lines.count('flushed') == 4
    assert any(line.startswith('told') for line in ended.lines)
    store.require('loss', range(100))


@pytest.mark.failure('F51', 'the worker dies again and again')
def test_a_worker_that_dies_for_good_spills_at_the_end(run: Run, store: Store) -> None:
    ended = run("""
        from child import experiment, say, wait_until
        from neptune_async._engine.lifecycle import running_workers
        from neptune_async._engine.worker.worker import Worker
        running_workers.EXIT_TIMEOUT = 1.0
        exp = experiment(flush_interval=0.01)
        exp['loss'].log(0)
        exp.flush()

        def die(self, *_):
            raise RuntimeError('injected')

        Worker._commit = die
        for n in range(1, 1000):
            exp['loss'].log(n)
    """)

    assert 'Exception ignored' not in ended.errors
    assert len(store.spills) == 1
    assert str(store.spills[0]) in ended.errors
    store.open_once()
    store.require('loss', range(1000))


@pytest.mark.failure('F43', 'an operation that storage cannot digest, among many')
def test_a_poisoned_operation_takes_no_other_with_it(run: Run, store: Store) -> None:
    ended = run("""
        from child import experiment, say
        from neptune_async._storage.sqlite import writing
        from neptune_async.exceptions import RejectedOperationsError
        assign = writing._assign

        def poisoned(connection, assigns):
            if any(b'poison' in assign.value for assign in assigns):
                raise OverflowError('poison')
            assign(connection, assigns)

        writing._assign = poisoned
        exp = experiment(flush_interval=60)
        for n in range(100):
            exp['loss'].log(n)
            exp[f'atom/{n}'].assign('poison' if n == 50 else n)
        try:
            exp.flush()
        except RejectedOperationsError as error:
            say('rejected', sum(rejection.count for rejection in error.rejections))
            say('path', error.rejections[0].path)
        for n in range(100, 200):
            exp['loss'].log(n)
        exp.flush()
        stats = exp.stats()
        say('committed', stats.committed, stats.rejected, stats.pending)
    """)

    assert ended.lines == ['rejected 1', 'path atom/50', 'committed 299 1 0']
    store.require('loss', range(200))
    with store.reading() as exp:
        assert exp['atom/49'].read() == 49
        assert exp['atom/51'].read() == 51
