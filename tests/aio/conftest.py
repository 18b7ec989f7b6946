"""The loops that the awaited face has to work on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest


@pytest.fixture(
    params=[
        pytest.param(('asyncio', {}), id='asyncio'),
        pytest.param(('asyncio', {'use_uvloop': True}), id='uvloop'),
        pytest.param(('trio', {}), id='trio'),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    backend: tuple[str, dict[str, object]] = request.param
    return backend


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / 'experiments.db'


@pytest.fixture
def held(store: Path) -> Callable[[], AbstractContextManager[None]]:
    """Hold the store's write lock, as another process might."""

    @contextmanager
    def hold() -> Iterator[None]:
        connection = sqlite3.connect(store, isolation_level=None)
        try:
            connection.execute('BEGIN IMMEDIATE')
            yield
            connection.execute('ROLLBACK')
        finally:
            connection.close()

    return hold
