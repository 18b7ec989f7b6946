"""How a command ends: exit codes, and one line on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from neptune_async.exceptions import NeptuneAsyncError

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
    if isinstance(what, NeptuneAsyncError) and what.on_command_line is not None:
        what = what.on_command_line
    print(f'neptune-async: {" ".join(str(what).splitlines())}', file=sys.stderr)


GOES_ON = 'the same command goes on where it stopped'


@contextmanager
def told_when_interrupted(what_then: str) -> Iterator[None]:
    """Say in one line what there is after Ctrl-C, if that ends the body."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f'interrupted; {what_then}')
        raise


def ended(work: Callable[[], int | None]) -> int:
    """Do what a command does, and return the exit code, also where Ctrl-C or its output ends it."""
    try:
        code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        return given_up(error)
    return OK if code is None else code


def given_up(error: OSError) -> int:
    """Give up the output, which cannot be written; return the exit code."""
    # Else the interpreter would complain of it when it flushes at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    complain(error)
    return FAILED
