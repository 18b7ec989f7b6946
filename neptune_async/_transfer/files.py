"""The files that the long table is kept in, as text: JSON lines and CSV.

What others have written over is read, too: with a byte order mark, other line ends, quotes or
order of columns, an int as ``5.0``, a bool as ``TRUE``, a time as ISO 8601, NaN as nothing. A line
that is no row of an export is passed over, and told with its number.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timezone
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from neptune_async._model.dates import date_of
from neptune_async._model.values import MAX_BYTES, Content
from neptune_async._transfer.exported_files import beside
from neptune_async._transfer.importing import Rows, Skipped, content_digest
from neptune_async._transfer.long_rows import COLUMNS, Row, batches
from neptune_async._transfer.texts import from_jsonable, json_members, jsonable, text_of, value_of
from neptune_async.exceptions import StorageFormatError

_ERRORS = 'surrogatepass'
"""A text may hold lone surrogates, which strict UTF-8 has no form for."""
_MARK = '\N{ZERO WIDTH NO-BREAK SPACE}'
"""The byte order mark, which Excel puts before a text in UTF-8."""
_BYTES = 'latin-1'
"""It has a character for every byte, so that one that is no UTF-8 spoils only its own line."""
_WHOLE = re.compile(r'(-?\d+)\.0*')


# ── JSON lines ───────────────────────────────────────────────────────────────


def write_jsonl(rows: Iterable[Row], file: BinaryIO) -> Counter[str]:
    """Write a line of JSON a row, without what is absent; nothing is that this cannot hold."""
    for row in rows:
        line = {name: value for name, value in row._asdict().items() if value is not None}
        if row.container == 'set':
            line['value'] = json_members(row.value)
        elif row.container == 'atom' or row.step is not None:
            line['value'] = jsonable(row.value)
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        file.write(text.encode('utf-8', _ERRORS) + b'\n')
    return Counter()


class JsonLines:
    """A file of JSON lines.

    :param files: the folder of the files that it refers to; without it, the one beside it.
    """

    def __init__(self, path: Path, files: Path | None = None) -> None:
        self._path = path
        self._files = files or beside(path)

    @cached_property
    def identity(self) -> bytes:
        """The digest of what is in the file."""
        return content_digest(self._path)

    def read(self) -> Iterator[Rows[str] | Skipped]:
        """Yield its rows in batches."""
        return batches(self._rows(), from_jsonable, self._files)

    def _rows(self) -> Iterator[Row | Skipped]:
        with self._path.open('rb') as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode('utf-8', _ERRORS).removeprefix(_MARK if number == 1 else '')
                    if not text.isspace():
                        yield _json_row(json.loads(text))
                except json.JSONDecodeError as error:
                    why = f'it is no JSON: {error.msg} at character {error.pos + 1}'
                    yield _no_row(self._path, number, why)
                except (ValueError, TypeError, RecursionError) as error:
                    yield _no_row(self._path, number, error)


def _json_row(fields: Any) -> Row:
    if not isinstance(fields, dict):
        raise TypeError(f'it is a JSON {type(fields).__name__}, and no object')
    for name in fields:
        if name not in COLUMNS:
            raise ValueError(f'there is no column {name!r}')
    if 'experiment' not in fields:
        raise ValueError('it has no experiment')
    if isinstance(fields.get('timestamp'), str):
        fields = {**fields, 'timestamp': _seconds(fields['timestamp'])}
    row = Row(**fields)
    for name in ('experiment', 'path', 'container', 'content'):
        text = getattr(row, name)
        if not isinstance(text, str) and (text is not None or name == 'experiment'):
            raise TypeError(f'{name} is {text!r}')
    if row.container == 'set' and not isinstance(row.value, list):
        raise TypeError('a set is a list of its members')
    is_null = 'value' in fields and row.value is None
    return row._replace(value=math.nan) if is_null and row.is_float else row


# ── CSV ──────────────────────────────────────────────────────────────────────


def write_csv(rows: Iterable[Row], file: BinaryIO) -> Counter[str]:
    """Write a header, then a line a row; nothing is that this cannot hold."""
    text = io.TextIOWrapper(file, encoding='utf-8', errors=_ERRORS, newline='')
    # Lines end as RFC 4180 has it: else a carriage return in a field would not be quoted.
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([*row[:-1], plain_value(row)] for row in rows)
    text.flush()
    text.detach()
    return Counter()


def plain_value(row: Row) -> str:
    """Return a row's value as plain text."""
    if row.container is None or (row.container == 'series' and row.step is None):
        return ''
    return text_of([*row.value]) if row.container == 'set' else text_of(row.value)


