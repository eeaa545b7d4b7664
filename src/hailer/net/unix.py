"""Listening on Unix socket paths, safely; and the name that a client of datagrams needs.

A path stays behind when a server dies, and whoever comes next must replace it, but neither a live
server's path nor a file that is no socket. The steps are: bind; if the path is taken, see that it is
a socket, see by connecting that nobody listens, remove it, bind again; listen.

Two servers that start at once could each find the same stale path, and the second would remove the
first one's new socket. So all the steps are done under a lock (`flock`) on the directory that holds
the path. A lock file beside the path would stay behind, or be removed in a race of its own; binding
another name and renaming it over the path would replace a live server's as readily as a stale one. A
lock on the directory leaves nothing, ends with its holder, and covers the moment between bind and
listen, in which a new socket refuses connections just as a stale one does.

The mode is right before the first connection can be made: set on the socket before bind where the
system lets it (Linux), and on the file before listen, until when every connection is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import EndpointError, ListenError
from hailer.net.datagrams import MOST_PEERS, DatagramListener
from hailer.net.listener import Listener, SocketFile
from hailer.net.oserrors import map_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.endpoint import Endpoint

__all__ = ["listen_unix", "open_datagram_client"]

_LOCK_WAIT = 5.0
_TYPES = {
    "unix": socket.SOCK_STREAM,
    "unix+dgram": socket.SOCK_DGRAM,
    "unix+seqpacket": socket.SOCK_SEQPACKET,
}


class _NamedSocket(socket.socket):
    """A datagram socket bound to a path of its own, which goes when it is closed."""

    directory: str | None = None

    def close(self) -> None:
        super().close()
        directory, self.directory = self.directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def open_datagram_client(*, abstract: bool = sys.platform == "linux") -> socket.socket:
    """Make a Unix datagram socket with a name, for without one nobody can answer it.

    Args:
        abstract: let the system choose a name that is no file (Linux).

    Raises:
        OSError: the system gives no descriptor or no name.
    """
    sock = _NamedSocket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if abstract:
            sock.bind("")  # unix(7), autobind
        else:
            sock.directory = tempfile.mkdtemp(prefix="hailer-")
            path = Path(sock.directory) / "s"
            sock.bind(str(path))
            # Who answers may be another user; the name of the directory is not to be guessed.
            path.chmod(0o666)
            path.parent.chmod(0o711)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(
    endpoint: Endpoint,
    *,
    backlog: int,
    mode: int = 0o600,
    prepare: Callable[[socket.socket], object] | None = None,
    most: int = MOST_PEERS,
) -> Listener:
    """Listen on a Unix socket, replacing a path that a dead server left.

    A server is found dead or alive by connecting to it: a live one sees a connection that ends at once.

    Args:
        endpoint: a `unix:`, `unix+seqpacket:` or `unix+dgram:` endpoint; a name of the abstract space
            (`@name`) has no file, no mode, and can be connected to by everybody on this machine.
        backlog: connections that the system keeps until they are accepted.
        mode: the permissions of the path, whatever the umask; connecting takes the right to write.
        prepare: called with the socket before it is bound, to set options.
        most: how many peers of a datagram socket are told apart at once.

    Raises:
        ListenError: somebody listens there, something there is no socket, or it may not be made.
        EndpointError: an abstract name on a system that has none.
    """
    try:
        sock = socket.socket(socket.AF_UNIX, _TYPES[endpoint.scheme])
    except OSError as error:
        raise _explained(error, endpoint) from error
    try:
        if prepare is not None:
            prepare(sock)
        if endpoint.path.startswith("@"):
            return _listen_abstract(sock, endpoint, backlog, most)
        with _locked(Path(endpoint.path).parent, endpoint):
            return _listen_path(sock, endpoint, backlog, mode, most)
    except OSError as error:
        sock.close()
        raise _explained(error, endpoint) from error
    except BaseException:
        sock.close()
        raise


def _listen_abstract(sock: socket.socket, endpoint: Endpoint, backlog: int, most: int) -> Listener:
    if not sys.platform.startswith("linux"):
        raise EndpointError(
            f"{endpoint} is a name that only Linux has: give a path, such as unix:/tmp/x.sock"
        )
    sock.bind("\0" + endpoint.path[1:])
    return _listener(sock, endpoint, backlog, most)


def _listen_path(sock: socket.socket, endpoint: Endpoint, backlog: int, mode: int, most: int) -> Listener:
    path = endpoint.path
    with suppress(OSError):  # macOS refuses it on a socket
        os.fchmod(sock.fileno(), mode)
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _remove_stale(path, endpoint, sock.type)
        sock.bind(path)
    file = SocketFile.at(path)
    try:
        if stat.S_IMODE(file.path.lstat().st_mode) != mode:
            file.path.chmod(mode)  # the umask took bits away, or fchmod had no effect
        return _listener(sock, endpoint, backlog, most, file)
    except BaseException:
        file.remove()
        raise


def _listener(
    sock: socket.socket, endpoint: Endpoint, backlog: int, most: int, file: SocketFile | None = None
) -> Listener:
    if endpoint.is_datagram:
        return DatagramListener(sock, endpoint, file=file, most=most)
    sock.listen(backlog)
    return Listener(sock, endpoint, file=file)


def _remove_stale(path: str, endpoint: Endpoint, kind: int) -> None:
    """Remove a socket's path on which nobody listens.

    Raises:
        ListenError: somebody listens, that cannot be told, or it is no socket.
    """
    try:
        before = os.lstat(path)
        if not stat.S_ISSOCK(before.st_mode):
            raise ListenError(
                f"{endpoint} is in use by a file that is no socket: move the file away or give another path"
            )
        with socket.socket(socket.AF_UNIX, kind) as probe:  # one of another kind is alive too (EPROTOTYPE)
            probe.setblocking(False)  # a live server with a full queue answers EAGAIN
            answer = probe.connect_ex(path)
        if answer == errno.ECONNREFUSED and os.path.samestat(before, os.lstat(path)):
            os.unlink(path)  # noqa: PTH108 (beside os.lstat)
            return
    except FileNotFoundError:
        return  # its server has just removed it
    if answer == errno.EACCES:
        raise ListenError(
            f"{endpoint} is in use by a socket that may not be connected to:"
            " remove it if its server is dead, or give another path"
        )
    raise ListenError(f"{endpoint} is in use by a live server: stop that or give another path")


@contextmanager
def _locked(directory: Path, endpoint: Endpoint) -> Iterator[None]:
    """Hold the lock on a directory, for the few system calls of taking a path in it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        give_up = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # A blocking flock could wait for ever on a lock that has nothing to do with us.
                if time.monotonic() >= give_up:
                    raise ListenError(
                        f"{endpoint} cannot be taken while another program holds the lock on {directory}:"
                        " give a path in a directory of its own"
                    ) from None
                time.sleep(0.01)
        try:
            yield
        finally:
            # Said outright: a child forked meanwhile by another thread has a copy of the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _explained(error: OSError, endpoint: Endpoint) -> ListenError:
    directory = Path(endpoint.path).parent
    if error.errno == errno.EADDRINUSE and endpoint.path.startswith("@"):
        return ListenError(f"{endpoint} is in use by a live server: stop that or give another name")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ListenError(
            f"no permission to listen on {endpoint}: give a path in a directory that you may read and write"
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ListenError(f"{endpoint} is in no directory: make {directory} or give another path")
    mapped = map_os_error(error, "listen", str(endpoint))
    assert isinstance(mapped, ListenError)
    return mapped
