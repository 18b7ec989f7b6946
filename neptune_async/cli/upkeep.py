"""The verbs that look after stores: ``delete``, ``recover``, ``sync``, ``clean`` and ``doctor``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

import click

from neptune_async import Experiment, __version__, delete_experiment
from neptune_async._engine.durability.spill_files import find_spills
from neptune_async._engine.reading.queries import Query, satisfying
from neptune_async._engine.reading.states import dead_sessions, states
from neptune_async._engine.store import Store, opened
from neptune_async._faces.querying import query
from neptune_async._model.showing import harmless, on_one_line
from neptune_async._storage.base import Examinable, Storage
from neptune_async._storage.findings import Finding
from neptune_async.cli import without_extras
from neptune_async.cli.exit_codes import FAILED, OK, complain
from neptune_async.cli.options import (
    json_option,
    name_argument,
    path_argument,
    query_options,
    storage_option,
    verb,
    where_option,
)
from neptune_async.cli.output import (
    confirmed,
    console,
    plain,
    print_json,
    shown_time,
    table,
    waiting,
)
from neptune_async.cli.syncing import SYNC_HELP
from neptune_async.cli.syncing import sync as copy
from neptune_async.exceptions import (
    ExperimentNotFoundError,
    InvalidStorageError,
    StorageError,
    StorageFormatError,
)

_RECOVER = 'run: neptune-async recover'
_CLEAN = 'to remove what nobody needs, run: neptune-async clean'
_SHOWN = 5
"""Experiments that are lost of which each is shown; the others are counted."""


@verb()
@name_argument(required=False)
@path_argument(required=False)
@where_option
@click.option('-y', '--yes', is_flag=True, help='Do not ask.')
@storage_option
def delete(
    name: str | None, path: str | None, where: str | None, yes: bool, storage: str | None
) -> None:
    """Delete an experiment with all that it holds, or only what is at and below PATH; or all
    experiments that --where says, whose names are told first.

    A process that still logs to the experiment is not stopped: it makes it anew, with what it
    logs from then on, and a warning in its log says so.
    """
    if (name is None) == (where is None):
        raise click.UsageError('name one experiment, or say which with --where')
    if name is None:
        _delete_all(query(where), yes, storage)
        return
    with opened(storage) as store:
        experiment = store.find(name)
        if path is not None:
            store.variables(experiment, path)
    what = f'experiment {name!r}' if path is None else f'{path!r} of experiment {name!r}'
    if not confirmed(f'Delete {what}?', yes):
        click.echo('nothing was deleted', err=True)
    elif path is None:
        delete_experiment(name, storage)
    else:
        with Experiment(name, storage=storage, echo=False) as opened_experiment:
            opened_experiment[path].delete()


def _delete_all(query: Query, yes: bool, storage: str | None) -> None:
    """Delete the experiments that satisfy a query, after their names were told."""
    with opened(storage) as store:
        known = store.ask(lambda storage: storage.find_experiments())
        names = [experiment.name for experiment in store.call(satisfying, query, known)]
    for name in names:
        click.echo(on_one_line(name))
    if not names:
        click.echo('no experiment is meant; nothing was deleted', err=True)
    elif not confirmed(f'Delete these {len(names):,} experiments?', yes):
        click.echo('nothing was deleted', err=True)
    else:
        for name in names:
            try:
                delete_experiment(name, storage)
            except ExperimentNotFoundError:
                complain(f'experiment {name!r} was gone: another process has deleted it')


@verb(help=without_extras.RECOVER_HELP)
@storage_option
def recover(storage: str | None) -> int:
    return without_extras.recover(storage)


@verb(help=SYNC_HELP)
@click.argument('source')
@click.argument('target')
@click.option(
    '--experiment', 'names', metavar='NAME', multiple=True, help='Which; may be repeated. [all]'
)
@query_options
def sync(source: str, target: str, names: Sequence[str], query: Query) -> int:
    return copy(source, target, names, query)


@verb()
@click.option('--dry-run', is_flag=True, help='Say what would go, and remove nothing.')
@json_option
@storage_option
def clean(dry_run: bool, as_json: bool, storage: str | None) -> None:
    """Remove contents of files that nothing refers to any more, as after a deletion, and copies
    that processes which have died have left of files.

    What a process that runs is about to store stays, and so does what a spill file or a journal
    refers to. It can be broken off and begun anew, and be run while others log.
    """
    with waiting('looking for what refers to files'), opened(storage) as store:
        location, waste = store.location, store.find_waste() if dry_run else store.clean()
    contents = [*waste.contents.sizes.values()]
    copies = [copy.size for copy in waste.copies]
    if as_json:
        amounts = {
            name: {'count': len(sizes), 'bytes': sum(sizes)}
            for name, sizes in (('contents', contents), ('copies', copies))
        }
        print_json({'storage': location, 'dry_run': dry_run, **amounts})
        return
    done = 'would remove' if dry_run else 'removed'
    click.echo(f'{done} {_amount(contents, "contents")} that nothing refers to')
    click.echo(f'{done} {_amount(copies, "copies")} that processes have left')


def _amount(sizes: Sequence[int], what: str) -> str:
    return f'{len(sizes):,} {what} ({sum(sizes):,} bytes)'


@verb()
@json_option
@storage_option
def doctor(as_json: bool, storage: str | None) -> int:
    """Examine a store: versions, integrity, checksums, and what lies beside it.

    Every byte of a file is read, of a server the rights, sizes and settings too, and nothing is
    changed. The exit code is 1 if something is to be put right.
    """
    with waiting('examining the store'), opened(storage) as store:
        location, findings = store.location, [_versions(), *_examined(store)]
    if as_json:
        print_json({'storage': location, 'findings': [asdict(finding) for finding in findings]})
    else:
        _print_findings(location, findings)
    return FAILED if any(finding.level == 'wrong' for finding in findings) else OK


def _versions() -> Finding:
    return Finding(
        'good', f'neptune_async {__version__}, Python {platform.python_version()}, {sys.platform}'
    )


def _examined(store: Store) -> Iterator[Finding]:
    async def examine(storage: Storage) -> list[Finding]:
        if isinstance(storage, Examinable):
            return await storage.examine()
        return [Finding('good', 'it opens; more than that is not known of this kind of store')]

    left_behind = [*_left_behind(store.spill_folder)] if store.spill_folder is not None else []
    try:
        yield from store.ask(examine)
        yield from _waste(store)
        yield from _lost(store)
    except StorageError as error:
        is_damaged = isinstance(error, StorageFormatError)
        if not is_damaged and all(finding.level == 'good' for finding in left_behind):
            raise
        yield Finding('wrong', str(error))
    yield from left_behind


def _waste(store: Store) -> Iterator[Finding]:
    """Yield what there is to say of files that nobody needs."""
    try:
        waste = store.find_waste()
    except StorageFormatError:
        return  # what is damaged has been told of
    except InvalidStorageError:
        return  # of this kind of store that is not known
    contents = [*waste.contents.sizes.values()]
    copies = [copy.size for copy in waste.copies]
    if contents:
        what = f'nothing refers to {_amount(contents, "contents")} of files'
        yield Finding('note', what, _CLEAN)
    if copies:
        what = f'processes that have died left {_amount(copies, "copies")} of files'
        yield Finding('note', what, _CLEAN)
    if not contents and not copies:
        yield Finding('good', 'there are no contents of files that nothing refers to')


def _lost(store: Store) -> Iterator[Finding]:
    """Yield what there is to say of experiments that nobody has closed, the last ones first."""
    experiments = {e.id: e for e in store.ask(lambda s: s.find_experiments())}
    known = store.call(states, [*experiments])
    lost = [experiment_id for experiment_id, state in known.items() if state == 'lost']
    sessions = store.call(dead_sessions, lost)
    last = {found.session.experiment_id: found for found in sessions}
    remedy = 'to have it count as closed, open it for writing and close it'
    for found in sorted(last.values(), key=attrgetter('seen'), reverse=True)[:_SHOWN]:
        process = found.session.process
        yield Finding(
            'note',
            f'experiment {experiments[found.session.experiment_id].name!r} is lost: process '
            f'{process.pid} on {process.host} has died without closing it, and gave its last sign '
            f'of life at {shown_time(found.seen)}',
            remedy,
        )
    if len(last) > _SHOWN:
        yield Finding('note', f'{len(last) - _SHOWN:,} more experiments are lost', remedy)


def _left_behind(folder: Path) -> Iterator[Finding]:
    spills, journals = find_spills(folder), [*folder.glob('*.journal')]
    if spills:
        names = ', '.join(map(str, spills))
        yield Finding('wrong', f'what could not be stored waits in {names}', _RECOVER)
    if journals:
        what = f'{len(journals)} journals in {folder}, of processes that run or have ended'
        yield Finding('note', what, f'for those that have ended: {_RECOVER}')
    if not spills and not journals:
        yield Finding('good', 'nothing was left behind by processes that have ended')


def _print_findings(location: str, findings: Sequence[Finding]) -> None:
    click.echo(harmless(location))
    shown = table()
    shown.show_header = False
    for finding in findings:
        style = {'good': 'green', 'note': 'yellow', 'wrong': 'bold red'}[finding.level]
        remedy = f'\n→ {harmless(finding.remedy)}' if finding.remedy else ''
        shown.add_row(plain(finding.level, style), plain(f'{harmless(finding.what)}{remedy}'))
    console().print(shown)


VERBS = (delete, recover, sync, clean, doctor)
