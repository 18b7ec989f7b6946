"""TensorBoard's event files: scalars and texts, in TensorBoard's own protocol; histograms and
images are written only.

A folder that has event files is a run, its path below the log folder the
experiment's name. A tag is a variable's path. All points are read, none is sampled.
Records are read here: TensorBoard's reader ends at the first that it cannot read, and makes
what sizes and shapes in it ask for.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError
from tensorboard.compat.proto import event_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.audio import metadata as audio
from tensorboard.plugins.graph import metadata as graphs
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c
from tensorboard.util import tensor_util

from neptune_async._media.dimensions import dimensions
from neptune_async._model.values import MAX_STEP
from neptune_async._storage.points import expanded
from neptune_async._transfer.experiment_contents import Held
from neptune_async._transfer.exported_files import Contents
from neptune_async._transfer.importing import Rows, Skipped, in_batches
from neptune_async._transfer.names import folder_below
from neptune_async._transfer.outputs import output
from neptune_async._transfer.row_operations import Draft
from neptune_async.exceptions import StorageFormatError
from neptune_async.files import FileReference, Histogram

_FIRST_BYTES = 32
"""Bytes at the beginning of a file that tell it from others: the time at which it was begun is
among them.
"""
_RECORD_HEAD = struct.Struct('<QI')
"""A record's length and the checksum of that; behind the record is a checksum of 4 bytes."""
_RECORD_FRAME = _RECORD_HEAD.size + 4
_IMAGES = ('image/png', 'image/jpeg')
_KEPT = 'only scalars and texts are kept'
_OF_THE_WRITER = (None, 'file_version', 'source_metadata', 'session_log')
"""What events hold that says nothing but that a file, or a session, was begun or saved."""
_OLD_KINDS = {
    'simple_value': scalars.PLUGIN_NAME,
    'histo': histograms.PLUGIN_NAME,
    'image': images.PLUGIN_NAME,
    'audio': audio.PLUGIN_NAME,
}
"""The plugins for what writers put beside the tensor before there were plugins."""


def find_files(folder: Path) -> list[list[EventFile]]:
    """Return the event files below a folder, those of a run together, the oldest first."""
    groups: dict[Path, list[EventFile]] = {}
    for path in sorted(folder.rglob('*tfevents*')):
        if path.is_file() and path.suffix != '.tmp':
            groups.setdefault(path.parent, []).append(EventFile(path, _run(folder, path)))
    return [groups[run] for run in sorted(groups)]


def creation_times(groups: Iterable[Sequence[EventFile]]) -> dict[str, float]:
    """Return when each run was begun, as its first events say; NaN if there is none."""
    return {file.run: file.creation_time() for file, *_ in groups}