class Csv:
    """A file of comma-separated values.

    :param files: as for ``JsonLines``.
    :raises StorageFormatError: its first line does not name the columns.
    """

    def __init__(self, path: Path, files: Path | None = None) -> None:
        self._path = path
        self._files = files or beside(path)
        try:
            with path.open(encoding=_BYTES, newline='') as file:
                header = next(csv.reader(_lines(file, set())), [])
        except csv.Error:
            header = []
        if missing := [name for name in COLUMNS if header.count(name) != 1]:
            raise StorageFormatError(_why_no_columns(path, header, missing))
        self._places = [header.index(name) for name in COLUMNS]
        # Who writes a Parquet file of ours as CSV has all but floats in a column of its own.
        self._text = header.index('text') if 'text' in header else None
        self._width = len(header)

    @cached_property
    def identity(self) -> bytes:
        """The digest of what is in the file."""
        return content_digest(self._path)

    def read(self) -> Iterator[Rows[str] | Skipped]:
        """Yield its rows in batches."""
        return batches(self._rows(), plain_value_of, self._files)

    def _rows(self) -> Iterator[Row | Skipped]:
        limit = csv.field_size_limit(4 * MAX_BYTES)
        broken: set[int] = set()
        try:
            with self._path.open(encoding=_BYTES, newline='') as file:
                reader = csv.reader(_lines(file, broken))
                next(reader)
                while True:
                    try:
                        if (fields := next(reader, None)) is None:
                            return
                        if broken:
                            raise ValueError('it is no UTF-8')
                        if fields:  # a blank line has none
                            yield self._row(fields)
                    except (ValueError, TypeError, csv.Error) as error:
                        yield _no_row(self._path, reader.line_num, error)
                        broken.clear()
        finally:
            csv.field_size_limit(limit)

    def _row(self, fields: list[str]) -> Row:
        if len(fields) != self._width:
            raise ValueError(f'it has {len(fields)} fields, not {self._width}')
        experiment, path, container, content, step, timestamp, value = (
            fields[place] for place in self._places
        )
        if not experiment:
            raise ValueError('it has no experiment')
        if self._text is not None and (content != 'float' or container == 'set'):
            value = fields[self._text]
        row = Row(
            experiment,
            path or None,
            container or None,
            content or None,
            float(step) if step else None,
            _seconds(timestamp) if timestamp else None,
            members_of(value) if container == 'set' else value,
        )
        return row._replace(value='nan') if value == '' and row.is_float else row


def _seconds(text: str) -> float:
    """Return a time in seconds since the epoch; a date of no zone is UTC, as others write it."""
    try:
        return float(text)
    except ValueError:
        found = date_of(text)
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def _lines(file: TextIO, broken: set[int]) -> Iterator[str]:
    """Yield lines with their ends.

    :param broken: takes the number of one that is no UTF-8.
    """
    for number, line in enumerate(file, start=1):
        if not line.isascii():
            try:
                line = line.encode(_BYTES).decode('utf-8', _ERRORS)
            except UnicodeDecodeError:
                broken.add(number)
        yield line.removeprefix(_MARK) if number == 1 else line


def _why_no_columns(path: Path, header: list[str], missing: list[str]) -> str:
    wanted = f'{path}: the first line has to name the columns {",".join(COLUMNS)}'
    for separator in (';', '\t'):
        if len(header) == 1 and {*COLUMNS} <= {*header[0].split(separator)}:
            return f'{wanted}, and they have to be separated by commas, not by {separator!r}'
    return f'{wanted}, each once; it is not so of {", ".join(missing)}'


def plain_value_of(content: Content, text: str) -> Any:
    """Return the value that a text is of, as ``value_of`` does, and as others write it.

    :raises ValueError: for what is no such value.
    """
    if content == 'bool':
        text = text.lower()
    elif content == 'none':
        text = text or 'null'
    elif content == 'int' and (found := _WHOLE.fullmatch(text)):
        text = found[1]
    return value_of(content, text)


def members_of(text: str) -> list[str]:
    """Return the members of a set, each as plain text again.

    :raises ValueError: it is no list of them.
    """
    members = value_of('list', text)
    if not isinstance(members, list) or any(isinstance(member, list) for member in members):
        raise ValueError('a set is a list of its members')
    return [text_of(member) for member in members]


def _no_row(path: Path, line: int, why: object) -> Skipped:
    return Skipped(f'{path}: line {line:,} is no row of an export: {why}')
