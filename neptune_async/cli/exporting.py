"""The verb ``export``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import click

from neptune_async._engine.store import opened
from neptune_async._storage.base import ExperimentSummary
from neptune_async._transfer import files
from neptune_async._transfer.holdings import Held, holdings
from neptune_async._transfer.long_rows import Row, rows_of
from neptune_async._transfer.names import unfinished
from neptune_async.cli.exits import FAILED, OK, complain, told_when_interrupted
from neptune_async.cli.options import chosen_names, name_argument, needing, storage_option, verb
from neptune_async.cli.output import list_reasons, progress
from neptune_async.exceptions import UnsupportedValueError

Contents: TypeAlias = Iterator[tuple[ExperimentSummary, Iterator[Held]]]

_FILES: dict[str, Callable[[Iterable[Row], BinaryIO], None]] = {
    'jsonl': files.write_jsonl,
    'csv': files.write_csv,
    'parquet': files.write_parquet,
}
"""Formats that are one file, with what writes them."""
_TEXTS = ('jsonl', 'csv')
_FOLDERS = ('neptune-export', 'tensorboard')


class ExperimentWriter(Protocol):
    """Writes experiments to a folder, one at a time.

    :ivar notes: what is not quite as it was, :ivar missing: what is not there; how often.
    """

    notes: Counter[str]
    missing: Counter[str]

    def write(self, experiment: str, holdings: Iterable[Held]) -> None:
        """Write an experiment, which is there once all of it is."""


@verb('export')
@name_argument(nargs=-1)
@click.option(
    '--format',
    'form',
    required=True,
    type=click.Choice([*_FILES, *_FOLDERS]),
    help='A file of JSON lines, CSV or Parquet: one long table, which `import file` reads. A '
    'folder of files as neptune-exporter writes them, or of event files.',
)
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    help='The file or folder to make; absent, JSON lines and CSV go to stdout.',
)
@click.option(
    '--project',
    default='neptune-async/export',
    show_default=True,
    help='The project that neptune-export is to say the runs are of.',
)
@click.option('--force', is_flag=True, help='Write over what is there.')
@storage_option
def export_verb(
    name: Sequence[str], form: str, out: Path | None, project: str, force: bool, storage: str | None
) -> int:
    """Write experiments to files: those of each NAME, which may be a glob, or all.

    What is written is there once it is whole. What a format cannot hold is counted on stderr,
    and the exit code is 1 then.
    """
    if out is None and form not in _TEXTS:
        raise click.UsageError(f'--format {form} needs --out: the file or folder to make')
    if out is not None and not force and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise click.UsageError(f'{out} is there already; name another, or say --force')
    if out is not None and form in _FILES and not out.parent.is_dir():
        raise click.UsageError(f'{out} cannot be written: there is no folder {out.parent}')
    with told_when_interrupted(_left_by_export(form, out)), opened(storage) as store:
        names = chosen_names(store, name) if name else None
        experiments = store.ask(lambda storage: storage.find_experiments(names))
        with progress('experiments', len(experiments)) as on_experiment:
            contents = _told(holdings(store, experiments), on_experiment)
            try:
                if out is not None and form in _FOLDERS:
                    return _write_folder(form, contents, out, project)
                _write_file(form, contents, out)
                return OK
            except BrokenPipeError:
                raise
            except OSError as error:
                complain(f'{out or "stdout"} cannot be written: {error.strerror or error}')
                return FAILED
            except UnsupportedValueError as error:
                complain(f'the export failed: {error}')
                return FAILED


def _left_by_export(form: str, out: Path | None) -> str:
    """Return what there is of an export that Ctrl-C ends."""
    if out is None:
        return 'what was printed is not all'
    if form in _FOLDERS:
        return f'{out} has the experiments that were done; to begin anew, say --force'
    return f'nothing was written to {out}; the same command begins anew'


def _told(contents: Contents, on_experiment: Callable[[int], object]) -> Contents:
    for experiment, held in contents:
        yield experiment, held
        on_experiment(1)


def _write_file(form: str, contents: Contents, out: Path | None) -> None:
    rows = (row for experiment, held in contents for row in rows_of(experiment.name, held))
    if out is None:
        # Not sys.stdout.buffer, which a writer that fails would close.
        with open(sys.stdout.fileno(), 'wb', closefd=False) as stdout:
            _FILES[form](rows, stdout)
        return
    with needing('arrow'), unfinished(out) as path, path.open('wb') as file:
        _FILES[form](rows, file)


def _write_folder(form: str, contents: Contents, out: Path, project: str) -> int:
    writer: ExperimentWriter
    if form == 'tensorboard':
        with needing('tensorboard'):
            from neptune_async._transfer.tensorboard import EventWriter
        writer = EventWriter(out)
    else:
        with needing('arrow'):
            from neptune_async._transfer.neptune_export_writing import ExportWriter
        writer = ExportWriter(out, project)
    for experiment, held in contents:
        writer.write(experiment.name, held)
    list_reasons('as near as can be', writer.notes)
    list_reasons('not written', writer.missing)
    return FAILED if writer.missing.total() else OK


VERBS = (export_verb,)
