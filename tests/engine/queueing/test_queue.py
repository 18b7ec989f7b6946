"""The queue: any thread fills it, the worker empties it, every operation is counted."""

from __future__ import annotations

import signal
import sys
import threading
import tracemalloc
from array import array
from pathlib import Path
from typing import Any

import pytest
from faults.child import wait_until

from neptune_async import Experiment
from neptune_async._engine.queueing import alarm
from neptune_async._engine.queueing.buffers import MemoryBuffer
from neptune_async._engine.queueing.queue import Queue
from neptune_async._model.operations import POINT, POINT_FIELDS, Delete, Part, Rewind
from neptune_async.exceptions import QueueFullError


class Consumer:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.wakes: list[bool] = []

    def wake(self, hurry: bool) -> None:
        self.wakes.append(hurry)


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def queue(consumer: Consumer) -> Queue:
    return Queue('test', 100, consumer)


def put(queue: Queue, number: float) -> None:
    queue.append_point(POINT.pack(2.0, 0.0, 0.0, number))


def taken(queue: Queue) -> list[float]:
    part = Part(1, 'test', 0)
    queue.take(part, b'w' * 16, 1)
    return list(part.points[3::POINT_FIELDS])


def test_what_is_being_taken_is_pending_all_the_time(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(queue.pending))
    take = MemoryBuffer.take

    def take_while_another_reads(*arguments: Any) -> array[float]:
        points = take(*arguments)
        reader.start()
        reader.join(0.1)  # as long as it may take to read what is half done
        return points

    monkeypatch.setattr(MemoryBuffer, 'take', take_while_another_reads)
    for number in range(5):
        put(queue, number)
    assert taken(queue) == [0, 1, 2, 3, 4]
    reader.join()
    assert seen == [5]


def test_what_is_put_is_taken_once_and_in_order(queue: Queue) -> None:
    for number in range(5):
        put(queue, number)
    assert (len(queue), queue.pending) == (5, 5)
    assert taken(queue) == [0, 1, 2, 3, 4]
    assert taken(queue) == []
    assert (len(queue), queue.pending) == (0, 5)
    queue.settle(5, rejected=2)
    stats = queue.stats(0, None)
    assert (stats.accepted, stats.committed, stats.rejected, stats.pending) == (5, 3, 2, 0)


def test_a_thread_that_fills_while_another_empties_loses_nothing(consumer: Consumer) -> None:
    queue = Queue('test', 10**9, consumer)
    count = 100_000
    filler = threading.Thread(target=lambda: [put(queue, n) for n in range(count)])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        filler.start()
        found: list[float] = []
        while filler.is_alive():
            found += taken(queue)
        filler.join()
        found += taken(queue)
    finally:
        sys.setswitchinterval(interval)
    assert found == list(range(count))


def test_the_worker_is_woken_once_and_again_when_it_has_to_hurry(
    monkeypatch: pytest.MonkeyPatch, consumer: Consumer
) -> None:
    monkeypatch.setattr(alarm, '_HURRY', 10)
    queue = Queue('test', 100, consumer)
    for number in range(30):
        if len(queue.points) >= queue.mark:
            assert queue.admit(1, 'raise')
        put(queue, number)
    assert consumer.wakes == [False, True]
    taken(queue)
    queue.admit(1, 'raise')
    assert consumer.wakes == [False, True]
    queue.rest()
    queue.admit(1, 'raise')
    assert consumer.wakes == [False, True, False]


def test_a_queue_does_not_rest_while_something_waits(queue: Queue, consumer: Consumer) -> None:
    queue.admit(1, 'raise')
    put(queue, 0)
    queue.rest()
    queue.admit(1, 'raise')
    assert consumer.wakes == [False]
    assert len(queue.points) < queue.mark


def test_a_full_queue_meets_each_policy(queue: Queue) -> None:
    for number in range(100):
        assert queue.admit(1, 'raise')
        put(queue, number)
    with pytest.raises(QueueFullError, match="'test'"):
        queue.admit(1, 'raise')
    assert not queue.admit(3, 'drop')
    assert queue.admit(100, 'head-room')
    with pytest.raises(QueueFullError, match='flush first'):
        queue.admit(101, 'head-room')
    assert queue.stats(0, None).dropped == 3

    waited = threading.Thread(target=queue.admit, args=(1, 'block'))
    waited.start()
    taken(queue)
    queue.settle(100, rejected=0)
    waited.join(30)
    assert not waited.is_alive()


def test_what_is_spilled_makes_room_and_stays_pending(queue: Queue) -> None:
    for number in range(100):
        assert queue.admit(1, 'raise')
        put(queue, number)
    taken(queue)
    queue.spill(100)
    assert queue.admit(1, 'raise')
    put(queue, 100)
    assert (queue.pending, queue.in_memory) == (101, 1)
    assert queue.stats(0, None).oldest_pending_age > 0
    queue.settle(100, rejected=1, spilled=True)
    stats = queue.stats(0, None)
    assert (stats.pending, stats.committed, stats.rejected) == (1, 99, 1)
    assert queue.in_memory == 1


