"""What the tables show of each workload, and what is to be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .keeping import SIZES
from .measuring import Measured
from .reads import FROM_1, LENGTHS, LONG
from .systems import COPY, FLOOR, OURSELVES, ServedNeptuneAsync
from .workloads import GROWN_POINTS, GROWN_SERIES

US = OURSELVES[0].name

Results: TypeAlias = Mapping[str, Mapping[str, Measured]]
"""The medians, by workload and system."""


@dataclass(frozen=True)
class Column:
    """A column of a workload's table.

    :ivar scale: what a measurement is multiplied by to be shown.
    """

    key: str
    title: str
    scale: float = 1.0
    form: str = ',.0f'

    def shown(self, measured: Measured) -> str:
        """Return the cell of a system; a dash where it has no such measurement."""
        return format(measured[self.key] * self.scale, self.form) if self.key in measured else '-'


COLUMNS: dict[str, list[Column]] = {
    'W1': [
        Column('call_ns', 'caller ns, median'),
        Column('call_p99_ns', 'caller ns, 99 %'),
        Column('durable_rate', 'durable points/s'),
        Column('cpu_us', 'CPU us a point', form=',.2f'),
        Column('memory', 'memory MB', 1e-6, ',.1f'),
        Column('bytes', 'bytes a point', form=',.1f'),
    ],
    'W2': [
        Column('batch_ns', 'batch ns a value'),
        Column('batch_rate', 'durable points/s'),
        Column('single_ns', 'single ns a value'),
        Column('single_rate', 'durable points/s'),
    ],
    'W3': [
        Column('overhead', 'overhead %', 100, ',.2f'),
        Column('close', 'close s', form=',.3f'),
    ],
    'W4': [
        Column('all', 'all, ns a point', 1e9),
        Column('all_tolists', 'x array.tolist', form=',.1f'),
        Column('tail', 'last 10, ms', 1e3, ',.2f'),
        Column('many', '1,000 x 1,000 points, s', form=',.2f'),
        Column('open', 'open 100,000 variables, s', form=',.2f'),
    ],
    'W5': [Column('kept', 'readable %', 100, ',.2f')],
    'W6': [
        Column('import', 'import ms', 1e3),
        Column('imports', 'x asyncio, sqlite3', form=',.2f'),
        Column('packages', 'packages'),
        Column('size', 'MB', 1e-6, ',.1f'),
    ],
    'W7': [
        *(Column(f'points_{n}', f'{n:,} points') for n in GROWN_POINTS),
        *(Column(f'series_{n}', f'{n:,} series') for n in GROWN_SERIES),
        Column('memory_10m', 'memory MB', 1e-6, ',.0f'),
    ],
    'W8': [
        Column('idle_rate', 'idle points/s'),
        Column('other', 'x beside a thread', form=',.2f'),
        Column('main', 'x beside the main thread', form=',.2f'),
    ],
    'W9': [
        Column('bytes', 'bytes a point', form=',.1f'),
        Column('read', 'read all, s', form=',.1f'),
        Column('log', 'log all, s', form=',.0f'),
    ],
    'W10': [
        Column('list', 'list all experiments, s', form=',.2f'),
        Column('show', 'show one, s', form=',.2f'),
        Column('list_command', 'neptune-async list, s', form=',.2f'),
        Column('show_command', 'neptune-async show, s', form=',.2f'),
        Column('compare', 'compare 1,000 x 20, s', form=',.2f'),
    ],
    'W11': [Column('durable_rate', 'durable points/s')],
    'W12': [
        Column(f'{kind}_{key}', f'{title}, {of}', scale, ',.1f')
        for kind, title in (('plain', 'without'), ('numpy', 'with'))
        for key, of, scale in (
            *((str(n), f'{n:,} points, ms', 1e3) for n in LENGTHS),
            (FROM_1, f'{LONG:,} from 1, ms', 1e3),
            ('time', f'{LONG:,} by time, ms', 1e3),
            ('memory', 'MB', 1e-6),
        )
    ],
    'W13': [
        *(Column(str(n), f'window of {n:,}, ms', 1e3, ',.1f') for n in LENGTHS),
        Column(FROM_1, f'of {LONG:,} from 1, ms', 1e3, ',.1f'),
        Column('whole', f'all {LONG:,}, ms', 1e3),
        Column('whole_copies', 'x copying', form=',.1f'),
        Column('whole_sizes', 'memory, x the array', form=',.2f'),
    ],
    'W14': [
        Column('select', 'list where, ms', 1e3),
        Column('compare', 'compare 10,000 x 6, ms', 1e3),
    ],
    'W15': [
        Column('plain_charts', 'charts without NumPy, s', form=',.2f'),
        Column('numpy_charts', 'charts with it, s', form=',.2f'),
        Column('frame', 'a frame, ms', 1e3),
        Column('duckdb', 'DuckDB, ms', 1e3),
        Column('frame_duckdbs', 'x DuckDB', form=',.1f'),
    ],
    'W16': [
        Column('images_rate', 'durable images/s'),
        *(
            column
            for name, title in (('image', '64x64x3'), ('megabyte', '1 MB'))
            for column in (
                Column(f'{name}_call', f'caller us, {title}', 1e6),
                Column(f'{name}_copies', f'x copying, {title}', form=',.1f'),
            )
        ),
        Column('large', '1 GB file, s', form=',.2f'),
        Column('large_call', 'of that the call, s', form=',.2f'),
        Column('large_copies', 'x cp', form=',.2f'),
        Column('large_memory', 'MB', 1e-6, ',.1f'),
        Column('same', 'the same 1 MB again, ms', 1e3, ',.2f'),
        Column('train', 'training longer by %', 100, ',.2f'),
    ],
    'W17': [
        Column(f'{place}_{size}{key}', f'{size // 1024} KiB {place}{what}', 1e6)
        for size in SIZES
        for key, what in (('', ''), ('_read', ', read'))
        for place in ('inside', 'beside')
    ],
}


@dataclass(frozen=True)
class Goal:
    """A figure to reach.

    :ivar of: what was reached, from the results of one run; raises KeyError if not measured.
    :ivar at_least: whether more is better.
    """

    title: str
    limit: float
    of: Callable[[Results], float]
    at_least: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether the value is on the right side of the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


def _ours(workload: str, key: str, scale: float = 1.0) -> Callable[[Results], float]:
    return lambda results: results[workload][US][key] * scale


def _floors(workload: str, key: str, floor_key: str = '') -> Callable[[Results], float]:
    """Return the ratio of our nanoseconds to the floor's."""
    return lambda results: results[workload][US][key] / results[workload][FLOOR][floor_key or key]


