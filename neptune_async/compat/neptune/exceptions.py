"""The errors that code for 1.x catches, by their names there."""

from neptune_async.exceptions import (
    ContainerTypeError,
    ExperimentClosedError,
    ExperimentNotFoundError,
    InvalidArgumentError,
    NamespaceConflictError,
    NeptuneAsyncError,
    UnreadableFileError,
    VariableNotFoundError,
)

__all__ = [
    'FileNotFound',
    'FileUploadError',
    'InactiveRunException',
    'MetadataInconsistency',
    'MissingFieldException',
    'NeptuneException',
    'NeptuneUserApiInputException',
    'RunNotFound',
    'StreamAlreadyUsedException',
    'TypeDoesNotSupportAttributeException',
]

NeptuneException = NeptuneAsyncError
MissingFieldException = VariableNotFoundError
MetadataInconsistency = NamespaceConflictError
RunNotFound = ExperimentNotFoundError
InactiveRunException = ExperimentClosedError
NeptuneUserApiInputException = InvalidArgumentError
TypeDoesNotSupportAttributeException = ContainerTypeError
FileNotFound = FileUploadError = UnreadableFileError


class StreamAlreadyUsedException(NeptuneAsyncError):
    """A file that was made of a stream is uploaded a second time."""
