"""A PostgreSQL server of the tests' own: started, killed and asked from here.

As a script it starts one, prints the URL, and stops it once its input ends.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
from anyio.from_thread import start_blocking_portal

INSTALL = 'PostgreSQL is not installed: apt-get install postgresql'
LIMIT = 60.0
PASSWORD = 'open sesame/1@2'
"""That of the role ``guarded``; all others need none."""

_OPTIONS = {
    'fsync': 'off',
    'full_page_writes': 'off',
    'listen_addresses': '*',
    'max_connections': '200',
    'shared_buffers': '64MB',
    'log_min_messages': 'fatal',
}
_HBA = """\
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host all all 10.213.0.0/16 trust
host replication all 127.0.0.1/32 trust
"""
_PR_SET_PDEATHSIG = 1


def binaries() -> Path:
    """Return the folder of the server's programs.

    :raises FileNotFoundError: there is none; says how to get it.
    """
    found = sorted(Path('/usr/lib/postgresql').glob('*/bin/postgres'))
    on_path = shutil.which('postgres')
    if not found and on_path is None:
        raise FileNotFoundError(INSTALL)
    return (found[-1] if found else Path(str(on_path))).parent


class PostgresServer:
    """A server in a temporary folder, on a free port, as another user than root.

    :param primary: makes it a hot standby of another server, which runs.
    :ivar port: the same after a restart.
    """

    def __init__(self, primary: PostgresServer | None = None) -> None:
        self._programs = binaries()
        self._folder = Path(tempfile.mkdtemp(prefix='neptune_async-postgres-'))
        self._data = self._folder / 'data'
        self._schemas = count()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        # The server refuses to run as root; Debian's package brings a user for it.
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam('postgres')
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._user = {'user': user.pw_uid, 'group': user.pw_gid, 'extra_groups': []}
        if primary is not None:
            self._run(
                'pg_basebackup', '--pgdata', self._data, '--username', 'tests', '--host',
                '127.0.0.1', '--port', primary.port, '--checkpoint', 'fast', '--no-sync',
                '--write-recovery-conf',
            )  # fmt: skip
            return
        self._run(
            'initdb', '--pgdata', self._data, '--username', 'tests', '--auth', 'trust',
            '--encoding', 'UTF8', '--locale', 'C.UTF-8', '--no-sync',
        )  # fmt: skip
        (self._data / 'pg_hba.conf').write_text(_HBA)

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)],
            check=True, stdout=subprocess.DEVNULL, cwd=self._folder, **self._user,
        )  # fmt: skip

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = {**_OPTIONS, 'unix_socket_directories': self._folder, 'port': self.port}
        settings = [word for name, value in options.items() for word in ('-c', f'{name}={value}')]
        with (self._folder / 'log').open('ab') as log:
            self._process = subprocess.Popen(
                [self._programs / 'postgres', '-D', self._data, *settings],
                stdout=log, stderr=log, cwd=self._folder, preexec_fn=_end_with_the_tests,
                **self._user,
            )  # fmt: skip
        deadline = time.monotonic() + LIMIT
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self._folder / 'log').read_text())
            time.sleep(0.02)  # between two looks at a condition, which has a bound

    def _answers(self) -> bool:
        answer = subprocess.run(
            [self._programs / 'pg_isready', '-q', '-h', '127.0.0.1', '-p', str(self.port)]
        )
        return answer.returncode == 0

    def kill(self) -> None:
        """Kill the server and all its processes without a warning."""
        assert self._process is not None
        children = _children_of(self._process.pid)
        for pid in (self._process.pid, *children):
            os.kill(pid, signal.SIGKILL)
        self._process.wait(LIMIT)
        # Until its shared memory is free, another one refuses to start.
        deadline = time.monotonic() + LIMIT
        while any(Path(f'/proc/{pid}').exists() for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # between two looks at a condition, which has a bound

    def stop(self) -> None:
        """Stop the server and forget what is in it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(LIMIT)
        shutil.rmtree(self._folder)

    def url(self, *, user: str = 'tests', port: int | None = None, schema: str = '') -> str:
        """Return the URL of a store: a new one, or the one in a schema."""
        schema = schema or f'store_{next(self._schemas)}'
        return f'postgresql://{user}@127.0.0.1:{port or self.port}/postgres?schema={schema}'


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as some:
        some.bind(('127.0.0.1', 0))
        port: int = some.getsockname()[1]
        return port


def _end_with_the_tests() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _children_of(pid: int) -> list[int]:
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [*map(int, text.split())]


class Session:
    """A connection for the tests themselves, with calls that wait, from any thread."""

    def __init__(self, portal: Any, connection: asyncpg.Connection) -> None:
        self._portal = portal
        self._connection = connection

    def execute(self, statement: str, *args: object) -> None:
        """Execute a statement, or several without arguments."""
        self._portal.call(self._connection.execute, statement, *args)

    def rows(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        found = self._portal.call(self._connection.fetch, query, *args)
        return [tuple(row) for row in found]

    def value(self, query: str, *args: object) -> Any:
        """Return the first value of a query."""
        return self._portal.call(self._connection.fetchval, query, *args)

    def listen(self, channel: str, hear: Callable[[str], object]) -> None:
        """Have a function called with the channel of each notification."""
        self._portal.call(
            self._connection.add_listener, channel, lambda _, __, channel, ___: hear(channel)
        )


@contextmanager
def session(url: str) -> Iterator[Session]:
    """Connect to the store at a URL, whose tables need no schema before their names."""
    address, _, schema = url.partition('?schema=')

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(address, server_settings={'search_path': schema})

    with start_blocking_portal() as portal:
        connection = portal.call(connect)
        try:
            yield Session(portal, connection)
        finally:
            portal.call(connection.close)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold what every batch needs, as another process might."""
    with session(url) as held:
        held.execute('BEGIN; LOCK TABLE writers IN EXCLUSIVE MODE')
        try:
            yield
        finally:
            held.execute('ROLLBACK')


def main() -> None:
    server = PostgresServer()
    try:
        server.start()
        print(server.url().partition('?')[0], flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == '__main__':
    main()
