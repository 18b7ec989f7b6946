"""Staged copies: their names tell whose they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neptune_async import File
from neptune_async._engine.durability import staged_copies
from neptune_async._engine.durability.staged_copies import (
    copies_of_the_dead,
    owner_lives,
    owner_mark,
)
from neptune_async._model.pending_files import STAGED, PendingFile

CHILD = """
from neptune_async._engine.durability.staged_copies import owner_mark
print(owner_mark())
"""
FORKS = """
import os, neptune_async
from neptune_async._engine.durability.staged_copies import owner_mark
print(owner_mark(), flush=True)
pid = os.fork()
print(owner_mark(), flush=True) if not pid else os.waitpid(pid, 0)
os._exit(0)
"""
ON_LINUX = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux tells when a process was started'
)


def staged(folder: Path, mark: str) -> Path:
    file = PendingFile.of('x', File(b'content'))
    file.stage(folder, mark)
    assert isinstance(file.source, Path)
    return file.source


@ON_LINUX
def test_a_copy_is_left_once_its_owner_is_dead(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, '-c', CHILD], capture_output=True, text=True, check=True)
    own, left = staged(tmp_path, owner_mark()), staged(tmp_path, done.stdout.strip())
    assert (owner_lives(own.name), owner_lives(left.name)) == (True, False)
    assert [copy.path for copy in copies_of_the_dead(tmp_path)] == [left]


@ON_LINUX
def test_a_forked_child_has_a_mark_of_its_own() -> None:
    done = subprocess.run([sys.executable, '-c', FORKS], capture_output=True, text=True, check=True)
    marks = done.stdout.split()
    assert len({*marks}) == 2
    assert [owner_lives(f'x{mark}{STAGED}') for mark in marks] == [False, False]


@pytest.mark.parametrize('name', ['x.staged', f'x-{"0" * 16}-1-1.staged', 'x-y-1-1.staged'])
def test_of_other_machines_and_names_it_is_not_known(name: str) -> None:
    assert owner_lives(name) is None


def test_where_nothing_tells_a_copy_is_left_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_copies, 'this_machine', lambda: '')  # as on another system
    path = staged(tmp_path, owner_mark())
    assert copies_of_the_dead(tmp_path) == []
    week_old = path.stat().st_mtime - staged_copies.LONGEST_WAIT - 1
    os.utime(path, (week_old, week_old))
    assert [(copy.path, copy.size) for copy in copies_of_the_dead(tmp_path)] == [(path, 7)]


def test_copies_in_the_temporary_folder_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'tmp'))
    folder = tmp_path / 'experiments.db.spilled'
    path = staged(staged_copies.temporary_of(folder), '')
    os.utime(path, (1, 1))
    assert [copy.path for copy in copies_of_the_dead(folder)] == [path]
