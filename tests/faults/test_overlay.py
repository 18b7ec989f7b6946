"""Who only reads a store sees what dead processes left beside it, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer

from neptune_async import Experiment, compare, fetch_metrics, list_experiments
from neptune_async._engine.durability import overlaid_storage
from neptune_async._engine.store import opened
from neptune_async._model.messages import CONTAINERS
from neptune_async._storage import samples
from neptune_async._storage.base import EVERYWHERE, Storage
from neptune_async._storage.grid import Grid
from neptune_async.exceptions import StorageFormatError
from neptune_async.variable import Atom, Set

from .harness import Child, Ended, Store

Run = Callable[..., Ended]
Start = Callable[..., Child]

pytestmark = pytest.mark.skipif(
    sys.platform != 'linux', reason='that the owner of a journal has died is seen on Linux only'
)

LIVES = """
    import signal, sys
    from datetime import datetime
    from child import experiment, hear, say
    exp = experiment(durability='call', flush_interval=60.0)
    {}
    say('logged')
    hear()
"""


@pytest.fixture(params=['sqlite', 'postgres'])
def url(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of each kind."""
    if request.param == 'sqlite':
        return str(store.path)
    monkeypatch.chdir(store.path.parent)  # where what it cannot store is spilled
    server: PostgresServer = request.getfixturevalue('postgres')
    return server.url()


@pytest.fixture
def dies(start: Start, url: str) -> Callable[[str], None]:
    """Let a process die that has logged."""

    def die(script: str) -> None:
        child = start(LIVES.format(script.replace('\n', '\n    ')), env={'STORE': url})
        child.wait_for('logged')
        killed(child)

    return die


def killed(child: Child) -> None:
    child.send(signal.SIGKILL)
    child.finish(-signal.SIGKILL)


def left_in(folder: Path) -> dict[str, str]:
    """Return all that lies beside the stores in a folder."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob('*.spilled/**/*')
        if path.is_file()
    }


def contents(url: str, name: str = 'EXP') -> dict[str, Any]:
    """Return all that an experiment has, as it reads back."""
    found: dict[str, Any] = {}
    with opened(url) as store:
        variables = store.variables(store.find(name))
    with Experiment(name, storage=url, mode='read', echo=False) as exp:
        for v in variables:
            container, view = CONTAINERS[v.container], exp[v.path]
            assert exp[v.path].variable_type()[0] is container
            if container is Atom:
                found[v.path] = view.read()
            elif container is Set:
                found[v.path] = sorted(view.get())
            else:
                found[v.path] = view.all(with_steps=True, with_timestamps=True)
                assert len(view.to_numpy()) == len(view.all())
                assert repr(view.tail(2)) == repr(view.all()[-2:])
    return found


def in_bulk(url: str) -> list[object]:
    """Return what a store says of all its experiments at once."""
    with opened(url) as store:
        experiments = store.ask(lambda s: s.find_experiments())
        ids = [experiment.id for experiment in experiments]
        paths = store.ask(lambda s: s.find_paths(ids))
        variables = store.ask(lambda s: s.find_variables(ids))
        latest = store.ask(lambda s: s.read_latest(variables))
        summaries = store.ask(lambda s: s.read_summaries(variables))
        return [
            experiments,
            store.ask(lambda s: s.count_variables(ids)),
            sorted(paths),
            variables,
            sorted(latest.atoms.items()),
            sorted((key, sorted(members)) for key, members in latest.sets.items()),
            sorted((key, repr(point)) for key, point in latest.series.items()),
            sorted((key, repr(_compared(summary))) for key, summary in summaries.items()),
            store.ask(lambda s: s.last_points(ids)),
            [store.ask(lambda s, i=i: s.largest_steps(i)) for i in ids],  # type: ignore[misc]
        ]


def _compared(summary: Any) -> Any:
    """Points that are merged may have another sum, by a rounding; and whether it is known that they
    ascend differs by the kind of store.
    """
    whole = summary.whole._replace(mean=0.0)
    return replace(summary, whole=whole, steps_ascend=False, times_ascend=False)


def take_in(url: str) -> None:
    """Open a store for writing, which takes in what was left."""
    with opened(url) as store:
        store.open_for_writing()


KINDS = {
    'points': "exp['x'].extend(range(10))",
    'points behind stored ones': """
