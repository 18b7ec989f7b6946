"""The storage protocol, which every kind of store keeps."""

from __future__ import annotations

import itertools

import pytest

from neptune_async._model.operations import Batch, CreateVariable, Variable
from neptune_async._storage import registry
from neptune_async._storage.base import (
    ExperimentRecord,
    StaleEpoch,
    Storage,
    VariableConflict,
    Window,
)

from .batches import LOSS, part, values


@pytest.mark.asyncio
async def test_a_batch_that_is_sent_twice_is_stored_once(store: Storage) -> None:
    experiment = await store.create_experiment('a')
    batch = Batch(b'w' * 16, 1, [part(experiment, [1.0, 2.0], creates=True)])
    await store.write(batch)
    await store.write(batch)
    assert await values(store, experiment) == [1.0, 2.0]
    await store.write(Batch(b'w' * 16, 2, [part(experiment, [3.0])]))
    assert await values(store, experiment) == [1.0, 2.0, 3.0]


@pytest.mark.asyncio
async def test_the_last_batch_of_a_writer_is_known(store: Storage) -> None:
    experiment = await store.create_experiment('a')
    assert await store.last_batch(b'w' * 16) == 0
    for number in (1, 2):
        await store.write(Batch(b'w' * 16, number, [part(experiment, [1.0], creates=number == 1)]))
    assert await store.last_batch(b'w' * 16) == 2
    assert await store.last_batch(b'v' * 16) == 0


@pytest.mark.asyncio
async def test_a_conflict_or_an_old_epoch_stores_nothing(store: Storage) -> None:
    experiment = await store.create_experiment('a')
    await store.write(Batch(b'w' * 16, 1, [part(experiment, [1.0], creates=True)]))
    clash = part(experiment, [2.0])
    clash.operations = [CreateVariable(Variable(2, 'loss', 'atom', 'int'))]
    with pytest.raises(VariableConflict) as conflict:
        await store.write(Batch(b'v' * 16, 1, [clash]))
    assert conflict.value.found == {(experiment.id, 2): LOSS}
    stale = part(experiment, [2.0])
    stale.epoch = 7
    with pytest.raises(StaleEpoch):
        await store.write(Batch(b'v' * 16, 1, [stale]))
    assert await values(store, experiment) == [1.0]
    assert await store.write(Batch(b'v' * 16, 1, [part(experiment, [2.0])]))
    assert await values(store, experiment) == [1.0, 2.0]


@pytest.mark.asyncio
async def test_a_tail_reads_the_last_chunks_only(store: Storage) -> None:
    experiment = await store.create_experiment('a')
    many = [float(value) for value in range(50_000)]
    await store.write(Batch(b'w' * 16, 1, [part(experiment, many, creates=True)]))
    while await store.compact('everything'):
        pass
    await store.write(Batch(b'w' * 16, 2, [part(experiment, [-1.0])]))
    reading = await store.read_series(experiment.id, 'loss', Window(last=10), True, True)
    assert reading is not None
    assert reading.end == 50_001
    assert 10 <= sum(map(len, reading.pieces)) < 10_000


@pytest.mark.asyncio
async def test_an_experiment_from_elsewhere_keeps_the_time_at_which_it_was_made(
    store: Storage,
) -> None:
    await store.create_experiment('old', 1_600_000_000.25)
    assert await store.create_experiment('old', 1.0) is None
    (found,) = await store.find_experiments(['old'])
    assert found.created == 1_600_000_000.25


@pytest.mark.asyncio
async def test_an_experiment_is_renamed_unless_another_one_has_the_name(store: Storage) -> None:
    a = await store.create_experiment('a', 1_600_000_000.0)
    b = await store.create_experiment('b')
    assert a is not None and b is not None
    await store.write(Batch(b'w' * 16, 1, [part(a, [1.0, 2.0], creates=True)]))
    for _ in range(2):  # the answer to the first may have been lost
        assert await store.rename_experiment(a.id, 'c')
    assert await store.find_experiment('a') is None
    renamed = await store.find_experiment('c')
    assert renamed == ExperimentRecord(a.id, 'c', a.epoch)
    assert await values(store, renamed) == [1.0, 2.0]
    assert not await store.rename_experiment(a.id, 'b')
    assert await store.list_experiments() == ['c', 'b']
    assert [e.created for e in await store.find_experiments(['c'])] == [1_600_000_000.0]
    assert await store.delete_experiment('c')
    assert await store.rename_experiment(a.id, 'd')
    assert not await store.rename_experiment(a.id, 'b')
    assert await store.list_experiments() == ['b']


@pytest.mark.asyncio
async def test_a_fork_that_is_made_again_under_its_mark_is_made_once(store: Storage) -> None:
    a = await store.create_experiment('a')
    assert a is not None
    await store.write(Batch(b'w' * 16, 1, [part(a, [1.0, 2.0], creates=True)]))
    ids = itertools.count(100)

    async def fork(mark: bytes) -> ExperimentRecord | None:
        return await store.fork_experiment(a.id, 'b', None, lambda: next(ids), mark * 16)

    made = await fork(b'1')
    await store.write(Batch(b'w' * 16, 2, [part(a, [3.0])]))
    assert await fork(b'1') == made == await store.find_experiment('b')
    assert await values(store, made) == [1.0, 2.0]
    assert await fork(b'2') is None
    assert await store.delete_experiment('b')
    again = await fork(b'1')
    assert again is not None and await values(store, again) == [1.0, 2.0, 3.0]


@pytest.mark.asyncio
async def test_two_compactions_at_a_time_lose_and_double_nothing(url: str, store: Storage) -> None:
    other = registry.create(url)
    await other.open(writable=True)
    try:
        experiment = await store.create_experiment('a')
        await store.write(Batch(b'w' * 16, 1, [part(experiment, [0.0], creates=True)]))
        for number in range(1, 30):
            await other.write(Batch(b'v' * 16, number, [part(experiment, [number - 0.5])]))
            await store.write(Batch(b'w' * 16, number + 1, [part(experiment, [float(number)])]))
            merging = store if number % 3 else other
            while await merging.compact('everything'):
                pass
        assert await values(store, experiment) == [n / 2 for n in range(59)]
    finally:
        await other.close()
