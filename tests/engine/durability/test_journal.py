"""Journals: what is written is read, once its owner has died, and nothing that was cut off."""

from __future__ import annotations

import gc
import mmap
import os
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neptune_async import Experiment
from neptune_async._engine.durability import abandoned_journals, journal_segments
from neptune_async._engine.durability.abandoned_journals import AbandonedJournal, find_journals
from neptune_async._engine.durability.journal import Journal, own_journals
from neptune_async._engine.queueing.buffers import JournaledBuffer, MemoryBuffer
from neptune_async._messenger import messenger
from neptune_async._model.operations import POINT, Delete, Part
from neptune_async.exceptions import StorageFormatError

WRITER = b'w' * 16


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path, 7, 'EXPÉ', 10)
    yield made
    if made._folder.exists():
        made.remove()
    own_journals.discard(made._folder)


def points(*values: float) -> bytes:
    """Return the points of one call."""
    return b''.join(POINT.pack(2.0, float('nan'), 1.0, value) for value in values)


def values(found: Any) -> list[float]:
    return found[3::4].tolist()


def abandoned(journal: Journal) -> AbandonedJournal:
    """Return what another process would find, had the owner died."""
    return AbandonedJournal(journal._folder, -1)


def parts(journal: Journal) -> list[Part]:
    return [segment.batch.parts[0] for segment in abandoned(journal).segments()]


def test_what_is_written_is_read(journal: Journal) -> None:
    journal.write(points(1.0))
    journal.write(journal_segments.grouped(points(2.0, 3.0, 4.0)))
    journal.put([Delete('a/b')], [(4.0, 0.0, 2.0, 'text')])

    (part,) = parts(journal)
    assert (part.experiment_id, part.name, part.epoch) == (7, 'EXPÉ', None)
    assert values(part.points) == [1.0, 2.0, 3.0, 4.0]
    assert {*part.points[::4]} == {2.0}
    assert part.operations == [Delete('a/b')]
    assert part.texts == [(4.0, 0.0, 2.0, 'text')]
    assert part.count == 6


def test_a_sealed_segment_names_its_batch_and_the_next_follows_it(journal: Journal) -> None:
    journal.write(points(1.0))
    assert values(journal.cut()) == [1.0]
    journal.begin()
    journal.seal(WRITER, 3)
    journal.write(points(2.0))

    first, second = abandoned(journal).segments()
    assert (first.writer, first.number, second.number) == (WRITER, 3, 0)
    assert values(first.batch.parts[0].points) == [1.0]
    assert values(second.batch.parts[0].points) == [2.0]
    assert first.batch.writer != second.batch.writer


def test_a_segment_that_was_cut_and_has_no_batch_yet_comes_before_the_next(
    journal: Journal,
) -> None:
    for number in (1.0, 2.0):
        journal.write(points(number))
        journal.cut()
        assert not journal.is_empty
        journal.begin()
    journal.write(points(3.0))
    journal.seal(WRITER, 7)

    segments = abandoned(journal).segments()
    assert [segment.number for segment in segments] == [7, 0, 0]
    assert [values(segment.batch.parts[0].points) for segment in segments] == [[1.0], [2.0], [3.0]]


def test_a_released_segment_is_empty_and_used_again(journal: Journal) -> None:
    for number in range(1, 20):
        journal.write(points(number))
        journal.put([Delete(str(number))], [])
        assert values(journal.cut()) == [number]
        journal.begin()
        journal.seal(WRITER, number)
        assert not journal.is_empty
        journal.release(WRITER, number)
        assert journal.is_empty
        assert all(part.count == 0 for part in parts(journal))
    assert len([*journal._folder.glob('*.points')]) == 2


