"""Where files go that the folder of a store has no room for."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from neptune_async._messenger import messenger


def temporary_of(folder: Path) -> Path:
    """Return the folder for a store's files in the temporary folder of the system."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # Users who share a store have each a folder of their own.
    return Path(tempfile.gettempdir(), f'neptune_async-{_user() or 0}-{digest}')


def made_temporary(folder: Path) -> Path:
    """Return the same folder, which exists now.

    :raises OSError: it cannot be made, or is not the user's.
    """
    place = temporary_of(folder)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_own(place, stat.S_ISDIR):
        raise PermissionError(f'{place} is not a folder of the user')
    return place


def is_own(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether the file or folder at a path belongs to this user. If not, warn. If there is nothing
    at the path, return False without a warning.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if is_kind(found.st_mode) and _user() in (None, found.st_uid):
        return True
    messenger.warning('%s is not used: somebody else may have put it there; delete it', path)
    return False


def _user() -> int | None:
    # Windows has no numbers for users, but a temporary folder for each user.
    return os.geteuid() if hasattr(os, 'geteuid') else None
