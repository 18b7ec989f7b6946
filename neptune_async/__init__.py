"""An experiment-tracking client: a training loop logs and goes on at once, what it logs is
kept in a file of its own, and a read sees everything that was logged before it.
"""

from neptune_async import aio, exceptions, files, variable
from neptune_async._model.stringifying import stringified
from neptune_async.aio import AsyncExperiment, AsyncExperimentView
from neptune_async.experiment import (
    Experiment,
    ExperimentView,
    StoredFile,
    compare,
    delete_experiment,
    fetch_metrics,
    list_experiments,
)
from neptune_async.files import File, FileReference, Histogram
from neptune_async.signals import flush_on_signal
from neptune_async.variable import Atom, Namespace, Point, Series, Set

__all__ = [
    'AsyncExperiment',
    'AsyncExperimentView',
    'Atom',
    'Experiment',
    'ExperimentView',
    'File',
    'FileReference',
    'Histogram',
    'Namespace',
    'Point',
    'Series',
    'Set',
    'StoredFile',
    'aio',
    'compare',
    'delete_experiment',
    'exceptions',
    'fetch_metrics',
    'files',
    'flush_on_signal',
    'list_experiments',
    'stringified',
    'variable',
]

__version__ = '0.1.0'
