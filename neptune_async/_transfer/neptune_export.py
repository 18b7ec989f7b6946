"""The files of ``neptune-exporter``: one long table, one row an attribute, or a point of one.

A file is ``<project>/<run>_part_<n>.parquet``, both names with a digest behind
them, and has the rows of one run. What comes of an attribute:

====================================== ==========================================
attribute_type                         variable
====================================== ==========================================
float, int, string, bool, datetime     Atom of that type; without a value, of None,
                                       but for a float: NaN
string_set                             Set of str
float_series                           Series of float; no value is NaN
string_series                          Series of str
file, artifact                         Atom of file; of str, the path of the file, if there is
                                       no folder of files
file_set                               the same, of the one archive that is in its folder
file_series                            Series of file; likewise
histogram_series                       Series of str: JSON ``{"type": ..., "edges":
                                       [...], "values": [...]}``
====================================== ==========================================

Files are in a folder beside that for data, below one for their project: ``file_value`` says where.

A step is a decimal of six places, and reads back as the float nearest to it.

What the schema has no type for is written as a string, and the file's metadata
``neptune_async`` says of which path it is what: JSON, path to content. Who does not
know it reads the text, and we read back what was there. A file has what refers to it
as a string, too. Steps are rounded to six places, timestamps to milliseconds, and that
is counted.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neptune_async._model.operations import AUTOMATIC_STEP
from neptune_async._model.values import CONTENT_TYPES, Content
from neptune_async._transfer.exported_files import beside
from neptune_async._transfer.imported_files import FileBeside, Refused
from neptune_async._transfer.importing import BATCH_ROWS, Rows, Skipped, content_digest
from neptune_async._transfer.names import digest_name
from neptune_async._transfer.parquet import readable
from neptune_async._transfer.row_operations import NO_TIME, Draft
from neptune_async._transfer.texts import value_of
from neptune_async.exceptions import StorageFormatError
from neptune_async.files import FileReference

SCHEMA = pa.schema(
    [
        ('project_id', pa.string()),
        ('run_id', pa.string()),
        ('attribute_path', pa.string()),
        ('attribute_type', pa.string()),
        ('step', pa.decimal128(18, 6)),
        ('timestamp', pa.timestamp('ms', tz='UTC')),
        ('int_value', pa.int64()),
        ('float_value', pa.float64()),
        ('string_value', pa.string()),
        ('bool_value', pa.bool_()),
        ('datetime_value', pa.timestamp('ms', tz='UTC')),
        ('string_set_value', pa.list_(pa.string())),
        ('file_value', pa.struct([('path', pa.string())])),
        (
            'histogram_value',
            pa.struct(
                [
                    ('type', pa.string()),
                    ('edges', pa.list_(pa.float64())),
                    ('values', pa.list_(pa.float64())),
                ]
            ),
        ),
    ]
)
METADATA = b'neptune_async'
_FILES_OF = {'data': 'files', 'model_data': 'model_files'}
"""What the exporter calls the folder of files, by that of data."""
_CREATION_TIME = 'sys/creation_time'
MICROS = 1_000_000
"""In how many parts a step is divided: six decimal places."""
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Run(NamedTuple):
    """Which run rows are of."""

    project: str
    id: str


def find_files(folder: Path, files: Path | None = None) -> list[ExportFile]:
    """Return the files below a folder, each run's in the order in which they were written.

    A file that is still being written is ``.parquet.tmp``, and is left out.

    :param files: the folder of the files that runs refer to, which have no rows of their own.
    :raises StorageFormatError: one of them is of another form.
    """
    kept = files and files.resolve()
    found = sorted(folder.rglob('*.parquet'), key=_place)
    return [ExportFile(path, files) for path in found if kept not in path.resolve().parents]


def folder_of_files(folder: Path) -> Path | None:
    """Return the folder of files that belongs to one of data, as it is named by ``export``, or by
    the exporter; None if there is none.
    """
    whole = folder.absolute()
    siblings = [whole.with_name(_FILES_OF[whole.name])] if whole.name in _FILES_OF else []
    candidates = [beside(folder), *siblings, folder / 'files']
    return next((path for path in candidates if path.is_dir()), None)


def grouped(files: Sequence[ExportFile]) -> list[list[ExportFile]]:
    """Return the files of each run together; all of them if one has rows of several runs."""
    if any(len(file.runs) != 1 for file in files):
        return [[*files]]
    groups: dict[Run, list[ExportFile]] = {}
    for file in files:
        groups.setdefault(file.runs[0], []).append(file)
    return [*groups.values()]


def names_of(files: Sequence[ExportFile]) -> dict[Run, str]:
    """Return the experiment's name for each run: its id, with the project before it where
    several projects have a run of that id.
    """
    runs = {run for file in files for run in file.runs}
    count = Counter(run.id for run in runs)
    return {run: f'{run.project}/{run.id}' if count[run.id] > 1 else run.id for run in runs}


def creation_times(files: Sequence[ExportFile]) -> dict[Run, float]:
    """Return when each run was begun, of those of which that is told."""
    times: dict[Run, float] = {}
    for file in files:
        with suppress(StorageFormatError):  # it is told when its rows are read
            times.update(file.creation_times())
    return times


def _place(path: Path) -> tuple[Path, str, int]:
    """Return what parts are sorted by: part 10 comes after part 9."""
    stem, _, part = path.stem.rpartition('_part_')
    return (path.parent, stem, int(part)) if part.isdecimal() else (path.parent, path.stem, 0)


class ExportFile:
    """One file. Its identity is its content, so that it may be moved, and copies of it count once.

    :param files: the folder of the files that runs refer to; None if there is none.
    :raises StorageFormatError: it is no file of the exporter.
    """

    def __init__(self, path: Path, files: Path | None = None) -> None:
        self._path = path
        self._files = files
        with readable(path), pq.ParquetFile(path) as file:
            self.row_count: int = file.metadata.num_rows
            missing = {*SCHEMA.names} - {*file.schema_arrow.names}
            self._contents = _contents_in((file.metadata.metadata or {}).get(METADATA, b'{}'))
        if missing:
            raise StorageFormatError(
                f'{path} is no file of neptune-exporter: it has no column '
                f'{", ".join(sorted(missing))}'
            )

    @cached_property
    def identity(self) -> bytes:
        """The digest of what is in the file."""
        return content_digest(self._path)

    @cached_property
    def runs(self) -> list[Run]:
        """The runs that the file has rows of, in the order of their first rows.

        :raises StorageFormatError: rows are of no run.
        """
        with readable(self._path), pq.ParquetFile(self._path) as file:
            table = file.read(columns=['project_id', 'run_id'])
        found = table.group_by(['project_id', 'run_id'], use_threads=False).aggregate([])
        runs = [Run(row['project_id'], row['run_id']) for row in found.to_pylist()]
        are_texts = all(isinstance(run.project, (str, type(None))) for run in runs)
        if not are_texts or not all(isinstance(run.id, str) for run in runs):
            raise StorageFormatError(
                f'{self._path} has rows without a run_id, which names the experiment; export it '
                'again, or leave it out'
            )
        return runs

    def creation_times(self) -> Iterator[tuple[Run, float]]:
        """Yield the runs of which the file tells when they were begun, with the time.

        Statistics say of most files that it does not: of two million rows that takes 3 ms.
        """
        with readable(self._path):
            found = pq.read_table(
                self._path,
                columns=['project_id', 'run_id', 'datetime_value'],
                filters=[('attribute_path', '=', _CREATION_TIME)],
                partitioning=None,  # else a folder named 'a=b' would be taken for a column
            )
            millis = found['datetime_value'].cast(SCHEMA.field('datetime_value').type, safe=False)
        columns = (found['project_id'], found['run_id'], millis.cast(pa.int64()))
        for project, run, time in zip(*(column.to_pylist() for column in columns), strict=True):
            if time is not None:
                yield Run(project, run), time / 1000

    def read(self) -> Iterator[Rows[Run] | Skipped]:
        """Yield the rows; of a row group, which is in memory as a whole, a batch at a time."""
        first = 1
        with readable(self._path), pq.ParquetFile(self._path) as file:
            for index in range(file.num_row_groups):
                table = file.read_row_group(index, columns=SCHEMA.names)
                columns, odd = _conformed(table)
                for place, why in sorted(odd.items()):
                    yield Skipped(f'{self._path}: row {first + place:,} cannot be read: {why}')
                first += table.num_rows
                table = pa.Table.from_arrays(columns, schema=SCHEMA)
                if odd:
                    table = table.filter(pa.array([i not in odd for i in range(len(table))]))
                for start, stop in self._stretches(table):
                    yield self._rows(table.slice(start, stop - start))

    def _stretches(self, table: Any) -> Iterator[tuple[int, int]]:
        """Yield where rows of one run begin and end, a batch at most."""
        if len(self.runs) == 1:
            ends = [table.num_rows]
        else:
            pairs = zip(table['project_id'].to_pylist(), table['run_id'].to_pylist(), strict=True)
            ends, end = [], 0
            for _, stretch in groupby(pairs):
                end += sum(1 for _ in stretch)
                ends.append(end)
        start = 0
        for end in ends:
            for first in range(start, end, BATCH_ROWS):
                yield first, min(end, first + BATCH_ROWS)
            start = end

    def _rows(self, table: Any) -> Rows[Run]:
        counts = pc.value_counts(_kinds(table)).to_pylist()
        return Rows(
            Run(table['project_id'][0].as_py(), table['run_id'][0].as_py()),
            table.num_rows,
            {count['values']: count['counts'] for count in counts},
            partial(_fill, table, self._contents, self._files),
        )


def _contents_in(metadata: bytes) -> Mapping[str, Content]:
    found = json.loads(metadata)
    pairs = found.items() if isinstance(found, dict) else ()
    return {path: content for path, content in pairs if content in [*CONTENT_TYPES]}


# ── What others have written over ────────────────────────────────────────────


def _conformed(table: Any) -> tuple[list[Any], dict[int, str]]:
    """Return the columns in the types of the exporter, and what there is to say of those rows that
    have a value which is none of its type.
    """
    columns, odd = [], {}
    for field in SCHEMA:
        column = _nearest(table[field.name], field.type)
        try:
            # No fraction of a millisecond is kept.
            columns.append(column.cast(field.type, safe=not pa.types.is_timestamp(field.type)))
        except pa.ArrowException:
            values: list[Any] = []
            for place in range(table.num_rows):
                try:
                    values += column.slice(place, 1).cast(field.type).to_pylist()
                except pa.ArrowException as error:
                    values.append(None)
                    odd[place] = f'{field.name}: {error}'
            columns.append(pa.array(values, field.type))
    return columns, odd


def _nearest(column: Any, kind: Any) -> Any:
    """Return a column as one that can be cast, whichever numbers it has."""
    if pa.types.is_floating(column.type) and not pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_integer(column.type) and pa.types.is_decimal(kind):
        return column.cast(pa.decimal128(38, kind.scale))
    return column


# ── Rows to operations ───────────────────────────────────────────────────────


def _fill(
    table: Any,
    contents: Mapping[str, Content],
    files: Path | None,
    draft: Draft,
    start: int,
    stop: int,
) -> None:
    part = table.slice(start, stop - start)
    kinds = _kinds(part)
    for kind in pc.unique(kinds).to_pylist():
        rows = part.filter(pc.equal(kinds, kind)).combine_chunks()
        fill = _FILLS.get(kind)
        if kind in _FILES:
            _fill_files(rows, contents, files, draft)
        elif fill is None:
            for path in rows['attribute_path'].to_pylist():
                draft.refuse(path, f'attributes of type {kind!r} are not known')
        else:
            fill(rows, contents, draft)


def _kinds(table: Any) -> Any:
    return pc.fill_null(table['attribute_type'], 'none')


def _floats(rows: Any, _contents: Mapping[str, Content], draft: Draft) -> None:
    values = [math.nan if value is None else value for value in rows['float_value'].to_pylist()]
    draft.floats(_paths(rows), _steps(rows, draft), _times(rows), array('d', values))


def _texts(
    column: str,
    text_of: Callable[[Any], str],
    rows: Any,
    contents: Mapping[str, Content],
    draft: Draft,
) -> None:
    columns = (_paths(rows), _steps(rows, draft), _times(rows), rows[column].to_pylist())
    points = zip(*columns, strict=True)
    for path, step, time, value in points:
        content = contents.get(path, 'str')
        if value is None:
            draft.refuse(path, 'a point has no value')
        else:
            draft.point(path, content, step, time, _read(content, text_of(value)))


def _atoms(column: str, rows: Any, contents: Mapping[str, Content], draft: Draft) -> None:
    for path, value in zip(_paths(rows), rows[column].to_pylist(), strict=True):
        if path in contents and value is not None:
            draft.assign(path, _read(contents[path], value))
        else:
            draft.assign(path, value)


def _float_atoms(rows: Any, _contents: Mapping[str, Content], draft: Draft) -> None:
    for path, value in zip(_paths(rows), rows['float_value'].to_pylist(), strict=True):
        draft.assign(path, math.nan if value is None else value)


def _datetimes(rows: Any, _contents: Mapping[str, Content], draft: Draft) -> None:
    millis = rows['datetime_value'].cast(pa.int64()).to_pylist()
    for path, value in zip(_paths(rows), millis, strict=True):
        try:
            draft.assign(path, value if value is None else EPOCH + timedelta(milliseconds=value))
        except OverflowError:
            draft.refuse(path, f'{value} milliseconds since 1970 are in no year up to 9999')


def _sets(rows: Any, contents: Mapping[str, Content], draft: Draft) -> None:
    for path, members in zip(_paths(rows), rows['string_set_value'].to_pylist(), strict=True):
        content = contents.get(path, 'str')
        draft.add(path, content, [_read(content, member) for member in members or ()])


def _fill_files(
    rows: Any, contents: Mapping[str, Content], files: Path | None, draft: Draft
) -> None:
    kind = rows['attribute_type'][0].as_py()
    steps, times = _steps(rows, draft), _times(rows)
    columns = (rows[name].to_pylist() for name in ('file_value', 'string_value', 'project_id'))
    for path, step, time, value, text, project in zip(
        _paths(rows), steps, times, *columns, strict=True
    ):
        place = value and value['path']
        expected = _read('file', text) if contents.get(path) == 'file' and text else None
        if place is None:
            draft.refuse(path, 'its file was not exported')
            continue
        if not isinstance(expected, (FileReference, type(None))):
            draft.refuse(path, f'it refers to no file: {expected!r:.80}')
            continue
        file: FileBeside | str = place
        if files is None:
            draft.note(_NO_FOLDER, 1)
        else:
            file = FileBeside(files, f'{digest_name(str(project))}/{place}', expected)
        try:
            if kind == 'file_set' and isinstance(file, FileBeside):
                file = file.only_one()
        except Refused as error:
            draft.refuse(path, error)
            continue
        if kind != 'file_series':
            draft.assign(path, file)
        else:
            draft.point(path, 'str' if file is place else 'file', step, time, file)


def _read(content: Content, text: Any) -> Any:
    """Return what was written as a text; a text that is none of that content as it is, to be
    refused by its type.
    """
    try:
        return value_of(content, text)
    except ValueError:
        return text


def _histogram(value: Mapping[str, Any]) -> str:
    return json.dumps({part: value[part] for part in ('type', 'edges', 'values')})


_FILES = ('file', 'artifact', 'file_set', 'file_series')
_NO_FOLDER = (
    'files are kept as their paths, since there is no folder of files; name it with --files'
)
_FILLS: dict[str, Callable[[Any, Mapping[str, Content], Draft], None]] = {
    'float': _float_atoms,
    'int': partial(_atoms, 'int_value'),
    'string': partial(_atoms, 'string_value'),
    'bool': partial(_atoms, 'bool_value'),
    'datetime': _datetimes,
    'string_set': _sets,
    'float_series': _floats,
    'string_series': partial(_texts, 'string_value', str),
    'histogram_series': partial(_texts, 'histogram_value', _histogram),
}


def _paths(rows: Any) -> list[Any]:
    # Few that differ: each is made a str once.
    encoded = pc.dictionary_encode(rows['attribute_path']).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    texts = encoded.dictionary.to_pylist()
    return [None if index is None else texts[index] for index in encoded.indices.to_pylist()]


def _steps(rows: Any, draft: Draft) -> list[float]:
    product = pc.multiply(rows['step'], pa.scalar(Decimal(MICROS), pa.decimal128(7, 0)))
    micros = product.cast(pa.int64()).to_pylist()
    rounded = sum(1 for n in micros if n is not None and abs(n) > 2**53 and not _is_exact(n))
    if rounded:
        draft.note('steps beyond 2**53 millionths became the nearest float', rounded)
    return [AUTOMATIC_STEP if n is None else n / MICROS for n in micros]


def _is_exact(micros: int) -> bool:
    return round(Fraction(micros / MICROS) * MICROS) == micros


def _times(rows: Any) -> list[float]:
    millis = rows['timestamp'].cast(pa.int64()).to_pylist()
    return [NO_TIME if n is None else n / 1000 for n in millis]
