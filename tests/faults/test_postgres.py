"""Servers die, vanish and refuse: nothing is lost, nothing is stored twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from postgres_server import PostgresServer, session

from neptune_async import Experiment
from neptune_async.exceptions import FlushTimeoutError, RejectedOperationsError, StorageError

from .harness import Child, Ended, Tally, trials
from .servers import Fault, Proxy, ServerStore, lossy_wire, wire

Run = Callable[..., Ended]
Start = Callable[..., Child]

VALUES = 1_000 * trials(20)
LOGS = f"""
    import os, sys
    from child import experiment, hear, say
    from neptune_async.exceptions import NeptuneAsyncError

    def store(count):
        has_failed = False
        while exp.pending:
            try:
                exp.flush(timeout=1)
            except NeptuneAsyncError:
                if not has_failed:
                    say('failed', count)
                has_failed = True
        say('acknowledged', count)

    exp = experiment(flush_interval=0.005)
    exp['x'].log(0.0)
    exp.flush()
    say('open')
    for n in range(1, {VALUES}):
        exp['x'].log(float(n))
        if n % 100 == 0:
            store(n + 1)
        if n == {VALUES} - 1_000:
            hear()
    store({VALUES})
    say('retries', exp.stats().retries)
"""


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.url()


@pytest.fixture
def store(url: str, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> ServerStore:
    monkeypatch.chdir(tmp_path)
    return ServerStore(url, tmp_path, tally)


@pytest.fixture
def mortal(tmp_path: Path, tally: Tally) -> Iterator[tuple[PostgresServer, ServerStore]]:
    """A server that a test may kill, and a store in it."""
    server = PostgresServer()
    try:
        server.start()
        yield server, ServerStore(server.url(), tmp_path, tally)
    finally:
        server.stop()


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with closing(Proxy(postgres.port)) as some:
        yield some


def through(proxy: Proxy, url: str, port: int, options: str = '') -> dict[str, str]:
    """Return the environment of a child that comes to the store by way of the proxy."""
    return {'STORE': url.replace(f':{port}/', f':{proxy.port}/') + options}


# ── The server dies ──────────────────────────────────────────────────────────


@pytest.mark.failure('F37', 'the server is killed and restarted')
def test_a_server_that_is_killed_and_restarted_gets_all_once(
    start: Start, mortal: tuple[PostgresServer, ServerStore], tally: Tally
) -> None:
    server, store = mortal
    tally.trials = trials(3)
    child = start(LOGS, env={'STORE': store.url}, limit=300)
    child.wait_for('open')
    for _ in range(tally.trials):
        child.wait_for('acknowledged')
        server.kill()
        child.wait_for('failed')
        server.start()
        child.wait_for('acknowledged')
    child.tell()
    ended = child.finish()
    assert ended.number('retries') >= tally.trials
    store.require('x', range(VALUES))
    assert store.steps('x') == [*range(VALUES)]


@pytest.mark.failure('F37', 'the server is away when the process ends')
def test_what_a_dead_server_did_not_take_is_recovered_once(
    run: Run, start: Start, mortal: tuple[PostgresServer, ServerStore], tmp_path: Path
) -> None:
    server, store = mortal
    child = start(
        """
        from child import experiment, hear, say
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = 0.5
        exp = experiment(max_pending=1_000)
        exp['x'].log(0.0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 5_000):    # most of them pass what memory has room for
            exp['x'].log(float(n))
        say('logged')
        """,
        env={'STORE': store.url},
    )
    child.wait_for('open')
    server.kill()
    child.tell()
    assert 'python -m neptune_async recover' in child.finish().errors
    assert store.spills
    server.start()
    recover = [sys.executable, '-m', 'neptune_async', 'recover', '--storage', store.url]
    for told in ('operations are in', 'nothing was left behind'):
        done = subprocess.run(recover, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert told in done.stdout
    assert store.spills == []
    store.require('x', range(5_000))


@pytest.mark.failure('F37', 'the process is killed while the server is away')
def test_a_journal_outlives_the_process_while_the_server_is_away(
    start: Start, mortal: tuple[PostgresServer, ServerStore], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server, store = mortal
    child = start(
        """
        from child import experiment, hear, say
        exp = experiment(durability='call')
        exp['x'].log(0.0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 1_000):
            exp['x'].log(float(n))
        say('logged')
        hear()
        """,
        env={'STORE': store.url},
    )
    child.wait_for('open')
    server.kill()
    child.tell()
    child.wait_for('logged')
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)
    server.start()
    monkeypatch.chdir(tmp_path)
    store.open_once()
    store.require('x', range(1_000))


# ── The network ──────────────────────────────────────────────────────────────


@pytest.mark.failure('F38', 'the reply, or the request, is lost')
@pytest.mark.parametrize('fault', ['lose the reply', 'lose the request'])
def test_what_is_lost_on_the_way_is_stored_once(
    start: Start, store: ServerStore, proxy: Proxy, postgres: PostgresServer, fault: Fault,
    tally: Tally,
) -> None:  # fmt: skip
    tally.trials = trials(20)
    child = start(LOGS, env=through(proxy, store.url, postgres.port), limit=300)
    child.wait_for('open')
    for _ in range(tally.trials):
        proxy.harm(fault)
        child.wait_for('acknowledged')
    child.tell()
    ended = child.finish()
    assert ended.number('retries') >= tally.trials / 2
    store.require('x', range(VALUES))
    assert store.steps('x') == [*range(VALUES)]


@pytest.mark.failure('F39', 'the network swallows everything')
def test_a_black_hole_keeps_nobody_waiting_and_loses_nothing(
    start: Start, store: ServerStore, postgres: PostgresServer
) -> None:
    schema = store.url.partition('schema=')[2]
    with wire(postgres, schema) as way:
        child = start(
            f"""
            {way.enter}
            import time
            from child import experiment, hear, say
            from neptune_async.exceptions import FlushTimeoutError, StorageError
            exp = experiment()
            exp['x'].log(0.0)
            exp.flush()
            say('open')
            hear()
            slowest = 0.0
            for n in range(1, 50_000):
                began = time.perf_counter()
                exp['x'].log(float(n))
                slowest = max(slowest, time.perf_counter() - began)
            began = time.monotonic()
            try:
                exp.flush(timeout=0.5)
            except FlushTimeoutError as error:
                say('pending', error.pending)
            say('waited', int(1000 * (time.monotonic() - began)))
            say('slowest', int(1000 * slowest))
            hear()
            while exp.pending:
                try:
                    exp.flush()
                except StorageError:
                    pass
            """,
            env={'STORE': f'{way.url}&command_timeout=2&connect_timeout=2'},
            limit=180,
        )
        child.wait_for('open')
        way.cut()
        child.tell()
        child.wait_for('slowest')
        time.sleep(trials(6))  # for so long the network is gone: 60 s in `nox -s faults`
        way.heal()
        child.tell()
        ended = child.finish()
    assert ended.number('pending') > 0
    assert ended.number('waited') < 2_000
    assert ended.number('slowest') < 500
    store.require('x', range(50_000))


@pytest.mark.failure('F39', 'the network loses packets, and delays the others')
def test_packets_that_are_lost_lose_and_double_nothing(
    start: Start, store: ServerStore, postgres: PostgresServer, tally: Tally
) -> None:
    tally.trials = trials(15)
    schema = store.url.partition('schema=')[2]
    with ExitStack() as stack:
        try:
            way = stack.enter_context(lossy_wire(postgres, schema, loss=0.2, delay=0.01))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f'F39: a lossy network cannot be injected: {error}')
        child = start(
            f"""
            {way.enter}
            from child import experiment, hear, say
            from neptune_async.exceptions import StorageError
            exp = experiment()
            count = 0
            while hear():
                exp['x'].extend([float(count + n) for n in range(100)])
                count += 100
                while exp.pending:
                    try:
                        exp.flush()
                    except StorageError:
                        pass
                say('acknowledged')
            """,
            env={'STORE': f'{way.url}&command_timeout=2&connect_timeout=5'},
            limit=240,
        )
        batches = 0
        while way.lost() < tally.trials:
            batches += 1
            child.tell()
            child.wait_for('acknowledged')
            way.cut()
        way.heal()
        child.finish()
    store.require('x', range(100 * batches))


# ── Other backends ───────────────────────────────────────────────────────────


@pytest.mark.failure('F40', 'a backend that nobody listens to holds the row of the writer')
def test_a_zombie_backend_does_not_have_a_batch_stored_twice(
    start: Start, store: ServerStore, proxy: Proxy, postgres: PostgresServer
) -> None:
    child = start(
        """
        from child import experiment, hear, say
        from neptune_async.exceptions import StorageError
        exp = experiment()
        exp['x'].log(0.0)
        exp.flush()
        say('open')
        hear()
        exp['x'].extend([1.0, 2.0, 3.0])
        while exp.pending:
            try:
                exp.flush()
            except StorageError:
                pass
        say('retries', exp.stats().retries)
        """,
        env=through(proxy, store.url, postgres.port, '&lock_timeout=200ms'),
    )
    child.wait_for('open')
    with session(store.url) as holder, session(store.url) as asked:
        holder.execute('BEGIN; LOCK TABLE chunks IN EXCLUSIVE MODE')
        # Not the child's own, which ends what waits for too long.
        asked.execute('ALTER FUNCTION lock_series SET lock_timeout = 0')
        asked.execute('ALTER FUNCTION append_points SET lock_timeout = 0')
        child.tell()
        zombie = waiting_for_chunks(asked)
        os.kill(zombie, signal.SIGSTOP)
        try:
            proxy.break_all()
            wait_for(asked, 'SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> $1', zombie)
            holder.execute('ROLLBACK')
        finally:
            os.kill(zombie, signal.SIGCONT)
    assert child.finish().number('retries') > 0
    store.require('x', range(4))


def waiting_for_chunks(asked: object) -> int:
    """Return the backend that has the row of the writer, and waits for the table of points."""
    return wait_for(asked, "SELECT max(pid) FROM pg_locks WHERE NOT granted AND "
                           "relation = 'chunks'::regclass")  # fmt: skip


def wait_for(asked: object, query: str, *args: object) -> int:
    """Ask until the answer is not null or zero; it has to come before the time is up."""
    end = time.monotonic() + 30
    while not (found := asked.value(query, *args)):  # type: ignore[attr-defined]  # a Session
        assert time.monotonic() < end
        time.sleep(0.01)  # between two looks at a condition, which has a bound
    return int(found)


BUSY = 'were not stored within'
SENT_AGAIN = {
    # A connection that fails, or a commit of which nobody knows.
    '08000': '08000', '08003': '08003', '08006': '08006', '08007': '08007', '40003': '40003',
    # Others are in the way, and are waited for: it is the flush whose time is over.
    '40001': BUSY, '40P01': BUSY, '55P03': BUSY,
    # The server has no room, ends, or is damaged.
    '53100': 'make room', '53200': '53200', '53300': 'max_connections', '57014': '57014',
    '57P01': 'starting or stopping', '57P02': 'starting or stopping',
    '57P03': 'starting or stopping', '58030': '58030', 'XX001': 'XX001',
    # It may be put right by who runs the server.
    '25006': 'name the primary', '28P01': 'check user and password', '42501': 'Grant it',
    '42P01': 'was its schema changed', '42883': 'was its schema changed',
}  # fmt: skip
"""What an error of the server's is told with, by its SQLSTATE."""
TO_BLAME = ('22003', '22P02', '23502', '23505', '23514', '54000', 'P0001')
AT_THE_DOOR = {
    '08004': '08004', '28000': 'check user and password', '28P01': 'check user and password',
    '3D000': 'create the database', '42501': 'Grant it', '53300': 'max_connections',
    '57P01': 'starting or stopping', '57P03': 'starting or stopping',
}  # fmt: skip


