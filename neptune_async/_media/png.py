"""PNG: pixels without loss (https://www.w3.org/TR/png-3/)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from neptune_async.exceptions import UnsupportedValueError

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""What PNG calls so many channels: grey, grey and alpha, RGB, RGBA."""
_SIGNATURE = b'\x89PNG\r\n\x1a\n'


@dataclass(frozen=True, slots=True)
class Pixels:
    """An image in memory.

    :ivar content: the rows from top to bottom, each channel 8 or 16 bits, big endian.
    :ivar channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
    """

    content: bytes
    width: int
    height: int
    channels: int
    bits: int = 8

    def png(self) -> bytes:
        """Return the image as a PNG file."""
        stride = self.width * self.channels * self.bits // 8
        rows = memoryview(self.content)
        # Before each row is the number of its filter; 0 is none.
        unfiltered = b''.join(
            part
            for start in range(0, len(rows), stride)
            for part in (b'\0', rows[start : start + stride])
        )
        head = struct.pack(
            '>IIBBBBB', self.width, self.height, self.bits, _COLOUR_TYPES[self.channels], 0, 0, 0
        )
        data = zlib.compress(unfiltered)
        return _SIGNATURE + _chunk(b'IHDR', head) + _chunk(b'IDAT', data) + _chunk(b'IEND', b'')


def _chunk(kind: bytes, content: bytes) -> bytes:
    return b''.join(
        (struct.pack('>I', len(content)), kind, content,
         struct.pack('>I', zlib.crc32(content, zlib.crc32(kind))))
    )  # fmt: skip


def pixels_of(image: Any) -> Pixels:
    """Return a copy of the pixels of an array.

    :param image: a NumPy array of shape (height, width) or (height, width, channels), or a tensor
        of PyTorch of shape (height, width) or (channels, height, width); uint8, uint16, bool,
        or floats from 0 to 1.
    :raises UnsupportedValueError: it is none of these. Nothing is clipped or scaled in silence.
    """
    import numpy as np

    array = np.asarray(_on_the_cpu(image))
    array = array.astype(array.dtype.newbyteorder('='), copy=False)
    if array.ndim == 3 and type(image).__module__.partition('.')[0] == 'torch':
        array = np.moveaxis(array, 0, 2)  # PyTorch has the channels first
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or array.shape[2] not in _COLOUR_TYPES or not array.size:
        raise UnsupportedValueError(
            f'an image cannot have the shape {tuple(np.shape(image))}; give (height, width), or '
            '(height, width, channels) with 1 to 4 channels (a tensor of PyTorch: (channels, '
            'height, width))'
        )
    height, width, channels = array.shape
    stored = _whole_numbers(array)
    bits = 8 * stored.dtype.itemsize
    # The one copy of the pixels that the caller waits for, unless the order of bytes differs.
    content = stored.astype(stored.dtype.newbyteorder('>'), copy=False).tobytes()
    return Pixels(content, width, height, channels, bits)


def _on_the_cpu(image: Any) -> Any:
    detach = getattr(image, 'detach', None)
    return detach().cpu().numpy() if callable(detach) else image


def _whole_numbers(array: Any) -> Any:
    import numpy as np

    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == 'f':
        if not (array.min() >= 0.0 and array.max() <= 1.0):
            raise UnsupportedValueError(
                f'an image of floats goes from 0 to 1, not from {array.min()} to {array.max()}; '
                'scale it first, or give uint8'
            )
        return np.rint(array * 255.0).astype(np.uint8)
    if array.dtype.kind in 'iu' and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    raise UnsupportedValueError(
        f'an image cannot hold {array.dtype} beyond 0 to 255; give uint8, uint16, bool, or floats '
        'from 0 to 1'
    )
