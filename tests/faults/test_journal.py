"""durability='call': what a call returned for survives the death of the process."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Child, Ended, Store, mounted_disk, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

OPENS = 'from child import experiment\nexperiment().close()'

LOGS_FOR_EVER = """
    import os, sys, itertools
    from child import experiment, say
    exp = experiment(sys.argv[1], durability='call', flush_interval=float(sys.argv[2]))
    batch, loss, text = exp['batch'], exp['loss'], exp['text']
    say('open')
    # Each number is announced before its call, and acknowledged after it.
    for n in itertools.count():
        os.write(1, b'a %d\\n' % n)
        loss.log(n)
        batch.log({'one': n, 'two': n, 'three': n})
        text.log(str(n))
        exp['at'].log(n, step=n, timestamp=0.0)
        exp['last'].assign(n)
        os.write(1, b'b %d\\n' % n)
"""


@pytest.mark.failure('F1', "SIGKILL at a random moment, durability='call'")
def test_what_was_acknowledged_is_there_however_early_the_process_dies(
    start: Start, run: Run, store: Store
) -> None:
    rounds = store.tally.trials = trials(12)
    draw = random.Random(0)
    for number in range(rounds):
        # Within the interval nothing else has stored it; beyond it both have.
        name = f'EXP-{number}'
        child = start(LOGS_FOR_EVER, name, draw.choice([0.001, 0.01, 60.0]))
        child.wait_for('b', 20)
        time.sleep(draw.uniform(0.0, 0.2))
        child.send(signal.SIGKILL)
        ended = child.finish(-signal.SIGKILL)
        acknowledged = ended.number('b') + 1
        announced = ended.number('a') + 1

        run(OPENS)
        assert store.spills == []
        lengths = {
            path: store.require_prefix(path, acknowledged, announced, name)
            for path in ('loss', 'batch/one', 'batch/two', 'batch/three', 'at')
        }
        assert len({lengths[f'batch/{n}'] for n in ('one', 'two', 'three')}) == 1, lengths
        texts = store.values('text', name)
        store.require_equal(texts, [str(n) for n in range(len(texts))])
        assert acknowledged <= len(texts) <= announced
        with store.reading(name) as exp:
            assert acknowledged - 1 <= exp['last'].read() < announced
            assert [s for s, _ in exp['at'].all(with_steps=True)] == [*range(lengths['at'])]


@pytest.mark.failure('F3', "os._exit, os.abort and SIGTERM, durability='call'")
@pytest.mark.parametrize(
    ('end', 'code'),
    [
        ('os._exit(0)', 0),
        ('os.abort()', -signal.SIGABRT),
        ('os.kill(os.getpid(), signal.SIGTERM)', -signal.SIGTERM),
    ],
)
def test_ends_that_run_no_hooks_lose_nothing(run: Run, store: Store, end: str, code: int) -> None:
    run(
        f"""
        import os, signal
        from child import experiment
        exp = experiment(durability='call', flush_interval=60.0)
        for n in range(1000):
            exp['loss'].log(n)
        exp['note'].assign('before the end')
        {end}
        """,
        code=code,
    )
    assert len(store.spills) == 1
    store.open_once()
    assert store.spills == []
    store.require('loss', range(1000))
    with store.reading() as exp:
        assert exp['note'].read() == 'before the end'


@pytest.mark.failure('F1', 'two processes open the store of one that was killed')
def test_a_journal_is_taken_in_once_by_many_who_open_at_once(
    start: Start, run: Run, store: Store
) -> None:
    run(
        """
        import os
        from child import experiment
        exp = experiment(durability='call', flush_interval=60.0)
        exp['loss'].extend(range(50_000))
        os._exit(0)
        """
    )
    children = [
        start("""
            from child import experiment, hear, say
            say('ready')
            hear()
            experiment().close()
        """)
        for _ in range(6)
    ]
    for child in children:
        child.wait_for('ready')
    for child in children:
        child.tell()
    for child in children:
        assert 'Traceback' not in child.finish().errors
    assert store.spills == []
    store.require('loss', range(50_000))


@pytest.mark.failure('F1', 'SIGKILL while a journal is taken in')
def test_a_journal_is_stored_once_whenever_who_takes_it_in_is_killed(
    start: Start, run: Run, store: Store
) -> None:
    rounds = store.tally.trials = trials(5)
    draw = random.Random(1)
    for number in range(rounds):
        run(
            """
            import os, sys
            from child import experiment
            exp = experiment('EXP', durability='call', flush_interval=60.0)
            exp['loss'].extend([float(sys.argv[1])] * 40_000)
            os._exit(0)
            """,
            number,
        )
        for _ in range(3):
            child = start("""
                from child import experiment, say
                say('opening')
                experiment()
                say('open')
                import os
                os._exit(0)
            """)
            child.wait_for('opening')
            time.sleep(draw.uniform(0.0, 0.05))
            child.send(signal.SIGKILL)
            child.finish(None)
    run(OPENS)
    assert store.spills == []
    store.require('loss', [float(n) for n in range(rounds) for _ in range(40_000)])


@pytest.mark.failure('F1', 'another process opens the store while the owner lives')
def test_the_journal_of_a_living_process_is_left_to_it(
    start: Start, run: Run, store: Store
) -> None:
    child = start("""
        from child import experiment, hear, say
        exp = experiment(durability='call', flush_interval=60.0)
        for n in range(1000):
            exp['loss'].log(n)
        say('logged')
        hear()
    """)
    child.wait_for('logged')
    run(OPENS)
    assert len(store.spills) == 1
    store.require('loss', [])
    child.tell()
    child.finish()
    assert store.spills == []
    store.require('loss', range(1000))


LOGS_UNTIL_KILLED = """
    from child import experiment, hear, say
    exp = experiment(durability='call', flush_interval=60.0)
    exp['loss'].log(0)
    exp.flush()
    for n in range(1, 1000):
        exp['loss'].log(n)
    say('logged')
    hear()
    exp.flush()
    say('flushed')
    hear()
