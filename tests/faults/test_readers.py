"""Who only reads a store leaves nothing beside it, and reads the truth while others write."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from neptune_async import Experiment, list_experiments
from neptune_async.exceptions import StorageError

from .harness import Child, Ended, Store

Run = Callable[..., Ended]
Start = Callable[..., Child]

LIST = [sys.executable, '-m', 'neptune_async', 'list', '--storage']


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.failure('F28', 'a store is only read: nothing is left beside it')
def test_reading_leaves_nothing_beside_a_store(tmp_path: Path) -> None:
    folder = tmp_path / 'stores'
    folder.mkdir()
    storage = folder / 's.db'
    with Experiment('a', storage=storage) as exp:
        exp['loss'].log(1.0)
    with Experiment('a', storage=storage, mode='read') as exp:
        assert exp['loss'].all() == [1.0]
        assert names(folder) == ['s.db']
    assert list_experiments(storage) == ['a']
    subprocess.run([*LIST, storage], check=True, stdout=subprocess.DEVNULL)
    assert names(folder) == ['s.db']


@pytest.mark.failure('F28', 'a store is only read while a process opens, writes and closes it')
def test_a_reader_sees_a_prefix_that_only_grows_while_others_open_and_close(
    start: Start, store: Store
) -> None:
    store.tally.trials = 0
    writer = start("""
        from child import experiment, say
        for life in range(40):
            with experiment() as exp:
                exp['loss'].extend(range(100 * life, 100 * life + 100))
            say('closed', life)
        say('done')
    """)
    writer.wait_for('closed')
    seen = 0
    while not writer.has_said('done'):
        values = store.values('loss')
        store.tally.trials += 1
        assert values == [float(n) for n in range(len(values))]
        assert len(values) >= seen and len(values) % 100 == 0
        seen = len(values)
    writer.finish()
    store.require('loss', range(4_000))


@pytest.fixture
def team() -> Iterator[Path]:
    """A folder of a group, in which two of its users log to one store, and nobody else."""
    if os.geteuid() != 0:
        pytest.skip('to play two users needs root')
    # Not below the temporary folder of the tests, which is root's alone.
    with TemporaryDirectory() as folder:
        os.chown(folder, 6001, 6000)
        os.chmod(folder, 0o2775)
        yield Path(folder)


AS_USER = """
    import os, sys
    from neptune_async import Experiment
    act, storage, user, mask = sys.argv[1:]
    Experiment('warm', storage=':memory:').close()  # imports all while that may be read
    os.umask(int(mask, 8))
    os.setgroups([])
    os.setgid(6000)
    os.setuid(int(user))
    with Experiment('a', storage=storage, mode='read' if act == 'read' else 'resume') as exp:
        if act == 'read':
            print(exp['loss'].all())
        else:
            exp['loss'].log(1.0)
"""


@pytest.mark.unmeasured
@pytest.mark.failure('F28', "another user's reader, and then the owner writes")
def test_a_reader_of_another_user_leaves_the_store_to_its_owner(run: Run, team: Path) -> None:
    storage = team / 's.db'
    run(AS_USER, 'write', storage, 6001, '022')
    assert run(AS_USER, 'read', storage, 6002, '022').lines == ['[1.0]']
    assert names(team) == ['s.db']
    run(AS_USER, 'write', storage, 6001, '022')
    assert run(AS_USER, 'read', storage, 6002, '022').lines == ['[1.0, 1.0]']


@pytest.mark.unmeasured
@pytest.mark.failure('F28', 'two users of a group, with its umask, write to one store')
def test_a_store_has_the_rights_that_the_umask_leaves(run: Run, team: Path) -> None:
    storage = team / 's.db'
    run(AS_USER, 'write', storage, 6001, '002')
    assert stat.S_IMODE(storage.stat().st_mode) == 0o664
    run(AS_USER, 'write', storage, 6002, '002')
    assert run(AS_USER, 'read', storage, 6001, '002').lines == ['[1.0, 1.0]']


# ── Names that a system has, and SQLite or Python has trouble with ───────────


@pytest.mark.failure('F46', 'a store in a folder whose name is no UTF-8')
def test_a_folder_may_have_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b'caf\xe9')
    os.mkdir(folder)
    storage = os.path.join(os.fsdecode(folder), 's.db')
    with Experiment('a', storage=storage) as exp:
        exp['loss'].log(1.0)
        assert exp['loss'].all() == [1.0]
    listed = subprocess.run([*LIST, storage], capture_output=True)
    assert (listed.returncode, listed.stderr) == (0, b'')


def test_a_path_over_the_limit_of_sqlite_is_told_as_that(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 505:
        folder = folder / ('x' * 80)
    folder.mkdir(parents=True)
    for mode in ('resume', 'read'):
        with pytest.raises(StorageError, match='bytes, and SQLite takes 504 at most'):
            Experiment('a', storage=folder / 's.db', mode=mode)  # type: ignore[arg-type]


def test_a_name_that_is_too_long_for_the_file_system_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match='File name too long'):
        list_experiments(tmp_path / ('x' * 300))


def test_a_link_that_leads_nowhere_is_told_as_that(tmp_path: Path) -> None:
    link = tmp_path / 'link.db'
    link.symlink_to(tmp_path / 'nowhere.db')
    with pytest.raises(StorageError, match=r'nowhere\.db'):
        list_experiments(link)


def test_a_working_directory_that_is_gone_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for call in (lambda: list_experiments('s.db'), lambda: Experiment('a', storage='s.db')):
        with pytest.raises(StorageError, match='working directory is gone'):
            call()
