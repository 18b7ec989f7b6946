"""Samples: few points of a long series that look the same when they are drawn, found by summaries.

They are the points that ``_model.sampling`` chooses among all that are wanted. The summaries of
chunks and blocks tell where the least and the greatest of many points are, so that no other chunk
is unpacked: a sample costs what it returns, not what is stored.
"""

from __future__ import annotations

import math
import operator
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Literal, NamedTuple

from neptune_async._model.sampling import FEWEST_WITH_EXTREMES, extremes, groups, spread
from neptune_async._storage.base import Span
from neptune_async._storage.points import Points, Stride, expanded
from neptune_async._storage.summaries import Summary, unpacked_blocks, unpacked_chunk_row

_SHORT = 2**17
"""Points up to which to read all of them takes no longer."""
_MOST_CUT = 4
"""Chunks that the bounds of a span may cut: one at each of them, where steps and times ascend."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which points of a series are wanted.

    :ivar span: where they lie.
    :ivar most: how many, at most.
    :ivar distinct: whether of points with the same step only one is wanted.
    """

    span: Span
    most: int
    distinct: bool


class Ranges(NamedTuple):
    """Bounds of the steps and the timestamps of some points."""

    least_step: float
    greatest_step: float
    least_time: float
    greatest_time: float


@dataclass(slots=True)
class Piece:
    """Points that are stored together: a chunk, or what is in no chunk.

    :ivar first: how many points of the series come before.
    :ivar ranges: None if they are not known.
    :ivar steps: None if they are not regular, or not known.
    :ivar summary: as it is stored; None if there is none.
    :ivar start, stop: between which positions of the series its points are that are wanted.
    """

    first: int
    count: int
    ranges: Ranges | None = None
    steps: Stride | None = None
    summary: bytes | None = None
    start: int = 0
    stop: int = 0

    @property
    def end(self) -> int:
        """How many points of the series come before the one behind it."""
        return self.first + self.count

    @property
    def counts_up(self) -> bool:
        """Whether it is known that each step is beyond the one before."""
        return self.count == 1 or (self.steps is not None and self.steps.stride > 0)


class _Part(NamedTuple):
    """Points of which one summary is, or none.

    :ivar low, high: bounds of the values; NaN if there is no number among them.
    :ivar is_exact: whether values that are equal to the bounds are among them.
    :ivar piece: if it is all of one.
    """

    start: int
    stop: int
    low: float
    high: float
    is_exact: bool
    piece: Piece | None = None


class _Row(NamedTuple):
    step: float
    time: float
    value: Any


