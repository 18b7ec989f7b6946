"""Staged copies of files: whose they are, and which of them the dead have left.

Who stages a copy keeps it until what refers to it is stored. The dead keep none, but for those that
they name in a journal or a spill file, which another process takes in. Its name tells who has
staged it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neptune_async._engine.durability.temporary_folder import is_own, temporary_of
from neptune_async._engine.sessions.processes import lives, this_machine, this_process
from neptune_async._model.pending_files import STAGED
from neptune_async._storage.sessions import Process

LONGEST_WAIT = 7 * 86_400.0
"""Seconds after which a copy counts as left by the dead, where nothing else tells, as on another
machine, or since this one has booted.
"""

_OWNER = re.compile(rf'-([0-9a-f]{{16}})-(\d{{1,10}})-(\d{{0,20}}){re.escape(STAGED)}')


@dataclass(frozen=True, slots=True)
class StagedCopy:
    """A copy in the folder of a store, or in the temporary one.

    :ivar size: bytes.
    """

    path: Path
    size: int


@cache
def owner_mark() -> str:
    """Return what the names of the copies of this process have before ``STAGED``. A forked child
    has to forget it.
    """
    process = this_process()
    return f'-{_digest(process.machine)}-{process.pid}-{process.started}'


def copies_of_the_dead(folder: Path) -> list[StagedCopy]:
    """Return the copies beside a store whose owners have died. What they have left in journals and
    spill files may name them.

    :param folder: of the store's spill files.
    """
    now = time.time()
    found = []
    for path, status in _staged(folder):
        is_owned = owner_lives(path.name)
        if is_owned is None:
            is_owned = now - status.st_mtime < LONGEST_WAIT
        if not is_owned:
            found.append(StagedCopy(path, status.st_size))
    return found


def owner_lives(name: str) -> bool | None:
    """Tell whether the process lives that has staged a copy; None if that cannot be told."""
    found = _OWNER.search(name)
    machine = this_machine()
    if found is None or found[1] != _digest(machine):
        return None
    return lives(Process('', machine, int(found[2]), found[3]))


def _staged(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    temporary = temporary_of(folder)
    folders = [folder, temporary] if is_own(temporary, stat.S_ISDIR) else [folder]
    for path in sorted(path for each in folders for path in each.glob(f'*{STAGED}')):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # its owner does not need it any more
        if stat.S_ISREG(status.st_mode):
            yield path, status


def _digest(machine: str) -> str:
    return hashlib.sha256(machine.encode()).hexdigest()[:16]
