"""What the documentation shows is so: its examples run, and select what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import anyio
import pytest

import neptune_async
from neptune_async import Experiment, list_experiments
from neptune_async._storage import registry
from neptune_async.cli import main
from neptune_async.exceptions import InvalidQueryError

DOCS = Path(__file__).parent.parent / 'docs'
QUERIES = (DOCS / 'queries.md').read_text()
TOLD = re.compile(r'^( *)(exp\b.*?[\])])(?:  +# |\n *# )(.+)$', re.MULTILINE)
"""A call, and what is said behind it, or below it, that it returns."""

STORE: dict[str, tuple[str, dict[str, Any]]] = {
    'digits-2': ('2026-10-30', {
        'params': {'lr': 0.1, 'epochs': 10, 'optimizer': 'sgd', 'pretrained': False, 'seed': None},
        'valid/acc': [0.85, 0.875], 'train/loss': [0.75], 'tags': {'rnn'}, 'error': 'no memory',
        'odd name (1)': 4, 'a': 1, 'c': 3,
    }),
    'texts-1': ('2026-10-31', {
        'params': {'lr': 0.25, 'epochs': '20', 'optimizer': 'other', 'pretrained': 1},
        'adam': 'other', 'valid/acc': [0.25, 0.75], 'train/loss': [1.5], 'tags': ['cnn'],
        'a': 2, 'b': 2, 'c': 3,
    }),
    'digits-1': ('2026-11-02', {
        'params': {'lr': 0.005, 'epochs': 20, 'optimizer': 'adam', 'pretrained': True, 'seed': 7},
        'valid/acc': [0.5, 0.95, 0.8], 'train/loss': [0.5, 0.25], 'tags': {'cnn', 'best'},
        'odd name (1)': 3, 'a': 2, 'b': 1, 'c': 3,
    }),
    'digits-3': ('2026-12-24', {
        'params': {'lr': 'auto'}, 'train/loss': [2.0], 'tags': {'cnn'}, 'error': None,
        'a': 2, 'c': 4,
    }),
}  # fmt: skip
"""When each experiment was made, and what it has. The last one is open."""

SELECTED = {
    'params/lr < 0.01': ['digits-1'],
    '`odd name (1)` = 3': ['digits-1'],
    'valid/acc.max > 0.9': ['digits-1'],
    'params/epochs >= 20': ['digits-1'],
    "params/optimizer = 'adam'": ['digits-1'],
    'params/pretrained = true': ['digits-1'],
    'params/seed != null': ['digits-1'],
    "created > '2026-11-01'": ['digits-1', 'digits-3'],
    "name ~ 'digits-*'": ['digits-2', 'digits-1', 'digits-3'],
    "'cnn' in tags": ['texts-1', 'digits-1', 'digits-3'],
    'params/lr in (0.1, 0.01)': ['digits-2'],
    'exists(error)': ['digits-2', 'digits-3'],
    "state = 'running'": ['digits-3'],
    'not (a = 1 or b = 2) and c = 3': ['digits-1'],
    # Those in the text
    'params/lr not in (0.1, 0.01)': ['texts-1', 'digits-1', 'digits-3'],
    'params/lr != 0.1': ['texts-1', 'digits-1'],
    'not params/lr = 0.1': ['texts-1', 'digits-1', 'digits-3'],
    'params/optimizer = adam': ['texts-1'],
}
"""What the examples of a query select of it."""


@pytest.fixture(params=['sqlite', 'postgres'])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Make the store that ``storage=None`` and the command line mean."""
    monkeypatch.chdir(tmp_path)
    if request.param == 'postgres':
        monkeypatch.setenv('NEPTUNE_ASYNC_STORAGE', request.getfixturevalue('postgres').url())
    anyio.run(make_experiments)
    for name, (_, contents) in STORE.items():
        exp = Experiment(name, echo=False)
        fill(exp, contents)
        if name != [*STORE][-1]:
            exp.close()
    exp.flush()
    yield
    exp.close()


async def make_experiments() -> None:
    storage = registry.create(registry.resolve(None))
    await storage.open(writable=True)
    for name, (made, _) in STORE.items():
        midnight = datetime.fromisoformat(made).replace(tzinfo=timezone.utc)
        await storage.create_experiment(name, midnight.timestamp())
    await storage.close()


def fill(exp: Experiment, contents: dict[str, Any]) -> None:
    for path, value in contents.items():
        if isinstance(value, set):
            exp[path].add(*value)
        elif isinstance(value, list) and isinstance(value[0], float):
            exp[path].extend(value)
        else:
            exp[path].assign(value)


def examples() -> list[str]:
    """Return the queries in the table."""
    rows = [line.split('|')[2].strip() for line in QUERIES.splitlines() if line.startswith('| ')]
    return [row.strip('` ') if row.count('`') == 2 else row[3:-3] for row in rows[2:]]


def test_every_example_of_a_query_is_one_whose_answer_is_known() -> None:
    assert {*examples()} <= {*SELECTED} and len(examples()) == 14
    for query in SELECTED:
        assert f'`{query}`' in QUERIES or f'`` {query} ``' in QUERIES


@pytest.mark.usefixtures('store')
def test_the_examples_of_queries_select_what_is_said_of_them() -> None:
    found = {query: list_experiments(where=query) for query in SELECTED}
    assert found == SELECTED


@pytest.mark.usefixtures('store')
def test_the_calls_with_queries_return_what_they_ask_for() -> None:
    (block,) = re.findall(r'```python\n(.*?)```', QUERIES, re.DOTALL)
    calls = [eval(line, vars(neptune_async).copy()) for line in block.splitlines()]
    listed, compared, fetched = calls
    assert listed == ['digits-1']
    assert [*compared.index] == ['digits-1', 'digits-2', 'texts-1']
    assert compared['valid/acc'].tolist() == [0.8, 0.875, 0.75]
    assert {*fetched.experiment} == {'digits-1', 'digits-2', 'digits-3'}


@pytest.mark.usefixtures('store')
def test_the_command_with_a_query_lists_what_it_asks_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (line,) = re.findall(r'```\nneptune-async (.*?)\n```', QUERIES)
    assert main([*shlex.split(line), '--json']) == 0
    printed = capsys.readouterr().out
    assert re.findall(r'"name": "(.*?)"', printed) == ['digits-1']


def test_the_mistake_that_is_shown_is_told_so() -> None:
    shown = re.search(r'```\n(the query is wrong.*\n  (.*)\n.*\^)\n```', QUERIES)
    assert shown is not None
    with pytest.raises(InvalidQueryError) as raised:
        list_experiments(where=shown[2])
    assert str(raised.value) == shown[1]


# ── Configurations ───────────────────────────────────────────────────────────


def test_the_code_about_configurations_returns_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / 'configurations.md').read_text()
    checked = 0
    for block in re.findall(r'```python\n(.*?)```', page, re.DOTALL):
        code, count = TOLD.subn(r'\1assert \2 == \3, \2', block)
        exec(code, {'__name__': __name__})  # a dataclass looks for the module that it is in
        checked += count
    assert checked == 3
