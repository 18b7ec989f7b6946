"""Reading a store beside which there is no ``-wal``, and making none.

What keeps a file in WAL mode whole lies beside it, and SQLite makes it even to read. In a folder
that is read-only it cannot. Elsewhere it leaves files there that belong to who has read, and keep
the owner of the store from writing to it.

With ``immutable=1`` it does without, and takes no locks: nobody may write then, or it reads what
never was (https://sqlite.org/uri.html#uriimmutable). But another process may, or the machine that
a mount comes from. So each read is held against what the file was when it was opened: who writes
to it in WAL mode fills a ``-wal`` first, and changes the file only after that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from neptune_async._storage.forking import FORK_GUARD
from neptune_async.exceptions import StorageBusyError

_State: TypeAlias = tuple[int, int, int, int]

_COARSE_SECONDS, _FINE_SECONDS = 2.0, 0.05
"""By how much two writes must differ in time for a file system to give them different times: FAT
counts in two seconds; one that counts in nanoseconds has the time from the kernel's last tick,
which is 10 ms ago at most.
"""
_WAL_MODE = 2
"""What the 20th byte of a database says of its journal (https://sqlite.org/fileformat2.html)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file with nothing beside it that belongs to it, as it was at some time.

    :ivar state: which file it was, its size, and when it was written last.
    :ivar taken: the time then, in seconds since the epoch.
    """

    path: Path
    state: _State
    taken: float

    def holds(self) -> bool:
        """Whether the file is sure to be what it was."""
        apart = abs(self.taken - self.state[-1] / 1e9)
        return apart > _tick(self.state) and _state(self.path) == self.state

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody see what the body has read, or has failed over, if the file has changed.

        :raises StorageBusyError: it has, or was written to so short a time ago that a change
            would not show. To open it anew and try again helps.
        """
        try:
            yield
        finally:
            if not self.holds():
                raise StorageBusyError(f'the store {self.path} is being written to')


def snapshot(path: Path) -> Snapshot | None:
    """Return what to hold reads of a store against; None if SQLite reads it in its usual way."""
    # What this process has open is read in the usual way: to open and close the file here would
    # drop the locks that it has on it.
    if FORK_GUARD.is_used(path) or not _is_in_wal_mode(path):
        return None
    while True:
        taken = time.time()  # before: what is written after it shows
        state = _state(path)
        if state is None:
            return None
        since = taken - state[-1] / 1e9
        if _tick(state) == _COARSE_SECONDS or not 0 <= since <= _FINE_SECONDS:
            return Snapshot(path, state, taken)
        time.sleep(_FINE_SECONDS - since + 0.001)  # it was closed just now


def _tick(state: _State) -> float:
    """Return after how many seconds a change of a file is sure to change its time."""
    return _FINE_SECONDS if state[-1] % 1_000_000 else _COARSE_SECONDS


def _is_in_wal_mode(path: Path) -> bool:
    try:
        with path.open('rb') as file:
            return file.read(20)[-1:] == bytes([_WAL_MODE])
    except OSError:
        return False


def _state(path: Path) -> _State | None:
    if any(map(_is_filled, (f'{path}-wal', f'{path}-journal'))):
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_filled(path: str) -> bool:
    """Whether there is something in a file beside a store, or may be: it may be out of reach."""
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True
