"""What a user's code looks like to a type checker: checked by mypy, never run."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from neptune_async import (
    AsyncExperiment,
    Experiment,
    ExperimentView,
    FileReference,
    Histogram,
    Point,
    aio,
    compare,
    delete_experiment,
    fetch_metrics,
    list_experiments,
    stringified,
)
from neptune_async.exceptions import NeptuneAsyncError

Value: TypeAlias = float | str | datetime | FileReference | Histogram


@dataclass
class Config:
    lr: float = 0.1


def train(folder: Path) -> list[Value]:
    def told(error: NeptuneAsyncError) -> None:
        print(error)

    with Experiment('typed', storage=folder / 'runs.db', mode='create', on_error=told) as exp:
        view: ExperimentView = exp['train']['loss']
        view.log(0.3)
        view.log(1, step=3, timestamp=datetime.now())
        view.extend([0.1, 0.2], steps=[1, 2.5])
        exp['params'].assign({'lr': 0.1, 'layers': [64, 10], 'seed': None})
        exp['config'] = stringified(Config())
        exp['config']['by_epoch'] = {1: 0.5}
        exp['train'].log(Config())
        exp['tags'].add('a', 'b')
        exp['tags'].remove('a')
        following: Iterator[Point] = view.follow(timeout=1.0)
        print(next(following).step)
        exp.rewind(2, 'train')
        exp.rename('typed-1')
        with exp.fork('typed-2', step=1.5) as fork:
            fork['train/loss'].log(0.1)
        points = view.all(with_steps=True)
        print(points, exp.stats().pending, exp.pending, exp['tags'].get(), exp['x'].exists())
        return view.tail(10)


def analyse(view: ExperimentView) -> pd.DataFrame:
    best: pd.Series[float] = compare('run-*', ['lr', 'loss'])['loss']
    print(best.min(), view.to_numpy()['value'].sum(), len(view.to_pandas()))
    table = fetch_metrics(re.compile('^run'), 'train/*', max_points=100, output='arrow')
    print(table.num_rows, view.to_arrow().num_rows, view.to_dict())
    return fetch_metrics(['a', 'b'], duplicates='all', first_step=10, content='str')


async def evaluate() -> None:
    async with AsyncExperiment('typed', overflow='raise') as exp:
        exp['score'].log(0.5)
        values: list[Value] = await exp['score'].tail(1)
        following: AsyncIterator[Point] = exp['score'].follow()
        async for point in following:
            print(point.timestamp, values)
        print((await exp['score'].to_pandas()).value, await exp.to_dict())
        print((await aio.compare(paths='score')).score, await aio.fetch_metrics('typed'))
        await exp.drain()
        await exp.rewind(3)
        await exp.rename('typed-1')
        async with await exp.fork('typed-3') as fork:
            fork['score'].log(0.25)
        await exp.flush(timeout=1.0)
    opened = await AsyncExperiment.open('typed')
    await opened.aclose()


def clean(storage: str) -> None:
    for name in list_experiments(storage):
        delete_experiment(name, storage)
