"""Who has an experiment open for writing, as storage knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told apart from all others, of this machine and of other ones.

    :ivar host: the name of its machine, for people to read.
    :ivar machine: what tells the machine from others. Two containers are two machines, since a pid
        means another process in each. Empty if the system does not tell.
    :ivar started: what tells the process from others that had its pid before. Empty if the system
        does not tell.
    """

    host: str
    machine: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class Session:
    """A process that has an experiment open for writing.

    :ivar id: 16 bytes, drawn by chance.
    """

    id: bytes
    experiment_id: int
    process: Process


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session that is in a store, whether its process lives or not.

    :ivar began: when its first sign of life came, in seconds since the epoch.
    :ivar seen: when the last one came.
    :ivar silent: how many seconds ago that was, by the clock that ``seen`` is of.
    """

    session: Session
    began: float
    seen: float
    silent: float
