"""The files that the long table is kept in: JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from neptune_async._model.values import MAX_BYTES, Content
from neptune_async._transfer.importing import Rows, content_digest
from neptune_async._transfer.long_rows import COLUMNS, Row, batches
from neptune_async._transfer.texts import (
    from_jsonable,
    json_members,
    jsonable,
    text_of,
    value_of,
)
from neptune_async.exceptions import StorageFormatError, UnsupportedValueError

_ROW_GROUP = 2**16
_ERRORS = 'surrogatepass'
"""A text may hold lone surrogates, which strict UTF-8 has no form for."""


# ── JSON lines ───────────────────────────────────────────────────────────────


def write_jsonl(rows: Iterable[Row], file: BinaryIO) -> None:
    """Write a line of JSON a row, without what is absent."""
    for row in rows:
        line = {name: value for name, value in row._asdict().items() if value is not None}
        if row.container == 'set':
            line['value'] = json_members(row.value)
        elif row.container == 'atom' or row.step is not None:
            line['value'] = jsonable(row.value)
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        file.write(text.encode('utf-8', _ERRORS) + b'\n')


class JsonLines:
    """A file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def identity(self) -> bytes:
        """The digest of what is in the file."""
        return content_digest(self._path)

    def read(self) -> Iterator[Rows[str]]:
        """Yield its rows in batches.

        :raises StorageFormatError: a line is no row.
        """
        return batches(self._rows(), from_jsonable)

    def _rows(self) -> Iterator[Row]:
        with self._path.open('rb') as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield _json_row(json.loads(line.decode('utf-8', _ERRORS)))
                except json.JSONDecodeError as error:
                    why = f'it is no JSON: {error.msg} at character {error.pos + 1}'
                    raise _damaged(self._path, number, why) from error
                except (ValueError, TypeError, RecursionError) as error:
                    raise _damaged(self._path, number, error) from error


def _json_row(fields: Any) -> Row:
    if not isinstance(fields, dict):
        raise TypeError(f'it is a JSON {type(fields).__name__}, and no object')
    for name in fields:
        if name not in COLUMNS:
            raise ValueError(f'there is no column {name!r}')
    if 'experiment' not in fields:
        raise ValueError('it has no experiment')
    row = Row(**fields)
    for name in ('experiment', 'path', 'container', 'content'):
        text = getattr(row, name)
        if not isinstance(text, str) and (text is not None or name == 'experiment'):
            raise TypeError(f'{name} is {text!r}')
    if row.container == 'set' and not isinstance(row.value, list):
        raise TypeError('a set is a list of its members')
    return row


# ── CSV ──────────────────────────────────────────────────────────────────────


def write_csv(rows: Iterable[Row], file: BinaryIO) -> None:
    """Write a header, then a line a row."""
    text = _text(file)
    # Lines end as RFC 4180 has it: else a carriage return in a field would not be quoted.
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([*row[:-1], _csv_value(row)] for row in rows)
    text.flush()
    text.detach()


def _csv_value(row: Row) -> str:
    if row.container is None or (row.container == 'series' and row.step is None):
        return ''
    return text_of([*row.value]) if row.container == 'set' else text_of(row.value)


def _text(file: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding='utf-8', errors=_ERRORS, newline='')


