"""The verb ``export``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import click

from neptune_async._engine.reading.queries import Query, satisfying
from neptune_async._engine.store import opened
from neptune_async._storage.base import ExperimentSummary
from neptune_async._transfer import files
from neptune_async._transfer.experiment_contents import Held, holdings
from neptune_async._transfer.exported_files import Contents, beside, files_in
from neptune_async._transfer.long_rows import Row, rows_of
from neptune_async._transfer.outputs import is_stream, output
from neptune_async.cli.exit_codes import FAILED, OK, complain, told_when_interrupted
from neptune_async.cli.options import (
    chosen_names,
    name_argument,
    needing,
    query_options,
    storage_option,
    verb,
)
from neptune_async.cli.output import list_reasons, progress

Experiments: TypeAlias = Iterator[tuple[ExperimentSummary, Iterator[Held]]]

_FILES = ('jsonl', 'csv', 'parquet')
"""Formats that are one file."""
_TEXTS = ('jsonl', 'csv')
_STDOUT = Path('-')
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
    help='The file or folder to make; - is stdout, where JSON lines and CSV go by themselves.',
)
@click.option(
    '--project',
    default='neptune-async/export',
    show_default=True,
    help='The project that neptune-export is to say the runs are of.',
)
@click.option('--force', is_flag=True, help='Write over what is there.')
@query_options
@storage_option
def export_verb(
    name: Sequence[str],
    form: str,
    out: Path | None,
    project: str,
    force: bool,
    query: Query,
    storage: str | None,
) -> int:
    """Write experiments to files: those of each NAME, which may be a glob, or all.

    What is written is there once it is whole. The files that experiments refer to go to a folder
    beside it, OUT.files, but for those of TensorBoard, which has images in its own. What a format
    cannot hold, and what is damaged, is counted on stderr, and the exit code is 1 then.
    """
    if out is None and form not in _TEXTS:
        raise click.UsageError(f'--format {form} needs --out: the file or folder to make')
    out = out or _STDOUT
    _check_out(out, form, force)
    with told_when_interrupted(_left_by_export(form, out)), opened(storage) as store:
        names = chosen_names(store, name) if name else None
        experiments = store.ask(lambda storage: storage.find_experiments(names))
        experiments = store.call(satisfying, query, experiments)
        with progress('experiments', len(experiments)) as on_experiment:
            unreadable: Counter[str] = Counter()
            contents = Contents(store)
            found = _told(holdings(store, experiments, unreadable), on_experiment)
            try:
                if form in _FOLDERS:
                    missing = _write_folder(form, found, contents, out, project)
                else:
                    folder = None if is_stream(out) else beside(out)
                    found = _with_files_written(found, contents, folder)
                    missing = _write_file(form, found, out)
            except BrokenPipeError:
                raise
            except OSError as error:
                complain(f'{_shown(out)} cannot be written: {error.strerror or error}')
                return FAILED
        missing += unreadable + contents.missing
        list_reasons('not written', missing)
        return FAILED if missing.total() else OK


def _check_out(out: Path, form: str, force: bool) -> None:
    if is_stream(out):
        if form in _FOLDERS:
            raise click.UsageError(f'--format {form} makes a folder, and {_shown(out)} is none')
        return
    if not force and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise click.UsageError(f'{out} is there already; name another, or say --force')
    if form in _FILES and not out.parent.is_dir():
        raise click.UsageError(f'{out} cannot be written: there is no folder {out.parent}')


def _shown(out: Path) -> str:
    return 'stdout' if out == _STDOUT else str(out)


def _left_by_export(form: str, out: Path) -> str:
    """Return what there is of an export that Ctrl-C ends."""
    if form in _FOLDERS:
        return f'{out} has the experiments that were done; to begin anew, say --force'
    if is_stream(out):
        return f'what was {"printed" if out == _STDOUT else f"written to {out}"} is not all'
    return f'nothing was written to {out}; the same command begins anew'


def _told(found: Experiments, on_experiment: Callable[[int], object]) -> Experiments:
    for experiment, held in found:
        yield experiment, held
        on_experiment(1)


def _with_files_written(found: Experiments, contents: Contents, folder: Path | None) -> Experiments:
    """Write the files that variables refer to.

    :param folder: to write to; None if there is no place beside a stream: they are counted.
    """

    def writing(name: str, held: Iterable[Held]) -> Iterator[Held]:
        for one in held:
            if folder is None:
                contents.leave_out(name, sum(1 for _ in files_in(one)))
            else:
                for file in files_in(one):
                    contents.write(name, one.variable.path, file, folder)
            yield one

    for experiment, held in found:
        yield experiment, writing(experiment.name, held)


def _write_file(form: str, found: Experiments, out: Path) -> Counter[str]:
    rows = (row for experiment, held in found for row in rows_of(experiment.name, held))
    with needing('arrow'), output(out) as file:
        return _writer(form)(rows, file)


def _writer(form: str) -> Callable[[Iterable[Row], BinaryIO], Counter[str]]:
    if form == 'parquet':
        from neptune_async._transfer.parquet import write_parquet

        return write_parquet
    return files.write_csv if form == 'csv' else files.write_jsonl


def _write_folder(
    form: str, found: Experiments, contents: Contents, out: Path, project: str
) -> Counter[str]:
    writer: ExperimentWriter
    if form == 'tensorboard':
        with needing('tensorboard'):
            from neptune_async._transfer.tensorboard import EventWriter
        writer = EventWriter(out, contents)
    else:
        with needing('arrow'):
            from neptune_async._transfer.neptune_export_writing import ExportWriter
        writer = ExportWriter(out, project, contents)
    for experiment, held in found:
        writer.write(experiment.name, held)
    list_reasons('as near as can be', writer.notes)
    return writer.missing


VERBS = (export_verb,)
