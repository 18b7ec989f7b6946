"""The state of an open experiment: its writes, its queue, and what storage has said of it.

All experiments of one name and store in a process share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

from neptune_async._engine.queueing.counters import Stats
from neptune_async._engine.queueing.queue import Queue
from neptune_async._engine.queueing.variable_ids import VariableIds
from neptune_async._engine.queueing.variables import Entry
from neptune_async._engine.queueing.writes import Writes
from neptune_async._messenger import messenger
from neptune_async._model.operations import (
    Batch,
    CreateVariable,
    Operation,
    Part,
    Variable,
)
from neptune_async._storage.base import ExperimentRecord
from neptune_async.exceptions import NeptuneAsyncError, RejectedOperationsError, Rejection

T = TypeVar('T')
OnError: TypeAlias = Callable[[NeptuneAsyncError], object]
_MOST_TOLD = 10_000
"""How many paths are remembered for which a rejection was reported."""


class ExperimentState:
    """What the process knows of an experiment; guarded by the queue's lock.

    :ivar writes: where its calls become operations.
    :ivar epoch: how often variables had been deleted when last seen.
    :ivar flush_interval: seconds after which what waits is written.
    :ivar users: how many ``Experiment`` objects have it open.
    :ivar writers: how many of them may write to it.
    :ivar is_synced: whether every commit is to be forced to disk.
    :ivar is_loaded: whether the variables that storage had are known.
    :ivar on_error: what to have called when storage fails.
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
        self.users = self.writers = 0
        self.is_loaded = False
        self.is_synced = False
        self.retries = 0
        self.last_error: Exception | None = None
        self.broken_forks: dict[str, tuple[tuple[float | None, int], bytes]] = {}
        self.on_error: list[OnError] = []
        self.rejections: list[Rejection] = []
        self.writes = Writes(record.name, queue, ids)
        self._has_warned = False
        self._told: set[str] = set()
        self._brings_variables = False

    @property
    def is_closed(self) -> bool:
        """Whether every further call is refused."""
        return self.writes.is_closed

    def refuse(self, error: NeptuneAsyncError) -> None:
        """Count a write that a check refused, instead of raising; warn of the first."""
        self.queue.count_refused()
        if not self._has_warned:
            self._has_warned = True
            messenger.warning(
                'experiment %r: a write was refused, and with strict=False only counted as '
                'rejected: %s',
                self.name, error,
            )  # fmt: skip
        self.last_error = error

    def require_open(self) -> None:
        """:raises ExperimentClosedError: when it was closed."""
        self.writes.require_open()

    # ── Variables ────────────────────────────────────────────────────────────

    def entry(self, path: str) -> Entry:
        """Return the entry of a path, for a view to keep; ``NO_ENTRY`` if there is none."""
        with self.queue.lock:
            return self.writes.variables.named(path)

    def load(self, variables: Iterable[Variable]) -> None:
        """Take note of the variables that storage has."""
        with self.queue.lock:
            self.writes.variables.load(variables)
            self.is_loaded = True

    def number_steps(self, next_steps: dict[str, float]) -> None:
        """Count from now on which automatic step comes next in each series, for echo.

        :param next_steps: by path, of every series that has points.
        """
        with self.queue.lock:
            self.writes.next_steps = next_steps
            self.writes.variables.withhold_keys()

    @property
    def numbers_steps(self) -> bool:
        """Whether ``number_steps`` was called."""
        return self.writes.next_steps is not None

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
            entry = self.writes.variables.find(path) if path else None
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
            if self._is_news(rejections):
                self.tell(error)
                messenger.warning('experiment %r: %s', self.name, error)

    def _is_news(self, rejections: Iterable[Rejection]) -> bool:
        """Whether one of them is of a path that was not reported before. An ``on_error``, or a
        handler of logging, that writes to such a path would otherwise be called for ever.
        """
        news = {r.reason if r.path == '*' else r.path for r in rejections} - self._told
        if len(self._told) > _MOST_TOLD:
            return False
        self._told |= news
        return bool(news)

    def tell(self, error: NeptuneAsyncError) -> None:
        """Let every ``on_error`` be called, on a thread that nobody waits for."""
        for on_error in [*self.on_error]:
            messenger.call(self._call, on_error, error)

    def _call(self, on_error: OnError, error: NeptuneAsyncError) -> None:
        try:
            on_error(error)
        except Exception as failure:
            messenger.error('on_error of experiment %r failed', self.name, why=failure)

    def close(self) -> None:
        """Refuse all further calls; what was queued before is stored as ever."""
        with self.queue.lock:
            self.writes.is_closed = True
            self.writes.variables.withhold_keys()

    def rename(self, name: str) -> None:
        """Take over the name that storage has for the experiment now."""
        with self.queue.lock:
            self.name = name
            self.queue.rename(name)
            self.writes.rename(name)

    def adopt(self, record: ExperimentRecord) -> None:
        """Take over id and epoch that the experiment has after a write; warn if the write made the
        experiment anew."""
        if record.id != self.id:
            messenger.warning(
                'experiment %r was deleted by another process; it goes on anew, with what is '
                'logged from now on',
                self.name,
            )
        self.id, self.epoch = record.id, record.epoch

    def bring_variables(self, part: Part) -> None:
        """Let a part create all variables that it names, whether storage has them or not."""
        self._create_named(part)
        part.epoch = None
        # What others deleted may be named again, by calls that came before this was found out.
        self.bring_all_variables()

    def bring_all_variables(self) -> None:
        """Let every part from now on create all variables that it names."""
        self._brings_variables = True

    def _create_named(self, part: Part) -> None:
        """Let a part first create the variables that it names and does not create yet."""
        with self.queue.lock:
            named = part.variable_ids() - part.created_ids()
            creations: list[Operation] = [
                CreateVariable(entry.variable()) for entry in self.writes.variables.with_ids(named)
            ]
            part.operations = creations + part.operations

    def yield_to(self, old_id: int, stored: Variable) -> None:
        """Take over a variable that another process made at the same path."""
        with self.queue.lock:
            entry = self.writes.variables.named(stored.path)
            if entry.id == old_id:
                # Points that were logged since name it by the id that it never got.
                self.queue.put_in_journal(CreateVariable(entry.variable()))
                entry.forget_id()
                entry.container, entry.content = stored.container, stored.content
                self.writes.variables.announce(entry, stored.id)

    def begin_in_child(self, ids: VariableIds) -> None:
        """In a forked child: forget what the parent has to store, keep what is known.

        Every variable is told to storage again before it is next written to,
        since the parent may not have done so yet.
        """
        self.queue.reset()
        self.retries, self.last_error = 0, None
        self.rejections = []
        self._told = set()
        self.broken_forks = {}
        self.writes.ids = ids
        self.writes.variables.forget_all_ids()

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
