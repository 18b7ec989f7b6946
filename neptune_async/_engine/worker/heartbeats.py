"""Signs of life: the store learns from them which experiments a process has open for writing."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

import anyio

from neptune_async._engine.queueing.experiment_state import ExperimentState
from neptune_async._engine.sessions.liveness import is_live
from neptune_async._engine.sessions.processes import this_process
from neptune_async._engine.storing.retries import Patience
from neptune_async._engine.worker.connection import Connection
from neptune_async._messenger import messenger
from neptune_async._storage.base import Storage
from neptune_async._storage.sessions import Process, Session
from neptune_async.exceptions import StorageBusyError

WITH_A_FLUSH = 10.0
"""Seconds after a heartbeat before a flush brings the next one."""
AT_REST = 20.0
"""The same where nothing is logged. The worker looks every five seconds whether one is due."""
_LONGEST = 5.0
"""Seconds after which a heartbeat is given up. It keeps a flush waiting where a server does not
answer.
"""


class Heartbeats:
    """The sessions of this process in a store: one for each experiment that it has open for
    writing. Only the worker's loop uses them.

    They are worth no wait and no warning. If a store does not take a heartbeat, the next one comes
    in its time, and whoever looks at the store meanwhile may take the experiment for lost.

    :param states: returns the experiments that are open.
    """

    def __init__(
        self,
        storage: Storage,
        connection: Connection,
        states: Callable[[], Collection[ExperimentState]],
    ) -> None:
        self._storage = storage
        self._connection = connection
        self._states = states
        self._process: Process | None = None
        self._last = -math.inf
        self._sessions: dict[ExperimentState, Session] = {}
        self._ended: list[Session] = []
        self._is_over = False

    async def begin(self, state: ExperimentState) -> None:
        """Begin the session of an experiment that was opened for writing."""
        if await self._tried(self._keep, [state]) and len(self._sessions) == 1:
            self._last = time.monotonic()

    async def beat_if_due(self, seconds: float) -> bool:
        """Give a sign of life for all experiments, if the last one is so many seconds old.

        :returns: whether it was due.
        """
        if time.monotonic() - self._last < seconds or self._is_over:
            return False
        states = [state for state in self._states() if state.writers]
        self._withdraw([state for state in self._sessions if not state.writers])
        if not (states or self._ended):
            return False
        self._last = time.monotonic()
        await self._tried(self._keep, states)
        await self._tried(self._forget, [])
        return True

    def session_of(self, state: ExperimentState) -> Session | None:
        """Return the session of an experiment in this process, if it has begun."""
        return self._sessions.get(state)

    async def end_once(self, states: Collection[ExperimentState]) -> bool:
        """End the sessions of experiments, and those that dead processes have left of them.

        :returns: False if another process holds the store, and it may be tried again.
        """
        self._withdraw(states)
        return await self._tried(self._forget, [state.id for state in states])

    async def end(self, states: Collection[ExperimentState], patience: Patience) -> None:
        """End the sessions of experiments, as ``end_once`` does. Wait while others hold the store,
        as long as there is patience.
        """
        while True:
            if await self.end_once(states) or patience.is_over():
                return
            await anyio.sleep(patience.pause())

    async def end_all(self, patience: Patience) -> None:
        """End all sessions, as ``end`` does. No heartbeat comes after that."""
        self._is_over = True
        await self.end([*self._sessions], patience)

    def _withdraw(self, states: Collection[ExperimentState]) -> None:
        for state in states:
            session = self._sessions.pop(state, None)
            if session is not None:
                self._ended.append(session)

    async def _keep(self, states: list[ExperimentState]) -> None:
        for state in states:
            known = self._sessions.get(state) or self._drawn(state)
            # One that another process has deleted goes on under another id.
            self._sessions[state] = replace(known, experiment_id=state.id)
        if states:
            await self._storage.keep_sessions([self._sessions[state] for state in states])

    def _drawn(self, state: ExperimentState) -> Session:
        # A forked child has Heartbeats of its own.
        self._process = self._process or this_process()
        return Session(uuid.uuid4().bytes, state.id, self._process)

    async def _forget(self, experiment_ids: list[int]) -> None:
        ended = self._ended[:]
        if experiment_ids:
            found = await self._storage.find_sessions(experiment_ids)
            ended += [some.session for some in found if not is_live(some)]
        if ended:
            await self._storage.end_sessions(ended)
            self._ended = [session for session in self._ended if session not in ended]

    async def _tried(self, change: Callable[..., Awaitable[None]], argument: object) -> bool:
        """Change sessions in the store. Return False if another process holds it."""
        if not self._connection.is_writable:
            return True
        try:
            with anyio.move_on_after(_LONGEST):
                await change(argument)
        except StorageBusyError:
            return False
        except Exception as error:  # nothing else may suffer from it
            messenger.debug('the sessions of %s: %r', self._storage.location, error)
        return True
