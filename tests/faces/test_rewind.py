"""Rewind and fork: what was logged beyond a step is as if it had never been."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async import Experiment
from neptune_async.exceptions import (
    ContainerTypeError,
    ExperimentClosedError,
    ExperimentExistsError,
    InvalidNameError,
    InvalidPathError,
    InvalidStepError,
    ReadOnlyError,
    VariableNotFoundError,
)

from .test_round_trip import FEW, NAMES

pytestmark = pytest.mark.anyio


async def points(face: Any, exp: Any, path: str = 'loss') -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = await face.get(exp[path].all, with_steps=True)
    return found


# ── Rewind ───────────────────────────────────────────────────────────────────


async def test_a_rewind_drops_what_is_beyond_and_steps_go_on_from_there(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([0.5, 0.4, 9.0, 9.0])
        await face.get(exp.rewind, 1)
        exp['loss'].log(0.3)
        assert await points(face, exp) == [(0, 0.5), (1, 0.4), (2, 0.3)]
    async with face.open() as exp:
        await face.get(exp.rewind, 0)
        exp['loss'].log(0.2)
        assert await points(face, exp) == [(0, 0.5), (1, 0.2)]


async def test_a_rewind_takes_nothing_for_granted_of_the_order_of_steps(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([0, 1, 2, 3, 4, 5, 6], steps=[5, 7.5, 7, 5, 8, -3, 100])
        await face.get(exp.rewind, 7)
        assert await points(face, exp) == [(5, 0), (7, 2), (5, 3), (-3, 5)]
        exp['loss'].log(7)
        assert (await points(face, exp))[-1] == (8, 7)


async def test_a_rewind_before_all_leaves_series_that_begin_anew(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0, step=3)
        exp['text'].log('a')
        await face.get(exp.rewind, -1)
        assert await points(face, exp) == []
        exp['loss'].log(2.0)
        exp['text'].log('b')
        assert await points(face, exp) == [(0, 2.0)]
        assert await points(face, exp, 'text') == [(0, 'b')]


async def test_a_path_limits_a_rewind_to_a_series_or_a_namespace(face: Any) -> None:
    async with face.open() as exp:
        for path in ('train/loss', 'train/deep/er', 'train2', 'valid'):
            exp[path].extend([0.0, 1.0, 2.0])
        await face.get(exp.rewind, 0, '/train/')
        await face.get(exp.rewind, 1, 'valid')
        lengths = {
            path: len(await points(face, exp, path))
            for path in ('train/loss', 'train/deep/er', 'train2', 'valid')
        }
        assert lengths == {'train/loss': 1, 'train/deep/er': 1, 'train2': 3, 'valid': 2}


async def test_a_rewind_keeps_atoms_sets_texts_and_datetimes_as_they_are(face: Any) -> None:
    then = datetime(2026, 3, 5, tzinfo=timezone.utc)
    async with face.open() as exp:
        exp['lr'].assign(0.1)
        exp['tags'].add('a')
        exp['events'].extend(['a', 'b', 'ü'], steps=[0, 9, 0])
        exp['times'].extend([then, then], steps=[0.5, 0.75])
        await face.get(exp.rewind, 0.5)
        assert await face.get(exp['lr'].read) == 0.1
        assert await face.get(exp['tags'].get) == {'a'}
        assert await points(face, exp, 'events') == [(0, 'a'), (0, 'ü')]
        assert await points(face, exp, 'times') == [(0.5, then)]


async def test_a_first_start_may_rewind_too(face: Any) -> None:
    async with face.open() as exp:
        await face.get(exp.rewind, 0)
        exp['only-an/atom'].assign(1)
        await face.get(exp.rewind, 0, 'only-an')
        assert await face.get(exp['only-an/atom'].read) == 1


async def test_a_rewind_of_what_is_no_series_is_refused(face: Any) -> None:
    async with face.open() as exp:
        exp['train/loss'].log(1.0)
        exp['lr'].assign(0.1)
        with pytest.raises(ContainerTypeError, match="'lr' is a variable of type Atom"):
            await face.get(exp.rewind, 0, 'lr')
        with pytest.raises(VariableNotFoundError, match="'trian'; did you mean 'train'"):
            await face.get(exp.rewind, 0, 'trian')
        assert exp.pending <= 2


@pytest.mark.parametrize('step', [None, 'two', math.nan, math.inf, 2**53 + 1], ids=repr)
async def test_a_bad_step_is_refused(face: Any, step: Any) -> None:
    async with face.open() as exp:
        with pytest.raises(InvalidStepError, match="'NPT-1'"):
            await face.get(exp.rewind, step)
        if step is not None:
            with pytest.raises(InvalidStepError, match="'NPT-1'"):
                await face.get(exp.fork, 'NPT-2', step)


async def test_a_bad_path_is_refused(face: Any) -> None:
    async with face.open() as exp:
        for path in ('/', None, 'a\nb'):
            with pytest.raises(InvalidPathError, match="'NPT-1'"):
                await face.get(exp.rewind, 0, path)


async def test_what_another_process_has_made_and_stored_is_rewound_too(face: Any) -> None:
    async with face.open() as exp:
        exp['mine'].extend([0.0, 1.0])
        await face.get(exp.flush)
        in_another_process(face, "exp['theirs/loss'].extend([0, 1]); exp['theirs/lr'].assign(1)")
        await face.get(exp.rewind, 0, 'theirs')
        await face.get(exp.flush)  # what others store before the rewind is would be dropped, too
        in_another_process(face, "exp['theirs/loss'].extend([2, 3])")
        await face.get(exp.rewind, 1, 'theirs/loss')
        with pytest.raises(ContainerTypeError, match='Atom'):
            await face.get(exp.rewind, 0, 'theirs/lr')
        assert await points(face, exp, 'mine') == [(0, 0), (1, 1)]
        assert await points(face, exp, 'theirs/loss') == [(0, 0), (1, 2)]


async def test_another_process_goes_on_from_what_a_rewind_has_left(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([0.0, 1.0, 2.0, 3.0])
        await face.get(exp.flush)
        in_another_process(face, "exp.rewind(1); exp['loss'].log(22)")
        exp['loss'].log(33.0)
        assert await points(face, exp) == [(0, 0), (1, 1), (2, 22), (3, 33)]


def in_another_process(face: Any, calls: str) -> None:
    script = (
        f'from neptune_async import Experiment\n'
        f'with Experiment("NPT-1", storage={face.storage!r}) as exp: {calls}'
    )
    subprocess.run([sys.executable, '-c', script], check=True)


async def test_a_journal_that_begins_after_a_rewind_has_its_turn_after_it(face: Any) -> None:
    async with face.open(flush_interval=60) as exp:
        exp['loss'].extend([0.0, 1.0, 2.0])
        await face.get(exp.rewind, 1)
        exp['loss'].log(2.0)
        async with face.open(durability='call') as journaled:
            for step in (2, 1):
                journaled['loss'].extend([3.0, 4.0])
                await face.get(journaled.rewind, step)
            journaled['loss'].log(5.0)
            assert await points(face, exp) == [(0, 0.0), (1, 1.0), (2, 5.0)]


@pytest.mark.parametrize('durability', ['interval', 'call'])
async def test_rewinds_are_in_order_with_all_that_waits_in_the_queue(
    face: Any, durability: str
) -> None:
    async with face.open(flush_interval=60, durability=durability) as exp:
        for round_ in range(5):
            exp['loss'].extend([round_ + n / 10 for n in range(10)])
            exp['text'].extend([f'{round_}:{n}' for n in range(10)])
            await face.get(exp.rewind, 10 + round_, 'text')
            exp['gone'].log(float(round_))
            await face.get(exp.rewind, round_)
            if round_ % 2:
                await face.get(exp['gone'].delete)
        assert await points(face, exp) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
        assert await points(face, exp, 'text') == [(n, f'{n}:0') for n in range(5)]
        assert await points(face, exp, 'gone') == [(0, 4.0)]
        stats = exp.stats()
        assert (stats.pending, stats.committed) == (0, 5 * 21 + 10 + 2)


async def test_a_rewind_waits_for_room_in_a_queue_that_is_full(face: Any) -> None:
    async with face.open(max_pending=10, overflow='raise', flush_interval=60) as exp:
        for step in range(3, -1, -1):
            exp['loss'].extend([float(n) for n in range(10)])
            await face.get(exp.rewind, step)
            await face.get(exp.flush)
        assert await points(face, exp) == [(0, 0.0)]


async def test_automatic_timestamps_go_on_from_what_is_left(face: Any) -> None:
    soon, later = 4e9, 5e9
    async with face.open() as exp:
        exp['loss'].log(0.0, timestamp=soon)
        exp['loss'].log(1.0, timestamp=later)
        exp['loss'].log(2.0)
        await face.get(exp.rewind, 0)
        exp['loss'].log(3.0)
        found = await face.get(exp['loss'].all, with_timestamps=True)
        assert found == [(soon, 0.0), (soon, 3.0)]


async def test_steps_that_are_printed_stay_right(
    face: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with face.open(echo=True) as exp:
        for path in ('a', 'b/c', 'text'):
            exp[path].extend(['x'] * 4 if path == 'text' else [0.5] * 4)
        await face.get(exp.rewind, 1, 'b')
        exp['b/c'].log(1.0)
        await face.get(exp.rewind, 2.5)
        for path in ('a', 'b/c', 'new'):
            exp[path].log(1.0)
        exp['text'].log('y')
        assert [step for step, _ in await points(face, exp, 'b/c')] == [0, 1, 2, 3]
    printed = capsys.readouterr().out.splitlines()
    shown = [
        line.removeprefix('Experiment NPT-1: ').partition(', timestamp')[0] for line in printed
    ]
    assert shown[3:] == [
        'b: rewind step=1', 'b/c: log step=2', 'rewind step=2.5',
        'a: log step=3', 'b/c: log step=3', 'new: log step=0', 'text: log step=3',
    ]  # fmt: skip


async def test_reading_refuses_a_rewind_and_allows_a_fork(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([0.0, 1.0])
    async with face.open(mode='read') as exp:
        with pytest.raises(ReadOnlyError, match="'NPT-1'"):
            await face.get(exp.rewind, 0)
        fork = await face.get(exp.fork, 'NPT-2')
        fork['loss'].log(2.0)
        assert await points(face, fork) == [(0, 0.0), (1, 1.0), (2, 2.0)]
        await face.close(fork)
        assert len(await points(face, exp)) == 2


async def test_disabled_rewinds_and_forks_in_memory(face: Any, tmp_path: Any) -> None:
    async with face.open(mode='disabled') as exp:
        exp['loss'].extend([0.0, 1.0])
        fork = await face.get(exp.fork, 'NPT-2', 0)
        await face.get(exp.rewind, -1)
        assert await points(face, exp) == []
        assert await points(face, fork) == [(0, 0.0)]
        await face.close(fork)
    assert list(tmp_path.iterdir()) == []


async def test_a_closed_experiment_is_neither_rewound_nor_forked(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].log(1.0)
    for call in (lambda: exp.rewind(0), lambda: exp.fork('NPT-2')):
        with pytest.raises(ExperimentClosedError):
            await face.get(call)


async def test_who_follows_a_series_sees_what_is_logged_after_a_rewind(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([float(n) for n in range(10)])
        await face.get(exp.flush)
        seen = exp['loss'].follow(last=2)
        first = await next_of(face, seen)
        assert (first.step, (await next_of(face, seen)).value) == (8, 9.0)
        # As many as were dropped, so that the number of points does not tell.
        await face.get(exp.rewind, 4)
        exp['loss'].extend([50.0, 60.0, 70.0, 80.0, 90.0])
        await face.get(exp.flush)
        assert [(await next_of(face, seen)).step for _ in range(5)] == [5, 6, 7, 8, 9]
        await face.get(exp.rewind, 0)
        await face.get(exp.flush)
        exp['loss'].log(100.0)
        await face.get(exp.flush)
        assert (await next_of(face, seen))[::2] == (1, 100.0)


async def next_of(face: Any, points: Any) -> Any:
    return await anext(points) if face.is_async else next(points)


# ── Fork ─────────────────────────────────────────────────────────────────────


async def test_a_fork_is_a_copy_that_lives_on_its_own(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([0.5, 0.4, 0.3], timestamps=[1.0, 2.0, 1.5])
        exp['text'].log('a', step=1.5)
        exp['params'].assign({'lr': 0.1, 'layers': [64, 10], 'none': None})
        exp['tags'].add('a', 'b')
        fork = await face.get(exp.fork, 'NPT-2')
        exp['loss'].log(9.0)
        exp['tags'].add('c')
        await face.get(exp['params'].delete)
        fork['loss'].log(0.2, timestamp=9.0)
        fork['text'].log('b')

        stored = await face.get(fork['loss'].all, with_steps=True, with_timestamps=True)
        assert stored == [(0, 1.0, 0.5), (1, 2.0, 0.4), (2, 1.5, 0.3), (3, 9.0, 0.2)]
        assert await points(face, fork, 'text') == [(1.5, 'a'), (2.5, 'b')]
        assert await face.get(fork['params/layers'].read) == [64, 10]
        assert await face.get(fork['params/none'].read) is None
        assert await face.get(fork['tags'].get) == {'a', 'b'}
        contents = await face.get(fork.namespace_contents)
        assert [*contents] == ['loss', 'params', 'tags', 'text']
        assert len(await points(face, exp)) == 4
        await face.close(fork)
    assert await face.list() == ['NPT-1', 'NPT-2']
    await face.delete('NPT-1')
    async with face.open('NPT-2', mode='read') as fork:
        assert len(await points(face, fork)) == 4


async def test_a_fork_up_to_a_step_goes_on_from_there(face: Any) -> None:
    async with face.open() as exp:
        exp['loss'].extend([0.5, 0.4, 0.3, 0.2], steps=[0, 10, 20, 10])
        exp['late'].log(1.0, step=30)
        fork = await face.get(exp.fork, 'NPT-2', step=10)
        fork['loss'].log(0.1)
        fork['late'].log(2.0)
        assert await points(face, fork) == [(0, 0.5), (10, 0.4), (10, 0.2), (11, 0.1)]
        assert await points(face, fork, 'late') == [(0, 2.0)]
        assert len(await points(face, exp)) == 4
        await face.close(fork)


async def test_a_fork_has_the_options_of_its_source(face: Any) -> None:
    async with face.open(flush_interval=7, max_pending=70, overflow='drop', strict=False) as exp:
        fork = await face.get(exp.fork, 'NPT-2')
        assert {**fork._arguments(), 'name': 'NPT-1'} == exp._arguments()
        await face.close(fork)


async def test_a_fork_needs_a_name_of_its_own(face: Any) -> None:
    async with face.open() as exp, face.open('taken') as taken:
        taken['x'].assign(1)
        for name in ('taken', 'NPT-1'):
            with pytest.raises(ExperimentExistsError, match=f'{name!r}.*another name, or delete'):
                await face.get(exp.fork, name)
        for name in ('', None, 7):
            with pytest.raises(InvalidNameError):
                await face.get(exp.fork, name)
        assert await face.get(taken['x'].read) == 1
    assert await face.list() == ['NPT-1', 'taken']


async def test_a_fork_of_a_fork_and_of_a_store_in_memory(face: Any) -> None:
    async with face.open(storage=':memory:') as exp:
        exp['loss'].extend([0.0, 1.0, 2.0])
        two = await face.get(exp.fork, 'NPT-2', 1)
        three = await face.get(two.fork, 'NPT-3', 0)
        assert await points(face, three) == [(0, 0.0)]
        await face.close(three)
        await face.close(two)


# ── Any order ────────────────────────────────────────────────────────────────

steps = st.none() | st.integers(-5, 15) | st.sampled_from([0.5, 2.5, 7.25])
times = st.none() | st.integers(0, 2**33)
paths = st.sampled_from(['a/x', 'a/y', 'b', 'a/text'])
calls = st.one_of(
    st.tuples(st.just('log'), paths, st.lists(st.tuples(steps, times), min_size=1, max_size=6)),
    st.tuples(
        st.just('rewind'), st.integers(-6, 15) | st.just(2.5), paths | st.sampled_from(['a', ''])
    ),
    st.sampled_from([('flush',), ('reopen',), ('fork',)]),
)


class Model:
    """Series as lists: step, timestamp (None where it is the time of the call), value."""

    def __init__(self) -> None:
        self.series: dict[str, list[tuple[float, int | None, Any]]] = {}

    def log(self, path: str, step: float | None, time: int | None, value: Any) -> None:
        own = self.series.setdefault(path, [])
        if step is None:
            step = max((step for step, _, _ in own), default=-1) + 1
        own.append((step, time, value))

    def rewind(self, step: float, path: str) -> None:
        for known, own in self.series.items():
            if path in ('', known) or known.startswith(f'{path}/'):
                self.series[known] = [point for point in own if point[0] <= step]


@FEW
@given(st.lists(calls, max_size=12))
def test_what_is_left_is_what_was_never_beyond(storage: str, calls: list[Any]) -> None:
    exp = Experiment(next(NAMES), storage=storage, flush_interval=60)
    model = Model()
    values = iter(range(1000))
    for kind, *arguments in calls:
        if kind == 'log':
            path, given_points = arguments
            for step, time in given_points:
                value = str(next(values)) if path == 'a/text' else float(next(values))
                exp[path].log(value, step=step, timestamp=time)
                model.log(path, step, time, value)
        elif kind == 'rewind':
            step, path = arguments
            if path and not any(f'{known}/'.startswith(f'{path}/') for known in model.series):
                with pytest.raises(VariableNotFoundError):
                    exp.rewind(step, path)
            else:
                before = {known: exp[known].all(True, True) for known in model.series}
                exp.rewind(step, path)
                model.rewind(step, path)
                # What is left has kept its timestamps, automatic ones included.
                for known, found in before.items():
                    left = {value for _, _, value in model.series[known]}
                    assert exp[known].all(True, True) == [p for p in found if p[2] in left]
        elif kind == 'flush':
            exp.flush()
        elif kind == 'reopen':
            exp.close()
            exp = Experiment(exp.name, storage=storage, flush_interval=60)
        else:
            fork = exp.fork(next(NAMES))
            exp.close()
            exp = fork
    for known, own in model.series.items():
        stored = exp[known].all(True, True)
        assert [(step, value) for step, _, value in stored] == [(s, v) for s, _, v in own]
        assert all(b in (None, a) for (_, a, _), (_, b, _) in zip(stored, own, strict=True))
    exp.close()


def test_long_series_are_cut_in_the_middle_of_their_chunks(storage: str) -> None:
    count = 30_000
    with Experiment('long', storage=storage) as exp:
        exp['up'].extend(range(count))
        exp['saw'].extend(range(count), steps=[n % 1000 for n in range(count)])
        exp['few'].extend(range(count), steps=[*range(count - 1), -7])
    with Experiment('long', storage=storage) as exp:
        exp['up'].extend(range(count, count + 10))
        exp.rewind(700)
        exp['saw'].log(-1.0)
        exp['up'].log(-1.0)
        kept = [n for n in range(count) if n % 1000 <= 700]
        assert exp['up'].all(True) == [*((n, n) for n in range(701)), (701, -1)]
        assert exp['few'].all(True) == [*((n, n) for n in range(701)), (-7, count - 1)]
        assert exp['saw'].all(True) == [*((n % 1000, n) for n in kept), (701, -1)]
        assert exp['saw'].tail(3) == [*kept[-2:], -1]