def raising(code: str, when: str) -> str:
    return f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'not now' USING ERRCODE = '{code}'; END $$;
        CREATE TRIGGER refusing {when} EXECUTE FUNCTION refuse();
    """


@pytest.mark.failure('F41', 'the server answers with an error')
@pytest.mark.parametrize('code', SENT_AGAIN)
def test_an_error_of_the_servers_loses_and_doubles_nothing(
    store: ServerStore, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Experiment('EXP', storage=store.url, flush_interval=0.01) as exp:
        exp['x'].log(0.0)
        exp.flush()
        with session(store.url) as asked:
            asked.execute(raising(code, 'BEFORE INSERT ON chunks'))
            exp['x'].log(1.0)
            exp['a'].assign(7)
            with pytest.raises((StorageError, FlushTimeoutError), match=SENT_AGAIN[code]):
                exp.flush(timeout=0.3 if SENT_AGAIN[code] == BUSY else 30)
            assert exp.pending == 2
            asked.execute('DROP TRIGGER refusing ON chunks')
        while exp.pending:
            with suppress(StorageError):
                exp.flush()
        assert exp['a'].read() == 7
        assert exp.stats().rejected == 0
    store.require('x', [0.0, 1.0])


@pytest.mark.failure('F43', 'the server refuses what an operation holds')
@pytest.mark.parametrize('code', TO_BLAME)
def test_what_an_operation_is_to_blame_for_rejects_it_alone(store: ServerStore, code: str) -> None:
    with Experiment('EXP', storage=store.url) as exp:
        exp['x'].log(0.0)
        exp.flush()
        with session(store.url) as asked:
            asked.execute(
                raising(code, "BEFORE INSERT ON atoms FOR EACH ROW WHEN (NEW.value = '13')")
            )
        exp['x'].log(1.0)
        exp['bad'].assign(13)
        exp['good'].assign(7)
        with pytest.raises(RejectedOperationsError, match='bad'):
            exp.flush()
        assert exp['good'].read() == 7
        assert (exp.stats().rejected, exp.pending) == (1, 0)
    store.require('x', [0.0, 1.0])


@pytest.mark.failure('F41', 'the server lets nobody in')
@pytest.mark.parametrize('code', AT_THE_DOOR)
def test_a_server_that_lets_nobody_in_loses_and_doubles_nothing(
    store: ServerStore, proxy: Proxy, postgres: PostgresServer, code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    url = through(proxy, store.url, postgres.port)['STORE']
    told: list[Exception] = []
    with Experiment('EXP', storage=url, flush_interval=0.01, on_error=told.append) as exp:
        exp['x'].log(0.0)
        exp.flush()
        proxy.refuse(code)
        proxy.break_all()
        exp['x'].log(1.0)
        with pytest.raises(StorageError, match=AT_THE_DOOR[code]):
            while True:  # the first error may be of the connection that broke
                try:
                    exp.flush(timeout=10)
                except StorageError as error:
                    if 'cannot be reached' not in str(error):
                        raise
        assert exp.pending == 1 and told
        proxy.welcome()
        while exp.pending:
            with suppress(StorageError):
                exp.flush()
    store.require('x', [0.0, 1.0])
    proxy.refuse(code)
    with pytest.raises(StorageError, match=AT_THE_DOOR[code]):
        Experiment('EXP', storage=url)


@pytest.mark.failure('F41', 'the server ends every connection')
def test_connections_that_the_server_ends_are_made_anew(
    start: Start, store: ServerStore, tally: Tally
) -> None:
    tally.trials = trials(10)
    child = start(LOGS, limit=300)
    child.wait_for('open')
    with session(store.url) as asked:
        for _ in range(tally.trials):
            asked.execute(
                'SELECT pg_terminate_backend(pid) FROM pg_stat_activity '
                "WHERE application_name = 'neptune_async'"
            )
            child.wait_for('acknowledged')
    child.tell()
    child.finish()
    store.require('x', range(VALUES))


# ── Many at once ─────────────────────────────────────────────────────────────

PROCESSES, EXPERIMENTS, POINTS = 50, 20, 1_000


@pytest.mark.failure('F30', 'fifty processes log to twenty experiments of a server at once')
@pytest.mark.unmeasured
def test_many_processes_lose_nothing_and_keep_their_order(start: Start, store: ServerStore) -> None:
    Experiment('EXP', storage=store.url).close()
    children = [
        start(
            f"""
            import sys
            from child import experiment, hear, say
            from neptune_async._engine.lifecycle import running_workers
            writer = int(sys.argv[1])
            running_workers.EXIT_TIMEOUT = 120
            experiments = [experiment(f'EXP-{{n}}') for n in range({EXPERIMENTS})]
            say('ready')
            hear()
            for n in range({POINTS}):
                for exp in experiments:
                    exp['x'].log(writer * 10**9 + float(n))
            """,
            writer,
            limit=240,
        )
        for writer in range(PROCESSES)
    ]
    for child in children:
        child.wait_for('ready')
    for child in children:
        child.tell()
    for child in children:
        assert child.finish().errors == ''
    store.require_whole()
    for number in range(EXPERIMENTS):
        name = f'EXP-{number}'
        found = store.values('x', name)
        store.require_equal(
            sorted(found, key=lambda value: value // 10**9),
            [w * 10**9 + float(n) for w in range(PROCESSES) for n in range(POINTS)],
        )
        assert store.steps('x', name) == [*range(PROCESSES * POINTS)]


@pytest.mark.failure('F16', 'a fork while a server is written to')
def test_a_forked_child_leaves_the_connection_to_its_parent(run: Run, store: ServerStore) -> None:
    ended = run("""
        import gc
        from child import experiment, fork, reap, say
        exp = experiment(flush_interval=0.01)
        for n in range(10):
            exp['x'].log(float(n))
            def body():
                exp[f'child/{n}'].extend([1.0, 2.0])
                exp.flush()
                gc.collect()
            codes = reap(fork(body))
            assert codes == [0], codes
            exp['x'].log(n + 0.5)
            exp.flush()
        say('retries', exp.stats().retries)
    """)
    assert ended.number('retries') == 0
    store.require('x', [n / 2 for n in range(20)])
    for n in range(10):
        assert store.values(f'child/{n}') == [1.0, 2.0]
