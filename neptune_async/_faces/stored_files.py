"""Files that were read back, with the experiment that has their content."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from neptune_async._engine.reading import stored_files
from neptune_async._engine.worker.loop_thread import Function
from neptune_async._model.showing import harmless
from neptune_async.exceptions import InvalidArgumentError, NeptuneAsyncError
from neptune_async.files import FileReference
from neptune_async.variable import Point

T = TypeVar('T')

_PICTURES = ('image/png', 'image/jpeg', 'image/gif', 'image/webp')
_DRAWING = 'image/svg+xml'
LARGEST_SHOWN = 2**21
"""Bytes of an image that a notebook shows. Jupyter drops what is more than 3 MB in three seconds,
and these are a third longer as text.
"""


class Reader(Protocol):
    """An experiment of the synchronous face."""

    def _ask(self, function: Function[T], path: str | None, *arguments: object) -> T: ...

    def _glance(self, function: Function[T], path: str | None, *arguments: object) -> T: ...


class AsyncReader(Protocol):
    """An experiment of the asynchronous face."""

    async def _ask(self, function: Function[T], path: str | None, *arguments: object) -> T: ...


class StoredFile(FileReference):
    """A file that is kept: what is known of it, and its content, which is read when asked for.

    The experiment that it was read from must be open. What is read is checked against the
    SHA-256: nobody gets a content that is not what was stored.

    A notebook shows an image of up to 2 MiB as an image. Nothing else is rendered: a page of HTML
    is shown as what it is called.
    """

    __slots__ = ('_experiment',)

    def __init__(self, reference: FileReference, experiment: Reader) -> None:
        super().__init__(reference.name, reference.media_type, reference.size, reference.sha256)
        object.__setattr__(self, '_experiment', experiment)

    def bytes(self) -> bytes:
        """Return the content.

        :raises StorageError: it cannot be read, or is damaged.
        :raises ExperimentClosedError: the experiment was closed.
        """
        return self._experiment._ask(stored_files.content, None, self)  # type: ignore[attr-defined,no-any-return]  # set above

    def open(self) -> BinaryIO:
        """Return a copy of the file, open for reading in binary mode; errors as ``bytes``."""
        return self._experiment._ask(stored_files.opened, None, self)  # type: ignore[attr-defined,no-any-return]  # set above

    def download(self, path: str | os.PathLike[str] = '.') -> Path:
        """Write the file to a path, and return that. What is there is replaced.

        :param path: of the file to write; or of a folder, where it gets a name that is made of its
            own, and stays in that folder whatever it is called.
        :raises UnreadableFileError: the path cannot be written to.
        :raises StorageError: the file cannot be read, or is damaged; nothing was written then.
        """
        return self._experiment._ask(stored_files.download, None, self, target(path))  # type: ignore[attr-defined,no-any-return]  # set above

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Return what a notebook shows: the image that the file is, or nothing but its text."""
        kind = self.media_type.partition(';')[0].strip().lower()
        if kind not in (*_PICTURES, _DRAWING):
            return {}
        if self.size > LARGEST_SHOWN:
            why = f'larger than {LARGEST_SHOWN:,} bytes; download() it'
            return {'text/plain': f'{harmless(str(self))}: {why}'}
        try:
            content: bytes = self._experiment._glance(stored_files.content, None, self)  # type: ignore[attr-defined]  # set above
        except NeptuneAsyncError as error:
            return {'text/plain': f'{harmless(str(self))}: {error}'}
        encoded = b64encode(content).decode()
        if kind in _PICTURES:
            return {kind: encoded}
        # Jupyter makes SVG a part of its page, scripts included. Those of an image never run.
        return {'text/html': f'<img src="data:{_DRAWING};base64,{encoded}">'}

    def __reduce__(self) -> tuple[object, ...]:
        return FileReference, (self.name, self.media_type, self.size, self.sha256)


class AsyncStoredFile(FileReference):
    """A file that is kept; see ``StoredFile``.

    A notebook shows no image of it, which would have to be awaited:
    ``IPython.display.Image(await file.bytes())`` does.
    """

    __slots__ = ('_experiment',)

    def __init__(self, reference: FileReference, experiment: AsyncReader) -> None:
        super().__init__(reference.name, reference.media_type, reference.size, reference.sha256)
        object.__setattr__(self, '_experiment', experiment)

    async def bytes(self) -> bytes:
        """Return the content; see ``StoredFile.bytes``."""
        return await self._experiment._ask(stored_files.content, None, self)  # type: ignore[attr-defined,no-any-return]  # set above

    async def open(self) -> BinaryIO:
        """Return a copy of the file, open for reading; see ``StoredFile.open``."""
        return await self._experiment._ask(stored_files.opened, None, self)  # type: ignore[attr-defined,no-any-return]  # set above

    async def download(self, path: str | os.PathLike[str] = '.') -> Path:
        """Write the file to a path, and return that; see ``StoredFile.download``."""
        return await self._experiment._ask(  # type: ignore[attr-defined,no-any-return]  # set above
            stored_files.download, None, self, target(path)
        )

    def __reduce__(self) -> tuple[object, ...]:
        return FileReference, (self.name, self.media_type, self.size, self.sha256)


def target(path: object) -> Path:
    """Return where to write a file to.

    :raises InvalidArgumentError: it is no path.
    """
    if not isinstance(path, (str, os.PathLike)) or '\0' in str(path):
        raise InvalidArgumentError(f'the path to write to cannot be {path!r}')
    return Path(path).expanduser().absolute()


def bound(answer: T, bind: Callable[[FileReference], FileReference]) -> T:
    """Return what a read has answered, with files whose content can be read.

    :param answer: a value, a list of values or of tuples that end with one, a ``Point``, or a dict
        of these. A list is of one type.
    """
    bound_answer: T = _bound(answer, bind)
    return bound_answer


def _bound(answer: Any, bind: Callable[[FileReference], FileReference]) -> Any:
    if isinstance(answer, FileReference):
        return bind(answer)
    if isinstance(answer, list) and answer:
        return [_bound(each, bind) for each in answer] if _is_of_files(answer[0]) else answer
    if isinstance(answer, Point):
        return answer._replace(value=_bound(answer.value, bind))
    if isinstance(answer, tuple) and _is_of_files(answer):
        return (*answer[:-1], bind(answer[-1]))
    if isinstance(answer, dict):
        return {key: _bound(each, bind) for key, each in answer.items()}
    return answer


def _is_of_files(item: object) -> bool:
    value = item[-1] if isinstance(item, tuple) and item else item
    return isinstance(value, FileReference)
