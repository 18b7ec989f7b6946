"""What the engine asks of a store, and what it gets back.

A store is driven from one event loop. Calls of several tasks may overlap; each
is atomic. It raises ``StorageError`` for its own faults, ``StorageBusyError`` where
trying again is all that is needed, and the two signals below, after which
nothing of the batch is stored and the engine sends it again, put right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from neptune_async._model.operations import Batch, Variable
from neptune_async._model.values import SeriesValue
from neptune_async._storage.chunks import Points
from neptune_async.exceptions import Rejection

Need: TypeAlias = Literal['overdue', 'due', 'everything']
"""What to tidy up: what cannot wait until nothing is logged, what had better be done then, or all
there is, since the process ends.
"""

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
    :ivar variables: how many it has.
    """

    id: int
    name: str
    created: float
    variables: int


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
class Window:
    """Which points of a series to read.

    :ivar first: how many points from the beginning to leave out.
    :ivar last: how many points from the end to read at most; None is all.
    """

    first: int = 0
    last: int | None = None

    def start(self, count: int) -> int:
        """Return how many of a series' points come before the window."""
        return self.first if self.last is None else max(self.first, count - self.last)


@dataclass(frozen=True, slots=True)
class SeriesReading:
    """What was read of a path.

    :ivar variable: what is there; of another container than a series it has no points.
    :ivar first: how many points of the series come before those that were read.
    :ivar pieces: the points, in order; there may be more than were asked for.
    """

    variable: Variable
    first: int = 0
    pieces: Sequence[Points] = ()

    @property
    def end(self) -> int:
        """How many points the series has."""
        return self.first + sum(map(len, self.pieces))


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
    :ivar series: the last point; a series without points is not in it.
    """

    atoms: dict[int, bytes] = field(default_factory=dict)
    sets: dict[int, list[bytes]] = field(default_factory=dict)
    series: dict[int, LastPoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found when a store was examined.

    :ivar level: ``good``; ``note``, to be known; ``wrong``, to be put right.
    :ivar what: for people to read.
    :ivar remedy: what to do; empty if that is nothing.
    """

    level: Literal['good', 'note', 'wrong']
    what: str
    remedy: str = ''


def rejections(rows: Iterable[Sequence[Any]]) -> Iterator[Finding]:
    """Return what there is to say of operations that were rejected.

    :param rows: the last of them: experiment, path, count, reason, how many such rows there are.
    """
    remedy = 'log to another path; the table `rejected` keeps what happened'
    others = 0
    for shown, (experiment, path, count, reason, faults) in enumerate(rows, 1):
        others = faults - shown
        yield Finding(
            'note',
            f'{count:,} operations on {path} of {experiment} were rejected: {reason}',
            remedy,
        )
    if others:
        yield Finding('note', f'{others:,} more such rejections', remedy)


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
        """

    async def sync(self) -> None:
        """Force all that is committed to the disk, where a power failure does not reach it."""

    async def last_batch(self, writer: bytes) -> int:
        """Return the number of the last batch that is stored of a writer; 0 if there is none."""

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
        times that are not asked for may be left out.
        """

    # ── Many at a time ───────────────────────────────────────────────────────
    # Each of these takes a handful of statements, however many experiments and variables there are.

    async def find_experiments(
        self, names: Collection[str] | None = None
    ) -> list[ExperimentSummary]:
        """Return the experiments of these names, or all, in the order in which they were made."""

    async def last_points(self, experiment_ids: Collection[int]) -> dict[int, float]:
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

    async def read_many_series(
        self, variables: VariablesByExperiment, window: Window, steps: bool, times: bool
    ) -> dict[int, SeriesReading]:
        """Return the points of several series by the variable's id, as ``read_series`` does one.

        Variables of other containers are left out. A series that is gone has no points.
        All of them are in memory at a time: ask for as many as fit.
        """


@runtime_checkable
class Examinable(Protocol):
    """A store that can tell whether it is whole."""

    async def examine(self) -> list[Finding]:
        """Return what there is to say; read everything, change nothing."""
