"""What ``sync`` prints, and how far it has come; works with no extra installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from neptune_async._engine.copying import Copied, copy_experiments
from neptune_async._engine.reading.queries import EVERY, Query, satisfying
from neptune_async._engine.store import opened
from neptune_async._model.showing import on_one_line
from neptune_async.cli.exit_codes import FAILED, GOES_ON, OK, complain, told_when_interrupted

SYNC_HELP = (
    'Copy experiments from one store to another, each a path or a URL. What the target has '
    'already is not copied again: it can be broken off and begun anew, and what only the target '
    'has stays. An experiment that does not fit what the target has of it, as after a rewind in '
    'the source, is told, and the others are copied.'
)
_INTERVAL = 1.0
"""Seconds between two lines that say how far it is."""


def sync(source: str, target: str, names: Sequence[str] = (), query: Query = EVERY) -> int:
    """Copy experiments, say what was new, and return the exit code.

    :param query: which of these experiments of the source to copy.
    :raises NeptuneAsyncError: when a store fails, or one of these experiments is not there.
    """
    if query != EVERY:
        with opened(source) as store:
            for name in names:
                store.find(name)
            known = store.ask(lambda storage: storage.find_experiments(names or None))
            names = [experiment.name for experiment in store.call(satisfying, query, known)]
        if not names:
            print('there are no experiments to copy')
            return OK
    with told_when_interrupted(GOES_ON), _progress() as report:
        copied = copy_experiments(source, target, names, report)
    failures = [one.failure for one in copied if one.failure is not None]
    for one in copied:
        if one.failure is None:
            name = on_one_line(one.experiment)
            print(f'{name}: {one.of:,} variables, {one.points:,} points were new')
    if not copied:
        print('there are no experiments to copy')
    for failure in failures:
        complain(failure)
    if failures:
        complain(f'{len(failures):,} of {len(copied):,} experiments were not copied')
    return FAILED if failures else OK


@contextmanager
def _progress() -> Iterator[Callable[[Copied], None]]:
    """Yield what shows on stderr how far it is, if that is a terminal: a bar an experiment, or a
    line a second where there is no rich.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress, TaskID
    except ModuleNotFoundError:
        yield _Lines().show
        return
    with Progress(console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        def show(copied: Copied) -> None:
            name = escape(on_one_line(copied.experiment))
            if name not in tasks:
                tasks[name] = progress.add_task(name)
            progress.update(
                tasks[name],
                total=copied.of,
                completed=copied.variables,
                description=f'{name}: {_told(copied)}',
            )

        yield show


def _told(copied: Copied) -> str:
    files = f', {copied.bytes / 1e6:,.1f} MB of files' if copied.bytes else ''
    return f'{copied.points:,} points{files}'


class _Lines:
    """Says a line a second at most."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def show(self, copied: Copied) -> None:
        if time.monotonic() - self._said >= _INTERVAL:
            self._said = time.monotonic()
            name = on_one_line(copied.experiment)
            print(
                f'{name}: {copied.variables:,} of {copied.of:,} variables, {_told(copied)}',
                file=sys.stderr,
            )
