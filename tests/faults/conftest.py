from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Child, Ended, Store, Tally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """What the table of failures says of this test."""
    counts = Tally()
    # The dict itself: it is read when the test is over.
    request.node.user_properties.append(('tally', vars(counts)))
    return counts


@pytest.fixture
def store(tmp_path: Path, tally: Tally) -> Store:
    """A store that does not exist yet."""
    return Store(tmp_path / 'experiments.db', tally)


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> str:
    """What runs beside the threads of each child; the test's own process is never busy."""
    what: str = getattr(request, 'param', 'idle')
    return what


@pytest.fixture
def start(
    request: pytest.FixtureRequest, tmp_path: Path, store: Store, tally: Tally, beside: str
) -> Iterator[Callable[..., Child]]:
    """Start a script in a process of its own, which the end of the test ends."""
    children: list[Child] = []
    inherited: dict[str, str | None] = {'STORE': str(store.path)}
    if request.node.get_closest_marker('unmeasured'):
        inherited |= {'COVERAGE_PROCESS_CONFIG': None, 'COVERAGE_PROCESS_START': None}

    def start_child(script: str, *arguments: object, **options: Any) -> Child:
        env = {**inherited, **options.pop('env', {})}
        options = {'tally': tally, 'env': env, 'busy': beside == 'busy', **options}
        child = Child(tmp_path, script, *arguments, **options)
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
