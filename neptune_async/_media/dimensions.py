"""How wide and high an image is, as its first bytes say; no pixel is decoded."""

from __future__ import annotations

import struct

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG before which there is no size, and behind which there are height and width
(ITU-T T.81, table B.1).
"""


def dimensions(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG or a JPEG; None of what is neither."""
    if content.startswith(_PNG) and content[12:16] == b'IHDR' and len(content) >= 24:
        width, height = struct.unpack_from('>II', content, 16)
        return width, height
    return _of_jpeg(content) if content.startswith(_JPEG) else None


def _of_jpeg(content: bytes) -> tuple[int, int] | None:
    position = len(_JPEG)
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from('>HH', content, position + 5)
            return width, height
        if marker == 0xFF:  # fills up
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int(struct.unpack_from('>H', content, position + 2)[0])
    return None
