"""Whether an experiment runs: the words for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

State: TypeAlias = Literal['running', 'closed', 'lost']
"""``running``: a process has it open for writing. ``closed``: all that had it open have closed it.
``lost``: one that had it open has died without closing it, and none has it open now.
"""


def state_of(lives: Iterable[bool]) -> State:
    """Return the state of an experiment.

    :param lives: for each session of it, whether its process lives.
    """
    known = [*lives]
    if any(known):
        return 'running'
    return 'lost' if known else 'closed'
