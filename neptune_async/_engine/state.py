"""The state of an open experiment: its variables and its queue.

All experiments of one name and store in a process share one. Every write is
checked here, against what is known in memory, and enters the queue here.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from neptune_async._engine.entries import Entry, VariableIds
from neptune_async._engine.queue import Policy, Queue, Stats
from neptune_async._engine.variables import Variables
from neptune_async._model import messages
from neptune_async._model.arguments import (
    Column,
    checked_column,
    checked_members,
    common_content,
    leaves_of,
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
    Batch,
    Container,
    CreateVariable,
    Delete,
    Operation,
    Part,
    RemoveMembers,
    ResetMembers,
    Rewind,
    Variable,
    point_key,
)
from neptune_async._model.paths import is_at_or_below
from neptune_async._model.values import (
    Content,
    atom_value,
    checked_step,
    checked_timestamp,
    content_of,
    encode,
    encode_members,
    series_value,
)
from neptune_async._storage.base import ExperimentRecord
from neptune_async.exceptions import (
    NeptuneAsyncError,
    RejectedOperationsError,
    Rejection,
)

logger = logging.getLogger('neptune_async')

T = TypeVar('T')
OnError: TypeAlias = Callable[[NeptuneAsyncError], object]
Echo: TypeAlias = Callable[[str, str], None]
"""Takes note of the path and the text of a write that was accepted; without I/O, since the caller
holds the queue's lock."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes: how it meets a full queue, and where it wants its writes printed."""

    policy: Policy = 'block'
    echo: Echo | None = None


PLAIN = Origin()

_EXTEND_POINTS = 2**14
"""Points of one extend that enter the queue at a time where it waits for room."""

_Columns: TypeAlias = list[tuple[str, Column]]
"""By path, none of them empty."""


