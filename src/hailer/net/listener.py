"""A listening socket, its endpoint as bound, and what is accepted from it."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hailer.endpoint import Endpoint
    from hailer.net.address import RawAddress
    from hailer.net.outlet import Outlet

__all__ = ["Accepted", "Listener", "OnceListener", "SocketFile"]


class Accepted(NamedTuple):
    """A connection, or a conversation in datagrams, that has just been accepted.

    Attributes:
        socket: connected; whether it blocks is up to whoever takes it over.
        kind: ``stream`` for bytes; ``record`` where the kernel keeps the boundaries of messages.
        scheme: the kind of its endpoints, such as ``tcp``.
        address: the address of the peer.
        local: the address of this side, where the socket's own name does not tell it.
        outlet: where answers go, when they do not go through the socket itself.
    """

    socket: socket.socket
    kind: Literal["stream", "record"]
    scheme: str
    address: RawAddress
    local: RawAddress | None = None
    outlet: Outlet | None = None

    def close(self) -> None:
        """Close its descriptors here: by who does not serve it, such as the parent after a fork."""
        self.socket.close()
        if self.outlet is not None:
            self.outlet.close()


class SocketFile(NamedTuple):
    """The file of a Unix socket that this process made.

    Attributes:
        path: its absolute path, so that it is found after a change of the working directory.
        device: the number of its file system.
        inode: its number there; not given to another file while the socket is open.
    """

    path: Path
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> Self:
        """Note which file is at a path now.

        Raises:
            OSError: there is none.
        """
        where = Path(path).absolute()
        status = where.lstat()
        return cls(where, status.st_dev, status.st_ino)

    def remove(self) -> None:
        """Remove the file if it is still this one; another that has taken its place stays."""
        with suppress(OSError):
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == (self.device, self.inode):
                self.path.unlink()


class Listener:
    """A listening socket.

    Attributes:
        socket: the socket; no child process inherits it through `exec`.
        endpoint: what it listens on, with the real port.
        name: the name that systemd gave it (FileDescriptorName=), otherwise empty.
        single: set before serving by a model that serves one conversation after another or in several
            processes: each datagram is then a conversation of its own. Without effect on connections.
        paused: set while a model takes no new connection. Such a model need not look at the listener,
            unless `forwards` is true.
    """

    def __init__(
        self, sock: socket.socket, endpoint: Endpoint, *, file: SocketFile | None = None, name: str = ""
    ) -> None:
        """Take a listening socket over.

        Args:
            sock: the socket; closed by `close`.
            endpoint: what it listens on.
            file: the file to remove with it.
            name: the name that whoever passed it gave it.
        """
        self.socket = sock
        self.endpoint = endpoint
        self.name = name
        self.single = False
        self.paused = False
        self._file = file
        self._owner = os.getpid()

    def __repr__(self) -> str:
        return f"<Listener {self.endpoint}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def forwards(self) -> bool:
        """Whether `accept` also carries datagrams to conversations that were accepted before.

        Then it is to be called when `fileno` is readable, even while `paused`: it accepts nothing new then.
        """
        return False

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing to accept any more, as after the one connection that was inherited."""
        return False

    def fileno(self) -> int:
        """The descriptor that is readable when `accept` has something to do; -1 once closed."""
        return self.socket.fileno()

    def accept(self) -> Accepted:
        """Accept one connection or conversation, without waiting.

        Raises:
            BlockingIOError: there is none for now.
            OSError: as accept(2) has them: no descriptor left, or a connection that is gone already.
        """
        if self.socket.gettimeout() != 0:
            self.socket.setblocking(False)
        sock, address = self.socket.accept()
        kind: Literal["stream", "record"] = "stream" if sock.type == socket.SOCK_STREAM else "record"
        return Accepted(sock, kind, self.endpoint.scheme, address)

    def expect(self, connections: int) -> None:
        """Be told how many connections are served at once, before anything is accepted."""

    def belong_to(self, process: int) -> None:
        """Leave the file of a Unix socket to another process, which shares this listener since a fork.

        To be called by both: the process that made it, and the one that removes it.

        Args:
            process: the number (pid) of the latter.
        """
        self._owner = process

    def close(self) -> None:
        """Stop listening; may be called twice.

        The file of a Unix socket is removed if it is still ours, and only by the process that made
        it (see `belong_to`): a forked child closes its descriptors and leaves the rest to its parent.
        """
        file, self._file = self._file, None
        if file is not None and os.getpid() == self._owner:
            # Before the socket is closed: until then nobody takes the path for a stale one.
            file.remove()
        self.socket.close()


class OnceListener(Listener):
    """A connection that is there already, to be accepted once; `socket` only tells that it is.

    Args:
        endpoint: what it is.
        take: gives the connection.
        sock: what to close if it is never accepted.
        name: the name that whoever passed it gave it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        take: Callable[[], Accepted],
        sock: socket.socket | None = None,
        *,
        name: str = "",
    ) -> None:
        ready, self._signal = socket.socketpair()
        super().__init__(ready, endpoint, name=name)
        self._signal.send(b"\0")
        self._take: Callable[[], Accepted] | None = take
        self._connected = sock

    @property
    def exhausted(self) -> bool:
        return self._take is None

    def accept(self) -> Accepted:
        if self._take is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        accepted = self._take()
        self._take = self._connected = None
        self.socket.recv(1)  # whoever goes on watching finds nothing more
        return accepted

    def close(self) -> None:
        """Close it, and the connection if it was not accepted; may be called twice."""
        super().close()
        self._signal.close()
        if self._connected is not None:
            self._connected.close()
            self._connected = None
