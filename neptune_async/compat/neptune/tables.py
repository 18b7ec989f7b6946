"""Tables of runs and models, as ``fetch_runs_table`` returns them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from neptune_async import FileReference, compare, list_experiments
from neptune_async._faces.querying import query as checked
from neptune_async.compat.neptune.artifacts import MEDIA_TYPE
from neptune_async.compat.neptune.handler import Handler
from neptune_async.compat.neptune.run import Run
from neptune_async.exceptions import InvalidArgumentError, InvalidQueryError

if TYPE_CHECKING:
    import pandas as pd


def all_of(*conditions: str) -> str:
    """Return the query that all of some conditions make."""
    return ' and '.join(f'({each})' for each in conditions if each)


def own_query(query: str | None) -> str:
    """Return a query that was given, or an empty text.

    :raises InvalidQueryError: it is none, as those in NQL; the message shows where.
    """
    if query is None:
        return ''
    try:
        checked(query, None, False, None)
    except InvalidQueryError as error:
        raise InvalidQueryError(
            f'query= takes the language of docs/queries.md here, not NQL: {error}'
        ) from None
    return query


def any_of(path: str, values: Iterable[str]) -> str:
    """Return the query that a variable has one of some values; empty if there are none."""
    listed = ', '.join(map(quoted, values))
    return f'{path} in ({listed})' if listed else ''


def quoted(text: object) -> str:
    """Return a text as a query has it."""
    if not isinstance(text, str):
        raise InvalidArgumentError(f'a criterion is a text, not a {type(text).__name__}')
    return "'" + text.replace("'", "''") + "'"


class Table:
    """Runs or models in order; iterate, or take ``to_rows()`` or ``to_pandas()``.

    :param where: a query.
    :param columns: paths; None is all.
    """

    def __init__(
        self,
        where: str,
        columns: Iterable[str] | None,
        limit: int | None,
        sort_by: str,
        ascending: bool,
    ) -> None:
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InvalidArgumentError(f'limit must be an int from 1 on, or None, not {limit!r}')
        sort = '`' + sort_by.replace('`', '``') + '`'
        self._columns = None if columns is None else {*columns, 'sys/id', sort_by}
        self._names = list_experiments(
            where=where, sort=sort, descending=not ascending, limit=limit
        )
        self._rows = iter(self._names)

    def __iter__(self) -> Iterator[TableEntry]:
        return self

    def __next__(self) -> TableEntry:
        return TableEntry(next(self._rows))

    def to_rows(self) -> list[TableEntry]:
        """Return what is left of the table, a row each."""
        return [*self]

    def to_pandas(self) -> pd.DataFrame:
        """Return the table, a column a field: of a series its last value, of a set its members,
        with commas between them, of an artifact its hash, and nothing of a file.

        :raises ImportError: pandas is not installed.
        """
        columns = self._columns
        wanted = None if columns is None else re.compile(f'^({"|".join(map(re.escape, columns))})$')
        frame: pd.DataFrame = compare(self._names, wanted).loc[self._names]
        frame = frame.reset_index(drop=True)
        for name in frame.select_dtypes('object').columns:
            cells = frame[name]
            frame[name] = cells.map(_shown)
            if frame[name].isna().all() and any(isinstance(cell, FileReference) for cell in cells):
                del frame[name]
        names = sorted(map(str, frame.columns), key=_place)
        ordered: pd.DataFrame = frame.reindex(columns=names)
        return ordered


def _shown(cell: Any) -> Any:
    if isinstance(cell, FileReference):
        return cell.name.removesuffix('.json') if cell.media_type == MEDIA_TYPE else None
    return ','.join(sorted(map(str, cell))) if isinstance(cell, set) else cell


def _place(column: str) -> tuple[int, str]:
    return {'sys': 0, 'monitoring': 2}.get(column.partition('/')[0], 1), column


class TableEntry:
    """A row of a table: ``row['metrics/loss'].get()``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, path: str) -> TableField:
        return TableField(self._name, path)

    def get_attribute_value(self, path: str) -> Any:
        """Return the value at a path; of a series, the last.

        :raises ValueError: there is none.
        """
        return self[path].get()


class TableField:
    """A cell of a table."""

    def __init__(self, name: str, path: str) -> None:
        self._name, self._path = name, path

    def __getitem__(self, path: str) -> TableField:
        return TableField(self._name, f'{self._path}/{path}')

    def get(self) -> Any:
        """Return the value; of a series, the last; of an artifact, the hash.

        :raises ValueError: there is none.
        :raises TypeDoesNotSupportAttributeException: it is a file, or a series of files.
        """
        with Run(self._name, mode='read-only') as run:
            if not run.exists(self._path):
                raise InvalidArgumentError(f'{self._name!r} has nothing at {self._path!r}')
            field: Handler[Run] = run[self._path]
            kind = field.field_type()
            if kind == 'Artifact':
                return field.fetch_hash()
            return field.fetch_last() if kind.endswith('Series') else field.fetch()

    def download(self, destination: str | None = None) -> None:
        """Write the file, or the set of files, as ``run[path].download`` does."""
        with Run(self._name, mode='read-only') as run:
            run[self._path].download(destination)
