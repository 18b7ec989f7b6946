"""Whether experiments run, asked of a store."""

from __future__ import annotations

from pathlib import Path

from neptune_async import Experiment
from neptune_async._engine.reading.states import dead_sessions, states
from neptune_async._engine.sessions.processes import this_process
from neptune_async._engine.store import opened
from neptune_async._storage.sessions import Process, Session

GONE = Process('node-2', this_process().machine or 'machine-2', 2**31, '1')


def test_the_states_of_many_experiments_take_one_statement(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    for name in 'abc':
        Experiment(name, storage=path, echo=False).close()
    statements: list[str] = []
    with opened(path) as store:
        store.open_for_writing()
        a, b, c = [found.id for found in store.ask(lambda s: s.find_experiments())]
        alive, dead = Session(b'1' * 16, a, this_process()), Session(b'2' * 16, b, GONE)
        store.ask(lambda s: s.keep_sessions([alive, dead]))
        store.ask(lambda s: s.below._connection.set_trace_callback(statements.append))
        assert store.call(states, [a, b, c]) == {a: 'running', b: 'lost', c: 'closed'}
        assert len(statements) == 1
        assert [found.session for found in store.call(dead_sessions, [a, b, c])] == [dead]