class ExperimentState:
    """What the process knows of an experiment; guarded by the queue's lock.

    :ivar epoch: how often variables had been deleted when last seen.
    :ivar flush_interval: seconds after which what waits is written.
    :ivar users: how many ``Experiment`` objects have it open.
    :ivar is_synced: whether every commit is to be forced to disk.
    :ivar is_loaded: whether the variables that storage had are known.
    :ivar on_error: what to call on the worker's thread when storage fails.
    :ivar rejections: those that no call has reported yet.
    :ivar broken_forks: calls of ``fork`` whose end is not known, by name: the step, what had been
        offered to the queue before, and the mark; taken out and put in in one step each.
    """

    def __init__(
        self, record: ExperimentRecord, queue: Queue, ids: VariableIds, flush_interval: float
    ) -> None:
        self.id = record.id
        self.name = record.name
        self.epoch = record.epoch
        self.queue = queue
        self.flush_interval = flush_interval
        self.users = 0
        self.is_closed = False
        self.is_loaded = False
        self.is_synced = False
        self.retries = 0
        self.last_error: Exception | None = None
        self.broken_forks: dict[str, tuple[tuple[float | None, int], bytes]] = {}
        self.on_error: list[OnError] = []
        self.rejections: list[Rejection] = []
        self._ids = ids
        self._variables = Variables(record.name)
        self._next_steps: dict[str, float] | None = None
        self._has_warned = False
        self._brings_variables = False

    # ── Writes ───────────────────────────────────────────────────────────────

    def log(
        self,
        path: str,
        value: object,
        step: object = None,
        timestamp: object = None,
        origin: Origin = PLAIN,
    ) -> None:
        """Append a value to a series, or each leaf of a dict to the series at its path."""
        values = self._checked_leaves(path, value, series_value)
        checked = AUTOMATIC_STEP if step is None else self._checked(path, checked_step, step)
        when = None
        if timestamp is not None:
            when = self._checked(path, checked_timestamp, timestamp)
        if not self._admitted(len(values), origin):
            return
        with self.queue.writing:
            contents = [(leaf, content_of(value)) for leaf, value in values]
            entries = self._entries_for('series', contents, 'log')
            seconds = time.time() if when is None else when
            floats: list[float] = []
            for entry, (_, value) in zip(entries, values, strict=True):
                key = point_key(entry.known_id, when is not None)
                if isinstance(value, float):
                    floats += (key, checked, seconds, value)
                else:
                    self.queue.put_text((key, checked, seconds, value))
            # One call for all: the worker then takes all or none of them.
            self.queue.put_points(array('d', floats).tobytes())
            for leaf, value in values:
                number = self._expected(leaf, checked)
                if origin.echo:
                    origin.echo(leaf, log_line(number, seconds, value))

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
        if self.queue.waits(origin.policy):
            with self.queue.lock:
                self.require_open()
                self._variables.plan('series', _contents(columns), 'extend')
            shares = (
                [(leaf, piece)]
                for leaf, column in columns
                for piece in column.slices(_EXTEND_POINTS)
            )
        taken = [self._append(share, origin) for share in shares]
        if origin.echo and all(taken):
            with self.queue.lock:
                for leaf, column in columns:
                    origin.echo(leaf, f'extend {len(column.values)} values')

    def _append(self, columns: _Columns, origin: Origin) -> bool:
        """Append columns to their series, all or none; False if they were dropped."""
        if not self._admitted(sum(len(column.values) for _, column in columns), origin):
            return False
        with self.queue.writing:
            entries = self._entries_for('series', _contents(columns), 'extend')
            seconds = time.time()
            for entry, (_, column) in zip(entries, columns, strict=True):
                # The copies of a long column would take several times its room.
                for piece in column.slices(_EXTEND_POINTS):
                    self._put_column(entry, piece, seconds)
            return True

    def _put_column(self, entry: Entry, column: Column, seconds: float) -> None:
        count = len(column.values)
        key = point_key(entry.known_id, column.timestamps is not None)
        times = column.timestamps or array('d', [seconds]) * count
        steps = column.steps or array('d', [AUTOMATIC_STEP]) * count
        if entry.content == 'float':
            points = array('d', bytes(8 * POINT_FIELDS * count))
            points[0::POINT_FIELDS] = array('d', [key]) * count
            points[1::POINT_FIELDS] = steps
            points[2::POINT_FIELDS] = times
            values: Any = column.values
            points[3::POINT_FIELDS] = array('d', values)
            self.queue.put_points(points.tobytes())
        else:
            for point in zip([key] * count, steps, times, column.values, strict=True):
                self.queue.put_text(point)
        if self._next_steps is not None:
            for step in steps:
                self._expected(entry.path, step)

    def assign(self, path: str, value: object, origin: Origin = PLAIN) -> None:
        """Replace the value of an atom, or of each atom that a leaf of a dict is at."""
        values = self._checked_leaves(path, value, atom_value)
        encoded = [self._checked(leaf, encode, value) for leaf, value in values]
        if not self._admitted(len(values), origin):
            return
        with self.queue.writing:
            contents = [(leaf, content_of(value)) for leaf, value in values]
            entries = self._entries_for('atom', contents, 'assign')
            for entry, (_, value), stored in zip(entries, values, encoded, strict=True):
                entry.content = content_of(value)
                self.queue.put_operation(Assign(entry.known_id, entry.content, stored))
            if origin.echo:
                for leaf, value in values:
                    origin.echo(leaf, f'assign {shown_value(value)}')

    def add(self, path: str, values: Sequence[object], origin: Origin = PLAIN) -> None:
        """Add members to a set, or those of each leaf of a dict to the set at its path."""
        if len(values) == 1 and isinstance(values[0], Mapping):
            groups = self._checked_leaves(path, values[0], members_of_leaf)
        else:
            groups = [(path, self._checked(path, checked_members, values))]
        contents = [
            (leaf, self._checked(leaf, common_content, members)) for leaf, members in groups
        ]
        encoded = [self._checked(leaf, encode_members, members) for leaf, members in groups]
        if not self._admitted(len(groups), origin):
            return
        with self.queue.writing:
            entries = self._entries_for('set', contents, 'add')
            for entry, stored in zip(entries, encoded, strict=True):
                self.queue.put_operation(AddMembers(entry.known_id, stored))
            if origin.echo:
                for leaf, members in groups:
                    origin.echo(leaf, f'add {shown_value(members)}')

    def remove(self, path: str, values: Sequence[object], origin: Origin = PLAIN) -> None:
        """Remove members from a set, where they are in it."""
        members = self._checked(path, checked_members, values)
        encoded = self._checked(path, encode_members, members)
        if not self._admitted(1, origin):
            return
        with self.queue.writing:
            entry = self._variables.existing(path, 'set', 'remove')
            self._introduce([entry])
            # A member of another type cannot be in it: 1 is not True here, as it is in Python.
            self.queue.put_operation(RemoveMembers(entry.known_id, encoded))
            if origin.echo:
                origin.echo(path, f'remove {shown_value(members)}')

    def reset(self, path: str, values: Sequence[object], origin: Origin = PLAIN) -> None:
        """Replace all members of a set, and their type."""
        members = self._checked(path, checked_members, values)
        content = self._checked(path, common_content, members) if members else None
        encoded = self._checked(path, encode_members, members)
        if not self._admitted(1, origin):
            return
        with self.queue.writing:
            entry = self._variables.existing(path, 'set', 'reset')
            self._introduce([entry])
            entry.content = content or entry.content
            self.queue.put_operation(ResetMembers(entry.known_id, entry.content, encoded))
            if origin.echo:
                origin.echo(path, f'reset {shown_value(members)}')

    def delete(self, path: str, origin: Origin = PLAIN) -> bool:
        """Delete a variable, or all below a namespace; False if neither is known here."""
        with self.queue.lock:
            if self._variables.find(path) is None and not self._variables.is_namespace(path):
                return False
        self.put_delete(path, origin)
        return True

    def put_delete(self, path: str, origin: Origin = PLAIN) -> None:
        """Delete what is at a path and below it, known here or not."""
        if not self._admitted(1, origin):
            return
        with self.queue.writing:
            forgotten = self._variables.forget_below(path)
            if self._next_steps is not None:
                for known in forgotten:
                    self._next_steps.pop(known, None)
            self.queue.put_operation(Delete(path))

    def rewind(self, path: str, step: float, origin: Origin = PLAIN) -> bool:
        """Drop the points beyond a step from the series at a path and below it, all if it is
        empty; False if the path is neither variable nor namespace here.
        """
        with self.queue.lock:
            entry = self._variables.find(path)
            if entry is not None and entry.container != 'series':
                raise messages.wrong_container(self.name, path, entry.container, 'rewind')
            if path and entry is None and not self._variables.is_namespace(path):
                return False
        self.put_rewind(path, step, origin)
        return True

    def put_rewind(self, path: str, step: float, origin: Origin = PLAIN) -> None:
        """Rewind what is at a path and below it, known here or not."""
        if not self._admitted(1, origin):
            return
        with self.queue.writing:
            self.queue.seal()
            self.queue.put_operation(Rewind(path, step))
            if self._next_steps is not None:
                for known, following in self._next_steps.items():
                    if is_at_or_below(known, path) and following > step + 1.0:
                        # Which steps are left, only storage knows.
                        self._next_steps[known] = AUTOMATIC_STEP

    def _checked_leaves(
        self, path: str, value: object, check: Callable[[Any], T]
    ) -> list[tuple[str, T]]:
        """Return path and checked value of each leaf of nested dicts, or of a value itself."""
        leaves = self._checked(path, lambda value: list(leaves_of(path, value)), value)
        return [(leaf, self._checked(leaf, check, value)) for leaf, value in leaves]

    def _checked(self, path: str, check: Callable[[Any], T], value: object) -> T:
        try:
            return check(value)
        except NeptuneAsyncError as error:
            raise messages.located(error, self.name, path) from None

    def refuse(self, error: NeptuneAsyncError) -> None:
        """Count a write that a check refused and that is not to raise; warn of the first."""
        self.queue.count_refused()
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                'experiment %r: a write was refused, and with strict=False only counted as '
                'rejected: %s',
                self.name, error,
            )  # fmt: skip
        self.last_error = error

    def _admitted(self, count: int, origin: Origin) -> bool:
        self.require_open()
        return self.queue.admit(count, origin.policy)

    def require_open(self) -> None:
        """:raises ExperimentClosedError: when it was closed."""
        if self.is_closed:
            raise messages.closed(self.name)

    def _expected(self, path: str, step: float) -> float:
        """Return the step that a point is going to have, for echo.

        An automatic one is what storage will make of it, unless another process logs to the
        series: storage decides, so that no step is given twice.
        """
        if self._next_steps is None:
            return step
        following = self._next_steps.get(path, 0.0)
        if step != step:
            step = following
        self._next_steps[path] = max(following, step + 1.0)
        return step

    # ── Variables ────────────────────────────────────────────────────────────

    def entry(self, path: str) -> Entry:
        """Return the entry of a path, for a view to keep; ``NO_ENTRY`` if there is none."""
        with self.queue.lock:
            return self._variables.named(path)

    def load(self, variables: Iterable[Variable]) -> None:
        """Know the variables that storage has."""
        with self.queue.lock:
            self._variables.load(variables)
            self.is_loaded = True

    def number_steps(self, next_steps: dict[str, float]) -> None:
        """Count from now on which numbers automatic steps will get, so that they can be shown.

        :param next_steps: by path, of every series that has points.
        """
        with self.queue.lock:
            self._next_steps = next_steps
            self._variables.withhold_keys()

    @property
    def numbers_steps(self) -> bool:
        """Whether ``number_steps`` was called."""
        return self._next_steps is not None

    def _entries_for(
        self, container: Container, contents: Sequence[tuple[str, Content]], method: str
    ) -> list[Entry]:
        """Return the entries that a write is for, and make those that are new; all, or none."""
        plan = self._variables.plan(container, contents, method)
        self._variables.add(plan.new)
        self._introduce(plan.entries)
        return plan.entries

    def _introduce(self, entries: Iterable[Entry]) -> None:
        """Tell storage of the variables that it has not been told of.

        :raises ExperimentClosedError: it was closed since the write was admitted.
        """
        self.require_open()
        # First the operations: once there is a key, other threads log without a lock.
        new = {entry.path: (entry, self._ids.draw()) for entry in entries if entry.id is None}
        if not new:
            return
        for path, (entry, variable_id) in new.items():
            variable = Variable(variable_id, path, entry.container, entry.content)
            self.queue.put_operation(CreateVariable(variable))
        self.queue.write_journal()
        for entry, variable_id in new.values():
            self._variables.announce(entry, variable_id)

    # ── The worker's side ────────────────────────────────────────────────────

    def new_part(self) -> Part:
        """Return an empty part of a batch."""
        return Part(self.id, self.name, self.epoch)

    def take(self, part: Part, batch: Batch) -> bool:
        """Move everything that waits into a part of a batch; False if there was nothing."""
        found = self.queue.take(part, batch.writer, batch.number)
        if found and self._brings_variables:
            self._create_named(part)
        return found

    def known_id(self, path: str | None) -> int | None:
        """Return the id of the variable at a path, if it is known here."""
        with self.queue.lock:
            entry = self._variables.find(path) if path else None
            return None if entry is None else entry.id

    def settle(self, count: int, rejections: Sequence[Rejection], *, spilled: bool = False) -> None:
        """Count what a committed batch had of this experiment, and tell of rejections.

        :param spilled: whether it had left memory before.
        """
        rejected = sum(rejection.count for rejection in rejections)
        with self.queue.lock:
            # Together: a flush that finds nothing pending tells of what was rejected.
            self.queue.settle(count, rejected, spilled=spilled)
            self.rejections += rejections
        if rejections:
            error = RejectedOperationsError(rejections)
            self.last_error = error
            logger.warning('experiment %r: %s', self.name, error)
            self.tell(error)

    def tell(self, error: NeptuneAsyncError) -> None:
        """Call every ``on_error``; what fails in one is logged, and stops nothing."""
        for on_error in self.on_error:
            try:
                on_error(error)
            except Exception:
                logger.exception('on_error of experiment %r failed', self.name)

    def close(self) -> None:
        """Refuse all further calls; what was queued before is stored as ever."""
        with self.queue.lock:
            self.is_closed = True
            self._variables.withhold_keys()

    def adopt(self, record: ExperimentRecord) -> None:
        """Know the experiment as a write has left it; warn if that has made it anew."""
        if record.id != self.id:
            logger.warning(
                'experiment %r was deleted by another process; it goes on anew, with what is '
                'logged from now on',
                self.name,
            )
        self.id, self.epoch = record.id, record.epoch

    def bring_variables(self, part: Part) -> None:
        """Have a part create all variables that it names, whatever storage has of them."""
        self._create_named(part)
        part.epoch = None
        # What others deleted may be named again, by calls that came before this was found out.
        self.bring_all_variables()

    def bring_all_variables(self) -> None:
        """Have every part from now on create all variables that it names."""
        self._brings_variables = True

    def _create_named(self, part: Part) -> None:
        """Have a part create first what it names and does not create itself."""
        with self.queue.lock:
            named = part.variable_ids() - part.created_ids()
            creations: list[Operation] = [
                CreateVariable(entry.variable()) for entry in self._variables.with_ids(named)
            ]
            part.operations = creations + part.operations

    def yield_to(self, old_id: int, stored: Variable) -> None:
        """Take over a variable that another process made at the same path."""
        with self.queue.lock:
            entry = self._variables.named(stored.path)
            if entry.id == old_id:
                # Points that were logged since name it by the id that it never got.
                self.queue.put_in_journal(CreateVariable(entry.variable()))
                entry.forget_id()
                entry.container, entry.content = stored.container, stored.content
                self._variables.announce(entry, stored.id)

    def begin_in_child(self, ids: VariableIds) -> None:
        """In a forked child: forget what the parent has to store, keep what is known.

        Every variable is told to storage again before it is next written to,
        since the parent may not have done so yet.
        """
        self.queue.reset()
        self.retries, self.last_error = 0, None
        self.rejections = []
        self.broken_forks = {}
        self._ids = ids
        self._variables.forget_all_ids()

    def raise_rejections(self) -> None:
        """Raise what storage rejected since the last call."""
        if self.rejections:
            with self.queue.lock:
                rejections, self.rejections = self.rejections, []
            if rejections:  # no other thread was faster
                raise RejectedOperationsError(rejections)

    def stats(self) -> Stats:
        """Return the counters."""
        return self.queue.stats(self.retries, self.last_error)


def _contents(columns: _Columns) -> list[tuple[str, Content]]:
    return [(path, content_of(column.values[0])) for path, column in columns]
