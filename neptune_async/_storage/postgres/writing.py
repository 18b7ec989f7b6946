"""A part of a batch as the arrays that the functions of a PostgreSQL store take."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, islice
from typing import Any

from neptune_async._model.operations import (
    AddMembers,
    Assign,
    CreateVariable,
    Delete,
    Operation,
    Part,
    ResetMembers,
    Rewind,
    point_key,
)
from neptune_async._model.values import AtomValue, encode, size_of
from neptune_async._storage.points import (
    Columns,
    all_automatic,
    as_stride,
    columns_by_variable,
    resolved_times,
    text_columns_by_variable,
)

_ROW_POINTS = 2**20
"""Points of a row, and of all rows of a statement: messages and values have at most a gigabyte."""
_STATEMENT_CHARACTERS = 2**25
"""Characters of texts after which a new statement begins."""


@dataclass(slots=True)
class OperationRows:
    """The arguments of ``apply_operations``."""

    kinds: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    paths: list[str | None] = field(default_factory=list)
    containers: list[str | None] = field(default_factory=list)
    contents: list[str | None] = field(default_factory=list)
    payloads: list[bytes | None] = field(default_factory=list)
    steps: list[float | None] = field(default_factory=list)

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> OperationRows:
        """Return operations in their order, those of one kind that follow each other in one run."""
        rows = cls()
        for kind, run in groupby(operations, type):
            if kind is Assign:
                # One statement can replace a value only once.
                latest = {op.variable_id: op for op in run if isinstance(op, Assign)}
                run = (latest[variable_id] for variable_id in sorted(latest))
            for operation in run:
                rows._add(operation)
        return rows

    @property
    def arguments(self) -> tuple[Any, ...]:
        return (
            self.kinds, self.ends,
            self.ids, self.paths, self.containers, self.contents, self.payloads, self.steps,
        )  # fmt: skip

    def _add(self, operation: Operation) -> None:
        kind = type(operation).__name__
        if isinstance(operation, CreateVariable):
            v = operation.variable
            self._row(kind, v.id, path=v.path, container=v.container, content=v.content)
        elif isinstance(operation, Assign):
            self._row(
                kind, operation.variable_id, content=operation.content, payload=operation.stored
            )
        elif isinstance(operation, Delete):
            self._row(kind, path=operation.path)
        elif isinstance(operation, Rewind):
            self._row(kind, path=operation.path, step=operation.step)
        else:
            if isinstance(operation, ResetMembers):
                self._row(kind, operation.variable_id, content=operation.content)
                kind = AddMembers.__name__
            for member in operation.members:
                self._row(kind, operation.variable_id, payload=member)

    def _row(
        self,
        kind: str,
        variable_id: int = 0,
        *,
        path: str | None = None,
        container: str | None = None,
        content: str | None = None,
        payload: bytes | None = None,
        step: float | None = None,
    ) -> None:
        self.ids.append(variable_id)
        self.paths.append(path)
        self.containers.append(container)
        self.contents.append(content)
        self.payloads.append(payload)
        self.steps.append(step)
        if self.kinds[-1:] != [kind]:
            self.kinds.append(kind)
            self.ends.append(0)
        self.ends[-1] = len(self.ids)


@dataclass(slots=True)
class PointRows:
    """The arguments of ``append_points``: of each series at most one row."""

    ids: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    first_steps: list[float | None] = field(default_factory=list)
    strides: list[float | None] = field(default_factory=list)
    step_counts: list[int] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    floating: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    number_counts: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    encoded_counts: list[int] = field(default_factory=list)
    encoded: list[bytes | None] = field(default_factory=list)
    characters: int = 0

    @property
    def arguments(self) -> tuple[Any, ...]:
        return (
            self.ids, self.counts, self.first_steps, self.strides, self.step_counts, self.steps,
            self.floating, self.times, self.number_counts, self.numbers, self.texts,
            self.encoded_counts, self.encoded,
        )  # fmt: skip

    @property
    def is_full(self) -> bool:
        return len(self.times) >= _ROW_POINTS or self.characters >= _STATEMENT_CHARACTERS

    def split(self) -> Iterator[PointRows]:
        """Yield the rows one by one."""
        steps, times, numbers = iter(self.steps), iter(self.times), iter(self.numbers)
        texts, encoded = iter(self.texts), iter(self.encoded)
        for n, count in enumerate(self.counts):
            number_count = self.number_counts[n]
            yield PointRows(
                [self.ids[n]], [count], [self.first_steps[n]], [self.strides[n]],
                [self.step_counts[n]], [*islice(steps, self.step_counts[n])],
                [self.floating[n]], [*islice(times, count)],
                [number_count], [*islice(numbers, number_count)],
                [*islice(texts, count - number_count)],
                [self.encoded_counts[n]], [*islice(encoded, self.encoded_counts[n])],
            )  # fmt: skip

    def add(self, variable_id: int, columns: Columns) -> None:
        """Add points of a series, all that depends on where it stands left open."""
        count = len(columns.keys)
        self.ids.append(variable_id)
        self.counts.append(count)
        self._add_steps(columns.steps)
        times = resolved_times(columns.times, columns.keys, -math.inf)
        try:
            self.floating.append(columns.keys.index(point_key(variable_id, True)))
        except ValueError:
            self.floating.append(count)
        self.times += times.tolist()
        if isinstance(columns.values, array):
            self.number_counts.append(count)
            self.numbers += columns.values.tolist()
            self.encoded_counts.append(0)
        else:
            texts = [_plain_text(value) for value in columns.values]
            self.number_counts.append(0)
            self.texts += texts
            self._add_encoded(texts, columns.values)
            self.characters += sum(len(text) for text in texts if text is not None)

    def _add_encoded(self, texts: Sequence[str | None], values: Sequence[AtomValue]) -> None:
        encoded: list[bytes | None] = []
        if None in texts:
            encoded = [
                encode(value) if text is None else None
                for text, value in zip(texts, values, strict=True)
            ]
        self.encoded_counts.append(len(encoded))
        self.encoded += encoded

    def _add_steps(self, steps: array[float]) -> None:
        is_automatic = all_automatic(steps)
        regular = None if is_automatic or math.isnan(sum(steps)) else as_stride(steps)
        self.first_steps.append(None if regular is None else regular.first)
        self.strides.append(None if regular is None else regular.stride)
        given = [] if is_automatic or regular else steps.tolist()
        self.step_counts.append(len(given))
        self.steps += given


def point_rows(part: Part) -> Iterator[PointRows]:
    """Yield the points of a part, as few statements' worth as they need."""
    rows = PointRows()
    for variable_id, columns in _pieces(part):
        if rows.is_full:
            yield rows
            rows = PointRows()
        rows.add(variable_id, columns)
    yield rows


def _pieces(part: Part) -> Iterator[tuple[int, Columns]]:
    if part.points:
        for variable_id, columns in columns_by_variable(part.points):
            for start in range(0, len(columns.keys), _ROW_POINTS):
                yield variable_id, _cut(columns, start, start + _ROW_POINTS)
    for variable_id, columns in text_columns_by_variable(part.texts):
        start = characters = 0
        for stop, value in enumerate(columns.values, 1):
            characters += size_of(value)
            if characters >= _STATEMENT_CHARACTERS or stop == len(columns.values):
                yield variable_id, _cut(columns, start, stop)
                start, characters = stop, 0


def _cut(columns: Columns, start: int, stop: int) -> Columns:
    if start == 0 and stop >= len(columns.keys):
        return columns
    return Columns(
        columns.keys[start:stop],
        columns.steps[start:stop],
        columns.times[start:stop],
        columns.values[start:stop],
    )


def _plain_text(value: object) -> str | None:
    """Return a text or a datetime as a text of the server's; None if that could not hold it, and
    of all else.
    """
    if isinstance(value, datetime):
        return None if value.fold else value.isoformat()
    if not isinstance(value, str) or '\0' in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value
