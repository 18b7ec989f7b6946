"""File systems that are slow to keep promises: shared between machines, failing, read-only."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from neptune_async import Experiment
from neptune_async._engine.durability.spill_files import write_spill
from neptune_async._model.operations import Batch, CreateVariable, Part, Variable

from . import shim
from .harness import LOGS_ON, Child, Ended, Store, Tally, mounted_disk

Run = Callable[..., Ended]
Start = Callable[..., Child]

OPENS = """
    import sys
    from child import experiment, say
    from neptune_async.exceptions import StorageError
    for mode in sys.argv[1:]:
        try:
            with experiment(mode=mode) as exp:
                say(mode, exp['loss'].all())
        except StorageError as error:
            say(mode, error)
"""
READS_AGAIN = """
    from child import experiment, hear, say
    with experiment(mode='read') as exp:
        while True:
            say('read', len(exp['loss'].all()))
            if hear() != 'go':
                break
"""
LEAVES_A_WAL = """
    import os
    from child import experiment
    exp = experiment()
    exp['loss'].log(1)
    exp.flush()
    os._exit(0)
"""
RUNS_VERBS = """
    import os, shutil, sys
    from child import say
    from neptune_async.cli import main

    VERBS = 'list', 'show EXP', 'export --format jsonl', 'doctor', 'delete -y EXP'

    def run(path):
        for verb in VERBS:
            code = main([*verb.split(), '--storage', path])
            sys.stdout.flush()
            say('ended', verb.split()[0], code)

    shutil.copy(os.environ['STORE'], 'copy.db')
    run('copy.db')  # the modules are where not everybody may look
    say('now')
"""
AS_NOBODY = """
    import os
    from neptune_async import Experiment
    with Experiment('EXP', storage=':memory:') as exp:
        exp['modules'].log('loaded')  # they are where not everybody may look
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
"""
"""Gives up what only root may do."""


@pytest.fixture
def public(tally: Tally) -> Iterator[Store]:
    """A store in a folder that everybody may look into."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        store = Store(folder / 'experiments.db', tally)
        with Experiment('EXP', storage=store.path) as exp:
            exp['loss'].log(0)
        store.path.chmod(0o666)
        yield store


@pytest.fixture
def mounted(tmp_path: Path, tally: Tally) -> Iterator[Store]:
    """A store on a file system that can be mounted anew, read-only."""
    with mounted_disk(tmp_path, 4, 'F28: a read-only file system') as folder:
        store = Store(folder / 'experiments.db', tally)
        with Experiment('EXP', storage=store.path) as exp:
            exp['loss'].log(0)
        yield store


def make_read_only(store: Store) -> None:
    subprocess.run(['mount', '-o', 'remount,ro', store.path.parent], check=True)


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
        from child import experiment, log_numbers, say
        exp = experiment()
        begin = int(os.environ['BEGIN'])
        log_numbers(exp, range(begin, begin + 1000))
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
        from neptune_async._engine.storing import retries
        from neptune_async.exceptions import StorageBusyError
        retries.BUSY_PATIENCE = 0.2
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
        from child import experiment, hear, log_numbers, say, wait_until
        from neptune_async._storage.sqlite.storage import SQLiteStorage
        from neptune_async.exceptions import StorageError
        write = SQLiteStorage.write

        async def write_synced(self, batch, **options):
            return await write(self, batch, **{**options, 'synced': True})

        SQLiteStorage.write = write_synced
        errors = []
        exp = experiment(flush_interval=0.01, on_error=errors.append)
        log_numbers(exp, range(1000))
        exp.flush()
        say('open')
        hear()
        log_numbers(exp, range(1000, 2000))
        wait_until(lambda: errors and exp.stats().retries > 2)
        try:
            exp.flush()
        except StorageError:
            say('raised')
        hear()
        log_numbers(exp, range(2000, 3000))
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


