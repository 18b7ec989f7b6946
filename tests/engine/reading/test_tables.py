"""Tables are made from a handful of queries, which read what is wanted."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neptune_async import Experiment, compare, fetch_metrics, list_experiments


def fill(path: Path, experiments: int) -> None:
    for n in range(experiments):
        with Experiment(f'run-{n}', storage=path) as exp:
            exp['train'].log({f'x{i}': i + n for i in range(20)})
            exp['params'].assign({f'p{i}': i for i in range(20)})


def on_connection(exp: Experiment, function: Callable[[sqlite3.Connection], None]) -> None:
    """Call a function with the connection that all who read the store share."""
    exp._worker.call(exp._worker.storage.below._run, function).result()  # type: ignore[attr-defined]


@pytest.mark.parametrize('experiments', [2, 60])
def test_statements_do_not_grow_with_the_number_of_experiments(
    tmp_path: Path, experiments: int
) -> None:
    path = tmp_path / 'experiments.db'
    fill(path, experiments)
    statements: list[str] = []

    def trace(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(statements.append)

    with Experiment('run-0', storage=path, mode='read') as exp:
        on_connection(exp, trace)
        frame = compare(storage=path)
        assert frame.shape == (experiments, 40)
        assert len(statements) <= 14, statements
        statements.clear()
        assert len(fetch_metrics(storage=path)) == 20 * experiments
    portions = 2 + experiments // 60  # 16 series, then the rest of them
    assert len(statements) <= 7 + 6 * portions, statements


@pytest.mark.parametrize('paths', ['*/x7', re.compile('x7$')], ids=['glob', 'pattern'])
def test_variables_that_are_not_meant_are_not_read(
    tmp_path: Path, paths: str | re.Pattern[str]
) -> None:
    path = tmp_path / 'experiments.db'
    fill(path, 30)
    rows: list[Any] = []

    def count(connection: sqlite3.Connection) -> None:
        connection.row_factory = lambda _, row: rows.append(row) or row

    with Experiment('run-0', storage=path, mode='read') as exp:
        on_connection(exp, count)
        assert compare(None, paths, storage=path).shape == (30, 1)
    # The experiments, all paths by each of two indexes, then a variable of each experiment, how
    # many points it has in chunks, and the last.
    assert len(rows) <= 30 + 2 * 40 + 3 * 30


def test_a_condition_is_looked_at_only_where_those_before_it_hold(tmp_path: Path) -> None:
    path = tmp_path / 'experiments.db'
    fill(path, 30)
    rows: list[Any] = []

    def count(connection: sqlite3.Connection) -> None:
        connection.row_factory = lambda _, row: rows.append(row) or row

    where = "name ~ 'run-1?' and params/p7 = 7 and train/x0 < 12 and train/x1.max > 0"
    with Experiment('run-0', storage=path, mode='read') as exp:
        on_connection(exp, count)
        assert list_experiments(path, where=where) == ['run-10', 'run-11']
    # All experiments, then a variable and a value of ten, of ten, and of two of them; and with a
    # value of a series, how many points it has in chunks.
    assert len(rows) <= 30 + 2 * 10 + 3 * (10 + 2)
