"""Defines what an experiment keeps beside numbers and texts: files and histograms.

``exp['model'].assign(File('model.pt'))`` keeps a copy of a file as the value of an Atom, and
``exp['samples'].log(File.image(array))`` appends one to a Series. What is read back is a
``StoredFile``. ``exp['weights'].log(Histogram(values))`` appends a histogram to a Series.
"""

from __future__ import annotations

import io
import math
import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from neptune_async._media.png import Pixels, pixels_of
from neptune_async._media.wav import wav_of
from neptune_async.exceptions import InvalidArgumentError, UnsupportedValueError

__all__ = ['File', 'FileReference', 'Histogram']

MAX_NAME = 255
"""Characters that the name or the media type of a file may have."""


@dataclass(frozen=True, slots=True)
class FileReference:
    """What is known of a file that is kept, without its content.

    :ivar name: what it was called; never a place to write to.
    :ivar media_type: as ``image/png``; what the writer said, or the name tells.
    :ivar size: bytes.
    :ivar sha256: of the content, in hexadecimal digits. Two files of one content are kept once.
    """

    name: str
    media_type: str
    size: int
    sha256: str

    def __str__(self) -> str:
        return f'{self.name} ({self.media_type}, {self.size:,} bytes)'


class File:
    """A file to keep: its content, its name and its media type.

    What is given is kept as it is at the call that assigns or logs it: a file at a path is copied
    then, and what is in memory was copied when the ``File`` was made. To encode, hash and store it
    takes no time of the caller's.

    :param source: the path of a file, its content as bytes, or a binary file object, which is read
        to its end at once.
    :param name: what it is called; without it, the name of the file at the path, or ``file``.
    :param media_type: as ``image/png``; without it, what the end of the name tells.
    :raises InvalidArgumentError: the source is none of these, or a name is none.
    """

    __slots__ = ('_content', '_encode', '_path', 'media_type', 'name')

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO,
        name: str | None = None,
        media_type: str | None = None,
    ) -> None:
        self._encode: Callable[[Any], bytes] | None = None
        self._path: Path | None = None
        self._content: Any = None
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            if not path or '\0' in path:
                raise InvalidArgumentError(f'the path of a file cannot be {path!r}')
            # A later change of the working directory must not make it another file.
            self._path = Path(path).expanduser().absolute()
            name = self._path.name if name is None else name
        elif isinstance(source, (bytes, bytearray, memoryview)):
            self._content = bytes(source)
        else:
            self._content = _read(source)
        self.name = _checked('name', 'file' if name is None else name)
        self.media_type = _checked(
            'media_type', _guessed(self.name) if media_type is None else media_type
        )

    @classmethod
    def _made(
        cls, content: Any, name: str, media_type: str, encode: Callable[[Any], bytes]
    ) -> File:
        made = cls(b'', name, media_type)
        made._content, made._encode = content, encode
        return made

    @classmethod
    def text(cls, text: str, name: str = 'text.txt') -> File:
        """Make a file of a text, in UTF-8."""
        return cls(_encoded('text', text), name)

    @classmethod
    def html(cls, text: str, name: str = 'page.html') -> File:
        """Make a file of a page in HTML."""
        return cls(_encoded('html', text), name, 'text/html')

    @classmethod
    def image(cls, image: Any, name: str = 'image.png') -> File:
        """Make a PNG file of an image, without loss.

        :param image: a NumPy array of shape (height, width) or (height, width, channels), a tensor
            of PyTorch of shape (height, width) or (channels, height, width), with 1 to 4
            channels of uint8, uint16, bool or floats from 0 to 1; or an image of Pillow.
        :raises UnsupportedValueError: it is none of these. Nothing is clipped or scaled in silence.
        """
        if callable(getattr(image, 'save', None)) and hasattr(image, 'mode'):
            return cls._made(image.copy(), name, 'image/png', _saved_by_pillow)
        if not hasattr(image, 'shape') and not isinstance(image, (list, tuple)):
            raise UnsupportedValueError(
                f'an image cannot be made of a {type(image).__name__}; give an array, a tensor or '
                'an image of Pillow'
            )
        return cls._made(pixels_of(image), name, 'image/png', Pixels.png)

    @classmethod
    def figure(cls, figure: Any, name: str | None = None) -> File:
        """Make a file of a figure: PNG of one of Matplotlib, a page of one of Plotly.

        The figure is drawn at once, since it may change.

        :raises UnsupportedValueError: it is neither.
        """
        if callable(getattr(figure, 'savefig', None)):
            return cls._made(_drawn(figure), name or 'figure.png', 'image/png', Pixels.png)
        if callable(getattr(figure, 'to_html', None)):
            return cls.html(figure.to_html(), name or 'figure.html')
        raise UnsupportedValueError(
            f'a {type(figure).__name__} is no figure of Matplotlib or Plotly; save it yourself, '
            'and give the path to File'
        )

    @classmethod
    def audio(cls, samples: Any, rate: int, name: str = 'audio.wav') -> File:
        """Make a WAV file of sound, without loss.

        :param samples: an array of shape (samples,) or (samples, channels): int16, int32, uint8,
            float32 or float64; floats go from -1 to 1.
        :param rate: samples a second.
        :raises UnsupportedValueError: they are none of these.
        """
        return cls(wav_of(samples, rate), name, 'audio/wav')

    @classmethod
    def table(cls, table: Any, name: str = 'table.csv') -> File:
        """Make a CSV file of a table, without an index.

        :param table: a frame of pandas or polars, a table of Arrow, or a dict with a sequence a
            column.
        :raises UnsupportedValueError: it is none of these.
        """
        return cls._made(_rows(table), name, 'text/csv', _csv)

    def __repr__(self) -> str:
        source = f'{self._path}' if self._path else 'memory'
        return f'<File {self.name!r} ({self.media_type}) of {source}>'


