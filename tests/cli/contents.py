"""All that is in a store, to be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from neptune_async import Atom, Experiment, Series, list_experiments
from neptune_async._engine.store import Store
from neptune_async._transfer.exported_files import Contents
from neptune_async.variable import Namespace

NO_FILES = Contents(cast(Store, None))
"""For writers that meet no file."""


def contents(storage: Path) -> dict[str, dict[str, Any]]:
    """Return type and values of every variable, by experiment and path; reprs, in which NaN is
    NaN and -0.0 is not 0.0.
    """
    return {name: experiment_contents(storage, name) for name in list_experiments(storage)}


def experiment_contents(storage: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with Experiment(name, storage=storage, mode='read', echo=False) as exp:
        for path in _paths(exp, ''):
            view = exp[path]
            container, content = view.variable_type()
            if container is Series:
                value: Any = view.all(with_steps=True, with_timestamps=True)
            else:
                value = view.read() if container is Atom else sorted(view.get())
            found[path] = (container.__name__, content.__name__, repr(value))
    return found


def _paths(exp: Experiment, prefix: str) -> list[str]:
    inside = (exp[prefix] if prefix else exp).namespace_contents()
    paths: list[str] = []
    for name, kind in inside.items():
        path = f'{prefix}/{name}' if prefix else name
        paths += _paths(exp, path) if kind is Namespace else [path]
    return paths
