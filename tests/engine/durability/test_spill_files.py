"""Spill files: what is written is read, and damage is never taken for data."""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neptune_async import File, FileReference
from neptune_async._engine.durability import spill_files
from neptune_async._engine.durability.frames import frame
from neptune_async._messenger import messenger
from neptune_async._model.operations import (
    AddMembers,
    Assign,
    Batch,
    CreateVariable,
    Delete,
    Part,
    RemoveMembers,
    ResetMembers,
    Rewind,
    Variable,
)
from neptune_async._model.pending_files import PendingFile
from neptune_async._model.values import encode, encode_points
from neptune_async.exceptions import StorageFormatError

members = st.lists(st.text(st.characters()).map(encode), max_size=3).map(tuple)
ids = st.integers(1, 2**52)
operations = st.one_of(
    st.builds(CreateVariable, st.builds(Variable, ids, st.text(), st.just('set'), st.just('str'))),
    st.builds(Assign, ids, st.just('str'), st.text(st.characters()).map(encode)),
    st.builds(AddMembers, ids, members),
    st.builds(RemoveMembers, ids, members),
    st.builds(ResetMembers, ids, st.just('str'), members),
    st.builds(Delete, st.text()),
    st.builds(Rewind, st.text(), st.floats(allow_nan=False, allow_infinity=False)),
)
texts = st.tuples(
    st.floats(0, 2**53), st.floats(allow_nan=False), st.floats(0, 4e9),
    st.text(st.characters()) | st.just(datetime(2020, 1, 1, tzinfo=timezone.utc)),
)  # fmt: skip
parts = st.builds(
    Part,
    ids,
    st.text(st.characters(exclude_categories=['Cs'])),
    st.none(),
    st.lists(operations, max_size=4),
    st.lists(st.floats(allow_nan=False), max_size=3).map(lambda some: array('d', some * 4)),
    st.lists(texts, max_size=3),
    st.integers(0, 100),
)
batches = st.lists(
    st.builds(Batch, st.binary(min_size=16, max_size=16), ids, st.lists(parts, max_size=3)),
    min_size=1, max_size=3,
)  # fmt: skip
MANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that cannot be made, so that spill files go to the temporary one."""
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'tmp'))
    (tmp_path / 'blocked').write_text('a file where a folder should be')
    return tmp_path / 'blocked' / 'experiments.db.spilled'


@MANY
@given(batches)
def test_what_is_written_is_read(tmp_path: Path, written: list[Batch]) -> None:
    assert spill_files.read_spill(spill_files.write_spill(tmp_path, written)) == written


@MANY
@given(batches, st.data())
def test_damage_is_an_error(tmp_path: Path, written: list[Batch], data: st.DataObject) -> None:
    path = spill_files.write_spill(tmp_path, written)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    with pytest.raises(StorageFormatError, match='spill'):
        spill_files.read_spill(path)


def test_files_are_found_oldest_first_wherever_they_had_to_go(
    tmp_path: Path, blocked: Path
) -> None:
    folder = tmp_path / 'experiments.db.spilled'
    batch = Batch(b'w' * 16, 1, [])
    first = spill_files.write_spill(folder, [batch])
    second = spill_files.write_spill(blocked, [batch])
    assert first.parent == folder
    assert str(second).startswith(str(tmp_path / 'tmp'))
    assert spill_files.find_spills(folder) == [first]
    assert spill_files.find_spills(blocked) == [second]


def test_files_that_storage_was_given_come_along_until_what_refers_to_them_is_stored(
    tmp_path: Path,
) -> None:
    folder = tmp_path / 'experiments.db.spilled'
    large, small = bytes(100_000), b'small'
    part = Part(1, 'a', None)
    for content in (large, small):
        file = PendingFile.of('atom', File(content, name='x'))
        sha256 = hashlib.sha256(content).hexdigest()
        file.reference = FileReference('x', file.media_type, len(content), sha256)
        part.pending.append(file)
        part.files[sha256] = None if content is large else small
    (batch,) = spill_files.read_spill(
        spill_files.write_spill(folder, [Batch(b'w' * 16, 1, [part])])
    )
    (read,) = batch.parts
    assert read.files == part.files
    (file,) = read.pending  # the small one is in the spill file itself
    assert file.reference == part.pending[0].reference
    assert isinstance(file.source, Path) and file.source.read_bytes() == large


def test_a_spill_file_of_before_files_came_along_is_read(tmp_path: Path) -> None:
    payload = encode_points([[['77' * 16, 1, [[1, 'a', 0, [], '', [], []]]]]])
    path = tmp_path / 'x.spill'
    path.write_bytes(b'neptune_async spill 1\n' + frame(payload))
    assert spill_files.read_spill(path) == [Batch(b'w' * 16, 1, [Part(1, 'a', None)])]


WITH_OWNERS = pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='files have no owner here')


@WITH_OWNERS
def test_the_folder_in_the_temporary_one_is_for_the_user_alone(blocked: Path) -> None:
    written = spill_files.write_spill(blocked, [])
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700


@WITH_OWNERS
def test_a_folder_that_another_user_has_put_there_is_not_used(
    blocked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other, user = os.geteuid() + 1, os.geteuid()
    planted = spill_files.write_spill(blocked, [])
    # The same files, as another user sees them at his name.
    theirs = planted.parent.with_name(planted.parent.name.replace(f'-{user}-', f'-{other}-'))
    planted.parent.rename(theirs)
    monkeypatch.setattr('os.geteuid', lambda: other)
    assert spill_files.find_spills(blocked) == []
    with pytest.raises(OSError, match='not a folder of the user'):
        spill_files.write_spill(blocked, [])
    assert [*theirs.iterdir()] == [theirs / planted.name]
    messenger.drain()
    assert f'{theirs} is not used' in caplog.text


@WITH_OWNERS
def test_links_in_the_temporary_folder_are_not_followed(
    blocked: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = spill_files.write_spill(blocked, [])
    link = written.with_name('link.spill')
    link.symlink_to(written)
    assert spill_files.find_spills(blocked) == [written]
    messenger.drain()
    assert f'{link} is not used' in caplog.text
    written.parent.rename(tmp_path / 'elsewhere')
    written.parent.symlink_to(tmp_path / 'elsewhere')
    assert spill_files.find_spills(blocked) == []
    with pytest.raises(OSError, match='not a folder of the user'):
        spill_files.write_spill(blocked, [])
