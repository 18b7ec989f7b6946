"""The process dies without a word: what was flushed is there, and nothing is torn."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Child, Ended, Store, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

pytestmark = pytest.mark.unmeasured

WRITES_UNTIL_IT_DIES = """
    import sys
    from child import experiment, say
    round = int(sys.argv[1])
    exp = experiment(flush_interval=0.002)
    texts, atom, tags = exp['texts'], exp['atom'], exp['tags']
    own, shared = exp[f'own/{round}'], exp['shared']
    n = 0
    while True:
        say('announced', n + 100)
        for _ in range(100):
            own.log(n)
            shared.log(float(round * 10**9 + n))
            texts.log(f'{round}:{n}')
            n += 1
        atom.assign(n)
        tags.add(f'{round}:{n}')
        if n % 300 == 0:
            exp.flush()
            say('flushed', n)
"""


@pytest.mark.failure('F1', 'SIGKILL at a random moment, again and again on one store')
def test_what_was_flushed_survives_a_kill(start: Start, store: Store) -> None:
    rounds = store.tally.trials = trials(50)
    chance = random.Random(1)
    stored: dict[int, int] = {}
    for number in range(rounds):
        child = start(WRITES_UNTIL_IT_DIES, number)
        # Now in the middle of opening, now when it has been flushing for a while.
        for _ in range(chance.choice([0, 1, 1, 3, 10])):
            child.wait_for('flushed')
        time.sleep(chance.uniform(0, 0.02))
        child.send(signal.SIGKILL)
        ended = child.finish(code=-signal.SIGKILL)

        flushed = max([0, *ended.numbers('flushed')])
        announced = max([0, *ended.numbers('announced')])
        own = store.values(f'own/{number}') if store.path.exists() else []
        stored[number] = len(own)
        store.require_equal(own, [*range(max(len(own), flushed))])
        assert len(own) <= announced
        if flushed:
            with store.reading() as exp:
                assert exp['atom'].read() >= flushed
                assert f'{number}:{flushed}' in exp['tags'].get()
    assert sum(stored.values()) > 0
    store.require_whole()
    for path, text in (('shared', '{}e9+{}'), ('texts', '{}:{}')):
        found = [
            text.format(*map(int, divmod(v, 10**9))) if path == 'shared' else v
            for v in store.values(path)
        ]
        for number, count in stored.items():
            some = [v for v in found if v.startswith(text.format(number, ''))]
            # The kill may have come between the two calls.
            assert count - 1 <= len(some) <= count
            store.require_equal(some, [text.format(number, n) for n in range(len(some))])


@pytest.mark.failure('F1', 'SIGKILL while a store is made')
def test_a_kill_while_the_store_is_made_leaves_one_that_opens(start: Start, store: Store) -> None:
    rounds = store.tally.trials = trials(10)
    for number in range(rounds):
        child = start("""
            from child import say
            import neptune_async._storage.sqlite.opening as opening
            create = opening._create_schema
            def announced(connection):
                say('making')
                create(connection)
            opening._create_schema = announced
            from child import experiment
            experiment()
            say('made')
        """)
        child.wait_for('making')
        time.sleep(random.Random(number).uniform(0, 0.003))
        child.send(signal.SIGKILL)
        child.finish(code=None)
        store.open_once()
        store.require_whole()
        for file in store.path.parent.glob('experiments.db*'):
            file.unlink()


@pytest.mark.failure('F1', 'SIGKILL while the log becomes chunks')
def test_a_kill_during_compaction_loses_and_doubles_nothing(start: Start, store: Store) -> None:
    rounds = store.tally.trials = trials(8)
    chance = random.Random(2)
    total = 0
    for _ in range(rounds):
        child = start(
            """
            import sys
            from child import experiment, say
            exp = experiment()
            for n in range(int(sys.argv[1]), int(sys.argv[1]) + 70_000):
                exp['loss'].log(n)
            exp.flush()
            say('flushed', n + 1)
            say('closing')
            exp.close()
            say('closed')
            """,
            total,
        )
        child.wait_for('closing')
        time.sleep(chance.uniform(0, 0.05))
        child.send(signal.SIGKILL)
        ended = child.finish(code=None)
        total = store.require_prefix('loss', ended.number('flushed'), ended.number('flushed'))
    assert total == 70_000 * rounds


@pytest.mark.failure('F3', 'os._exit, os.abort and a segmentation fault')
@pytest.mark.parametrize(
    ('end', 'code'),
    [
        ('os._exit(0)', 0),
        ('os.abort()', -signal.SIGABRT),
        ('faulthandler._sigsegv()', -signal.SIGSEGV),
    ],
)
def test_what_was_flushed_survives_a_crash(run: Run, store: Store, end: str, code: int) -> None:
    ended = run(
        f"""
        import faulthandler, os, resource
        from child import experiment, say
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        exp = experiment(flush_interval=60)
        for n in range(1000):
            exp['loss'].log(n)
        exp.flush()
        for n in range(1000, 2000):
            exp['loss'].log(n)
        {end}
        """,
        code=code,
    )

    assert ended.lines == []
    store.require('loss', range(1000))


@pytest.mark.failure('F4', 'SIGTERM, its default action')
def test_what_was_logged_an_interval_ago_survives_sigterm(start: Start, store: Store) -> None:
    child = start("""
        import time
        from child import experiment, say, wait_until
        exp = experiment()
        for n in range(1000):
            exp['loss'].log(n)
        wait_until(lambda: exp.pending == 0)  # by itself, within flush_interval and a commit
        say('stored')
        n = 1000
        while True:
            exp['loss'].log(n)
            n += 1
            if n == 2000:
                say('on')
            time.sleep(0.0001)
    """)
    child.wait_for('on')
    child.send(signal.SIGTERM)
    ended = child.finish(code=-signal.SIGTERM)

    assert ended.errors == ''
    store.require_prefix('loss', 1000, 10**9)


@pytest.mark.failure('F4', 'SIGTERM, turned into SystemExit by a handler')
def test_sigterm_that_raises_system_exit_stores_everything(start: Start, store: Store) -> None:
    child = start("""
        import signal, sys
        from child import experiment, say
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        exp = experiment(flush_interval=60)
        n = 0
        try:
            while True:
                exp['loss'].log(n)
                n += 1
                if n == 2000:
                    say('on')
        finally:
            say('returned', n)
    """)
    child.wait_for('on')
    child.send(signal.SIGTERM)
    ended = child.finish(code=143)

    assert ended.errors == ''
    store.require_prefix('loss', ended.number('returned'), ended.number('returned') + 1)


@pytest.mark.failure('F6', 'the -wal is cut at a random byte, as by a power loss')
def test_a_torn_wal_leaves_a_prefix(start: Start, store: Store, tmp_path: Path) -> None:
    store.open_once()
    child = start("""
        from child import experiment, say
        exp = experiment(flush_interval=60)
        for n in range(2000):
            exp['loss'].log(n)
            if n % 20 == 19:
                exp.flush()
        say('written')
        import signal
        signal.pause()
    """)
    child.wait_for('written')
    child.send(signal.SIGKILL)
    child.finish(code=-signal.SIGKILL)
    database = store.path.read_bytes()
    wal = store.path.with_name(f'{store.path.name}-wal').read_bytes()
    chance = random.Random(3)
    rounds = store.tally.trials = trials(20)
    lengths = []
    for number in range(rounds):
        copy = Store(tmp_path / f'copy{number}.db', store.tally)
        copy.path.write_bytes(database)
        cut = bytearray(wal[: chance.randrange(len(wal) + 1)])
        if cut and number % 2:
            cut[chance.randrange(len(cut) // 2, len(cut))] ^= 1 << chance.randrange(8)
        copy.path.with_name(f'{copy.path.name}-wal').write_bytes(cut)
        lengths.append((len(cut), copy.require_prefix('loss', 0, 2000)))
        assert lengths[-1][1] % 20 == 0  # whole batches only
    assert len({length for _, length in lengths}) > 1
