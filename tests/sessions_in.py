"""Sessions in a store of a test: what they are, and how a test makes them older or another's."""

from __future__ import annotations

import sqlite3

from postgres_server import session

from neptune_async._engine.reading.states import states
from neptune_async._engine.store import opened
from neptune_async._model.states import State
from neptune_async._storage.sessions import FoundSession


def sessions_in(storage: str, name: str) -> list[FoundSession]:
    """Return the sessions of an experiment."""
    with opened(storage) as store:
        ids = [store.find(name).id]
        return store.ask(lambda s: s.find_sessions(ids))


def states_in(storage: str) -> dict[str, State]:
    """Return the state of each experiment by its name."""
    with opened(storage) as store:
        experiments = store.ask(lambda s: s.find_experiments())
        found = store.call(states, [e.id for e in experiments])
        return {e.name: found[e.id] for e in experiments}


def change_sessions(storage: str, **columns: str) -> None:
    """Set columns of all sessions to what SQL computes."""
    changes = ', '.join(f'{column} = {value}' for column, value in columns.items())
    if '://' in storage:
        with session(storage) as asked:
            asked.execute(f'UPDATE sessions SET {changes}')
    else:
        connection = sqlite3.connect(storage)
        with connection:
            connection.execute(f'UPDATE sessions SET {changes}')
        connection.close()


def age_sessions(storage: str, seconds: float) -> None:
    """Let the last sign of life of all sessions be older."""
    older = f"seen - interval '{seconds} seconds'" if '://' in storage else f'seen - {seconds}'
    change_sessions(storage, seen=older)
