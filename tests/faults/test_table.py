"""The README's table of failures says what is tested, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NUMBERS = [*range(1, 57), 59, 60, 61]

_MARKER = re.compile(r"failure\(\s*'F(\d+)'")
_ROW = re.compile(r'^\| F(\d+) \|.*\| (.*) \|$', re.MULTILINE)


def linked() -> dict[int, set[str]]:
    """Return the files that each row of the table links to."""
    rows = _ROW.findall((ROOT / 'README.md').read_text(encoding='utf-8'))
    return {int(number): {*re.findall(r'\(([^)]*)\)', links)} for number, links in rows}


def marked() -> dict[int, set[str]]:
    """Return the files that have a test of each failure."""
    found: dict[int, set[str]] = {}
    for path in (ROOT / 'tests').rglob('test_*.py'):
        for number in _MARKER.findall(path.read_text(encoding='utf-8')):
            found.setdefault(int(number), set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_failure_has_a_row_and_a_test() -> None:
    assert [*linked()] == NUMBERS
    assert sorted(marked()) == NUMBERS


@pytest.mark.parametrize('number', NUMBERS)
def test_a_row_links_to_tests_of_its_failure(number: int) -> None:
    assert linked()[number]
    assert linked()[number] <= marked()[number]
