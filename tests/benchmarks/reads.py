"""The workloads that read much, or among much: W10 and W12 to W15."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

from .measuring import Measured, clock, loop, median, noise, peak_memory, seconds_of
from .systems import System

LENGTHS = [10**5, 10**6, 10**7, 10**8]
"""Points of the series whose steps begin at 0, as automatic ones do."""
LONG = 10**7
FROM_1 = 'from_1'
"""The series of ``LONG`` points whose steps begin at 1, as those of many training loops do: the
edges of no bucket are those of its chunks.
"""


def lengthen(system: System, folder: Path, share: float) -> Measured:
    """Write a long series of each kind."""
    run = system.open(folder)
    values = noise(2**16)
    for length in LENGTHS:
        points = islice(cycle(values), int(length * share))
        loop(system.single)(run, f'from_0/{length}', points)
    points = islice(cycle(values), int(LONG * share))
    loop('run[path].log(x, step=i + 1)')(run, FROM_1, points)
    system.close(run)
    return {}


def _medians_of(function: Callable[..., object], *arguments: object, most: int = 9) -> float:
    return median(seconds_of(function, *arguments) for _ in range(most))


# ── W10 ──────────────────────────────────────────────────────────────────────

_EXPERIMENTS = 10_000
_SERIES_EACH = 100
_BATCH_EXPERIMENTS = 100
_COMPARED = 20


def stock(system: System, folder: Path, share: float) -> Measured:
    """Fill a store with 10,000 experiments of 100 series, each in a chunk: by batches as storage
    takes them, since to open and close 10,000 experiments is not what is measured.
    """
    _write_experiments(folder, share, _curves)
    return {}


def _write_experiments(folder: Path, share: float, part: Callable[[int], Any]) -> None:
    """Write experiments, of each what a function of its number returns."""
    import anyio

    from neptune_async._model import operations as model
    from neptune_async._storage.sqlite import SQLiteStorage

    async def fill_store() -> None:
        storage = SQLiteStorage(str(folder / 'experiments.db'))
        await storage.open(writable=True)
        count = int(_EXPERIMENTS * share)
        for number, first in enumerate(range(0, count, _BATCH_EXPERIMENTS), 1):
            numbers = range(first, min(count, first + _BATCH_EXPERIMENTS))
            await storage.write(model.Batch(b'benchmark'.ljust(16), number, [*map(part, numbers)]))
            while await storage.compact('everything'):
                pass
        await storage.close()

    anyio.run(fill_store)


def _curves(experiment: int) -> Any:
    from neptune_async._model import operations as model

    first = _SERIES_EACH * experiment
    variables = [
        model.Variable(first + n, f'train/metric_{n:02}', 'series', 'float')
        for n in range(_SERIES_EACH)
    ]
    points = array('d')
    for step, variable in product(range(3), variables):
        key = model.point_key(variable.id)
        points.extend([key, model.AUTOMATIC_STEP, 1.7e9 + step, 0.1 * variable.id])
    creations: list[Any] = [model.CreateVariable(variable) for variable in variables]
    name, count = f'run-{experiment}', 3 * _SERIES_EACH
    return model.Part(-experiment - 1, name, None, creations, points, count=count)


def browse(system: System, folder: Path, share: float) -> Measured:
    """Look for something among many experiments, each time as a new process does."""
    from neptune_async import Experiment, compare
    from neptune_async._engine.lifecycle import workers
    from neptune_async._storage import registry

    import_module('pandas')  # how long that takes is not what is measured
    storage = folder / 'experiments.db'
    count = int(_EXPERIMENTS * share)

    def listed() -> None:
        worker = workers.acquire(registry.resolve(storage))
        ask = partial(worker.call, worker.connection.ask)
        found = ask(lambda store: store.find_experiments()).result()
        ids = [experiment.id for experiment in found]
        counts = ask(lambda store: store.count_variables(ids)).result()
        workers.release(worker)
        assert len(found) == count
        assert {*counts.values()} == {_SERIES_EACH}

    def shown() -> None:
        with Experiment(f'run-{count // 2}', storage=storage, mode='read', echo=False) as exp:
            assert len(exp.to_dict()['train']) == _SERIES_EACH
            assert '</svg>' in exp._repr_html_()

    def compared() -> None:
        names = [f'run-{n}' for n in range(0, count, 10)]
        paths = [f'train/metric_{n:02}' for n in range(_COMPARED)]
        assert compare(names, paths, storage=storage).shape == (len(names), _COMPARED)

    def command(*arguments: str) -> float:
        """Return the seconds of a command, its start included."""
        words = [sys.executable, '-m', 'neptune_async', *arguments, '--storage', str(storage)]
        run = partial(subprocess.run, words, stdout=subprocess.DEVNULL, check=True)
        return median(seconds_of(run) for _ in range(5))

    return {
        'list': median(seconds_of(listed) for _ in range(5)),
        'show': median(seconds_of(shown) for _ in range(5)),
        'list_command': command('list'),
        'show_command': command('show', f'run-{count // 2}'),
        'compare': median(seconds_of(compared) for _ in range(3)),
    }


# ── W12 ──────────────────────────────────────────────────────────────────────

_BUCKETS = 2_000


def overviews_without_numpy(system: System, folder: Path, share: float) -> Measured:
    measured = _overviews(folder, share)
    assert 'numpy' not in sys.modules
    return {f'plain_{name}': number for name, number in measured.items()}


def overviews_with_numpy(system: System, folder: Path, share: float) -> Measured:
    import_module('numpy')
    return {f'numpy_{name}': number for name, number in _overviews(folder, share).items()}


def _overviews(folder: Path, share: float) -> Measured:
    from neptune_async._engine.reading.overviews import overviews
    from neptune_async._engine.store import opened

    with opened(folder / 'experiments.db') as store:
        experiment = store.find('benchmark')

        def view(path: str, axis: str = 'step') -> int:
            variables = {experiment.id: store.variables(experiment, path)}
            found = store.call(overviews, variables, axis, _BUCKETS)
            (overview,) = found.series.values()
            return sum(overview.buckets.points)

        memory = peak_memory()
        assert view(f'from_0/{LONG}') == int(LONG * share)
        measured: Measured = {'memory': peak_memory() - memory}
        for length in LENGTHS:
            path = f'from_0/{length}'
            assert view(path) == int(length * share)
            measured[str(length)] = _medians_of(view, path)
        assert view(FROM_1) == int(LONG * share)
        measured[FROM_1] = _medians_of(view, FROM_1)
        measured['time'] = _medians_of(view, f'from_0/{LONG}', 'time', most=3)
    return measured


# ── W13 ──────────────────────────────────────────────────────────────────────

_WINDOW = 10_000


def windows(system: System, folder: Path, share: float) -> Measured:
    """Read as many points of a series, wherever they are, by steps and by times."""
    from neptune_async import Experiment

    storage = folder / 'experiments.db'
    measured: Measured = {}
    with Experiment('benchmark', storage=storage, mode='read', echo=False) as run:
        for length in LENGTHS:
            places = _windows(int(length * share), first=0)
            measured[str(length)] = _slowest_window(run[f'from_0/{length}'], places)
        measured[FROM_1] = _slowest_window(run[FROM_1], _windows(int(LONG * share), first=1))
    return measured


def _windows(count: int, first: int) -> Iterator[dict[str, int]]:
    """Yield windows at the beginning, in the middle and at the end of so many steps."""
    size = min(_WINDOW, count)
    for start in (0, (count - size) // 2, count - size):
        yield {'first_step': first + start, 'last_step': first + start + size - 1}


def _slowest_window(view: Any, windows: Iterable[dict[str, int]]) -> float:
    seconds = []
    for window in windows:
        found = view.to_numpy(**window)
        assert len(found) == window['last_step'] - window['first_step'] + 1
        seconds.append(_medians_of(partial(view.to_numpy, **window)))
        by_time = {
            'first_time': float(found['timestamp'][0]),
            'last_time': float(found['timestamp'][-1]),
        }
        assert len(view.to_numpy(**by_time)) >= len(found)
        seconds.append(_medians_of(partial(view.to_numpy, **by_time)))
    return max(seconds)


def whole(system: System, folder: Path, share: float) -> Measured:
    """Read a long series into arrays, beside copying those."""
    import_module('numpy')
    from neptune_async import Experiment

    storage = folder / 'experiments.db'
    with Experiment('benchmark', storage=storage, mode='read', echo=False) as run:
        view = run[f'from_0/{LONG}']
        memory = peak_memory()
        found = view.to_numpy()
        memory = peak_memory() - memory
        assert len(found) == int(LONG * share)
        copy = _medians_of(found.copy, most=5)
        size = found.nbytes
        del found
        seconds = _medians_of(view.to_numpy, most=5)
    return {'whole': seconds, 'whole_copies': seconds / copy, 'whole_sizes': memory / size}


# ── W14 ──────────────────────────────────────────────────────────────────────

_PATHS = ['params/lr', 'params/epochs', 'params/optimizer', 'tags', 'valid/acc', 'valid/loss']


def enrol(system: System, folder: Path, share: float) -> Measured:
    """Fill a store with 10,000 experiments that have parameters, tags and two series."""
    _write_experiments(folder, share, _trained)
    return {}


def _trained(experiment: int) -> Any:
    from neptune_async._model import operations as model
    from neptune_async._model.values import encode

    first = len(_PATHS) * experiment
    kinds: list[Any] = [
        ('atom', 'float'), ('atom', 'int'), ('atom', 'str'),
        ('set', 'str'), ('series', 'float'), ('series', 'float'),
    ]  # fmt: skip
    made = [
        model.Variable(first + n, path, *kind)
        for n, (path, kind) in enumerate(zip(_PATHS, kinds, strict=True))
    ]
    values = [1e-4 * (1 + experiment % 100), experiment % 50, ('adam', 'sgd')[experiment % 2]]
    operations: list[Any] = [
        *map(model.CreateVariable, made),
        *(
            model.Assign(variable.id, variable.content, encode(value))
            for variable, value in zip(made, values, strict=False)
        ),
        model.AddMembers(made[3].id, (encode(('cnn', 'mlp', 'rnn')[experiment % 3]),)),
    ]
    points = array('d')
    for step, variable in product(range(10), made[4:]):
        accuracy = 0.1 * step * (31 * experiment % 97) / 97
        key = model.point_key(variable.id)
        points.extend([key, model.AUTOMATIC_STEP, 1.7e9 + step, accuracy])
    count = len(operations) + 20
    return model.Part(-experiment - 1, f'run-{experiment}', None, operations, points, count=count)


def select(system: System, folder: Path, share: float) -> Measured:
    """Select experiments by three conditions, and compare all of them, in one process."""
    from neptune_async import compare, list_experiments

    import_module('pandas')
    storage = folder / 'experiments.db'
    where = "params/lr < 0.005 and valid/acc.max > 0.45 and 'cnn' in tags"
    count = int(_EXPERIMENTS * share)

    def selected() -> None:
        assert 0 < len(list_experiments(storage, where=where)) < count / 2

    def compared() -> None:
        assert compare(paths=_PATHS, storage=storage).shape == (count, len(_PATHS))

    selected()
    compared()
    return {'select': _medians_of(selected), 'compare': _medians_of(compared, most=5)}


# ── W15 ──────────────────────────────────────────────────────────────────────

_RUNS, _CHARTS = 20, 100
_FEW_BUCKETS = 500
_CHARTED, _SHORT = 10_000, 1_000
"""Points of the series that are drawn, and of those that are made a table of."""


def chart(system: System, folder: Path, share: float) -> Measured:
    """Write what charts are drawn of, and what tables are made of; the latter as Parquet, too."""
    import duckdb

    from neptune_async import fetch_metrics

    _fill(folder / 'charts.db', _RUNS, int(_CHARTED * share))
    _fill(folder / 'tables.db', _RUNS // 2, int(_SHORT * share))
    frame = fetch_metrics(storage=folder / 'tables.db')
    duckdb.from_df(frame).write_parquet(str(folder / 'tables.parquet'))
    return {}


def _fill(storage: Path, runs: int, points: int) -> None:
    from neptune_async import Experiment

    values = noise(2**16)
    paths = [f'metric_{n:03}' for n in range(_CHARTS)]
    for number in range(runs):
        with Experiment(f'run-{number}', storage=storage, echo=False) as run:
            own = islice(cycle(values), number, None)
            for _ in range(points):
                run['train'].log(dict(zip(paths, own, strict=False)))


def charts_without_numpy(system: System, folder: Path, share: float) -> Measured:
    measured = _charts(folder, share)
    assert 'numpy' not in sys.modules
    return {'plain_charts': measured}


def charts_with_numpy(system: System, folder: Path, share: float) -> Measured:
    import_module('numpy')
    return {'numpy_charts': _charts(folder, share)}


def _charts(folder: Path, share: float) -> float:
    from neptune_async._engine.reading.overviews import overviews
    from neptune_async._engine.store import opened

    with opened(folder / 'charts.db') as store:
        experiments = [store.find(f'run-{n}') for n in range(_RUNS)]

        def draw() -> None:
            variables = {each.id: store.variables(each) for each in experiments}
            found = store.call(overviews, variables, 'step', _FEW_BUCKETS)
            assert len(found.series) == _RUNS * _CHARTS
            for overview in found.series.values():
                assert sum(overview.buckets.points) == int(_CHARTED * share)

        draw()
        return _medians_of(draw, most=3)


def beside_duckdb(system: System, folder: Path, share: float) -> Measured:
    """Make a frame of many series, in turns with DuckDB of the same rows from Parquet."""
    import duckdb

    from neptune_async import fetch_metrics

    rows = _CHARTS * (_RUNS // 2) * int(_SHORT * share)
    parquet = str(folder / 'tables.parquet')
    systems: dict[str, Callable[[], Any]] = {
        'frame': lambda: fetch_metrics(storage=folder / 'tables.db'),
        'duckdb': lambda: duckdb.read_parquet(parquet).df(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for turn, (name, read) in product(range(6), systems.items()):
        start = clock()
        found = read()
        if turn:  # the first imports and warms up
            seconds[name].append(clock() - start)
        assert found.shape == (rows, 5)
        del found
    frame, by_duckdb = median(seconds['frame']), median(seconds['duckdb'])
    return {'frame': frame, 'duckdb': by_duckdb, 'frame_duckdbs': frame / by_duckdb}