def test_what_was_sealed_is_taken_on_its_own_and_the_worker_is_told_of_the_rest(
    queue: Queue, consumer: Consumer
) -> None:
    parts: list[Part] = []
    for step in range(3):
        put(queue, step)
        queue.put_text((4.0, 0.0, 0.0, str(step)))
        queue.put_operation(Delete(str(step)))
        with queue.writing:
            queue.seal()
            queue.put_operation(Rewind('', step))
        assert queue.mark == 0
    assert (queue.batches, len(queue), queue.concerns(99)) == (4, 12, True)
    while len(queue):
        parts.append(Part(1, 'test', 0))
        assert queue.take(parts[-1], b'w' * 16, len(parts))
    assert [part.operations for part in parts] == [
        [Delete('0')],
        [Rewind('', 0), Delete('1')],
        [Rewind('', 1), Delete('2')],
        [Rewind('', 2)],
    ]
    assert [part.points[3::POINT_FIELDS].tolist() for part in parts] == [[0], [1], [2], []]
    assert [[text[3] for text in part.texts] for part in parts] == [['0'], ['1'], ['2'], []]
    assert [part.count for part in parts] == [3, 4, 4, 1]
    assert consumer.wakes == [True, True, True]
    assert queue.batches == 1


def test_an_empty_queue_has_nothing_to_seal(queue: Queue) -> None:
    queue.seal()
    assert queue.batches == 1


def test_one_call_may_bring_more_than_the_limit(queue: Queue) -> None:
    assert queue.admit(1_000, 'raise')


def test_after_the_end_everything_is_dropped_and_counted(queue: Queue) -> None:
    queue.finish()
    assert not queue.admit(2, 'block')
    assert queue.stats(0, None).dropped == 2


def test_without_a_gil_points_are_appended_under_the_lock(
    monkeypatch: pytest.MonkeyPatch, consumer: Consumer
) -> None:
    monkeypatch.setattr(sys, '_is_gil_enabled', lambda: False, raising=False)
    queue = Queue('test', 100, consumer)
    put(queue, 1.0)
    assert queue.append_point != queue.points.frombytes
    assert taken(queue) == [1.0]


@pytest.mark.busy
def test_a_signal_handler_may_log_in_the_middle_of_a_log(tmp_path: Path, beside: str) -> None:
    with Experiment('signal', storage=tmp_path / 'x.db') as exp:
        handled = 0

        def log(*_: object) -> None:
            nonlocal handled
            exp['handled'].log(float(handled))
            exp['text'].log(str(handled))
            handled += 1
            signal.setitimer(signal.ITIMER_REAL, 0.001)  # only now: it must not interrupt itself

        previous = signal.signal(signal.SIGALRM, log)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        try:
            count = 0
            while handled < 100:
                exp['x'].log(float(count))
                exp['text-too'].log(str(count))
                count += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        assert exp['x'].all() == [float(n) for n in range(count)]
        assert exp['handled'].all() == [float(n) for n in range(handled)]
        assert exp['text'].all() == [str(n) for n in range(handled)]


def test_a_thousand_logs_wake_the_worker_a_few_times_and_leave_no_objects(tmp_path: Path) -> None:
    with Experiment('cost', storage=tmp_path / 'x.db', flush_interval=60) as exp:
        for path in ('a', 'b/c'):
            exp[path].log(0.0)
        exp.flush()
        wakes: list[bool] = []
        wake = exp._worker.wake
        exp._worker.wake = lambda hurry: (wakes.append(hurry), wake(hurry))[1]  # type: ignore[method-assign]
        exp['a'].log(0.5)
        tracemalloc.start()
        before = tracemalloc.take_snapshot()
        for _ in range(1_000):
            exp['a'].log(0.5)
            exp['b/c'].log(0.25, step=3)
        difference = tracemalloc.take_snapshot().compare_to(before, 'filename')
        tracemalloc.stop()
        # One buffer grows; there is no object for a point.
        ours = [stat for stat in difference if 'neptune_async' in stat.traceback[0].filename]
        assert sum(stat.count_diff for stat in ours) < 10
        assert sum(stat.size_diff for stat in ours) < 2_000 * POINT.size * 1.5
        assert len(wakes) <= 1


def test_a_shorter_interval_does_not_wait_for_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    with Experiment('slow', storage=path, flush_interval=60.0) as slow:
        slow['x'].log(1.0)
        slow.flush()  # the worker is awake now, and looks again in a minute
        with Experiment('quick', storage=path, flush_interval=0.01) as quick:
            quick['x'].log(1.0)
            wait_until(lambda: quick.pending == 0)
