"""TensorBoard's event files: scalars and texts, with TensorBoard's own reader and protocol.

A folder that has event files is a run, its path below the log folder the
experiment's name. A tag is a variable's path. All points are read, none is sampled.
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
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard import data_compat, dataclass_compat
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c
from tensorboard.util import tensor_util

from neptune_async._model.values import MAX_STEP
from neptune_async._storage.chunks import expanded
from neptune_async._transfer.drafts import Draft
from neptune_async._transfer.holdings import Held
from neptune_async._transfer.importing import BATCH_ROWS, Rows
from neptune_async._transfer.names import folder_below, unfinished
from neptune_async.exceptions import StorageFormatError

_FIRST_BYTES = 32
"""Bytes at the beginning of a file that tell it from others: the time at which it was begun is
among them.
"""
_RECORD_HEAD = struct.Struct('<QI')
"""A record's length and the checksum of that; behind the record is a checksum of 4 bytes."""
_RECORD_FRAME = _RECORD_HEAD.size + 4


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
    """

    tag: str
    kind: str
    step: int
    time: float
    tensor: Any


class EventFile:
    """An event file, which may grow: what was taken in stays, and what comes is taken in later."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self.run = run
        self._size = self._end = 0  # how large it was when it was read, and how far that came

    def creation_time(self) -> float:
        """Return the time of the first two events: one says when the file was made, which may be
        long after the run, as in an export.
        """
        return min((event.wall_time for event in islice(self._events(), 2)), default=math.nan)

    @cached_property
    def identity(self) -> bytes:
        """The file's name, which has time, host and process in it, and how it begins."""
        with self._path.open('rb') as file:
            return os.fsencode(self._path.name) + file.read(_FIRST_BYTES)

    def read(self) -> Iterator[Rows[str]]:
        """Yield its values in batches.

        :raises StorageFormatError: it is damaged; what comes before that was yielded.
        """
        values = self._values()
        while batch := [*islice(values, BATCH_ROWS)]:
            kinds = Counter(value.kind for value in batch)
            yield Rows(self.run, len(batch), kinds, partial(_fill, batch))
        self._require_whole()

    def _values(self) -> Iterator[_Value]:
        kinds: dict[str, str] = {}  # what the first value of a tag says holds for all
        for event in self._events():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name:
                    kinds[value.tag] = value.metadata.plugin_data.plugin_name
                kind = kinds.get(value.tag, 'unknown')
                yield _Value(value.tag, kind, event.step, event.wall_time, value.tensor)

    def _events(self) -> Iterator[Any]:
        """Yield events as TensorBoard's ``EventFileLoader`` does, and note how far that came."""
        self._size, self._end = self._path.stat().st_size, 0
        first_metadata: dict[str, Any] = {}
        for record in RawEventFileLoader(str(self._path)).Load():
            self._end += _RECORD_FRAME + len(record)
            event = data_compat.migrate_event(event_pb2.Event.FromString(record))
            yield from dataclass_compat.migrate_event(event, first_metadata)

    def _require_whole(self) -> None:
        """Refuse what the reader came to no end of. It stops at a record whose checksum differs as
        it does at one that is still being written.
        """
        left = self._size - self._end
        if left < _RECORD_HEAD.size:
            return
        with self._path.open('rb') as file:
            file.seek(self._end)
            head = file.read(_RECORD_HEAD.size)
        length, checksum = _RECORD_HEAD.unpack(head)
        if masked_crc32c(head[:8]) != checksum or _RECORD_FRAME + length <= left:
            raise StorageFormatError(
                f'{self._path} is damaged at byte {self._end:,} of {self._size:,}; nothing behind '
                'that was taken in'
            )