"""
READS = """
    import os
    from child import say
    from neptune_async import Experiment, fetch_metrics
    for _ in range(2):
        with Experiment('EXP', storage=os.environ['STORE'], mode='read') as exp:
            say('read', len(exp['loss'].all()))
    say('read', len(fetch_metrics('EXP', 'loss', storage=os.environ['STORE'])))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='that its owner lives is seen on Linux only')
@pytest.mark.failure('F1', 'SIGKILL, and the store is only read')
def test_who_only_reads_sees_what_a_dead_process_left(start: Start, run: Run, store: Store) -> None:
    child = start(LOGS_UNTIL_KILLED)
    child.wait_for('logged')
    assert run(READS).errors == ''  # it lives, and will store that
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)
    (journal,) = store.spills
    before = {path: path.stat().st_mtime_ns for path in journal.iterdir()}
    ended = run(READS)

    assert ended.numbers('read') == [1000] * 3
    assert ended.errors == ''
    assert {path: path.stat().st_mtime_ns for path in journal.iterdir()} == before
    store.open_once()
    assert run(READS).errors == ''
    store.require('loss', range(1000))


@pytest.mark.failure('F1', 'SIGKILL once all is stored')
def test_a_journal_that_storage_has_all_of_is_told_to_nobody(
    start: Start, run: Run, store: Store
) -> None:
    child = start(LOGS_UNTIL_KILLED)
    child.wait_for('logged')
    child.tell()
    child.wait_for('flushed')
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)
    assert len(store.spills) == 1
    assert run(READS).errors == ''


@pytest.mark.skipif(sys.platform != 'linux', reason='that its owner lives is seen on Linux only')
@pytest.mark.failure('F1', 'SIGKILL, and the store is copied')
def test_a_copy_has_what_a_dead_process_left(start: Start, store: Store, tmp_path: Path) -> None:
    child = start(LOGS_UNTIL_KILLED)
    child.wait_for('logged')
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)
    (journal,) = store.spills
    target = tmp_path / 'copy.db'
    done = subprocess.run(
        [sys.executable, '-m', 'neptune_async', 'sync', store.path, target],
        capture_output=True, text=True,
    )  # fmt: skip

    assert done.stdout == 'EXP: 1 variables, 1,000 points were new\n'
    assert f'{journal} was taken in' in done.stderr
    assert store.spills == []
    for copy in (store, Store(target, store.tally)):
        copy.require('loss', range(1000))


