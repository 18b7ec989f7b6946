"""The errors of 1.x by their names there, so that what catches one can be imported.

Each is the error of this library that is raised in its place; one that only a server could
cause is never raised.
"""

from neptune_async.exceptions import (
    ContainerTypeError,
    ExperimentClosedError,
    ExperimentExistsError,
    ExperimentNotFoundError,
    InvalidArgumentError,
    InvalidQueryError,
    MissingExtraError,
    NamespaceConflictError,
    NeptuneAsyncError,
    UnreadableFileError,
    UnsupportedValueError,
    VariableNotFoundError,
)


class StreamAlreadyUsedException(NeptuneAsyncError):
    """A file that was made of a stream is uploaded a second time."""


class ServerException(NeptuneAsyncError):
    """What only a server, or the way to it, could cause: it is never raised."""


NeptuneException = NeptuneAsyncError
MissingFieldException = FetchAttributeNotFoundException = VariableNotFoundError
MetadataInconsistency = NamespaceConflictError
TypeDoesNotSupportAttributeException = ContainerTypeError
OperationNotSupported = MalformedOperation = UnsupportedValueError

RunNotFound = ModelNotFound = ModelVersionNotFound = ExperimentNotFoundError
MetadataContainerNotFound = ContainerUUIDNotFound = RunUUIDNotFound = ExperimentNotFoundError
NeptuneObjectCreationConflict = NeptuneModelKeyAlreadyExistsError = ExperimentExistsError
InactiveContainerException = InactiveRunException = InactiveProjectException = ExperimentClosedError
InactiveModelException = InactiveModelVersionException = ExperimentClosedError

NeptuneUserApiInputException = NeptuneParametersCollision = InvalidArgumentError
NeptuneRunResumeAndCustomIdCollision = NeptuneMissingRequiredInitParameter = InvalidArgumentError
NeptuneWrongInitParametersException = NeedExistingRunForReadOnlyMode = InvalidArgumentError
NeedExistingExperimentForReadOnlyMode = NeedExistingModelForReadOnlyMode = InvalidArgumentError
NeedExistingModelVersionForReadOnlyMode = InvalidArgumentError
NeptuneInvalidQueryException = InvalidQueryError
NeptuneMissingRequirementException = MissingExtraError

FileNotFound = FileUploadError = FileSetUploadError = UnreadableFileError
NeptuneLocalStorageAccessException = NeptuneEmptyLocationException = UnreadableFileError
ArtifactUploadingError = UnreadableFileError
FileSetNotFound = ArtifactNotFoundException = VariableNotFoundError
NeptuneUnhandledArtifactSchemeException = InvalidArgumentError
NeptuneUnsupportedArtifactFunctionalityException = InvalidArgumentError

InternalClientError = NeptuneApiException = ClientHttpError = InternalServerError = ServerException
Unauthorized = Forbidden = CannotResolveHostname = NeptuneSSLVerificationError = ServerException
NeptuneConnectionLostException = NeptuneClientUpgradeRequiredError = ServerException
NeptuneInvalidApiTokenException = NeptuneMissingApiTokenException = ServerException
ProjectNotFound = ProjectNotFoundWithSuggestions = AmbiguousProjectName = ServerException
ExceptionWithProjectsWorkspacesListing = NeptuneMissingProjectNameException = ServerException
CannotSynchronizeOfflineRunsWithoutProject = NeptuneOfflineModeException = ServerException
NeptuneOfflineModeFetchException = NeptuneOfflineModeChangeStageException = ServerException
NeptuneProtectedPathException = NeptuneCannotChangeStageManually = ServerException
NeptuneLimitExceedException = NeptuneFieldCountLimitExceedException = ServerException
NeptuneStorageLimitException = NeptuneMaxDiskUtilizationExceeded = ServerException
NeptuneRemoteStorageCredentialsException = NeptuneRemoteStorageAccessException = ServerException
NeptuneUnhandledArtifactTypeException = NeptuneFeatureNotAvailableException = ServerException
NeptuneLegacyProjectException = NeptuneLegacyIncompatibilityException = ServerException
NeptunePossibleLegacyUsageException = PlotlyIncompatibilityException = ServerException
NeptuneSynchronizationAlreadyStoppedException = ServerException
