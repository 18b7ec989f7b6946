"""Artifacts: files that are tracked, not kept. Of each are known its path, size and hash.

An artifact is kept as a small file in JSON, which is called after its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from neptune_async import File as KeptFile
from neptune_async._transfer.outputs import output
from neptune_async.exceptions import (
    InvalidArgumentError,
    StorageFormatError,
    UnreadableFileError,
)

MEDIA_TYPE = 'application/vnd.neptune-async.artifact+json'


@dataclass
class ArtifactFileData:
    """A file that is tracked, as ``fetch_files_list`` returns it.

    :ivar file_path: its path in the artifact.
    :ivar file_hash: the SHA-1 of its content.
    :ivar type: ``Local``.
    :ivar metadata: ``file_path``, where it is, as a URL; and ``last_modified``, in local time.
    """

    file_path: str
    file_hash: str
    type: str
    metadata: dict[str, str]
    size: int | None = None


def tracked(path: str, destination: str | None) -> list[ArtifactFileData]:
    """Return the file at a path, or all that are in a folder.

    :param destination: a folder of the artifact for them.
    :raises InvalidArgumentError: the path is a URL or a pattern.
    :raises UnreadableFileError: there is no file.
    """
    text = os.fspath(path).removeprefix('file://')
    if '://' in text:
        raise InvalidArgumentError(
            f'only files on this machine can be tracked, not {text!r}; assign the URL as a text'
        )
    if '*' in text:
        raise InvalidArgumentError(f'a path to track is no pattern: {text!r}; give a folder')
    source = Path(text).expanduser()
    is_folder = source.is_dir()
    files = sorted(source.rglob('*')) if is_folder else [source]
    listed = [
        _data(file, file.relative_to(source) if is_folder else Path(file.name), destination)
        for file in files
        if file.is_file()
    ]
    if not listed:
        raise UnreadableFileError(f'there is no file at {str(source)!r} to track')
    return listed


def _data(file: Path, inside: Path, destination: str | None) -> ArtifactFileData:
    try:
        found, digest = file.stat(), _sha1(file)
    except OSError as error:
        raise UnreadableFileError(f'{file} cannot be tracked: {error}') from error
    changed = datetime.fromtimestamp(found.st_mtime)  # noqa: DTZ006 - local, as in 1.x
    return ArtifactFileData(
        file_path=(Path(destination or '') / inside).as_posix(),
        file_hash=digest,
        type='Local',
        metadata={
            'file_path': f'file://{file.resolve().as_posix()}',
            'last_modified': f'{changed:%Y-%m-%d %H:%M:%S}',
        },
        size=found.st_size,
    )


def _sha1(file: Path) -> str:
    with file.open('rb') as content:
        return _copied(content, None)


def _copied(content: BinaryIO, copy: BinaryIO | None) -> str:
    """Copy what is in a file, if it is to be copied, and return its hash."""
    # It is what 1.x has identified files by, and keeps nobody out.
    digest = hashlib.sha1(usedforsecurity=False)
    while piece := content.read(2**20):
        digest.update(piece)
        if copy is not None:
            copy.write(piece)
    return digest.hexdigest()


def merged(
    before: Iterable[ArtifactFileData], added: Iterable[ArtifactFileData]
) -> list[ArtifactFileData]:
    """Return the files of an artifact to which some were added; of one path, the last."""
    return [*{file.file_path: file for file in (*before, *added)}.values()]


def hash_of(files: Iterable[ArtifactFileData]) -> str:
    """Return the hash of an artifact, which 1.x gives to the same files: a SHA-256 of the paths,
    hashes, sizes and types.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.file_path):
        digest.update(b'#' + len(file.file_path).to_bytes(4, 'big') + file.file_path.encode())
        digest.update(b'#' + file.file_hash.encode() + b'#')
        if file.size is not None:
            digest.update(file.size.to_bytes(8, 'big'))
        digest.update(b'#' + len(file.type).to_bytes(4, 'big') + file.type.encode())
    return digest.hexdigest()


def kept(digest: str, files: Iterable[ArtifactFileData]) -> KeptFile:
    """Return the file that an artifact is kept as."""
    content = {'hash': digest, 'files': [*map(asdict, files)]}
    text = json.dumps(content, indent=1, ensure_ascii=True)
    return KeptFile(text.encode(), f'{digest}.json', MEDIA_TYPE)


def read(file: Any) -> tuple[str, list[ArtifactFileData]]:
    """Return the hash and the files of an artifact.

    :raises StorageFormatError: what is kept is none.
    """
    try:
        content = json.loads(file.bytes())
        files = [ArtifactFileData(**each) for each in content['files']]
        return str(content['hash']), [*map(_checked, files)]
    except (ValueError, TypeError, KeyError) as error:
        raise StorageFormatError(f'{file.name!r} is no artifact: {error!r}') from error


def _checked(file: ArtifactFileData) -> ArtifactFileData:
    for path in (file.file_path, file.metadata['file_path']):
        if type(path) is not str:
            raise TypeError('a file has no path')
    return file


def copy_to(folder: Path, files: Iterable[ArtifactFileData]) -> None:
    """Copy the tracked files from where they are to a folder, and to nowhere outside of it.

    :raises InvalidArgumentError: the path of one leads out of the folder; nothing was copied.
    :raises UnreadableFileError: one is not there any more, or is another one now.
    """
    folder = folder.resolve()
    for source, target, digest in [*_copies(folder, files)]:
        # A folder may be a symbolic link, and so may the file that is there.
        if not target.resolve().is_relative_to(folder):
            raise InvalidArgumentError(f'{target} is a link that leads out of {folder}; remove it')
        if not source.is_file():
            raise UnreadableFileError(f'{source} is not there any more, or is no regular file')
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open('rb') as content, output(target) as copy:
                if _copied(content, copy) != digest:
                    raise UnreadableFileError(f'{source} is not what was tracked any more')
        except UnreadableFileError:
            raise
        except OSError as error:
            raise UnreadableFileError(f'{source} cannot be copied to {target}: {error}') from error


def _copies(folder: Path, files: Iterable[ArtifactFileData]) -> Iterator[tuple[Path, Path, str]]:
    for file in files:
        inside = PurePosixPath(file.file_path)
        target = folder / inside
        if inside.is_absolute() or '..' in inside.parts or not inside.parts:
            raise InvalidArgumentError(
                f'{file.file_path!r} leads out of the folder; nothing was copied'
            )
        yield Path(file.metadata['file_path'].removeprefix('file://')), target, file.file_hash
