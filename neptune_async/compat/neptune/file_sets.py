"""Sets of files: a namespace in which each file is a field, at its path in the set."""

from __future__ import annotations

import glob
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from neptune_async._engine.reading.stored_files import safe_name
from neptune_async._transfer.outputs import output
from neptune_async.exceptions import UnsupportedValueError


@dataclass
class FileEntry:
    """A file or a folder of a set, as ``list_fileset_files`` returns it.

    :ivar size: bytes; None of a folder.
    :ivar mtime: is not kept, and None.
    :ivar file_type: ``file`` or ``directory``.
    """

    name: str
    size: int | None
    mtime: datetime | None
    file_type: str


def patterns(values: object) -> list[str]:
    """Return paths and patterns as a list.

    :raises UnsupportedValueError: they are no texts.
    """
    listed: list[Any] = [*values] if isinstance(values, (list, tuple, set)) else [values]
    for each in listed:
        if not isinstance(each, (str, os.PathLike)):
            raise UnsupportedValueError(
                f'the files of a set are named by paths, not by a {type(each).__name__}'
            )
    return [*map(os.fspath, listed)]


def found(globs: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files that some patterns name, each with its path in the set, in order.

    A folder is all that is in it. Paths in the set begin in the working directory, if all that was
    found has a common folder below that; else in their common folder.
    """
    matches = sorted(
        {os.path.abspath(one) for each in globs for one in glob.glob(each, recursive=True)}
    )
    root = _root(matches)
    seen: set[Path] = set()
    for match in matches:
        for path in _files(match):
            if path not in seen:
                seen.add(path)
                yield Path(os.path.relpath(path, root)).as_posix(), path


def _root(paths: list[str]) -> str:
    working = os.getcwd()
    if not paths:
        return working
    root = os.path.commonpath(paths)
    if os.path.isfile(root):
        root = os.path.dirname(root)
    return working if root.startswith(working + os.sep) else root


def _files(path: str) -> Iterator[Path]:
    if not os.path.isdir(path):
        yield Path(path)
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        yield from (Path(folder, file) for file in sorted(files))


def entries(files: Iterable[tuple[str, Any]], folder: str) -> list[FileEntry]:
    """Return what is directly in a folder of a set.

    :param files: the path in the set of each, and what was stored.
    :param folder: empty is the set itself.
    """
    listed: dict[str, FileEntry] = {}
    prefix = '/'.join(filter(None, folder.split('/')))
    prefix = f'{prefix}/' if prefix else ''
    for path, file in files:
        if path.startswith(prefix):
            name, slash, _ = path[len(prefix) :].partition('/')
            listed[name] = (
                FileEntry(name, None, None, 'directory')
                if slash
                else FileEntry(name, file.size, None, 'file')
            )
    return [*listed.values()]


def write_zip(files: Iterable[tuple[str, Any]], path: Path) -> None:
    """Write a ZIP archive of the files of a set. It is there whole, or not at all.

    Whoever unpacks it gets nothing outside of the folder where they do.
    """
    with output(path) as target, zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, file in files:
            inside = '/'.join(map(safe_name, name.split('/')))
            with file.open() as source, archive.open(inside, 'w', force_zip64=True) as member:
                shutil.copyfileobj(source, member)
