"""NumPy, for a program that has it in memory already.

Columns are computed ten times as fast with it. It is never imported for that: it takes longer to
import than all else that this package does at its start.
"""

from __future__ import annotations

import sys
from typing import Any


def loaded_numpy() -> Any | None:
    """Return the module, or None if nothing has imported it."""
    numpy = sys.modules.get('numpy')
    # Another thread may be importing it just now: most of it is not there yet.
    if numpy is None or getattr(numpy.__spec__, '_initializing', False):
        return None
    return numpy
