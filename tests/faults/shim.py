"""Builds ``shim.c``, which makes the file system of a process fail, or seem another one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def build(folder: Path, failure: str) -> str:
    """Return the value of LD_PRELOAD that has the shim in a process, or skip the test.

    :param failure: what cannot be injected where there is no compiler, for the table.
    """
    compiler = shutil.which('cc') or shutil.which('gcc')
    if not sys.platform.startswith('linux') or compiler is None:
        pytest.skip(f'{failure}: cannot be injected without Linux and a C compiler')
    library = folder / 'shim.so'
    source = Path(__file__).with_name('shim.c')
    subprocess.run([compiler, '-shared', '-fPIC', '-o', library, source, '-ldl'], check=True)
    return f'{library} {os.environ.get("LD_PRELOAD", "")}'.strip()


def synced(log: Path) -> Callable[[str], int]:
    """Return a function that counts how often the file of a name was synced."""

    def count(name: str) -> int:
        if not log.exists():
            return 0
        return [Path(line).name for line in log.read_text().splitlines()].count(name)

    return count