@pytest.mark.failure('F16', "fork with durability='call', then SIGKILL of either")
@pytest.mark.parametrize('killed', ['parent', 'child'])
def test_each_side_of_a_fork_has_a_journal_of_its_own(
    start: Start, store: Store, killed: str
) -> None:
    run = start(
        """
        import os, signal, sys
        from child import experiment, fork, reap, say, wait_until
        exp = experiment(durability='call', flush_interval=60.0)
        for n in range(100):
            exp['parent'].log(n)
        read, write = os.pipe()

        def child():
            for n in range(100):
                exp['child'].log(n)
                exp['parent'].log(1000 + n)
            os.write(write, b'x')
            if sys.argv[1] == 'child':
                os.kill(os.getpid(), signal.SIGKILL)

        pid = fork(child)
        os.read(read, 1)
        for n in range(100, 200):
            exp['parent'].log(n)
        reap(pid)
        if sys.argv[1] == 'parent':
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        killed,
    )
    run.finish(-signal.SIGKILL if killed == 'parent' else 0)
    store.open_once()
    assert store.spills == []
    store.require('child', range(100))
    found = store.values('parent')
    store.require_equal([n for n in found if n < 1000], [*range(200)])
    store.require_equal([n for n in found if n >= 1000], [*range(1000, 1100)])


@pytest.mark.failure('F11', "the store is held at the end, durability='call'")
def test_what_is_spilled_at_the_end_is_not_taken_in_from_the_journal_too(
    start: Start, store: Store
) -> None:
    child = start("""
        from child import experiment, hear, say
        from neptune_async._engine.lifecycle import running_workers
        running_workers.EXIT_TIMEOUT = 0.5
        exp = experiment(durability='call')
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        for n in range(1, 1000):
            exp['loss'].log(n)
    """)
    child.wait_for('open')
    with store.held():
        child.tell()
        child.finish()
    (spill,) = store.spills
    assert spill.suffix == '.spill'
    store.open_once()
    store.require('loss', range(1000))


@pytest.mark.failure('F1', 'SIGKILL after another process made the same variables')
def test_a_journal_yields_to_variables_that_others_made_meanwhile(
    start: Start, run: Run, store: Store
) -> None:
    child = start("""
        from child import experiment, hear, say
        exp = experiment(durability='call', flush_interval=60.0)
        exp['loss'].log(1.0)
        exp['other'].log(1.0)
        exp['gone'].log(1.0)
        exp.flush()
        exp['same'].log(0)
        exp['clash'].log(0)
        say('logged')
        hear()
        exp['gone'].log(2.0)
        exp['loss'].log(2.0)
        say('more')
        hear()
    """)
    child.wait_for('logged')
    run("""
        from child import experiment
        with experiment() as exp:
            exp['same'].log(7.0)
            exp['clash'].assign('an atom')
            exp['gone'].delete()
    """)
    child.tell()
    child.wait_for('more')
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)
    store.open_once()
    assert store.spills == []
    store.require('same', [7.0, 0.0])
    store.require('loss', [1.0, 2.0])
    with store.reading() as exp:
        assert exp['clash'].read() == 'an atom'
        assert not exp['gone'].exists()
    assert store._query('SELECT path, count FROM rejected ORDER BY id') == [('*', 1), ('clash', 1)]


@pytest.mark.failure('F1', 'SIGKILL after the deletion of what another process made')
def test_the_deletion_of_what_another_process_made_is_in_the_journal(
    start: Start, run: Run, store: Store
) -> None:
    child = start("""
        from child import experiment, hear, say
        exp = experiment(durability='call', flush_interval=60.0)
        say('open')
        hear()
        exp['theirs'].delete()
        say('deleted')
        hear()
    """)
    child.wait_for('open')
    run("""
        from child import experiment
        with experiment() as exp:
            exp['theirs'].assign(1)
    """)
    child.tell()
    child.wait_for('deleted')
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)
    store.open_once()
    with store.reading() as exp:
        assert not exp['theirs'].exists()


@pytest.mark.failure('F26', 'no room for the journal')
def test_a_disk_without_room_for_a_journal_is_told_when_it_is_opened(
    start: Start, tmp_path: Path, store: Store
) -> None:
    with mounted_disk(tmp_path, 1, 'a full disk') as folder:
        ended = start(
            """
            from child import experiment, say
            from neptune_async.exceptions import StorageError
            try:
                experiment(durability='call')
            except StorageError as error:
                say('raised', error)
            with experiment() as exp:
                exp['loss'].log(1.0)
                assert exp['loss'].all() == [1.0]
            """,
            env={'STORE': str(folder / 'experiments.db')},
        ).finish()
    assert 'No space left' in ended.lines[0]
    assert str(folder) in ended.lines[0]
    assert 'Traceback' not in ended.errors
