"""One set of tests for the synchronous face and for the awaited one, on asyncio and trio."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer

import neptune_async
from neptune_async import AsyncExperiment, Experiment, aio, delete_experiment, list_experiments


class Face:
    """How tests open experiments and wait, whatever the face is."""

    def __init__(self, is_async: bool, storage: str) -> None:
        self.is_async = is_async
        self.storage = storage

    @asynccontextmanager
    async def open(self, name: str | None = 'NPT-1', **arguments: Any) -> AsyncIterator[Any]:
        arguments = {'storage': self.storage, 'echo': False, **arguments}
        if self.is_async:
            async with AsyncExperiment(name, **arguments) as exp:
                yield exp
        else:
            with Experiment(name, **arguments) as exp:
                yield exp

    async def get(self, call: Callable[..., Any], *args: Any, **arguments: Any) -> Any:
        """Call a method, and await what it returns if that is to be awaited."""
        result = call(*args, **arguments)
        return await result if inspect.isawaitable(result) else result

    async def close(self, exp: Any, **arguments: Any) -> None:
        await self.get(exp.aclose if self.is_async else exp.close, **arguments)

    async def list(self) -> list[str]:
        listed = aio.list_experiments if self.is_async else list_experiments
        names: list[str] = await self.get(listed, self.storage)
        return names

    async def delete(self, name: str) -> None:
        delete = aio.delete_experiment if self.is_async else delete_experiment
        await self.get(delete, name, self.storage)

    async def compare(self, *args: Any, **arguments: Any) -> Any:
        module = aio if self.is_async else neptune_async
        return await self.get(module.compare, *args, storage=self.storage, **arguments)

    async def fetch_metrics(self, *args: Any, **arguments: Any) -> Any:
        module = aio if self.is_async else neptune_async
        return await self.get(module.fetch_metrics, *args, storage=self.storage, **arguments)


FACES = {
    'sync': (False, 'asyncio'),
    'async-asyncio': (True, 'asyncio'),
    'async-trio': (True, 'trio'),
}
STORES = ('sqlite', 'postgres')
"""The kinds of stores, for tests to be run on each."""


@pytest.fixture(params=FACES)
def face_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(face_name: str) -> str:
    return FACES[face_name][1]


@pytest.fixture(params=STORES)
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What names a new store."""
    if request.param == 'sqlite':
        return str(tmp_path / 'experiments.db')
    monkeypatch.chdir(tmp_path)  # where what it cannot store is spilled
    server: PostgresServer = request.getfixturevalue('postgres')
    return server.url()


@pytest.fixture
def face(face_name: str, storage: str) -> Face:
    return Face(FACES[face_name][0], storage)
