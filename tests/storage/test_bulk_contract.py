"""Reading many variables at a time finds in every kind of store what reading each of them finds."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from neptune_async import Experiment
from neptune_async._storage import registry
from neptune_async._storage.base import Window
from neptune_async._storage.points import expanded

NOON = datetime(2020, 7, 6, 12, tzinfo=timezone.utc)
WINDOWS = [Window(), Window(last=1), Window(last=70), Window(first=3), Window(first=55, last=6)]


def log_some(url: str, name: str, count: int) -> None:
    with Experiment(name, storage=url) as exp:
        for n in range(count):
            exp['regular'].log(n * 1.5, timestamp=n)
            exp['irregular'].log(n, step=n * n % 97 / 2, timestamp=n)
            exp['texts'].log(f'text {n}' if n % 5 else 'nul \0')
            exp['times'].log(NOON, step=n)
            if n % 30 == 0:
                exp.flush()
        exp['params'].assign({'lr': 0.1, 'layers': [1, 2], 'none': None})
        exp['tags'].add('a', 'b')
        exp['empty'].add(1)
        exp['empty'].remove(1)


def shown(reading: Any, window: Window) -> list[Any]:
    rows: list[Any] = []
    for piece in reading.pieces:
        rows += zip(expanded(piece.steps), piece.times, piece.values, strict=True)
    return rows[max(0, window.start(reading.end) - reading.first) :]


@pytest.mark.asyncio
async def test_many_at_a_time_are_what_each_is(url: str) -> None:
    for name, count in (('a', 100), ('b', 7), ('c', 0)):
        log_some(url, name, count)
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        summaries = await storage.find_experiments()
        assert [summary.name for summary in summaries] == ['a', 'b', 'c']
        assert [s.name for s in await storage.find_experiments(['c', 'a', 'x'])] == ['a', 'c']
        variables = await storage.find_variables([summary.id for summary in summaries])
        latest = await storage.read_latest(variables)
        for summary in summaries:
            assert summary.created > 1.7e9
            own = await storage.list_variables(summary.id, None)
            assert variables[summary.id] == own
            assert await storage.count_variables([summary.id, -1]) == {summary.id: len(own)}
            for more in ([], [f'no/{n}' for n in range(1000)]):
                at = await storage.find_variables([summary.id], ['tags', 'no', *more])
                assert [v.path for v in at[summary.id]] == ['tags']
            found = await storage.find_paths([summary.id])
            assert sorted(found) == [variable.path for variable in own]
        every = await storage.find_paths([summary.id for summary in summaries])
        assert sorted(every) == sorted({v.path for some in variables.values() for v in some})
        assert await storage.find_paths([]) == []
        counts = await storage.count_variables([summary.id for summary in summaries])
        assert counts.keys() == variables.keys()
        assert await storage.count_variables([]) == {}
        for window in WINDOWS:
            many = await storage.read_many_series(variables, window, True, True)
            for experiment_id, some in variables.items():
                for variable in some:
                    if variable.container != 'series':
                        assert variable.id not in many
                        continue
                    one = await storage.read_series(
                        experiment_id, variable.path, window, True, True
                    )
                    assert one is not None
                    found = many[variable.id]
                    assert found.variable == variable and found.end == one.end
                    assert shown(found, window) == shown(one, window)
                    last = latest.series[variable.id]
                    assert last.count == one.end
                    assert shown(one, window)[-1:] in (
                        [], [(last.step, last.timestamp, last.value)],
                    )  # fmt: skip
        for experiment_id, some in variables.items():
            for variable in some:
                if variable.container == 'atom':
                    read = await storage.read_atom(experiment_id, variable.path)
                    assert read == (variable, latest.atoms[variable.id])
                elif variable.container == 'set':
                    members = await storage.read_set(experiment_id, variable.path)
                    assert members is not None
                    assert {*members[1]} == {*latest.sets.get(variable.id, ())}
    finally:
        await storage.close()


@pytest.mark.asyncio
async def test_the_last_point_of_an_experiment_is_known_wherever_it_is_kept(url: str) -> None:
    with Experiment('a', storage=url) as exp:
        exp['loss'].extend([0.5, 0.25], timestamps=[10.0, 30.0])
        exp['note'].log('merged', timestamp=20.0)
        exp['lost'].log(1.0, step=7, timestamp=90.0)
        exp.rewind(6)
    with Experiment('b', storage=url) as exp:
        exp['lr'].assign(0.1)
    storage = registry.create(url)
    await storage.open(writable=False)
    try:
        a, b = [summary.id for summary in await storage.find_experiments()]
        assert await storage.last_points([a, b]) == {a: 30.0}
        assert await storage.last_points([b]) == await storage.last_points([]) == {}
        with Experiment('a', storage=url) as exp:
            for path, value, time, greatest in (
                ('loss', 0.125, 40.0, 40.0), ('note', 'fresh', 50.0, 50.0),
                ('note', 'of before', 15.0, 40.0), ('loss', 0.0, 5.0, 15.0),
            ):  # fmt: skip
                exp[path].log(value, timestamp=time)
                exp.flush()
                assert await storage.last_points([a]) == {a: greatest}
    finally:
        await storage.close()
