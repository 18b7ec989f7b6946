"""Fuzzing of what reads bytes from a disk: the decoder of chunks, and that of spill files.

``nox -s fuzz -- -max_total_time=60`` runs it under atheris, which looks for inputs
that take branches not taken before. Whatever the bytes are, what reads them
returns points and batches, or raises the one error that it may.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKED = ['f8+zlib', 'ulp', 'json+zlib']
FORMS = ['f8', 'json', *PACKED, 'f9', '']
WORDS = [
    'int', 'datetime', 'fold', '0x1f', '2020-07-06T14:37:58+00:00', '', 'a/b', 'EXP', 'AAAA',
    'CreateVariable', 'Delete', 'Assign', 'AddMembers', 'RemoveMembers', 'ResetMembers',
    'series', 'atom', 'set', 'float', 'str',
]  # fmt: skip
SPILL_FILE = Path(tempfile.gettempdir(), 'neptune_async-fuzz.spill')


def main() -> None:
    """Fuzz until the options that libFuzzer is given say to stop."""
    import atheris

    with atheris.instrument_imports(include=['neptune_async']):
        import neptune_async._engine.durability.spill_files
        import neptune_async._storage.chunks  # noqa: F401 - the targets import them again

    targets = [decode_chunk, decode_chunk, decode_spill]

    def one_input(raw: bytes) -> None:
        provider = atheris.FuzzedDataProvider(raw)
        targets[provider.ConsumeIntInRange(0, len(targets) - 1)](provider)

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


def decode_chunk(provider: Any) -> None:
    """A chunk unpacks to as many points as it says, which pack again; or to a ValueError."""
    from neptune_async._storage.chunks import CHUNK_POINTS, Chunk, packed, unpacked
    from neptune_async._storage.points import SeriesEnd, expanded

    count = provider.ConsumeIntInRange(0, 8)
    if provider.ConsumeProbability() < 0.1:
        count = provider.ConsumeIntInRange(0, CHUNK_POINTS + 1)
    first, stride = provider.ConsumeFloat(), None
    if provider.ConsumeBool():
        first, stride = float(int(first)) if abs(first) < 2**62 else first, 1.0
    chunk = Chunk(
        0, count, first, stride, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        *_column(provider, count), *_column(provider, count), *_column(provider, count), b'',
    )  # fmt: skip
    try:
        points = unpacked(chunk)
    except ValueError:
        return
    assert len(points) == len(points.times) == len(expanded(points.steps)) == count
    packed(points, SeriesEnd())


def _column(provider: Any, count: int) -> tuple[Any, bytes]:
    """Return a form, and a column that may well be of that form and so long."""
    form = provider.PickValueInList(FORMS)
    if 'json' in form:
        raw = json.dumps([_json(provider, 2) for _ in range(min(count, 8))]).encode()
    else:
        raw = provider.ConsumeBytes(8 * count).ljust(8 * count, b'\0')
    if provider.ConsumeProbability() < 0.1:
        raw = provider.ConsumeBytes(64)
    return form, zlib.compress(raw, 1) if form in PACKED else raw


def decode_spill(provider: Any) -> None:
    """A spill file is read, or is a StorageFormatError, also where its checksums are right."""
    from neptune_async._engine.durability.spill_files import read_spill
    from neptune_async.exceptions import StorageFormatError

    raw = json.dumps([[b'w'.hex(), 1, [[1, 'EXP', 1, _json(provider, 3), '', _json(provider, 2)]]]])
    if provider.ConsumeProbability() < 0.5:
        raw = json.dumps(_json(provider, 5))
    payload = raw.encode()
    record = struct.pack('<II', len(payload), zlib.crc32(payload)) + payload
    if provider.ConsumeProbability() < 0.1:
        record = provider.ConsumeBytes(64)
    SPILL_FILE.write_bytes(b'neptune_async spill 1\n' + record)
    with suppress(StorageFormatError):
        [*read_spill(SPILL_FILE)]


def _json(provider: Any, depth: int) -> Any:
    """Return what JSON may hold, with the words that mean something to the decoders."""
    kind = provider.ConsumeIntInRange(0, 7 if depth else 4)
    if kind == 0:
        return provider.PickValueInList(WORDS)
    if kind == 1:
        return provider.ConsumeInt(4)
    if kind == 2:
        return provider.ConsumeFloat()
    if kind == 3:
        return provider.ConsumeUnicode(8)
    if kind == 4:
        return provider.PickValueInList([None, True, False])
    if kind == 5:
        return {provider.PickValueInList(WORDS): _json(provider, depth - 1)}
    return [_json(provider, depth - 1) for _ in range(provider.ConsumeIntInRange(0, 6))]


if __name__ == '__main__':
    main()
