"""Drawings of what costs how much as something grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import US, Results
from .measuring import Measured
from .reads import LENGTHS
from .workloads import GROWN_POINTS, GROWN_SERIES


def draw_all(results: Results, folder: Path) -> None:
    """Draw what was measured of all that is drawn."""
    measured = {name: by_system[US] for name, by_system in results.items() if US in by_system}
    if 'W7' in measured:
        draw_writing(measured['W7'], folder / 'growth.svg')
    if {'W12', 'W13'} <= measured.keys():
        draw_reading(measured['W12'], measured['W13'], folder / 'growth_reading.svg')


def draw_writing(measured: Measured, path: Path) -> None:
    """Draw what a point costs as a series and an experiment grow."""
    figure, axes = _figure()
    for plot, what, sizes in zip(
        axes, ('points', 'series'), (GROWN_POINTS, GROWN_SERIES), strict=True
    ):
        _draw(plot, sizes, {'': [measured[f'{what}_{size}'] for size in sizes]})
        plot.set_xlabel(f'{what} that are there')
    axes[0].set_ylabel('ns a point until durable')
    _save(figure, path)


def draw_reading(overviews: Measured, windows: Measured, path: Path) -> None:
    """Draw what it takes to read few points of a series that grows."""
    figure, axes = _figure()
    of_overviews = {
        title: [1e3 * overviews[f'{kind}_{length}'] for length in LENGTHS]
        for kind, title in (('plain', 'without NumPy'), ('numpy', 'with NumPy'))
    }
    _draw(axes[0], LENGTHS, of_overviews)
    _draw(axes[1], LENGTHS, {'': [1e3 * windows[str(length)] for length in LENGTHS]})
    axes[0].legend()
    axes[0].set_ylabel('ms')
    axes[0].set_title('an overview by 2,000 buckets')
    axes[1].set_title('a window of 10,000 points')
    for plot in axes:
        plot.set_xlabel('points that are there')
    _save(figure, path)


def _figure() -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use('svg')
    from matplotlib import pyplot as plt

    return plt.subplots(1, 2, figsize=(8, 3), sharey=True)


def _draw(plot: Any, sizes: Sequence[int], costs: Mapping[str, Sequence[float]]) -> None:
    for label, line in costs.items():
        plot.plot(sizes, line, marker='o', label=label)
    plot.set_xscale('log')
    plot.set_ylim(0, None)
    plot.grid(alpha=0.3)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path)
