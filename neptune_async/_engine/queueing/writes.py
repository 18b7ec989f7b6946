"""Where a call becomes an operation: checked against what is known, and put into the queue."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from neptune_async._engine.durability.staged_copies import owner_mark
from neptune_async._engine.durability.temporary_folder import made_temporary
from neptune_async._engine.queueing.queue import Policy, Queue
from neptune_async._engine.queueing.variable_ids import VariableIds
from neptune_async._engine.queueing.variables import Entry, Variables
from neptune_async._messenger import messenger
from neptune_async._model import messages
from neptune_async._model.arguments import (
    Column,
    batch_of,
    checked_column,
    checked_members,
    common_content,
    is_structure,
    log_line,
    members_of_leaf,
    repeatable,
    shown_value,
)
from neptune_async._model.operations import (
    AUTOMATIC_STEP,
    POINT_FIELDS,
    AddMembers,
    Assign,
    Container,
    CreateVariable,
    Delete,
    RemoveMembers,
    ResetMembers,
    Rewind,
    Variable,
    point_key,
)
from neptune_async._model.paths import is_at_or_below
from neptune_async._model.pending_files import NotStaged, PendingFile
from neptune_async._model.structures import is_scalar
from neptune_async._model.values import (
    AtomValue,
    Content,
    SeriesValue,
    assignable,
    checked_step,
    checked_timestamp,
    content_of,
    encode,
    encode_members,
    loggable,
)
from neptune_async.exceptions import NeptuneAsyncError
from neptune_async.files import File

T = TypeVar('T')
Echo: TypeAlias = Callable[[str, str], None]
"""Takes note of the path and the text of a write that was accepted; without I/O, since the caller
holds the queue's lock."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes: what it does when the queue is full, and how its writes are echoed."""

    policy: Policy = 'block'
    echo: Echo | None = None


PLAIN = Origin()

_EXTEND_POINTS = 2**14
"""Points of one extend that enter the queue at a time where it waits for room."""

_Columns: TypeAlias = list[tuple[str, Column]]
"""By path, none of them empty."""
_Leaves: TypeAlias = list[tuple[str, T]]
"""By path."""


