"""Cleaning up: contents of files that nothing refers to, and copies that the dead have left.

What a journal or a spill file names counts as referred to. It is looked for in their bytes, whether
they can be read or not, and before it is looked for in the store: what is taken in meanwhile is
found twice. What is spilled after that brings its files with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from neptune_async._engine.durability.overlaid_storage import OverlaidStorage
from neptune_async._engine.durability.spill_files import find_spills
from neptune_async._engine.durability.staged_copies import StagedCopy, copies_of_the_dead
from neptune_async._engine.storing.retries import attempt
from neptune_async._model.pending_files import STAGED
from neptune_async._storage.base import Storage
from neptune_async._storage.cleaning import Cleanable, Unused
from neptune_async.exceptions import InvalidStorageError, StorageError

_SHA256 = re.compile(rb'(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])')
_STAGED = re.compile(rb'[\w-]+' + re.escape(STAGED).encode())


@dataclass(frozen=True, slots=True)
class Waste:
    """What can be removed beside and in a store.

    :ivar contents: what nothing refers to.
    :ivar copies: what processes have left that have died.
    """

    contents: Unused = field(default_factory=lambda: Unused({}))
    copies: list[StagedCopy] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Named:
    """What journals and spill files name: contents by SHA-256, and copies by name."""

    contents: set[str]
    copies: set[str]


async def find_waste(storage: Storage) -> Waste:
    """Return what can be removed, and change nothing.

    :raises StorageError: that cannot be told.
    """
    waste, _ = await _found(storage)
    return waste


async def clean(storage: Storage) -> Waste:
    """Remove what can be removed, and return what that was. The store must be open for writing.

    :raises StorageError: not all can be removed.
    """
    waste, named = await _found(storage)
    await attempt(_cleanable(storage).remove_unused, waste.contents, named.contents)
    for copy in waste.copies:
        try:
            copy.path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f'{copy.path} cannot be removed: {error}') from error
    return waste


async def _found(storage: Storage) -> tuple[Waste, _Named]:
    cleanable, folder = _cleanable(storage), storage.spill_folder
    try:
        # Of the dead first: those whose owner dies after this may be named after that.
        copies = [] if folder is None else copies_of_the_dead(folder)
        named = _Named(set(), set()) if folder is None else _named_in(folder)
    except OSError as error:
        raise StorageError(
            f'what is left beside {storage.location} cannot be read: {error}; nothing was removed'
        ) from error
    copies = [copy for copy in copies if copy.path.name not in named.copies]
    return Waste(await attempt(cleanable.find_unused, named.contents), copies), named


def _cleanable(storage: Storage) -> Cleanable:
    below = storage.below if isinstance(storage, OverlaidStorage) else storage
    if not isinstance(below, Cleanable):
        raise InvalidStorageError(
            f'{storage.location} is of a kind of store that cannot be cleaned; name one in SQLite '
            'or PostgreSQL'
        )
    return below


def _named_in(folder: Path) -> _Named:
    """Return what the journals and spill files of a store name."""
    named = _Named(set(), set())
    for path in (*find_spills(folder), *folder.glob('*.journal/*.operations')):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # it was taken in: the store has what it named
        named.contents.update(found.decode() for found in _SHA256.findall(content))
        named.copies.update(found.decode() for found in _STAGED.findall(content))
    return named
