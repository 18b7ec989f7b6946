"""Contents that nothing refers to go, and no others: what holds for every store."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Session, session

from neptune_async._engine.durability.cleaning import find_waste
from neptune_async._model.operations import Assign, Batch, CreateVariable, Part, Variable, point_key
from neptune_async._model.values import encode
from neptune_async._storage import registry
from neptune_async._storage.base import Examinable, MissingFiles, Storage
from neptune_async._storage.cleaning import Cleanable
from neptune_async._storage.sqlite import files
from neptune_async.exceptions import InvalidStorageError, StorageFormatError
from neptune_async.files import FileReference

pytestmark = pytest.mark.asyncio

SMALL, LARGE, HUGE = b'small', b'l' * 100_000, b'h' * 3_000_000
ATOM = Variable(1, 'atom', 'atom', 'file')
SERIES = Variable(2, 'series', 'series', 'file')


def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reference(content: bytes) -> FileReference:
    return FileReference('x', 'text/plain', len(content), name_of(content))


def part(experiment: Any, operations: list[Any], contents: list[bytes], brings: bool) -> Part:
    files = {name_of(content): content if brings else None for content in contents}
    return Part(experiment.id, experiment.name, None, operations, files=files)


async def assign(store: Storage, name: str, content: bytes, *, brings: bool = True) -> None:
    experiment = await store.find_experiment(name) or await store.create_experiment(name)
    operations = [CreateVariable(ATOM), Assign(ATOM.id, 'file', encode(reference(content)))]
    number = await store.last_batch(b'w' * 16) + 1
    batch = Batch(b'w' * 16, number, [part(experiment, operations, [content], brings)])
    await store.write(batch)


async def log(store: Storage, name: str, contents: list[bytes]) -> None:
    experiment = await store.find_experiment(name) or await store.create_experiment(name)
    logged = part(experiment, [CreateVariable(SERIES)], contents, True)
    logged.texts = [
        (point_key(SERIES.id), float(step), 1.0, reference(content))
        for step, content in enumerate(contents)
    ]
    await store.write(Batch(b'w' * 16, await store.last_batch(b'w' * 16) + 1, [logged]))


async def cleaned(store: Storage, *spared: bytes) -> set[str]:
    """Clean a store, and return what was removed of it."""
    assert isinstance(store, Cleanable)
    names = {name_of(content) for content in spared}
    unused = await store.find_unused(names)
    await store.remove_unused(unused, names)
    return {*unused.sizes}


async def is_there(store: Storage, content: bytes) -> bool:
    return await store.read_file(name_of(content), 0, len(content)) == content


async def test_what_something_refers_to_stays_and_the_others_go(store: Storage) -> None:
    for content in (SMALL, LARGE, HUGE, b'in use'):
        await store.keep_file(name_of(content), len(content), content)
    await assign(store, 'a', LARGE, brings=False)
    await log(store, 'b', [b'in use', b'logged'])
    assert isinstance(store, Cleanable)
    unused = await store.find_unused(())
    assert unused.sizes == {name_of(SMALL): len(SMALL), name_of(HUGE): len(HUGE)}
    assert await is_there(store, HUGE)  # to look changes nothing
    assert await cleaned(store) == {name_of(SMALL), name_of(HUGE)}
    for content in (LARGE, b'in use', b'logged'):
        assert await is_there(store, content)
    for content in (SMALL, HUGE):
        assert await store.read_file(name_of(content), 0, 10) is None
    assert await cleaned(store) == set()


@pytest.mark.parametrize('are_chunks', [False, True])
async def test_what_was_logged_is_let_go_of_with_its_points(
    store: Storage, are_chunks: bool
) -> None:
    contents = [b'%d' % n * 50_000 for n in range(4)]
    await log(store, 'a', contents)
    while are_chunks and await store.compact('everything'):
        pass
    assert await cleaned(store) == set()
    await assign(store, 'a', b'first')
    await assign(store, 'a', b'second')
    assert await cleaned(store) == {name_of(b'first')}
    await store.delete_experiment('a')
    assert await cleaned(store) == {*map(name_of, [b'second', *contents])}


async def test_a_fork_refers_to_what_its_original_refers_to(store: Storage) -> None:
    await assign(store, 'a', LARGE)
    await log(store, 'a', [SMALL])
    original = await store.find_experiment('a')
    assert original is not None
    ids = itertools.count(100)
    await store.fork_experiment(original.id, 'b', None, lambda: next(ids), b'm' * 16)
    await store.delete_experiment('a')
    assert await cleaned(store) == set()
    assert await is_there(store, LARGE) and await is_there(store, SMALL)


async def test_what_is_referred_to_elsewhere_stays(store: Storage) -> None:
    for content in (SMALL, LARGE):
        await store.keep_file(name_of(content), len(content), content)
    assert await cleaned(store, SMALL, LARGE) == set()
    assert await is_there(store, SMALL) and await is_there(store, LARGE)
    assert await cleaned(store, SMALL) == {name_of(LARGE)}


async def test_what_is_referred_to_since_it_was_found_stays(store: Storage, url: str) -> None:
    contents = [SMALL, LARGE, HUGE]
    for content in contents:
        await store.keep_file(name_of(content), len(content), content)
    assert isinstance(store, Cleanable)
    unused = await store.find_unused(())
    other = registry.create(url)
    await other.open(writable=True)
    await assign(other, 'a', LARGE, brings=False)
    await log(other, 'b', [SMALL])
    await other.close()
    await store.remove_unused(unused, ())
    assert unused.sizes == {name_of(HUGE): len(HUGE)}
    assert await is_there(store, LARGE) and await is_there(store, SMALL)


async def test_two_that_clean_at_once_remove_what_one_would(store: Storage, url: str) -> None:
    await store.keep_file(name_of(LARGE), len(LARGE), LARGE)
    await log(store, 'a', [SMALL])
    other = registry.create(url)
    await other.open(writable=True)
    assert isinstance(store, Cleanable) and isinstance(other, Cleanable)
    found = [await each.find_unused(()) for each in (store, other)]
    for each, unused in zip((store, other), found, strict=True):
        await each.remove_unused(unused, ())
    await other.close()
    assert [*found[0].sizes] == [name_of(LARGE)]
    assert not await is_there(store, LARGE) and await is_there(store, SMALL)


async def test_a_batch_is_told_of_what_was_removed_before_it(store: Storage) -> None:
    for content in (LARGE, HUGE):
        await store.keep_file(name_of(content), len(content), content)
    await cleaned(store)
    with pytest.raises(MissingFiles) as missing:
        await assign(store, 'a', LARGE, brings=False)
    assert [*missing.value.missing] == [name_of(LARGE)]
    await store.keep_file(name_of(LARGE), len(LARGE), LARGE)
    await assign(store, 'a', LARGE, brings=False)
    assert await is_there(store, LARGE)


async def test_a_file_is_kept_again_after_it_was_removed(store: Storage, tmp_path: Path) -> None:
    source = tmp_path / 'source'
    source.write_bytes(HUGE)
    for _ in range(2):
        await store.keep_file(name_of(HUGE), len(HUGE), source)
        assert await is_there(store, HUGE)
        assert await cleaned(store) == {name_of(HUGE)}
        assert not await is_there(store, HUGE)


async def test_a_store_of_another_kind_says_that_it_cannot_be_cleaned() -> None:
    class Other:
        location = 'other://x'
        spill_folder = None

    with pytest.raises(InvalidStorageError, match='other://x is of a kind'):
        await find_waste(Other())  # type: ignore[arg-type]  # it has all that is looked at


# ── Damage ───────────────────────────────────────────────────────────────────


def damage(url: str, statement: str) -> None:
    """Change something behind the back of a store."""
    if url.startswith('postgresql'):
        with session(url) as asked:
            asked.execute(statement)
        return
    with closing(sqlite3.connect(url.removeprefix('sqlite:///'))) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize('what', ['atom', 'series'])
async def test_from_a_damaged_store_nothing_is_removed(store: Storage, url: str, what: str) -> None:
    await store.keep_file(name_of(HUGE), len(HUGE), HUGE)
    await assign(store, 'a', LARGE)
    await log(store, 'b', [SMALL])
    if what == 'atom':
        damage(url, "UPDATE atoms SET value = replace(CAST(value AS text), 'x', 'y')"
               if url.startswith('sqlite') else "UPDATE atoms SET value = 'xyz'")  # fmt: skip
    else:
        damage(url, "UPDATE log SET points = x'00'" if url.startswith('sqlite')
               else "UPDATE chunks SET encoded = ARRAY['xyz'::bytea]")  # fmt: skip
    with pytest.raises(StorageFormatError, match='nothing was removed'):
        await cleaned(store)
    assert await is_there(store, HUGE)


# ── In a SQLite file ─────────────────────────────────────────────────────────

IN_A_FILE = pytest.mark.parametrize('url', ['sqlite'], indirect=True)


def folder_of(url: str) -> Path:
    return files.folder_of(url.removeprefix('sqlite:///'))


@IN_A_FILE
async def test_files_that_have_no_row_and_no_name_go_and_strange_ones_stay(
    store: Storage, url: str
) -> None:
    folder = folder_of(url)
    await store.keep_file(name_of(LARGE), len(LARGE), LARGE)
    await assign(store, 'a', LARGE, brings=False)
    orphan = files.path_in(folder, name_of(HUGE))
    old, new = folder / 'old.part', folder / 'new.part'
    strange = [folder / 'notes.txt', folder / name_of(LARGE)[:2] / 'notes.txt', new]
    for path in (orphan, old, *strange):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'12345')
    os.utime(old, (1, 1))
    link = folder / name_of(LARGE)[:2] / ('0' * 64)
    link.symlink_to(orphan)
    assert await cleaned(store) == {name_of(HUGE), 'old.part'}
    assert not orphan.parent.exists() and not old.exists()
    assert link.is_symlink() and all(path.exists() for path in strange)
    assert await is_there(store, LARGE)


@IN_A_FILE
async def test_a_file_that_is_taken_for_one_of_the_dead_is_made_again(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = files._prepared
    made: list[Path] = []

    def removed_at_first(*arguments: Any) -> Path:
        made.append(prepared(*arguments))
        if len(made) == 1:
            made[0].unlink()
        return made[-1]

    monkeypatch.setattr(files, '_prepared', removed_at_first)
    await store.keep_file(name_of(LARGE), len(LARGE), LARGE)
    assert len(made) == 2 and await is_there(store, LARGE)


@IN_A_FILE
async def test_rows_of_contents_that_hold_something_else_are_told(store: Storage, url: str) -> None:
    await assign(store, 'a', SMALL)
    await log(store, 'b', [b'other'])
    with closing(sqlite3.connect(url.removeprefix('sqlite:///'))) as connection, connection:
        connection.execute(
            "UPDATE files SET content = 'text' WHERE content = CAST('small' AS BLOB)"
        )
        connection.execute("UPDATE files SET size = 'x' WHERE content = CAST('other' AS BLOB)")
    with pytest.raises(StorageFormatError, match='is no bytes'):
        await store.read_file(name_of(SMALL), 0, 10)
    assert isinstance(store, Examinable)
    told = [finding.what for finding in await store.examine() if 'SHA-256' in finding.what]
    assert len(told) == 2
    assert any('is no bytes' in what for what in told)
    assert any('has 5 of 0 bytes' in what for what in told)


@IN_A_FILE
async def test_an_index_that_lost_a_row_keeps_all_that_it_may_have_led_to(
    store: Storage, url: str
) -> None:
    await store.keep_file(name_of(HUGE), len(HUGE), HUGE)
    await store.keep_file(name_of(LARGE), len(LARGE), LARGE)
    with closing(sqlite3.connect(url.removeprefix('sqlite:///'))) as connection, connection:
        connection.execute('PRAGMA writable_schema = ON')
        connection.execute(
            'UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master '
            "WHERE name = 'log_by_experiment') WHERE name = 'sqlite_autoindex_files_1'"
        )
    await store.open(writable=True)
    with pytest.raises(StorageFormatError, match='nothing was removed'):
        await cleaned(store)
    assert files.path_in(folder_of(url), name_of(HUGE)).exists()


# ── On a PostgreSQL server ───────────────────────────────────────────────────


async def until(asked: Session, query: str) -> None:
    """Wait until a query has rows."""
    while not asked.rows(query):  # noqa: ASYNC110  # what it is about happens in the server
        await asyncio.sleep(0.001)


ON_A_SERVER = pytest.mark.parametrize('url', ['postgres'], indirect=True)


@ON_A_SERVER
async def test_what_a_batch_is_about_to_refer_to_is_left_alone(store: Storage, url: str) -> None:
    await store.keep_file(name_of(LARGE), len(LARGE), LARGE)
    with session(url) as batch:
        batch.execute('BEGIN')
        batch.rows('SELECT FROM files FOR KEY SHARE')
        assert await cleaned(store) == set()
        batch.execute('COMMIT')
    assert await cleaned(store) == {name_of(LARGE)}


@ON_A_SERVER
async def test_a_small_file_that_is_removed_before_it_is_held_is_brought_again(
    store: Storage, url: str
) -> None:
    await store.keep_file(name_of(SMALL), len(SMALL), SMALL)
    with session(url) as cleaner, session(url) as asked:
        cleaner.execute('BEGIN')
        cleaner.execute('DELETE FROM file_pieces; DELETE FROM files')
        brought = asyncio.create_task(assign(store, 'a', SMALL))
        await until(asked, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        cleaner.execute('COMMIT')
        await brought
    assert await is_there(store, SMALL)


@ON_A_SERVER
async def test_what_a_fork_copies_stays_when_its_original_lets_go_of_it(
    store: Storage, url: str
) -> None:
    await assign(store, 'a', LARGE)
    with session(url) as forking, session(url) as asked:
        forking.execute('BEGIN')
        # What a fork does, stopped before its commit.
        forking.rows('SELECT keep_cleaning_out()')
        forking.execute("""
            INSERT INTO variables SELECT 7, id, path, container, content FROM variables;
            INSERT INTO atoms SELECT 7, variable_id, value FROM atoms;
        """)
        await store.delete_experiment('a')
        removed = asyncio.create_task(cleaned(store))
        await until(asked, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        forking.execute('COMMIT')
        assert await removed == set()
    assert await is_there(store, LARGE)


@ON_A_SERVER
async def test_a_fork_keeps_cleaning_out(store: Storage, url: str) -> None:
    await assign(store, 'a', LARGE)
    original = await store.find_experiment('a')
    assert original is not None
    ids = itertools.count(100)
    with session(url) as cleaner, session(url) as asked:
        cleaner.execute('BEGIN')
        cleaner.rows('SELECT keep_forks_out()')
        forked = asyncio.create_task(
            store.fork_experiment(original.id, 'b', None, lambda: next(ids), b'm' * 16)
        )
        await until(asked, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        assert not forked.done()
        cleaner.execute('COMMIT')
        assert await forked is not None
