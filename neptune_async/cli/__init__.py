"""The command line: ``neptune-async``, and ``python -m neptune_async``, which are one program.

It needs click and rich, the extra ``cli``; ``recover`` works without them, for
it is what messages about spill files name, and so does ``sync``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neptune_async.cli import without_extras
from neptune_async.cli.exit_codes import warnings_on_one_line

__all__ = ['main']


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit code."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    with warnings_on_one_line():
        try:
            from neptune_async.cli.app import run
        except ModuleNotFoundError as error:
            if error.name not in ('click', 'rich'):
                raise
            return without_extras.run(given)
        return run(given)