exp['x'].extend(range(10))
exp['x'].log(-1.0, step=100)
exp.flush()
exp['x'].extend(range(10, 20))
exp['y'].log(1.0, step=0.5, timestamp=5.0)
exp['y'].log(2.0, timestamp=1.0)
exp['y'].log(3.0)""",
    'many series': """
for n in range(100):
    exp['batch'].log({'one': n, 'two': -n, 'three': float('nan')})
    if n == 50:
        exp.flush()""",
    'texts and datetimes': """
exp['text'].log('stored')
exp.flush()
exp['text'].log('left')
exp['when'].log(datetime(2026, 11, 28))""",
    'atoms and sets': """
exp['a'].assign(1)
exp['s'].add('one', 'two')
exp['gone'].assign(1)
exp.flush()
exp['a'].assign('two')
exp['s'].add('three')
exp['s'].remove('one')
exp['t'].add(1.5)
exp['t'].reset(2.5)
exp['new'].assign({'lr': 0.1, 'deep': {'er': None}})""",
    'a rewind': """
exp['x'].extend(range(100))
exp.flush()
exp['x'].extend(range(100, 120))
exp.rewind(49)
exp['x'].extend(range(50, 60))""",
    'a deletion': """
exp['a/x'].extend(range(100))
exp['b'].assign(1)
exp.flush()
exp['a'].delete()
exp['a/x'].assign('another')""",
}


@pytest.mark.failure('F59', 'what a killed process left is read as it will be taken in')
@pytest.mark.parametrize('kind', KINDS)
def test_what_was_left_reads_as_it_will_be_once_it_is_taken_in(
    dies: Callable[[str], None], store: Store, url: str, kind: str
) -> None:
    dies(KINDS[kind])
    left = left_in(store.path.parent)
    assert left
    before, before_in_bulk = contents(url), in_bulk(url)
    assert left_in(store.path.parent) == left
    take_in(url)
    assert left_in(store.path.parent) == {}
    assert in_bulk(url) == before_in_bulk
    assert repr(contents(url)) == repr(before)  # NaN is not equal to itself


LARGE = 20_000


def overviews(url: str) -> str:
    """Return overviews of all series of an experiment, as text."""

    async def read(storage: Storage) -> list[Any]:
        (experiment,) = await storage.find_experiments(['EXP'])
        variables = await storage.find_variables([experiment.id])
        found = await storage.read_overviews(variables, Grid.over('step', 0, LARGE - 1, 16))
        own = [
            (key, each.damaged, each.buckets.points, each.buckets.last)
            for key, each in sorted(found.items())
        ]
        return [own, sorted((await storage.read_samples(variables, EVERYWHERE, 40, True)).items())]

    with opened(url) as store:
        return repr(store.ask(read))


def copied_points(url: str) -> int:
    """Return how many points were copied to lay what was left over them."""

    async def count(storage: Any) -> int:
        await storage.find_experiments()
        found: int = await storage._overlay.scratch._run(
            lambda connection: connection.execute(
                'SELECT coalesce((SELECT sum(count) FROM chunks), 0) + '
                'coalesce((SELECT sum(count) FROM log), 0)'
            ).fetchone()[0]
        )
        return found

    with opened(url) as store:
        return store.ask(count)


@pytest.mark.failure('F59', 'most series have nothing of it')
@pytest.mark.parametrize(
    ('script', 'is_copied'),
    [
        ("exp['x'].log(5.0)\nexp['new'].log(1.0)\nexp['a'].assign(1)", False),
        ("exp['large'].log(5.0)\nexp['a'].assign(1)", True),
        ("exp.rewind(1, 'x')\nexp['x'].log(5.0)", True),
        ("exp['x'].delete()\nexp['a'].assign(1)", True),
    ],
)
def test_series_that_nothing_was_left_of_are_read_from_the_store(
    dies: Callable[[str], None],
    url: str,
    script: str,
    is_copied: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, '_SHORT', 0)
    with Experiment('EXP', storage=url, echo=False) as exp:
        exp['large'].extend(map(float, range(LARGE)), timestamps=range(LARGE))
        exp['texts'].extend(['a', 'b'], timestamps=[2e9, 2e9])
        exp['x'].extend([1.0, 2.0, float('nan')], timestamps=[1.0, 2.0, 3.0])
        exp['empty'].extend([])
    dies(f"exp['logged'].log(1.0)\nexp['large'].log(-1.0)\nexp.flush()\n{script}")

    def everything() -> list[Any]:
        fetched = fetch_metrics(None, None, storage=url, duplicates='all')
        return [contents(url), in_bulk(url), overviews(url), fetched.to_csv()]

    before = everything()
    assert (copied_points(url) > LARGE) == is_copied
    take_in(url)
    assert repr(everything()) == repr(before)


def test_a_damaged_row_of_a_variable_keeps_no_other_series_from_being_read(
    start: Start, store: Store
) -> None:
    with Experiment('EXP', storage=store.path, echo=False) as exp:
        exp['whole'].extend([1.0, 2.0])
        exp['hurt'].extend([1.0, 2.0])
    script = "exp['whole'].log(3.0)\nexp.flush()\nexp['whole'].log(4.0)"
    child = start(LIVES.format(script.replace('\n', '\n    ')), env={'STORE': str(store.path)})
    child.wait_for('logged')
    killed(child)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE variables SET content = 'strr' WHERE path = 'hurt'")
    with Experiment('EXP', storage=store.path, mode='read', echo=False) as exp:
        assert exp['whole'].tail(4)[:3] == [1.0, 2.0, 3.0]
        with pytest.raises(StorageFormatError, match="'hurt'"):
            exp['hurt'].all()


@pytest.mark.failure('F59', 'several killed processes left something of one experiment')
def test_what_several_left_is_laid_over_the_store_in_order(
    dies: Callable[[str], None], url: str
) -> None:
    with Experiment('EXP', storage=url, echo=False) as exp:
        exp['x'].extend([0.0, 1.0])
        exp['a'].assign('stored')
    # Each makes variables that the ones before it have left.
    children = [f"exp['x'].log({n})\nexp['y'].log({n})\nexp['a'].assign({n})" for n in range(2, 5)]
    dies(children[0])
    first = contents(url)
    assert [value for *_, value in first['x']] == [0.0, 1.0, 2.0] and first['a'] == 2
    dies(children[1])  # its opening takes the first in
    second = contents(url)
    assert [(step, value) for step, _, value in second['x']] == [(n, float(n)) for n in range(4)]
    assert [(step, value) for step, _, value in second['y']] == [(0, 2.0), (1, 3.0)]
    take_in(url)
    assert contents(url) == second


@pytest.mark.failure('F59', 'two killed processes had an experiment open at once')
def test_variables_that_two_processes_made_at_once_are_one(
    start: Start, store: Store, url: str
) -> None:
    children = []
    for n in (1, 2):
        script = f"exp['x'].extend([{n}.0] * 3)\n    exp['a'].assign({n})"
        children.append(start(LIVES.format(script), env={'STORE': url}))
    for child in children:
        child.wait_for('logged')
    for child in children:
        killed(child)
    before = contents(url)
    assert sorted(value for *_, value in before['x']) == [1.0] * 3 + [2.0] * 3
    assert [step for step, *_ in before['x']] == [*range(6)]
    take_in(url)
    assert contents(url) == before


def test_tables_and_lists_have_it_too(dies: Callable[[str], None], url: str) -> None:
    with Experiment('other', storage=url, echo=False) as other:
        other['x'].log(7.0)
    dies("exp['x'].extend([1.0, 2.0])\nexp['lr'].assign(0.1)")
    assert list_experiments(url) == ['other', 'EXP']
    frame = compare(None, ['x', 'lr'], storage=url)
    assert frame['x'].to_dict() == {'other': 7.0, 'EXP': 2.0}
    assert frame['lr'].loc['EXP'] == 0.1
    points = fetch_metrics(None, 'x', storage=url)
    assert [*zip(points['experiment'], points['value'], strict=True)] == [
        ('other', 7.0), ('EXP', 1.0), ('EXP', 2.0)
    ]  # fmt: skip


def test_the_command_line_shows_it_and_warns_of_nothing(
    dies: Callable[[str], None], store: Store, url: str
) -> None:
    dies("exp['x'].extend([1.0, 2.0])\nexp.flush()\nexp['x'].log(3.0)\nexp['lr'].assign(0.1)")
    left = left_in(store.path.parent)

    def run(*arguments: str) -> Any:
        command = [sys.executable, '-m', 'neptune_async', *arguments, '--json', '--storage', url]
        done = subprocess.run(command, capture_output=True, text=True, cwd=store.path.parent)
        assert (done.returncode, done.stderr) == (0, '')
        return (
            [json.loads(line) for line in done.stdout.splitlines()]
            if (arguments[0] == 'tail')
            else json.loads(done.stdout)
        )

    assert [point['value'] for point in run('tail', 'EXP', 'x')] == [1.0, 2.0, 3.0]
    shown = {v['path']: v for v in run('show', 'EXP')['variables']}
    assert shown['x']['count'] == 3 and shown['lr']['value'] == 0.1
    (listed,) = run('list')
    assert (listed['variables'], listed['state']) == (2, 'lost')
    assert left_in(store.path.parent) == left


@pytest.mark.failure('F59', 'the process lives')
def test_the_journal_of_a_process_that_lives_is_not_shown(start: Start, url: str) -> None:
    script = "exp['x'].log(1.0)\n    exp.flush()\n    exp['x'].log(2.0)"
    child = start(LIVES.format(script), env={'STORE': url})
    child.wait_for('logged')
    assert [value for *_, value in contents(url)['x']] == [1.0]
    with Experiment('EXP', storage=url, mode='read', echo=False) as exp:
        assert exp['x'].all() == [1.0]
        killed(child)
        assert exp['x'].all() == [1.0, 2.0]


@pytest.mark.failure('F59', 'all of a journal is in the store')
def test_what_the_store_has_is_not_shown_twice(dies: Callable[[str], None], url: str) -> None:
    dies("exp['x'].extend(range(10))\nexp.flush()")
    assert [value for *_, value in contents(url)['x']] == [float(n) for n in range(10)]


@pytest.mark.failure('F59', 'a spill file, in part of batches that the store has')
def test_what_a_process_spilled_is_shown(run: Run, store: Store) -> None:
    run("from child import experiment\nwith experiment() as exp: exp['x'].log(0)")
    with store.held():
        run(
            """
            from child import experiment
            exp = experiment(flush_interval=0.01)
            exp['x'].extend(range(1, 10))
            exp['a'].assign('spilled')
            try:
                exp.close(timeout=0.5)
            except TimeoutError:
                pass
            """
        )
    url, left = str(store.path), left_in(store.path.parent)
    before = contents(url)
    assert [value for *_, value in before['x']] == [float(n) for n in range(10)]
    assert before['a'] == 'spilled' and left_in(store.path.parent) == left
    store.open_once()
    assert contents(url) == before


@pytest.mark.failure('F59', 'a reader reads while other processes take it in')
def test_each_point_is_read_once_while_others_take_it_in(
    start: Start, dies: Callable[[str], None], store: Store, url: str
) -> None:
    rounds = store.tally.trials = 3
    for number in range(1, rounds + 1):
        dies("exp['x'].extend(range(1000))\nexp['t'].log('text')")
        with Experiment('EXP', storage=url, mode='read', echo=False) as exp:
            assert len(exp['x'].all()) == 1000 * number
            children = [
                start('from child import experiment, say\nexperiment().close()\nsay("done")',
                      env={'STORE': url})
                for _ in range(2)
            ]  # fmt: skip
            while not all(child.has_said('done') for child in children):
                assert exp['x'].all() == [float(n) for n in range(1000)] * number
                assert len(exp['t'].all()) == number
            for child in children:
                child.finish()
            assert left_in(store.path.parent) == {}
            steps = [step for step, _ in exp['x'].all(with_steps=True)]
            assert steps == [*range(1000 * number)]


@pytest.mark.failure('F59', 'a reader follows a series across the death of its process')
def test_who_follows_gets_each_point_once(start: Start, store: Store) -> None:
    script = "exp['x'].extend(range(10))\n    exp.flush()\n    exp['x'].extend(range(10, 20))"
    child = start(LIVES.format(script))
    child.wait_for('logged')
    with Experiment('EXP', storage=store.path, mode='read', echo=False) as exp:
        points = iter(exp['x'].follow())
        seen = [next(points).value for _ in range(10)]
        killed(child)
        seen += [next(points).value for _ in range(10)]
        with Experiment('EXP', storage=store.path, echo=False) as again:
            again['x'].log(20.0)
        seen.append(next(points).value)
    assert seen == [float(n) for n in range(21)]


@pytest.mark.failure('F59', 'another process that has the store open goes on writing to it')
def test_what_others_write_meanwhile_is_seen_below_it(start: Start, url: str) -> None:
    script = "exp['x'].log(1.0)\n    exp.flush()\n    exp['x'].log(3.0)"
    child = start(LIVES.format(script), env={'STORE': url})
    child.wait_for('logged')
    other = start(
        """
        from child import experiment, hear, say
        exp = experiment()
        say('open')
        hear()
        exp['x'].log(2.0)
        exp['a'].assign(1)
        exp.flush()
        say('flushed')
        hear()
        """,
        env={'STORE': url},
    )
    other.wait_for('open')
    killed(child)
    with Experiment('EXP', storage=url, mode='read', echo=False) as exp:
        assert exp['x'].all(with_steps=True) == [(0, 1.0), (1, 3.0)]
        other.tell()
        other.wait_for('flushed')
        assert exp['x'].all(with_steps=True) == [(0, 1.0), (1, 2.0), (2, 3.0)]
        assert exp['a'].read() == 1
        take_in(url)
        assert exp['x'].all(with_steps=True) == [(0, 1.0), (1, 2.0), (2, 3.0)]
    other.tell()
    other.finish()


def test_an_experiment_that_was_deleted_meanwhile_is_there_again(
    start: Start, run: Run, url: str
) -> None:
    child = start(LIVES.format("exp['x'].log(1.0)\n    exp.flush()"), env={'STORE': url})
    child.wait_for('logged')
    run(
        """
        import os
        from neptune_async import delete_experiment
        delete_experiment('EXP', os.environ['STORE'])
        """,
        env={'STORE': url},
    )
    assert list_experiments(url) == []
    killed(child)
    assert list_experiments(url) == []  # all that it has left is in the store, or was


def test_a_damaged_file_is_told_once_and_keeps_nothing_else_from_being_shown(
    dies: Callable[[str], None], run: Run, store: Store, url: str
) -> None:
    dies("exp['x'].log(1.0)")
    (journal,) = store.path.parent.rglob('*.journal')
    damaged = journal.parent / f'{"0" * 32}.spill'
    damaged.write_bytes(b'neptune_async spill 1\nxxxx')
    ended = run(
        """
        import os
        from child import say
        from neptune_async import Experiment
        for _ in range(2):
            with Experiment('EXP', storage=os.environ['STORE'], mode='read') as exp:
                say('read', len(exp['x'].all()))
        """,
        env={'STORE': url},
    )
    assert ended.numbers('read') == [1, 1]
    (line,) = ended.errors.splitlines()
    assert f'lacks what is kept in {damaged}' in line and 'is damaged' in line
    assert damaged.exists() and journal.exists()


def test_without_anything_left_nothing_is_laid_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlaid_storage, 'overlay_of', None)
    with Experiment('EXP', storage=store.path, echo=False) as exp:
        exp['x'].log(1.0)
    assert [value for *_, value in contents(str(store.path))['x']] == [1.0]
    with pytest.raises(TypeError):
        Path(f'{store.path}.spilled').mkdir(exist_ok=True)
        Path(f'{store.path}.spilled', f'{"0" * 32}.spill').touch()
        contents(str(store.path))
