"""What variables hold now."""

from __future__ import annotations

from typing import TypeAlias

from neptune_async._engine.reading.values import decoded
from neptune_async._engine.worker.worker import Worker
from neptune_async._model import messages
from neptune_async._model.operations import Variable
from neptune_async._model.values import AtomValue, SetMember
from neptune_async._storage.base import Damaged, Latest
from neptune_async.files import Histogram

Value: TypeAlias = 'AtomValue | Histogram | set[SetMember]'
"""What a variable holds: of a series, the last value."""


def value_of(worker: Worker, experiment: str, variable: Variable, latest: Latest) -> Value:
    """Return what a variable holds: of a series the last value, None if it has no point.

    :raises StorageFormatError: it is damaged.
    """
    path = variable.path
    if variable.container == 'series':
        last = latest.series.get(variable.id)
        if isinstance(last, Damaged):
            raise messages.damaged_value(experiment, path, worker.location, last.why)
        return None if last is None else last.value
    if variable.id in latest.damaged:
        why = latest.damaged[variable.id].why
        raise messages.damaged_content(experiment, path, worker.location, why)
    if variable.container == 'set':
        members = latest.sets.get(variable.id, ())
        return {decoded(worker, experiment, path, member) for member in members}
    stored = latest.atoms.get(variable.id)
    return None if stored is None else decoded(worker, experiment, path, stored)
