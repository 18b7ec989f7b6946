"""Experiments: names, modes, namespaces, deletion, options, errors."""

from __future__ import annotations

import gc
import math
import pickle
import sqlite3
import sys
import time
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import anyio
import postgres_server
import pytest

from neptune_async import AsyncExperiment, Atom, Experiment, Namespace, Series, Set
from neptune_async.exceptions import (
    ExperimentClosedError,
    ExperimentExistsError,
    ExperimentNotFoundError,
    FlushTimeoutError,
    InvalidArgumentError,
    InvalidNameError,
    InvalidPathError,
    InvalidStorageError,
    NamespaceConflictError,
    NeptuneAsyncError,
    QueueFullError,
    ReadOnlyError,
    RejectedOperationsError,
    StorageError,
    VariableNotFoundError,
)

pytestmark = pytest.mark.anyio


@contextmanager
def locked(storage: str) -> Any:
    """Hold the store as another process might."""
    if '://' in storage:
        with postgres_server.locked(storage):
            yield
        return
    connection = sqlite3.connect(storage, isolation_level=None)
    connection.execute('BEGIN IMMEDIATE')
    try:
        yield
    finally:
        connection.execute('ROLLBACK')
        connection.close()


def rows(storage: str, query: str) -> list[Any]:
    """Look into the store without the library."""
    if '://' in storage:
        with postgres_server.session(storage) as session:
            return session.rows(query)
    with closing(sqlite3.connect(storage)) as connection:
        return connection.execute(query).fetchall()


async def test_names_are_made_where_none_is_given(face: Any) -> None:
    for number in (1, 2):
        async with face.open(None) as exp:
            assert exp.name == f'EXP-{number}'
    async with face.open('EXP-9'), face.open('EXP-X'), face.open('EXP-07'):
        pass
    async with face.open(None) as exp:
        assert exp.name == 'EXP-10'
    assert await face.list() == ['EXP-1', 'EXP-2', 'EXP-9', 'EXP-X', 'EXP-07', 'EXP-10']


@pytest.mark.parametrize('name', ['', 'a\nb', '\ud800', 'x' * 257, 7], ids=repr)
async def test_bad_names_are_refused(face: Any, name: Any) -> None:
    with pytest.raises(InvalidNameError):
        async with face.open(name):
            pass


async def test_names_are_literal(face: Any) -> None:
    names = ["'; DROP TABLE experiments; --", '%', 'a/b', '..', 'Ä', 'A\u0308']
    for name in names:
        async with face.open(name) as exp:
            exp['x'].assign(name)
    for name in names:
        async with face.open(name, mode='read') as exp:
            assert await face.get(exp['x'].read) == name
    assert await face.list() == names


async def test_create_refuses_a_known_name(face: Any) -> None:
    async with face.open('new', mode='create') as exp:
        exp['x'].log(1.0)
        with pytest.raises(ExperimentExistsError, match="'new'") as refused:
            async with face.open('new', mode='create'):
                pass
        assert isinstance(refused.value, ValueError)
    with pytest.raises(ExperimentExistsError):
        async with face.open('new', mode='create'):
            pass


async def test_read_refuses_writes_and_unknown_names(face: Any) -> None:
    async with face.open('digits-1') as exp:
        exp['x'].log(1.0)
    async with face.open('digits-1', mode='read') as exp:
        assert await face.get(exp['x'].all) == [1.0]
        for write in (exp['x'].log, exp['y'].assign, exp['x'].add, exp['x'].remove, exp['x'].reset):
            with pytest.raises(ReadOnlyError, match="'digits-1'"):
                write(1.0)
        with pytest.raises(ReadOnlyError):
            await face.get(exp['x'].delete)
    with pytest.raises(ExperimentNotFoundError, match="'digits-2'.*'digits-1'"):
        async with face.open('digits-2', mode='read'):
            pass
    with pytest.raises(InvalidArgumentError):
        async with face.open(None, mode='read'):
            pass


