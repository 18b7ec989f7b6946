"""What is found when a store is examined, of whatever kind it is."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from neptune_async._storage.findings import Finding
from neptune_async._storage.points import Points, never_decreases
from neptune_async._storage.summaries import SeriesSummary, agree, summarised, unpacked_summary

SHOWN = 5
"""Faults of one kind of which each is shown; the others are counted."""
_RESTORE = 'restore the store, and what is beside it, from a copy; what is whole can be read'


def faults_told(faults: Sequence[str], remedy: str) -> Iterator[Finding]:
    """Yield what there is to say of faults of one kind."""
    for fault in faults[:SHOWN]:
        yield Finding('wrong', fault, remedy)
    if len(faults) > SHOWN:
        yield Finding('wrong', f'{len(faults) - SHOWN:,} more such faults', remedy)


def checked_against_points(
    points: Points, stored: bytes, ranges: Sequence[float], before: SeriesSummary
) -> SeriesSummary:
    """Return the summary of a series up to the end of some points of it.

    :param stored: the summary that is kept of the points.
    :param ranges: their least and greatest step, least and greatest time, as they are kept.
    :param before: the summary of the series up to the first of them.
    :raises ValueError: what is kept is not what the points say.
    """
    expected = summarised(points, before, never_decreases(points.times))
    own = expected.chunk
    ends = (own.least_step, own.greatest_step, own.least_time, own.greatest_time)
    try:
        is_right = agree(unpacked_summary(stored), expected)
    except ValueError:
        is_right = False
    if not is_right or ends != tuple(ranges):
        raise ValueError('its summary is not that of its points')
    return expected.series


class Contents:
    """What was found of the contents of files, which are read one after the other.

    :param names: how files are called that something refers to, by SHA-256.
    :param kept: which contents the store says that it has.
    """

    def __init__(self, names: Mapping[str, str], kept: Container[str]) -> None:
        self._names = names
        self._missing = [sha256 for sha256 in sorted(names) if sha256 not in kept]
        self._faults: list[str] = []
        self._whole: list[int] = []
        self._current: tuple[str, int] | None = None
        self._digest, self._read = hashlib.sha256(), 0

    def take(self, sha256: str, size: int, piece: bytes) -> None:
        """Look at the next piece of a content. One that has none is looked at with an empty one.

        :param size: how many bytes the content is to have.
        """
        if self._current != (sha256, size):
            self._end()
            self._current = sha256, size
            self._digest, self._read = hashlib.sha256(), 0
        self._digest.update(piece)
        self._read += len(piece)

    def fail(self, sha256: str, why: object) -> None:
        """Take note of a content that cannot be read on."""
        self._current = None
        self._faults.append(f'{self._called(sha256)} cannot be read: {why}')

    def findings(self) -> Iterator[Finding]:
        """Yield what there is to say of all."""
        self._end()
        missing = [f'{self._called(sha256)} is not there' for sha256 in self._missing]
        yield from faults_told(self._faults + missing, _RESTORE)
        count, size = len(self._whole), sum(self._whole)
        if count or not (self._faults or missing):
            yield Finding('good', f'{count:,} contents of files ({size:,} bytes) are whole')

    def _end(self) -> None:
        if self._current is None:
            return
        sha256, size = self._current
        if self._read != size:
            self._faults.append(f'{self._called(sha256)} has {self._read:,} of {size:,} bytes')
        elif self._digest.hexdigest() != sha256:
            self._faults.append(f'{self._called(sha256)} is another than was stored')
        else:
            self._whole.append(size)
        self._current = None

    def _called(self, sha256: str) -> str:
        name = self._names.get(sha256)
        called = 'a content that nothing refers to' if name is None else f'the file {name!r}'
        return f'{called} (SHA-256 {sha256})'


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