class SampleMaker:
    """Makes the sample of one series, in four steps: it is told of all pieces; ``doubtful`` says
    which of them to ``look`` at, to know which points are wanted; ``settle`` says of which to
    ``take`` points; ``sample`` returns those that are kept.
    """

    def __init__(self, sampling: Sampling, has_floats: bool) -> None:
        self._sampling = sampling
        self._has_floats = has_floats
        self._is_possible = True
        self._pieces: dict[int, Piece] = {}
        self._in_memory: dict[int, Points] = {}
        # What is needed of a piece: of which group, and between which positions of the series.
        self._needed: dict[int, list[tuple[int | None, int, int]]] = {}
        # Rows by group and position. Of a group the extremes are kept; without one, all.
        self._rows: dict[int | None, dict[int, _Row]] = {None: {}}
        self._wanted: list[Piece] = []
        self._starts: list[int] = []
        self._blocks: tuple[Piece | None, Sequence[_Part]] = None, ()

    def give_up(self) -> None:
        """Make no sample: something is damaged, or summaries do not tell what is kept."""
        self._is_possible = False

    def add(self, piece: Piece) -> None:
        """Add a chunk; each comes after those that it follows."""
        if self._pieces and piece.first != next(reversed(self._pieces.values())).end:
            self.give_up()
        self._pieces[piece.first] = piece

    def add_points(self, first: int, points: Points) -> None:
        """Add points that are in no chunk."""
        self.add(Piece(first, len(points)))
        self._in_memory[first] = points

    def sample(self) -> Points | None:
        """Return the points that are kept; None if it was given up."""
        if not self._is_possible:
            return None
        kept = self._rows.pop(None)
        for rows in self._rows.values():
            positions = sorted(rows)
            values = [rows[position].value for position in positions]
            for i in extremes(values, 0, len(values)):
                kept[positions[i]] = rows[positions[i]]
        steps, times, found = zip(*(kept[position] for position in sorted(kept)), strict=True)
        return Points(
            array('d', steps),
            array('d', times),
            array('d', found) if self._has_floats else [*found],
        )

    def _fetched(
        self, needed: Sequence[int], use: Callable[[int, Points], None]
    ) -> Collection[int]:
        """Use what is in memory; return what else is needed."""
        for first in needed:
            if first in self._in_memory:
                use(first, self._in_memory[first])
        if not self._is_possible:
            return ()
        return [first for first in needed if first not in self._in_memory]

    # ── Which points are wanted ──────────────────────────────────────────────

    def doubtful(self) -> Collection[int]:
        """Return the pieces to look at: of each how many points come before it."""
        span, is_distinct = self._sampling.span, self._sampling.distinct
        looked_at, cut = [], 0
        for piece in self._pieces.values():
            if piece.ranges is None:
                looked_at.append(piece.first)
            elif _holds(span, piece.ranges):
                piece.start, piece.stop = piece.first, piece.end
                if is_distinct and not piece.counts_up:
                    looked_at.append(piece.first)
            elif span.touches(*piece.ranges):
                looked_at.append(piece.first)
                cut += 1
        count = sum(piece.count for piece in self._pieces.values())
        if count <= _SHORT or cut > _MOST_CUT or not self._are_in_order():
            self.give_up()
            return ()
        return self._fetched(looked_at, self.look)

    def look(self, first: int, points: Points) -> None:
        """Look at the steps and timestamps of a piece."""
        piece, span = self._pieces[first], self._sampling.span
        if len(points) != piece.count:
            self.give_up()
            return
        steps, times = expanded(points.steps), points.times
        piece.ranges = Ranges(min(steps), max(steps), min(times), max(times))
        start, stop = 0, piece.count
        if not _holds(span, piece.ranges):
            columns = zip(steps, times, strict=True)
            kept = [i for i, (x, t) in enumerate(columns) if span.touches(x, x, t, t)]
            start, stop = (kept[0], kept[-1] + 1) if kept else (0, 0)
            if stop - start != len(kept):
                self.give_up()  # what is wanted is not one run of points
        if self._sampling.distinct and not _counts_up(steps[start:stop]):
            self.give_up()
        piece.start, piece.stop = first + start, first + stop

    def _are_in_order(self) -> bool:
        """Whether, as far as known, no step is in two pieces of which only one point of each step
        is wanted.
        """
        known = [piece.ranges for piece in self._pieces.values() if piece.ranges is not None]
        return not self._sampling.distinct or all(
            one.greatest_step < after.least_step for one, after in pairwise(known)
        )

    # ── Which of them are kept ───────────────────────────────────────────────

    def settle(self) -> Collection[int]:
        """Return the pieces whose points are needed: of each how many points come before it."""
        wanted = [piece for piece in self._pieces.values() if piece.start < piece.stop]
        is_one_run = all(one.stop == after.start for one, after in pairwise(wanted))
        count = sum(piece.stop - piece.start for piece in wanted)
        if not is_one_run or not self._are_in_order() or count <= self._sampling.most:
            self.give_up()
        if not self._is_possible:
            return ()
        self._wanted, self._starts = wanted, [piece.start for piece in wanted]
        self._choose(wanted[0].start, count)
        return self._fetched([*self._needed], self.take)

    def take(self, first: int, points: Points) -> None:
        """Take the points that are needed of a piece."""
        if len(points) != self._pieces[first].count:
            self.give_up()
            return
        for group, start, stop in self._needed[first]:
            places = [start - first]
            if group is not None:
                places = extremes(points.values, start - first, stop - first)
            rows = self._rows.setdefault(group, {})
            for i in places:
                step = expanded(points.steps[i : i + 1])[0]
                rows[first + i] = _Row(step, points.times[i], points.values[i])

    def _choose(self, start: int, count: int) -> None:
        most = self._sampling.most
        has_groups = self._has_floats and most >= FEWEST_WITH_EXTREMES
        ends = [0, count - 1][-most:]
        for position in ends if self._has_floats else spread(count, most):
            self._need(None, start + position, start + position + 1)
        for number, (low, high) in enumerate(groups(count, most) if has_groups else ()):
            self._choose_of_group(number, start + low, start + high)

    def _choose_of_group(self, group: int, start: int, stop: int) -> None:
        parts = [*self._parts(start, stop)]
        exact = [part for part in parts if part.is_exact and part.low == part.low]
        if not exact:
            # Where there is nothing but NaN, the first is kept.
            self._need(group, start, start + 1)
        low = min((part.low for part in exact), default=math.inf)
        high = max((part.high for part in exact), default=-math.inf)
        for part in parts:
            # Ones that are only partly in the group may have the extreme, or not.
            if not part.is_exact and (part.low <= low or part.high >= high):
                self._need(group, part.start, part.stop)
        if exact:
            self._need_first_of(group, exact, 'low', low)
            self._need_first_of(group, exact, 'high', high)

    def _need_first_of(
        self, group: int, exact: Sequence[_Part], bound: Literal['low', 'high'], value: float
    ) -> None:
        """Note that the first part with a bound is needed: of a piece, the first block."""
        part = next(part for part in exact if getattr(part, bound) == value)
        if part.piece is not None:
            blocks = self._blocks_of(part.piece)
            part = next((block for block in blocks if getattr(block, bound) == value), part)
        self._need(group, part.start, part.stop)

    def _need(self, group: int | None, start: int, stop: int) -> None:
        piece = self._wanted[bisect_right(self._starts, start) - 1]
        self._needed.setdefault(piece.first, []).append((group, start, stop))

    def _parts(self, start: int, stop: int) -> Iterator[_Part]:
        """Yield what is known of the points between two positions: of pieces, or of blocks."""
        first = bisect_right(self._starts, start) - 1
        for piece in islice(self._wanted, first, None):
            if piece.start >= stop:
                return
            low, high = max(start, piece.start), min(stop, piece.stop)
            if (low, high) == (piece.first, piece.end) and piece.summary is not None:
                try:
                    summary = unpacked_chunk_row(piece.summary)
                except ValueError:
                    piece.summary = None
                else:
                    yield _part(low, summary, piece)
                    continue
            for block in self._blocks_of(piece):
                if block.start < high and block.stop > low:
                    is_exact = block.is_exact and low <= block.start and block.stop <= high
                    yield block._replace(
                        start=max(low, block.start), stop=min(high, block.stop), is_exact=is_exact
                    )

    def _blocks_of(self, piece: Piece) -> Sequence[_Part]:
        """Return the blocks of a piece; one of which nothing is known if it has no summary."""
        # Groups follow each other, so that the same piece is asked for again and again.
        if self._blocks[0] is not piece:
            self._blocks = piece, _blocks(piece)
        return self._blocks[1]


