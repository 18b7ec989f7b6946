"""Whether the file of a store is still the one that was opened.

SQLite goes on with a file that was renamed, removed or replaced under it, as if
nothing had happened: what it commits then is lost with that file, or found by
nobody. Worse, the ``-wal`` and ``-shm`` files keep their names: whoever opens what is in the
file's place takes them for its own, and finds the wrong points in it, or none at all.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from neptune_async._storage.filesystem import Identity, identity, network_file_system
from neptune_async.exceptions import StorageError


class StoreFile:
    """A store's file, and the files beside it that are SQLite's, as they are named on the disk.

    :ivar path: where it is, with no symbolic link on the way, as SQLite sees it.
    :ivar network: the network file system that it is on; None for a local one.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).resolve()
        self.network = network_file_system(self.path.parent)
        self._identity = identity(self.path)
        self._beside: dict[Path, Identity] = {}
        self._aside: dict[Path, Path] = {}
        self._is_emptied = False

    def remember_beside(self) -> None:
        """Take down which -wal and -shm belong to the file, once SQLite has made them."""
        for suffix in ('-wal', '-shm'):
            path = Path(f'{self.path}{suffix}')
            found = identity(path)
            if found:
                self._beside[path] = found

    def require_unmoved(self) -> None:
        """Make sure that what is written goes to the file of that name.

        A -wal and -shm that have lost their file are set aside, out of the way of what is
        in its place, and put back once the file is.

        :raises StorageError: when it is another one, or none.
        """
        change = self._change()
        if change is None:
            change = self._put_back() or self._loss_beside()
        else:
            self._set_aside()
        if change is not None:
            raise StorageError(f'the store {self.path} {change}; {self._advice()}')

    def may_be_closed(self) -> bool:
        """Whether SQLite may close it. It does not touch what is in the place of a file that
        was moved, but would copy the -wal into one that was cut to nothing.
        """
        with suppress(StorageError):
            self.require_unmoved()
        return not self._is_emptied

    def _change(self) -> str | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return 'was removed or renamed'
        if (found.st_dev, found.st_ino) != self._identity:
            return 'was replaced by another file'
        if found.st_size == 0:
            self._is_emptied = True
        # Whatever is in it afterwards does not fit the -wal.
        return 'was cut to nothing' if self._is_emptied else None

    def _loss_beside(self) -> str | None:
        for path, known in self._beside.items():
            if identity(path) != known:
                return f'has lost {path.name}, which was removed or replaced'
        return None

    def _set_aside(self) -> None:
        assert self._identity is not None
        for path, known in self._beside.items():
            aside = Path(f'{path}.{self._identity[1]}')
            if path not in self._aside and identity(path) == known:
                with suppress(OSError):
                    path.rename(aside)
                    self._aside[path] = aside

    def _put_back(self) -> str | None:
        try:
            for path, aside in [*self._aside.items()]:
                # Not renamed, which would replace what others have made since.
                os.link(aside, path)
                aside.unlink()
                del self._aside[path]
        except OSError as error:
            return f'is there again, and what belongs to it cannot be put back ({error})'
        return None

    def _advice(self) -> str:
        advice = (
            'nothing was written to what is there now; '
            + ('end the process' if self._is_emptied else 'put the file back, or end the process')
            + ': what is logged is kept in a spill file then'
        )
        wal = self._aside.get(Path(f'{self.path}-wal'))
        return advice if wal is None else f'{advice}; the -wal of the file is kept as {wal}'
