"""Writing what ``neptune_export`` reads: the files of ``neptune-exporter``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neptune_async._model.operations import Variable
from neptune_async._model.values import Content
from neptune_async._storage.points import Points, expanded
from neptune_async._transfer.experiment_contents import Held
from neptune_async._transfer.exported_files import Contents, beside
from neptune_async._transfer.names import digest_name
from neptune_async._transfer.neptune_export import EPOCH, METADATA, MICROS, SCHEMA
from neptune_async._transfer.outputs import finish, new_file, unfinished
from neptune_async._transfer.parquet import is_utf8, no_utf8
from neptune_async._transfer.texts import text_of
from neptune_async.files import FileReference

PART_BYTES = 50 * 2**20
"""Bytes after which a part ends, as the exporter has it."""
_GROUP_ROWS = 2**16
_MOST_MICROS = 10**18
"""From where on a decimal of 18 digits holds no step."""
_MOST_MILLIS = 2**63

_STEPS = 'steps were rounded to six decimal places'
_TIMES = 'timestamps were rounded to milliseconds'
_BEYOND = 'points have a step or a timestamp that the format has no number for'
_EMPTY = 'series without points have no row'


class ExportWriter:
    """Writes experiments as runs of one project, and their files to the folder beside.

    :param contents: of the files.
    :ivar notes: points that are not quite as they were, by what is to be said of them.
    :ivar missing: what is not there, likewise.
    """

    def __init__(self, folder: Path, project: str, contents: Contents) -> None:
        self._folder = folder / digest_name(project)
        self._files = beside(folder) / digest_name(project)
        self._contents = contents
        self._project = project
        self.notes: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()

    def write(self, experiment: str, holdings: Iterable[Held]) -> None:
        """Write an experiment, which is there once all of it is; until then the one before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        contents: dict[str, Content] = {}
        tables = self._merged(experiment, holdings, contents)
        parts: dict[Path, Path] = {}  # their places, by the names that they have until then
        try:
            table = next(tables, None)
            while table is not None:
                place = self._folder / f'{digest_name(experiment)}_part_{len(parts)}.parquet'
                temporary = unfinished(place)
                parts[temporary] = place
                table = _write_part(temporary, table, tables, contents)
        except BaseException:
            for temporary in parts:
                temporary.unlink(missing_ok=True)
            raise
        self._replace(experiment, parts)

    def _replace(self, experiment: str, parts: Mapping[Path, Path]) -> None:
        """Put parts that are whole in the place of those of an export before."""
        found = self._folder.glob(f'{digest_name(experiment)}_part_*.parquet')
        before = sorted(path for path in found if _is_part(path))
        # The first part goes first and comes last: who sees it sees all, and of one export.
        gone = before if len({*before, *parts.values()}) > 1 else []
        try:
            _put(gone, parts)
        except KeyboardInterrupt:  # not now: there may be neither, the old ones nor the new
            _put(gone, {new: place for new, place in parts.items() if new.exists()})
            raise

    def _merged(
        self, experiment: str, holdings: Iterable[Held], contents: dict[str, Content]
    ) -> Iterator[Any]:
        """Yield tables of enough rows for a row group.

        :param contents: takes the contents of those paths that the schema has no type for.
        """
        tables: list[Any] = []
        rows = 0
        for held in holdings:
            for table in self._tables(experiment, held, contents):
                ids = [_same(text, table.num_rows) for text in (self._project, experiment)]
                tables.append(pa.Table.from_arrays([*ids, *table.columns], schema=SCHEMA))
                rows += table.num_rows
            if rows >= _GROUP_ROWS:
                yield pa.concat_tables(tables)
                tables, rows = [], 0
        if rows:
            yield pa.concat_tables(tables)

    def _tables(self, experiment: str, held: Held, contents: dict[str, Content]) -> Iterator[Any]:
        variable = held.variable
        if variable.container == 'series':
            if variable.content not in ('float', 'str'):
                contents[variable.path] = variable.content
            for piece in held.pieces:
                yield self._series(experiment, variable, piece)
            if not any(map(len, held.pieces)):
                self.missing[_EMPTY] += 1
            return
        texts = [text_of(member) for member in held.members]
        kind, column, value = 'string_set', 'string_set_value', texts
        is_plain = variable.content == 'str'
        if variable.container == 'atom':
            kind, column, value = _atom(held.value)
            texts = [value] if isinstance(value, str) else []
            is_plain = kind != 'string' or variable.content in ('str', 'none')
        if not is_utf8(*texts):
            self.missing[no_utf8(experiment, variable.path)] += 1
            return
        if not is_plain:
            contents[variable.path] = variable.content
        columns: dict[str, Sequence[Any]] = {column: [value]}
        if isinstance(held.value, FileReference):
            kind = 'file'
            columns['file_value'] = [self._file(experiment, variable.path, held.value)]
        yield _table(variable.path, kind, columns, 1)

    def _file(self, experiment: str, path: str, file: FileReference) -> dict[str, str]:
        """Write a file, and return where it is below the folder for those of the project."""
        run = digest_name(experiment)
        name = self._contents.write(experiment, path, file, self._files / run)
        return {'path': f'{run}/{name}'}

    def _series(self, experiment: str, variable: Variable, points: Points) -> Any:
        path = variable.path
        steps = [*map(_micros, expanded(points.steps))]
        times = [*map(_millis, points.times)]
        kept = [
            i
            for i, (step, time) in enumerate(zip(steps, times, strict=True))
            if abs(step) < _MOST_MICROS and abs(time) < _MOST_MILLIS
        ]
        self.missing[_BEYOND] += len(steps) - len(kept)
        is_float = not isinstance(points.values, list)
        if not is_float:
            odd = {i for i in kept if not is_utf8(text_of(points.values[i]))}
            self.missing[no_utf8(experiment, path)] += len(odd)
            kept = [i for i in kept if i not in odd]
        values = [points.values[i] if is_float else text_of(points.values[i]) for i in kept]
        exact_steps = expanded(points.steps)
        self.notes[_STEPS] += sum(1 for i in kept if steps[i] / MICROS != exact_steps[i])
        self.notes[_TIMES] += sum(1 for i in kept if times[i] / 1000 != points.times[i])
        columns: dict[str, Sequence[Any]] = {
            'step': [Decimal(steps[i]).scaleb(-6) for i in kept],
            'timestamp': [times[i] for i in kept],
            'float_value' if is_float else 'string_value': values,
        }
        kind = 'float_series' if is_float else 'string_series'
        if variable.content == 'file':
            kind = 'file_series'
            files = (points.values[i] for i in kept)
            columns['file_value'] = [
                self._file(experiment, path, file)
                for file in files
                if isinstance(file, FileReference)
            ]
        return _table(path, kind, columns, len(kept))


