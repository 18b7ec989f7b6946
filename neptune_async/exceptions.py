"""Every error that the library raises.

::

    NeptuneAsyncError
    ├── InvalidArgumentError (ValueError)         any other argument is refused
    ├── InvalidNameError (ValueError)             an experiment's name is refused
    ├── InvalidPathError (ValueError)             a path is refused
    ├── InvalidQueryError (ValueError)            a query is none, and where
    ├── InvalidStepError (ValueError)             a step is refused
    ├── InvalidTimestampError (ValueError)        a timestamp is refused
    ├── UnsupportedValueError (TypeError)         no variable can hold such a value
    ├── UnreadableFileError (OSError)             a file that is to be kept cannot be copied
    ├── ContentTypeError (TypeError)              this variable holds another type of content
    ├── ContainerTypeError (TypeError, AttributeError)
    │                                             this variable has no such method
    ├── NamespaceConflictError (TypeError, AttributeError)
    │                                             a path is both variable and namespace
    ├── VariableNotFoundError (AttributeError, KeyError)
    │                                             there is no variable at a path
    ├── ExperimentNotFoundError (LookupError)     mode 'read', or a deletion, of an unknown name
    ├── ExperimentExistsError (ValueError)        mode 'create' of a known name
    ├── ExperimentClosedError                     a call on a closed experiment
    ├── ReadOnlyError                             a write in mode 'read'
    ├── MissingExtraError (ImportError)           a library that the call needs is not installed
    ├── QueueFullError                            max_pending is reached, overflow='raise'
    ├── FlushTimeoutError (TimeoutError)          flush or close took longer than allowed
    ├── WorkerThreadError (RuntimeError)          a wait on the thread that it would wait for
    ├── RejectedOperationsError                   storage refused operations that were accepted
    └── StorageError                              the store failed
        ├── InvalidStorageError (ValueError)      a storage URL is not understood
        ├── StorageFormatError                    a file is damaged, foreign or of a newer schema
        └── StorageBusyError                      other processes hold the store

A bad argument raises at the call that made it. A fault of the store surfaces
only in ``flush``, ``close``, a read and ``on_error``: never inside a training
loop that only writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    'ContainerTypeError',
    'ContentTypeError',
    'ExperimentClosedError',
    'ExperimentExistsError',
    'ExperimentNotFoundError',
    'FlushTimeoutError',
    'InvalidArgumentError',
    'InvalidNameError',
    'InvalidPathError',
    'InvalidQueryError',
    'InvalidStepError',
    'InvalidStorageError',
    'InvalidTimestampError',
    'MissingExtraError',
    'NamespaceConflictError',
    'NeptuneAsyncError',
    'QueueFullError',
    'ReadOnlyError',
    'RejectedOperationsError',
    'Rejection',
    'StorageBusyError',
    'StorageError',
    'StorageFormatError',
    'UnreadableFileError',
    'UnsupportedValueError',
    'VariableNotFoundError',
    'WorkerThreadError',
]


class NeptuneAsyncError(Exception):
    """The root of every error that the library raises.

    :ivar on_command_line: the message for who called a verb of ``neptune-async``, where what is to
        be done is another thing there than in a program; else None.
    """

    on_command_line: str | None = None


class InvalidArgumentError(NeptuneAsyncError, ValueError):
    """An argument is none of the values that it may have."""


class InvalidNameError(NeptuneAsyncError, ValueError):
    """An experiment's name is empty, too long, or holds characters that are refused."""


class InvalidPathError(NeptuneAsyncError, ValueError):
    """A path is empty, not a str, too long, or holds characters that are refused."""


class InvalidQueryError(NeptuneAsyncError, ValueError):
    """A query is none. The message says what was expected, and shows where, on lines of its own."""


class InvalidStepError(NeptuneAsyncError, ValueError):
    """A step is neither an int within 2**53 nor a finite float."""


class InvalidTimestampError(NeptuneAsyncError, ValueError):
    """A timestamp is neither finite seconds since the epoch nor a datetime."""


class UnsupportedValueError(NeptuneAsyncError, TypeError):
    """A value is of a kind that the container cannot hold without changing it."""


class UnreadableFileError(NeptuneAsyncError, OSError):
    """A file that is to be kept cannot be copied: it is missing, no regular file, or changes."""


class ContentTypeError(NeptuneAsyncError, TypeError):
    """A Series or a Set was given a value of another type than it holds."""


class ContainerTypeError(NeptuneAsyncError, TypeError, AttributeError):
    """A method was called that the variable's container does not have."""


class NamespaceConflictError(NeptuneAsyncError, TypeError, AttributeError):
    """A path cannot be a variable and a namespace at once."""


class VariableNotFoundError(NeptuneAsyncError, AttributeError, KeyError):
    """There is no variable, or no namespace, at the path."""

    def __str__(self) -> str:
        # KeyError's own __str__ would show the message as a quoted repr.
        return Exception.__str__(self)


class ExperimentNotFoundError(NeptuneAsyncError, LookupError):
    """No experiment of that name is in the store."""


class ExperimentExistsError(NeptuneAsyncError, ValueError):
    """An experiment of that name is in the store already."""


class ExperimentClosedError(NeptuneAsyncError):
    """The experiment was closed before the call."""


class ReadOnlyError(NeptuneAsyncError):
    """A write was called on an experiment that was opened with ``mode='read'``."""


class MissingExtraError(NeptuneAsyncError, ImportError):
    """A library that the call needs is not installed; the message says which extra brings it."""


class QueueFullError(NeptuneAsyncError):
    """``max_pending`` operations wait for storage, and ``overflow='raise'``."""


class FlushTimeoutError(NeptuneAsyncError, TimeoutError):
    """Storage did not take everything within the timeout; what is left stays queued.

    :ivar pending: how many operations were not committed when the time was up.
    """

    def __init__(self, message: str, pending: int = 0) -> None:
        super().__init__(message, pending)
        self.pending = pending

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerThreadError(NeptuneAsyncError, RuntimeError):
    """A call that waits for the worker was made on the worker's own thread, or in a signal handler
    or finalizer that interrupts what the worker waits for.
    """


@dataclass(frozen=True)
class Rejection:
    """What storage refused of one variable: a row of the table of rejected operations."""

    experiment: str
    path: str
    operation: str
    reason: str
    count: int = 1

    def __str__(self) -> str:
        return (
            f'{self.experiment!r}: {self.path!r}: {self.operation} ({self.count} operations): '
            f'{self.reason}'
        )


class RejectedOperationsError(NeptuneAsyncError):
    """Storage refused operations that the call had accepted; the others were stored.

    :ivar rejections: what was refused, and why.
    """

    def __init__(self, rejections: Sequence[Rejection]) -> None:
        super().__init__(tuple(rejections))
        self.rejections: tuple[Rejection, ...] = tuple(rejections)

    def __str__(self) -> str:
        shown = '; '.join(str(rejection) for rejection in self.rejections[:3])
        more = len(self.rejections) - 3
        return f'storage rejected operations, the rest was stored: {shown}' + (
            f'; and {more} more' if more > 0 else ''
        )


class StorageError(NeptuneAsyncError):
    """The store cannot be opened, read or written."""


class InvalidStorageError(StorageError, ValueError):
    """A storage URL names no known kind of store."""


class StorageFormatError(StorageError):
    """The store is damaged, was written by something else, or by a newer version."""


class StorageBusyError(StorageError):
    """Other processes hold the store; the operation can be tried again."""
