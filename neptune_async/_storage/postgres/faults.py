"""What an error of asyncpg or of the server means: for whom, and what to do."""

from __future__ import annotations

import asyncio
import json

import asyncpg

from neptune_async._model.operations import Variable
from neptune_async._storage.base import StaleEpoch, VariableConflict
from neptune_async.exceptions import StorageBusyError, StorageError, StorageFormatError

CONFLICT, STALE, STORED, GONE, MISSING = 'NA001', 'NA002', 'NA003', 'NA004', 'NA005'
"""What functions.sql raises."""

TIMEOUTS = (TimeoutError, asyncio.TimeoutError)
"""The same one from Python 3.11 on."""

_BUSY = (
    '40001',  # two transactions were in each other's way
    '40P01',  # each waited for the other
    '55P03',  # lock_timeout
)
_OPERATION = ('22', '23', '54', 'P0')
"""Classes of what one operation may be to blame for: its data, a constraint or trigger that
somebody has added, a limit of the server's."""
_REMEDIES = {
    '28': 'check user and password, and what pg_hba.conf says of them',
    '3D': 'create the database, or name another one',
    '25': 'the server is read-only, a standby perhaps: name the primary, or only read from it',
    '42': 'was its schema changed, or has the role no right to it? Grant it, or name another role',
    '53100': 'its disk is full: make room',
    '53300': 'it has too many connections: raise max_connections, or pool them',
    '57P': 'it is starting or stopping',
}


class BatchIsStored(Exception):
    """An earlier attempt has stored the batch."""


class OperationFault(Exception):
    """The server refuses what an operation holds, or it cannot even be sent."""


def translated(error: Exception, location: str) -> Exception:
    """Return the error of ours for what asyncpg has raised."""
    error = _first(error)
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, location)
    if isinstance(error, asyncpg.DataError):
        return OperationFault(_shown(error))
    if isinstance(error, TIMEOUTS):
        return StorageError(f'the store {location} does not answer in time')
    if isinstance(error, MemoryError):
        # Not the batch's fault: it is tried again.
        return StorageError(f'there is no memory to go on with {location}')
    # RuntimeError: the interpreter is ending, and starts no more threads to resolve a name.
    if isinstance(
        error, (OSError, RuntimeError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    ):
        return StorageError(f'the store {location} cannot be reached: {_shown(error)}')
    return OperationFault(f'{type(error).__name__}: {_shown(error)}')


def _of_server(error: asyncpg.PostgresError, location: str) -> Exception:
    code = error.sqlstate or ''
    if code == CONFLICT:
        return VariableConflict(_conflicts(error))
    if code == STALE:
        return StaleEpoch(int(error.detail))
    if code == STORED:
        return BatchIsStored()
    if code == GONE:
        return StorageFormatError(
            f'the store {location} has lost what it had: {_shown(error)}; was an older copy of the '
            'database put in its place?'
        )
    if code == MISSING:
        return OperationFault(_shown(error))
    if code in _BUSY:
        return StorageBusyError(f'the store {location} is held by others: {_shown(error)}')
    if code[:2] in _OPERATION:
        return OperationFault(f'{type(error).__name__}: {_shown(error)}')
    remedy = next((told for begin, told in _REMEDIES.items() if code.startswith(begin)), None)
    return StorageError(
        f'the store {location} failed: {_shown(error)} (SQLSTATE {code})'
        + (f'; {remedy}' if remedy else '')
    )


def _conflicts(error: asyncpg.PostgresError) -> dict[tuple[int, int], Variable]:
    experiment_id, found = json.loads(error.detail)
    return {(experiment_id, wanted): Variable(*there) for wanted, *there in found}


def _first(error: Exception) -> Exception:
    """Return the error that ended a transaction. Where the connection has ended, too, asyncpg
    raises another that only says that the transaction cannot be ended.
    """
    before = error.__context__
    is_consequence = isinstance(error, asyncpg.InterfaceError) and str(error).startswith(
        'cannot call Transaction.'
    )
    return _first(before) if is_consequence and isinstance(before, Exception) else error


def _shown(error: Exception) -> str:
    """Return what an error says, on one line: a server adds lines, such as DETAIL and HINT."""
    return '; '.join(str(error).splitlines()) or type(error).__name__