def _run(folder: Path, path: Path) -> str:
    below = path.parent.relative_to(folder).as_posix()
    return folder.resolve().name if below == '.' else below


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of an event.

    :ivar kind: the plugin that shows it.
    :ivar value: a float or a text, or what is to be said of one that is neither.
    """

    tag: str
    kind: str
    step: int
    time: float
    value: float | str | _Odd | None = None


class _Odd(Exception):
    """A tensor is none of a scalar or a text; the message says why."""


class EventFile:
    """An event file, which may grow: what was taken in stays, and what comes is taken in later."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self.run = run

    def creation_time(self) -> float:
        """Return the time of the first two events: one says when the file was made, which may be
        long after the run, as in an export.
        """
        times = (event.wall_time for _, event in self._events() if event is not None)
        try:
            return min(islice(times, 2), default=math.nan)
        except StorageFormatError:  # it is told when it is read
            return math.nan

    @cached_property
    def identity(self) -> bytes:
        """The file's name, which has time, host and process in it, and how it begins."""
        with self._path.open('rb') as file:
            return os.fsencode(self._path.name) + file.read(_FIRST_BYTES)

    def read(self) -> Iterator[Rows[str] | Skipped]:
        """Yield its values in batches.

        :raises StorageFormatError: it is damaged; what comes before that was yielded.
        """
        for batch in in_batches(self._values(), lambda _: self.run):
            if isinstance(batch, Skipped):
                yield batch
            else:
                kinds = Counter(value.kind for value in batch)
                yield Rows(self.run, len(batch), kinds, partial(_fill, batch))

    def _values(self) -> Iterator[_Value | Skipped]:
        kinds: dict[str, str] = {}  # what the first value of a tag says holds for all
        for position, event in self._events():
            if event is None:
                yield Skipped(f'{self._path}: the record at byte {position:,} is no event')
                continue
            what = event.WhichOneof('what')
            if what == 'summary':
                for value in event.summary.value:
                    yield _value(event, value, kinds)
            elif what == 'graph_def':
                yield _Value(graphs.RUN_GRAPH_NAME, graphs.PLUGIN_NAME, event.step, event.wall_time)
            elif what == 'tagged_run_metadata':
                tag, kind = event.tagged_run_metadata.tag, graphs.PLUGIN_NAME_TAGGED_RUN_METADATA
                yield _Value(tag, kind, event.step, event.wall_time)
            elif what not in _OF_THE_WRITER:
                yield Skipped(f'a {what}: {_KEPT}', has_no_form=True)

    def _events(self) -> Iterator[tuple[int, Any | None]]:
        """Yield where each record begins, and its event; None if it is no event."""
        for position, record in self._records():
            try:
                event = event_pb2.Event.FromString(record)
            except DecodeError:
                event = None
            yield position, event

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Yield whole records. The last may still be being written; no length is believed that
        goes beyond the file.
        """
        try:
            with self._path.open('rb') as file:
                size, position = os.fstat(file.fileno()).st_size, 0
                while size - position >= _RECORD_HEAD.size:
                    head = file.read(_RECORD_HEAD.size)
                    length, checksum = _RECORD_HEAD.unpack(head)
                    end = position + _RECORD_FRAME + length
                    if masked_crc32c(head[:8]) != checksum:
                        raise self._damaged(position, size)
                    if end > size:
                        return
                    record = file.read(length)
                    if file.read(4) != struct.pack('<I', masked_crc32c(record)):
                        raise self._damaged(position, size)
                    yield position, record
                    position = end
        except OSError as error:
            raise StorageFormatError(f'{self._path} cannot be read: {error.strerror}') from error

    def _damaged(self, position: int, size: int) -> StorageFormatError:
        return StorageFormatError(
            f'{self._path} is damaged at byte {position:,} of {size:,}; nothing behind that was '
            'taken in'
        )


def _value(event: Any, value: Any, kinds: dict[str, str]) -> _Value:
    """Return a value of an event without what is not kept, which may be large.

    :param kinds: of the tags; takes what this one says.
    """
    old = value.WhichOneof('value')
    said = _OLD_KINDS.get(old) or value.metadata.plugin_data.plugin_name
    kind = kinds[value.tag] = said or kinds.get(value.tag, 'unknown')
    read: float | str | _Odd | None = None
    try:
        if kind == scalars.PLUGIN_NAME:
            read = value.simple_value if old == 'simple_value' else _number(value.tensor)
        elif kind == texts.PLUGIN_NAME:
            read = _text(value.tensor)
    except _Odd as why:
        read = why
    return _Value(value.tag, kind, event.step, event.wall_time, read)


def _fill(values: list[_Value], draft: Draft, start: int, stop: int) -> None:
    floats: list[tuple[str, float, float, float]] = []
    for value in values[start:stop]:
        if value.value is None:
            draft.leave_out(f'values of {value.kind}: {_KEPT}')
        elif abs(value.step) > MAX_STEP:
            draft.refuse(value.tag, 'a step is beyond 2**53')
        elif not math.isfinite(value.time):
            draft.refuse(value.tag, f'{value.time} is no time')
        elif isinstance(value.value, _Odd):
            draft.refuse(value.tag, value.value)
        elif isinstance(value.value, str):
            draft.point(value.tag, 'str', float(value.step), value.time, value.value)
        else:
            floats.append((value.tag, float(value.step), value.time, value.value))
    if floats:
        tags, steps, times, numbers = zip(*floats, strict=True)
        draft.floats(list(tags), steps, times, numbers)


def _number(tensor: Any) -> float:
    """Return the number in a tensor.

    :raises _Odd: there is none.
    """
    # A few bytes of shape are enough to have an array of any size made.
    if any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        raise _Odd(f'it is no scalar: its shape is {_shape(tensor)}')
    try:
        found = tensor_util.make_ndarray(tensor).item()
        number = float(found)
    except Exception as error:  # whatever TensorBoard meets with in what is no such tensor
        raise _Odd(f'it is no scalar: {error}') from error
    if isinstance(found, (str, bytes)) or (found != number and found == found):
        raise _Odd(f'it is no float: {found!r}')
    return number


def _text(tensor: Any) -> str:
    """Return a text; of several, as a table of them has, one a line.

    :raises _Odd: there is none.
    """
    parts = tensor.string_val
    if tensor.dtype != types_pb2.DT_STRING:
        raise _Odd('it is no text: its tensor is of another type')
    if math.prod(dimension.size for dimension in tensor.tensor_shape.dim) != len(parts):
        raise _Odd(f'it is no text: its shape is {_shape(tensor)}, and it has {len(parts):,} texts')
    return '\n'.join(map(_decoded, parts))


def _shape(tensor: Any) -> str:
    sizes = [str(dimension.size) for dimension in tensor.tensor_shape.dim]
    return f'({", ".join(sizes[:8])}{", ..." if len(sizes) > 8 else ""})'


def _decoded(text: bytes) -> str:
    try:
        return text.decode('utf-8', 'surrogatepass')
    except UnicodeDecodeError:
        return text.decode('utf-8', 'surrogateescape')  # so that no byte is lost


# ── Writing ──────────────────────────────────────────────────────────────────


_LARGEST_IMAGE = 2**26
"""Bytes of an image that is written: TensorBoard has all that it shows in memory."""


@dataclass(frozen=True, slots=True)
class _Image:
    width: int
    height: int
    content: bytes


_METADATA = {
    kind: plugin.create_summary_metadata('', '')
    for kind, plugin in ((float, scalars), (str, texts), (Histogram, histograms), (_Image, images))
}


class EventWriter:
    """Writes series of floats, texts and histograms, and images, each experiment to a folder of its
    name.

    A float is written as float64, which TensorBoard reads as well as float32.

    :param contents: of the files that are images.
    :ivar notes: points that are not quite as they were, by what is to be said of them.
    :ivar missing: variables that TensorBoard has nothing for, likewise.
    """

    def __init__(self, folder: Path, contents: Contents) -> None:
        self._folder = folder
        self._contents = contents
        self.notes: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()

    def write(self, experiment: str, holdings: Iterable[Held]) -> None:
        """Write an experiment, which is there once all of it is."""
        folder = folder_below(self._folder, experiment)
        is_named_so = folder.relative_to(self._folder).as_posix() == experiment
        self.notes['names that no folder can have became others'] += not is_named_so
        folder.mkdir(parents=True, exist_ok=True)
        with output(folder / 'events.out.tfevents.neptune_async') as file:
            self._write(file, experiment, holdings)

    def _write(self, file: BinaryIO, experiment: str, holdings: Iterable[Held]) -> None:
        writer = RecordWriter(file)
        # The time is what tells the file from others.
        version = event_pb2.Event(wall_time=time.time(), file_version='brain.Event:2')
        writer.write(version.SerializeToString())
        for held in holdings:
            for event in self._events(experiment, held, version.wall_time):
                writer.write(event.SerializeToString())

    def _events(self, experiment: str, held: Held, now: float) -> Iterator[Any]:
        variable = held.variable
        if isinstance(held.value, FileReference):
            points: Iterable[tuple[float, float, Any]] = [(0.0, now, held.value)]
        elif variable.container != 'series' or variable.content == 'datetime':
            kind = f'{variable.container}s' if variable.container != 'series' else 'datetimes'
            self.missing[f'{kind} have no form in TensorBoard'] += 1
            return
        else:
            columns = ((expanded(piece.steps), piece.times, piece.values) for piece in held.pieces)
            points = chain.from_iterable(zip(*each, strict=True) for each in columns)
        for step, when, value in points:
            whole = round(step)
            if abs(whole) >= 2**63:
                self.missing['points have a step beyond 64 bits'] += 1
                continue
            shown = value
            if isinstance(value, FileReference):
                shown = self._image(experiment, variable.path, value)
                if shown is None:
                    continue
                self.notes['images of no series are at step 0'] += variable.container == 'atom'
            self.notes['steps were rounded to whole numbers'] += whole != step
            event = event_pb2.Event(wall_time=when, step=whole)
            event.summary.value.add(
                tag=variable.path, tensor=_tensor(shown), metadata=_METADATA[type(shown)]
            )
            yield event

    def _image(self, experiment: str, path: str, file: FileReference) -> _Image | None:
        """Return a file that is an image; None of others, which are counted."""
        is_image = file.media_type.partition(';')[0].strip().lower() in _IMAGES
        if is_image and file.size <= _LARGEST_IMAGE:
            content = self._contents.read(experiment, path, file)
            if content is None:
                return None
            if size := dimensions(content):
                return _Image(*size, content)
        self.missing[
            'files have no form in TensorBoard but PNG and JPEG of up to 64 MiB; '
            'neptune-async files writes them'
        ] += 1
        return None


def _tensor(value: Any) -> Any:
    if isinstance(value, float):
        shape = tensor_shape_pb2.TensorShapeProto()
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_DOUBLE, tensor_shape=shape, double_val=[value]
        )
    if isinstance(value, Histogram):
        # A row a bin: its edges, and how many values it has.
        rows = zip(value.edges, value.edges[1:], value.counts, strict=False)
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_DOUBLE,
            tensor_shape=tensor_shape_pb2.TensorShapeProto(
                dim=[{'size': len(value.counts)}, {'size': 3}]
            ),
            double_val=[number for row in rows for number in row],
        )
    if isinstance(value, _Image):
        parts = [b'%d' % value.width, b'%d' % value.height, value.content]
    else:
        parts = [value.encode('utf-8', 'surrogatepass')]
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{'size': len(parts)}])
    return tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=parts)
