"""What people have written of experiments: the texts at the path ``description``."""

from __future__ import annotations

from collections.abc import Sequence

from neptune_async._engine.reading.latest import value_of
from neptune_async._engine.worker.worker import Worker
from neptune_async._storage.base import ExperimentSummary
from neptune_async.exceptions import StorageFormatError

PATH = 'description'


async def descriptions(
    worker: Worker, experiments: Sequence[ExperimentSummary]
) -> tuple[dict[int, str], list[StorageFormatError]]:
    """Return the description of each experiment that has one, by its id, and what is to be said of
    those that cannot be read. Only an atom that is a text counts.
    """
    names = {experiment.id: experiment.name for experiment in experiments}
    found = await worker.connection.ask(lambda storage: storage.find_variables([*names], [PATH]))
    atoms = {
        experiment_id: [variable for variable in some if variable.container == 'atom']
        for experiment_id, some in found.items()
    }
    latest = await worker.connection.ask(lambda storage: storage.read_latest(atoms))
    texts: dict[int, str] = {}
    damaged = []
    for experiment_id, some in atoms.items():
        for variable in some:
            try:
                value = value_of(worker, names[experiment_id], variable, latest)
            except StorageFormatError as error:
                damaged.append(error)
            else:
                if isinstance(value, str):
                    texts[experiment_id] = value
    return texts, damaged
