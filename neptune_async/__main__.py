"""``python -m neptune_async recover``: store what processes that have ended left behind."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from neptune_async._engine import lifecycle
from neptune_async._engine.recovery import LeftBehind
from neptune_async._storage import registry
from neptune_async.exceptions import NeptuneAsyncError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    :returns: 0 if all went well, 1 if something could not be taken in, 2 if the
        store cannot be opened.
    """
    parser = argparse.ArgumentParser(prog='python -m neptune_async')
    verbs = parser.add_subparsers(dest='verb', required=True)
    recover = verbs.add_parser(
        'recover',
        help='store what processes that have ended left in spill files and journals',
        description='Store what processes that have ended left in spill files and journals beside '
        'a store. Exit code 1: some could not be taken in, and is still there; 2: the store cannot '
        'be opened.',
    )
    recover.add_argument(
        '--storage',
        help='a path or a URL; absent, $NEPTUNE_ASYNC_STORAGE, else .neptune_async/experiments.db',
    )
    options = parser.parse_args(arguments)
    # What would be logged is printed.
    logging.getLogger('neptune_async').addHandler(logging.NullHandler())
    try:
        location, found = _recover(options.storage)
    except NeptuneAsyncError as error:
        print(f'neptune_async: {error}', file=sys.stderr)
        return 2
    for some in found:
        if some.error is None:
            print(f'{some.path}: {some.count:,} operations are in {location} now')
        else:
            print(f'{some.path} was not taken in: {some.error}', file=sys.stderr)
    if not found:
        print(f'nothing was left behind beside {location}')
    return 1 if any(some.error for some in found) else 0


def _recover(storage: str | None) -> tuple[str, list[LeftBehind]]:
    worker = lifecycle.acquire(registry.resolve(storage))
    try:
        return worker.location, worker.call(worker.recover).result()
    finally:
        if lifecycle.release(worker):
            worker.thread.join(lifecycle.EXIT_TIMEOUT)


if __name__ == '__main__':
    sys.exit(main())
