"""Files on their way to storage: first their content is kept, then what refers to it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import anyio.lowlevel

from neptune_async._engine.storing.retries import attempt
from neptune_async._model.operations import Assign, Batch, Operation, Part, TextPoint
from neptune_async._model.pending_files import PIECE, PendingFile
from neptune_async._model.values import decode, encode
from neptune_async._storage.base import Storage
from neptune_async.exceptions import Rejection, UnsupportedValueError
from neptune_async.files import FileReference

SMALL = 2**16
"""Bytes up to which a file goes into the transaction of what refers to it: of 64 KiB that takes a
third of the time, of 256 KiB twice as much (``python -m tests.benchmarks --workloads W17``).
"""


async def keep_files(storage: Storage, batch: Batch, *, synced: bool = False) -> None:
    """Keep the files that a batch brings, and let it refer to them. One that cannot be read or
    encoded is rejected.

    :param synced: whether each has to be on the disk before what refers to it is stored.
    :raises StorageError: storage fails. What was kept before stays.
    """
    for part in batch.parts:
        pending = pending_in(part)
        if not pending:
            continue
        found: dict[PendingFile, FileReference | str] = {}
        for file in pending:
            found[file] = await _kept(storage, part, file, synced)
        part.pending = part.pending + pending
        _refer(part, found)


async def keep_again(storage: Storage, batch: Batch, missing: Collection[str]) -> None:
    """Keep files that storage has let go of meanwhile. If they are gone here, too, reject what
    refers to them.

    :param missing: the SHA-256 of each, in hexadecimal digits.
    :raises StorageError: storage fails.
    """
    gone = {*missing}
    for file in [file for part in batch.parts for file in part.pending]:
        reference = file.reference
        if reference is not None and reference.sha256 in gone:
            source = file.source
            if isinstance(source, bytes) or source.exists():
                await attempt(storage.keep_file, reference.sha256, reference.size, source)
                gone.discard(reference.sha256)
    for part in batch.parts:
        _reject_references(part, gone & part.files.keys())


def discard_files(part: Part) -> int:
    """Remove the copies of files that are kept now, or never will be.

    :returns: how many bytes they had in memory.
    """
    files = [*part.pending, *pending_in(part)]
    for file in files:
        file.discard()
    part.pending = []
    return sum(file.memory for file in files)


def pending_in(part: Part) -> list[PendingFile]:
    """Return the files that a part brings."""
    assigned = [op.value for op in part.operations if isinstance(op, Assign)]
    logged = [text[3] for text in part.texts]
    return [value for value in (*assigned, *logged) if isinstance(value, PendingFile)]


def kept_outside(part: Part) -> list[PendingFile]:
    """Return the files of a part whose content storage was given before the part, and may let go of
    again until it is stored.
    """
    return [
        file
        for file in part.pending
        if file.reference is not None and part.files.get(file.reference.sha256, b'') is None
    ]


async def _kept(
    storage: Storage, part: Part, file: PendingFile, synced: bool
) -> FileReference | str:
    """Keep a file, or add it to the part. Return what refers to it, or why there is nothing."""
    try:
        source = file.source
        reference = await _reference(file, source)
    except (OSError, UnsupportedValueError) as error:
        return str(error)
    file.reference = reference
    if isinstance(source, bytes) and reference.size <= SMALL:
        part.files[reference.sha256] = source
    elif reference.sha256 not in part.files:
        await storage.keep_file(reference.sha256, reference.size, source, synced=synced)
        part.files[reference.sha256] = None
    return reference


async def _reference(file: PendingFile, source: bytes | Path) -> FileReference:
    if isinstance(source, bytes):
        digest, size = hashlib.sha256(source), len(source)
    else:
        digest, size = hashlib.sha256(), 0
        with source.open('rb') as content:
            while piece := content.read(PIECE):
                digest.update(piece)
                size += len(piece)
                await anyio.lowlevel.checkpoint()  # others read meanwhile
    return FileReference(file.name, file.media_type, size, digest.hexdigest())


def _refer(part: Part, found: Mapping[PendingFile, FileReference | str]) -> None:
    """Replace files by what refers to them, and reject what there is nothing for."""
    operations: list[Operation] = []
    for operation in part.operations:
        if isinstance(operation, Assign) and isinstance(operation.value, PendingFile):
            reference = found[operation.value]
            if isinstance(reference, str):
                _reject(part, operation.value.path, 'Assign', reference)
                continue
            operation = replace(operation, value=encode(reference))
        operations.append(operation)
    texts: list[TextPoint] = []
    for key, step, time, value in part.texts:
        if isinstance(value, PendingFile):
            reference = found[value]
            if isinstance(reference, str):
                _reject(part, value.path, 'log', reference)
                continue
            value = reference
        texts.append((key, step, time, value))
    part.operations, part.texts = operations, texts


def _reject_references(part: Part, gone: set[str]) -> None:
    """Reject what refers to files that are gone."""

    def is_gone(value: object) -> bool:
        return isinstance(value, FileReference) and value.sha256 in gone

    for sha256 in gone:
        del part.files[sha256]
    lost = [
        op
        for op in part.operations
        if isinstance(op, Assign) and op.content == 'file' and is_gone(decode(op.stored))
    ]
    texts = [text for text in part.texts if is_gone(text[3])]
    if lost or texts:
        why = 'the content of the file is gone'
        part.operations = [op for op in part.operations if op not in lost]
        part.texts = [text for text in part.texts if not is_gone(text[3])]
        part.rejections.append(Rejection(part.name, '*', 'file', why, len(lost) + len(texts)))


def _reject(part: Part, path: str, operation: str, why: str) -> None:
    part.rejections.append(Rejection(part.name, path, operation, why, 1))
