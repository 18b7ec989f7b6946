"""The texts of errors that name an experiment, a path and a remedy: each in one place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from shlex import quote
from typing import TypeVar

from neptune_async._model.operations import Container, Variable
from neptune_async._model.paths import namespaces_of
from neptune_async.exceptions import (
    ContainerTypeError,
    ContentTypeError,
    ExperimentClosedError,
    ExperimentExistsError,
    ExperimentNotFoundError,
    FlushTimeoutError,
    MissingExtraError,
    NamespaceConflictError,
    NeptuneAsyncError,
    ReadOnlyError,
    Rejection,
    StorageBusyError,
    StorageFormatError,
    UnsupportedValueError,
    VariableNotFoundError,
)
from neptune_async.variable import Atom, Series, Set

E = TypeVar('E', bound=NeptuneAsyncError)

CONTAINERS: dict[Container, type[Atom] | type[Series] | type[Set]] = {
    'atom': Atom,
    'series': Series,
    'set': Set,
}


def advised(kind: type[E], what: str, call: str, command: str) -> E:
    """Return an error with what to do about it: in a program, and on the command line."""
    error = kind(f'{what}; {call}')
    error.on_command_line = f'{what}; {command}'
    return error


def variable_not_found(experiment: str, path: str, known: Collection[str]) -> VariableNotFoundError:
    """For a read, or a write that creates nothing, of a path where no variable is."""
    below = f'{path}/'
    inside = [other for other in known if other.startswith(below)]
    what = f'experiment {experiment!r} has no variable {path!r}'
    if inside:
        remedy = f'it is a namespace, with variables such as {inside[0]!r}'
        return VariableNotFoundError(f'{what}; {remedy}')
    return advised(
        VariableNotFoundError,
        what,
        suggestion(path, known, 'log, extend, assign and add create one'),
        suggestion(path, known, f'neptune-async show {quote(experiment)} tells which it has'),
    )


def namespace_not_found(
    experiment: str, path: str, known: Collection[str]
) -> VariableNotFoundError:
    """For the contents of a namespace where none is."""
    if path in known:
        remedy = 'it is a variable'
    else:
        namespaces = {namespace for other in known for namespace in namespaces_of(other)}
        remedy = suggestion(path, namespaces, 'a variable below it makes it one')
    return VariableNotFoundError(f'experiment {experiment!r} has no namespace {path!r}; {remedy}')


def variable_nowhere(count: int, path: str, known: Collection[str]) -> VariableNotFoundError:
    """For a path that none of several experiments has."""
    which = 'the experiment has no' if count == 1 else f'none of {count:,} experiments has a'
    what = f'{which} variable {path!r}'
    below = f'{path}/'
    if any(other.startswith(below) for other in known):
        remedy = f"it is a namespace; '{below}*' names all variables below it"
        return VariableNotFoundError(f'{what}; {remedy}')
    return advised(
        VariableNotFoundError,
        what,
        suggestion(path, known, 'namespace_contents() tells what there is'),
        suggestion(path, known, 'neptune-async show tells what there is'),
    )


def other_series(
    experiment: str, variable: Variable, wanted: str
) -> ContainerTypeError | ContentTypeError:
    """For a path that is to be a series of one content, and is something else."""
    what = (
        f'experiment {experiment!r}: {variable.path!r} is a variable of type {_type_of(variable)}'
    )
    if variable.container != 'series':
        return ContainerTypeError(f'{what}, which has no points; compare tells what it holds')
    return advised(
        ContentTypeError,
        f'{what}, not {wanted}',
        f'fetch it with content={variable.content!r}',
        'neptune-async tail and export print its points',
    )


def damaged_points(
    experiment: str,
    path: str,
    location: str,
    ranges: Sequence[str],
    why: str,
    before: int | None,
    after: int,
) -> StorageFormatError:
    """For a read that needs points that are damaged.

    :param before: how many that can be read come before those, or between them; None if nobody
        has looked.
    :param after: how many that can be read come behind them.
    """
    which = ', '.join(ranges[:2]) + (f' and {len(ranges) - 2:,} more' if len(ranges) > 2 else '')
    whole = '' if before is None else f'{before:,} points before and '
    what = (
        f'experiment {experiment!r} in {location}: {which} of {path!r} cannot be read: {why}; '
        f'{whole}{after:,} behind can be'
    )
    export = f'neptune-async export {quote(experiment)} writes all that can be read'
    if not after:
        return StorageFormatError(f'{what}; {export}')
    return advised(
        StorageFormatError,
        what,
        f'tail({after}) returns the last, and {export}',
        f'neptune-async tail -n {after} prints the last, and {export}',
    )


def damaged_value(experiment: str, path: str, location: str, why: str) -> StorageFormatError:
    """For the last value of a series that is damaged."""
    return StorageFormatError(
        f'experiment {experiment!r} in {location}: the last point of {path!r} cannot be read: '
        f'{why}; neptune-async export {quote(experiment)} writes all that can be read'
    )


def damaged_content(experiment: str, path: str, location: str, why: str) -> StorageFormatError:
    """For an atom, or a set, that is damaged."""
    return StorageFormatError(
        f'experiment {experiment!r} in {location}: what {path!r} holds cannot be read: '
        f'{why}; neptune-async export {quote(experiment)} writes all that can be read'
    )


def damaged_points_of(experiment: str, location: str, why: str) -> StorageFormatError:
    """For points of which it is not even known of which series they are."""
    return StorageFormatError(
        f'experiment {experiment!r} in {location}: some of its points cannot be read: {why}; '
        f'neptune-async export {quote(experiment)} writes all that can be read'
    )


def nothing_found(experiment: str, path: str, known: Collection[str]) -> VariableNotFoundError:
    """For a path that is to be a variable or a namespace, and is neither."""
    paths = {*known, *(namespace for other in known for namespace in namespaces_of(other))}
    return VariableNotFoundError(
        f'experiment {experiment!r} has neither a variable nor a namespace {path!r}; '
        + suggestion(path, paths, "'' is the whole experiment")
    )


def located(error: E, experiment: str, path: str | None = None) -> E:
    """Return a refusal of an argument as one that says where the argument was given."""
    where = f'experiment {experiment!r}' if path is None else f'experiment {experiment!r}, {path!r}'
    return type(error)(f'{where}: {error}')


def wrong_container(
    experiment: str, path: str, container: Container, method: str
) -> ContainerTypeError:
    """For a method that the variable's container does not have."""
    actual = CONTAINERS[container]
    what = f'experiment {experiment!r}: {path!r} is a variable of type {actual.__name__}'
    error = ContainerTypeError(
        f'{what}, which has no method {method}; it has {", ".join(actual.methods)}'
    )
    show = f'neptune-async show {quote(experiment)} {quote(path)}'
    error.on_command_line = f'{what}, which is no series; {show} tells what it holds'
    return error


