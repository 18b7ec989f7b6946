"""Who has an experiment open for writing, as every kind of store keeps it."""

from __future__ import annotations

import pytest

from neptune_async._storage.base import Storage
from neptune_async._storage.sessions import Process, Session

HERE = Process('node-1', 'machine-1', 41, '1000')
THERE = Process('node-2', 'machine-2', 42, '2000')


async def made(store: Storage, name: str) -> int:
    record = await store.create_experiment(name)
    assert record is not None
    return record.id


async def sessions(store: Storage, *experiment_ids: int) -> list[Session]:
    return [found.session for found in await store.find_sessions(experiment_ids)]


@pytest.mark.asyncio
async def test_sessions_come_back_as_they_were_kept_in_the_order_of_their_beginning(
    store: Storage,
) -> None:
    a, b, c = [await made(store, name) for name in 'abc']
    first = Session(b'2' * 16, a, HERE)
    second, third = Session(b'1' * 16, a, THERE), Session(b'3' * 16, b, HERE)
    await store.keep_sessions([first])
    await store.keep_sessions([second, third])
    assert await sessions(store, a) == [first, second]
    assert {*await sessions(store, a, b, c)} == {first, second, third}
    assert await sessions(store, c) == await sessions(store) == []


@pytest.mark.asyncio
async def test_a_sign_of_life_moves_the_last_one_and_not_the_first(store: Storage) -> None:
    session = Session(b'1' * 16, await made(store, 'a'), HERE)
    await store.keep_sessions([session])
    (first,) = await store.find_sessions([session.experiment_id])
    assert first.began == first.seen and first.silent < 60
    await store.keep_sessions([session])
    (second,) = await store.find_sessions([session.experiment_id])
    assert second.began == first.began
    assert second.seen > first.seen


@pytest.mark.asyncio
async def test_a_session_that_is_ended_is_gone_and_no_other(store: Storage) -> None:
    experiment = await made(store, 'a')
    one, other = Session(b'1' * 16, experiment, HERE), Session(b'2' * 16, experiment, THERE)
    await store.keep_sessions([one, other])
    await store.end_sessions([one])
    await store.end_sessions([one, Session(other.id, experiment + 1, THERE)])
    assert await sessions(store, experiment) == [other]


@pytest.mark.asyncio
async def test_a_deleted_experiment_leaves_no_session_and_gets_none(store: Storage) -> None:
    session = Session(b'1' * 16, await made(store, 'a'), HERE)
    await store.keep_sessions([session])
    await store.delete_experiment('a')
    assert await sessions(store, session.experiment_id) == []
    await store.keep_sessions([session])
    assert await sessions(store, session.experiment_id) == []


@pytest.mark.asyncio
async def test_a_fork_has_no_session_of_its_original(store: Storage) -> None:
    session = Session(b'1' * 16, await made(store, 'a'), HERE)
    await store.keep_sessions([session])
    fork = await store.fork_experiment(session.experiment_id, 'b', None, lambda: 7, b'm' * 16)
    assert fork is not None and await sessions(store, fork.id) == []
