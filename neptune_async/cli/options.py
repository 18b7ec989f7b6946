"""The options and arguments that verbs share, and what a shell offers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import wraps
from typing import Any, TypeVar, cast

import click

from neptune_async._engine.store import Store, opened
from neptune_async._faces.querying import query
from neptune_async._model import messages
from neptune_async._model.showing import harmless
from neptune_async._storage.base import ExperimentSummary
from neptune_async.cli.without_extras import STORAGE_HELP
from neptune_async.exceptions import NeptuneAsyncError

F = TypeVar('F', bound=Callable[..., Any])

EXIT_CODES = (
    'Exit codes: 0, done; 1, something failed, and the output says what; 2, bad usage, or a name, '
    'path or store that is not there; 130, Ctrl-C; 141, nobody reads the output any more.'
)


class _Verb(click.Command):
    """A command that says in its help how it may end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{'epilog': EXIT_CODES, **kwargs})


def verb(name: str | None = None, **attributes: Any) -> Callable[[Callable[..., Any]], _Verb]:
    """Make a verb of a function."""
    return click.command(name, cls=_Verb, **attributes)


def storage_option(function: F) -> F:
    """Give a verb the option ``--storage``."""
    return click.option('--storage', metavar='PATH|URL', help=STORAGE_HELP)(function)


def json_option(function: F) -> F:
    """Give a verb the option ``--json``, which it gets as ``as_json``."""
    return click.option(
        '--json',
        'as_json',
        is_flag=True,
        help='Print JSON. A float that JSON does not have is "NaN", "Infinity" or "-Infinity", '
        'a datetime is ISO 8601.',
    )(function)


def query_options(function: F) -> F:
    """Give a verb the options ``--where``, ``--sort``, ``--reverse`` and ``--limit``, which it gets
    as the ``Query`` that they make: ``query``.
    """

    @wraps(function)
    def with_query(
        where: str | None, sort: str | None, reverse: bool, limit: int | None, **others: Any
    ) -> Any:
        return function(query=query(where, sort, reverse, limit), **others)

    for option in (
        click.option('--limit', type=click.IntRange(min=0), help='How many at most.'),
        click.option('--reverse', is_flag=True, help='The greatest first, or what was made last.'),
        click.option(
            '--sort', metavar='PATH|FIELD', help='By what, as in: --sort valid/acc.max, --sort name'
        ),
        where_option,
    ):
        with_query = option(with_query)
    return cast('F', with_query)


def where_option(function: F) -> F:
    """Give a verb the option ``--where``."""
    return click.option(
        '--where',
        metavar='QUERY',
        help='Which experiments, by what they hold, as in: '
        "--where \"params/lr < 0.01 and 'cnn' in tags and state = 'closed'\"",
    )(function)


def _names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    try:
        with opened(ctx.params.get('storage')) as store:
            found = store.ask(lambda storage: storage.list_experiments())
    except NeptuneAsyncError:
        return []
    return _offered(found, incomplete)


def offered_paths(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the paths that a shell offers: of the experiments that are named before, or of all."""
    given = ctx.params.get('name') or ctx.params.get('names_and_paths')
    wanted = [given] if isinstance(given, str) else [*(given or '*')]
    try:
        with opened(ctx.params.get('storage')) as store:
            known = store.ask(lambda s: s.list_experiments())
            names = [name for one in wanted for name in matching_names(one, known)]
            experiments: list[ExperimentSummary] = store.ask(lambda s: s.find_experiments(names))
            ids = [experiment.id for experiment in experiments]
            found = store.ask(lambda s: s.find_paths(ids))
    except NeptuneAsyncError:
        return []
    return sorted(_offered(found, incomplete))


def _offered(found: Iterable[str], incomplete: str) -> list[str]:
    """Return what a shell can put on its line as it is: a line break would be another offer."""
    return [name for name in found if name.startswith(incomplete) and harmless(name) == name]


def offered_names_and_paths(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return what a shell offers where paths come after names: first a name."""
    names = _names(ctx, parameter, incomplete)
    if not ctx.params.get('names_and_paths'):
        return names
    return [*names, *offered_paths(ctx, parameter, incomplete)]


def name_argument(**attributes: Any) -> Callable[[F], F]:
    """Give a verb the argument NAME, which a shell completes."""
    return click.argument('name', **{'shell_complete': _names, **attributes})


def path_argument(**attributes: Any) -> Callable[[F], F]:
    """Give a verb the argument PATH, which a shell completes."""
    return click.argument('path', **{'shell_complete': offered_paths, **attributes})


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Say which extra brings what the body imports.

    :raises MissingExtraError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise messages.missing_extra(str(error.name), extra) from None


def chosen_names(store: Store, wanted: Sequence[str]) -> list[str]:
    """Return the names of experiments, for which globs may stand.

    :raises ExperimentNotFoundError: one of them stands for nothing.
    """
    known = store.ask(lambda storage: storage.list_experiments())
    names: dict[str, None] = {}
    for name in wanted:
        found = matching_names(name, known)
        if not found:
            raise messages.experiment_not_found(name, store.location, known)
        names.update(dict.fromkeys(found))
    return [*names]


def matching_names(name: str, known: Sequence[str]) -> list[str]:
    """Return the names that one that is given stands for: itself, or those that a glob matches."""
    return [name] if name in known else [other for other in known if fnmatchcase(other, name)]
