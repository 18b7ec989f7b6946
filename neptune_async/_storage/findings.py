"""What there is to say of a store that was examined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