def wrong_content(
    experiment: str, path: str, container: Container, content: str, offered: str
) -> ContentTypeError:
    """For a value of another type than the variable holds."""
    verb, other = ('log', 'a series') if container == 'series' else ('add', 'a set')
    remedy = '' if container == 'series' else ', or reset it'
    return ContentTypeError(
        f'cannot {verb} a new type to {other}: {path!r} of experiment {experiment!r} holds '
        f'{content}, not {offered}; use another path{remedy}'
    )


def is_a_namespace(experiment: str, path: str) -> NamespaceConflictError:
    """For a variable's method on a path that has variables below it."""
    return NamespaceConflictError(
        f'cannot assign to an existing namespace: {path!r} of experiment {experiment!r} has '
        'variables below it; use a path below it, or delete it first'
    )


def is_a_variable(experiment: str, path: str, variable: str) -> NamespaceConflictError:
    """For a path below a variable."""
    return NamespaceConflictError(
        f'cannot make a namespace of an existing variable: {variable!r} of experiment '
        f'{experiment!r} is a variable, so nothing can be at {path!r}; use another path, or '
        'delete the variable first'
    )


def read_only(experiment: str) -> ReadOnlyError:
    """For a write in mode 'read'."""
    return ReadOnlyError(
        f"experiment {experiment!r} was opened with mode='read'; open it with mode='resume' "
        'to write to it'
    )


