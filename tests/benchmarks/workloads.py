"""The workloads, written once for all systems; each stage runs in a process of its own.

A stage takes the system, an empty folder and the share of the points to use, and
returns measurements by name: seconds, bytes, counts, and ratios within the process.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import count, cycle, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

from . import keeping, reads
from .measuring import (
    PATH,
    Measured,
    Stage,
    clock,
    compiled,
    loop,
    median,
    noise,
    peak_memory,
    seconds_of,
    size_of,
    timed_loop,
    turns_of_a_millisecond,
    until_durable,
    work,
)
from .systems import System

# ── W1 ───────────────────────────────────────────────────────────────────────


def tight(system: System, folder: Path, share: float) -> Measured:
    values = noise(int(200_000 * share))
    log = loop(system.single)
    run = system.open(folder)
    log(run, PATH, values[:10])
    memory, cpu = peak_memory(), sum(os.times()[:4])
    start = clock()
    log(run, PATH, values)
    until_durable(system, run)
    seconds = clock() - start
    system.close(run)
    return {
        'durable_rate': len(values) / seconds,
        'cpu_us': 1e6 * (sum(os.times()[:4]) - cpu) / len(values),
        'memory': peak_memory() - memory,
        'bytes': size_of(folder) / (len(values) + 10),
    }


def served(system: System, folder: Path, share: float) -> Measured:
    values = noise(int(200_000 * share))
    log = loop(system.single)
    run = system.open(folder)
    log(run, PATH, values[:10])
    system.flush(run)
    start = clock()
    log(run, PATH, values)
    until_durable(system, run)
    seconds = clock() - start
    system.close(run)
    return {'durable_rate': len(values) / seconds}


def calls(system: System, folder: Path, share: float) -> Measured:
    values = noise(int(200_000 * share))
    log = timed_loop(system.single)
    run = system.open(folder)
    log(run, PATH, values[:10])
    turns = sorted(log(run, PATH, values))
    system.close(run)
    return {'call_ns': turns[len(turns) // 2], 'call_p99_ns': turns[len(turns) * 99 // 100]}


# ── W2 ───────────────────────────────────────────────────────────────────────


def _wide(system: System, folder: Path, share: float, name: str, statement: str) -> Measured:
    steps = max(5, int(2_000 * share))
    values = noise(50 * steps)
    paths = [f'metric_{n:02}' for n in range(50)]
    dicts = [dict(zip(paths, values[s::steps], strict=True)) for s in range(steps)]
    log = timed_loop(statement, 'd')
    run = system.open(folder)
    log(run, PATH, dicts[:2])
    start = clock()
    turns = log(run, PATH, dicts)
    until_durable(system, run)
    seconds = clock() - start
    system.close(run)
    return {f'{name}_ns': median(turns) / 50, f'{name}_rate': len(values) / seconds}


def wide_batch(system: System, folder: Path, share: float) -> Measured:
    return _wide(system, folder, share, 'batch', system.batch)


def wide_single(system: System, folder: Path, share: float) -> Measured:
    return _wide(system, folder, share, 'single', f'for path, x in d.items(): {system.single}')


# ── W3 ───────────────────────────────────────────────────────────────────────

_BLOCK_STEPS = 5
_PAIRS = 150
_STRETCH_STEPS = 500


def train(system: System, folder: Path, share: float) -> Measured:
    """Blocks of the loop with logging and without it take turns, in changing order.

    They are of 5 ms, since within a tenth of a second the speed of a shared machine changes by
    ten times what logging costs, and it is what they compute that is compared. How much of its
    time the loop has to wait besides, for calls that block and for what is stored in the
    background, longer stretches tell, less what it waits without logging.
    """
    turns = turns_of_a_millisecond()
    d = dict(zip((f'metric_{n}' for n in range(10)), noise(10), strict=True))
    train = compiled(_TRAIN.format(statement=system.batch))
    run = system.open(folder)
    steps = count()

    def block(number: int, *, logs: bool) -> tuple[float, float]:
        """Return the seconds that the loop computes and those that it waits."""
        computed, own = time.thread_time(), islice(steps, number)
        seconds = seconds_of(train, run, d, own, logs, work, turns)
        computed = time.thread_time() - computed
        return computed, seconds - computed

    block(_BLOCK_STEPS, logs=True)
    time.sleep(0.3)  # what only the first flush has to do is not in the blocks
    ratios = []
    for pair in range(_PAIRS):
        order = (True, False) if pair % 2 else (False, True)
        computed = {logs: block(_BLOCK_STEPS, logs=logs)[0] for logs in order}
        ratios.append(computed[True] / computed[False])
    waits = []
    for logs in (False, True):
        computed_in_all, waited = block(_STRETCH_STEPS, logs=logs)
        waits.append(waited / computed_in_all)
    return {
        'overhead': median(ratios) - 1 + waits[1] - waits[0],
        'close': seconds_of(system.close, run),
    }


_TRAIN = """
def loop(run, d, steps, logs, work, turns):
    for i in steps:
        work(turns)
        if logs:
            {statement}
