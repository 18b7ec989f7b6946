"""Flushing when the process is told to end: SIGTERM from SLURM, Kubernetes or ``docker stop``."""

from __future__ import annotations

import signal

from neptune_async._engine import lifecycle
from neptune_async._model.arguments import checked_seconds
from neptune_async.exceptions import InvalidArgumentError

__all__ = ['flush_on_signal']


def flush_on_signal(signalnum: int = signal.SIGTERM, *, timeout: float = 10.0) -> None:
    """Have a signal flush all experiments of the process before it does what it does anyway.

    Without this, SIGTERM ends a Python process at once, and with it what was
    logged in the last ``flush_interval``. With it, all that was logged is
    stored first; what storage does not take within the timeout is kept in a
    spill file, which a line on stderr names; so it is when the signal interrupts
    code that holds a lock which storing needs. Then comes what the signal did before:
    the handler that it had, or, where that was the default, the end of the
    process by that signal.

    Call it in the main thread, after other handlers are set. SLURM sends
    SIGTERM 30 seconds before SIGKILL, Kubernetes too, ``docker stop`` 10.

    :param timeout: seconds that the flush may take.
    :raises InvalidArgumentError: for a timeout that is no positive number, for a
        signal that cannot be handled, and in another thread than the main one.
    """
    seconds = checked_seconds('timeout', timeout)
    try:
        lifecycle.flush_first(signalnum, seconds)
    except (ValueError, OSError, TypeError) as error:
        raise InvalidArgumentError(f'signal {signalnum!r} cannot be handled: {error}') from error
