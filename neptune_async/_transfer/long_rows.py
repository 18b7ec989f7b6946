"""The long table that JSON lines, CSV and Parquet have: a row an atom, a set, or a point.

========== =====================================================================
column     holds
========== =====================================================================
experiment its name
path       of the variable; absent in the one row of an experiment that has none
container  ``atom``, ``set`` or ``series``
content    the type of the value, or of each: ``bool``, ``int``, ``float``,
           ``str``, ``datetime``, ``none``, ``list``, ``file`` or ``histogram``
step       of a point; absent in the one row of a series that has none
timestamp  of a point: seconds since the epoch
value      in the form of the file; see ``neptune_async._transfer.texts``
========== =====================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

from neptune_async._model.operations import Container
from neptune_async._model.values import (
    CONTENT_TYPES,
    MAX_STEP,
    Content,
    atom_value,
    checked_step,
    checked_timestamp,
    content_of,
    shown_step,
)
from neptune_async._storage.points import expanded
from neptune_async._transfer.experiment_contents import Held
from neptune_async._transfer.exported_files import name_in_folder
from neptune_async._transfer.imported_files import FileBeside
from neptune_async._transfer.importing import Rows, Skipped, in_batches
from neptune_async._transfer.row_operations import NO_TIME, Draft
from neptune_async.files import FileReference


class Row(NamedTuple):
    """A row; what is absent is None.

    :ivar value: the members, if it is of a set.
    """

    experiment: str
    path: str | None = None
    container: str | None = None
    content: str | None = None
    step: float | None = None
    timestamp: float | None = None
    value: Any = None

    @property
    def is_float(self) -> bool:
        """Whether there has to be a float: what others write for NaN is nothing."""
        is_valued = self.container == 'atom' or (
            self.container == 'series' and self.step is not None
        )
        return self.content == 'float' and is_valued


COLUMNS = Row._fields

Decode: TypeAlias = Callable[[Content, Any], Any]


def rows_of(experiment: str, holdings: Iterable[Held]) -> Iterator[Row]:
    """Yield the rows of an experiment, at least one."""
    row = None
    for held in holdings:
        variable = held.variable
        head = (experiment, variable.path, variable.container, variable.content)
        if variable.container == 'atom':
            row = Row(*head, value=held.value)
            yield row
            continue
        if variable.container == 'set':
            row = Row(*head, value=held.members)
            yield row
            continue
        count = 0
        for piece in held.pieces:
            count += len(piece)
            points = zip(expanded(piece.steps), piece.times, piece.values, strict=True)
            for step, time, value in points:
                # One that no int may be as an argument stays a float.
                shown = shown_step(step) if abs(step) <= MAX_STEP else step
                row = Row(*head, shown, time, value)
                yield row
        if count == 0:
            row = Row(*head)
            yield row
    if row is None:
        yield Row(experiment)


def batches(
    rows: Iterable[Row | Skipped], decode: Decode, folder: Path
) -> Iterator[Rows[str] | Skipped]:
    """Yield rows of one experiment that follow each other, a batch at most.

    :param decode: makes a value of what a file has, given its content.
    :param folder: has the files that rows refer to.
    """
    located = partial(_located, decode, folder)
    for batch in in_batches(rows, attrgetter('experiment')):
        if isinstance(batch, Skipped):
            yield batch
            continue
        kinds = Counter(str(row.container) for row in batch if row.container)
        yield Rows(batch[0].experiment, len(batch), kinds, partial(_fill, batch, located))


def _located(decode: Decode, folder: Path, content: Content, stored: Any) -> Any:
    value = decode(content, stored)
    if isinstance(value, FileReference):
        return FileBeside(folder, name_in_folder(value), value)
    return value


def _fill(batch: list[Row], decode: Decode, draft: Draft, start: int, stop: int) -> None:
    floats: list[Row] = []
    for row in batch[start:stop]:
        if row.container == 'series' and row.content == 'float' and row.step is not None:
            floats.append(row)
        elif row.path is not None:
            try:
                _fill_one(row, decode, draft)
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                draft.refuse(row.path, f'{_place(row)}it holds no {row.content}: {error}')
        elif row.container is not None:
            draft.refuse('', 'it has no path')
    if floats:
        _fill_floats(floats, decode, draft)


def _fill_one(row: Row, decode: Decode, draft: Draft) -> None:
    path = str(row.path)
    if row.container not in ('atom', 'set', 'series') or row.content not in CONTENT_TYPES:
        draft.refuse(path, f'there is no {row.container} of {row.content}')
        return
    container, content = cast('tuple[Container, Content]', (row.container, row.content))
    if container == 'atom':
        value = decode(content, row.value)
        if not isinstance(value, FileBeside):
            value = atom_value(value)
        if (found := _content_of(value)) != content:
            raise ValueError(f'it is of {found}')
        draft.assign(path, value)
    elif container == 'set':
        draft.add(path, content, [decode(content, member) for member in row.value or ()])
    elif row.step is None and row.value not in (None, ''):
        draft.refuse(path, 'a point has no step')
    elif row.step is None:
        draft.declare(path, content)
    else:
        value = decode(content, row.value)
        draft.point(path, content, checked_step(row.step), _time(row), value)


def _content_of(value: Any) -> Content:
    return 'file' if isinstance(value, FileBeside) else content_of(value)


def _fill_floats(rows: list[Row], decode: Decode, draft: Draft) -> None:
    columns: tuple[list[Any], ...] = ([], [], [], [])
    for row in rows:
        try:
            value = decode('float', row.value)
            point = (row.path, checked_step(row.step), _time(row), value)
        except (ValueError, TypeError, OverflowError) as error:
            draft.refuse(str(row.path), f'{_place(row)}it holds no float: {error}')
            continue
        for column, item in zip(columns, point, strict=True):
            column.append(item)
    draft.floats(*columns)


def _place(row: Row) -> str:
    return '' if row.step is None else f'at step {row.step:g}: '


def _time(row: Row) -> float:
    return NO_TIME if row.timestamp is None else checked_timestamp(row.timestamp)