def _blocks(piece: Piece) -> Sequence[_Part]:
    parts: list[_Part] = []
    if piece.summary is not None:
        with suppress(ValueError):  # the points tell, then
            start = piece.first
            for summary in unpacked_blocks(piece.summary):
                parts.append(_part(start, summary))
                start += summary.points
            if start == piece.end:
                return parts
    return [_Part(piece.first, piece.end, -math.inf, math.inf, False)]


def _part(start: int, summary: Summary, piece: Piece | None = None) -> _Part:
    low, high = summary.least, summary.greatest
    if summary.nan == summary.points:
        low = high = math.nan
    if summary.negative_infinite:
        low, high = -math.inf, max(high, -math.inf)
    if summary.positive_infinite:
        low, high = min(low, math.inf), math.inf
    return _Part(start, start + summary.points, low, high, True, piece)


def _holds(span: Span, ranges: Ranges) -> bool:
    """Whether all points with these bounds are in a span."""
    least_step, greatest_step, least_time, greatest_time = ranges
    return span.touches(least_step, least_step, least_time, least_time) and span.touches(
        greatest_step, greatest_step, greatest_time, greatest_time
    )


def _counts_up(steps: array[float]) -> bool:
    return all(map(operator.lt, steps, islice(steps, 1, None)))
