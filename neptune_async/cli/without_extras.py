"""The commands that work without any extra installed: ``recover`` and ``sync``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial

from neptune_async._engine.store import opened
from neptune_async._faces.querying import query
from neptune_async._model.showing import harmless
from neptune_async.cli.exit_codes import BAD_USAGE, FAILED, OK, complain, ended
from neptune_async.cli.syncing import SYNC_HELP, sync
from neptune_async.exceptions import NeptuneAsyncError

RECOVER_HELP = 'Store what processes that have ended left in spill files and journals.'
STORAGE_HELP = (
    'A path or a URL; absent, $NEPTUNE_ASYNC_STORAGE, else .neptune_async/experiments.db.'
)


def run(arguments: Sequence[str]) -> int:
    """Run the command, if it is ``recover`` or ``sync``. Return the exit code."""
    if arguments[:1] not in (['recover'], ['sync']):
        complain("the command line needs more libraries: pip install 'neptune-async[cli]'")
        return BAD_USAGE
    parser = argparse.ArgumentParser(prog='neptune-async')
    verbs = parser.add_subparsers(dest='verb')
    verbs.add_parser('recover', description=RECOVER_HELP).add_argument(
        '--storage', help=STORAGE_HELP
    )
    syncing = verbs.add_parser('sync', description=SYNC_HELP)
    syncing.add_argument('source')
    syncing.add_argument('target')
    syncing.add_argument('--experiment', action='append', default=[], metavar='NAME')
    syncing.add_argument('--where', metavar='QUERY')
    syncing.add_argument('--sort', metavar='PATH|FIELD')
    syncing.add_argument('--reverse', action='store_true')
    syncing.add_argument('--limit', type=int)
    return ended(partial(_run, parser, arguments))


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    try:
        options = parser.parse_args(arguments)
    except SystemExit as printed:  # argparse has printed the help, or an error
        return int(printed.code or OK)
    try:
        if options.verb == 'sync':
            meant = query(options.where, options.sort, options.reverse, options.limit)
            return sync(options.source, options.target, options.experiment, meant)
        return recover(options.storage)
    except NeptuneAsyncError as error:
        complain(error)
        return BAD_USAGE


def recover(storage: str | None) -> int:
    """Store what dead processes left, print what that was, and return the exit code.

    :raises NeptuneAsyncError: the store cannot be opened.
    """
    # This command prints the results itself, so nobody needs the log.
    logging.getLogger('neptune_async').addHandler(logging.NullHandler())
    with opened(storage) as store:
        location, found = store.location, store.recover()
    for some in found:
        if some.error is None:
            print(harmless(f'{some.path}: {some.count:,} operations are in {location} now'))
        else:
            print(harmless(f'{some.path} was not taken in: {some.error}'), file=sys.stderr)
    if not found:
        print(harmless(f'nothing was left behind beside {location}'))
    return FAILED if any(some.error for some in found) else OK
