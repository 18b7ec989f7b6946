"""An experiment-tracking client: a training loop logs and goes on at once, what it logs is
kept in a file of its own, and a read sees everything that was logged before it.
"""

from neptune_async import exceptions, variable
from neptune_async.experiment import (
    Experiment,
    ExperimentView,
    delete_experiment,
    list_experiments,
)
from neptune_async.variable import Atom, Namespace, Series, Set

__all__ = [
    'Atom',
    'Experiment',
    'ExperimentView',
    'Namespace',
    'Series',
    'Set',
    'delete_experiment',
    'exceptions',
    'list_experiments',
    'variable',
]

__version__ = '0.1.0'
