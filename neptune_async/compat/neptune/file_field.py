"""What a field does with files: those that it is given, and those that it gives back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from neptune_async import Atom, Series, StoredFile
from neptune_async import File as KeptFile
from neptune_async._engine.reading.stored_files import safe_name
from neptune_async.compat.neptune import artifacts, file_sets
from neptune_async.compat.neptune.artifacts import ArtifactFileData
from neptune_async.compat.neptune.field import Field, R
from neptune_async.compat.neptune.file_sets import FileEntry
from neptune_async.compat.neptune.files import File
from neptune_async.exceptions import (
    ContainerTypeError,
    InvalidArgumentError,
    InvalidPathError,
    UnreadableFileError,
    VariableNotFoundError,
)


class FileField(Field[R]):
    """The methods of a field that take files and give them back."""

    def upload(self, value: Any, *, wait: bool = False, **kwargs: Any) -> None:
        """Keep a file as the field's value.

        :param value: a path, a ``File``, or what is taken for an image or a page as it is.
        :param kwargs: ``include_plotlyjs``, for a chart.
        :raises FileUploadError: there is no file at the path, or it cannot be read.
        """
        if isinstance(value, (str, os.PathLike)) and os.path.isdir(value):
            raise UnreadableFileError(f'{os.fspath(value)!r} is a folder; use upload_files')
        self._view.assign(File.create_from(value, **kwargs).kept_as(self._name))
        self._run._wrote(wait)

    def upload_files(self, value: str | Iterable[str], *, wait: bool = False) -> None:
        """Keep files as the fields of a namespace, each at its path in the set.

        What cannot be read is left out with a warning.

        :param value: paths of files and folders, and patterns, as ``glob`` takes them.
        """
        count = 0
        for inside, path in file_sets.found(file_sets.patterns(value)):
            count += 1
            try:
                self._run.experiment[f'{self._path}/{inside}'].assign(KeptFile(path))
            except (InvalidPathError, UnreadableFileError) as error:
                self._run.warn_once(f'{self._path} {path}', f'{error}; it was left out')
        if not count:
            self._run.warn_once(
                f'{self._path} {value}', f'{self._path!r}: there is no file at {value!r}'
            )
        self._run._wrote(wait)

    def _replace_files(self, globs: Iterable[str]) -> None:
        if self._view.exists():
            self._view.delete()
        self.upload_files([*globs])

    def delete_files(self, paths: str | Iterable[str], *, wait: bool = False) -> None:
        """Delete files of a set, or folders of it, by their paths in it. One that is not there is
        warned of.

        :raises InvalidArgumentError: a path is that of the set itself; ``pop`` deletes that.
        """
        listed = file_sets.patterns(paths)
        if not all(inside.strip('/') for inside in listed):
            raise InvalidArgumentError('a path in the set is empty; pop() deletes the whole set')
        for inside in listed:
            try:
                self._run.experiment[f'{self._path}/{inside}'].delete()
            except VariableNotFoundError as error:
                self._run.warn_once(f'{self._path} {inside}', str(error))
        self._run._wrote(wait)

    def list_fileset_files(self, path: str | None = None) -> list[FileEntry]:
        """Return what is in a set of files, or in a folder of it, one level."""
        return file_sets.entries(self._files_of_set('list_fileset_files'), path or '')

    def _files_of_set(self, method: str) -> list[tuple[str, Any]]:
        """Return the path in the set of each file, and the file.

        :raises ContainerTypeError: there is something else in the namespace, too.
        """
        files = [*_flat('', self._view.to_dict())]
        if not all(isinstance(file, StoredFile) for _, file in files):
            raise ContainerTypeError(
                f'{self._path!r} is a namespace of more than files and has no {method}()'
            )
        return files

    def download(self, destination: str | None = None, progress_bar: Any = None) -> None:
        """Write what the field has to a file, or to files.

        A file gets the name of the field and its own extension, if the destination is a folder or
        None, which is the working directory; so does a ZIP archive of a set of files. Those of a
        series get their positions as names, in a folder, which is
        ``neptune/<name of the field>`` without a destination. Those of an artifact are copied from
        where they are, to their paths in a folder.

        :raises FileUploadError: the destination cannot be written to.
        """
        kind = self._kind()
        if kind is None:
            files = self._files_of_set('download')
            file_sets.write_zip(files, _target(f'{self._name}.zip', destination))
        elif kind == (Atom, KeptFile):
            file: Any = self._view.read()
            if file.media_type == artifacts.MEDIA_TYPE:
                artifacts.copy_to(Path(destination or '.'), artifacts.read(file)[1])
            else:
                file.download(_target(f'{self._name}{_suffix(file)}', destination))
        elif kind == (Series, KeptFile):
            folder = self._folder(destination)
            for position, file in enumerate(self._view.all()):
                _numbered(file, position, folder)
        else:
            raise self._refusal('download', 'it is no file')

    def download_last(self, destination: str | None = None) -> None:
        """Write the last file of a series, as ``download`` does.

        :raises ValueError: it has none.
        """
        if self._view.variable_type() != (Series, KeptFile):
            raise self._refusal('download_last', 'it is no series of files')
        files = self._view.all()
        if not files:
            raise InvalidArgumentError(f'the series {self._path!r} has no file')
        _numbered(files[-1], len(files) - 1, self._folder(destination))

    def _folder(self, destination: str | None) -> Path:
        folder = Path('neptune', safe_name(self._name)) if destination is None else destination
        folder = Path(folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def fetch_extension(self) -> str:
        """Return the end of the file's name, without the dot."""
        if self._view.variable_type() != (Atom, KeptFile):
            raise self._refusal('fetch_extension', 'it is no file')
        return _suffix(self._view.read())[1:]

    def track_files(self, path: str, *, destination: str | None = None, wait: bool = False) -> None:
        """Note the path, the size and the hash of a file, or of all in a folder, in an artifact;
        their content is not kept. What is tracked there already stays.

        :param destination: a folder of the artifact for them.
        :raises InvalidArgumentError: the path is the URL of another machine.
        :raises FileUploadError: there is no file.
        """
        files = artifacts.tracked(path, destination)
        if self._view.exists():
            files = artifacts.merged(self._artifact('track_files')[1], files)
        self._view.assign(artifacts.kept(artifacts.hash_of(files), files))
        self._run._wrote(wait)

    def fetch_hash(self) -> str:
        """Return the hash of an artifact: of the paths, sizes and hashes of its files."""
        return self._artifact('fetch_hash')[0]

    def fetch_files_list(self) -> list[ArtifactFileData]:
        """Return what is known of the files of an artifact."""
        return self._artifact('fetch_files_list')[1]

    def _artifact(self, method: str) -> tuple[str, list[ArtifactFileData]]:
        if self._view.variable_type() == (Atom, KeptFile):
            file: Any = self._view.read()
            if file.media_type == artifacts.MEDIA_TYPE:
                return artifacts.read(file)
        raise self._refusal(method, 'it is no artifact')

    def _kind(self) -> tuple[type, type] | None:
        """Return container and content; None of a namespace."""
        try:
            return self._view.variable_type()
        except VariableNotFoundError:
            self._view.namespace_contents()
            return None


def _flat(path: str, contents: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, content in contents.items():
        below = f'{path}/{name}' if path else name
        if isinstance(content, dict):
            yield from _flat(below, content)
        else:
            yield below, content


def _numbered(file: Any, position: int, folder: Path) -> None:
    file.download(folder / safe_name(f'{position}{_suffix(file)}'))


def _suffix(file: Any) -> str:
    suffix: str = os.path.splitext(file.name)[1]
    return suffix


def _target(name: str, destination: str | os.PathLike[str] | None) -> Path:
    target = Path('.' if destination is None else destination)
    return target / safe_name(name) if target.is_dir() else target