# ── Read-only files, folders and file systems ────────────────────────────────


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the file is read-only')
def test_a_read_only_file_is_refused_at_once_and_can_be_read(start: Start, public: Store) -> None:
    public.path.parent.chmod(0o777)
    public.path.chmod(0o444)
    env = {'STORE': str(public.path)}
    ended = start(AS_NOBODY + OPENS, 'resume', 'read', env=env).finish()

    refused, read = ended.lines
    assert refused.startswith(f'resume cannot open the store {public.path}: it is read-only')
    assert read == 'read [0.0]'
    assert ended.errors == ''


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the folder is read-only')
def test_a_store_in_a_read_only_folder_is_read_and_not_written_to(
    start: Start, public: Store
) -> None:
    ended = start(AS_NOBODY + OPENS, 'resume', 'read', env={'STORE': str(public.path)}).finish()

    refused, read = ended.lines
    assert refused == (
        f'resume cannot open the store {public.path}: the folder {public.path.parent} is not '
        "writable; open it with mode='read', or name another file"
    )
    assert read == 'read [0.0]'
    assert ended.errors == ''


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the folder is read-only, and others write to the store')
def test_a_store_in_a_read_only_folder_is_read_as_it_is_now(start: Start, public: Store) -> None:
    reader = start(AS_NOBODY + READS_AGAIN, env={'STORE': str(public.path)})
    reader.wait_for('read', 1)
    with Experiment('EXP', storage=public.path) as exp:
        exp['loss'].log(1)
    reader.tell()
    reader.wait_for('read', 2)
    with Experiment('EXP', storage=public.path) as exp:
        exp['loss'].log(2)
        exp.flush()  # into a -wal
        reader.tell()
        reader.wait_for('read', 3)
    reader.tell('end')
    assert reader.finish().errors == ''


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the folder is read-only, and the store needs its -wal')
def test_a_store_that_needs_its_wal_says_so_in_a_read_only_folder(
    start: Start, public: Store
) -> None:
    env = {'STORE': str(public.path)}
    start(LEAVES_A_WAL, env=env).finish()
    Path(f'{public.path}-shm').unlink()
    ended = start(AS_NOBODY + OPENS, 'read', env=env).finish()

    (line,) = ended.lines
    assert line.startswith(f'read cannot open the store {public.path}: SQLite keeps a -wal')
    assert f'the folder {public.path.parent} is not writable; copy the store' in line


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the folder is read-only, and a command reads the store')
def test_the_verbs_that_read_work_in_a_read_only_folder(start: Start, public: Store) -> None:
    ended = start(
        RUNS_VERBS + AS_NOBODY + "\n    run(os.environ['STORE'])", env={'STORE': str(public.path)}
    ).finish()

    said = ended.lines[ended.lines.index('now') :]
    codes = [line.removeprefix('ended ') for line in said if line.startswith('ended ')]
    assert codes == ['list 0', 'show 0', 'export 0', 'doctor 0', 'delete 2']
    assert ended.errors.strip().endswith(
        f'cannot open the store {public.path}: the folder {public.path.parent} is not writable; '
        'name another file, or make it writable'
    )
    assert public.values('loss') == [0]


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the folder is read-only, and there is no store in it')
def test_a_store_that_cannot_be_made_is_refused(start: Start, public: Store) -> None:
    path = public.path.with_name('new.db')
    ended = start(AS_NOBODY + OPENS, 'resume', env={'STORE': str(path)}).finish()

    assert ended.lines == [
        f'resume cannot open the store {path}: the folder {path.parent} is not writable'
    ]


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the file may not be read')
def test_a_store_that_may_not_be_read_is_refused(start: Start, public: Store) -> None:
    public.path.chmod(0o200)
    ended = start(AS_NOBODY + OPENS, 'read', env={'STORE': str(public.path)}).finish()

    assert ended.lines == [f'read cannot open the store {public.path}: it may not be read']


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the file system is read-only when the store is opened')
def test_a_store_on_a_read_only_file_system_can_be_read(start: Start, mounted: Store) -> None:
    make_read_only(mounted)
    env = {'STORE': str(mounted.path)}
    ended = start(OPENS, 'resume', 'read', env=env).finish()

    refused, read = ended.lines
    assert refused.startswith(f'resume cannot open the store {mounted.path}: it is read-only')
    assert read == 'read [0.0]'
    assert ended.errors == ''


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'a store with a spill file is copied from a read-only file system')
def test_a_copy_says_what_it_lacks_that_a_read_only_file_system_keeps(
    mounted: Store, tmp_path: Path
) -> None:
    part = Part(1, 'EXP', None, [CreateVariable(Variable(9, 'x', 'atom', 'int'))], count=1)
    spill = write_spill(Path(f'{mounted.path}.spilled'), [Batch(b'w' * 16, 1, [part])])
    make_read_only(mounted)
    command = [sys.executable, '-m', 'neptune_async', 'sync', mounted.path, tmp_path / 'copy.db']
    done = subprocess.run(command, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, 'EXP: 1 variables, 1 points were new\n')
    (line,) = done.stderr.splitlines()
    assert f'lacks what is kept in {spill};' in line


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'a process was killed on what is now a read-only file system')
def test_a_store_that_needs_its_wal_says_so_on_a_read_only_file_system(
    start: Start, mounted: Store
) -> None:
    env = {'STORE': str(mounted.path)}
    start(LEAVES_A_WAL, env=env).finish()
    Path(f'{mounted.path}-shm').unlink()
    make_read_only(mounted)
    ended = start(OPENS, 'read', env=env).finish()

    (line,) = ended.lines
    assert line.startswith(f'read cannot open the store {mounted.path}: SQLite keeps a -wal')
    assert 'copy the store, with its -wal file' in line


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'the file system becomes read-only while a process logs (EROFS)')
def test_a_file_system_that_becomes_read_only_stops_nothing(
    start: Start, store: Store, tmp_path: Path
) -> None:
    read_only = tmp_path / 'read_only'
    preload = shim.build(tmp_path, 'F28: a file system that becomes read-only')
    child = start(
        LOGS_ON
        + """
    exp.flush()
    say('pending', exp.pending)
""",
        env={'LD_PRELOAD': preload, 'SHIM_READ_ONLY': str(read_only)},
    )
    child.wait_for('open')
    read_only.touch()
    child.tell()
    child.wait_for('raised')
    read_only.unlink()
    child.tell()
    ended = child.finish()

    assert ended.number('pending') == 0
    assert 'Traceback' not in ended.errors
    store.require('loss', range(2000))
