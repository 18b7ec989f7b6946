"""A histogram as a small drawing, in SVG: numbers only, whatever was counted."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 320, 150
"""Pixels."""
_LEFT, _RIGHT, _TOP, _FOOT = 8, WIDTH - 8, 22, HEIGHT - 20


def drawn(counts: Sequence[float], edges: Sequence[float], non_finite: int = 0) -> str:
    """Return bars from edge to edge, as high as their counts, with the outer edges below them."""
    note = f'{sum(counts):,.12g} values, at most {max(counts):,.12g} in a bin'
    if non_finite:
        note += f'; {non_finite:,} not finite'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" fill="currentColor" font-family="sans-serif" '
        'font-size="11">'
        f'<text x="{_LEFT}" y="12">{note}</text>'
        f'<path d="{bars(counts, edges, _LEFT, _RIGHT, _TOP, _FOOT)}" fill-opacity=".6"/>'
        f'<path d="M{_LEFT},{_FOOT}.5H{_RIGHT}" stroke="currentColor"/>'
        f'<text x="{_LEFT}" y="{HEIGHT - 6}">{edges[0]:.4g}</text>'
        f'<text x="{_RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{edges[-1]:.4g}</text>'
        '</svg>'
    )


def bars(
    counts: Sequence[float], edges: Sequence[float], left: int, right: int, top: int, foot: int
) -> str:
    """Return a path around bars; the highest reaches from foot to top.

    Of bins that are less than two pixels apart, the highest is drawn.
    """
    together = -(-2 * len(counts) // (right - left))
    highest = max(counts) or 1.0
    # Halves, so that the difference of any two floats is finite.
    least = edges[0] / 2
    span = edges[-1] / 2 - least or 1.0
    steps = []
    for start in range(0, len(counts), together):
        count = max(counts[start : start + together])
        edge = edges[min(start + together, len(counts))]
        steps.append(
            f'V{foot - (foot - top) * (count / highest):.1f}'
            f'H{left + (right - left) * ((edge / 2 - least) / span):.1f}'
        )
    return f'M{left},{foot}{"".join(steps)}V{foot}Z'
