"""Files beside what refers to them, on their way into a store.

Rows and folders may be anybody's. Nothing is read but regular files in the folder, and no symbolic
link is followed, or an import would take in what the rows have no business with.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from neptune_async._engine.durability.staged_copies import owner_mark
from neptune_async._engine.store import Store
from neptune_async._engine.storing.uploads import SMALL
from neptune_async._model.pending_files import PIECE, STAGED, NotStaged, PendingFile
from neptune_async.exceptions import StorageError, StorageFormatError, UnreadableFileError
from neptune_async.files import File, FileReference

_FLAGS = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_NOFOLLOW', 0)
"""To open a FIFO would wait for somebody who writes to it."""


class Refused(Exception):
    """A row cannot be stored. The message says why."""


@dataclass(frozen=True, slots=True)
class FileBeside:
    """A file that a row refers to.

    :ivar folder: all files of the import are in it.
    :ivar place: where it is below the folder, as the row says.
    :ivar expected: the file that was exported; None if that is not known.
    """

    folder: Path
    place: str
    expected: FileReference | None = None

    @property
    def path(self) -> Path:
        """Where it is.

        :raises Refused: not in the folder, or behind a symbolic link.
        """
        parts = self.place.split('/')
        path = self.folder.joinpath(*parts)
        try:
            # What is absolute has an empty part.
            is_below = not {'', '.', '..'} & {*parts}
            real = os.path.join(os.path.realpath(self.folder), *parts)
            if is_below and os.path.realpath(path) == real:
                return path
        except (OSError, ValueError) as error:
            raise Refused(f'its file cannot be at {self.place!r}: {error}') from None
        raise Refused(
            f'its file is not taken in from {self.place!r}, which leads out of {self.folder}, or '
            'along a symbolic link'
        )

    def only_one(self) -> FileBeside:
        """Return the one file in the folder that the row refers to instead.

        :raises Refused: there is no such folder, or it has not one file.
        """
        try:
            names = os.listdir(self.path)
        except OSError as error:
            raise _unreadable(self, error) from None
        if len(names) != 1:
            raise Refused(f'its folder {self.place!r} has {len(names):,} files, and not one')
        return FileBeside(self.folder, f'{self.place}/{names[0]}')

    def reference(self, size: int, sha256: str) -> FileReference:
        """Return what refers to the file, given what was found.

        :raises Refused: it is not what was exported.
        :raises InvalidArgumentError: it has no possible name.
        """
        expected = self.expected
        if expected is None:
            described = File(b'', self.place.rpartition('/')[2])
        else:
            described = File(b'', expected.name, expected.media_type)
            if (size, sha256) != (expected.size, expected.sha256):
                raise Refused(f'its file {self.place!r} has another content than was exported')
        return FileReference(described.name, described.media_type, size, sha256)


class KeptFile(PendingFile):
    """A file that the store has already. If somebody cleans up before its row is stored, the store
    gets it once more.
    """

    __slots__ = ('_spill_folder',)

    def __init__(self, path: Path, reference: FileReference, spill_folder: Path) -> None:
        super().__init__('', reference.name, reference.media_type)
        self.reference = reference
        self._outside = path
        self._spill_folder = spill_folder

    @property
    def source(self) -> Path:
        """A copy of the file, or no file if it is not what it was."""
        gone = self._spill_folder / f'gone{STAGED}'
        if self._outside is not None:
            try:
                self.stage(self._spill_folder, owner_mark())
            except UnreadableFileError:
                return gone
            except NotStaged as error:
                raise _no_room(self._spill_folder, error) from error
        assert self._path is not None
        with self._path.open('rb') as copy:
            digest = hashlib.sha256()
            while piece := copy.read(PIECE):
                digest.update(piece)
        is_same = self.reference is not None and digest.hexdigest() == self.reference.sha256
        return self._path if is_same else gone


class FileKeeper:
    """Lets a store have the files that rows refer to, each before its row is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[Path, tuple[int, str]] = {}  # size and SHA-256
        self._unstored: dict[str, KeptFile] = {}

    def taken(self) -> list[PendingFile]:
        """Return the files that were kept since the last call, for the batch of their rows."""
        files: list[PendingFile] = [*self._unstored.values()]
        self._unstored = {}
        return files

    def keep(self, file: FileBeside) -> FileReference:
        """Let the store have a file, and return what refers to it.

        :raises Refused: it is not there, cannot be read, or is not what was exported.
        :raises StorageError: the store fails, or there is no room for a copy.
        """
        path = file.path
        found = self._kept.get(path)
        if found is not None:
            reference = file.reference(*found)
        else:
            with _opened(file, path) as source:
                reference = self._copy(file, source)
            self._kept[path] = reference.size, reference.sha256
        if folder := self._store.spill_folder:
            self._unstored[reference.sha256] = KeptFile(path, reference, folder)
        return reference

    def find(self, file: FileBeside) -> FileReference:
        """Return what refers to a file that an import before should have stored.

        :raises Refused: it has not, or nobody can tell since the file is gone.
        """
        path, expected = file.path, file.expected
        if expected is not None:
            reference = file.reference(expected.size, expected.sha256)
        else:
            with _opened(file, path) as source:
                digest, size = hashlib.sha256(), 0
                for piece in _pieces(file, source):
                    digest.update(piece)
                    size += len(piece)
            reference = file.reference(size, digest.hexdigest())
        sha256 = reference.sha256
        try:
            is_there = self._store.ask(lambda storage: storage.read_file(sha256, 0, 1)) is not None
        except StorageFormatError as error:
            raise Refused(str(error)) from None
        if not is_there:
            raise Refused(
                f'its file {file.place!r} could not be stored when it was imported; to try again, '
                'delete the experiment and import it anew'
            )
        return reference

    def _copy(self, file: FileBeside, source: BinaryIO) -> FileReference:
        pieces = _pieces(file, source)
        first = next(pieces, b'')
        if len(first) <= SMALL:
            reference = file.reference(len(first), hashlib.sha256(first).hexdigest())
            self._send(reference, first)
            return reference
        folder = self._store.spill_folder
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, suffix=f'{owner_mark()}{STAGED}') as copy:
                digest, size = hashlib.sha256(first), copy.write(first)
                for piece in pieces:
                    digest.update(piece)
                    size += copy.write(piece)
                copy.flush()
                reference = file.reference(size, digest.hexdigest())
                self._send(reference, Path(copy.name))
        except OSError as error:
            raise _no_room(folder, error) from error
        return reference

    def _send(self, reference: FileReference, source: bytes | Path) -> None:
        sha256, size = reference.sha256, reference.size
        self._store.ask(lambda storage: storage.keep_file(sha256, size, source))


@contextmanager
def _opened(file: FileBeside, path: Path) -> Iterator[BinaryIO]:
    """Open a regular file.

    :raises Refused: there is none.
    """
    try:
        source = open(path, 'rb', opener=lambda name, _: os.open(name, _FLAGS))  # noqa: SIM115  # below
    except OSError as error:
        raise _unreadable(file, error) from None
    with source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise Refused(f'{file.place!r} in {file.folder} is no regular file')
        yield source


def _pieces(file: FileBeside, source: BinaryIO) -> Iterator[bytes]:
    try:
        while piece := source.read(PIECE):
            yield piece
    except OSError as error:
        raise _unreadable(file, error) from None


def _no_room(folder: Path | None, error: OSError) -> StorageError:
    return StorageError(f'a file cannot be copied to {folder}: {error}')


def _unreadable(file: FileBeside, error: OSError) -> Refused:
    why = error.strerror or error
    return Refused(f'its file {file.place!r} in {file.folder} cannot be read: {why}')
