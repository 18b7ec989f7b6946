"""The interface of the ``neptune`` client 1.x, for code that was written for it: change the import.

::

    >>> import neptune_async.compat.neptune as neptune
    >>> with neptune.init_run(mode='debug', tags=['cnn']) as run:
    ...     run['parameters'] = {'lr': 0.1, 'optimizer': {'name': 'adam'}}
    ...     for loss in (0.5, 0.4):
    ...         run['train/loss'].append(loss)
    ...     run['train/loss'].fetch_last(), run['parameters/optimizer'].fetch()
    (0.4, {'name': 'adam'})

A run is an experiment in the default store (``$NEPTUNE_ASYNC_STORAGE``, else
``.neptune_async/experiments.db``), and ``run.experiment`` is that experiment,
with all that this library can do. ``sys/id`` is its name: ``custom_run_id``
where that was given, else ``EXP-1``, ``EXP-2``, ...

What differs, for the sake of what is logged:

- Nothing is dropped: NaN and the infinities, steps and timestamps that run
  back, repeated steps, integers beyond 32 bits.
- Nothing is changed: no text is cut, 0.5 assigned to a field of integers is
  0.5, and a numeric text appended to numbers is refused, not converted.
- Lists are assigned as they are. None, and what no field can hold, is left out
  with a warning, as in 1.x; ``utils.stringify_unsupported`` makes a text of it.
- A file that is missing is an error at the call that uploads it.
- Reads need neither ``wait()`` nor a network: they see what was logged, also with
  ``mode='offline'`` and ``mode='debug'``.
- A write with ``mode='read-only'`` raises, where 1.x ignored it.
- ``flush_period`` never delays what is stored by more than 0.2 seconds.

``api_token``, ``proxies`` and callbacks have no use without a server. Output,
hardware and repositories are not tracked: what asks for that is warned of. Source
code and dependencies are kept where files of them are named, and so is the
traceback of an exception that ends a ``with`` block. A project, a model
and a version of one are experiments of their own, and ``fetch_runs_table``
takes the queries of this library. ``docs/neptune.md`` tells what each method of 1.x does
here.
"""

from neptune_async.compat.neptune import exceptions, types, utils
from neptune_async.compat.neptune.handler import Handler
from neptune_async.compat.neptune.registry import Model, ModelVersion, Project
from neptune_async.compat.neptune.run import Run

__all__ = [
    'ANONYMOUS',
    'ANONYMOUS_API_TOKEN',
    'Handler',
    'Model',
    'ModelVersion',
    'Project',
    'Run',
    'exceptions',
    'init_model',
    'init_model_version',
    'init_project',
    'init_run',
    'types',
    'utils',
]

init_run = Run
init_project = Project
init_model = Model
init_model_version = ModelVersion
ANONYMOUS = ANONYMOUS_API_TOKEN = 'ANONYMOUS'