def _write_part(
    path: Path, table: Any, following: Iterator[Any], contents: dict[str, Content]
) -> Any | None:
    """Write tables until the part is large enough; return the first of the next part, if any."""
    unwritten: Any | None = table
    with new_file(path) as file, pq.ParquetWriter(file, SCHEMA, compression='snappy') as writer:
        while unwritten is not None and file.tell() < PART_BYTES:
            writer.write_table(unwritten)
            unwritten = next(following, None)
        if contents:
            writer.add_key_value_metadata({METADATA: json.dumps(contents).encode()})
    return unwritten


def _put(gone: list[Path], parts: Mapping[Path, Path]) -> None:
    while gone:
        gone[0].unlink(missing_ok=True)
        del gone[0]
    for new, place in reversed([*parts.items()]):
        finish(new, place)


def _is_part(path: Path) -> bool:
    return path.stem.rpartition('_part_')[2].isdecimal()


def _table(path: str, kind: str, columns: dict[str, Sequence[Any]], count: int) -> Any:
    fields = [*SCHEMA][2:]
    given = {
        'attribute_path': _same(path, count),
        'attribute_type': _same(kind, count),
        **{name: pa.array(column, SCHEMA.field(name).type) for name, column in columns.items()},
    }
    nulls = {field.name: pa.nulls(count, field.type) for field in fields if field.name not in given}
    arrays = {**given, **nulls}
    return pa.Table.from_arrays([arrays[f.name] for f in fields], schema=pa.schema(fields))


def _same(text: str, count: int) -> Any:
    return pa.array([text] * count, pa.string())


def _atom(value: Any) -> tuple[str, str, Any]:
    """Return type, column and value of an atom; what the schema has no type for is a string."""
    if isinstance(value, bool):
        return 'bool', 'bool_value', value
    if isinstance(value, float):
        return 'float', 'float_value', value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return 'int', 'int_value', value
    if isinstance(value, datetime) and _is_plain(value):
        return 'datetime', 'datetime_value', (value - EPOCH) // timedelta(milliseconds=1)
    return 'string', 'string_value', None if value is None else text_of(value)


def _is_plain(value: datetime) -> bool:
    """Whether a datetime is whole milliseconds of UTC, and so the same when it is read back."""
    is_utc = value.utcoffset() == timedelta(0) and not value.fold
    return is_utc and value.microsecond % 1000 == 0


def _micros(step: float) -> int:
    return int(step) * MICROS if step.is_integer() else round(Fraction(step) * MICROS)


def _millis(time: float) -> int:
    return round(time * 1000) if math.isfinite(time * 1000) else _MOST_MILLIS