def test_a_process_may_die_between_any_two_lines_of_its_journal(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torn(mmap.mmap):
        """A mapped file that also shows what is there in the middle of a change."""

        def __setitem__(self, where: Any, content: Any) -> None:
            start, middle = where.start or 0, len(content) // 2
            super().__setitem__(slice(start, start + middle), content[:middle])
            seen.append(left())
            super().__setitem__(slice(start + middle, where.stop), content[middle:])

    def left() -> list[tuple[int, list[float]]]:
        segments = abandoned(journal).segments()
        return [(each.number, values(each.batch.parts[0].points)) for each in segments]

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_filename == journal_segments.__file__ and event == 'line':
            sys.settrace(None)
            seen.append(left())
            sys.settrace(trace)
        return trace

    seen: list[list[tuple[int, list[float]]]] = []
    monkeypatch.setattr(journal_segments.mmap, 'mmap', Torn)
    for number in range(1, 6):
        sys.settrace(trace)
        try:
            journal.write(POINT.pack(2.0, 0.0, 0.0, 0.0))
            journal.mark_whole()
            journal.write(points(number))
            journal.cut()
            journal.begin()
            journal.seal(WRITER, number)
            journal.release(WRITER, number)
        finally:
            sys.settrace(None)
        # What has no batch is whole, or not there yet.
        assert all(kept in ([], [0.0], [0.0, number]) for some in seen for n, kept in some if not n)
        assert len(seen) > 30
        assert any((0, [0.0, number]) in some for some in seen)
        assert not any(kept for _, kept in left())
        seen.clear()


def test_a_full_segment_grows(journal: Journal) -> None:
    written = 0
    for number in range(1_000):
        try:
            journal.write(points(number))
        except ValueError:
            journal.enlarge(POINT.size)
            journal.write(points(number))
            written += 1
    assert written > 10
    assert values(journal.points) == [*range(1_000)]
    assert values(parts(journal)[0].points) == [*range(1_000)]


def test_who_still_has_the_old_way_in_is_refused(journal: Journal) -> None:
    old = journal.write
    old(points(1.0))
    journal.cut()
    with pytest.raises(ValueError, match='range'):
        old(points(2.0))
    journal.begin()
    write = journal.write
    journal.enlarge(POINT.size)
    with pytest.raises(ValueError, match='range'):
        write(points(3.0))


def test_threads_that_write_while_another_seals_lose_nothing(tmp_path: Path) -> None:
    lock = threading.RLock()
    journal = Journal(tmp_path, 1, 'EXP', 64)
    buffer = JournaledBuffer('EXP', lock, journal, MemoryBuffer(lock))
    threads = [
        threading.Thread(
            target=lambda first=first: [
                buffer.append_point(points(first + n)) for n in range(20_000)
            ]
        )
        for first in (0, 10**6, 2 * 10**6)
    ]
    for thread in threads:
        thread.start()
    taken: list[float] = []
    number = 0
    while any(thread.is_alive() for thread in threads) or buffer.count:
        number += 1
        with lock:
            taken += values(buffer.take(WRITER, number))
        buffer.release(WRITER, number)
    assert len(taken) == 60_000
    for first in (0, 10**6, 2 * 10**6):
        own = [value for value in taken if first <= value < first + 10**6]
        assert own == [first + n for n in range(20_000)]
    buffer.end()
    assert [*tmp_path.iterdir()] == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.data(),
)
def test_a_call_that_was_cut_off_is_left_out_and_all_before_it_is_there(
    sizes: list[int], data: st.DataObject
) -> None:
    """Any 16 bytes of the last call may be missing: zero, as the file was."""
    calls, count = [], 0
    for size in sizes:
        calls.append(points(*(float(count + n + 1) for n in range(size))))
        count += size
    content = array('d', b''.join(map(journal_segments.grouped, calls)))
    last = len(array('d', calls[-1]))
    # They are copied 16 bytes or more at a time: time and value come together.
    pairs = data.draw(st.sets(st.integers(0, last // 2 - 1)))
    for pair in pairs:
        for n in (0, 1):
            content[len(content) - last + 2 * pair + n] = 0.0
    found = abandoned_journals._whole_points(content + array('d', bytes(64)), 0)
    before = values(array('d', b''.join(calls[:-1])))
    if not pairs:
        assert values(found) == before + values(array('d', calls[-1]))
    else:
        assert values(found) == before


def test_zeros_that_were_logged_are_no_damage(journal: Journal) -> None:
    journal.write(POINT.pack(3.0, 0.0, 0.0, 0.0))
    assert values(parts(journal)[0].points) == []  # as long as it may be one that was cut off
    journal.mark_whole()
    assert values(parts(journal)[0].points) == [0.0]


def test_operations_that_were_cut_off_are_left_out(journal: Journal) -> None:
    journal.put([Delete('a')], [])
    journal.put([Delete('b')], [])
    (path,) = journal._folder.glob('*.operations')
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        (part,) = parts(journal)
        assert part.operations == [Delete('a')] * (length >= len(whole) // 2)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_an_error_or_changes_nothing_before_it(
    tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / 'x.journal'
    folder.mkdir(exist_ok=True)
    journal = Journal(tmp_path, 7, 'EXP', 2)
    journal.write(points(1.0) + points(2.0))
    (path,) = journal._folder.glob('*.points')
    content = bytearray(path.read_bytes())
    journal.remove()
    # Not what tells whether storage has it, which changes as the owner goes on.
    places = st.integers(0, 15) | st.integers(24, 31) | st.integers(48, 90)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    (folder / '1.points').write_bytes(content)
    try:
        segments = AbandonedJournal(folder, -1).segments()
    except StorageFormatError:
        return
    for segment in segments:
        assert values(segment.batch.parts[0].points) == [1.0, 2.0]


FINDS = """
import sys
from pathlib import Path
from neptune_async._engine.durability.abandoned_journals import find_journals
found = [*find_journals(Path(sys.argv[1]))]
print(len(found))
for journal in found:
    journal.remove()
"""


def test_only_the_journal_of_a_dead_process_is_found_and_only_once(tmp_path: Path) -> None:
    def found() -> int:
        done = subprocess.run(
            [sys.executable, '-c', FINDS, tmp_path], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    script = (
        'import sys, os, pathlib\n'
        'from neptune_async._engine.durability.journal import Journal\n'
        "journal = Journal(pathlib.Path(sys.argv[1]), 1, 'EXP', 10)\n"
        "print('made', flush=True)\n"
        'if os.fork(): os.waitpid(-1, 0)\n'
        'else: sys.stdin.read()\n'  # a forked child does not hold it
        'os._exit(0)\n'
    )
    with subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', script, tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        owner.stdout.readline()
        assert found() == 0
        owner.kill()
        owner.wait()
        assert found() == 1
    assert found() == 0
    assert [*tmp_path.iterdir()] == []


def test_a_journal_of_this_process_is_not_found(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, 'EXP', 10)
    assert [*find_journals(tmp_path)] == []
    journal.remove()


def test_without_room_on_the_disk_points_stay_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.RLock()
    buffer = JournaledBuffer('EXP', lock, Journal(tmp_path, 1, 'EXP', 4), MemoryBuffer(lock))

    def full(*_: object) -> int:
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'pwrite', full)
        for number in range(10):
            buffer.append_point(points(number))
        assert buffer.count == 10
        assert values(buffer.content()) == [*range(10)]
        assert values(buffer.take(WRITER, 1)) == [*range(10)]
        buffer.append_points(points(1.0, 2.0))
        buffer.put([Delete('a')], [])
        assert values(buffer.take(WRITER, 2)) == [1.0, 2.0]
    messenger.drain()
    assert sum('No space left' in record.message for record in caplog.records) == 1
    buffer.release(WRITER, 1)
    buffer.release(WRITER, 2)
    buffer.append_point(points(3.0))
    assert values(buffer.take(WRITER, 3)) == [3.0]
    buffer.append_point(points(4.0))
    assert values(buffer.content()) == [4.0]


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
def test_closing_an_experiment_closes_the_files_of_its_journal_at_once(tmp_path: Path) -> None:
    gc.disable()  # or it might do it
    try:
        exp = Experiment('a', storage=tmp_path / 'experiments.db', durability='call')
        exp['loss'].log(1.0)
        assert open_files(tmp_path)
        exp.close()
        assert not open_files(tmp_path)
    finally:
        gc.enable()


def open_files(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    files = [os.readlink(file) for file in Path('/proc/self/fd').iterdir() if file.is_symlink()]
    return [file for file in files if file.startswith(str(folder))]
