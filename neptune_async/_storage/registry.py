"""Which kind of store a URL or a path names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote

from neptune_async._storage.base import Storage
from neptune_async._storage.sqlite import SQLiteStorage
from neptune_async.exceptions import InvalidStorageError, StorageError

DEFAULT = '.neptune_async/experiments.db'
ENVIRONMENT_VARIABLE = 'NEPTUNE_ASYNC_STORAGE'
ENTRY_POINTS = 'neptune_async.storages'

MEMORY = 'sqlite://:memory:'

StorageFactory: TypeAlias = Callable[[str], Storage]
"""Takes a URL of its scheme, connects to nothing yet."""

_SCHEME = re.compile('([A-Za-z][A-Za-z0-9+.-]*)://')


def resolve(storage: str | os.PathLike[str] | None) -> str:
    """Return the URL of a store; equal for all ways to name the same one.

    :param storage: a path (in a str, ``~`` and ``~user`` at its beginning are home folders),
        ``:memory:`` or a URL; None is what the environment variable ``NEPTUNE_ASYNC_STORAGE``
        says, else ``.neptune_async/experiments.db``.
    :raises InvalidStorageError: for what is neither str nor path, or is empty.
    """
    if storage is None:
        storage = os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT
    try:
        named = os.fspath(storage)
    except TypeError:
        named = None
    if not isinstance(named, str) or not named or '\0' in named:
        if isinstance(named, str) and '://' in named:
            storage = f'{named.partition("://")[0]}://...'  # there may be a password in it
        raise InvalidStorageError(
            f"storage must be a path, ':memory:' or a URL such as 'sqlite:///runs.db', "
            f'not {storage!r}'
        )
    if named in (':memory:', 'sqlite:///:memory:', MEMORY):
        return MEMORY
    if not _SCHEME.match(named):
        if isinstance(storage, str):  # a Path means what it says, as everywhere
            named = os.path.expanduser(named)
        return f'sqlite:///{_absolute(named)}'
    scheme, _, rest = named.partition('://')
    if scheme == 'postgres':
        return f'postgresql://{rest}'
    if scheme == 'sqlite':
        return f'sqlite:///{_absolute(_sqlite_path(named))}'
    return named


def _absolute(path: str) -> str:
    try:
        return os.path.realpath(path)
    except FileNotFoundError as error:
        raise StorageError(
            f'cannot find the store {path}: the working directory is gone ({error.strerror}); '
            'change to one that is there, or name the store by its absolute path'
        ) from error


def create(url: str) -> Storage:
    """Return the store that a resolved URL names, not yet connected.

    :raises InvalidStorageError: when no kind of store has the URL's scheme.
    """
    scheme = url.partition('://')[0]
    if scheme == 'sqlite':
        return SQLiteStorage(url.removeprefix('sqlite://').removeprefix('/'))
    if scheme == 'postgresql':
        return _postgres_storage(url)
    import importlib.metadata  # with what reads e-mail: a fourteenth of all that is imported

    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry_point.name == scheme:
            factory: StorageFactory = entry_point.load()
            return factory(url)
    raise InvalidStorageError(
        f"no storage is known for the scheme {scheme!r}; give a path, ':memory:', "
        "'sqlite:///runs.db' or 'postgresql://user@host/db', or install the package that brings it"
    )


def _postgres_storage(url: str) -> Storage:
    try:
        from neptune_async._storage.postgres import PostgresStorage
    except ModuleNotFoundError as error:
        if error.name != 'asyncpg':
            raise
        raise InvalidStorageError(
            'a store in PostgreSQL needs asyncpg, which is not installed; '
            "run pip install 'neptune-async[postgres]'"
        ) from None
    return PostgresStorage(url)


def _sqlite_path(url: str) -> str:
    """Return the path in a URL: three slashes before a relative one, four before an absolute."""
    path = unquote(url.removeprefix('sqlite://'))
    if not path.startswith('/') or path == '/':
        raise InvalidStorageError(
            f"{url!r} names no file; write 'sqlite:///relative.db' or 'sqlite:////absolute.db'"
        )
    return path[1:]
