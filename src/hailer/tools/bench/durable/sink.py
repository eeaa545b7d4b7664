"""A relay that says STORED at once and stores nothing: what the durable load can do at most.

python -m hailer.tools.bench.durable.sink PORT
"""

from __future__ import annotations

import select
import socket
import sys

__all__ = ["serve"]


class Session:
    """One connection, and how many messages came on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines = -1  # the first line is HELLO
        self.box = b""


def serve(listener: socket.socket) -> None:
    """Answer until killed. Whoever posts has to read its answers, too."""
    held: dict[bytes, int] = {}
    sessions: dict[int, Session] = {}
    with select.epoll() as poller:
        poller.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == listener.fileno():
                    sock = listener.accept()[0]
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sessions[sock.fileno()] = Session(sock)
                    poller.register(sock, select.EPOLLIN)
                    continue
                session = sessions[fd]
                try:
                    data = session.sock.recv(256 * 1024)
                except ConnectionError:
                    data = b""
                if not data:
                    poller.unregister(fd)
                    sessions.pop(fd).sock.close()
                    continue
                lines = data.count(b"\n")
                if data == b"QUIT\n":
                    session.sock.send(b"BYE\n")
                elif session.lines < 0:
                    name = data.split()[1]
                    session.sock.send(b"WELCOME %s stored=0 mail=%d\n" % (name, held.get(name, 0)))
                elif lines:
                    session.box = session.box or data.split(b" ", 3)[2]  # the load's senders post to one each
                    held[session.box] = held.get(session.box, 0) + lines
                    session.sock.send(b"STORED %d\n" % (session.lines + lines))
                session.lines += lines


def main() -> None:
    """Listen on the port of loopback that the command line names."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024) as listener:
        serve(listener)


if __name__ == "__main__":
    main()