"""


# ── W4 ───────────────────────────────────────────────────────────────────────

_SERIES = 1_000


def fill(system: System, folder: Path, share: float) -> Measured:
    """Write what the runs of ``read`` read."""
    for part in ('long', 'many', 'variables'):
        (folder / part).mkdir()
    values = noise(_long(system, share))
    run = system.open(folder / 'long')
    loop(system.single)(run, PATH, values)
    system.close(run)
    if system.kind == 'peer':
        return {}
    run = system.open(folder / 'many')
    paths = [f'metric_{n}' for n in range(_SERIES)]
    points = int(1_000 * share)
    dicts = (dict(zip(paths, values[n : n + _SERIES], strict=True)) for n in range(points))
    loop(system.batch, 'd')(run, PATH, dicts)
    system.close(run)
    run = system.open(folder / 'variables')
    variables = {f'group_{n % 100}/{n}': 1.0 for n in range(int(100_000 * share))}
    loop(system.batch, 'd')(run, PATH, [variables])
    system.close(run)
    return {}


def _long(system: System, share: float) -> int:
    """A tenth for peers, of which some take a minute for that."""
    return int((100_000 if system.kind == 'peer' else 1_000_000) * share)


def read(system: System, folder: Path, share: float) -> Measured:
    count = _long(system, share)
    column = array('d', noise(count))
    measured = {'tolist': median(seconds_of(column.tolist) for _ in range(5))}
    del column
    reading = system.reader(folder / 'long')
    if reading is None:
        return {}
    found = len(reading(PATH, None))
    if found != count:
        raise AssertionError(f'{found:,} of {count:,} points were read')
    measured['all'] = median(seconds_of(reading, PATH, None) for _ in range(3)) / count
    measured['all_tolists'] = measured['all'] * count / measured['tolist']
    measured['tail'] = median(seconds_of(reading, PATH, 10) for _ in range(5))
    if system.kind != 'peer':
        many = system.reader(folder / 'many')
        assert many is not None
        start = clock()
        for n in range(_SERIES):
            assert len(many(f'{system.prefix}metric_{n}', None)) == int(1_000 * share)
        measured['many'] = clock() - start
    if system.kind == 'ourselves':
        start = clock()
        run = system.open(folder / 'variables')
        measured['open'] = clock() - start
        system.close(run)
    return measured


# ── W5 ───────────────────────────────────────────────────────────────────────


def kill(system: System, folder: Path, share: float) -> Measured:
    """Read what a process had logged that was killed a second after the last call returned."""
    store = folder / 'store'
    store.mkdir()
    command = [sys.executable, '-m', 'tests.benchmarks.child', system.name, 'victim', str(store)]
    with subprocess.Popen(
        [*command, str(share)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as victim:
        assert victim.stdout is not None
        while LOGGED not in victim.stdout.readline():
            assert victim.poll() is None
        time.sleep(1.0)  # what the workload gives a tracker to store what it has
        victim.send_signal(signal.SIGKILL)
    time.sleep(1.0)  # for the processes of trackers that have some beside the one that was killed
    reading = system.reader(store)
    if reading is None:
        return {}
    return {'kept': len(reading(PATH, None)) / int(50_000 * share)}


LOGGED = 'every call has returned'


def victim(system: System, folder: Path, share: float) -> Measured:
    """Log, say so, and wait to be killed."""
    stdout = os.dup(1)  # some trackers take the other one over
    run = system.open(folder)
    loop(system.single)(run, PATH, noise(int(50_000 * share)))
    os.write(stdout, f'\n{LOGGED}\n'.encode())
    time.sleep(60.0)  # far more than the second after which it is killed
    raise AssertionError('it was not killed')


# ── W6 ───────────────────────────────────────────────────────────────────────


def start(system: System, folder: Path, share: float) -> Measured:
    base = _import_seconds('asyncio, sqlite3')
    measured = {'import': _import_seconds(system.module), 'base': base}
    measured['imports'] = measured['import'] / base
    root = (system.requirements or ('neptune-async',))[0]
    packages = _installed_with(root.partition('<')[0])
    size = sum(
        Path(str(file.locate())).stat().st_size
        for package in packages
        for file in metadata.distribution(package).files or ()
        if Path(str(file.locate())).is_file() and file.suffix != '.pyc'
    )
    if system.kind == 'ourselves':
        # An editable install has no files of its own.
        import neptune_async

        size += sum(f.stat().st_size for f in Path(neptune_async.__file__).parent.rglob('*.py'))
    return {**measured, 'packages': len(packages), 'size': size}


def _import_seconds(modules: str) -> float:
    code = (
        'from time import perf_counter as clock; start = clock()\n'
        f'import {modules}\n'
        'print(end := clock() - start)'
    )
    command = [sys.executable, '-c', code]
    # A user's second start, with bytecode, whether or not this machine lets it be written.
    with TemporaryDirectory() as cache:
        env = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '', 'PYTHONPYCACHEPREFIX': cache}
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True, env=env)
            for _ in range(6)
        ]
    return min(float(run.stdout.split()[-1]) for run in runs)


def _installed_with(root: str) -> set[str]:
    """Return a distribution and all installed ones that it requires, without its extras."""
    found: set[str] = set()
    wanted = [root]
    while wanted:
        name = wanted.pop().lower().replace('_', '-')
        try:
            required = metadata.requires(name) if name not in found else None
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for requirement in required or ():
            if 'extra ==' not in requirement:
                stops = [requirement.find(c) for c in ' ;<>=!~[(' if c in requirement]
                wanted.append(requirement[: min(stops, default=None)])
    return found


# ── W7 ───────────────────────────────────────────────────────────────────────

_WINDOW = 2**16
_ROUNDS = 7
GROWN_POINTS = [10**4, 10**5, 10**6, 10**7]
GROWN_SERIES = [1, 10**2, 10**4, 10**5]


def grow_points(system: System, folder: Path, share: float) -> Measured:
    """What the next 65,536 points cost, until they are durable, in a series that has many."""
    growing = _Growing(system, folder, share)
    growing.fill('warm/up', 1_000)
    memory = peak_memory()
    growing.fill('longest', int(GROWN_POINTS[-1] * share))
    memory = peak_memory() - memory
    for number in range(_ROUNDS):
        for size in GROWN_POINTS:
            path = 'longest'
            if size < GROWN_POINTS[-1]:
                path = f'p{size}/{number}'
                growing.fill(path, int(size * share))
            growing.cost(f'points_{size}', [path])
    return {**growing.end(), 'memory_10m': memory}


def grow_series(system: System, folder: Path, share: float) -> Measured:
    """The same in an experiment that has many series, spread over them."""
    growing = _Growing(system, folder, share)
    paths = {size: [f's{size}/{n}' for n in range(int(size * share) or 1)] for size in GROWN_SERIES}
    for names in paths.values():
        growing.log(names)
    for _ in range(_ROUNDS):
        for size, names in paths.items():
            growing.cost(f'series_{size}', names)
    return growing.end()


class _Growing:
    """A run that grows; the rounds of all sizes take turns in it."""

    def __init__(self, system: System, folder: Path, share: float) -> None:
        self._system = system
        self._run = system.open(folder)
        self._values = noise(int(_WINDOW * share))
        self._loop = loop(system.single, '(path, x)')
        self._costs: dict[str, list[float]] = {}

    def log(self, paths: Iterable[str]) -> None:
        """Log a value to each path, and have them stored."""
        self._loop(self._run, '', zip(paths, cycle(self._values)))
        self._system.flush(self._run)

    def fill(self, path: str, count: int) -> None:
        """Log points to a series; a floor stores nothing that could be full."""
        if self._system.kind != 'floor':
            self.log(repeat(path, count))

    def cost(self, name: str, paths: Iterable[str]) -> None:
        """Measure a window of points that are spread over paths."""
        pairs = list(zip(cycle(paths), self._values))
        time.sleep(0.05)  # the worker comes to rest, so that no merging of before is timed along
        start = clock()
        self._loop(self._run, '', pairs)
        self._system.flush(self._run)
        nanoseconds = 1e9 * (clock() - start) / len(pairs)
        self._costs.setdefault(name, []).append(nanoseconds)

    def end(self) -> Measured:
        """Close the run; return the medians."""
        self._system.close(self._run)
        return {name: median(costs) for name, costs in self._costs.items()}


# ── W8 ───────────────────────────────────────────────────────────────────────


def busy(system: System, folder: Path, share: float) -> Measured:
    values = noise(int(200_000 * share))
    log = loop(system.single)
    run = system.open(folder)
    log(run, PATH, values[:10])

    def rate() -> float:
        start = clock()
        log(run, PATH, values)
        system.flush(run)
        return len(values) / (clock() - start)

    idle = rate()
    over = threading.Event()
    other = threading.Thread(target=_compute_until, args=[over.is_set])
    other.start()
    beside_other = rate()
    over.set()
    other.join()
    rates: list[float] = []
    logger = threading.Thread(target=lambda: rates.append(rate()))
    logger.start()
    _compute_until(lambda: not logger.is_alive())
    system.close(run)
    return {
        'idle_rate': idle,
        'other_rate': beside_other,
        'main_rate': rates[0],
        'other': beside_other / idle,
        'main': rates[0] / idle,
    }


def _compute_until(is_over: Callable[[], bool]) -> None:
    while not is_over():
        work(1_000)


# ── W9 ───────────────────────────────────────────────────────────────────────

_DAY = 86_400


def slow(system: System, folder: Path, share: float) -> Measured:
    """A day of a point a second in each of 100 series, a second at a time: the clock that the
    package takes timestamps from is set, one dict is logged, and the worker does what it does
    whenever a flush interval is over. Queue, worker, storage and its merging are the real ones;
    only nobody waits for the second to pass, and all of it is on the worker's thread.
    """
    from neptune_async._faces import view

    seconds = int(_DAY * share)
    values = noise(_DAY)
    paths = [f'metric_{n:02}' for n in range(100)]
    jitter = random.Random(1).random
    start = 1_700_000_000.0
    view._now = lambda: now
    log = loop(system.batch, 'd')
    run = system.open(folder)

    async def day() -> None:
        nonlocal now
        for second in range(seconds):
            now = start + second + 1e-3 * jitter()
            log(run, PATH, [{path: values[second - n] for n, path in enumerate(paths)}])
            await run._worker._write_pending()
            await run._worker._compact('due')

    now = start
    began = clock()
    run._worker.call(day).result()
    logged = clock()
    system.close(run)
    measured = {'log': logged - began, 'bytes': size_of(folder) / (100 * seconds)}
    reading = system.reader(folder)
    assert reading is not None
    began = clock()
    for path in paths:
        assert len(reading(system.prefix + path, None)) == seconds
    return measured | {'read': clock() - began}


# ── All of them ──────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Workload:
    """A workload: its stages run in this order, each in a process of its own.

    :ivar prepare: writes, once, what all runs read.
    :ivar repeats: False if a run takes its medians itself.
    :ivar waits: whether its runs mostly wait, and so may run at the same time.
    :ivar served: whether it needs a PostgreSQL server.
    :ivar limit: seconds that a stage may take.
    """

    title: str
    stages: Sequence[Stage]
    prepare: Stage | None = None
    repeats: bool = True
    waits: bool = False
    served: bool = False
    limit: float = 600.0


WORKLOADS = {
    'W1': Workload('W1 tight: one series, 200,000 points', [tight, calls]),
    'W2': Workload('W2 wide: 50 series, 2,000 steps', [wide_batch, wide_single]),
    'W3': Workload('W3 train: 1 ms of work and 10 metrics a step', [train]),
    'W4': Workload('W4 read', [read], prepare=fill),
    'W5': Workload('W5 kill: SIGKILL 1 s after 50,000 points', [kill], waits=True, limit=90.0),
    'W6': Workload('W6 start', [start]),
    'W7': Workload('W7 grow: ns a point until durable', [grow_points, grow_series], repeats=False),
    'W8': Workload('W8 busy: beside a thread that computes', [busy]),
    'W9': Workload('W9 slow: 100 series, a point a second, a day', [slow], repeats=False),
    'W10': Workload(
        'W10 browse: 10,000 experiments, 1,000,000 chunks',
        [reads.browse],
        prepare=reads.stock,
        repeats=False,
    ),
    'W11': Workload('W11 server: one series, 200,000 points, PostgreSQL', [served], served=True),
    'W12': Workload(
        'W12 overviews of a series by 2,000 buckets, without NumPy and with it',
        [reads.overviews_without_numpy, reads.overviews_with_numpy],
        prepare=reads.lengthen,
        limit=3600.0,
    ),
    'W13': Workload(
        'W13 windows of 10,000 points of a series, and all of it, as arrays',
        [reads.windows, reads.whole],
        prepare=reads.lengthen,
        limit=3600.0,
    ),
    'W14': Workload(
        'W14 select: 10,000 experiments by a query',
        [reads.select],
        prepare=reads.enrol,
        repeats=False,
    ),
    'W15': Workload(
        'W15 charts of 2,000 series of 10,000 points; a table of 1,000 series of 1,000 points',
        [reads.charts_without_numpy, reads.charts_with_numpy, reads.beside_duckdb],
        prepare=reads.chart,
    ),
    'W16': Workload(
        'W16 keep: images of 64x64x3, files, and a training with images',
        [
            keeping.images,
            keeping.image_calls,
            keeping.large_file,
            keeping.same_file,
            keeping.training_with_images,
        ],
    ),
    'W17': Workload(
        'W17 places: files in the table or beside the store, us each', [keeping.places]
    ),
}

STAGES: dict[str, Stage] = {
    stage.__name__: stage
    for workload in WORKLOADS.values()
    for stage in (*workload.stages, workload.prepare, victim)
    if stage is not None
}


def write_result(measured: Measured, file: Path) -> None:
    """Leave measurements for the process that waits for them."""
    file.write_text(json.dumps(measured))
