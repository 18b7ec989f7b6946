"""Processes: what tells this one from all others, and whether another one lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from neptune_async._storage.sessions import Process

_LARGEST_PID = 2**31 - 1
_STATE, _START = 0, 19
"""Where the two are in ``/proc/PID/stat``, behind the name of the command: see ``man 5 proc``."""


def this_process() -> Process:
    """Return what tells this process from all others. A forked child has to ask anew."""
    pid = os.getpid()
    _, started = _state_and_start(pid) or ('', '')
    return Process(socket.gethostname(), this_machine(), pid, started)


def this_machine() -> str:
    """Return what tells this machine, until it boots again, and this container from others. Empty
    where the system is not Linux and does not tell.
    """
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()
        return f'{boot} {os.readlink("/proc/self/ns/pid")}'
    except (OSError, ValueError):
        return ''


def lives(process: Process) -> bool | None:
    """Tell whether a process lives; None if that cannot be told from here."""
    if not process.machine or process.machine != this_machine():
        return None
    if not 0 < process.pid <= _LARGEST_PID:
        return False
    found = _state_and_start(process.pid)
    if found is None:
        return None if _is_hidden(process.pid) else False
    state, started = found
    # One that was killed is a zombie until its parent asks for it, which it may never do.
    return state not in 'ZX' and started == process.started


def _state_and_start(pid: int) -> tuple[str, str] | None:
    """Return the state of a process and its start in ticks since the boot; None if there is no
    such process, or the system does not tell.
    """
    try:
        stat = Path(f'/proc/{pid}/stat').read_bytes()
    except OSError:
        return None
    # The name of the command may hold spaces and brackets.
    fields = stat.rpartition(b')')[2].split()
    return fields[_STATE].decode(), fields[_START].decode()


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that ``/proc`` does not show: it may hide those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
