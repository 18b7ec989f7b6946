"""The program: its verbs, and how each of them may end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from neptune_async.cli import comparing, exporting, importing, kept_files, reading, upkeep
from neptune_async.cli.exit_codes import BAD_USAGE, FAILED, INTERRUPTED, complain, ended, given_up
from neptune_async.cli.options import EXIT_CODES, verb
from neptune_async.exceptions import (
    FlushTimeoutError,
    NeptuneAsyncError,
    RejectedOperationsError,
    StorageBusyError,
)

PROGRAM = 'neptune-async'

_FAILURES = (FlushTimeoutError, RejectedOperationsError, StorageBusyError)
"""Errors that are no mistake of who called."""


class Program(click.Group):
    """All verbs; however one ends, it ends quietly."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError as error:  # help was printed; click would end with a code of its own
            raise click.exceptions.Exit(given_up(error)) from error

    def invoke(self, ctx: click.Context) -> int:
        return ended(partial(super().invoke, ctx))


@click.group(
    cls=Program,
    epilog=EXIT_CODES,
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100},
)
@click.version_option(package_name='neptune-async')
def program() -> None:
    """Look at experiments, move them, and look after the stores that they are in."""


@verb()
@click.argument('shell', type=click.Choice(['bash', 'zsh', 'fish']))
def completion(shell: str) -> None:
    """Print what makes a shell complete verbs, options and names.

    For example: eval "$(neptune-async completion bash)"
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(program, {}, PROGRAM, '_NEPTUNE_ASYNC_COMPLETE').source())


for command in (
    *reading.VERBS, *kept_files.VERBS, *comparing.VERBS, *exporting.VERBS, *importing.VERBS,
    *upkeep.VERBS, completion,
):  # fmt: skip
    program.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says, and return the exit code."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:  # it was closed by who started this
            setattr(sys, name, open(os.devnull, 'w', encoding='utf-8'))  # noqa: SIM115  # to the end
        elif isinstance(stream, io.TextIOWrapper):
            # What the terminal has no character for is no reason to end.
            stream.reconfigure(errors='replace')
    return ended(partial(_run, arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        code: int = program.main([*arguments], PROGRAM, standalone_mode=False)
        return code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return BAD_USAGE
    except click.ClickException as error:
        complain(error.format_message())
        return BAD_USAGE
    except click.Abort:
        return INTERRUPTED
    except NeptuneAsyncError as error:
        complain(error)
        return FAILED if isinstance(error, _FAILURES) else BAD_USAGE
