"""A million points and a hundred thousand variables fit into the memory that is promised."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness import Ended, Store

Run = Callable[..., Ended]

MOST = 100 * 2**20
"""Bytes by which a process may grow."""

MEASURES = """
    import os, resource, sys
    from child import experiment, say

    def resident():
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def peak():
        with open('/proc/self/status') as file:
            line = next(line for line in file if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024

    before = resident()
"""

pytestmark = pytest.mark.skipif(
    'not __import__("os").path.exists("/proc/self/status")',
    reason='F45: memory is measured by /proc/self/status, which this system does not have',
)


@pytest.mark.unmeasured
@pytest.mark.failure('F45', '1,000,000 points in one series')
@pytest.mark.parametrize('way', ['log', 'extend'])
def test_a_million_points_in_one_series(run: Run, store: Store, way: str) -> None:
    ended = run(
        MEASURES
        + """
    exp = experiment()
    loss = exp['loss']
    if sys.argv[1] == 'log':
        for n in range(1_000_000):
            loss.log(float(n))
    else:
        for n in range(0, 1_000_000, 1000):
            loss.extend(range(n, n + 1000))
    exp.close()
    say('grown', peak() - before)
""",
        way,
        limit=120,
    )

    assert 'Traceback' not in ended.errors
    assert ended.number('grown') < MOST
    store.require('loss', range(1_000_000))
    assert store.steps('loss') == [*range(1_000_000)]


@pytest.mark.unmeasured
@pytest.mark.failure('F45', '1,000,000 points are read back')
def test_a_million_points_are_read_back(run: Run, store: Store) -> None:
    run("""
        from child import experiment
        exp = experiment()
        for n in range(0, 1_000_000, 1000):
            exp['loss'].extend(range(n, n + 1000))
    """)
    ended = run(
        MEASURES
        + """
    exp = experiment(mode='read')
    values = exp['loss'].all()
    say('grown', peak() - before)
    assert values == [*range(1_000_000)]
"""
    )

    assert ended.number('grown') < MOST


@pytest.mark.unmeasured
@pytest.mark.failure('F45', '100,000 variables in one experiment')
@pytest.mark.parametrize('container', ['series', 'atom'])
def test_a_hundred_thousand_variables(run: Run, store: Store, container: str) -> None:
    ended = run(
        MEASURES
        + """
    exp = experiment()
    for n in range(100_000):
        if sys.argv[1] == 'series':
            exp[f'group/{n % 100}/variable/{n}'].log(float(n))
        else:
            exp[f'group/{n % 100}/variable/{n}'].assign(n)
    exp.close()
    say('grown', peak() - before)
""",
        container,
        limit=120,
    )

    assert ended.errors == ''
    assert ended.number('grown') < MOST
    ended = run(
        """
        import sys
        from child import experiment, say
        exp = experiment(mode='read')
        for n in range(0, 100_000, 97):
            view = exp[f'group/{n % 100}/variable/{n}']
            assert (view.all() if sys.argv[1] == 'series' else [view.read()]) == [n], n
        say('variables', len(exp['group/7/variable'].namespace_contents()))
        """,
        container,
    )
    assert ended.number('variables') == 1000
    if container == 'series':
        # All, with one statement: what the library reads one by one was compared above.
        assert store.points() == 100_000
    assert store.variables() == 100_000


@pytest.mark.unmeasured
@pytest.mark.failure('F45', '100,000 variables, a few more in a new process')
def test_a_process_that_opens_a_hundred_thousand_variables(run: Run, store: Store) -> None:
    run(
        """
        from child import experiment
        exp = experiment()
        exp['many'].assign({str(n): n for n in range(100_000)})
        """,
        limit=120,
    )
    ended = run(
        MEASURES
        + """
    exp = experiment()
    exp['new'].log(1)
    exp['many/5'].assign(6)
    exp.close()
    say('grown', peak() - before)
"""
    )

    assert ended.number('grown') < MOST
    with store.reading() as exp:
        assert exp['many/5'].read() == 6
