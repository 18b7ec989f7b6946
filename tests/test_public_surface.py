"""What users may rely on, and so changes on purpose only."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.resources import files

import neptune_async
from neptune_async import (
    AsyncExperiment,
    AsyncExperimentView,
    Atom,
    Experiment,
    ExperimentView,
    Series,
    Set,
    aio,
    exceptions,
    variable,
)


def test_the_public_names() -> None:
    assert sorted(neptune_async.__all__) == [
        'AsyncExperiment', 'AsyncExperimentView', 'Atom', 'Experiment', 'ExperimentView',
        'File', 'FileReference', 'Histogram',
        'Namespace', 'Point', 'Series', 'Set', 'StoredFile', 'aio', 'compare',
        'delete_experiment', 'exceptions', 'fetch_metrics', 'files',
        'flush_on_signal', 'list_experiments', 'stringified', 'variable',
    ]  # fmt: skip
    assert all(hasattr(neptune_async, name) for name in neptune_async.__all__)


def test_both_faces_take_the_same_arguments() -> None:
    signature = (
        'name=None, *, storage=None, mode=resume, echo=None, flush_interval=0.2, '
        'max_pending=200000, max_pending_bytes=268435456, overflow=block, '
        'durability=interval, strict=True, on_error=None'
    )
    for face in (Experiment, AsyncExperiment):
        parameters = inspect.signature(face).parameters.values()
        shown = [
            f'{p.name}={p.default}' if p.kind is p.KEYWORD_ONLY or p.name == 'name' else p.name
            for p in parameters
        ]
        assert ', '.join([shown[0], '*', *shown[1:]]) == signature


def test_both_views_have_the_same_methods() -> None:
    names = [
        'add', 'all', 'assign', 'delete', 'exists', 'extend', 'follow', 'get', 'log',
        'namespace_contents', 'read', 'remove', 'reset', 'tail', 'to_arrow', 'to_dict', 'to_numpy',
        'to_pandas', 'variable_type',
    ]  # fmt: skip
    for view in (ExperimentView, AsyncExperimentView):
        assert [name for name in dir(view) if not name.startswith('_')] == names
        assert all(getattr(view, name).__doc__ for name in names)
        assert not hasattr(view, '__getattr__')


def test_both_faces_compare_and_fetch_with_the_same_arguments() -> None:
    for name in ('compare', 'fetch_metrics'):
        sync, awaited = getattr(neptune_async, name), getattr(aio, name)
        assert inspect.signature(sync) == inspect.signature(awaited)
        assert inspect.iscoroutinefunction(awaited)


def test_the_containers_name_their_methods() -> None:
    for container in (Atom, Series, Set):
        documentation = container.__doc__ or ''
        assert all(method in documentation for method in container.methods)
    assert 'Atom, Series, and Set' in (variable.__doc__ or '')


def test_every_error_is_of_one_tree_that_its_module_draws() -> None:
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        if inspect.isclass(kind) and issubclass(kind, BaseException):
            assert issubclass(kind, exceptions.NeptuneAsyncError)
            assert name in (exceptions.__doc__ or '')


def test_the_package_is_typed() -> None:
    assert files(neptune_async).joinpath('py.typed').is_file()


def test_importing_it_loads_anyio_aiosqlite_and_the_standard_library_only() -> None:
    script = (
        'import sys; before = set(sys.modules); import neptune_async\n'
        'new = {name.partition(".")[0] for name in set(sys.modules) - before}\n'
        'print(*sorted(new - set(sys.stdlib_module_names)))'
    )
    loaded = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    ).stdout.split()
    # What anyio itself needs, on some Pythons.
    theirs = {'anyio', 'aiosqlite', 'idna', 'sniffio', 'exceptiongroup', 'typing_extensions'}
    assert set(loaded) - theirs == {'neptune_async'}