def closed(experiment: str) -> ExperimentClosedError:
    """For a call after close."""
    return ExperimentClosedError(
        f'experiment {experiment!r} is closed; open it again with Experiment({experiment!r})'
    )


def flush_timeout(experiment: str, pending: int, timeout: float | None) -> FlushTimeoutError:
    """For a flush that took longer than allowed."""
    return FlushTimeoutError(
        f'experiment {experiment!r}: {pending:,} operations were not stored within {timeout} '
        'seconds; they stay queued, and are tried again',
        pending,
    )


def not_open() -> ExperimentClosedError:
    """For a call on an AsyncExperiment before it was opened."""
    return ExperimentClosedError(
        'the experiment is not open yet; use `async with AsyncExperiment(...) as exp` or '
        '`exp = await AsyncExperiment.open(...)`'
    )


def not_pickled(path: str) -> UnsupportedValueError:
    """For the pickling of a view whose experiment would have to be awaited."""
    return UnsupportedValueError(
        'the view of an AsyncExperiment cannot be pickled, for nobody could await there that its '
        f'experiment opens; pickle the experiment, open it there, and take experiment[{path!r}]'
    )


def experiment_not_found(
    experiment: str, location: str, known: Collection[str]
) -> ExperimentNotFoundError:
    """For an experiment that has to be there and is not."""
    return advised(
        ExperimentNotFoundError,
        f'there is no experiment {experiment!r} in {location}',
        suggestion(experiment, known, 'list_experiments() tells which there are'),
        suggestion(experiment, known, 'neptune-async list tells which there are'),
    )


def rejection(experiment: str, wanted: Variable, there: Variable) -> Rejection:
    """For operations on a variable that another process made of another type."""
    return Rejection(
        experiment,
        wanted.path,
        f'create {_type_of(wanted)}',
        f'another process made it a variable of type {_type_of(there)}; use another path',
    )


def experiment_exists(experiment: str, location: str) -> ExperimentExistsError:
    """For a new experiment whose name is taken."""
    return ExperimentExistsError(
        f'there is an experiment {experiment!r} in {location} already; choose another name, '
        "or mode='resume' to go on with that one"
    )


def name_taken(experiment: str, name: str, location: str) -> ExperimentExistsError:
    """For a new name that another experiment has."""
    return ExperimentExistsError(
        f'experiment {experiment!r} cannot be renamed: there is an experiment {name!r} in '
        f'{location} already; choose another name'
    )


def open_elsewhere(experiment: str, pid: int, host: str) -> StorageBusyError:
    """For a change that no other process may be in the way of."""
    return StorageBusyError(
        f'experiment {experiment!r} cannot be renamed while another process has it open: process '
        f'{pid} on {host}; close it there first'
    )


def fork_exists(experiment: str, location: str) -> ExperimentExistsError:
    """For a fork whose name is taken, perhaps by what a call that failed has made."""
    return ExperimentExistsError(
        f'there is an experiment {experiment!r} in {location} already; choose another name, or '
        f'delete_experiment({experiment!r}) first, if it is of a fork that failed'
    )


def deleted_meanwhile(experiment: str) -> Rejection:
    """For what a process logged before it died to a variable that is not there any more."""
    return Rejection(
        experiment, '*', 'journal', 'the variable was deleted before this could be stored'
    )


def missing_extra(module: str, extra: str) -> MissingExtraError:
    """For a call that needs a library that is not installed."""
    return MissingExtraError(
        f"this needs {module}, which is not installed; pip install 'neptune-async[{extra}]'"
    )


def _type_of(variable: Variable) -> str:
    return f'{CONTAINERS[variable.container].__name__} of {variable.content}'


def suggestion(wanted: str, known: Collection[str], otherwise: str) -> str:
    """Name what is nearest to something that is not there, or say something else."""
    near = get_close_matches(wanted, known)
    return f'did you mean {" or ".join(map(repr, near))}?' if near else otherwise
