"""The verb ``import``: from other tools, and from files that were exported."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import click

from neptune_async._engine.store import opened
from neptune_async._model.showing import harmless
from neptune_async._transfer.importing import Importer, Report, RowFile
from neptune_async.cli.exit_codes import FAILED, GOES_ON, OK, complain, told_when_interrupted
from neptune_async.cli.options import EXIT_CODES, json_option, needing, storage_option, verb
from neptune_async.cli.output import list_reasons, print_json, progress
from neptune_async.exceptions import StorageError


class _Resumable(click.Group):
    """Verbs that go on when they are run again."""

    def invoke(self, ctx: click.Context) -> Any:
        with told_when_interrupted(GOES_ON):
            return super().invoke(ctx)


@click.group('import', cls=_Resumable, epilog=EXIT_CODES)
def import_verb() -> None:
    """Take experiments of other tools, or files that were exported, into a store.

    Each row is stored once: an import that was interrupted goes on where it was when it is
    begun again, and one that is repeated stores nothing. That rests on what is in the files,
    wherever they are, and on the experiments, which are made anew once they were deleted.
    """


def _prefix_option(function: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option('--prefix', default='', help='Put before the name of each experiment.')
    return option(function)


def _files_option(function: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option(
        '--files',
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help='The folder of the files that rows refer to, if it is not where it was exported to.',
    )
    return option(function)


@verb('neptune-export')
@click.argument('folder', type=click.Path(exists=True, file_okay=False, path_type=Path))
@_files_option
@_prefix_option
@json_option
@storage_option
def import_neptune_export(
    folder: Path, files: Path | None, prefix: str, as_json: bool, storage: str | None
) -> int:
    """Take in what neptune-exporter wrote: all Parquet files below FOLDER, and the files that they
    refer to, from the folder beside it.

    An experiment is named as its run's id; with the project before it, as in
    'workspace/project/RUN-1', where several projects have a run of that id. Files become
    atoms, or series, of files; of their paths, if there is no folder of files. Histograms become
    series of JSON, but for those that `export` wrote.
    """
    with needing('arrow'):
        from neptune_async._transfer import neptune_export
    files = files or neptune_export.folder_of_files(folder)
    parts = neptune_export.find_files(folder, files)
    if not parts:
        raise click.UsageError(f'no .parquet file is below {folder}')
    names = neptune_export.names_of(parts)
    total = sum(part.row_count for part in parts)
    groups = neptune_export.grouped(parts)
    created_of = neptune_export.creation_times(parts).get
    return _import(groups, lambda run: prefix + names[run], total, as_json, storage, created_of)


@verb('tensorboard')
@click.argument('folder', type=click.Path(exists=True, file_okay=False, path_type=Path))
@_prefix_option
@json_option
@storage_option
def import_tensorboard(folder: Path, prefix: str, as_json: bool, storage: str | None) -> int:
    """Take in scalars and texts from TensorBoard's event files below FOLDER.

    Each folder with event files is a run, and the experiment's name its path below FOLDER. All
    points are taken in; when the files have grown, only what is new. Images, graphs and all else
    are left out and counted, and the exit code is 1 then.
    """
    with needing('tensorboard'):
        from neptune_async._transfer import tensorboard
    groups = tensorboard.find_files(folder)
    if not groups:
        raise click.UsageError(f'no event file is below {folder}')
    created_of = tensorboard.creation_times(groups).get
    return _import(groups, lambda run: prefix + run, None, as_json, storage, created_of)


@verb('file')
@click.argument('file', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_files_option
@_prefix_option
@json_option
@storage_option
def import_file(
    file: Path, files: Path | None, prefix: str, as_json: bool, storage: str | None
) -> int:
    """Take in a .jsonl, .csv or .parquet file that `export` wrote, and the files that it refers to,
    from the folder FILE.files.
    """
    from neptune_async._transfer.files import Csv, JsonLines

    opened_file: RowFile[str]
    if file.suffix == '.jsonl':
        opened_file = JsonLines(file, files)
    elif file.suffix == '.csv':
        opened_file = Csv(file, files)
    elif file.suffix == '.parquet':
        with needing('arrow'):
            from neptune_async._transfer.parquet import Parquet
        opened_file = Parquet(file, files)
    else:
        raise click.UsageError(f'{file} is none of .jsonl, .csv, .parquet')
    return _import([[opened_file]], lambda name: prefix + name, None, as_json, storage)


def _import(
    groups: Sequence[Sequence[RowFile[Any]]],
    name_of: Callable[[Any], str],
    total: int | None,
    as_json: bool,
    storage: str | None,
    created_of: Callable[[Any], float | None] = lambda _: None,
) -> int:
    """Take in files, group by group, and tell what that came to."""
    failure: StorageError | None = None
    with opened(storage) as store, progress('rows', total) as on_rows:
        store.open_for_writing()
        importer: Importer[Hashable] = Importer(store, name_of, on_rows, created_of)
        try:
            for files in groups:
                importer.take(files)
        except StorageError as error:
            failure = error
    _tell(importer.report, as_json)
    failures = [*importer.report.damaged, *([str(failure)] if failure else [])]
    for one in failures:
        complain(f'{one}; what was stored is left out when the same command is run again')
    report = importer.report
    return FAILED if failures or report.refused or report.left_out else OK


def _tell(report: Report, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                'read': report.read,
                'stored': report.stored,
                'known': report.known,
                'refused': report.refused.total(),
                'left_out': report.left_out,
                'experiments': sorted(report.experiments),
                'kinds': report.kinds,
                'reasons': report.refused,
                'notes': report.notes,
                'damaged': report.damaged,
            }
        )
        return
    click.echo(
        f'{report.read:,} rows read, {report.stored:,} stored in '
        f'{len(report.experiments):,} experiments, {report.known:,} were there already'
    )
    for kind, count in sorted(report.kinds.items()):
        click.echo(f'{count:>14,}  {harmless(kind)}')
    list_reasons('as near as can be', report.notes)
    list_reasons('left out', report.left_out)
    list_reasons('not stored', report.refused)


for command in (import_neptune_export, import_tensorboard, import_file):
    import_verb.add_command(command)

VERBS = (import_verb,)