async def test_a_reader_sees_what_a_writer_of_the_process_logs(face: Any) -> None:
    async with face.open() as exp:
        exp['x'].log(1.0)
        async with face.open(mode='read') as reader:
            assert await face.get(reader['x'].all) == [1.0]
            exp['x'].log(2.0)
            assert await face.get(reader['x'].all) == [1.0, 2.0]


async def test_a_writer_may_follow_a_reader(face: Any) -> None:
    async with face.open() as exp:
        exp['x'].log(1.0)
    async with face.open(mode='read') as reader, face.open() as writer:
        writer['x'].log(2.0)
        assert await face.get(reader['x'].all, with_steps=True) == [(0, 1.0), (1, 2.0)]


async def test_disabled_stores_nothing_and_answers_from_memory(face: Any, tmp_path: Any) -> None:
    async with face.open(None, mode='disabled') as exp, face.open(mode='disabled') as other:
        exp['x'].log(1.0)
        assert await face.get(exp['x'].all) == [1.0]
        assert not await face.get(other['x'].exists)
    assert list(tmp_path.iterdir()) == []


async def test_objects_of_one_name_share_their_state(face: Any) -> None:
    async with face.open() as one, face.open() as other:
        one['x'].log(1.0)
        other['x'].log(2.0)
        assert await face.get(one['x'].all, with_steps=True) == [(0, 1.0), (1, 2.0)]
        with pytest.raises(NeptuneAsyncError):
            other['x'].assign(1)
        await face.close(one)
        other['x'].log(3.0)
        with pytest.raises(ExperimentClosedError):
            one['x'].log(4.0)
        assert await face.get(other['x'].all) == [1.0, 2.0, 3.0]


async def test_views_of_a_closed_experiment_refuse(face: Any) -> None:
    async with face.open() as exp, face.open():
        view, same = exp['x'], exp['x']
        view.log(1.0)
        same.log(2.0)
        exp['ns'].log({'a': 1.0})
        batch = exp['ns']
        await face.close(exp)
        await face.close(exp)
        for write in (lambda: view.log(1.0), lambda: same.log(1.0), lambda: batch.log({'a': 1.0})):
            with pytest.raises(ExperimentClosedError, match="'NPT-1'"):
                write()
        with pytest.raises(ExperimentClosedError):
            await face.get(view.all)


