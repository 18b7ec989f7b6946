"""``neptune.types.File``: a file to upload."""

from __future__ import annotations

import copy
import io
import os
import pickle
from typing import Any

from neptune_async import File as KeptFile
from neptune_async._model.pending_files import PendingFile
from neptune_async.compat.neptune.exceptions import StreamAlreadyUsedException
from neptune_async.compat.neptune.rendering import IMAGES, PAGES, image_of, kind_of, page_of
from neptune_async.exceptions import InvalidArgumentError, UnsupportedValueError

__all__ = ['File']

_LONGEST = 200
"""Characters of a field's name that are in the name of its file."""


class File:
    """A file to upload, assign or append: ``File('model.pt')``, or what its static methods make.

    :param path: of the file, which is copied when it is uploaded.
    :ivar extension: the end of its name, without the dot.
    """

    __slots__ = ('_file', '_has_own_name', '_is_used', '_stream', 'extension')

    def __init__(self, path: Any = None) -> None:
        if not isinstance(path, (str, os.PathLike)):
            error = InvalidArgumentError if path is None else UnsupportedValueError
            raise error(
                f'File takes the path of a file, not a {type(path).__name__}; use '
                'File.from_content for what is in memory'
            )
        self._made_of(KeptFile(path), os.path.splitext(path)[1][1:])
        self._has_own_name = True

    def _made_of(self, file: KeptFile | None, extension: str, stream: Any = None) -> File:
        self._file, self._stream = file, stream
        self._is_used = self._has_own_name = False
        self.extension = extension
        return self

    @staticmethod
    def from_path(path: str | os.PathLike[str], *, extension: str | None = None) -> File:
        """Make a file of the one at a path.

        :param extension: that of the uploaded file, if it is another one.
        """
        file = File(path)
        if extension and extension != file.extension:
            file.extension, file._has_own_name = extension, False
        return file

    @staticmethod
    def from_content(content: str | bytes, *, extension: str | None = None) -> File:
        """Make a file of a text, in UTF-8, or of bytes.

        :param extension: without it, ``txt`` or ``bin``.
        """
        if not isinstance(content, (str, bytes)):
            raise UnsupportedValueError(
                f'the content of a file is a str or bytes, not a {type(content).__name__}'
            )
        is_text = isinstance(content, str)
        file = KeptFile.text(content) if isinstance(content, str) else KeptFile(content)
        return _new(file, extension or ('txt' if is_text else 'bin'))

    @staticmethod
    def from_stream(stream: Any, *, seek: int | None = 0, extension: str | None = None) -> File:
        """Make a file of what a stream has when the file is uploaded, which it can be once.

        :param stream: text, which becomes UTF-8, or binary.
        :param seek: where to begin; None is where it is.
        :param extension: without it, ``txt`` or ``bin``.
        """
        if not isinstance(stream, io.IOBase):
            raise UnsupportedValueError(
                f'a stream is what open() or io.BytesIO() returns, not a {type(stream).__name__}'
            )
        if seek is not None and stream.seekable():
            stream.seek(seek)
        is_text = isinstance(stream, io.TextIOBase)
        return _new(None, extension or ('txt' if is_text else 'bin'), stream)

    @staticmethod
    def as_image(image: Any, autoscale: bool = True) -> File:
        """Make a PNG file of an array, a tensor, an image of Pillow, or a figure of Matplotlib or
        seaborn.

        :param autoscale: take numbers that go up to 1 at most as fractions of the brightest.
        """
        return _new(image_of(image, autoscale=autoscale), 'png')

    @staticmethod
    def as_html(chart: Any, **kwargs: Any) -> File:
        """Make a page of a chart of Altair, Bokeh, Matplotlib, Plotly or seaborn, or of a frame of
        pandas.

        :param kwargs: ``include_plotlyjs``, as for ``plotly.io.write_html``.
        """
        return File.from_content(page_of(chart, **kwargs), extension='html')

    @staticmethod
    def as_pickle(obj: Any) -> File:
        """Make a file of an object, as ``pickle`` writes it. Nothing here ever reads it as such."""
        return File.from_content(pickle.dumps(obj), extension='pkl')

    @staticmethod
    def create_from(value: Any, **kwargs: Any) -> File:
        """Make a file of a path, of what is an image or a chart, or of a file itself.

        :raises UnsupportedValueError: it is none of these.
        """
        if isinstance(value, File):
            return value
        if isinstance(value, KeptFile):
            file = _new(value, os.path.splitext(value.name)[1][1:])
            file._has_own_name = True
            return file
        if isinstance(value, (str, os.PathLike)):
            return File(value)
        if File.is_convertable_to_image(value):
            return File.as_image(value)
        if File.is_convertable_to_html(value):
            return File.as_html(value, **kwargs)
        remedy = {'array': 'use File.as_image', 'pandas': 'use File.as_html'}
        raise UnsupportedValueError(
            f'a file cannot be made of a {type(value).__name__}; '
            + remedy.get(kind_of(value) or '', 'give a path, or use File.as_pickle')
        )

    @staticmethod
    def is_convertable(value: Any) -> bool:
        """Tell whether a value can be a file."""
        return isinstance(value, File) or kind_of(value) is not None

    @staticmethod
    def is_convertable_to_image(value: Any) -> bool:
        """Tell whether a value is taken for an image as it is."""
        return kind_of(value) in IMAGES

    @staticmethod
    def is_convertable_to_html(value: Any) -> bool:
        """Tell whether a value is taken for a page as it is."""
        return kind_of(value) in PAGES

    @property
    def path(self) -> str:
        """The path of the file.

        :raises InvalidArgumentError: it has none.
        """
        path = None if self._file is None else self._file._path
        if path is None:
            raise InvalidArgumentError('the file is in memory, and has no path')
        return str(path)

    @property
    def content(self) -> bytes:
        """The content of a file in memory, or the rest of its stream.

        :raises InvalidArgumentError: it is at a path.
        :raises StreamAlreadyUsedException: the stream was read before.
        """
        file = self._read()
        if file._path is not None:
            raise InvalidArgumentError(f'the file is at {file._path}; read it there')
        return PendingFile.of('', file).content()

    def kept_as(self, field: str, name: str | None = None) -> KeptFile:
        """Return the file that is to be kept in a field.

        :param field: the last part of its path.
        :param name: what the file is called, if not after its path or the field.
        """
        file = copy.copy(self._read())
        if name is None and not self._has_own_name:
            name = field
        if name is not None:
            stem = name[:_LONGEST].removesuffix(f'.{self.extension}')
            # Made anew for its media type, which its name tells.
            named = KeptFile(b'', f'{stem}.{self.extension}' if self.extension else stem)
            file.name, file.media_type = named.name, named.media_type
        return file

    def _read(self) -> KeptFile:
        if self._file is not None:
            return self._file
        if self._is_used:
            raise StreamAlreadyUsedException(
                'the stream of a file can be read once, and was; make another File of it'
            )
        self._is_used = True
        content = self._stream.read()
        return KeptFile(content.encode() if isinstance(content, str) else content)

    def __repr__(self) -> str:
        return f'<File {self._stream if self._file is None else self._file!r}>'


def _new(file: KeptFile | None, extension: str, stream: Any = None) -> File:
    return File.__new__(File)._made_of(file, extension, stream)