def _durable_floors(results: Results) -> float:
    return 1e9 / results['W1'][US]['durable_rate'] / results['W1'][FLOOR]['call_ns']


def _of_copy(results: Results) -> float:
    served = results['W11']
    return served[ServedNeptuneAsync.name]['durable_rate'] / served[COPY]['durable_rate']


def _best_peer(
    workload: str, key: str, *, more_is_better: bool, us: str = US
) -> Callable[[Results], float]:
    """Return how many times better we are than the best peer."""

    def ratio(results: Results) -> float:
        from .peers import PEERS

        names = {peer.name for peer in PEERS}
        found = [
            measured[key]
            for name, measured in results[workload].items()
            if name in names and key in measured
        ]
        if not found:
            raise KeyError(key)
        ours = results[workload][us][key]
        return ours / max(found) if more_is_better else min(found) / ours

    return ratio


def _x_peers(workload: str, key: str, *names: str) -> Callable[[Results], float]:
    """Return how many times our rate is the best of some peers, all of which were measured."""
    return lambda results: (
        results[workload][US][key] / max(results[workload][name][key] for name in names)
    )


def _grown(what: str, sizes: list[int]) -> Callable[[Results], float]:
    return lambda results: (
        results['W7'][US][f'{what}_{sizes[-1]}'] / results['W7'][US][f'{what}_{sizes[0]}']
    )


def _both_busy(results: Results) -> float:
    return min(results['W8'][US]['other'], results['W8'][US]['main'])


