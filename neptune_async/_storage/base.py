"""What the engine asks of a store, and what it gets back.

A store is driven from one event loop. Calls of several tasks may overlap; each
is atomic. It raises ``StorageError`` for its own faults, ``StorageBusyError`` where
trying again is all that is needed, and the two signals below, after which
nothing of the batch is stored and the engine sends it again, put right.
"""

from __future__ import annotations

import math
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from neptune_async._model.operations import Batch, Variable
from neptune_async._model.values import SeriesValue
from neptune_async._storage.findings import Finding
from neptune_async._storage.grid import Grid
from neptune_async._storage.overviews import Overview
from neptune_async._storage.points import Points, Sink
from neptune_async._storage.sessions import FoundSession, Session
from neptune_async._storage.summaries import SeriesSummary
from neptune_async.exceptions import Rejection, StorageFormatError

Need: TypeAlias = Literal['overdue', 'due', 'everything']
"""What to tidy up: what cannot wait, what is better done while nothing is logged, or all."""

Changed: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when others may have committed something, or it is time to look anyway."""


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """An experiment as storage knows it.

    :ivar epoch: how often variables have been deleted from it.
    """

    id: int
    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class ExperimentSummary:
    """An experiment as a list of many shows it.

    :ivar created: seconds since the epoch.
    """

    id: int
    name: str
    created: float


VariablesByExperiment: TypeAlias = Mapping[int, Sequence[Variable]]
"""Variables of several experiments, by the experiment's id."""


@dataclass(slots=True)
class Receipt:
    """What a committed batch came to.

    :ivar experiments: the experiments of its parts, by the id that each part
        had named; a part whose experiment was gone has made it anew.
    :ivar rejections: operations that storage could not take.
    """

    experiments: dict[int, ExperimentRecord] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the steps and of the timestamps; all four bounds are included."""

    first_step: float = -math.inf
    last_step: float = math.inf
    first_time: float = -math.inf
    last_time: float = math.inf

    def touches(
        self, least_step: float, greatest_step: float, least_time: float, greatest_time: float
    ) -> bool:
        """Whether points with these bounds may be in it."""
        return (
            least_step <= self.last_step
            and greatest_step >= self.first_step
            and least_time <= self.last_time
            and greatest_time >= self.first_time
        )


EVERYWHERE = Span()


@dataclass(frozen=True, slots=True)
class Window:
    """Which points of a series to read.

    :ivar first: how many points from the beginning to leave out.
    :ivar last: how many points from the end to read at most; None is all.
    :ivar span: where the points lie that are wanted.
    """

    first: int = 0
    last: int | None = None
    span: Span = EVERYWHERE

    def everywhere(self) -> Window:
        """Return the same window without its span."""
        return Window(self.first, self.last)

    def start(self, count: int) -> int:
        """Return how many of a series' points come before the window."""
        return self.first if self.last is None else max(self.first, count - self.last)


@dataclass(frozen=True, slots=True)
class Damaged:
    """Points that a series has and that cannot be read, in the place of them.

    :ivar count: how many; None where that cannot be told.
    :ivar why: what is damaged.
    """

    count: int | None
    why: str

    def __len__(self) -> int:
        return self.count or 0


@dataclass(frozen=True, slots=True)
class SeriesReading:
    """What was read of a path.

    :ivar variable: what is there; of another container than a series it has no points.
    :ivar first: how many points of the series come before those that were read.
    :ivar runs: the points, in order, and what is damaged in the place of those that cannot be
        read; there may be more than were asked for. Of points that lie outside the span that was
        asked for any may be missing.
    """

    variable: Variable
    first: int = 0
    runs: Sequence[Points | Damaged] = ()

    @property
    def end(self) -> int:
        """How many points the series has, as far as that can be told."""
        return self.first + sum(map(len, self.runs))

    @property
    def is_damaged(self) -> bool:
        """Whether some of the points cannot be read."""
        return any(isinstance(run, Damaged) for run in self.runs)

    @property
    def pieces(self) -> list[Points]:
        """The points, in order.

        :raises StorageFormatError: some cannot be read.
        """
        pieces = []
        for run in self.runs:
            if isinstance(run, Damaged):
                raise StorageFormatError(run.why)
            pieces.append(run)
        return pieces


@dataclass(frozen=True, slots=True)
class LastPoint:
    """The point of a series that was logged last.

    :ivar count: how many points the series has.
    """

    count: int
    step: float
    timestamp: float
    value: SeriesValue


@dataclass(slots=True)
class Latest:
    """What variables hold now, each by its id; a variable that is gone is in none of these.

    :ivar atoms: the encoded value.
    :ivar sets: the encoded members; a set without members is not in it.
    :ivar series: the last point, or damage; a series without points is not in it.
    :ivar damaged: atoms and sets that cannot be read.
    """

    atoms: dict[int, bytes] = field(default_factory=dict)
    sets: dict[int, list[bytes]] = field(default_factory=dict)
    series: dict[int, LastPoint | Damaged] = field(default_factory=dict)
    damaged: dict[int, Damaged] = field(default_factory=dict)


