from __future__ import annotations

import errno
import os
import re
import socket
from typing import get_args

import pytest

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
from hailer.net.oserrors import Doing, dial_error, map_os_error


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "doing", "kind"),
    [
        (errno.ECONNREFUSED, "dial", DialError),
        (errno.ETIMEDOUT, "dial", DialError),
        (errno.EADDRINUSE, "listen", ListenError),
        (errno.EMFILE, "accept", ListenError),
        (errno.ECONNRESET, "receive", ConnectionLost),
        (errno.EPIPE, "send", ConnectionLost),
        (errno.ETIMEDOUT, "receive", ConnectionLost),
        (errno.ECONNREFUSED, "receive", ConnectionLost),
        (errno.EBADF, "receive", ConnectionClosed),
        (errno.EMSGSIZE, "send", MessageError),
    ],
)
def test_each_error_has_its_place_in_the_tree(number: int, doing: Doing, kind: type[HailerError]) -> None:
    assert type(map_os_error(os_error(number), doing, "1.2.3.4:80")) is kind


@pytest.mark.parametrize("doing", get_args(Doing))
@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_becomes_one_sentence_with_what_to_do_next(number: int, doing: Doing) -> None:
    text = str(map_os_error(os_error(number), doing, "unix:/tmp/{x}"))
    assert "unix:/tmp/{x}" in text
    assert re.fullmatch(r"[^:\n].*: .+[^.\n]", text)
    assert "{where}" not in text
    assert "{reason}" not in text


def test_the_model_sentence_and_the_callers_advice() -> None:
    refused = os_error(errno.ECONNREFUSED)
    assert str(map_os_error(refused, "dial", "127.0.0.1:16273", advice="start one with hailer relay")) == (
        "nobody listens on 127.0.0.1:16273 (connection refused): start one with hailer relay"
    )
    unreachable = map_os_error(os_error(errno.EHOSTUNREACH), "dial", "1.2.3.4:80", advice="start one")
    assert "start one" not in str(unreachable)


def test_time_outs_of_the_socket_module_and_failed_look_ups() -> None:
    assert isinstance(map_os_error(TimeoutError("timed out"), "receive", "1.2.3.4:80"), TimedOut)
    failed = socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure")
    assert isinstance(map_os_error(failed, "dial", "x"), ResolveError)


def test_the_same_failure_everywhere_is_said_once() -> None:
    refused = os_error(errno.ECONNREFUSED)
    error = dial_error([("[::1]:80", refused), ("127.0.0.1:80", refused)], "localhost:80")
    assert str(error).startswith("nobody listens on [::1]:80 or 127.0.0.1:80 (connection refused): ")
    assert error.attempts == (("[::1]:80", "connection refused"), ("127.0.0.1:80", "connection refused"))


def test_different_failures_are_each_said_and_the_most_telling_gives_the_advice() -> None:
    failures = [("1.1.1.1:80", os_error(errno.EHOSTUNREACH)), ("2.2.2.2:80", os_error(errno.ECONNREFUSED))]
    assert str(dial_error(failures, "name:80", advice="start it")) == (
        "no address of name:80 could be connected to"
        " (1.1.1.1:80: no route to host, 2.2.2.2:80: connection refused): start it"
    )


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH])
def test_a_family_that_this_machine_lacks_is_no_news_beside_an_answer(number: int) -> None:
    failures = [("[::1]:80", os_error(number)), ("127.0.0.1:80", os_error(errno.ECONNREFUSED))]
    error = dial_error(failures, "localhost:80")
    assert str(error).startswith("nobody listens on 127.0.0.1:80 (connection refused): ")
    assert len(error.attempts) == 2
    assert "[::1]:80" in str(dial_error(failures[:1], "localhost:80"))
