"""Files that were accepted and are not kept yet: in memory, or staged in a file.

A staged file is a copy in the folder of spill files, so that a journal or a spill file can name it.
"""

from __future__ import annotations

import io
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from neptune_async.exceptions import UnreadableFileError, UnsupportedValueError
from neptune_async.files import File, FileReference

STAGED = '.staged'
PIECE = 2**20
"""Bytes that are read of a file at a time."""


class NotStaged(OSError):
    """A staged file cannot be written, whatever it is a copy of."""


class PendingFile:
    """A file on its way to storage.

    :ivar path: of the variable that refers to it, for messages.
    :ivar memory: bytes that it has in memory.
    :ivar reference: what refers to its content, once that was read.
    """

    __slots__ = (
        '_held', '_outside', '_path', 'media_type', 'memory', 'name', 'path', 'reference'
    )  # fmt: skip

    def __init__(self, path: str, name: str, media_type: str) -> None:
        self.path = path
        self.name = name
        self.media_type = media_type
        self.memory = 0
        self.reference: FileReference | None = None
        # What is in memory, and what encodes it.
        self._held: tuple[Any, Callable[[Any], bytes] | None] | None = None
        self._path: Path | None = None
        self._outside: Path | None = None

    @classmethod
    def of(cls, path: str, file: File) -> PendingFile:
        """Return what is to be kept of a file.

        :param path: of the variable.
        """
        pending = cls(path, file.name, file.media_type)
        pending._outside = file._path
        if file._path is None:
            pending._held = file._content, file._encode
            pending.memory = _size_of(file._content)
        return pending

    @classmethod
    def staged(cls, path: str, name: str, media_type: str, staged_as: str) -> PendingFile:
        """Return a file that was staged. ``look_in`` tells where it is."""
        pending = cls(path, name, media_type)
        # Only the name counts: a journal or a spill file may have been written by somebody else.
        pending._path = Path(Path(staged_as).name)
        return pending

    @property
    def staged_as(self) -> str:
        """The name of the staged file; empty if it is in memory."""
        return '' if self._path is None else self._path.name

    def look_in(self, *folders: Path) -> None:
        """Find the staged file in one of some folders. If it is in none, it cannot be read."""
        name = self.staged_as
        for folder in folders:
            path = folder / name
            if name.endswith(STAGED) and path.is_file() and not path.is_symlink():
                self._path = path
                return
        self._path = folders[0] / (name if name.endswith(STAGED) else f'missing{STAGED}')

    @property
    def is_outside(self) -> bool:
        """Whether it is still the user's own file, which may change."""
        return self._outside is not None

    def stage(self, folder: Path, owner: str = '') -> None:
        """Copy the user's file, as it is now, or move what is in memory, to a staged file.

        :param owner: what its name is to tell of the process that needs it.
        :raises UnreadableFileError: there is no regular file at the path, or it cannot be read, or
            changes meanwhile.
        :raises UnsupportedValueError: what is in memory cannot be encoded.
        :raises NotStaged: the folder cannot be written to.
        """
        if self._path is not None:
            return
        content = self.content() if self._outside is None else b''
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f'{uuid.uuid4().hex}{owner}{STAGED}'
            target = path.open('xb')
        except OSError as error:
            raise NotStaged(str(error)) from error
        try:
            with target:
                if self._outside is None:
                    _write(target, content)
                else:
                    _copy(self._outside, target)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._path = path
        self._outside = self._held = None
        self.memory = 0

    def load(self) -> None:
        """Read the user's file, as it is now, into memory; errors as ``stage``."""
        if self._outside is not None:
            copy = io.BytesIO()
            _copy(self._outside, copy)
            self._held = copy.getvalue(), None
            self.memory = copy.tell()
            self._outside = None

    def content(self) -> bytes:
        """Return what is in memory, encoded.

        :raises UnsupportedValueError: it cannot be encoded.
        """
        # In one step: one thread may encode it to store it while another one stages it.
        held = self._held
        if held is None:
            assert self._path is not None
            return self._path.read_bytes()
        content, encode = held
        if encode is not None:
            try:
                content = encode(content)
            except Exception as error:  # whatever a library raises that has made the value
                raise UnsupportedValueError(f'{self.name!r} cannot be encoded: {error}') from error
            self._held = content, None
        assert isinstance(content, bytes)
        return content

    @property
    def source(self) -> bytes | Path:
        """The content, or where it is staged.

        :raises UnsupportedValueError: it cannot be encoded.
        """
        return self.content() if self._path is None else self._path

    def discard(self) -> None:
        """Remove the staged file, because the content is kept, or is not to be kept."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _size_of(content: object) -> int:
    held = getattr(content, 'content', content)
    if isinstance(held, bytes):
        return len(held)
    nbytes = getattr(content, 'nbytes', 0)
    return nbytes if isinstance(nbytes, int) else 0


def _write(target: BinaryIO, content: bytes) -> None:
    try:
        target.write(content)
        target.flush()
    except OSError as error:
        raise NotStaged(str(error)) from error


def _copy(source: Path, target: BinaryIO) -> None:
    """Copy a regular file as it is now."""
    try:
        with open(source, 'rb', opener=_opened) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableFileError(f'{source} is no regular file; give a file')
            copied = _copy_bytes(file, target, before.st_size)
            after = os.fstat(file.fileno())
            is_longer = file.read(1)
    except (NotStaged, UnreadableFileError):
        raise
    except OSError as error:
        what = 'is a folder; give a file' if source.is_dir() else f'cannot be copied: {error}'
        raise UnreadableFileError(f'{source} {what}') from error
    seen = [(found.st_size, found.st_mtime_ns) for found in (before, after)]
    if is_longer or copied != before.st_size or seen[0] != seen[1]:
        raise UnreadableFileError(
            f'{source} has changed while it was copied; log it once it is whole'
        )


def _opened(path: str, flags: int) -> int:
    # Opening a FIFO would wait for somebody who writes to it.
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


def _copy_bytes(source: BinaryIO, target: BinaryIO, size: int) -> int:
    """Copy so many bytes at most, and return how many that were. The file system shares them
    between both files, where it can.
    """
    copied = 0
    while copied < size:
        count = _copied_in_the_kernel(source, target, size - copied) if not copied else 0
        if not count:
            piece = source.read(min(PIECE, size - copied))
            if not piece:
                break
            _write(target, piece)
            count = len(piece)
        copied += count
    return copied


def _copied_in_the_kernel(source: BinaryIO, target: BinaryIO, size: int) -> int:
    """Copy bytes from one file to the other, and return how many; 0 if that cannot be done."""
    copied = 0
    try:
        while copied < size:
            count = os.copy_file_range(source.fileno(), target.fileno(), size - copied)  # type: ignore[attr-defined,unused-ignore]  # not everywhere
            if not count:
                break
            copied += count
    except (AttributeError, OSError) as error:
        if copied:
            raise NotStaged(str(error)) from error
        return 0
    source.seek(copied)
    target.seek(copied)
    return copied
