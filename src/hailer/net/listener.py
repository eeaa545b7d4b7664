"""A listening socket, and its endpoint as bound."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from hailer.endpoint import Endpoint

__all__ = ["Listener", "SocketFile"]


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
        socket: the socket: it blocks, and no child process inherits it through `exec`.
        endpoint: what it listens on, with the real port.
        name: the name that systemd gave it (FileDescriptorName=), otherwise empty.
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

    def close(self) -> None:
        """Stop listening; may be called twice.

        The file of a Unix socket is removed if it is still ours, and only by the process that made
        it: a forked child closes its descriptor and leaves the file to its parent.
        """
        file, self._file = self._file, None
        if file is not None and os.getpid() == self._owner:
            # Before the socket is closed: until then nobody takes the path for a stale one.
            file.remove()
        self.socket.close()
