"""What an experiment enqueues and storage applies.

A float point is not an object: it is four float64 numbers in a buffer, because
a tracker logs millions of them (see ``POINT``). All else is a small record.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from struct import Struct
from typing import Literal, NamedTuple, TypeAlias

from neptune_async._model.pending_files import PendingFile
from neptune_async._model.values import Content, SeriesValue
from neptune_async.exceptions import Rejection

Container: TypeAlias = Literal['atom', 'series', 'set']

POINT = Struct('=4d')
"""A float point: key, step, timestamp, value; see ``point_key`` and ``AUTOMATIC_STEP``."""
POINT_FIELDS = 4

AUTOMATIC_STEP = float('nan')
"""The step of a point that was logged without one: one more than the largest before it.

Storage resolves it, in the order of the log. So it costs the caller nothing,
and processes that log to one series at a time do not give a step twice.
"""


def point_key(variable_id: int, explicit_timestamp: bool = False) -> float:
    """Return the first field of a point: twice the variable's id, plus one
    where the timestamp was given, and so is to be kept even if it runs back.
    """
    return float(2 * variable_id + explicit_timestamp)


def variable_of(key: float) -> int:
    """Return the id in a point's key."""
    return int(key) >> 1


class Variable(NamedTuple):
    """A variable as storage knows it. A tuple, since a comparison makes tens of thousands: a frozen
    dataclass takes twice as long to make.
    """

    id: int
    path: str
    container: Container
    content: Content


@dataclass(frozen=True, slots=True)
class CreateVariable:
    """Make a variable, unless an equal one is there; another one makes a conflict."""

    variable: Variable


@dataclass(frozen=True, slots=True)
class Assign:
    """Replace an atom's value.

    :ivar value: encoded; a file that is not kept yet is as it is.
    """

    variable_id: int
    content: Content
    value: bytes | PendingFile

    @property
    def stored(self) -> bytes:
        """The encoded value.

        :raises TypeError: there is none: a file has to be kept first.
        """
        if not isinstance(self.value, bytes):
            raise TypeError(f'what is stored are bytes, not {type(self.value).__name__}')
        return self.value


