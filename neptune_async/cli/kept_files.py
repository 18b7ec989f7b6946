"""The verb ``files``: what files an experiment has, and a copy of them in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from neptune_async import Experiment, StoredFile
from neptune_async._engine.reading.stored_files import safe_name
from neptune_async._engine.store import opened
from neptune_async._model.showing import on_one_line
from neptune_async._model.values import shown_step
from neptune_async.cli.exit_codes import FAILED, OK, complain
from neptune_async.cli.options import (
    json_option,
    name_argument,
    path_argument,
    storage_option,
    verb,
)
from neptune_async.cli.output import print_json, print_table
from neptune_async.exceptions import StorageFormatError


@dataclass(frozen=True)
class _Kept:
    """A file, and where it was logged; an atom has no step."""

    path: str
    step: int | float | None
    file: StoredFile

    @property
    def place(self) -> Path:
        """Where it goes below a folder: its path, and in a series the step before its name."""
        folders = [safe_name(part) for part in self.path.split('/')]
        step = '' if self.step is None else f'{self.step}-'
        return Path(*folders, f'{step}{safe_name(self.file.name)}')


@verb()
@name_argument()
@path_argument(required=False)
@click.option('--out', metavar='DIR', help='Write copies of the files into this folder.')
@json_option
@storage_option
def files(name: str, path: str | None, out: str | None, as_json: bool, storage: str | None) -> int:
    """List the files of an experiment, or those at and below PATH; or write copies of them.

    With --out each is written below that folder, at its path, and that of a series with its step
    before its name. Nothing is written outside, whatever a file is called, and no file that is
    there is replaced.
    """
    with opened(storage) as store:
        found = store.variables(store.find(name), path)
    variables = [(v.path, v.container) for v in found if v.content == 'file']
    with Experiment(name, storage=storage, mode='read', echo=False) as experiment:
        kept = [one for variable in variables for one in _kept(experiment, *variable)]
        if out is not None:
            return _write(kept, Path(out))
    if as_json:
        print_json([_json(one) for one in kept])
    elif not kept:
        click.echo(f'experiment {on_one_line(name)!r} has no files there', err=True)
    else:
        _print(kept)
    return OK


def _kept(experiment: Experiment, path: str, container: str) -> Iterator[_Kept]:
    if container == 'atom':
        value = experiment[path].read()
        if isinstance(value, StoredFile):
            yield _Kept(path, None, value)
        return
    for step, value in experiment[path].all(with_steps=True):
        yield _Kept(path, shown_step(float(step)), value)


def _write(kept: Sequence[_Kept], folder: Path) -> int:
    code = OK
    for one in kept:
        target = _free(folder / one.place)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            click.echo(str(one.file.download(target)))
        except StorageFormatError as error:
            complain(error)
            code = FAILED
    return code


def _free(target: Path) -> Path:
    """Return a path at which nothing is: of one step there may be several files."""
    number, free = 1, target
    while free.exists() or free.is_symlink():
        number += 1
        free = target.with_name(f'{target.stem}-{number}{target.suffix}')
    return free


def _json(one: _Kept) -> dict[str, object]:
    file = one.file
    return {
        'path': one.path, 'step': one.step, 'name': file.name, 'media_type': file.media_type,
        'size': file.size, 'sha256': file.sha256,
    }  # fmt: skip


def _print(kept: Sequence[_Kept]) -> None:
    rows = [
        [
            on_one_line(one.path),
            '' if one.step is None else str(one.step),
            on_one_line(one.file.name),
            on_one_line(one.file.media_type),
            f'{one.file.size:,}',
        ]
        for one in kept
    ]
    print_table(['path', 'step', 'name', 'type', 'bytes'], rows, right=['step', 'bytes'])


VERBS = (files,)
