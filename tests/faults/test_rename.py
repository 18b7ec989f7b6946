"""An experiment is renamed while its process is killed, or closed, or asked for the same twice."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from neptune_async import Experiment, delete_experiment, list_experiments
from neptune_async.exceptions import ExperimentClosedError

from .harness import Child, Ended, Store, trials

Run = Callable[..., Ended]
Start = Callable[..., Child]

RENAMES_FOR_EVER = """
    import os, sys, itertools
    from child import experiment, say
    exp = experiment('0', durability=sys.argv[1], flush_interval=float(sys.argv[2]))
    say('open')
    for n in itertools.count():
        exp['loss'].log(n)
        exp['text'].log(str(n))
        os.write(1, b'b %d\\n' % n)
        if n % 5 == 0:
            exp.rename(str(n))
            os.write(1, b'r %d\\n' % n)
"""


@pytest.mark.failure('F1', 'SIGKILL while an experiment is renamed')
def test_a_process_that_is_killed_leaves_one_experiment_with_all_that_it_logged(
    start: Start, run: Run, store: Store
) -> None:
    rounds = store.tally.trials = trials(8)
    draw = random.Random(0)
    for _ in range(rounds):
        child = start(RENAMES_FOR_EVER, 'call', draw.choice([0.001, 60.0]))
        child.wait_for('r', 10)
        time.sleep(draw.uniform(0.0, 0.2))
        child.send(signal.SIGKILL)
        ended = child.finish(-signal.SIGKILL)
        run("from child import experiment; experiment('other').close()")
        assert store.spills == []
        # The last name that was told, or the one after it.
        names = [name for name in list_experiments(store.path) if name != 'other']
        assert names in ([str(ended.number('r'))], [str(ended.number('r') + 5)])
        with Experiment(names[0], storage=store.path, mode='read') as exp:
            points = exp['loss'].all(with_steps=True)
            store.require_equal(points, [(n, float(n)) for n in range(len(points))])
            assert len(points) > ended.number('b')
            assert exp['text'].all()[: ended.number('b')] == [*map(str, range(ended.number('b')))]
        delete_experiment(names[0], store.path)


def test_threads_that_rename_one_after_the_other_lose_nothing(store: Store) -> None:
    with Experiment('0', storage=store.path, echo=False, flush_interval=0.001) as exp:

        def rename(thread: int) -> None:
            for number in range(10):
                exp[f'loss/{thread}'].log(number)
                exp.rename(f'{thread}-{number}')

        threads = [threading.Thread(target=rename, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(3):
            assert exp[f'loss/{number}'].all() == [float(n) for n in range(10)]
        assert list_experiments(store.path) == [exp.name]


def test_a_close_beside_a_rename_stores_everything_under_one_name(store: Store) -> None:
    started = threading.Barrier(2)

    def rename(exp: Experiment, name: str) -> None:
        started.wait()
        with suppress(ExperimentClosedError):
            exp.rename(name)

    for number in range(trials(10)):
        exp = Experiment(f'old-{number}', storage=store.path, echo=False)
        exp['loss'].log(1.0)
        thread = threading.Thread(target=rename, args=(exp, f'new-{number}'))
        thread.start()
        started.wait()
        exp.close()
        thread.join()
        (name,) = [n for n in list_experiments(store.path) if n.endswith(f'-{number}')]
        with Experiment(name, storage=store.path, mode='read', echo=False) as exp:
            assert exp['loss'].all() == [1.0]
