"""The long table as a Parquet file: floats in the column ``value``, all else in ``text``.

What pandas, polars or DuckDB have written over is read, too: with nulls for NaN, another order of
columns, other widths of numbers, large or dictionary-encoded strings, timestamps of any unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from neptune_async._model.values import Content
from neptune_async._transfer.exported_files import beside
from neptune_async._transfer.files import members_of, plain_value, plain_value_of
from neptune_async._transfer.importing import BATCH_ROWS, Rows, Skipped, content_digest
from neptune_async._transfer.long_rows import COLUMNS, Row, batches
from neptune_async.exceptions import StorageFormatError

_ROW_GROUP = 2**16
_TEXTS = (*COLUMNS[:4], 'text')
_NUMBERS = ('step', 'timestamp', 'value')
_UNITS = {'s': 1, 'ms': 10**3, 'us': 10**6, 'ns': 10**9}
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(COLUMNS[:4], pa.dictionary(pa.int32(), pa.string())),
        **dict.fromkeys(_NUMBERS, pa.float64()),
        'text': pa.string(),
    }
)


def write_parquet(rows: Iterable[Row], file: BinaryIO) -> Counter[str]:
    """Write rows; return how many are not there, by what is to be said of them."""
    missing: Counter[str] = Counter()
    remaining = iter(rows)
    with pq.ParquetWriter(file, _SCHEMA, compression='zstd') as writer:
        while group := [*islice(remaining, _ROW_GROUP)]:
            try:
                table = _table(group)
            except UnicodeEncodeError:
                table = _table([row for row in group if _can_be_held(row, missing)])
            writer.write_table(table)
    return missing


def _table(rows: list[Row]) -> Any:
    *columns, values = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    floats = [
        value if row.content == 'float' and row.container != 'set' else None
        for row, value in zip(rows, values, strict=True)
    ]
    texts = [
        None if row.content == 'float' and row.container != 'set' else plain_value(row)
        for row in rows
    ]
    arrays = [
        pa.array(column, field.type)
        for column, field in zip([*columns, floats, texts], _SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _can_be_held(row: Row, missing: Counter[str]) -> bool:
    if is_utf8(row.experiment, row.path or '', plain_value(row)):
        return True
    missing[no_utf8(row.experiment, str(row.path))] += 1
    return False


def is_utf8(*texts: str) -> bool:
    """Whether Parquet can hold texts: it has no form for a lone surrogate."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True


def no_utf8(experiment: str, path: str) -> str:
    """Return what is to be said of a variable, or a point, with a text that is not there."""
    return (
        f'{experiment}: {path!r}: a text holds a lone surrogate, for which this format has no '
        'form; JSON lines and CSV have one'
    )


class Parquet:
    """A Parquet file.

    :param files: as for ``JsonLines``.
    :raises StorageFormatError: it is none, or has other columns.
    """

    def __init__(self, path: Path, files: Path | None = None) -> None:
        self._path = path
        self._files = files or beside(path)
        with readable(path), pq.ParquetFile(path) as file:
            schema = file.schema_arrow
        for names, what, is_so in ((_TEXTS, 'texts', _is_text), (_NUMBERS, 'numbers', _is_number)):
            for name in names:
                if (count := schema.names.count(name)) != 1:
                    raise StorageFormatError(f'{path} has {count or "no"} column {name}')
                kind = schema.field(name).type
                if not is_so(kind) and not (name == 'timestamp' and kinds.is_timestamp(kind)):
                    raise StorageFormatError(
                        f'{path}: the column {name} is of {kind}; it has to be of {what}'
                    )

    @cached_property
    def identity(self) -> bytes:
        """The digest of what is in the file."""
        return content_digest(self._path)

    def read(self) -> Iterator[Rows[str] | Skipped]:
        """Yield its rows in batches.

        :raises StorageFormatError: it is damaged from there on.
        """
        return batches(self._rows(), _value_of, self._files)

    def _rows(self) -> Iterator[Row | Skipped]:
        number = 0
        with readable(self._path), pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[*COLUMNS, 'text']):
                columns = [_listed(name, batch.column(name)) for name in (*COLUMNS, 'text')]
                for fields in zip(*columns, strict=True):
                    number += 1
                    try:
                        yield _row(*fields)
                    except (ValueError, TypeError, RecursionError) as why:
                        yield Skipped(f'{self._path}: row {number:,} is no row of an export: {why}')


def _bare(kind: Any) -> Any:
    return kind.value_type if kinds.is_dictionary(kind) else kind


def _is_text(kind: Any) -> bool:
    bare = _bare(kind)
    return bool(
        kinds.is_string(bare) or kinds.is_large_string(bare) or kinds.is_string_view(bare)
        or kinds.is_null(bare)
    )  # fmt: skip


def _is_number(kind: Any) -> bool:
    bare = _bare(kind)
    return bool(
        kinds.is_integer(bare) or kinds.is_floating(bare) or kinds.is_decimal(bare)
        or kinds.is_null(bare)
    )  # fmt: skip


def _listed(name: str, column: Any) -> list[Any]:
    """Return a column's values; a timestamp as seconds since the epoch, NaN of others as None."""
    if kinds.is_timestamp(column.type):  # without a zone it is UTC, as others write it
        counts, unit = column.cast(pa.int64()).to_pylist(), _UNITS[column.type.unit]
        return [None if count is None else count / unit for count in counts]
    found: list[Any] = column.to_pylist()
    if name in ('step', 'timestamp'):
        return [None if number is None or number != number else number for number in found]
    return found


def _row(
    experiment: str | None, path: str | None, container: str | None, content: str | None,
    step: Any, timestamp: Any, number: Any, text: str | None,
) -> Row:  # fmt: skip
    if not experiment:
        raise ValueError('it has no experiment')
    step, timestamp = (None if one is None else _plain(one) for one in (step, timestamp))
    row = Row(experiment, path, container, content, step, timestamp)
    if row.is_float:
        value = float(number) if number is not None else float(text) if text else math.nan
        return row._replace(value=value)
    if text is None and container is not None and content != 'none':
        if container == 'series' and step is None:
            return row._replace(value=number)
        raise ValueError('it has no value')
    is_set = container == 'set' and text is not None
    return row._replace(value=members_of(str(text)) if is_set else text)


def _plain(number: Any) -> int | float:
    return number if isinstance(number, (int, float)) else float(number)


def _value_of(content: Content, stored: Any) -> Any:
    if content == 'none' and stored is None:
        return None
    return plain_value_of(content, stored) if isinstance(stored, str) else stored


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """:raises StorageFormatError: when the body cannot read a Parquet file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageFormatError(f'{path} cannot be read: {error}') from error
