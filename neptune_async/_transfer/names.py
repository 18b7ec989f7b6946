"""Names of experiments and projects as names of files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

from neptune_async._model.showing import harmless

LONGEST = 255
"""Bytes that the name of a file may have on all file systems in use."""
_LONGEST_DIGESTED = 200
"""The same before a digest and what comes behind it."""


def digest_name(text: str) -> str:
    """Return a name as neptune-exporter has it in its files: with a digest behind it."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    plain = ''.join(c if c.isalnum() or c in '_-' else '_' for c in text)
    return f'{plain.encode()[:_LONGEST_DIGESTED].decode(errors="ignore")}-{digest}'


def folder_below(folder: Path, name: str) -> Path:
    """Return the folder for a name, whose slashes make folders; never one elsewhere."""
    parts = name.split('/')
    if any(part in ('', '.', '..') or len(part.encode()) > LONGEST for part in parts) or (
        harmless(name) != name
    ):
        parts = [digest_name(name)]
    return folder.joinpath(*parts)