def _read(source: object) -> bytes:
    read = getattr(source, 'read', None)
    if not callable(read):
        raise InvalidArgumentError(
            f'a file cannot be made of {type(source).__name__}; give a path, bytes, or a file '
            'that is open in binary mode'
        )
    content = read()
    if not isinstance(content, (bytes, bytearray)):
        raise InvalidArgumentError("a file object must be open in binary mode: open(path, 'rb')")
    return bytes(content)


def _checked(argument: str, text: object) -> str:
    if not isinstance(text, str) or not text or len(text) > MAX_NAME or '\0' in text:
        raise InvalidArgumentError(
            f'{argument} must be a text of 1 to {MAX_NAME} characters, not {text!r:.80}'
        )
    return str.__str__(text)


def _encoded(method: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidArgumentError(f'File.{method} takes a str, not a {type(text).__name__}')
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedValueError(f'the text cannot be encoded in UTF-8: {error}') from None


@lru_cache(maxsize=1)
def _types() -> Any:
    from mimetypes import MimeTypes

    return MimeTypes()  # what Python knows, and not what this machine has beside it


def _guessed(name: str) -> str:
    kind, encoding = _types().guess_type(name)
    return (None if encoding else kind) or 'application/octet-stream'


def _saved_by_pillow(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()


def _drawn(figure: Any) -> Pixels:
    file = io.BytesIO()
    figure.savefig(file, format='rgba', bbox_inches=None, dpi=figure.dpi)
    width, height = (int(inches * figure.dpi) for inches in figure.get_size_inches())
    return Pixels(file.getvalue(), width, height, 4)


def _rows(table: Any) -> tuple[list[Any], list[list[Any]]]:
    """Return the names and the columns of a table, as copies."""
    if hasattr(table, 'column_names'):  # of Arrow
        return [*table.column_names], [column.to_pylist() for column in table.columns]
    if hasattr(table, 'columns') and hasattr(table, 'shape'):  # of pandas and polars
        names = [*table.columns]
        return names, [table[name].to_list() for name in names]
    if isinstance(table, Mapping):
        columns = [[*column] for column in table.values()]
        if len({len(column) for column in columns}) > 1:
            raise UnsupportedValueError('the columns of a table must have equal lengths')
        return [*table], columns
    raise UnsupportedValueError(
        f'a table cannot be made of a {type(table).__name__}; give a frame of pandas or polars, a '
        'table of Arrow, or a dict with a sequence a column'
    )


def _csv(table: tuple[list[Any], list[list[Any]]]) -> bytes:
    import csv

    names, columns = table
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode('utf-8', 'backslashreplace')


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie in each of some bins that follow each other.

    ``Histogram(values, bins=64)`` counts values, as ``numpy.histogram`` does: each bin holds its
    lower edge, and the last one its upper edge, too. ``Histogram(counts=counts, edges=edges)`` is
    for what was counted before.

    :param values: numbers: an array or a tensor of any shape, or a sequence.
    :param bins: into how many bins of equal width to divide what lies between the least and the
        greatest value.
    :ivar counts: how many values each bin has; exact.
    :ivar edges: one more than bins, ascending.
    :ivar non_finite: how many values are NaN or infinite; they are in no bin.
    :raises InvalidArgumentError: counts, edges or bins are none.
    :raises UnsupportedValueError: the values are no numbers.
    """

    counts: tuple[float, ...]
    edges: tuple[float, ...]
    non_finite: int = field(default=0)

    def __init__(
        self,
        values: Any = None,
        bins: int = 64,
        *,
        counts: Iterable[float] | None = None,
        edges: Iterable[float] | None = None,
        non_finite: int = 0,
    ) -> None:
        if (values is None) == (counts is None) or (counts is None) != (edges is None):
            raise InvalidArgumentError('a histogram takes values, or else counts and edges')
        if counts is None or edges is None:
            counts, edges, non_finite = _counted(values, bins)
        object.__setattr__(self, 'counts', _numbers('counts', counts))
        object.__setattr__(self, 'edges', _numbers('edges', edges))
        object.__setattr__(self, 'non_finite', non_finite)
        self._check()

    def __str__(self) -> str:
        least, greatest = self.edges[0], self.edges[-1]
        return f'{sum(self.counts):,.12g} values from {least:g} to {greatest:g}'

    def _repr_svg_(self) -> str:
        """Return what a notebook shows: a small plot."""
        from neptune_async._media.histogram_svg import drawn

        return drawn(self.counts, self.edges, self.non_finite)

    def _check(self) -> None:
        edges = self.edges
        if len(edges) != len(self.counts) + 1 or len(edges) < 2:
            raise InvalidArgumentError(
                f'a histogram has one more edge than counts, not {len(edges)} edges and '
                f'{len(self.counts)} counts'
            )
        if not all(low < high for low, high in pairwise(edges)):
            raise InvalidArgumentError('the edges of a histogram must ascend')
        if any(count < 0 for count in self.counts):
            raise InvalidArgumentError('the counts of a histogram cannot be negative')
        if type(self.non_finite) is not int or self.non_finite < 0:
            raise InvalidArgumentError(f'non_finite must be an int from 0 on: {self.non_finite!r}')


def _numbers(argument: str, numbers: Iterable[Any]) -> tuple[float, ...]:
    listed = numbers.tolist() if hasattr(numbers, 'tolist') else numbers
    try:
        floats = tuple(map(float, listed))
    except (TypeError, ValueError):
        floats = (math.nan,)
    if not all(map(math.isfinite, floats)):
        raise InvalidArgumentError(f'{argument} of a histogram must be finite numbers')
    return floats


def _counted(values: Any, bins: object) -> tuple[Iterable[float], Iterable[float], int]:
    if type(bins) is not int or not 1 <= bins <= 100_000:
        raise InvalidArgumentError(f'bins must be an int from 1 to 100,000, not {bins!r}')
    if hasattr(values, 'detach') or hasattr(values, '__array__'):
        return _counted_by_numpy(values, bins)
    try:
        floats = [*map(float, values)]
    except (TypeError, ValueError):
        raise UnsupportedValueError(
            'a histogram counts numbers: give an array, a tensor, or a sequence of floats'
        ) from None
    finite = [value for value in floats if math.isfinite(value)]
    edges = _edges(min(finite, default=0.0), max(finite, default=0.0), bins)
    counts = [0] * (len(edges) - 1)
    for value in finite:
        counts[min(bisect_right(edges, value), len(counts)) - 1] += 1
    return counts, edges, len(floats) - len(finite)


def _counted_by_numpy(values: Any, bins: int) -> tuple[Any, Any, int]:
    import numpy as np

    if hasattr(values, 'detach'):
        values = values.detach().cpu()
        values = values.float().numpy() if 'bfloat16' in str(values.dtype) else values.numpy()
    array = np.asarray(values)
    if array.dtype.kind not in 'biuf':
        raise UnsupportedValueError(f'a histogram counts numbers, not {array.dtype}')
    array = array.ravel().astype(np.float64, copy=False)
    finite = array[np.isfinite(array)]
    least, greatest = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    edges = _edges(float(least), float(greatest), bins)
    counts, _ = np.histogram(finite, np.asarray(edges))
    return counts, edges, array.size - finite.size


def _edges(least: float, greatest: float, bins: int) -> list[float]:
    """Return edges of bins of equal width, which ascend whatever the values are."""
    if least == greatest:
        margin = max(0.5, abs(least) * 1e-9)
        largest = sys.float_info.max
        least, greatest = max(least - margin, -largest), min(greatest + margin, largest)
    # Halves, or the width of what is nearly all floats would be infinite.
    edges = [2.0 * (least / 2.0 + (greatest / 2.0 - least / 2.0) * (i / bins)) for i in range(bins)]
    edges = [least, *edges[1:], greatest]
    if all(low < high for low, high in pairwise(edges)):
        return edges
    # There are fewer floats between the two than bins.
    return _edges(least, greatest, bins // 2) if bins > 1 else [least, greatest]
