"""Letting go of contents of files that nothing refers to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from neptune_async.exceptions import StorageFormatError


@dataclass(slots=True)
class Unused:
    """Contents that nothing in a store refers to.

    :ivar sizes: the bytes of each, by its SHA-256 in hexadecimal digits; one that was not kept to
        the end has a name that means nothing.
    :ivar version: of the store that was looked at, if it tells.
    """

    sizes: dict[str, int]
    version: int | None = None


@runtime_checkable
class Cleanable(Protocol):
    """A store that can let go of contents of files."""

    async def find_unused(self, spared: Collection[str]) -> Unused:
        """Return the contents that nothing in the store refers to, and change nothing.

        :param spared: those that something outside of the store refers to, by SHA-256 in
            hexadecimal digits.
        :raises StorageFormatError: the store is damaged, and so what refers to a content may be
            missed.
        """

    async def remove_unused(self, unused: Unused, spared: Collection[str]) -> None:
        """Remove contents, but for those that something refers to since they were found. To do it
        twice is no fault, and what was broken off is done when it is done again.

        A batch that comes after that and refers to one of them is told so by ``MissingFiles``.

        :param unused: what was found; loses what has to stay.
        """


def not_told(location: str, why: object) -> StorageFormatError:
    """Return that a store is damaged, so that nothing can be removed from it."""
    return StorageFormatError(
        f'{location} is damaged, and so what refers to a file may be missed: {why}; nothing was '
        'removed'
    )
