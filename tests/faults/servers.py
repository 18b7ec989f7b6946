"""What comes between a store in PostgreSQL and those that write to it."""

from __future__ import annotations

import fcntl
import os
import queue
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from postgres_server import PostgresServer, locked, session

from .harness import Store, Tally

_SSL_REQUEST = struct.pack('!ii', 8, 80877103)
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001

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
        self._refusal: bytes | None = None
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

    def refuse(self, code: str = '') -> None:
        """Break every new connection.

        :param code: an SQLSTATE to answer with before, as a server does that lets nobody in.
        """
        fields = (b'SFATAL', b'VFATAL', b'C' + code.encode(), b'Mnot now', b'')
        answer = b''.join(field + b'\0' for field in fields)
        self._refusal = b'E' + struct.pack('!i', len(answer) + 4) + answer if code else b''

    def welcome(self) -> None:
        """Take new connections again."""
        self._refusal = None

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
                if self._refusal is not None:
                    _answer(client, self._refusal)
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
            if not harms:
                sink.shutdown(socket.SHUT_WR)  # or a client would wait for the end of its farewell


def _answer(client: socket.socket, answer: bytes) -> None:
    """Answer what a client asks to be let in with, and hang up."""
    with suppress(OSError), client:
        if client.recv(2**16) == _SSL_REQUEST:
            client.sendall(b'N')
            client.recv(2**16)
        client.sendall(answer)


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


@dataclass(frozen=True)
class LossyWire(Wire):
    """A way that loses packets while it is cut.

    :ivar lost: returns how many they are.
    """

    lost: Callable[[], int]


@contextmanager
def wire(server: PostgresServer, schema: str) -> Iterator[Wire]:
    """Lay a wire: from a network namespace where the machine allows that, else a proxy."""
    with ExitStack() as stack:
        try:
            name = stack.enter_context(_namespace())
            peer = ('peer', 'name', f'{name}b', 'netns', name)
            _ip('link', 'add', f'{name}a', 'type', 'veth', *peer)
            way = _way(server, schema, name)
        except (OSError, subprocess.CalledProcessError):
            proxy = stack.enter_context(closing(Proxy(server.port)))
            way = Wire(server.url(port=proxy.port, schema=schema), '', proxy.cut, proxy.heal)
        yield way


@contextmanager
def lossy_wire(
    server: PostgresServer, schema: str, *, loss: float, delay: float
) -> Iterator[LossyWire]:
    """Lay a wire that loses some packets, and delays the others, while it is cut: a tunnel from a
    network namespace, since not every kernel has netem.

    :param loss: the share of the packets that are lost.
    :param delay: in seconds, each way.
    :raises OSError, CalledProcessError: the machine does not allow it.
    """
    is_cut = threading.Event()
    lost: list[bytes] = []

    def read(source: int, sent: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with suppress(OSError):  # the tunnel is gone
            while packet := os.read(source, 2**16):
                if not is_cut.is_set():
                    sent.put((0.0, packet))
                elif random.random() < loss:
                    lost.append(packet)
                else:
                    sent.put((time.monotonic() + delay, packet))
        sent.put((0.0, b''))

    def write(sink: int, sent: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with suppress(OSError):
            while (arrival := sent.get())[1]:
                time.sleep(max(0.0, arrival[0] - time.monotonic()))  # on its way
                os.write(sink, arrival[1])

    with _namespace() as name, ExitStack() as stack:
        near, far = (stack.enter_context(_tunnel(f'{name}{end}')) for end in 'ab')
        _ip('link', 'set', f'{name}b', 'netns', name)
        way = _way(server, schema, name)
        threads = []
        for source, sink in ((near, far), (far, near)):
            sent: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            for target, end in ((read, source), (write, sink)):
                threads.append(threading.Thread(target=target, args=(end, sent), daemon=True))
                threads[-1].start()
        try:
            yield LossyWire(way.url, way.enter, is_cut.set, is_cut.clear, lambda: len(lost))
        finally:
            _ip('link', 'del', f'{name}a')
            _ip('-n', name, 'link', 'del', f'{name}b')
            for thread in threads:
                thread.join(10)


@contextmanager
def _namespace() -> Iterator[str]:
    """Make a network namespace, whose name is also how those of its devices begin."""
    if os.getuid() != 0 or shutil.which('ip') is None:
        raise PermissionError('a network namespace needs root, and iproute2')
    name = f'nept{os.getpid() % 10_000}'
    _ip('netns', 'add', name)
    try:
        yield name
    finally:
        _ip('netns', 'del', name)  # its devices, and their peers, go with it


@contextmanager
def _tunnel(device: str) -> Iterator[int]:
    """Make a network device whose packets are read from a file, and written to it."""
    opened = os.open('/dev/net/tun', os.O_RDWR)
    try:
        fcntl.ioctl(opened, _TUNSETIFF, struct.pack('16sH', device.encode(), _IFF_TUN_NO_PI))
        yield opened
    finally:
        os.close(opened)


def _way(server: PostgresServer, schema: str, name: str) -> Wire:
    """Connect the two ends of what leads out of a network namespace."""
    near, far = (f'10.213.{os.getpid() % 256}.{end}' for end in (1, 2))
    for end, address, inside in (('a', near, ()), ('b', far, ('-n', name))):
        _ip(*inside, 'addr', 'add', f'{address}/24', 'dev', f'{name}{end}')
        _ip(*inside, 'link', 'set', f'{name}{end}', 'up')
    return Wire(
        server.url(schema=schema).replace('127.0.0.1', near),
        f'import ctypes, os; '
        f"assert ctypes.CDLL(None).setns(os.open('/run/netns/{name}', os.O_RDONLY), 0) == 0",
        lambda: _ip('link', 'set', f'{name}a', 'down'),
        lambda: _ip('link', 'set', f'{name}a', 'up'),
    )


def _ip(*words: str) -> None:
    subprocess.run(['ip', *words], check=True, capture_output=True)