class VariableConflict(Exception):
    """Other processes made variables at paths that the batch makes variables at.

    :ivar found: the variable that is there, by experiment and the batch's id.
    """

    def __init__(self, found: Mapping[tuple[int, int], Variable]) -> None:
        super().__init__(found)
        self.found = found


class StaleEpoch(Exception):
    """Variables that the batch may name were deleted since its sender last looked."""

    def __init__(self, experiment_id: int) -> None:
        super().__init__(experiment_id)
        self.experiment_id = experiment_id


class MissingFiles(Exception):
    """The batch refers to files that are not kept.

    :ivar missing: their SHA-256, in hexadecimal digits.
    """

    def __init__(self, missing: Collection[str]) -> None:
        super().__init__(missing)
        self.missing = missing


class Storage(Protocol):
    """A store of experiments."""

    @property
    def location(self) -> str:
        """Where it is, for people to read: no password."""

    @property
    def spill_folder(self) -> Path | None:
        """Where to keep what could not be stored; None if that is of no use."""

    async def open(self, *, writable: bool) -> None:
        """Connect; make what is missing if ``writable``, change nothing if not."""

    async def close(self) -> None:
        """Let go of everything; what was committed stays."""

    async def create_experiment(
        self, name: str | None, created: float | None = None
    ) -> ExperimentRecord | None:
        """Make an experiment; None is the next free ``EXP-1``, ``EXP-2``, ...

        :param created: when it was made, where it comes from another place; None is now.
        :returns: None if the name is taken.
        """

    async def find_experiment(self, name: str) -> ExperimentRecord | None:
        """Return the experiment of that name."""

    async def list_experiments(self) -> list[str]:
        """Return all names, in the order in which they were made."""

    async def delete_experiment(self, name: str) -> bool:
        """Delete an experiment with all that it holds; False if there is none."""

    async def rename_experiment(self, experiment_id: int, name: str) -> bool:
        """Give an experiment another name; one that is not there needs none.

        :returns: False if another one has that name.
        """

    async def fork_experiment(
        self,
        experiment_id: int,
        name: str,
        step: float | None,
        draw_id: Callable[[], int],
        mark: bytes,
    ) -> ExperimentRecord | None:
        """Make an experiment with a copy of all variables of another, in one transaction: values
        and members as they are, points with the steps and timestamps that they read back with.

        :param step: beyond which the copy has no points; None is all.
        :param draw_id: returns ids for the variables of the copy.
        :param mark: 16 bytes that tell this fork from others, so that an attempt whose end is not
            known can be made again: what it has made is returned then, as it is.
        :returns: None if the name is taken.
        """

    async def list_variables(self, experiment_id: int, namespace: str | None) -> list[Variable]:
        """Return the variables below a namespace, or all, by path."""

    async def find_variable(self, experiment_id: int, path: str) -> Variable | None:
        """Return the variable at a path."""

    async def write(self, batch: Batch, *, careful: bool = False, synced: bool = False) -> Receipt:
        """Apply a batch in one transaction, or not at all; twice is once. Of a part first the
        operations, in their order, then the points.

        A ``Rewind`` drops points with a step beyond its own, of all processes, once
        automatic steps have got their numbers; what is left keeps its steps and timestamps, and
        those that are automatic afterwards go on from there.

        :param careful: apply operation by operation, and reject those that fail.
        :param synced: return only once the commit, and with it all that was committed before,
            is on the disk, where a power failure does not reach it. Else it
            survives the death of the process, and the store decides when it is forced to disk.
        :raises VariableConflict: when a path has a variable of another id.
        :raises StaleEpoch: when a part's epoch is not the experiment's.
        :raises MissingFiles: when a part refers to a file that is not kept, and does not bring it.
        """

    async def sync(self) -> None:
        """Force all that is committed to the disk, where a power failure does not reach it."""

    async def last_batch(self, writer: bytes) -> int:
        """Return the number of the last batch that is stored of a writer; 0 if there is none."""

    async def version(self, experiment_ids: Collection[int]) -> Hashable:
        """Return what is another whenever somebody has committed something to these experiments."""

    def watch(self, experiment_id: int) -> AbstractAsyncContextManager[Changed]:
        """Keep a watch on what others commit to an experiment, from the first call of what it
        yields on.
        """

    async def compact(
        self, need: Need = 'due', is_urged: Callable[[], bool] = lambda: False
    ) -> bool:
        """Merge a part of the small pieces that writes have left.

        :param is_urged: whether something else has to be done first; may be called from any
            thread, and nothing is changed if it says so.
        :returns: whether there may be more of that need.
        """

    async def largest_steps(self, experiment_id: int) -> dict[str, float]:
        """Return the largest step of each series that has points, by path."""

    async def read_atom(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, bytes | None] | None:
        """Return the variable at a path, and its encoded value if it is an atom."""

    async def read_set(
        self, experiment_id: int, path: str
    ) -> tuple[Variable, Sequence[bytes]] | None:
        """Return the variable at a path, and its encoded members if it is a set."""

    async def read_series(
        self, experiment_id: int, path: str, window: Window, steps: bool, times: bool
    ) -> SeriesReading | None:
        """Return the points of a series, at least those in a window. Steps and
        times that are not asked for may be left out. What is damaged takes no other point along.
        """

    # ── Files ────────────────────────────────────────────────────────────────

    async def keep_file(
        self, sha256: str, size: int, source: bytes | Path, *, synced: bool = False
    ) -> None:
        """Keep the content of a file; one that is kept already is no fault.

        :param sha256: of the content, in hexadecimal digits.
        :param source: the content, or a file that has it, and that nobody changes.
        :param synced: return only once it is on the disk.
        """

    async def read_file(self, sha256: str, start: int, count: int) -> bytes | None:
        """Return bytes of a file from a position on, fewer at its end; None if it is not kept."""

    # ── Sessions ─────────────────────────────────────────────────────────────

    async def keep_sessions(self, sessions: Collection[Session]) -> None:
        """Note a sign of life of sessions; one that is new begins with it. What belongs to no
        experiment that is there is left out.
        """

    async def end_sessions(self, sessions: Collection[Session]) -> None:
        """Forget sessions; one that is not there is no fault."""

    async def find_sessions(self, experiment_ids: Collection[int]) -> list[FoundSession]:
        """Return the sessions of several experiments, in the order in which they began."""

    async def stream_series(self, experiment_id: int, path: str, sink: Sink) -> Variable | None:
        """Give all points of a series to a sink, a piece at a time: only one is in memory.

        :returns: the variable at the path; the sink gets nothing if it is no series of floats.
        :raises StorageFormatError: some of the points cannot be read.
        """

    # ── Many at a time ───────────────────────────────────────────────────────
    # Each of these takes a handful of statements, however many experiments and variables there are.

    async def find_experiments(
        self, names: Collection[str] | None = None
    ) -> list[ExperimentSummary]:
        """Return the experiments of these names, or all, in the order in which they were made."""

    async def count_variables(self, experiment_ids: Collection[int]) -> dict[int, int]:
        """Return how many variables each of several experiments has; one without is left out."""

    async def last_points(self, experiment_ids: Collection[int]) -> dict[int, float | Damaged]:
        """Return the greatest last timestamp of the series of each experiment; one without points
        is left out. That takes a look at each series, and at no point that is in a chunk.
        """

    async def find_paths(self, experiment_ids: Collection[int]) -> list[str]:
        """Return the paths of all variables of several experiments, each once."""

    async def find_variables(
        self, experiment_ids: Collection[int], paths: Collection[str] | None = None
    ) -> dict[int, list[Variable]]:
        """Return the variables of several experiments at these paths, or all, by path.

        :returns: by the experiment's id; one that has none of them is left out.
        """

    async def read_latest(self, variables: VariablesByExperiment) -> Latest:
        """Return what variables hold: values, members, and of a series its last point.

        Of a series that takes no more than its last points to be read.
        """

    async def read_summaries(
        self, variables: VariablesByExperiment
    ) -> dict[int, SeriesSummary | Damaged]:
        """Return what is known of all points of each of several series, by the variable's id;
        variables of other containers are left out. That takes no point that is in a chunk.
        """

    async def read_overviews(
        self, variables: VariablesByExperiment, grid: Grid
    ) -> dict[int, Overview]:
        """Return what is in the buckets of a grid, of each of several series, by the variable's id.
        Only points of chunks that the edge of a bucket cuts are read.
        """

    async def read_samples(
        self, variables: VariablesByExperiment, span: Span, most: int, distinct: bool
    ) -> dict[int, Points]:
        """Return the points that ``_model.sampling`` keeps of those in a span, of each of several
        series, by the variable's id. Only the chunks are read that may have one of them.

        :param distinct: whether of points with the same step only one is wanted.
        :returns: nothing of a series that has no more points there, or whose summaries are not
            enough: its points tell.
        """

    async def read_many_series(
        self, variables: VariablesByExperiment, window: Window, steps: bool, times: bool
    ) -> dict[int, SeriesReading]:
        """Return the points of several series by the variable's id, as ``read_series`` does one.

        Variables of other containers are left out. A series that is gone has no points.
        All of them are in memory at a time: ask for as many as fit.
        """


Rows: TypeAlias = Mapping[str, Sequence[Sequence[Any]]]
"""Rows of a store in SQLite, with all their columns, by the name of the table."""


@runtime_checkable
class Copyable(Protocol):
    """A store whose rows can be copied as they are."""

    async def copied_rows(
        self, names: Collection[str], writers: Collection[bytes], without: Collection[int] = ()
    ) -> Rows:
        """Return all rows of several experiments, and those of writers, as they are at one moment.

        An experiment or a writer that is not there is left out.

        :param without: ids of series whose chunks are left out.
        """


@runtime_checkable
class Examinable(Protocol):
    """A store that can tell whether it is whole."""

    async def examine(self) -> list[Finding]:
        """Return what there is to say; read everything, change nothing."""