class Csv:
    """A file of comma-separated values.

    :raises StorageFormatError: its first line does not name the columns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with _text(path.open('rb')) as file:
                header = next(csv.reader(file), [])
        except (UnicodeDecodeError, csv.Error):
            header = []
        if tuple(header) != COLUMNS:
            raise StorageFormatError(f'{path}: the first line has to be {",".join(COLUMNS)}')

    @cached_property
    def identity(self) -> bytes:
        """The digest of what is in the file."""
        return content_digest(self._path)

    def read(self) -> Iterator[Rows[str]]:
        """Yield its rows in batches.

        :raises StorageFormatError: a line is no row.
        """
        return batches(self._rows(), value_of)

    def _rows(self) -> Iterator[Row]:
        limit = csv.field_size_limit(4 * MAX_BYTES)
        try:
            with _text(self._path.open('rb')) as file:
                reader = csv.reader(file)
                next(reader)
                try:
                    for fields in reader:
                        if len(fields) != len(COLUMNS):
                            raise ValueError(f'it has {len(fields)} fields, not {len(COLUMNS)}')
                        yield _csv_row(*fields)
                except (ValueError, TypeError, csv.Error) as error:
                    raise _damaged(self._path, reader.line_num, error) from error
        finally:
            csv.field_size_limit(limit)


def _csv_row(
    experiment: str, path: str, container: str, content: str, step: str, timestamp: str, value: str
) -> Row:
    return Row(
        experiment,
        path or None,
        container or None,
        content or None,
        float(step) if step else None,
        float(timestamp) if timestamp else None,
        _members(value) if container == 'set' else value,
    )


def _members(text: str) -> list[str]:
    """Return the members of a set, each as plain text again.

    :raises ValueError: it is no list of them.
    """
    members = value_of('list', text)
    if not isinstance(members, list) or any(isinstance(member, list) for member in members):
        raise ValueError('a set is a list of its members')
    return [text_of(member) for member in members]


# ── Parquet ──────────────────────────────────────────────────────────────────


def write_parquet(rows: Iterable[Row], file: BinaryIO) -> None:
    """Write floats to the column ``value``, and all else to the column ``text``."""
    import pyarrow.parquet as pq

    schema = _parquet_schema()
    remaining = iter(rows)
    with pq.ParquetWriter(file, schema, compression='zstd') as writer:
        while group := [*islice(remaining, _ROW_GROUP)]:
            writer.write_table(_parquet_table(group, schema))


def _parquet_schema() -> Any:
    import pyarrow as pa

    names = pa.dictionary(pa.int32(), pa.string())
    numbers = dict.fromkeys(('step', 'timestamp', 'value'), pa.float64())
    return pa.schema({**dict.fromkeys(COLUMNS[:4], names), **numbers, 'text': pa.string()})


def _parquet_table(rows: list[Row], schema: Any) -> Any:
    import pyarrow as pa

    *columns, values = zip(*rows, strict=True)
    floats = [
        value if row.content == 'float' and row.container != 'set' else None
        for row, value in zip(rows, values, strict=True)
    ]
    texts = [
        None if row.content == 'float' and row.container != 'set' else _csv_value(row)
        for row in rows
    ]
    try:
        arrays = [
            pa.array(column, field.type)
            for column, field in zip([*columns, floats, texts], schema, strict=True)
        ]
    except UnicodeEncodeError as error:
        raise no_utf8(error) from error
    return pa.Table.from_arrays(arrays, schema=schema)


def no_utf8(error: UnicodeEncodeError) -> UnsupportedValueError:
    """For a text that Parquet cannot hold."""
    start = max(0, error.start - 10)
    return UnsupportedValueError(
        f'the text {error.object[start : error.end + 10]!r} holds a lone surrogate, for which '
        'this format has no form; JSON lines and CSV have one'
    )


class Parquet:
    """A Parquet file.

    :raises StorageFormatError: it is none, or has other columns.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        with readable(path), pq.ParquetFile(path) as file:
            names = {*file.schema_arrow.names}
        if missing := {*COLUMNS, 'text'} - names:
            raise StorageFormatError(f'{path} has no column {", ".join(sorted(missing))}')

    @cached_property
    def identity(self) -> bytes:
        """The digest of what is in the file."""
        return content_digest(self._path)

    def read(self) -> Iterator[Rows[str]]:
        """Yield its rows in batches."""
        return batches(self._rows(), _parquet_value)

    def _rows(self) -> Iterator[Row]:
        import pyarrow.parquet as pq

        with readable(self._path), pq.ParquetFile(self._path) as file:
            for index in range(file.num_row_groups):
                table = file.read_row_group(index, columns=[*COLUMNS, 'text'])
                columns = [table[name].to_pylist() for name in (*COLUMNS, 'text')]
                for *fields, number, text in zip(*columns, strict=True):
                    is_set = fields[2] == 'set' and text is not None
                    value = number if text is None else _members(text) if is_set else text
                    yield Row._make([*fields, value])


def _parquet_value(content: Content, stored: Any) -> Any:
    return value_of(content, stored) if isinstance(stored, str) else stored


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """:raises StorageFormatError: when the body cannot read a Parquet file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageFormatError(f'{path} cannot be read: {error}') from error


def _damaged(path: Path, line: int, why: object) -> StorageFormatError:
    return StorageFormatError(f'{path}: line {line:,} is no row of an export: {why}')
