"""What holds for every kind of store is written once, and runs on each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from postgres_server import PostgresServer

from neptune_async._storage import registry
from neptune_async._storage.base import Storage


@pytest.fixture(params=['sqlite', 'postgres'])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a new store."""
    if request.param == 'sqlite':
        return registry.resolve(tmp_path / 'experiments.db')
    monkeypatch.chdir(tmp_path)  # where what it cannot store is spilled
    server: PostgresServer = request.getfixturevalue('postgres')
    return server.url()


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Storage]:
    """A new store, open."""
    storage = registry.create(url)
    await storage.open(writable=True)
    yield storage
    await storage.close()
