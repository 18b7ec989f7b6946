"""Flushing when the process is told to end: SIGTERM from SLURM, Kubernetes or ``docker stop``, or
SIGHUP from a terminal that is closed.
"""

from __future__ import annotations

import signal

from neptune_async._engine.lifecycle import at_signal
from neptune_async._model.arguments import checked_seconds
from neptune_async.exceptions import InvalidArgumentError

__all__ = ['flush_on_signal']


def flush_on_signal(*signalnums: int, timeout: float = 10.0) -> None:
    """Have signals flush all experiments of the process before they do what they do anyway.

    ::

        flush_on_signal(signal.SIGTERM, signal.SIGHUP)

    Without this, SIGTERM ends a Python process at once, as SIGHUP does where a terminal is
    closed, and with it what was logged in the last ``flush_interval``. With it, all that was
    logged is stored first; what storage does not take within the timeout is kept in a
    spill file, which a line on stderr names; so it is when the signal interrupts
    code that holds a lock which storing needs. Then comes what the signal did before:
    the handler that it had, or, where that was the default, the end of the
    process by that signal.

    Call it in the main thread, after other handlers are set. SLURM sends
    SIGTERM 30 seconds before SIGKILL, Kubernetes too, ``docker stop`` 10.

    :param signalnums: the signals; SIGTERM if there is none. One that is ignored, as ``nohup``
        has SIGHUP be, flushes and stays ignored.
    :param timeout: seconds that the flush may take.
    :raises InvalidArgumentError: for a timeout that is no positive number, for a
        signal that cannot be handled, and in another thread than the main one.
    """
    seconds = checked_seconds('timeout', timeout)
    for signalnum in signalnums or (signal.SIGTERM,):
        try:
            at_signal.flush_first(signalnum, seconds)
        except (ValueError, OSError, TypeError) as error:
            raise InvalidArgumentError(
                f'signal {signalnum!r} cannot be handled: {error}'
            ) from error