async def test_with_closes_and_lets_the_bodys_exception_through(face: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with face.open() as exp:
            exp['x'].log(1.0)
            raise ZeroDivisionError
    async with face.open() as exp:
        assert await face.get(exp['x'].all) == [1.0]


@pytest.mark.failure('F46', 'odd names, through each face')
@pytest.mark.parametrize(
    'path', ['', '/', '///', 'a\nb', 'a\0', 'a\x7f', '\ud800', 'x' * 1025, 'é' * 513, 7, None],
    ids=repr,
)  # fmt: skip
async def test_bad_paths_are_refused(face: Any, path: Any) -> None:
    async with face.open() as exp:
        for use in (lambda: exp[path], lambda: exp['a'][path]):
            with pytest.raises(InvalidPathError, match="'NPT-1'") as refused:
                use()
            assert isinstance(refused.value, ValueError)
        if not isinstance(path, int):  # which is a key like another
            with pytest.raises(InvalidPathError):
                exp['a'].assign({'b': 1, path: 2})
        assert await face.get(exp.namespace_contents) == {}


@pytest.mark.failure('F46', 'odd names, through each face')
async def test_paths_are_literal_but_for_their_slashes(face: Any) -> None:
    paths = ['a/./b', 'a/../b', 'A/b', '%', '_', 'x' * 1024, "'", 'é', 'e\u0301', 'a b', '🙂/🙂']
    async with face.open() as exp:
        for path in paths:
            exp[path].assign(path)
        exp['/slashes//are/folded/'].assign(1)
        for path in paths:
            assert await face.get(exp[path].read) == path
        assert await face.get(exp['slashes/are']['/folded'].read) == 1
        assert await face.get(exp['a'].namespace_contents) == {'.': Namespace, '..': Namespace}


async def test_a_namespace_lists_one_level(face: Any) -> None:
    async with face.open() as exp:
        exp['train/batch/loss'].log(1.0)
        exp['train/tags'].add('x')
        exp['train/Author'].assign('x')
        exp['train-2'].assign(1)
        contents = await face.get(exp['train'].namespace_contents)
        assert contents == {'Author': Atom, 'batch': Namespace, 'tags': Set}
        assert list(contents) == ['Author', 'batch', 'tags']
        root = await face.get(exp.namespace_contents)
        assert root == {'train': Namespace, 'train-2': Atom}
        for path, text in (('trains', "'train'"), ('train/tags', 'it is a variable')):
            with pytest.raises(VariableNotFoundError, match=text):
                await face.get(exp[path].namespace_contents)


@pytest.mark.failure('F46', 'a name is to be a variable and a namespace')
async def test_a_path_is_a_variable_or_a_namespace(face: Any) -> None:
    async with face.open() as exp:
        exp['a/b'].log(1.0)
        for path in ('a', 'a/b/c', 'a/b/c/d'):
            for write in (exp[path].assign, exp[path].log, exp[path].add):
                with pytest.raises(NamespaceConflictError, match="'NPT-1'") as refused:
                    write(1)
                assert isinstance(refused.value, TypeError)
                assert isinstance(refused.value, AttributeError)
        with pytest.raises(NamespaceConflictError, match='cannot assign to an existing namespace'):
            exp['a'].assign(1)
        for batch in ({'x': 1, 'x/y': 2}, {'x/y': 1, 'x': 2}, {'new': 1, 'b/c': 1}):
            with pytest.raises(NamespaceConflictError):
                exp['a'].log(batch)
        assert await face.get(exp['a'].namespace_contents) == {'b': Series}
    async with face.open() as exp:
        with pytest.raises(NamespaceConflictError):
            exp['a'].assign(1)
        with pytest.raises(NamespaceConflictError):
            exp['a/b/c'].assign(1)


async def test_two_keys_of_one_path_are_refused_and_nothing_is_stored(face: Any) -> None:
    batches: list[dict[str, Any]] = [{'a/b': 1.0, 'a': {'b': 2.0}}, {'x': 1.0, 'x/': 2.0}]
    async with face.open() as exp:
        view = exp['ns']
        for batch in batches:
            for write in (view.log, view.extend, view.assign, view.add):
                with pytest.raises(InvalidArgumentError, match='two keys .* name the path'):
                    write(batch)
        assert await face.get(exp.namespace_contents) == {}


async def test_what_is_deleted_can_be_made_anew(face: Any) -> None:
    async with face.open() as exp:
        view = exp['a/x']
        view.log(1.0)
        exp['a/deep/y'].assign(1)
        exp['ab'].assign(1)
        await face.get(view.delete)
        assert not await face.get(view.exists)
        view.log('now a text')
        view.log('and one more')
        assert await face.get(view.all, with_steps=True) == [(0, 'now a text'), (1, 'and one more')]
        await face.get(exp['a'].delete)
        assert await face.get(exp.namespace_contents) == {'ab': Atom}
        exp['a'].assign('no namespace any more')
        assert await face.get(exp['a'].read) == 'no namespace any more'
        for path in ('a/x', 'never'):
            with pytest.raises(VariableNotFoundError, match=path):
                await face.get(exp[path].delete)
    async with face.open() as exp:
        assert await face.get(exp.namespace_contents) == {'a': Atom, 'ab': Atom}


async def test_logging_goes_on_after_a_delete_in_the_same_batch(face: Any) -> None:
    async with face.open(flush_interval=60) as exp:
        for round_ in range(3):
            for value in range(5):
                exp['x'].log(float(value + 10 * round_))
            exp['keep'].log(float(round_))
            if round_ < 2:
                await face.get(exp['x'].delete)
        assert await face.get(exp['x'].all) == [20.0, 21.0, 22.0, 23.0, 24.0]
        assert await face.get(exp['keep'].all) == [0.0, 1.0, 2.0]


async def test_an_experiment_is_deleted_with_all_it_holds(face: Any) -> None:
    async with face.open('doomed') as exp:
        exp['x'].log(1.0)
        exp['t'].log('text')
        exp['a'].assign(1)
        exp['s'].add(1)
        with pytest.raises(StorageError, match='open'):
            await face.delete('doomed')
    await face.delete('doomed')
    assert await face.list() == []
    with pytest.raises(ExperimentNotFoundError):
        await face.delete('doomed')
    async with face.open('doomed') as exp:
        assert await face.get(exp.namespace_contents) == {}


@pytest.mark.parametrize('durability', ['interval', 'call', 'power'])
async def test_what_is_logged_reads_back_whatever_its_durability(
    face: Any, durability: str
) -> None:
    async with face.open(durability=durability) as exp:
        for n in range(100):
            exp['loss'].log(n)
            exp['both'].log({'loss': n, 'accuracy': -n}, step=2 * n, timestamp=n)
        exp['text'].log('a')
        exp['params'].assign({'lr': 0.1})
        exp['tags'].add('x', 'y')
        await face.get(exp.flush, sync=True)
        assert exp.pending == 0
        await face.get(exp.flush, sync=True)
        exp['loss'].extend(range(100, 20_000))
        assert await face.get(exp['loss'].all) == [*range(20_000)]
        assert await face.get(exp['both/accuracy'].tail, 2, True, True) == [
            (196, 98.0, -98.0), (198, 99.0, -99.0),
        ]  # fmt: skip
        assert await face.get(exp['text'].all) == ['a']
        assert await face.get(exp['params/lr'].read) == 0.1
        assert await face.get(exp['tags'].get) == {'x', 'y'}
    async with face.open(mode='disabled', durability=durability) as exp:
        exp['loss'].log(1.0)
        assert await face.get(exp['loss'].all) == [1.0]


async def test_a_store_that_is_only_read_has_nothing_to_sync(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0)
    async with face.open(mode='read', durability='call') as exp:
        await face.get(exp.flush, sync=True)
        assert await face.get(exp['loss'].all) == [1.0]


async def test_a_second_one_that_opens_an_experiment_may_raise_its_durability(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(0.0)
        async with face.open(durability='call') as again:
            again['loss'].log(1.0)
            exp['loss'].log(2.0)
            assert await face.get(again['loss'].all) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    'arguments',
    [
        {'mode': 'append'}, {'overflow': 'wait'}, {'flush_interval': 0}, {'flush_interval': 'x'},
        {'max_pending': 0}, {'max_pending': 1.5}, {'durability': 'always'},
        {'durability': 'call', 'storage': ':memory:'},
    ],
    ids=str,
)  # fmt: skip
async def test_bad_options_are_refused(face: Any, arguments: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        async with face.open(**arguments):
            pass


@pytest.mark.parametrize('timeout', [-1, math.nan, '5', True], ids=repr)
async def test_a_bad_timeout_is_refused_and_nothing_is_closed(face: Any, timeout: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(InvalidArgumentError, match='timeout'):
            await face.close(exp, timeout=timeout)
        with pytest.raises(InvalidArgumentError, match='timeout'):
            await face.get(exp.flush, timeout=timeout)
        exp['loss'].log(1.0)
        assert await face.get(exp['loss'].all) == [1.0]


@pytest.mark.parametrize('timeout', [None, 60, math.inf, 1e300], ids=repr)
async def test_a_timeout_may_be_as_long_as_one_likes(face: Any, timeout: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0)
        await face.get(exp.flush, timeout=timeout)
        exp['loss'].log(2.0)
        await face.close(exp, timeout=timeout)
    async with face.open() as exp:
        assert await face.get(exp['loss'].all) == [1.0, 2.0]


@pytest.mark.parametrize('storage', ['', 'ftp://x/y', 'sqlite://', 'sqlite:///', 7], ids=repr)
async def test_bad_storages_are_refused(face: Any, storage: Any) -> None:
    with pytest.raises(InvalidStorageError):
        async with face.open(storage=storage):
            pass


async def test_strict_false_counts_what_it_refuses(
    face: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with face.open(strict=False) as exp:
        exp['x'].log(1.0)
        exp['x'].log('text')
        exp['x'].log(object())
        exp['x'].assign(1)
        stats = exp.stats()
        assert (stats.accepted, stats.rejected) == (4, 3)
        assert await face.get(exp['x'].all) == [1.0]
    assert len([r for r in caplog.records if 'strict' in r.message]) == 1


async def test_a_full_queue_raises_where_that_is_asked_for(face: Any, storage: str) -> None:
    async with face.open(max_pending=5, overflow='raise') as exp:
        exp['x'].log(0.0)
        await face.get(exp.flush)
        with locked(storage):
            for value in range(5):
                exp['x'].log(float(value))
            for write in (exp['x'].log, exp['y'].log):
                with pytest.raises(QueueFullError, match='max_pending=5'):
                    write(5.0)
            with pytest.raises(FlushTimeoutError) as late:
                await face.get(exp.flush, timeout=0.05)
            assert late.value.pending == 5
            assert isinstance(late.value, TimeoutError)
        await face.get(exp.flush)
        assert len(await face.get(exp['x'].all)) == 6


@pytest.mark.parametrize('overflow', ['raise', 'drop'])
async def test_a_full_queue_takes_all_that_extends_series_or_none(
    face: Any, storage: str, overflow: str
) -> None:
    many = [float(value) for value in range(40_000)]
    async with face.open(max_pending=20_000, overflow=overflow) as exp:
        exp['x'].log(0.0)
        await face.get(exp.flush)
        with locked(storage):
            exp['x'].log(1.0)
            refused = pytest.raises(QueueFullError, match='flush first: 80,000 more')
            with refused if overflow == 'raise' else nullcontext():
                exp['y'].extend({'a': many, 'b': many})
            stats = exp.stats()
            assert (stats.pending, stats.dropped) == (1, 80_000 if overflow == 'drop' else 0)
        await face.get(exp.flush)
        exp['y'].extend({'a': many, 'b': many})
        for series in ('y/a', 'y/b'):
            assert await face.get(exp[series].all) == many


async def test_a_full_queue_drops_and_counts_where_that_is_asked_for(
    face: Any, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with face.open(max_pending=5, overflow='drop') as exp:
        exp['x'].log(0.0)
        await face.get(exp.flush)
        with locked(storage):
            for value in range(8):
                exp['x'].log(float(value))
            stats = exp.stats()
            assert (stats.accepted, stats.committed, stats.pending, stats.dropped) == (9, 1, 5, 3)
            assert stats.oldest_pending_age > 0
        await face.get(exp.flush)
        assert await face.get(exp['x'].all) == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    assert len([r for r in caplog.records if 'dropped' in r.message]) == 1


@pytest.mark.parametrize('overflow', ['block', 'drop', 'raise'])
async def test_a_deletion_waits_for_room_in_a_queue_that_is_full(face: Any, overflow: str) -> None:
    async with face.open(max_pending=10, overflow=overflow, flush_interval=60) as exp:
        exp['old'].log(0.0)
        await face.get(exp.flush)
        exp['x'].extend([float(n) for n in range(10)])
        await face.get(exp['old'].delete)
        assert not await face.get(exp['old'].exists)
        assert len(await face.get(exp['x'].all)) == 10
        assert exp.stats().dropped == 0


async def test_stats_always_add_up(face: Any) -> None:
    async with face.open() as exp:
        for value in range(100):
            exp['x'].log(float(value))
            exp['p'].assign({'a': value, 'b': value})
            exp['s'].add(value)
            stats = exp.stats()
            assert stats.accepted == 4 * (value + 1)
            total = stats.committed + stats.pending + stats.rejected + stats.dropped
            assert stats.accepted == total
        await face.get(exp.flush)
        assert (exp.stats().committed, exp.pending) == (400, 0)


OTHER = """
from neptune_async import Experiment
with Experiment('NPT-1', storage={storage!r}) as exp:
    exp['clash'].assign('an atom')
    exp['same'].log(1.0)
    exp['set'].add('x')
"""


async def test_a_conflict_that_only_storage_sees_is_rejected_and_told(
    face: Any, storage: str
) -> None:
    errors: list[NeptuneAsyncError] = []
    async with face.open(on_error=errors.append) as exp:
        exp['known'].log(1.0)
        await face.get(exp.flush)
        await anyio.run_process([sys.executable, '-c', OTHER.format(storage=storage)])
        for value in (2.0, 3.0):
            exp['clash'].log(value)
            exp['same'].log(value)
            exp['known'].log(value)
        exp['set'].add('y')
        with pytest.raises(RejectedOperationsError, match="'clash'|clash") as told:
            await face.get(exp.flush)
        assert [(r.path, r.count) for r in told.value.rejections] == [('clash', 2)]
        assert [type(error) for error in errors] == [RejectedOperationsError]
        await face.get(exp.flush)
        assert await face.get(exp['known'].all) == [1.0, 2.0, 3.0]
        assert await face.get(exp['same'].all, with_steps=True) == [(0, 1.0), (1, 2.0), (2, 3.0)]
        assert await face.get(exp['set'].get) == {'x', 'y'}
        assert await face.get(exp['clash'].read) == 'an atom'
        stats = exp.stats()
        assert (stats.rejected, stats.committed, stats.pending) == (2, 6, 0)
        with pytest.raises(TypeError):
            exp['clash'].log(4.0)
        exp['same'].log(4.0)
        assert await face.get(exp['same'].tail, 1) == [4.0]
    assert rows(storage, 'SELECT path, count FROM rejected') == [('clash', 2)]


@pytest.mark.parametrize('action', ['fork', 'rewind', 'delete'])
async def test_what_was_rejected_is_told_before_anything_is_changed(
    face: Any, storage: str, action: str
) -> None:
    async with face.open() as exp:
        exp['known'].extend([1.0, 2.0])
        await face.get(exp.flush)
        await rejection(exp, storage)
        calls = {
            'fork': lambda: exp.fork('NPT-2'),
            'rewind': lambda: exp.rewind(0),
            'delete': exp['known'].delete,
        }
        with pytest.raises(RejectedOperationsError, match='clash'):
            await face.get(calls[action])
        assert await face.list() == ['NPT-1']
        assert await face.get(exp['known'].all) == [1.0, 2.0]

        done = await face.get(calls[action])
        if action == 'fork':
            await face.close(done)
        there = await face.get(exp['known'].exists) and await face.get(exp['known'].all)
        expected = {'fork': [1.0, 2.0], 'rewind': [1.0], 'delete': False}
        assert there == expected[action]


async def test_what_was_rejected_does_not_end_who_follows_a_series(face: Any, storage: str) -> None:
    async with face.open() as exp:
        exp['known'].log(1.0)
        await face.get(exp.flush)
        points = exp['known'].follow()
        for value in (1.0, 2.0):
            await rejection(exp, storage)
            point = await anext(points) if face.is_async else next(points)
            assert point.value == value
            with pytest.raises(RejectedOperationsError, match='clash'):
                await face.get(exp.flush)
            await face.get(exp['clash'].delete)
            exp['known'].log(value + 1.0)
            await face.get(exp.flush)


async def rejection(exp: Any, storage: str) -> None:
    """Have storage reject a point, and no call tell of it yet."""
    before = exp.stats().rejected
    await anyio.run_process([sys.executable, '-c', OTHER.format(storage=storage)])
    exp['clash'].log(1.0)
    wait_until_stored(exp)
    assert exp.stats().rejected == before + 1


def wait_until_stored(exp: Any) -> None:
    while exp.pending:
        time.sleep(0.002)  # the worker has a thread of its own


DELETER = """
from neptune_async import Experiment
with Experiment('NPT-1', storage={storage!r}) as exp:
    del exp['gone']
"""


async def test_what_another_process_deletes_is_made_anew_by_the_next_write(
    face: Any, storage: str
) -> None:
    async with face.open() as exp:
        exp['gone'].log(1.0)
        exp['kept'].log(1.0)
        await face.get(exp.flush)
        await anyio.run_process([sys.executable, '-c', DELETER.format(storage=storage)])
        assert not await face.get(exp['gone'].exists)
        exp['kept'].log(2.0)
        await face.get(exp.flush)
        exp['gone'].log(2.0)
        assert await face.get(exp['gone'].all) == [2.0]
        assert await face.get(exp['kept'].all) == [1.0, 2.0]


async def test_an_experiment_pickles(face: Any) -> None:
    async with face.open(flush_interval=0.1, strict=False) as exp:
        exp['x'].log(1.0)
        await face.get(exp.flush)
        again = pickle.loads(pickle.dumps(exp))
        assert type(again) is type(exp)
        if isinstance(again, AsyncExperiment):
            await again.__aenter__()
        again['x'].log(2.0)
        assert await face.get(again['x'].all) == [1.0, 2.0]
        assert again.name == exp.name
        await face.close(again)


def test_a_view_pickles_and_reopens_its_experiment(storage: str) -> None:
    with Experiment('NPT-1', storage=storage, flush_interval=0.1) as exp:
        exp['x/y'].log(1.0)
        exp.flush()
        again, below, same = pickle.loads(pickle.dumps((exp, exp['x']['y'], exp['x/z'])))
        below.log(2.0)
        same.log(3.0)
        assert again['x/y'].all() == below.all() == [1.0, 2.0]
        assert again.pending == 0 and again['x/z'].all() == [3.0]
        again.close()
        with pytest.raises(ExperimentClosedError):  # it is one experiment for all
            below.all()


async def test_a_view_that_would_have_to_be_awaited_says_what_pickles(storage: str) -> None:
    async with AsyncExperiment('NPT-1', storage=storage) as exp:
        with pytest.raises(TypeError, match=r"pickle the experiment, .* experiment\['x/y'\]"):
            pickle.dumps(exp['x/y'])


async def test_neither_an_experiment_nor_a_view_is_iterable(face: Any) -> None:
    async with face.open(mode='disabled') as exp:
        for one in (exp, exp['loss']):
            with pytest.raises(TypeError, match='is not iterable'):
                iter(one)
            with pytest.raises(TypeError, match=r'is not (iterable|a container)'):
                assert 'loss' in one


async def test_representations_name_what_they_are(face: Any, storage: str) -> None:
    async with face.open() as exp:
        assert "'NPT-1'" in repr(exp) and storage in repr(exp)
        assert "'a/b'" in repr(exp['a/b']) and 'NPT-1' in repr(exp['a/b'])


def test_an_experiment_that_is_let_go_without_a_close_is_stored(storage: str) -> None:
    exp = Experiment('NPT-1', storage=storage)
    exp['x'].log(1.0)
    thread = exp._worker.thread._thread
    del exp
    gc.collect()  # an experiment and its views refer to each other
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()
    with Experiment('NPT-1', storage=storage) as exp:
        assert exp['x'].all() == [1.0]


def test_the_sync_follow_ends_after_its_timeout(storage: str) -> None:
    with Experiment('NPT-1', storage=storage) as exp:
        exp['x'].extend([1.0, 2.0])
        exp.flush()
        points = exp['x'].follow(last=1, timeout=1.0)
        assert next(points).value == 2.0
        exp['x'].log(3.0)
        assert [point.value for point in points] == [3.0]


def test_the_sync_follow_yields_what_is_there_however_short_its_timeout(storage: str) -> None:
    with Experiment('NPT-1', storage=storage) as exp:
        assert [*exp['x'].follow(timeout=0)] == []
        exp['x'].extend([1.0, 2.0])
        exp.flush()
        assert [point.value for point in exp['x'].follow(timeout=0)] == [1.0, 2.0]


@pytest.mark.parametrize('last', [-1, 1.5, True, 'all'])
async def test_follow_refuses_what_is_no_number_of_points_at_the_call(face: Any, last: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(InvalidArgumentError, match=f'^follow takes .*{last}'):
            exp['x'].follow(last=last)


@pytest.mark.parametrize('timeout', [-1, math.nan, True, '1'])
def test_the_sync_follow_refuses_what_is_no_timeout_at_the_call(storage: str, timeout: Any) -> None:
    with (
        Experiment('NPT-1', storage=storage) as exp,
        pytest.raises(InvalidArgumentError, match=f'^timeout must .*{timeout}'),
    ):
        exp['x'].follow(timeout=timeout)
