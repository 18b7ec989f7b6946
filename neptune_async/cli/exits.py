"""How a command ends: exit codes, and one line on stderr."""

from __future__ import annotations

import sys

OK = 0
FAILED = 1
"""Something did not work, and the output says what."""
BAD_USAGE = 2
"""What was asked for is not there, or makes no sense: nothing was done."""
INTERRUPTED = 130
"""Ctrl-C, as shells count it."""
BROKEN_PIPE = 141
"""Nobody reads the output any more, as shells count it."""


def complain(what: object) -> None:
    """Say in one line why a command ends."""
    print(f'neptune-async: {" ".join(str(what).splitlines())}', file=sys.stderr)
