"""Echo servers written by hand for one model each, with lines split as one would by hand: the floors.

They know no limits, no time-outs and no end of service: whatever a library adds is measured against them.
Each function takes a listening socket, whose TCP_NODELAY connections inherit, and serves until killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FLOORS", "READ_SIZE", "WORKERS"]

READ_SIZE = 65536
WORKERS = 4


def talk(sock: socket.socket) -> None:
    """Serve one connection with blocking calls, to its end."""
    with sock, contextlib.suppress(ConnectionError):
        rest = b""
        while data := sock.recv(READ_SIZE):
            lines = (rest + data if rest else data).split(b"\n")
            rest = lines.pop()
            if lines:
                sock.sendall(b"".join([line + b"\n" for line in lines]))


def iterative(listener: socket.socket) -> None:
    while True:
        talk(listener.accept()[0])


def fork(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        sock, _ = listener.accept()
        if not os.fork():
            listener.close()
            talk(sock)
            os._exit(0)
        sock.close()


def prefork(listener: socket.socket) -> None:
    for _ in range(WORKERS - 1):
        if not os.fork():
            break
    iterative(listener)


def thread(listener: socket.socket) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=talk, args=(sock,), daemon=True).start()


class Client:
    """One connection of a readiness loop."""

    __slots__ = ("out", "rest", "sock")

    def __init__(self, listener: socket.socket) -> None:
        self.sock, _ = listener.accept()
        self.sock.setblocking(False)
        self.rest = b""
        self.out = b""  # what did not fit into the socket; nothing is read until it has gone

    def read(self) -> bool:
        """Answer what has come; False once the connection is over."""
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not data:
            return False
        lines = (self.rest + data if self.rest else data).split(b"\n")
        self.rest = lines.pop()
        if lines:
            self.out = b"".join([line + b"\n" for line in lines])
            return self.write()
        return True

    def write(self) -> bool:
        """Send what there is; False once the connection is over."""
        try:
            sent = self.sock.send(self.out)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self.out = self.out[sent:]
        return True


def select_loop(listener: socket.socket) -> None:
    clients: dict[socket.socket, Client] = {}
    reading, writing = {listener}, set[socket.socket]()
    while True:
        readable, writable, _ = select.select(reading, writing, ())
        for sock in readable:
            if sock is listener:
                client = Client(listener)
                clients[client.sock] = client
                reading.add(client.sock)
                continue
            client = clients[sock]
            if not client.read():
                reading.discard(sock)
                del clients[sock]
                sock.close()
            elif client.out:
                reading.discard(sock)
                writing.add(sock)
        for sock in writable:
            client = clients[sock]
            if not client.write():
                writing.discard(sock)
                del clients[sock]
                sock.close()
            elif not client.out:
                writing.discard(sock)
                reading.add(sock)


def epoll_loop(listener: socket.socket) -> None:
    clients: dict[int, Client] = {}
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    accepting = listener.fileno()
    while True:
        for fd, event in poller.poll():
            if fd == accepting:
                client = Client(listener)
                clients[client.sock.fileno()] = client
                poller.register(client.sock, select.EPOLLIN)
                continue
            client = clients[fd]
            waited = bool(client.out)
            alive = client.write() if event & select.EPOLLOUT else client.read()
            if not alive:
                del clients[fd]
                client.sock.close()
            elif waited != bool(client.out):
                poller.modify(fd, select.EPOLLOUT if client.out else select.EPOLLIN)


class LineProtocol(asyncio.Protocol):
    """An echo of lines as a bare protocol."""

    def __init__(self) -> None:
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        lines = (self.rest + data if self.rest else data).split(b"\n")
        self.rest = lines.pop()
        if lines:
            self.transport.write(b"".join([line + b"\n" for line in lines]))

    # What keeps a peer that does not read from filling the memory.

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def serve_protocol(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(LineProtocol, sock=listener)
    await server.serve_forever()


def protocol(listener: socket.socket) -> None:
    asyncio.run(serve_protocol(listener))


def uvloop_protocol(listener: socket.socket) -> None:
    import uvloop  # noqa: PLC0415 (only this one wants it)

    uvloop.run(serve_protocol(listener))


FLOORS: dict[str, Callable[[socket.socket], None]] = {
    "iterative": iterative,
    "fork": fork,
    "prefork": prefork,
    "thread": thread,
    "select": select_loop,
    "epoll": epoll_loop,
    "asyncio": uvloop_protocol,
    "asyncio-stock": protocol,
}
