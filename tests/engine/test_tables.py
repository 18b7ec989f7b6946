"""Tables are made from a handful of queries."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from neptune_async import Experiment, compare, fetch_metrics


@pytest.mark.parametrize('experiments', [2, 60])
def test_statements_do_not_grow_with_the_number_of_experiments(
    tmp_path: Path, experiments: int
) -> None:
    path = tmp_path / 'experiments.db'
    for n in range(experiments):
        with Experiment(f'run-{n}', storage=path) as exp:
            exp['train'].log({f'x{i}': i + n for i in range(20)})
            exp['params'].assign({f'p{i}': i for i in range(20)})
    statements: list[str] = []

    def trace(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(statements.append)

    with Experiment('run-0', storage=path, mode='read') as exp:
        # It shares worker and connection with what reads the same store.
        exp._worker.call(exp._worker.storage._run, trace).result()  # type: ignore[attr-defined]
        frame = compare(storage=path)
        assert frame.shape == (experiments, 40)
        assert len(statements) <= 8
        statements.clear()
        assert len(fetch_metrics(storage=path)) == 20 * experiments
    portions = 2 + experiments // 60  # 16 series, then the rest of them
    assert len(statements) <= 2 + 6 * portions
