"""Signs of life: what the store gets of them, and that nothing suffers where it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from neptune_async._engine.durability.recovery import Recovery
from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.queueing.queue import Queue
from neptune_async._engine.queueing.variable_ids import VariableIds
from neptune_async._engine.sessions.processes import this_process
from neptune_async._engine.storing.retries import Patience
from neptune_async._engine.worker import heartbeats
from neptune_async._engine.worker.connection import Connection
from neptune_async._engine.worker.heartbeats import Heartbeats
from neptune_async._storage.sessions import Process, Session
from neptune_async._storage.sqlite.storage import SQLiteStorage
from neptune_async.exceptions import StorageBusyError, StorageError

THERE = Process('node-2', 'machine-2', 42, '2000')
DEAD = replace(this_process(), machine=this_process().machine or 'here', pid=2**31)


class Failing(SQLiteStorage):
    """A store that takes no session as often as it has faults."""

    faults: list[Exception]
    is_silent = False

    async def keep_sessions(self, sessions: Collection[Session]) -> None:
        if self.is_silent:
            await anyio.sleep_forever()
        if self.faults:
            raise self.faults.pop()
        await super().keep_sessions(sessions)

    async def end_sessions(self, sessions: Collection[Session]) -> None:
        if self.faults:
            raise self.faults.pop()
        await super().end_sessions(sessions)


class Consumer:
    def wake(self, hurry: bool) -> None: ...


class Open:
    """The experiments that a process has open in a store."""

    def __init__(self, storage: Failing, connection: Connection) -> None:
        self.storage, self.connection = storage, connection
        self.states: list[ExperimentState] = []
        self.heartbeats = Heartbeats(storage, connection, lambda: self.states)

    async def open(self, name: str, *, writes: bool = True) -> ExperimentState:
        record = await self.connection.make_experiment(name)
        state = ExperimentState(record, Queue(name, 10, Consumer()), VariableIds(), 0.2)
        state.users, state.writers = 1, int(writes)
        self.states.append(state)
        return state

    async def sessions(self, *states: ExperimentState) -> list[Session]:
        found = await self.storage.find_sessions([s.id for s in states or self.states])
        return [some.session for some in found]

    async def seen(self, state: ExperimentState) -> float:
        (found,) = await self.storage.find_sessions([state.id])
        return found.seen


@pytest_asyncio.fixture
async def process(tmp_path: Path) -> AsyncIterator[Open]:
    storage = Failing(str(tmp_path / 'experiments.db'))
    storage.faults = []
    connection = Connection(storage, Recovery(storage, lambda _: False, lambda: False))
    connection.begin()
    yield Open(storage, connection)
    await connection.close()


@pytest.mark.asyncio
async def test_a_heartbeat_is_of_all_experiments_that_are_written_to(process: Open) -> None:
    a, b, c = [await process.open(name, writes=name != 'c') for name in 'abc']
    assert await process.heartbeats.beat_if_due(0.0)
    sessions = await process.sessions()
    assert {session.experiment_id for session in sessions} == {a.id, b.id}
    assert len({session.id for session in sessions}) == 2
    before = await process.seen(a)
    assert await process.heartbeats.beat_if_due(0.0)
    assert await process.sessions() == sessions and await process.seen(a) > before
    assert not await process.sessions(c)


@pytest.mark.asyncio
async def test_a_heartbeat_that_is_not_due_is_not_given(process: Open) -> None:
    state = await process.open('a')
    await process.heartbeats.begin(state)
    before = await process.seen(state)
    assert not await process.heartbeats.beat_if_due(1e9)
    assert await process.seen(state) == before


@pytest.mark.asyncio
@pytest.mark.parametrize('fault', [StorageBusyError('held'), StorageError('full'), ValueError('?')])
async def test_a_store_that_takes_no_session_gets_it_later(
    process: Open, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    state = await process.open('a')
    process.storage.faults = [fault]
    await process.heartbeats.begin(state)
    assert await process.sessions() == []
    await process.heartbeats.beat_if_due(0.0)
    assert len(await process.sessions()) == 1
    assert caplog.records == []


@pytest.mark.asyncio
async def test_a_store_that_does_not_answer_keeps_nothing_waiting(
    process: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, '_LONGEST', 0.01)
    state = await process.open('a')
    process.storage.is_silent = True
    await process.heartbeats.begin(state)
    assert await process.sessions() == []
    process.storage.is_silent = False
    await process.heartbeats.beat_if_due(0.0)
    assert len(await process.sessions()) == 1


@pytest.mark.asyncio
async def test_the_end_forgets_what_is_dead_of_the_experiment_and_nothing_else(
    process: Open,
) -> None:
    a, b = await process.open('a'), await process.open('b')
    await process.heartbeats.begin(a)
    living = Session(b'1' * 16, a.id, THERE)
    other = Session(b'2' * 16, b.id, DEAD)
    await process.storage.keep_sessions([living, Session(b'3' * 16, a.id, DEAD), other])
    a.writers = 0
    assert await process.heartbeats.end_once([a])
    assert await process.sessions() == [living, other]


@pytest.mark.asyncio
async def test_an_end_that_the_store_does_not_take_is_tried_again_for_a_while(
    process: Open,
) -> None:
    state = await process.open('a')
    await process.heartbeats.begin(state)
    state.writers = 0
    process.storage.faults = [StorageBusyError('held')] * 3
    await process.heartbeats.end([state], Patience(1e9))
    assert process.storage.faults == await process.sessions() == []


@pytest.mark.asyncio
async def test_an_end_without_patience_is_made_up_for_by_the_next_heartbeat(
    process: Open,
) -> None:
    state = await process.open('a')
    await process.heartbeats.begin(state)
    state.writers = 0
    process.storage.faults = [StorageBusyError('held')]
    await process.heartbeats.end([state], Patience(-1.0))
    assert len(await process.sessions()) == 1
    assert await process.heartbeats.beat_if_due(0.0)
    assert await process.sessions() == []


@pytest.mark.asyncio
async def test_after_the_end_of_all_there_is_no_heartbeat(process: Open) -> None:
    state = await process.open('a')
    await process.heartbeats.begin(state)
    await process.heartbeats.end_all(Patience(0.0))
    assert not await process.heartbeats.beat_if_due(0.0)
    assert await process.sessions() == []


@pytest.mark.asyncio
async def test_a_store_that_is_only_read_gets_nothing(process: Open) -> None:
    state = await process.open('a')
    await process.connection.close()
    await process.connection.open(writable=False)
    await process.heartbeats.begin(state)
    assert await process.heartbeats.end_once([state])
    assert await process.sessions() == []
