"""Errors of SQLite, translated to errors of ours that say what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from neptune_async._model import messages
from neptune_async.exceptions import StorageBusyError, StorageError, StorageFormatError

_LONGEST_PATH = 512 - len('-journal')
"""The longest path of a store, in bytes. With ``-journal`` after it, it has to fit MAX_PATHNAME of
SQLite's os.h.
"""


def translated(error: sqlite3.Error, path: str, writable: bool) -> StorageError | None:
    """Return the error of ours for a fault of the store; None if the store is not at fault."""
    text = str(error)
    if isinstance(error, sqlite3.OperationalError):
        if text.startswith('Could not decode'):
            return _damaged(path, text)
        if 'locked' in text or 'locking protocol' in text:
            return StorageBusyError(f'the store {path} is held by another process: {text}')
        if 'unable to open' in text or 'readonly' in text or os.path.isdir(path):
            if writable and _is_in_a_read_only_folder(path):
                return read_only_error(
                    path, f'the folder {Path(path).absolute().parent} is not writable'
                )
            return StorageError(f'cannot open the store {path}: {_why_unopened(path) or text}')
        return StorageError(f'the store {path} failed: {text}')
    # Our statements violate no constraint, unless the file is damaged or not ours.
    if type(error) is sqlite3.DatabaseError or isinstance(error, sqlite3.IntegrityError):
        return _damaged(path, text)
    return None


def _damaged(path: str, text: str) -> StorageFormatError:
    return StorageFormatError(
        f'{path} is no store of neptune_async, or is damaged: {text}; '
        'nothing was changed; name another file, or restore this one'
    )


def read_only_error(path: str, why: str) -> StorageError:
    return messages.advised(
        StorageError,
        f'cannot open the store {path}: {why}',
        "open it with mode='read', or name another file",
        'name another file, or make it writable',
    )


def _is_in_a_read_only_folder(path: str) -> bool:
    """Whether the file can be written to and only its folder cannot."""
    folder = Path(path).absolute().parent
    return os.path.isfile(path) and os.access(path, os.W_OK) and not os.access(folder, os.W_OK)


def _why_unopened(path: str) -> str | None:
    file = Path(path).absolute()
    length = len(os.fsencode(file))
    if length > _LONGEST_PATH:
        return (
            f'its path has {length} bytes, and SQLite takes {_LONGEST_PATH} at most; name a '
            'shorter one'
        )
    try:
        os.stat(file)
    except FileNotFoundError:
        if file.is_symlink():
            return f'it is a symbolic link to {os.readlink(file)}, and there is no such file'
    except OSError as error:
        return f'{error.strerror}; name another file'
    if not os.path.exists(file):
        if os.path.isdir(file.parent) and not os.access(file.parent, os.W_OK):
            return f'the folder {file.parent} is not writable'
        folder = spill_folder_of(path)
        if any(folder.glob('*.spill')) or any(folder.glob('*.journal')):
            return (
                f'there is no such file, but what was not stored in it yet is in {folder}: put the '
                'file back in its place, or make a new one with that only: python -m neptune_async '
                f'recover --storage {path}'
            )
        return f'there is no such file; {_suggested_file(file)}'
    if os.path.isdir(file):
        return 'it is a folder; name a file in it'
    if not os.access(file, os.R_OK):
        return 'it may not be read'
    if not os.access(file.parent, os.W_OK):
        return (
            f'SQLite keeps a -wal file beside it, and the folder {file.parent} is not writable; '
            'copy the store, with its -wal file if there is one, to a folder that is'
        )
    return None


def spill_folder_of(path: str) -> Path:
    return Path(f'{path}.spilled').absolute()


def _suggested_file(file: Path) -> str:
    folder = file.parent
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    stores = [name for name in names if not name.endswith(('-wal', '-shm'))]
    return messages.suggestion(file.name, stores, 'name one, or log to it first')
