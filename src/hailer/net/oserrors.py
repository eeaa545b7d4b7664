"""Errors of the operating system to those of hailer, in one place.

Every `OSError` of a socket call goes through `map_os_error`, here and in the layers above, so that
a person reads one sentence that says what to do next and a program catches one tree.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Literal, NamedTuple

from hailer.errors import (
    ConnectionClosed,
    ConnectionLost,
    DialError,
    HailerError,
    ListenError,
    MessageError,
    ResolveError,
    TimedOut,
)

__all__ = ["Doing", "dial_error", "map_os_error", "reason"]

Doing = Literal["dial", "listen", "accept", "receive", "send"]
"""What was being done when the error came."""


class _Text(NamedTuple):
    happened: str
    advice: str


_NO_FILES = _Text(
    "{where} cannot be opened (this program has too many files open)",
    "close some connections or raise the limit with ulimit -n",
)
_NO_FILES_AT_ALL = _Text(
    "{where} cannot be opened (the system has too many files open)", "stop programs that hold many"
)
_NO_MEMORY = _Text(
    "{where} cannot be opened (the system has no memory for it)", "close some connections and try again"
)
_COMMON = {
    errno.EMFILE: _NO_FILES,
    errno.ENFILE: _NO_FILES_AT_ALL,
    errno.ENOBUFS: _NO_MEMORY,
    errno.ENOMEM: _NO_MEMORY,
}

# The order is that of how much each tells: of several addresses, the advice is for the first of these.
_DIAL = {
    **_COMMON,
    errno.ECONNREFUSED: _Text(
        "nobody listens on {where} (connection refused)", "start the server there or correct the address"
    ),
    errno.ENOENT: _Text("nobody listens on {where} (no such socket)", "start the server or correct the path"),
    errno.ENOTDIR: _Text("nobody listens on {where} (no such directory)", "correct the path"),
    errno.EACCES: _Text(
        "no permission to connect to {where}", "be its owner, have its mode changed, or look at the firewall"
    ),
    errno.EPERM: _Text("no permission to connect to {where}", "look at this machine's firewall"),
    errno.EPROTOTYPE: _Text(
        "{where} is a socket of another kind",
        "use the one of unix:, unix+seqpacket: or unix+dgram: that it is",
    ),
    errno.ECONNRESET: _Text("{where} broke off while it was being connected to", "try again"),
    errno.EAGAIN: _Text("{where} has a full queue", "try again later or give it a larger --backlog"),
    errno.ETIMEDOUT: _Text(
        "{where} does not answer (timed out)", "look whether it runs and no firewall is between"
    ),
    errno.EHOSTUNREACH: _Text(
        "{where} cannot be reached (no route to host)",
        "look whether that machine is up and not behind a firewall",
    ),
    errno.ENETUNREACH: _Text(
        "{where} cannot be reached (network is unreachable)", "look at this machine's network connection"
    ),
    errno.EADDRNOTAVAIL: _Text(
        "{where} cannot be reached from here (no local address or port for it)",
        "correct the address, or wait if thousands of connections were just closed",
    ),
    errno.EADDRINUSE: _Text(
        "{where} cannot be reached (the local address is in use)",
        "take another local port, or 0 for a free one",
    ),
    errno.EINVAL: _Text("{where} cannot be connected to (invalid argument)", "correct the address"),
    errno.EAFNOSUPPORT: _Text(
        "{where} cannot be reached (this machine lacks that kind of address)",
        "give an address of another kind",
    ),
}
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENETUNREACH)
_LISTEN = {
    **_COMMON,
    errno.EADDRINUSE: _Text(
        "{where} is in use", "stop the program that has it (hailer ports tells which) or take another"
    ),
    errno.EACCES: _Text(
        "no permission to listen on {where}", "take a port from 1024 up, or run with CAP_NET_BIND_SERVICE"
    ),
    errno.EPERM: _Text("no permission to listen on {where}", "ask who runs this machine"),
    errno.EADDRNOTAVAIL: _Text(
        "{where} is no address of this machine", "take one that is, or * for all of them"
    ),
    errno.EAFNOSUPPORT: _Text(
        "{where} cannot be listened on (this machine lacks that kind of address)", "give another address"
    ),
    errno.EINVAL: _Text("{where} cannot be listened on (invalid argument)", "correct the address"),
}
_LOST = {
    errno.ECONNRESET: "{where} broke the connection (connection reset): look at what its program says",
    errno.EPIPE: "{where} has closed the connection (broken pipe): connect again",
    errno.ECONNABORTED: "the connection with {where} was aborted: connect again",
    errno.ESHUTDOWN: "the connection with {where} was shut down: connect again",
    errno.ENOTCONN: "the connection with {where} is gone (not connected): connect again",
    errno.ETIMEDOUT: "{where} vanished (no acknowledgement came): connect again when it is back",
    errno.EHOSTUNREACH: "{where} cannot be reached any more (no route to host): look whether it is up",
    errno.ENETUNREACH: "{where} cannot be reached any more (network is unreachable): look at this network",
    errno.ENETDOWN: "{where} cannot be reached any more (network is down): look at this machine's network",
    errno.ENETRESET: "the connection with {where} was dropped by the network: connect again",
    errno.ECONNREFUSED: "nobody listens on {where} (connection refused): start the program there",
}


def map_os_error(error: OSError, doing: Doing, where: str, *, advice: str = "") -> HailerError:
    """Say what an error of the system means here.

    Raise what comes back `from` the error.

    Args:
        error: what a socket call raised.
        doing: what was being done.
        where: the peer's address when connected or connecting, the own one when listening.
        advice: what to do when nobody listens there, in place of the general advice.

    Returns:
        DialError, ListenError, ConnectionLost, ConnectionClosed, MessageError, ResolveError or
        TimedOut, with one sentence.
    """
    if isinstance(error, socket.gaierror):
        return ResolveError(f"{where} cannot be looked up ({error.strerror}): correct the name")
    if isinstance(error, TimeoutError) and error.errno is None:
        # The socket module's own time-out; that of the kernel has a number.
        return TimedOut(f"{where} took too long: allow it more time or look whether it still runs")
    if doing == "dial":
        return dial_error([(where, error)], where, advice=advice)
    if doing in ("listen", "accept"):
        return ListenError(_sentence(_LISTEN, error, where, "{where} cannot be listened on ({reason})"))
    if error.errno == errno.EBADF:
        return ConnectionClosed(f"the connection with {where} was closed here: open another")
    if error.errno == errno.EMSGSIZE:
        return MessageError(f"the message is too large for one datagram to {where}: send less at a time")
    text = _LOST.get(error.errno or 0, "the connection with {where} failed ({reason}): connect again")
    return ConnectionLost(text.format(where=where, reason=reason(error)))


def dial_error(failures: list[tuple[str, OSError]], target: str, *, advice: str = "") -> DialError:
    """Put what happened at each address into one sentence.

    Args:
        failures: addresses as text with their errors, in the order of the attempts, at least one.
        target: what was to be reached, as the person wrote it.
        advice: what to do when nobody listens, in place of the general advice.
    """
    attempts = tuple((where, reason(error)) for where, error in failures)
    # That this machine lacks a family or its routes says nothing once another address gave an answer.
    telling = [(where, error) for where, error in failures if error.errno not in _NOT_HERE] or failures
    numbers = {error.errno for _, error in telling}
    if len(numbers) == 1:
        where = " or ".join(dict.fromkeys(where for where, _ in telling))
        sentence = _sentence(_DIAL, telling[0][1], where, "{where} cannot be connected to ({reason})", advice)
        return DialError(sentence, attempts)
    first = next((number for number in _DIAL if number in numbers), None)
    what_next = _advice(_DIAL, first, advice)
    each = ", ".join(f"{where}: {reason(error)}" for where, error in telling)
    return DialError(f"no address of {target} could be connected to ({each}): {what_next}", attempts)


def reason(error: OSError) -> str:
    """Say an error in the system's own few words, in lower case."""
    if error.errno is None:
        return str(error) or type(error).__name__
    return os.strerror(error.errno).lower()


def _sentence(table: dict[int, _Text], error: OSError, where: str, otherwise: str, advice: str = "") -> str:
    text = table.get(error.errno or 0)
    happened = text.happened if text else otherwise
    return f"{happened.format(where=where, reason=reason(error))}: {_advice(table, error.errno, advice)}"


def _advice(table: dict[int, _Text], number: int | None, advice: str) -> str:
    if advice and number in (errno.ECONNREFUSED, errno.ENOENT):
        return advice
    text = table.get(number or 0)
    return text.advice if text else "correct the address or look at this machine's log"