class Writes:
    """The writes of one experiment. The queue's lock guards what they know.

    :ivar variables: what is known of the experiment's variables.
    :ivar is_closed: whether every further write is refused.
    :ivar ids: where new variables get their ids from.
    :ivar next_steps: which number the next automatic step of each series will have, by path; None
        while nobody wants to know.
    :ivar folder: where copies of files wait until they are kept; None for a store in memory, where
        they wait in memory.
    """

    def __init__(self, name: str, queue: Queue, ids: VariableIds) -> None:
        self.variables = Variables(name)
        self.is_closed = False
        self.ids = ids
        self.next_steps: dict[str, float] | None = None
        self.folder: Path | None = None
        self._name = name
        self._queue = queue

    def rename(self, name: str) -> None:
        """Take note of the experiment's new name, for errors."""
        self._name = name
        self.variables.rename(name)

    def log(
        self,
        path: str,
        value: object,
        step: object = None,
        timestamp: object = None,
        origin: Origin = PLAIN,
    ) -> None:
        """Append a value to a series, or each leaf of a dict to the series at its path."""
        values = self._checked_leaves(path, value, loggable)
        checked = AUTOMATIC_STEP if step is None else self._checked(path, checked_step, step)
        when = None
        if timestamp is not None:
            when = self._checked(path, checked_timestamp, timestamp)
        put = partial(self._put_points, step=checked, timestamp=when, origin=origin)
        self._put_leaves(values, put)

    def _put_points(
        self,
        values: _Leaves[SeriesValue | PendingFile],
        size: int,
        *,
        step: float,
        timestamp: float | None,
        origin: Origin,
    ) -> bool:
        if not self._admitted(len(values), origin, size):
            return False
        with self._queue.writing:
            contents = [(leaf, content_of(value)) for leaf, value in values]
            entries = self._entries_for('series', contents, 'log')
            seconds = time.time() if timestamp is None else timestamp
            floats: list[float] = []
            for entry, (_, value) in zip(entries, values, strict=True):
                key = point_key(entry.known_id, timestamp is not None)
                if isinstance(value, float):
                    floats += (key, step, seconds, value)
                else:
                    self._queue.put_text((key, step, seconds, value))
            # One call for all: the worker then takes all or none of them.
            self._queue.put_points(array('d', floats).tobytes())
            self._queue.hold(size)
            for leaf, value in values:
                number = self._expected(leaf, step)
                if origin.echo:
                    origin.echo(leaf, log_line(number, seconds, value))
            return True

    def extend(
        self,
        path: str,
        values: object,
        steps: object = None,
        timestamps: object = None,
        origin: Origin = PLAIN,
    ) -> None:
        """Append values to a series, or each leaf of a dict to the series at its path."""
        # Every leaf of a dict takes them.
        steps, timestamps = repeatable(steps), repeatable(timestamps)
        check = partial(checked_column, steps=steps, timestamps=timestamps)
        columns = self._checked_leaves(path, values, check)
        columns = [(leaf, column) for leaf, column in columns if column.values]
        if not columns:
            return
        shares: Iterable[_Columns] = [columns]
        if self._queue.waits(origin.policy):
            with self._queue.lock:
                self.require_open()
                self.variables.plan('series', _contents(columns), 'extend')
            shares = (
                [(leaf, piece)]
                for leaf, column in columns
                for piece in column.slices(_EXTEND_POINTS)
            )
        taken = [self._append(share, origin) for share in shares]
        if origin.echo and all(taken):
            with self._queue.lock:
                for leaf, column in columns:
                    origin.echo(leaf, f'extend {len(column.values)} values')

    def _append(self, columns: _Columns, origin: Origin) -> bool:
        """Append columns to their series, all or none; False if they were dropped."""
        if not any(content == 'file' for _, content in _contents(columns)):
            return self._put_columns(columns, 0, origin)

        def put(files: _Leaves[Any], size: int) -> bool:
            taken = iter([file for _, file in files])
            own = [
                (leaf, replace(column, values=[*islice(taken, len(column.values))]))
                for leaf, column in columns
            ]
            return self._put_columns(own, size, origin)

        return self._put_leaves([(leaf, v) for leaf, column in columns for v in column.values], put)

    def _put_columns(self, columns: _Columns, size: int, origin: Origin) -> bool:
        if not self._admitted(sum(len(column.values) for _, column in columns), origin, size):
            return False
        with self._queue.writing:
            entries = self._entries_for('series', _contents(columns), 'extend')
            seconds = time.time()
            for entry, (_, column) in zip(entries, columns, strict=True):
                # The copies of a long column would take several times its room.
                for piece in column.slices(_EXTEND_POINTS):
                    self._put_column(entry, piece, seconds)
            self._queue.hold(size)
            return True

    def _put_column(self, entry: Entry, column: Column, seconds: float) -> None:
        count = len(column.values)
        key = point_key(entry.known_id, column.timestamps is not None)
        times = column.timestamps or array('d', [seconds]) * count
        steps = column.steps or array('d', [AUTOMATIC_STEP]) * count
        values: Sequence[Any] = column.values
        if entry.content == 'float':
            points = array('d', bytes(8 * POINT_FIELDS * count))
            points[0::POINT_FIELDS] = array('d', [key]) * count
            points[1::POINT_FIELDS] = steps
            points[2::POINT_FIELDS] = times
            points[3::POINT_FIELDS] = array('d', values)
            self._queue.put_points(points.tobytes())
        else:
            for point in zip([key] * count, steps, times, values, strict=True):
                self._queue.put_text(point)
        if self.next_steps is not None:
            for step in steps:
                self._expected(entry.path, step)

    def assign(self, path: str, value: object, origin: Origin = PLAIN) -> None:
        """Replace the value of an atom, or of each atom that a leaf of a dict is at."""
        values = self._checked_leaves(path, value, assignable, splits_lists=True)
        self._put_leaves(values, partial(self._put_assigns, origin=origin))

    def _put_assigns(
        self, values: _Leaves[AtomValue | PendingFile], size: int, *, origin: Origin
    ) -> bool:
        encoded = [
            value if isinstance(value, PendingFile) else self._checked(leaf, encode, value)
            for leaf, value in values
        ]
        if not self._admitted(len(values), origin, size):
            return False
        with self._queue.writing:
            contents = [(leaf, content_of(value)) for leaf, value in values]
            entries = self._entries_for('atom', contents, 'assign')
            for entry, (_, value), stored in zip(entries, values, encoded, strict=True):
                entry.content = content_of(value)
                self._queue.put_operation(Assign(entry.known_id, entry.content, stored))
            self._queue.hold(size)
            if origin.echo:
                for leaf, value in values:
                    origin.echo(leaf, f'assign {shown_value(value)}')
            return True

    def add(self, path: str, values: Sequence[object], origin: Origin = PLAIN) -> None:
        """Add members to a set, or those of each leaf of a dict to the set at its path."""
        if len(values) == 1 and self._checked(path, is_structure, values[0]):
            groups = self._checked_leaves(path, values[0], members_of_leaf)
        else:
            groups = [(path, self._checked(path, checked_members, values))]
        contents = [
            (leaf, self._checked(leaf, common_content, members)) for leaf, members in groups
        ]
        encoded = [self._checked(leaf, encode_members, members) for leaf, members in groups]
        if not self._admitted(len(groups), origin):
            return
        with self._queue.writing:
            entries = self._entries_for('set', contents, 'add')
            for entry, stored in zip(entries, encoded, strict=True):
                self._queue.put_operation(AddMembers(entry.known_id, stored))
            if origin.echo:
                for leaf, members in groups:
                    origin.echo(leaf, f'add {shown_value(members)}')

    def remove(self, path: str, values: Sequence[object], origin: Origin = PLAIN) -> None:
        """Remove members from a set, where they are in it."""
        members = self._checked(path, partial(checked_members, method='remove'), values)
        encoded = self._checked(path, encode_members, members)
        if not self._admitted(1, origin):
            return
        with self._queue.writing:
            entry = self.variables.existing(path, 'set', 'remove')
            self._introduce([entry])
            # A member of another type cannot be in it: 1 is not True here, as it is in Python.
            self._queue.put_operation(RemoveMembers(entry.known_id, encoded))
            if origin.echo:
                origin.echo(path, f'remove {shown_value(members)}')

    def reset(self, path: str, values: Sequence[object], origin: Origin = PLAIN) -> None:
        """Replace all members of a set, and their type."""
        members = self._checked(path, partial(checked_members, method='reset'), values)
        content = self._checked(path, common_content, members) if members else None
        encoded = self._checked(path, encode_members, members)
        if not self._admitted(1, origin):
            return
        with self._queue.writing:
            entry = self.variables.existing(path, 'set', 'reset')
            self._introduce([entry])
            entry.content = content or entry.content
            self._queue.put_operation(ResetMembers(entry.known_id, entry.content, encoded))
            if origin.echo:
                origin.echo(path, f'reset {shown_value(members)}')

    def delete(self, path: str, origin: Origin = PLAIN) -> bool:
        """Delete a variable, or all below a namespace; False if neither is known here."""
        with self._queue.lock:
            if self.variables.find(path) is None and not self.variables.is_namespace(path):
                return False
        self.put_delete(path, origin)
        return True

    def put_delete(self, path: str, origin: Origin = PLAIN) -> None:
        """Delete what is at a path and below it, known here or not."""
        if not self._admitted(1, origin):
            return
        with self._queue.writing:
            forgotten = self.variables.forget_below(path)
            if self.next_steps is not None:
                for known in forgotten:
                    self.next_steps.pop(known, None)
            self._queue.put_operation(Delete(path))

    def rewind(self, path: str, step: float, origin: Origin = PLAIN) -> bool:
        """Drop the points beyond a step from the series at a path and below it, all if it is
        empty; False if the path is neither variable nor namespace here.
        """
        with self._queue.lock:
            entry = self.variables.find(path)
            if entry is not None and entry.container != 'series':
                raise messages.wrong_container(self._name, path, entry.container, 'rewind')
            if path and entry is None and not self.variables.is_namespace(path):
                return False
        self.put_rewind(path, step, origin)
        return True

    def put_rewind(self, path: str, step: float, origin: Origin = PLAIN) -> None:
        """Rewind what is at a path and below it, known here or not."""
        if not self._admitted(1, origin):
            return
        with self._queue.writing:
            self._queue.seal()
            self._queue.put_operation(Rewind(path, step))
            if self.next_steps is not None:
                for known, following in self.next_steps.items():
                    if is_at_or_below(known, path) and following > step + 1.0:
                        # Which steps are left, only storage knows.
                        self.next_steps[known] = AUTOMATIC_STEP

    def _checked_leaves(
        self, path: str, value: object, check: Callable[[Any], T], splits_lists: bool = False
    ) -> list[tuple[str, T]]:
        """Return path and checked value of each leaf of structures, or of a value itself."""
        leaves = [(path, value)]
        if not is_scalar(value):
            leaves = self._checked(path, partial(batch_of, path, splits_lists=splits_lists), value)
        return [(leaf, self._checked(leaf, check, value)) for leaf, value in leaves]

    def _checked(self, path: str, check: Callable[[Any], T], value: object) -> T:
        try:
            return check(value)
        except NeptuneAsyncError as error:
            raise messages.located(error, self._name, path) from None

    def _put_leaves(self, values: _Leaves[Any], put: Callable[[_Leaves[Any], int], bool]) -> bool:
        """Put values into the queue, with each file as it is now; False if they were dropped.

        :param put: takes the values, and how many bytes their files have in memory.
        """
        if not any(isinstance(value, File) for _, value in values):
            return put(values, 0)
        self.require_open()
        taken: _Leaves[Any] = []
        is_put = False
        try:
            for leaf, value in values:
                is_file = isinstance(value, File)
                taken.append((leaf, self._taken(leaf, value) if is_file else value))
            is_put = put(taken, sum(_memory_of(value) for _, value in taken))
        finally:
            if not is_put:
                for _, value in taken:
                    if isinstance(value, PendingFile):
                        value.discard()
        return is_put

    def _taken(self, path: str, file: File) -> PendingFile:
        """Return a file as it is now, and with a journal, where the death of the process does not
        reach it.
        """
        pending: PendingFile = self._checked(path, partial(PendingFile.of, path), file)
        if self.folder is None:
            self._checked(path, PendingFile.load, pending)
        elif pending.is_outside or self._queue.is_journaled:
            self._checked(path, partial(self._stage, folder=self.folder), pending)
        return pending

    def _stage(self, pending: PendingFile, folder: Path) -> None:
        try:
            pending.stage(folder, owner_mark())
            return
        except NotStaged as error:
            why = error
        # A full disk must not stop the program.
        try:
            pending.stage(made_temporary(folder), owner_mark())
        except (NotStaged, OSError):
            pending.load()
            if self._queue.is_journaled:
                messenger.warning(
                    'experiment %r: the file of %s cannot be staged (%s); it survives the death '
                    'of the process only once it is stored',
                    self._name, pending.path, why,
                )  # fmt: skip

    def _admitted(self, count: int, origin: Origin, size: int = 0) -> bool:
        self.require_open()
        return self._queue.admit(count, origin.policy, size)

    def require_open(self) -> None:
        """:raises ExperimentClosedError: when it was closed."""
        if self.is_closed:
            raise messages.closed(self._name)

    def _expected(self, path: str, step: float) -> float:
        """Return the step that a point is going to have, for echo.

        An automatic one is what storage will make of it, unless another process logs to the
        series: storage decides, so that no step is given twice.
        """
        if self.next_steps is None:
            return step
        following = self.next_steps.get(path, 0.0)
        if step != step:
            step = following
        self.next_steps[path] = max(following, step + 1.0)
        return step

    def _entries_for(
        self, container: Container, contents: Sequence[tuple[str, Content]], method: str
    ) -> list[Entry]:
        """Return the entries that a write is for, and make those that are new; all, or none."""
        plan = self.variables.plan(container, contents, method)
        self.variables.add(plan.new)
        self._introduce(plan.entries)
        return plan.entries

    def _introduce(self, entries: Iterable[Entry]) -> None:
        """Tell storage of the variables that it has not been told of.

        :raises ExperimentClosedError: it was closed since the write was admitted.
        """
        self.require_open()
        # First the operations: once there is a key, other threads log without a lock.
        new = {entry.path: (entry, self.ids.draw()) for entry in entries if entry.id is None}
        if not new:
            return
        for path, (entry, variable_id) in new.items():
            variable = Variable(variable_id, path, entry.container, entry.content)
            self._queue.put_operation(CreateVariable(variable))
        self._queue.write_journal()
        for entry, variable_id in new.values():
            self.variables.announce(entry, variable_id)


def _memory_of(value: object) -> int:
    return value.memory if isinstance(value, PendingFile) else 0


def _contents(columns: _Columns) -> list[tuple[str, Content]]:
    return [(path, content_of(column.values[0])) for path, column in columns]
