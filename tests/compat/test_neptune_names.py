"""Every name of neptune 1.14 is here, or the documentation says that it is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import neptune_async.compat.neptune as neptune
from neptune_async.exceptions import NeptuneAsyncError

DOCS = (Path(__file__).parents[2] / 'docs' / 'neptune.md').read_text()
CONTAINER = """
assign container_type define exists fetch get_attribute get_root_object get_state get_structure
get_url lock ping pop print_structure set_attribute start stop sync wait
"""
HANDLER = """
add append assign clear container delete_files download download_last extend fetch
fetch_extension fetch_files_list fetch_hash fetch_last fetch_values get_root_object
list_fileset_files log pop remove track_files upload upload_files
"""
FILE = """
accept as_html as_image as_pickle content create_from extension file_type from_content from_path
from_stream is_convertable is_convertable_to_html is_convertable_to_image path
"""
METHODS: dict[Any, str] = {
    neptune.Handler: HANDLER,
    neptune.Run: f'{CONTAINER} monitoring_namespace',
    neptune.Project: f'{CONTAINER} fetch_models_table fetch_runs_table',
    neptune.Model: f'{CONTAINER} fetch_model_versions_table',
    neptune.ModelVersion: f'{CONTAINER} change_stage',
    neptune.types.File: FILE,
}
"""The public methods and attributes of each class in 1.14.0."""
EXCEPTIONS = """
AmbiguousProjectName ArtifactNotFoundException ArtifactUploadingError CannotResolveHostname
CannotSynchronizeOfflineRunsWithoutProject ClientHttpError ContainerUUIDNotFound
ExceptionWithProjectsWorkspacesListing FetchAttributeNotFoundException FileNotFound
FileSetNotFound FileSetUploadError FileUploadError Forbidden InactiveContainerException
InactiveModelException InactiveModelVersionException InactiveProjectException
InactiveRunException InternalClientError InternalServerError MalformedOperation
MetadataContainerNotFound MetadataInconsistency MissingFieldException ModelNotFound
ModelVersionNotFound NeedExistingExperimentForReadOnlyMode NeedExistingModelForReadOnlyMode
NeedExistingModelVersionForReadOnlyMode NeedExistingRunForReadOnlyMode NeptuneApiException
NeptuneCannotChangeStageManually NeptuneClientUpgradeRequiredError
NeptuneConnectionLostException NeptuneEmptyLocationException NeptuneException
NeptuneFeatureNotAvailableException NeptuneFieldCountLimitExceedException
NeptuneInvalidApiTokenException NeptuneInvalidQueryException
NeptuneLegacyIncompatibilityException NeptuneLegacyProjectException NeptuneLimitExceedException
NeptuneLocalStorageAccessException NeptuneMaxDiskUtilizationExceeded
NeptuneMissingApiTokenException NeptuneMissingProjectNameException
NeptuneMissingRequiredInitParameter NeptuneMissingRequirementException
NeptuneModelKeyAlreadyExistsError NeptuneObjectCreationConflict
NeptuneOfflineModeChangeStageException NeptuneOfflineModeException
NeptuneOfflineModeFetchException NeptuneParametersCollision NeptunePossibleLegacyUsageException
NeptuneProtectedPathException NeptuneRemoteStorageAccessException
NeptuneRemoteStorageCredentialsException NeptuneRunResumeAndCustomIdCollision
NeptuneSSLVerificationError NeptuneStorageLimitException
NeptuneSynchronizationAlreadyStoppedException NeptuneUnhandledArtifactSchemeException
NeptuneUnhandledArtifactTypeException NeptuneUnsupportedArtifactFunctionalityException
NeptuneUserApiInputException NeptuneWrongInitParametersException OperationNotSupported
PlotlyIncompatibilityException ProjectNotFound ProjectNotFoundWithSuggestions RunNotFound
RunUUIDNotFound StreamAlreadyUsedException TypeDoesNotSupportAttributeException Unauthorized
"""


@pytest.mark.parametrize('kind', METHODS, ids=lambda kind: kind.__name__)
def test_every_method_is_here_or_told_not_to_be(kind: Any) -> None:
    rows = [row for row in DOCS.splitlines() if row.startswith('| ')]
    told = {name for row in rows for name in re.findall(r'\w+', row.split('|')[1])}
    missing = {name for row in rows if '| not here' in row for name in re.findall(r'\w+', row)}
    slots = {name for base in kind.__mro__ for name in getattr(base, '__slots__', ())}
    for name in METHODS[kind].split():
        assert name in told
        assert (name in {*dir(kind)} | slots) is (name not in missing), name


def test_every_error_that_may_be_caught_can_be_imported() -> None:
    for name in EXCEPTIONS.split():
        assert issubclass(getattr(neptune.exceptions, name), NeptuneAsyncError)
    with pytest.raises(neptune.exceptions.NeptuneMissingRequiredInitParameter):
        neptune.init_model()


def test_the_callback_of_1_x_stops_a_run() -> None:
    run = neptune.init_run(mode='debug')
    neptune.utils.stop_synchronization_callback(run)
    assert run.get_state() == 'stopped'


def test_an_attribute_is_a_field_or_none() -> None:
    with neptune.init_run(mode='debug') as run:
        run['a/b'] = 5
        field = run.get_attribute('a/b')
        assert field is not None
        assert field.fetch() == 5
        assert run.get_attribute('c') is None
