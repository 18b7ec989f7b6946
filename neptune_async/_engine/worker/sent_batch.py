"""A batch on its way to storage, and the experiments that have a part in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.storing.batches import Renames
from neptune_async._model.operations import Batch, Part
from neptune_async._storage.base import Receipt, VariableConflict


@dataclass(frozen=True, slots=True)
class SentBatch:
    """A batch on its way to storage, and the states of its experiments by name."""

    batch: Batch
    states: dict[str, ExperimentState]

    @property
    def is_synced(self) -> bool:
        """Whether an experiment wants each commit forced to disk."""
        return any(state.is_synced for state in self.states.values())

    def new_part(self, state: ExperimentState) -> Part:
        """Add a part for an experiment, still empty, and return it."""
        part = state.new_part()
        self.states[state.name] = state
        self.batch.parts.append(part)
        return part

    def drop_last_part(self) -> None:
        """Remove the last part, which is empty."""
        del self.states[self.batch.parts.pop().name]

    def copied(self, states: Iterable[ExperimentState]) -> SentBatch:
        """Return a copy that creates all variables that it names. It is empty if none of the
        experiments has a part in this batch.

        Another process may store the copy while this batch is on its way: storage takes only one
        of the two.
        """
        if not any(state in self.states.values() for state in states):
            return SentBatch(replace(self.batch, parts=[]), {})
        copy = SentBatch(
            replace(self.batch, parts=[replace(part) for part in self.batch.parts]), self.states
        )
        copy.bring_all_variables()
        return copy

    def count_retry(self) -> None:
        """Count one more retry for each experiment."""
        for state in self.states.values():
            state.retries += 1

    def bring_all_variables(self) -> None:
        """Let each part create all variables that it names. Then no state is needed to store it."""
        for part in self.batch.parts:
            self.states[part.name].bring_variables(part)

    def bring_variables(self, experiment_id: int) -> None:
        """Let the part of an experiment create all variables that it names."""
        for part in self.batch.parts:
            if part.experiment_id == experiment_id:
                self.states[part.name].bring_variables(part)

    def give_way(self, conflict: VariableConflict, renames: Renames) -> None:
        """Use the variables that other processes created first, and reject what does not fit."""
        for part in self.batch.parts:
            renames.resolve(part, conflict)
            for (experiment_id, variable_id), there in conflict.found.items():
                if experiment_id == part.experiment_id:
                    self.states[part.name].yield_to(variable_id, there)

    def adopt(self, receipt: Receipt) -> None:
        """Give each experiment the id and epoch that it has after the batch."""
        for part in self.batch.parts:
            record = receipt.experiments.get(part.experiment_id)
            if record is not None:
                self.states[part.name].adopt(record)