def _fill(values: list[_Value], draft: Draft, start: int, stop: int) -> None:
    floats: list[tuple[str, float, float, float]] = []
    for value in values[start:stop]:
        if value.kind not in (scalars.PLUGIN_NAME, texts.PLUGIN_NAME):
            draft.leave_out(f'values of {value.kind}: only scalars and texts are kept')
        elif abs(value.step) > MAX_STEP:
            draft.refuse(value.tag, 'a step is beyond 2**53')
        elif not math.isfinite(value.time):
            draft.refuse(value.tag, f'{value.time} is no time')
        elif value.kind == texts.PLUGIN_NAME:
            draft.point(value.tag, 'str', float(value.step), value.time, _text(value.tensor))
        else:
            try:
                number = float(tensor_util.make_ndarray(value.tensor).item())
            except (TypeError, ValueError) as error:
                draft.refuse(value.tag, f'it is no scalar: {error}')
            else:
                floats.append((value.tag, float(value.step), value.time, number))
    if floats:
        tags, steps, times, numbers = zip(*floats, strict=True)
        draft.floats(list(tags), steps, times, numbers)


def _text(tensor: Any) -> str:
    """Return a text; of several, as a table of them has, one a line."""
    parts = tensor_util.make_ndarray(tensor).reshape(-1).tolist()
    return '\n'.join(map(_decoded, parts))


def _decoded(text: bytes) -> str:
    try:
        return text.decode('utf-8', 'surrogatepass')
    except UnicodeDecodeError:
        return text.decode('utf-8', 'surrogateescape')  # so that no byte is lost


# ── Writing ──────────────────────────────────────────────────────────────────


class EventWriter:
    """Writes series of floats and texts, each experiment to a folder of its name.

    A float is written as float64, which TensorBoard reads as well as float32.

    :ivar notes: points that are not quite as they were, by what is to be said of them.
    :ivar missing: variables that TensorBoard has nothing for, likewise.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()

    def write(self, experiment: str, holdings: Iterable[Held]) -> None:
        """Write an experiment, which is there once all of it is."""
        folder = folder_below(self._folder, experiment)
        is_named_so = folder.relative_to(self._folder).as_posix() == experiment
        self.notes['names that no folder can have became others'] += not is_named_so
        folder.mkdir(parents=True, exist_ok=True)
        with (
            unfinished(folder / 'events.out.tfevents.neptune_async') as path,
            path.open('wb') as file,
        ):
            self._write(file, holdings)

    def _write(self, file: BinaryIO, holdings: Iterable[Held]) -> None:
        writer = RecordWriter(file)
        # The time is what tells the file from others.
        version = event_pb2.Event(wall_time=time.time(), file_version='brain.Event:2')
        writer.write(version.SerializeToString())
        for held in holdings:
            variable = held.variable
            if variable.container != 'series' or variable.content == 'datetime':
                kind = f'{variable.container}s' if variable.container != 'series' else 'datetimes'
                self.missing[f'{kind} have no form in TensorBoard'] += 1
            else:
                for event in self._events(held):
                    writer.write(event.SerializeToString())

    def _events(self, held: Held) -> Iterator[Any]:
        metadata = (
            scalars.create_summary_metadata('', '')
            if held.variable.content == 'float'
            else texts.create_summary_metadata('', '')
        )
        for piece in held.pieces:
            columns = (expanded(piece.steps), piece.times, piece.values)
            for step, when, value in zip(*columns, strict=True):
                whole = round(step)
                if abs(whole) >= 2**63:
                    self.missing['points have a step beyond 64 bits'] += 1
                    continue
                self.notes['steps were rounded to whole numbers'] += whole != step
                event = event_pb2.Event(wall_time=when, step=whole)
                event.summary.value.add(
                    tag=held.variable.path, tensor=_tensor(value), metadata=metadata
                )
                yield event


def _tensor(value: Any) -> Any:
    if isinstance(value, float):
        shape = tensor_shape_pb2.TensorShapeProto()
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_DOUBLE, tensor_shape=shape, double_val=[value]
        )
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{'size': 1}])
    encoded = value.encode('utf-8', 'surrogatepass')
    return tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=[encoded]
    )
