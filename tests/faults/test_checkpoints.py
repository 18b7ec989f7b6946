"""Checkpoints: they damage nothing, and a -wal that nobody can copy does not grow unseen."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .harness import Child, Ended, Store, Tally, mark, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

WRITERS = 8
ROUNDS = trials(150)


def wal_size(store: Store) -> int:
    return Path(f'{store.path}-wal').stat().st_size


@contextmanager
def reading_all_the_while(store: Store) -> Iterator[None]:
    """Hold a read transaction, as a process that has forgotten its cursor does."""
    connection = sqlite3.connect(store.path, isolation_level=None)
    try:
        connection.execute('BEGIN')
        connection.execute('SELECT count(*) FROM log').fetchall()
        yield
    finally:
        connection.close()


@pytest.mark.unmeasured
@pytest.mark.failure('F36', "SQLite's WAL-reset fault: eight writers that checkpoint all the time")
def test_eight_writers_that_checkpoint_all_the_time_damage_nothing(
    start: Start, store: Store, tally: Tally
) -> None:
    store.open_once()
    tally.trials = ROUNDS
    children = [
        start(
            """
            import sys
            from child import experiment, hear, say
            from neptune_async._storage.sqlite import checkpoint
            checkpoint.CHECKPOINT_BYTES = 1
            writer, rounds, mark = map(int, sys.argv[1:])
            made = 0
            make = checkpoint.Checkpoints.make

            def counting(self, connection):
                global made
                make(self, connection)
                made += 1

            checkpoint.Checkpoints.make = counting
            exp = experiment(flush_interval=0.001)
            exp['own/' + str(writer)].log(0)
            say('open')
            hear()
            for n in range(1, rounds):
                exp['own/' + str(writer)].log(n)
                exp['shared'].log(writer * mark + n - 1)
                exp.flush()
            say('made', made)
            """,
            writer,
            ROUNDS,
            int(mark(1, 0)),
            limit=60.0 * trials(1),
        )
        for writer in range(WRITERS)
    ]
    for child in children:
        child.wait_for('open')
    for child in children:
        child.tell()
    made = [child.finish().number('made') for child in children]

    assert sum(made) > ROUNDS
    store.require_interleaved('shared', dict.fromkeys(range(WRITERS), ROUNDS - 1))
    for writer in range(WRITERS):
        store.require_equal(store.values(f'own/{writer}'), [*range(ROUNDS)])


@pytest.mark.unmeasured
@pytest.mark.failure('F34', 'a reader holds a transaction for the whole run')
def test_a_wal_that_a_reader_makes_grow_is_warned_of_and_shrinks_again(
    start: Start, store: Store
) -> None:
    store.open_once()
    child = start("""
        from child import experiment, hear, log_numbers, say
        from neptune_async._storage.sqlite import checkpoint
        checkpoint.CHECKPOINT_BYTES = 2**17
        checkpoint.WARN_BYTES = 2**20
        exp = experiment()
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
        log_numbers(exp, range(1, 100_000), flush_every=5000)
        exp.flush()
        say('logged')
        hear()
        log_numbers(exp, range(100_000, 140_000), flush_every=5000)
        exp.flush()
        say('shrunk')
        hear()
    """)
    child.wait_for('open')
    with reading_all_the_while(store):
        child.tell()
        child.wait_for('logged')
        grown = wal_size(store)
    child.tell()
    child.wait_for('shrunk')
    shrunk = wal_size(store)
    child.tell()
    ended = child.finish()

    assert grown > 3 * 2**20
    assert shrunk < 2**20
    warned = re.findall(rf'{store.path}-wal has grown to (\d+) MB', ended.errors)
    sizes = [int(size) for size in warned]
    # Looked at after each batch, and a batch may be large.
    assert len(sizes) > 1, ended.errors
    assert all(size >= 2**doubled for doubled, size in enumerate(sizes)), ended.errors
    assert 2 ** (len(sizes) - 1) <= grown / 2**20
    store.require('loss', range(140_000))
