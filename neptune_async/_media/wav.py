"""WAV: samples of sound without loss (RIFF, Multimedia Programming Interface 1.0, 1991)."""

from __future__ import annotations

import struct
from typing import Any

from neptune_async.exceptions import InvalidArgumentError, UnsupportedValueError

_INTEGERS, _FLOATS = 1, 3
"""What a file says of its samples: WAVE_FORMAT_PCM and WAVE_FORMAT_IEEE_FLOAT."""


def wav_of(samples: Any, rate: object) -> bytes:
    """Return samples as a WAV file.

    :param samples: an array of shape (samples,) or (samples, channels): int16, int32, uint8,
        float32 or float64; floats go from -1 to 1.
    :param rate: samples a second.
    :raises UnsupportedValueError: they are none of these.
    :raises InvalidArgumentError: the rate is no positive int.
    """
    import numpy as np

    if type(rate) is not int or not 0 < rate < 2**31:
        raise InvalidArgumentError(f'rate must be samples a second, a positive int, not {rate!r}')
    detach = getattr(samples, 'detach', None)
    array = np.asarray(detach().cpu().numpy() if callable(detach) else samples)
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or not 0 < array.shape[1] < 2**16:
        raise UnsupportedValueError(
            f'a sound cannot have the shape {tuple(np.shape(samples))}; give (samples,) or '
            '(samples, channels)'
        )
    if array.dtype.name not in ('uint8', 'int16', 'int32', 'float32', 'float64'):
        raise UnsupportedValueError(
            f'a sound cannot hold samples of {array.dtype}; give int16, int32, uint8, float32 or '
            'float64'
        )
    size, channels = array.dtype.itemsize, array.shape[1]
    content = array.astype(array.dtype.newbyteorder('<')).tobytes()
    form = struct.pack(
        '<HHIIHH', _FLOATS if array.dtype.kind == 'f' else _INTEGERS, channels, rate,
        rate * channels * size, channels * size, 8 * size,
    )  # fmt: skip
    chunks = _chunk(b'fmt ', form) + _chunk(b'data', content)
    return b'RIFF' + struct.pack('<I', 4 + len(chunks)) + b'WAVE' + chunks


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack('<I', len(content)) + content + b'\0' * (len(content) % 2)
