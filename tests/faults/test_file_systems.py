"""File systems that are slow to keep promises: shared between machines, failing, read-only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from . import shim
from .harness import Child, Ended, Store

Run = Callable[..., Ended]
Start = Callable[..., Child]

NOBODY = 65534


def journal_mode(store: Store) -> str:
    with closing(sqlite3.connect(store.path)) as connection:
        ((mode,),) = connection.execute('PRAGMA journal_mode').fetchall()
        return str(mode)


# ── Network file systems ─────────────────────────────────────────────────────


@pytest.fixture
def on_network(tmp_path: Path) -> dict[str, str]:
    """What makes the folder of the test seem to be on NFS."""
    preload = shim.build(tmp_path, 'F33: a network file system')
    return {'LD_PRELOAD': preload, 'SHIM_NETWORK': str(tmp_path)}


@pytest.mark.failure('F33', 'the store is on a network file system (NFS)')
def test_there_is_no_wal_on_a_network_file_system(
    run: Run, store: Store, on_network: dict[str, str]
) -> None:
    script = """
        import os
        from child import experiment, say
        exp = experiment()
        begin = int(os.environ['BEGIN'])
        for n in range(begin, begin + 1000):
            exp['loss'].log(n)
        exp.flush()
        say('wal', os.path.exists(os.environ['STORE'] + '-wal'))
        assert exp['loss'].tail(1) == [begin + 999]
    """
    for begin in (0, 1000):
        ended = run(script, env={**on_network, 'BEGIN': str(begin)})
        assert ended.lines == ['wal False']
        (warning,) = ended.errors.splitlines()
        assert f'{store.path} is on a network file system (NFS)' in warning
        assert 'only one machine may write' in warning
        assert 'local disk' in warning

    assert journal_mode(store) == 'delete'
    store.require('loss', range(2000))


@pytest.mark.failure('F33', 'a store with a -wal is moved to a network file system')
def test_a_store_in_wal_mode_is_taken_out_of_it(
    run: Run, store: Store, on_network: dict[str, str]
) -> None:
    store.open_once()
    assert journal_mode(store) == 'wal'
    run("from child import experiment\nexperiment()['loss'].log(0)", env=on_network)

    assert journal_mode(store) == 'delete'
    store.require('loss', [0])
    store.open_once()
    assert journal_mode(store) == 'wal'


@pytest.mark.failure('F33', 'others hold a store on a network file system in WAL mode')
def test_a_store_that_others_keep_in_wal_mode_is_refused(
    run: Run, start: Start, store: Store, on_network: dict[str, str]
) -> None:
    holder = start("""
        from child import experiment, hear, say
        exp = experiment()
        exp['loss'].log(0)
        exp.flush()
        say('open')
        hear()
    """)
    holder.wait_for('open')
    ended = run(
        """
        from child import experiment, say
        from neptune_async._engine import sending
        from neptune_async.exceptions import StorageBusyError
        sending.BUSY_PATIENCE = 0.2
        try:
            experiment()
        except StorageBusyError as error:
            say('refused', error)
        """,
        env=on_network,
    )
    holder.tell()
    holder.finish()

    (line,) = ended.lines
    assert f'{store.path} is on a network file system (NFS) and in WAL mode' in line
    store.require('loss', [0])


@pytest.mark.failure('F33', 'four processes write to a store without a -wal')
def test_processes_that_share_a_store_without_a_wal_lose_nothing(
    start: Start, store: Store, on_network: dict[str, str]
) -> None:
    store.open_once()
    children = [
        start(
            """
            import sys
            from child import experiment
            exp = experiment(flush_interval=0.01)
            for n in range(300):
                exp[sys.argv[1]].log(n)
                if n % 10 == 0:
                    assert exp[sys.argv[1]].tail(1) == [n]
            """,
            f'series{writer}',
            env=on_network,
        )
        for writer in range(4)
    ]
    for child in children:
        child.finish()

    for writer in range(4):
        store.require(f'series{writer}', range(300))


# ── What is forced to disk ───────────────────────────────────────────────────


@pytest.mark.failure('F6', 'power failure: which commits are forced to disk')
def test_a_synced_write_and_a_sync_force_the_wal_to_disk_and_others_do_not(
    run: Run, store: Store, tmp_path: Path
) -> None:
    log = tmp_path / 'syncs'
    preload = shim.build(tmp_path, 'F6: counting what is forced to disk')
    ended = run(
        """
        import asyncio, os
        from pathlib import Path
        from child import say
        from neptune_async._model.operations import Assign, Batch, CreateVariable, Part, Variable
        from neptune_async._storage.sqlite import SQLiteStorage
        number = 0

        def wal_syncs():
            lines = Path(os.environ['SHIM_SYNCS']).read_text().splitlines()
            return sum(line.endswith('-wal') for line in lines)

        async def main():
            storage = SQLiteStorage(os.environ['STORE'])
            await storage.open(writable=True)
            experiment = await storage.create_experiment('EXP')

            async def write(synced):
                global number
                number += 1
                create = [CreateVariable(Variable(1, 'atom', 'atom', 'int'))][number > 1:]
                part = Part(experiment.id, 'EXP', 0, [*create, Assign(1, 'int', b'%d' % number)])
                await storage.write(Batch(b'w' * 16, number, [part]), synced=synced)

            async def syncs_of(what, *arguments):
                before = wal_syncs()
                await what(*arguments)
                return wal_syncs() - before

            say('unsynced', await syncs_of(write, False))
            say('sync', await syncs_of(storage.sync))
            say('unsynced', await syncs_of(write, False))
            say('synced', await syncs_of(write, True))
            say('unsynced', await syncs_of(write, False))
            await storage.close()

        asyncio.run(main())
        """,
        env={'LD_PRELOAD': preload, 'SHIM_SYNCS': str(log)},
    )

    assert ended.numbers('unsynced') == [0, 0, 0]
    assert ended.number('sync') >= 1
    assert ended.number('synced') >= 1


@pytest.mark.failure('F27', 'fsync fails (EIO), then works again')
def test_what_was_in_a_failed_sync_is_sent_again_and_stored_once(
    start: Start, store: Store, tmp_path: Path
) -> None:
    failing = tmp_path / 'failing'
    preload = shim.build(tmp_path, 'F27: an fsync that fails')
    child = start(
        """
        from child import experiment, hear, say, wait_until
        from neptune_async._storage.sqlite.storage import SQLiteStorage
        from neptune_async.exceptions import StorageError
        write = SQLiteStorage.write

        async def write_synced(self, batch, **options):
            return await write(self, batch, **{**options, 'synced': True})

        SQLiteStorage.write = write_synced
        errors = []
        exp = experiment(flush_interval=0.01, on_error=errors.append)
        for n in range(1000):
            exp['loss'].log(n)
        exp.flush()
        say('open')
        hear()
        for n in range(1000, 2000):
            exp['loss'].log(n)
        wait_until(lambda: errors and exp.stats().retries > 2)
        try:
            exp.flush()
        except StorageError:
            say('raised')
        hear()
        for n in range(2000, 3000):
            exp['loss'].log(n)
        exp.flush()
        say('pending', exp.pending)
        """,
        env={'LD_PRELOAD': preload, 'SHIM_FAILING': str(failing)},
    )
    child.wait_for('open')
    failing.touch()
    child.tell()
    child.wait_for('raised')
    failing.unlink()
    child.tell()
    ended = child.finish()

    assert ended.number('pending') == 0
    assert 'Traceback' not in ended.errors
    store.require('loss', range(3000))
