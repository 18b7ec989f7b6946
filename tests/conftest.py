"""The marker of failure tests, and the table that they come to."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from busy import be_busy
from hypothesis import HealthCheck, settings
from postgres_server import PostgresServer

COUNTS = ('trials', 'lost', 'doubled', 'hung')

# How long an example takes says more of the machine, and of what else it runs, than of the code.
settings.register_profile('untimed', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('untimed')


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts the tests in the background has them, and all that they start, ignore it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hundreds of children would each compile the package anew: 0.16 of the 0.39 s that a command
    # takes to start.
    os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
    config.addinivalue_line(
        'markers', 'failure(number, name): the failure of the table that the test injects'
    )
    config.addinivalue_line(
        'markers',
        'busy: the test, or the child that it starts, runs again with a switch interval of 1e-6 '
        'and a thread beside that never rests',
    )
    config.addinivalue_line(
        'markers',
        'unmeasured: coverage does not measure the scripts, since a Ctrl-C may leave its lock '
        'held, since they would take minutes, or run as a user who may not write what is measured',
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # A module may be marked as a whole: a test that starts no child has no use for it.
    if metafunc.definition.get_closest_marker('busy') and 'beside' in metafunc.fixturenames:
        metafunc.parametrize('beside', ['idle', 'busy'], indirect=True)


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Iterator[str]:
    """What runs beside the threads of the test, which is idle or busy."""
    what: str = getattr(request, 'param', 'idle')
    is_over = threading.Event()
    interval = sys.getswitchinterval()
    if what == 'busy':
        be_busy(is_over.is_set)
    yield what
    is_over.set()
    sys.setswitchinterval(interval)


@pytest.fixture(scope='session')
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, for all tests that do not harm it."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers('failure'):
            # What a test says of itself travels with its report, also from another process.
            item.user_properties.append(('failure', marker.args))


@dataclass
class Row:
    """What all tests of one failure came to."""

    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: set[str] = field(default_factory=set)

    @property
    def end(self) -> str:
        """Empty when all has passed; else what did not, and why what was skipped was."""
        if set(self.outcomes) == {'passed'}:
            return ''
        shown = ', '.join(f'{count} {outcome}' for outcome, count in sorted(self.outcomes.items()))
        return ': '.join([shown, *sorted(self.reasons)])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """With -v, print what was injected, how often, and what that cost."""
    rows: defaultdict[tuple[int, str], Row] = defaultdict(Row)
    for outcome in ('passed', 'failed', 'error', 'skipped'):
        for report in terminalreporter.stats.get(outcome, ()):
            for number, name in _failures(report):
                row = rows[number, name]
                row.counts.update(_tally(report))
                row.outcomes[outcome] += 1
                if outcome == 'skipped':
                    row.reasons.add(_reason(report))
    if not rows or config.option.verbose < 1:
        return
    terminalreporter.section('failures injected')
    width = max(len(name) for _, name in rows)
    form = f'{{:<4}} {{:<{width}}} {{:>6}} {{:>6}} {{:>7}} {{:>4}}  {{}}'
    terminalreporter.line(form.format('', '', *COUNTS, '').rstrip())
    for (number, name), row in sorted(rows.items()):
        counts = [row.counts[count] for count in COUNTS]
        terminalreporter.line(form.format(f'F{number}', name, *counts, row.end).rstrip())


def _failures(report: pytest.TestReport | pytest.CollectReport) -> Iterator[tuple[int, str]]:
    for name, value in getattr(report, 'user_properties', ()):  # a module has none
        if name == 'failure':
            number, failure = value  # type: ignore[misc]  # what the marker was given
            yield int(number[1:]), failure


def _tally(report: pytest.TestReport) -> dict[str, int]:
    """Return what a test has counted; one that counts nothing is one trial."""
    if report.skipped:
        return {}
    for name, value in report.user_properties:
        if name == 'tally':
            return value  # type: ignore[return-value]  # the vars() of a Tally
    return {'trials': 1}


def _reason(report: pytest.TestReport) -> str:
    assert isinstance(report.longrepr, (tuple, list))
    return str(report.longrepr[2]).removeprefix('Skipped: ')
