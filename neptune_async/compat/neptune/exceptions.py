"""The errors that code for 1.x catches, by their names there."""

from neptune_async.exceptions import (
    ExperimentClosedError,
    ExperimentNotFoundError,
    NamespaceConflictError,
    NeptuneAsyncError,
    VariableNotFoundError,
)

__all__ = [
    'InactiveRunException',
    'MetadataInconsistency',
    'MissingFieldException',
    'NeptuneException',
    'RunNotFound',
]

NeptuneException = NeptuneAsyncError
MissingFieldException = VariableNotFoundError
MetadataInconsistency = NamespaceConflictError
RunNotFound = ExperimentNotFoundError
InactiveRunException = ExperimentClosedError