@dataclass(frozen=True, slots=True)
class AddMembers:
    """Add encoded members to a set."""

    variable_id: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RemoveMembers:
    """Remove encoded members from a set, where they are in it."""

    variable_id: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ResetMembers:
    """Replace a set's members, and their type."""

    variable_id: int
    content: Content
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the variable at a path and all that are below it."""

    path: str


@dataclass(frozen=True, slots=True)
class Rewind:
    """Drop the points beyond a step from the series at a path and all that are below it.

    It comes before all points of its part: the queue begins another part for it.

    :ivar path: empty for all series of the experiment.
    """

    path: str
    step: float


_OfVariable: TypeAlias = Assign | AddMembers | RemoveMembers | ResetMembers
_OfPath: TypeAlias = Delete | Rewind
Operation: TypeAlias = CreateVariable | _OfVariable | _OfPath

TextPoint: TypeAlias = tuple[float, float, float, SeriesValue | PendingFile]
"""A point of a str or datetime series: key, step, timestamp, value."""


@dataclass(slots=True)
class Part:
    """The share of one experiment in a batch.

    :ivar epoch: how often variables had been deleted from the experiment when
        the sender last looked; storage refuses a part that is behind, since
        its points may name variables that are gone.
    :ivar operations: in the order of the calls.
    :ivar points: ``POINT`` records, in the order of the calls.
    :ivar texts: in the order of the calls.
    :ivar count: how many operations of the user the part holds, or held before
        some were rejected.
    :ivar rejections: of operations that were removed from the part.
    :ivar files: the files that the operations and texts refer to, by SHA-256 in hexadecimal digits:
        the content of a small one, which is kept in the same transaction; None of one that storage
        must have already.
    :ivar pending: the files that were not kept yet when the part was taken. Their copies are
        removed once the part is stored.
    """

    experiment_id: int
    name: str
    epoch: int | None
    operations: list[Operation] = field(default_factory=list)
    points: array[float] = field(default_factory=lambda: array('d'))
    texts: list[TextPoint] = field(default_factory=list)
    count: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    files: dict[str, bytes | None] = field(default_factory=dict)
    pending: list[PendingFile] = field(default_factory=list)

    def concerns(self, variable_id: int | None) -> bool:
        """Whether a read of a variable has to wait for this part.

        :param variable_id: None for one that is not known, or for a namespace.
        """
        for operation in self.operations:
            if isinstance(operation, (CreateVariable, Delete, Rewind)):
                return True
            if operation.variable_id == variable_id:
                return True
        if variable_id is None:
            return False
        if any(variable_of(text[0]) == variable_id for text in self.texts):
            return True
        raw = self.points.tobytes()
        return any(_has_key(raw, point_key(variable_id, explicit)) for explicit in (False, True))

    def variable_ids(self) -> set[int]:
        """Return the ids of all variables that the part names."""
        ids = {variable_of(key) for key in set(self.points[::POINT_FIELDS])}
        ids.update(variable_of(text[0]) for text in self.texts)
        ids.update(_named(op) for op in self.operations if not isinstance(op, _OfPath))
        return ids

    def created_ids(self) -> set[int]:
        """Return the ids of the variables that the part creates."""
        return {op.variable.id for op in self.operations if isinstance(op, CreateVariable)}

    def replace(self, ids: Mapping[int, int | None]) -> Counter[int]:
        """Give variables other ids; None removes what names them.

        :returns: how many operations of the user were removed, by the id that they named.
        """
        removed: Counter[int] = Counter()
        operations: list[Operation] = []
        for operation in self.operations:
            if isinstance(operation, _OfPath):
                operations.append(operation)
                continue
            named = _named(operation)
            new = ids.get(named, named)
            if new is not None:
                operations.append(_renamed(operation, new))
            elif not isinstance(operation, CreateVariable):
                removed[named] += 1
        texts: list[TextPoint] = []
        for text in self.texts:
            new = ids.get(variable_of(text[0]), variable_of(text[0]))
            if new is None:
                removed[variable_of(text[0])] += 1
            else:
                texts.append((_moved(text[0], new), *text[1:]))
        points = array('d')
        for start in range(0, len(self.points), POINT_FIELDS):
            point = self.points[start : start + POINT_FIELDS]
            named = variable_of(point[0])
            new = ids.get(named, named)
            if new is None:
                removed[named] += 1
            else:
                point[0] = _moved(point[0], new)
                points += point
        self.operations, self.texts, self.points = operations, texts, points
        return removed


def _named(operation: CreateVariable | _OfVariable) -> int:
    return operation.variable.id if isinstance(operation, CreateVariable) else operation.variable_id


def _renamed(operation: CreateVariable | _OfVariable, variable_id: int) -> Operation:
    if isinstance(operation, CreateVariable):
        return CreateVariable(operation.variable._replace(id=variable_id))
    return replace(operation, variable_id=variable_id)


def _moved(key: float, variable_id: int) -> float:
    return point_key(variable_id, bool(int(key) & 1))


def _has_key(points: bytes, key: float) -> bool:
    wanted = array('d', [key]).tobytes()
    position = points.find(wanted)
    while position >= 0 and position % POINT.size:
        position = points.find(wanted, position + 1)
    return position >= 0


@dataclass(slots=True)
class Batch:
    """All that one worker writes in one transaction.

    :ivar writer: the 16 bytes that identify the worker; new after a fork.
    :ivar number: counts the worker's batches from 1. Storage takes a batch only
        if its number follows the last one of that writer, so that a batch that
        is sent twice is stored once.
    """

    writer: bytes
    number: int
    parts: list[Part]
