"""What ``python -m neptune_async sync`` prints, and how far it has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from neptune_async._engine.copying import Copied, copy_experiments
from neptune_async.exceptions import NeptuneAsyncError

_INTERVAL = 1.0
"""Seconds between two lines that say how far it is."""


def sync(source: str, target: str, names: Sequence[str] = ()) -> int:
    """Copy experiments from one store to another, and say so.

    :returns: 0 if all went well, 2 if a store failed or the target holds something else.
    """
    try:
        with _progress() as report:
            copied = copy_experiments(source, target, names, report)
    except NeptuneAsyncError as error:
        print(f'neptune_async: {error}', file=sys.stderr)
        return 2
    for one in copied:
        print(f'{one.experiment}: {one.of:,} variables, {one.points:,} points were new')
    if not copied:
        print('there are no experiments to copy')
    return 0


def _progress() -> Any:
    """Return what shows progress on stderr: a bar if it is a terminal and tqdm is there."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            return _Lines()
        return _Bar(tqdm)
    return _Silence()


class _Silence:
    """Shows nothing: what is not a terminal is read when all is over."""

    def __enter__(self) -> Callable[[Copied], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        pass

    def _show(self, copied: Copied) -> None:
        pass


class _Lines(_Silence):
    """Says a line a second at most."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def _show(self, copied: Copied) -> None:
        if time.monotonic() - self._said >= _INTERVAL:
            self._said = time.monotonic()
            print(
                f'{copied.experiment}: {copied.variables:,} of {copied.of:,} variables, '
                f'{copied.points:,} points',
                file=sys.stderr,
            )


class _Bar(_Silence):
    """A bar of tqdm's for each experiment, which counts variables."""

    def __init__(self, tqdm: Callable[..., Any]) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._experiment = ''

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, copied: Copied) -> None:
        if copied.experiment != self._experiment:
            self.__exit__()
            self._experiment = copied.experiment
            self._bar = self._tqdm(desc=copied.experiment, unit=' variables', file=sys.stderr)
        self._bar.total = copied.of
        self._bar.n = copied.variables
        self._bar.set_postfix(points=f'{copied.points:,}')
