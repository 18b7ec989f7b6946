"""The contents of files beside what refers to them: in a folder ``OUT.files``, next to ``OUT``.

A file is named after its content, with its own name behind that. So a name decides nothing but how
the file is called, what is written twice is the same, and an export that is ended in the middle
changes nothing that an export before it refers to.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from neptune_async._engine.reading import stored_files
from neptune_async._engine.store import Store
from neptune_async._storage.base import Storage
from neptune_async._transfer.experiment_contents import Held
from neptune_async.exceptions import StorageFormatError, UnreadableFileError
from neptune_async.files import FileReference

_LONGEST = 150
"""Bytes of a name that there is room for behind the digest."""


def beside(out: Path) -> Path:
    """Return the folder for the contents of what a file, or a folder, refers to."""
    return Path(f'{os.path.abspath(out)}.files')


def name_in_folder(file: FileReference) -> str:
    """Return what a file is called in such a folder."""
    name = stored_files.safe_name(file.name)
    return f'{file.sha256}-{name}' if len(name.encode()) <= _LONGEST else file.sha256


class Contents:
    """The contents of the files of a store.

    :ivar missing: how many of them are not there, by what is to be said of them.
    """

    def __init__(self, store: Store) -> None:
        self.missing: Counter[str] = Counter()
        self._store = store
        self._written: set[Path] = set()

    def write(self, experiment: str, path: str, file: FileReference, folder: Path) -> str:
        """Write a file to a folder, which is made, and return its name there.

        :raises UnreadableFileError: the folder cannot be written to.
        """
        name = name_in_folder(file)
        to = folder / name
        if to not in self._written:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._store.ask(lambda storage: stored_files.written(storage, file, to))
                self._written.add(to)
            except StorageFormatError as error:
                self._count(experiment, path, error)
            except OSError as error:
                raise UnreadableFileError(f'{folder} cannot be written: {error}') from error
        return name

    def read(self, experiment: str, path: str, file: FileReference) -> bytes | None:
        """Return the content of a file; None if it is damaged."""

        async def content(storage: Storage) -> bytes:
            return b''.join([piece async for piece in stored_files.pieces(storage, file)])

        try:
            return self._store.ask(content)
        except StorageFormatError as error:
            self._count(experiment, path, error)
            return None

    def leave_out(self, experiment: str, count: int) -> None:
        """Count files for which there is no place."""
        why = f'the content of files of {experiment}; neptune-async files writes it'
        self.missing[why] += count

    def _count(self, experiment: str, path: str, error: StorageFormatError) -> None:
        self.missing[f'{experiment}: {path!r}: {error}'] += 1


def files_in(held: Held) -> Iterator[FileReference]:
    """Yield the files that a variable refers to."""
    values: Iterable[object] = (held.value,)
    if held.variable.container == 'series':
        pieces = held.pieces if held.variable.content == 'file' else ()
        values = (value for piece in pieces for value in piece.values)
    for value in values:
        if isinstance(value, FileReference):
            yield value
