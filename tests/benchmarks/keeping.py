"""The workloads that keep files and images: W16 and W17.

``python -m tests.benchmarks --workloads W17`` measures whether a file is kept faster in the table
or in the folder beside the store, which is what ``SMALL`` of ``storing/uploads.py`` and ``INSIDE``
of ``sqlite/files.py`` decide. On a busy machine with two cores and ext4, microseconds a file until
it is durable, and to read it:

========= ============= =============
size      in the table  beside it
========= ============= =============
4 KiB     126, 318      2,176, 1,035
16 KiB    321, 609      3,056, 874
64 KiB    516, 1,131    1,547, 1,462
256 KiB   2,150, 1,789  1,077, 760
1 MiB     7,084, 5,120  5,330, 3,052
========= ============= =============

So files of up to 64 KiB are in the table.
"""

from __future__ import annotations

import os
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from .measuring import (
    Measured,
    clock,
    median,
    peak_memory,
    seconds_of,
    turns_of_a_millisecond,
    until_durable,
    work,
)
from .systems import System

_IMAGES = 1_000
_LARGE = 2**30
_SAME = 2**20
"""Bytes of the large file, and of the file that is logged again and again."""
_SHAPES = {'image': (64, 64, 3), 'megabyte': (512, 683, 3)}


def _pixels(*shape: int) -> Any:
    """Return images that do not compress."""
    return import_module('numpy').random.default_rng(0).integers(0, 256, shape, 'uint8')


# ── W16 ──────────────────────────────────────────────────────────────────────


def images(system: System, folder: Path, share: float) -> Measured:
    """Log images until they are durable."""
    every = _pixels(max(5, int(_IMAGES * share)), 64, 64, 3)
    run = system.open(folder)
    system.log_image(run, 'first', every[0], 0)
    start = clock()
    for step, image in enumerate(every):
        system.log_image(run, 'images', image, step)
    until_durable(system, run)
    seconds = clock() - start
    system.close(run)
    return {'images_rate': len(every) / seconds}


def image_calls(system: System, folder: Path, share: float) -> Measured:
    """Log an image, in turns with copying its pixels."""
    if system.kind != 'ourselves':
        return {}
    run = system.open(folder)
    measured: Measured = {}
    for name, shape in _SHAPES.items():
        image = _pixels(*shape)
        calls, copies = [], []
        for step in range(max(5, int(100 * share))):
            calls.append(seconds_of(system.log_image, run, name, image, step))
            copies.append(seconds_of(image.copy))
        measured[f'{name}_call'] = median(calls)
        measured[f'{name}_copies'] = median(calls) / median(copies)
    system.close(run)
    return measured


def large_file(system: System, folder: Path, share: float) -> Measured:
    """Keep a large file until it is durable, beside a ``cp`` of it."""
    if system.kind != 'ourselves':
        return {}
    from neptune_async import File

    source = folder / 'large.bin'
    piece = os.urandom(2**20)
    with source.open('wb') as file:
        for _ in range(max(1, int(_LARGE * share) // len(piece))):
            file.write(piece)
    run = system.open(folder)
    run['small'].assign(File(b'small'))
    until_durable(system, run)
    before = _copied(source)
    memory = peak_memory()
    start = clock()
    run['large'].assign(File(source))
    called = clock() - start
    until_durable(system, run)
    seconds = clock() - start
    memory = peak_memory() - memory
    copy = median([before, _copied(source)])
    system.close(run)
    return {
        'large': seconds, 'large_call': called, 'large_copies': seconds / copy,
        'large_memory': memory,
    }  # fmt: skip


def _copied(source: Path) -> float:
    """Return the seconds of a ``cp``, its start included."""
    copy = source.with_suffix('.copy')
    seconds = seconds_of(lambda: subprocess.run(['cp', source, copy], check=True))
    copy.unlink()
    return seconds


def same_file(system: System, folder: Path, share: float) -> Measured:
    """Log the same file again and again."""
    if system.kind != 'ourselves':
        return {}
    from neptune_async import File

    source = folder / 'same.bin'
    source.write_bytes(os.urandom(_SAME))
    count = max(5, int(1_000 * share))
    run = system.open(folder)
    run['same'].log(File(source))
    until_durable(system, run)
    start = clock()
    for _ in range(count):
        run['same'].log(File(source))
    until_durable(system, run)
    seconds = clock() - start
    system.close(run)
    kept = [path for path in folder.glob('*.files/*/*') if path.is_file()]
    assert len(kept) == 1
    return {'same': seconds / count}


def training_with_images(system: System, folder: Path, share: float) -> Measured:
    """A training of 1 ms a step with an image every 100 steps, in turns with one without images."""
    if system.kind != 'ourselves':
        return {}
    turns = turns_of_a_millisecond()
    image = _pixels(64, 64, 3)
    run = system.open(folder)

    def stretch(*, logs: bool) -> float:
        start = clock()
        for step in range(200):
            work(turns)
            if logs and step % 100 == 0:
                system.log_image(run, 'images', image, step)
        return clock() - start

    stretch(logs=True)
    pairs = max(2, int(20 * share))
    ratios = [stretch(logs=True) / stretch(logs=False) for _ in range(pairs)]
    system.close(run)
    return {'train': median(ratios) - 1}


# ── W17 ──────────────────────────────────────────────────────────────────────

SIZES = [2**12, 2**14, 2**16, 2**18, 2**20]
_FILES = 100


def places(system: System, folder: Path, share: float) -> Measured:
    """Keep files of several sizes, and read them, with all in the table, and with all beside."""
    from neptune_async._engine.storing import uploads
    from neptune_async._storage.sqlite import files

    measured: Measured = {}
    for size in SIZES:
        for place, most in (('inside', 2 * size), ('beside', 0)):
            own = folder / f'{place}_{size}'
            own.mkdir()
            with (
                mock.patch.object(uploads, 'SMALL', most),
                mock.patch.object(files, 'INSIDE', most),
            ):
                kept, read = _kept_and_read(system, own, size, max(5, int(_FILES * share)))
            measured[f'{place}_{size}'] = kept
            measured[f'{place}_{size}_read'] = read
    return measured


def _kept_and_read(system: System, folder: Path, size: int, count: int) -> tuple[float, float]:
    """Return the seconds a file until it is durable, and those to read it."""
    from neptune_async import File

    contents = [os.urandom(size) for _ in range(count)]
    run = system.open(folder)
    run['first'].assign(File(b'first'))
    until_durable(system, run)
    start = clock()
    for content in contents:
        run['files'].log(File(content))
    until_durable(system, run)
    kept = clock() - start
    found = run['files'].all()
    start = clock()
    assert [file.bytes() for file in found] == contents
    read = clock() - start
    system.close(run)
    return kept / count, read / count
