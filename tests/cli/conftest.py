"""Runs the real command, on a store with a little of everything in it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from neptune_async import Experiment

COMMAND = [sys.executable, '-m', 'neptune_async']


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code in (0, 1), self.err
        return json.loads(self.out, parse_constant=_refuse)

    @property
    def lines(self) -> list[Any]:
        assert self.code == 0, self.err
        return [json.loads(line, parse_constant=_refuse) for line in self.out.splitlines()]


def _refuse(constant: str) -> None:
    raise AssertionError(f'{constant} is no JSON')


class CommandLine:
    """Runs commands in a folder, without a terminal, 80 columns wide."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: object, stdin: str = '', **env: str) -> Ended:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.environment(env),
            encoding='utf-8',
            errors='surrogateescape',
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def environment(self, env: dict[str, str]) -> dict[str, str]:
        return {**os.environ, 'COLUMNS': '80', 'PYTHONUTF8': '1', **env}

    def start(self, *arguments: object, **env: str) -> subprocess.Popen[str]:
        # Coverage does not measure it, since a Ctrl-C may leave its lock held.
        measured = ('COVERAGE_PROCESS_CONFIG', 'COVERAGE_PROCESS_START')
        environment = self.environment(env)
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env={name: value for name, value in environment.items() if name not in measured},
            text=True,
        )


@pytest.fixture
def run(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


STORE = '.neptune_async/experiments.db'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the default store of the folder that commands run in."""
    path = tmp_path / STORE
    with Experiment('digits-1', storage=path, echo=False) as exp:
        exp['params'].assign({'lr': 0.1, 'seeds': [1, None], 'optimizer': {'name': 'adam'}})
        exp['made'].assign(datetime(2026, 11, 24, tzinfo=timezone.utc))
        exp['tags'].add('cnn', 'baseline')
        for step, loss in enumerate([0.5, float('nan'), float('inf'), 0.25]):
            exp['train/loss'].log(loss, step=step / 2, timestamp=1_700_000_000.5 + step)
        exp['events'].log('begun', timestamp=1_700_000_000.0)
    with Experiment('digits-2', storage=path, echo=False) as exp:
        exp['params/lr'].assign(0.2)
    return path


def lose(run: CommandLine, name: str) -> None:
    """Let a process die that has an experiment open in the default store."""
    # It is held: one that is let go of closes by itself, and may be faster than the exit.
    code = (
        f'import os; from neptune_async import Experiment; held = Experiment({name!r}); os._exit(0)'
    )
    subprocess.run([sys.executable, '-c', code], cwd=run.folder, check=True, capture_output=True)


def digests(folder: Path, names: Sequence[str] = ('.db', '.db-wal')) -> dict[str, str]:
    """Return what tells whether the files of a store were changed: an empty -wal is none."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name.endswith(tuple(names)) and path.stat().st_size
    }
