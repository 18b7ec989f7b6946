"""Files that are made: each is there once it is whole, and nothing else is touched for it."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from neptune_async._transfer.names import LONGEST

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_DESCRIPTOR = re.compile(r'/(?:dev|proc/self)/fd/(\d+)')
_STREAMS = {'-': 1, '/dev/stdout': 1, '/dev/stderr': 2}


def is_stream(path: Path) -> bool:
    """Whether what is written at a path goes on to somebody: a device, a FIFO, stdout as ``-``."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def output(path: Path) -> Iterator[BinaryIO]:
    """Give what to write to. A file is put in its place once the body has written all of it.

    A stream is written through. A symbolic link stays, and the file that it names is replaced.
    """
    if is_stream(path):
        with io.BufferedWriter(_Stream(path)) as stream:
            yield stream
        return
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    place = Path(os.path.realpath(path))
    temporary = unfinished(place)
    try:
        with new_file(temporary) as file:
            yield file
        finish(temporary, place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unfinished(path: Path) -> Path:
    """Return a name for a file until it is whole: beside its place, and nobody else's."""
    suffix = f'.{secrets.token_hex(8)}.tmp'
    name = os.fsencode(path.name)[: LONGEST - len(suffix)]
    return path.with_name(os.fsdecode(name) + suffix)


def new_file(path: Path) -> BinaryIO:
    """Make a file that was not there; a symbolic link is not followed."""
    return path.open('xb')


def finish(temporary: Path, path: Path) -> None:
    """Put a file that is whole in its place, with the owner and the mode of what it replaces."""
    with suppress(FileNotFoundError):
        there = path.stat()
        if hasattr(os, 'chown'):
            with suppress(PermissionError):  # only root gives files away
                os.chown(temporary, there.st_uid, there.st_gid)
        temporary.chmod(there.st_mode & 0o777)
    temporary.replace(path)


def _descriptor(path: Path) -> int | None:
    """Return the open file that a path names. Opened by that name, it would begin anew."""
    found = _DESCRIPTOR.fullmatch(str(path))
    return int(found[1]) if found else _STREAMS.get(str(path))


class _Stream(io.FileIO):
    """A file without places, of which Parquet asks how much was written."""

    def __init__(self, path: Path) -> None:
        descriptor = _descriptor(path)
        if descriptor is None:
            super().__init__(os.open(path, os.O_WRONLY), 'wb')
        else:
            super().__init__(descriptor, 'wb', closefd=False)
        self._written = 0

    def write(self, content: ReadableBuffer) -> int:
        count = super().write(content)
        self._written += count or 0
        return count

    def tell(self) -> int:
        return self._written
