"""What ``export`` and ``plot`` write: whole or not at all, and nothing else is touched."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from neptune_async import Experiment

from .conftest import COMMAND, CommandLine
from .contents import NO_FILES
from .test_round_trips import fill, write_all

COMMANDS = {
    'csv': ['export', '--format', 'csv'],
    'jsonl': ['export', '--format', 'jsonl'],
    'parquet': ['export', '--format', 'parquet'],
    'svg': ['plot', 'digits-1', 'train/loss'],
}


@pytest.fixture(params=COMMANDS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_who_waits_at_a_fifo_gets_all_and_the_fifo_stays(
    run: CommandLine, store: Path, form: str, tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / f'fifo.{form}')
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    assert run(*COMMANDS[form], '--out', fifo).code == 0
    reader.join(60)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    whole = tmp_path / f'whole.{form}'
    assert run(*COMMANDS[form], '--out', whole).code == 0
    if form != 'svg':  # which has the time in it
        assert got == [whole.read_bytes()]
    assert got[0]


@pytest.mark.skipif(os.geteuid() != 0, reason='only root makes devices')
def test_a_device_stays_one(run: CommandLine, store: Path, form: str, tmp_path: Path) -> None:
    os.mknod(device := tmp_path / f'null.{form}', 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    try:
        device.write_bytes(b'')
    except PermissionError:
        pytest.skip('this file system has no devices')
    assert run(*COMMANDS[form], '--out', device).code == 0
    assert stat.S_ISCHR(device.stat().st_mode)


@pytest.mark.parametrize('out', ['-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'])
def test_what_goes_to_stdout_comes_behind_what_is_there(
    run: CommandLine, store: Path, out: str, tmp_path: Path
) -> None:
    (log := tmp_path / 'log').write_text('before\n')
    with log.open('ab') as file:
        subprocess.run(
            [*COMMAND, 'export', 'digits-2', '--format', 'jsonl', '--out', out],
            cwd=run.folder, stdout=file, check=True,
        )  # fmt: skip
    assert log.read_text().startswith('before\n{"experiment": "digits-2"')
    assert not (run.folder / '-').exists()


def test_a_folder_cannot_go_to_stdout(run: CommandLine, store: Path) -> None:
    for out in ('-', os.devnull):
        refused = run('export', '--format', 'neptune-export', '--out', out)
        assert (refused.code, refused.err.count('\n')) == (2, 1)
        assert 'makes a folder, and ' in refused.err


def test_a_file_of_the_users_beside_it_stays_as_it_is(
    run: CommandLine, store: Path, form: str, tmp_path: Path
) -> None:
    (precious := tmp_path / f'x.{form}.tmp').write_text('precious')
    (tmp_path / f'y.{form}.tmp').symlink_to(precious)
    for name in (f'x.{form}', f'y.{form}'):
        assert run(*COMMANDS[form], '--out', name).code == 0
        assert (tmp_path / name).is_file() and not (tmp_path / name).is_symlink()
    assert precious.read_text() == 'precious'
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {f'{name}.{form}{end}' for name in 'xy' for end in ('', '.tmp')}


def test_a_link_stays_and_its_target_is_replaced(
    run: CommandLine, store: Path, form: str, tmp_path: Path
) -> None:
    (tmp_path / 'elsewhere').mkdir()
    target = tmp_path / 'elsewhere' / 'target'
    (link := tmp_path / f'link.{form}').symlink_to(target)
    force = [] if form == 'svg' else ['--force']
    assert run(*COMMANDS[form], '--out', link).code == 0  # it named nothing yet
    inode, size = target.stat().st_ino, target.stat().st_size
    assert run(*COMMANDS[form], '--out', link, *force).code == 0
    assert link.is_symlink() and target.stat().st_size == size > 0
    assert target.stat().st_ino != inode  # who reads it sees all of the one or the other
    assert [*target.parent.iterdir()] == [target]


def test_a_file_has_the_mode_of_what_it_replaces_or_that_of_any_new_one(
    run: CommandLine, store: Path, form: str, tmp_path: Path
) -> None:
    out = tmp_path / f'x.{form}'
    subprocess.run(
        ['sh', '-c', 'umask 027; "$@"', 'sh', *COMMAND, *COMMANDS[form], '--out', str(out)],
        cwd=run.folder, check=True,
    )  # fmt: skip
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    out.chmod(0o604)
    force = [] if form == 'svg' else ['--force']
    assert run(*COMMANDS[form], '--out', out, *force).code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o604


@pytest.mark.parametrize('name', ['n' * 255, 'ü' * 127])
def test_a_file_may_have_the_longest_name(run: CommandLine, store: Path, name: str) -> None:
    assert run('export', '--format', 'csv', '--out', name).code == 0
    assert [path.name for path in run.folder.iterdir() if path.is_file()] == [name]


def test_an_event_file_replaces_no_file_of_the_users(run: CommandLine, store: Path) -> None:
    folder = run.folder / 'runs' / 'digits-1'
    folder.mkdir(parents=True)
    (victim := run.folder / 'victim').write_text('precious')
    (folder / 'events.out.tfevents.neptune_async.tmp').symlink_to(victim)
    assert run('export', 'digits-1', '--format', 'tensorboard', '--out', 'runs', '--force').code
    assert victim.read_text() == 'precious'
    assert len([*folder.iterdir()]) == 2


def test_the_parts_of_an_export_replace_no_file_of_the_users(run: CommandLine, store: Path) -> None:
    command = ['export', 'digits-1', '--format', 'neptune-export', '--out', 'export', '--force']
    assert run(*command).code == 0
    (part,) = run.folder.glob('export/*/*')
    (victim := run.folder / 'victim').write_text('precious')
    part.with_name(f'{part.name}.tmp').symlink_to(victim)
    (backup := part.with_name(f'{part.name}.bak')).write_text('precious')
    part.chmod(0o600)
    assert run(*command).code == 0
    assert victim.read_text() == backup.read_text() == 'precious'
    assert len([*part.parent.iterdir()]) == 3
    assert stat.S_IMODE(part.stat().st_mode) == 0o600


def test_ctrl_c_between_the_old_parts_and_the_new_leaves_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neptune_async._transfer import neptune_export, neptune_export_writing
    from neptune_async._transfer.neptune_export_writing import ExportWriter

    monkeypatch.setattr(neptune_export_writing, '_GROUP_ROWS', 1)
    monkeypatch.setattr(neptune_export_writing, 'PART_BYTES', 5)
    fill(tmp_path / 'x.db', {'EXP-1': dict.fromkeys('abc', ('atom', 1))})
    writer = ExportWriter(tmp_path / 'export', 'ws/proj', NO_FILES)
    write_all(tmp_path / 'x.db', writer.write)
    with Experiment('EXP-1', storage=tmp_path / 'x.db', echo=False) as exp:
        exp['a'].assign(2)
    before = {path: path.read_bytes() for path in tmp_path.glob('export/*/*')}
    calls = interrupting(monkeypatch)
    for call in range(6):  # three parts are removed, three come
        calls[:] = [call]
        with pytest.raises(KeyboardInterrupt):
            write_all(tmp_path / 'x.db', writer.write)
        found = [*tmp_path.glob('export/*/*')]
        assert {*found} == {*before}, call
        rows = [neptune_export.ExportFile(path).row_count for path in found]
        assert rows == [1, 1, 1]
        assert {path: path.read_bytes() for path in found} != before


def interrupting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make that call of those that change a folder be met by Ctrl-C of which the number is put
    into the list that is returned.
    """
    left: list[int] = []

    def counted(name: str) -> None:
        original = getattr(Path, name)

        def call(self: Path, *args: object, **kwargs: object) -> object:
            result = original(self, *args, **kwargs)
            if left:
                left[0] -= 1
                if left[0] < 0:
                    left.clear()
                    raise KeyboardInterrupt
            return result

        monkeypatch.setattr(Path, name, call)

    counted('unlink')
    counted('replace')
    return left
