"""Runs of points, some of which may be damaged."""

from __future__ import annotations

from array import array

from neptune_async._storage.base import Damaged
from neptune_async._storage.points import Points, Stride
from neptune_async._storage.runs import summary_of
from neptune_async._storage.summaries import NO_POINTS


def run(*values: float) -> Points:
    count = len(values)
    return Points(Stride(0.0, 1.0, count), array('d', range(count)), array('d', values))


def test_the_summary_of_runs_is_that_of_all_their_points() -> None:
    whole = summary_of([run(1.0, 2.0, 5.0, 4.0)])
    parts = summary_of([run(1.0, 2.0), run(5.0), run(4.0)])
    assert not isinstance(whole, Damaged) and not isinstance(parts, Damaged)
    assert (parts.first, parts.whole[:8]) == (whole.first, whole.whole[:8]) == (
        1.0, (4, 0, 0, 0, 1.0, 5.0, 4.0, 3.0)
    )  # fmt: skip
    assert summary_of([]) == NO_POINTS


def test_runs_go_on_from_what_is_known_before_them() -> None:
    before = summary_of([run(-1.0)])
    assert not isinstance(before, Damaged)
    both = summary_of([run(3.0)], before)
    assert not isinstance(both, Damaged)
    assert (both.first, both.whole.points) == (-1.0, 2)
    assert (both.whole.least, both.whole.last) == (-1.0, 3.0)


def test_the_summary_of_damaged_runs_is_the_first_that_is_damaged() -> None:
    first, second = Damaged(1, 'first'), Damaged(2, 'second')
    assert summary_of([run(1.0), first, run(2.0), second]) is first
