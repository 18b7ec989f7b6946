from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer

import neptune_async.compat.neptune as neptune


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are kept by default."""
    path = tmp_path / 'experiments.db'
    monkeypatch.setenv('NEPTUNE_ASYNC_STORAGE', str(path))
    for variable in ('MODE', 'PROJECT', 'CUSTOM_RUN_ID', 'MONITORING_NAMESPACE'):
        monkeypatch.delenv(f'NEPTUNE_{variable}', raising=False)
    return path


@pytest.fixture(params=['sqlite', 'postgres'])
def any_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs kept in a store of each kind in turn."""
    if request.param == 'postgres':
        server: PostgresServer = request.getfixturevalue('postgres')
        monkeypatch.setenv('NEPTUNE_ASYNC_STORAGE', server.url())


@pytest.fixture
def run() -> Iterator[Any]:
    """A run that is kept nowhere."""
    with neptune.init_run(mode='debug') as run:
        yield run
