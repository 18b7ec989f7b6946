"""The end of a command: its exit code, and one line on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from neptune_async._model.showing import harmless
from neptune_async.exceptions import InvalidQueryError, NeptuneAsyncError

OK = 0
FAILED = 1
"""Something failed, and the output says what."""
BAD_USAGE = 2
"""The arguments make no sense, or name something that does not exist. Nothing was done."""
INTERRUPTED = 130
"""Ctrl-C ended the command. Shells use the same code."""
BROKEN_PIPE = 141
"""Nobody reads the output any more. Shells use the same code."""


def complain(what: object) -> None:
    """Print one line on stderr that says why a command ends; and two more, with the place, of a
    query that is none.
    """
    if isinstance(what, NeptuneAsyncError) and what.on_command_line is not None:
        what = what.on_command_line
    if isinstance(what, InvalidQueryError):
        first, *others = str(what).split('\n')
        print('\n'.join(map(harmless, [f'neptune-async: {first}', *others])), file=sys.stderr)
        return
    line = ' '.join(str(what).split('\n'))
    print(f'neptune-async: {harmless(line)}', file=sys.stderr)


def told_damaged(damaged: Iterable[object]) -> int:
    """Print one line on stderr for each thing that cannot be read. Return the exit code."""
    code = OK
    for what in damaged:
        complain(what)
        code = FAILED
    return code


class _Line(logging.Formatter):
    """Formats a record as one line, and the lines of its traceback below it. It escapes what a
    terminal would obey.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        return harmless(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's own name
        return '\n'.join(map(harmless, super().formatException(ei).split('\n')))


@contextmanager
def warnings_on_one_line() -> Iterator[None]:
    """Escape what a terminal would obey in log records that go to stderr because nobody else takes
    them.
    """
    handler = logging.lastResort
    if handler is None:
        yield
        return
    before = handler.formatter
    handler.setFormatter(_Line())
    try:
        yield
    finally:
        handler.setFormatter(before)


GOES_ON = 'the same command goes on where it stopped'


@contextmanager
def told_when_interrupted(what_then: str) -> Iterator[None]:
    """If Ctrl-C ends the body, print one line on stderr that says what comes next."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f'interrupted; {what_then}')
        raise


def ended(work: Callable[[], int | None]) -> int:
    """Run a command and return its exit code, also if Ctrl-C or an error of its output ends it."""
    try:
        code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        return given_up(error)
    return OK if code is None else code


def given_up(error: OSError) -> int:
    """Give up the output, because it cannot be written. Return the exit code."""
    # Without this the interpreter would report the error again when it flushes stdout at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    complain(error)
    return FAILED