GOALS = [
    Goal('W1 caller, floors', 1.5, _floors('W1', 'call_ns')),
    Goal('W1 until durable, floors', 2.0, _durable_floors),
    Goal('W1 until durable, x best peer', 20, _best_peer('W1', 'durable_rate', more_is_better=True),
         at_least=True),
    Goal('W2 batch of 50, floors a value', 0.8, _floors('W2', 'batch_ns')),
    Goal('W2 batch until durable, x best peer', 5,
         _best_peer('W2', 'batch_rate', more_is_better=True), at_least=True),
    Goal('W3 overhead, %', 2.0, _ours('W3', 'overhead', 100)),
    Goal('W3 close, s', 0.2, _ours('W3', 'close')),
    Goal('W4 1,000,000 points, x array.tolist', 5.0, _ours('W4', 'all_tolists')),
    Goal('W4 last 10, ms', 2.0, _ours('W4', 'tail', 1e3)),
    Goal('W4 all, x best peer', 20, _best_peer('W4', 'all', more_is_better=False), at_least=True),
    Goal('W4 last 10, x best peer', 20, _best_peer('W4', 'tail', more_is_better=False),
         at_least=True),
    Goal('W1 bytes a point', 12.0, _ours('W1', 'bytes')),
    Goal('W9 bytes a point', 14.0, _ours('W9', 'bytes')),
    Goal('W7 memory at 10^7 points, MB', 60.0, _ours('W7', 'memory_10m', 1e-6)),
    Goal('W5 readable after SIGKILL, %', 100.0, _ours('W5', 'kept', 100), at_least=True),
    Goal('W6 import, x asyncio and sqlite3', 3.0, _ours('W6', 'imports')),
    Goal('W7 10^7 points to 10^4', 1.3, _grown('points', GROWN_POINTS)),
    Goal('W7 10^5 series to 1', 1.3, _grown('series', GROWN_SERIES)),
    Goal('W8 x the idle rate', 0.3, _both_busy, at_least=True),
    Goal('W10 list 10,000 experiments, s', 1.0, _ours('W10', 'list')),
    Goal('W10 show one of 10,000 experiments, s', 1.0, _ours('W10', 'show')),
    Goal('W10 neptune-async list, s', 1.0, _ours('W10', 'list_command')),
    Goal('W10 neptune-async show, s', 1.0, _ours('W10', 'show_command')),
    Goal('W11 until durable, x COPY', 0.5, _of_copy, at_least=True),
    Goal('W11 until durable, x mlflow', 20, _best_peer('W11', 'durable_rate', more_is_better=True,
         us=ServedNeptuneAsync.name), at_least=True),
    Goal('W12 10^7 points, without NumPy, ms', 30.0, _ours('W12', f'plain_{LONG}', 1e3)),
    Goal('W12 10^7 points, with NumPy, ms', 15.0, _ours('W12', f'numpy_{LONG}', 1e3)),
    Goal('W12 10^7 from step 1, without NumPy, ms', 30.0, _ours('W12', f'plain_{FROM_1}', 1e3)),
    Goal('W12 10^7 from step 1, with NumPy, ms', 15.0, _ours('W12', f'numpy_{FROM_1}', 1e3)),
    Goal('W12 10^8 points, with NumPy, ms', 100.0, _ours('W12', f'numpy_{LENGTHS[-1]}', 1e3)),
    Goal('W12 memory, MB', 20.0, _ours('W12', 'plain_memory', 1e-6)),
    Goal('W13 any 10,000 of 10^7 points, ms', 10.0, _ours('W13', str(LONG), 1e3)),
    Goal('W13 all of 10^7 points, x copying', 4.0, _ours('W13', 'whole_copies')),
    Goal('W13 memory, x the array', 1.3, _ours('W13', 'whole_sizes')),
    Goal('W14 three conditions, 10,000 experiments, ms', 150.0, _ours('W14', 'select', 1e3)),
    Goal('W14 compare 10,000 experiments x 6 paths, ms', 400.0, _ours('W14', 'compare', 1e3)),
    Goal('W15 overviews of 2,000 series, s', 1.0, _ours('W15', 'plain_charts')),
    Goal('W15 10^6 points of 1,000 series to pandas, x DuckDB', 2.0, _ours('W15', 'frame_duckdbs')),
    Goal('W16 caller, an image of 64x64x3, x copying', 3.0, _ours('W16', 'image_copies')),
    Goal('W16 caller, an image of 1 MB, x copying', 3.0, _ours('W16', 'megabyte_copies')),
    Goal('W16 images until durable, x tensorboardX', 10,
         _x_peers('W16', 'images_rate', 'tensorboardX'), at_least=True),
    Goal('W16 images until durable, x wandb and trackio', 5,
         _x_peers('W16', 'images_rate', 'wandb offline', 'trackio'), at_least=True),
    Goal('W16 1 GB file until durable, x cp', 1.3, _ours('W16', 'large_copies')),
    Goal('W16 memory for it, MB', 16.0, _ours('W16', 'large_memory', 1e-6)),
    Goal('W16 the same file again, ms', 1.0, _ours('W16', 'same', 1e3)),
    Goal('W16 training with images, % longer', 3.0, _ours('W16', 'train', 100)),
]  # fmt: skip
