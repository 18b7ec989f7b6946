from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Child, Ended, Store, Tally


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts the tests in the background has them, and all that they start, ignore it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        'markers', 'failure(number, name): the failure of the table that the test injects'
    )
    config.addinivalue_line(
        'markers',
        'unmeasured: coverage does not measure the scripts, since a Ctrl-C may leave its lock '
        'held, or since they would take minutes',
    )


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """What the table of failures says of this test."""
    counts = Tally()
    # The dict itself: it is read when the test is over.
    request.node.user_properties.append(('tally', vars(counts)))
    for marker in request.node.iter_markers('failure'):
        request.node.user_properties.append(('failure', marker.args))
    return counts


@pytest.fixture
def store(tmp_path: Path, tally: Tally) -> Store:
    """A store that does not exist yet."""
    return Store(tmp_path / 'experiments.db', tally)


@pytest.fixture
def start(
    request: pytest.FixtureRequest, tmp_path: Path, store: Store, tally: Tally
) -> Iterator[Callable[..., Child]]:
    """Start a script in a process of its own, which the end of the test ends."""
    children: list[Child] = []
    inherited: dict[str, str | None] = {'STORE': str(store.path)}
    if request.node.get_closest_marker('unmeasured'):
        inherited |= {'COVERAGE_PROCESS_CONFIG': None, 'COVERAGE_PROCESS_START': None}

    def start_child(script: str, *arguments: object, **options: Any) -> Child:
        env = {**inherited, **options.pop('env', {})}
        child = Child(tmp_path, script, *arguments, tally=tally, env=env, **options)
        children.append(child)
        return child

    yield start_child
    for child in children:
        child.end()


@pytest.fixture
def run(start: Callable[..., Child]) -> Callable[..., Ended]:
    """Run a script to its end, which must be a good one unless ``code`` says otherwise."""

    def run_child(script: str, *arguments: object, code: int | None = 0, **options: Any) -> Ended:
        return start(script, *arguments, **options).finish(code)

    return run_child


# ── The table ────────────────────────────────────────────────────────────────


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """With -v, print what was injected, how often, and what that cost."""
    rows = sorted(_rows(terminalreporter.stats))
    if not rows or config.option.verbose < 1:
        return
    terminalreporter.section('failures injected')
    width = max(len(name) for _, name, *_ in rows)
    form = f'{{:<4}} {{:<{width}}} {{:>6}} {{:>6}} {{:>7}} {{:>4}}  {{}}'
    terminalreporter.line(form.format('', '', 'trials', 'lost', 'doubled', 'hung', ''))
    for number, name, tally, end in rows:
        counts = [tally[count] for count in ('trials', 'lost', 'doubled', 'hung')]
        terminalreporter.line(form.format(f'F{number}', name, *counts, end).rstrip())


def _rows(
    stats: dict[str, list[pytest.TestReport]],
) -> Iterator[tuple[int, str, dict[str, int], str]]:
    for outcome in ('passed', 'failed', 'skipped'):
        for report in stats.get(outcome, ()):
            properties = [*report.user_properties]
            tally = next((value for name, value in properties if name == 'tally'), {})
            for name, value in properties:
                if name == 'failure':
                    number, failure = value
                    test = report.nodeid.partition('[')[2].rstrip(']')
                    shown = f'{failure} ({test})' if test else failure
                    yield int(number[1:]), shown, tally, '' if outcome == 'passed' else outcome
