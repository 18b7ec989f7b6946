"""The content of files that are kept: read in pieces, and checked before anybody gets it."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.storing.retries import attempt
from neptune_async._engine.worker.worker import Worker
from neptune_async._storage.base import Storage
from neptune_async.exceptions import StorageFormatError, UnreadableFileError
from neptune_async.files import FileReference

PIECE = 2**20
"""Bytes that are read at a time."""
_IN_MEMORY = 2**24
"""Bytes beyond which a file that was opened is in a temporary file."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED = re.compile(r'(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


async def content(
    worker: Worker, state: ExperimentState, _path: str | None, file: FileReference
) -> bytes:
    """Return the whole content of a file."""
    state.require_open()
    return b''.join([piece async for piece in pieces(worker.storage, file)])


async def opened(
    worker: Worker, state: ExperimentState, _path: str | None, file: FileReference
) -> BinaryIO:
    """Return a copy of a file, open for reading."""
    state.require_open()
    copy = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # the caller closes it
    try:
        async for piece in pieces(worker.storage, file):
            copy.write(piece)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return cast(BinaryIO, copy)


async def download(
    worker: Worker,
    state: ExperimentState,
    _path: str | None,
    file: FileReference,
    to: Path,
) -> Path:
    """Write a file to a path, or into a folder under a name made of its own."""
    state.require_open()
    return await written(worker.storage, file, to)


async def written(storage: Storage, file: FileReference, to: Path) -> Path:
    """Write a file to a path, or into a folder under a name made of its own. It is there whole,
    or not at all.

    :raises UnreadableFileError: the path cannot be written to.
    :raises StorageFormatError: the file is damaged.
    """
    target = _target(file, to)
    part = target.with_name(f'.{uuid.uuid4().hex}.part')
    try:
        with part.open('xb') as out:
            async for piece in pieces(storage, file):
                out.write(piece)
        os.replace(part, target)
    except OSError as error:
        raise UnreadableFileError(f'{target} cannot be written: {error}') from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _target(file: FileReference, to: Path) -> Path:
    target = to / safe_name(file.name) if to.is_dir() else to
    if target.exists() and not target.is_file():
        raise UnreadableFileError(f'{target} is no regular file; name another')
    return target


def safe_name(name: str) -> str:
    """Return a name for a file in a folder. What was called like a path stays in the folder.

    >>> safe_name('../../etc/passwd'), safe_name('..'), safe_name('model.pt')
    ('.._.._etc_passwd', '_', 'model.pt')
    """
    safe = _UNSAFE.sub('_', name.encode('utf-8', 'replace').decode()).rstrip(' .') or '_'
    safe = f'_{safe}' if _RESERVED.match(safe) else safe
    stem, dot, suffix = safe.rpartition('.')
    # A file system takes 255 bytes.
    while len(safe.encode()) > 200:
        stem = stem[:-1] if stem else stem
        suffix = suffix if stem else suffix[:-1]
        safe = f'{stem}{dot}{suffix}'
    return safe


async def pieces(storage: Storage, file: FileReference) -> AsyncIterator[bytes]:
    """Yield the content of a file, and check it: whoever keeps a piece waits for the end.

    :raises StorageFormatError: it is damaged, or not there.
    """
    digest, start = hashlib.sha256(), 0
    while start < file.size:
        piece = await attempt(storage.read_file, file.sha256, start, PIECE)
        if piece is None:
            raise _damaged(storage, file, 'is not there')
        if not piece:
            break
        digest.update(piece)
        start += len(piece)
        yield piece
    if start != file.size or digest.hexdigest() != file.sha256:
        raise _damaged(storage, file, 'has another content than was stored')


def _damaged(storage: Storage, file: FileReference, what: str) -> StorageFormatError:
    return StorageFormatError(
        f'the file {file.name!r} of {storage.location} {what} (SHA-256 {file.sha256}); restore '
        'the store, and what is beside it, from a copy'
    )
