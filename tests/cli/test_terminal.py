"""What differs on a terminal: colours, progress, questions."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

from neptune_async import Experiment, delete_experiment, list_experiments

from .conftest import COMMAND, CommandLine
from .exporter import points, write


def on_terminal(
    run: CommandLine,
    *arguments: str,
    say: bytes = b'',
    once_asked: Callable[[], object] = lambda: None,
    **env: str,
) -> str:
    """Run a command whose streams are a terminal; return all that it printed there.

    :param say: what is typed when it asks.
    :param once_asked: what happens before that.
    """
    ours, theirs = pty.openpty()
    environment = {**run.environment(env), 'TERM': 'xterm'}
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=run.folder,
        env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        printed = b''
        while True:
            try:
                printed += os.read(ours, 2**16)
            except OSError:  # the other side is closed, since the process has ended
                break
            if say and b'[y/N]' in printed:
                once_asked()
                os.write(ours, say)
                say = b''
        assert process.wait(60) == 0, printed
    os.close(ours)
    return printed.decode()


def test_colours_are_for_terminals_that_want_them(run: CommandLine, store: Path) -> None:
    assert '\x1b[' in on_terminal(run, 'doctor')
    assert '\x1b[3' not in on_terminal(run, 'doctor', NO_COLOR='1')
    assert '\x1b[' not in run('doctor').out
    assert '\x1b[1m' in on_terminal(run, 'list')


def test_long_work_shows_its_progress(run: CommandLine) -> None:
    values = [i / 2 for i in range(500)]
    write(
        run.folder / 'export',
        points('x', 'float', 'float_value', values, *map(str, range(500))),
        row_group=10,
    )
    shown = on_terminal(run, 'import', 'neptune-export', 'export', '--storage', 'runs.db')
    assert '500/500' in shown
    assert '500 rows read, 500 stored in 1 experiments' in shown
    exported = on_terminal(
        run, 'export', '--format', 'csv', '--out', 'x.csv', '--storage', 'runs.db'
    )
    assert '1/1' in exported


def test_delete_asks_and_takes_no_for_an_answer(run: CommandLine, store: Path) -> None:
    asked = on_terminal(run, 'delete', 'digits-2', say=b'n\n')
    assert "Delete experiment 'digits-2'? [y/N]" in asked and 'nothing was deleted' in asked
    assert 'digits-2' in list_experiments(store)
    on_terminal(run, 'delete', 'digits-2', say=b'y\n')
    assert 'digits-2' not in list_experiments(store)


def test_delete_goes_on_where_another_process_was_faster(run: CommandLine, store: Path) -> None:
    Experiment('digits-3', storage=store, echo=False).close()
    asked = on_terminal(
        run, 'delete', '--where', "name ~ 'digits-*'", say=b'y\n',
        once_asked=lambda: delete_experiment('digits-2', store),
    )  # fmt: skip
    assert 'Delete these 3 experiments?' in asked
    assert "experiment 'digits-2' was gone: another process has deleted it" in asked
    assert list_experiments(store) == []


def test_a_text_neither_rings_the_bell_nor_writes_over_others(run: CommandLine) -> None:
    with Experiment('a', storage=run.folder / 'texts.db') as exp:
        exp['note'].assign('a\x07\x08\x1b[31mX')
    printed = on_terminal(run, 'show', 'a', '--storage', 'texts.db', NO_COLOR='1')
    assert r'a\x07\x08\x1b[31mX' in printed
