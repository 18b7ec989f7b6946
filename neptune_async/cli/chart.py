"""Curves drawn with characters: as fine as Braille has it for one, a letter each for several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STYLES = ('cyan', 'yellow', 'magenta', 'green', 'red', 'blue')
LETTERS = 'abcdefghijklmnopqrstuvwxyz'
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a Braille character's dots, by row and column."""
_AXIS = 10
"""Characters for the numbers at the left."""


@dataclass(frozen=True, slots=True)
class Line:
    """A curve; what is not finite is a gap."""

    label: str
    steps: Sequence[float]
    values: Sequence[float]

    def points(self) -> Iterable[tuple[float, float]]:
        """Return the points that can be drawn."""
        for step, value in zip(self.steps, self.values, strict=True):
            if math.isfinite(value):
                yield step, value


@dataclass(frozen=True, slots=True)
class Cell:
    """A character of a chart, and the curve that it is of; None is the background."""

    character: str = ' '
    line: int | None = None


def drawn(lines: Sequence[Line], width: int, height: int) -> list[list[Cell]] | None:
    """Return the rows of a chart with its axes; None if there is no point to draw.

    :param width: characters of a row; a row is longer where that has no room for a curve.
    """
    points = [point for line in lines for point in line.points()]
    if not points:
        return None
    steps, values = zip(*points, strict=True)
    across, down = _Scale(min(steps), max(steps)), _Scale(max(values), min(values))
    columns = max(1, width - _AXIS - 1)
    plot = _plotted(lines, across, down, columns, height)
    rows = []
    for number, row in enumerate(plot):
        is_end = number in (0, height - 1)
        label = f'{down.at(number / max(1, height - 1)):.4g}' if is_end else ''
        rows.append([*map(Cell, f'{label:>{_AXIS}}│'), *row])
    rows.append([*map(Cell, ' ' * _AXIS + '└' + '─' * columns)])
    low, high = f'{across.low:.6g}', f'{across.high:.6g}'
    rows.append([*map(Cell, ' ' * (_AXIS + 1) + low + f'{high:>{max(0, columns - len(low))}}')])
    return rows


@dataclass(frozen=True, slots=True)
class _Scale:
    """An axis from one value to another.

    Halves are what is reckoned with, so that the difference of two large numbers stays finite.
    """

    low: float
    high: float

    def place(self, value: float, cells: int) -> int:
        """Return in which of so many cells a value is."""
        span = self.high / 2 - self.low / 2
        return round((value / 2 - self.low / 2) / span * (cells - 1)) if span else (cells - 1) // 2

    def at(self, share: float) -> float:
        """Return the value at a share of the axis."""
        return self.low * (1 - share) + self.high * share


def _plotted(
    lines: Sequence[Line], across: _Scale, down: _Scale, width: int, height: int
) -> list[list[Cell]]:
    if len(lines) == 1:
        return _in_braille(lines[0], across, down, width, height)
    rows = [[Cell()] * width for _ in range(height)]
    for number, line in enumerate(lines):
        letter = LETTERS[number % len(LETTERS)]
        for step, value in line.points():
            rows[down.place(value, height)][across.place(step, width)] = Cell(letter, number)
    return rows


def _in_braille(
    line: Line, across: _Scale, down: _Scale, width: int, height: int
) -> list[list[Cell]]:
    dots = [[0] * width for _ in range(height)]
    for step, value in line.points():
        column, row = across.place(step, 2 * width), down.place(value, 4 * height)
        dots[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    return [[Cell(chr(_BRAILLE + bits), 0) if bits else Cell() for bits in row] for row in dots]
