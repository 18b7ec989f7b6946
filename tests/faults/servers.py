"""What comes between a store in PostgreSQL and those that write to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from postgres_server import PostgresServer, locked, session

from .harness import Store, Tally

Fault = Literal['lose the reply', 'lose the request', 'swallow']


class ServerStore(Store):
    """A store in PostgreSQL, and the oracle that judges it."""

    def __init__(self, url: str, folder: Path, tally: Tally) -> None:
        super().__init__(url, tally)  # type: ignore[arg-type]  # only this class looks at the path
        self.url = url
        self._folder = folder

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        with session(self.url) as asked:
            return asked.rows(statement)

    def points(self) -> int:
        ((in_chunks, counted),) = self._query(
            'SELECT (SELECT coalesce(sum(count), 0) FROM chunks), '
            '(SELECT coalesce(sum(count), 0) FROM series)'
        )
        assert in_chunks == counted
        return int(in_chunks)

    @property
    def spills(self) -> list[Path]:
        return sorted(self._folder.glob('.neptune_async/*.spilled/*'))

    def require_sound(self) -> None:
        """There is no file to look at; that all points are readable is asked anyway."""

    @contextmanager
    def held(self) -> Iterator[None]:
        with locked(self.url):
            yield


class Proxy:
    """Stands before a server, and harms what passes when it is told to.

    :ivar port: where it listens.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._fault: Fault | None = None
        self._is_open = True
        self._harmed = threading.Event()
        self._healed = threading.Event()
        self._healed.set()
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def harm(self, fault: Fault) -> None:
        """Harm the next thing that a client sends; return once that has happened."""
        self._harmed.clear()
        self._fault = fault
        assert self._harmed.wait(60)

    def cut(self) -> None:
        """Swallow all from now on, new connections too, without a word."""
        self._healed.clear()

    def heal(self) -> None:
        """Let everything through again, what was swallowed too."""
        self._healed.set()

    def refuse(self) -> None:
        """Break every new connection."""
        self._is_open = False

    def welcome(self) -> None:
        """Take new connections again."""
        self._is_open = True

    def break_all(self) -> None:
        """Break every connection, as far as the client can see: the server's end stays."""
        for client in self._open[::2]:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of everything."""
        self.heal()
        for some in (self._listener, *self._open):
            some.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._is_open:
                    client.close()
                    continue
                server = socket.create_connection(('127.0.0.1', self._target))
                self._open += (client, server)
                for source, sink, harms in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass, args=(source, sink, harms), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, harms: bool) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                self._healed.wait()
                fault = self._fault if harms else None
                if fault is None:
                    sink.sendall(data)
                    continue
                self._fault = None
                if fault == 'lose the reply':
                    # The server gets all, does it, and speaks to nobody.
                    source.shutdown(socket.SHUT_RDWR)
                    sink.sendall(data)
                    sink.shutdown(socket.SHUT_WR)
                else:
                    source.close()
                    sink.close()
                self._harmed.set()
                return


@dataclass(frozen=True)
class Wire:
    """A way to a server that can be cut without a word.

    :ivar url: names the store by this way.
    :ivar enter: Python that takes a process to where the way begins.
    """

    url: str
    enter: str
    cut: Callable[[], None]
    heal: Callable[[], None]


@contextmanager
def wire(server: PostgresServer, schema: str) -> Iterator[Wire]:
    """Lay a wire: from a network namespace where the machine allows that, else a proxy."""
    name = f'nept{os.getpid() % 10_000}'
    near, far = '10.213.77.1', '10.213.77.2'
    try:
        if os.getuid() != 0 or shutil.which('ip') is None:
            raise PermissionError
        _ip('netns', 'add', name)
        _ip('link', 'add', f'{name}a', 'type', 'veth', 'peer', 'name', f'{name}b', 'netns', name)
        _ip('addr', 'add', f'{near}/24', 'dev', f'{name}a')
        _ip('link', 'set', f'{name}a', 'up')
        _ip('-n', name, 'addr', 'add', f'{far}/24', 'dev', f'{name}b')
        _ip('-n', name, 'link', 'set', f'{name}b', 'up')
    except (OSError, subprocess.CalledProcessError):
        with closing(Proxy(server.port)) as proxy:
            yield Wire(server.url(port=proxy.port, schema=schema), '', proxy.cut, proxy.heal)
        return
    enter = (
        f'import ctypes, os; '
        f"assert ctypes.CDLL(None).setns(os.open('/run/netns/{name}', os.O_RDONLY), 0) == 0"
    )
    url = server.url(schema=schema).replace('127.0.0.1', near)
    try:
        yield Wire(
            url, enter,
            lambda: _ip('link', 'set', f'{name}a', 'down'),
            lambda: _ip('link', 'set', f'{name}a', 'up'),
        )  # fmt: skip
    finally:
        with suppress(subprocess.CalledProcessError):
            _ip('link', 'del', f'{name}a')
        _ip('netns', 'del', name)


def _ip(*words: str) -> None:
    subprocess.run(['ip', *words], check=True, capture_output=True)
