"""A rewind is in the order of what its process logs, whatever happens to it."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from postgres_server import PostgresServer, session

from neptune_async import Experiment, list_experiments
from neptune_async.exceptions import ExperimentExistsError, StorageError

from .child import wait_until
from .harness import Child, Ended, Store, mark, trials
from .servers import Proxy

Run = Callable[..., Ended]
Start = Callable[..., Child]

LOGS_AND_REWINDS = """
    import os, sys, itertools
    from child import experiment, hear, say
    from neptune_async._engine.lifecycle import running_workers

    def call(n):
        # Of every 50 calls 49 log, and the last rewinds to the 30th.
        round_, number = divmod(n, 50)
        if number == 49:
            exp.rewind(30 * round_ + 29)
        else:
            exp['loss'].log(n)
            exp['text'].log(str(n))
"""


def left_after(calls: int) -> list[int]:
    """Return what is left of the calls of ``LOGS_AND_REWINDS``."""
    rounds, last = divmod(calls, 50)
    kept = [50 * round_ + n for round_ in range(rounds) for n in range(30)]
    return [*kept, *(50 * rounds + n for n in range(last))]


@pytest.mark.failure('F1', "SIGKILL around a rewind, durability='call'")
def test_rewinds_survive_a_kill_in_their_order(start: Start, store: Store) -> None:
    rounds = store.tally.trials = trials(12)
    draw = random.Random(0)
    for number in range(rounds):
        name = f'EXP-{number}'
        interval = draw.choice([0.001, 0.01, 60.0])
        child = start(
            LOGS_AND_REWINDS
            + """
    exp = experiment(sys.argv[1], durability='call', flush_interval=float(sys.argv[2]))
    for n in itertools.count():
        os.write(1, b'a %d\\n' % n)
        call(n)
        os.write(1, b'b %d\\n' % n)
            """,
            name,
            interval,
        )
        child.wait_for('b', draw.randrange(45, 260))
        time.sleep(draw.uniform(0.0, 0.01))
        child.send(signal.SIGKILL)
        ended = child.finish(-signal.SIGKILL)
        store.open_once(name)

        assert store.spills == []
        store.require_whole()
        acknowledged, announced = ended.number('b') + 1, ended.number('a') + 1
        possible = [left_after(calls) for calls in {acknowledged, announced}]
        loss, texts = store.values('loss', name), store.values('text', name)
        assert loss in possible
        assert [*map(int, texts)] in possible
        assert store.steps('loss', name) == [*range(len(loss))]


@pytest.mark.failure('F11', 'the store is held at the end, with rewinds queued')
def test_rewinds_are_spilled_in_their_order(start: Start, store: Store) -> None:
    child = start(
        LOGS_AND_REWINDS
        + """
    running_workers.EXIT_TIMEOUT = 0.5
    exp = experiment(flush_interval=60.0)
    say('open')
    hear()
    for n in range(520):
        call(n)
    say('pending', exp.pending)
        """
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        ended = child.finish()
    assert ended.number('pending') == 2 * 510 + 10
    assert len(store.spills) == 1
    assert store.points() == 0
    store.require_equal(store.values('loss'), left_after(520))  # as it will be

    store.open_once()
    assert store.spills == []
    store.require('loss', left_after(520))
    store.require('text', [*map(str, left_after(520))])
    assert store.steps('text') == [*range(len(left_after(520)))]


@pytest.mark.failure('F29', 'the store is held while an experiment is rewound')
def test_a_store_that_is_held_delays_a_rewind_and_fails_no_call(start: Start, store: Store) -> None:
    child = start(
        LOGS_AND_REWINDS
        + """
    exp = experiment(flush_interval=0.001)
    say('open')
    hear()
    for n in range(260):
        call(n)
    say('called', exp.pending)
    hear()
    exp.flush()
        """
    )
    child.wait_for('open')
    with store.held():
        child.tell()
        child.wait_for('called', 2 * 255 + 5)
    child.tell()
    assert child.finish().errors == ''
    store.require('loss', left_after(260))


WRITES_BESIDE_OTHERS = """
    import sys
    from child import experiment, hear, mark, say
    writer, rewinds = int(sys.argv[1]), int(sys.argv[2])
    exp = experiment(flush_interval=0.002)
    say('ready')
    hear()
    for n in range(3_000):
        exp['shared'].log(mark(writer, n))
        exp[f'own/{writer}'].log(float(n))
        if rewinds and n % 300 == 299:
            exp.rewind(n // 4, 'shared')
            exp.rewind(99, f'own/{writer}')
    exp.flush()
    say('rewound')
    hear()
    for n in range(3_000, 4_000):
        exp['shared'].log(mark(writer, n))
        exp[f'own/{writer}'].log(float(n))
"""


@pytest.mark.failure('F30', 'two processes log to a series while one of them rewinds it')
def test_each_process_keeps_its_order_around_the_rewinds_of_another(
    start: Start, store: Store
) -> None:
    rounds = store.tally.trials = trials(2)
    for number in range(rounds):
        for file in store.path.parent.glob('experiments.db*'):
            file.unlink()
        children = [start(WRITES_BESIDE_OTHERS, writer, int(writer == 1)) for writer in range(3)]
        for word in ('ready', 'rewound'):
            for child in children:
                child.wait_for(word)
            for child in children:
                child.tell()
        ended = [child.finish() for child in children]

        assert ''.join(one.errors for one in ended) == '', number
        store.require_whole()
        shared = store.values('shared')
        assert store.steps('shared') == [*range(len(shared))]
        for writer in range(3):
            own = [value for value in shared if value // 10**9 == writer]
            assert own == sorted({*own})
            # What came after the last rewind is all there.
            store.require_equal(own[-1000:], [mark(writer, n) for n in range(3_000, 4_000)])
        # The last rewind leaves no more than the step that it names.
        assert len(shared) <= 3 * 1000 + 2999 // 4 + 1 + 2 * 3000
        for writer in (0, 2):
            store.require(f'own/{writer}', range(4_000))
        store.require('own/1', [*range(100), *range(3_000, 4_000)])


@pytest.mark.failure('F30', 'an experiment is forked while two processes log to it')
def test_a_fork_has_a_prefix_of_what_each_process_logs(start: Start, store: Store) -> None:
    children = [
        start(
            """
            import sys
            from child import experiment, hear, mark, say
            writer = int(sys.argv[1])
            exp = experiment(flush_interval=0.002)
            say('ready')
            hear()
            for n in range(4_000):
                exp['shared'].log(mark(writer, n))
                exp['last'].assign(n)
                if writer and n % 400 == 399:
                    exp.fork(f'FORK-{n}', step=1_000 if n > 2_000 else None).close()
            """,
            writer,
        )
        for writer in range(2)
    ]
    for child in children:
        child.wait_for('ready')
    for child in children:
        child.tell()
    assert ''.join(child.finish().errors for child in children) == ''

    store.require_whole()
    store.require_interleaved('shared', dict.fromkeys(range(2), 4_000))
    original = store.values('shared')
    for n in range(399, 4_000, 400):
        found = store.values('shared', f'FORK-{n}')
        assert found == original[: len(found)]
        assert store.steps('shared', f'FORK-{n}') == [*range(len(found))]
        if n > 2_000:
            assert len(found) == 1_001
        else:
            assert mark(1, n) in found


@pytest.mark.failure('F38', 'the reply to a fork is lost')
def test_a_fork_whose_reply_is_lost_is_made_once(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where what cannot be stored is spilled
    url = postgres.url()
    with closing(Proxy(postgres.port)) as proxy:
        through = url.replace(f':{postgres.port}/', f':{proxy.port}/')
        with Experiment('a', storage=through) as exp, ThreadPoolExecutor(1) as pool:
            exp['x'].extend([1.0, 2.0])
            exp.flush()
            with session(url) as other:
                # It waits there, and goes on when nobody hears of it any more.
                other.execute('BEGIN; LOCK TABLE epochs IN EXCLUSIVE MODE')
                forking = pool.submit(exp.fork, 'b')
                wait_until(lambda: other.value('SELECT count(*) FROM pg_locks WHERE NOT granted'))
                proxy.break_all()
                other.execute('ROLLBACK')
            with forking.result(60) as fork:
                assert fork['x'].all() == [1.0, 2.0]
            with pytest.raises(ExperimentExistsError):
                exp.fork('b')
    assert list_experiments(url) == ['a', 'b']


@pytest.mark.failure('F38', 'the reply to a fork is lost, and the server away for longer')
@pytest.mark.parametrize('meanwhile', ['nothing', 'a log', 'another step'])
def test_a_fork_that_failed_is_made_once_when_it_is_called_again(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    monkeypatch.chdir(tmp_path)  # where what cannot be stored is spilled
    url = postgres.url()
    with closing(Proxy(postgres.port)) as proxy:
        through = url.replace(f':{postgres.port}/', f':{proxy.port}/')
        with Experiment('a', storage=through) as exp, ThreadPoolExecutor(1) as pool:
            exp['x'].extend([1.0, 2.0])
            exp.flush()
            with session(url) as other:
                # It waits there, and goes on when nobody hears of it any more.
                other.execute('BEGIN; LOCK TABLE epochs IN EXCLUSIVE MODE')
                forking = pool.submit(exp.fork, 'b', 1)
                wait_until(lambda: other.value('SELECT count(*) FROM pg_locks WHERE NOT granted'))
                proxy.refuse()
                proxy.break_all()
                with pytest.raises(StorageError):
                    forking.result(60)
                other.execute('ROLLBACK')
            wait_until(lambda: list_experiments(url) == ['a', 'b'])
            proxy.welcome()
            if meanwhile == 'nothing':
                with exp.fork('b', 1) as fork:
                    assert fork['x'].all() == [1.0, 2.0]
            if meanwhile == 'a log':
                exp['x'].log(1.5, step=1)  # which a copy would have
            with pytest.raises(ExperimentExistsError, match='of a fork that failed'):
                exp.fork('b', 0 if meanwhile == 'another step' else 1)
    assert list_experiments(url) == ['a', 'b']
