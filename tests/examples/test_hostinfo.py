"""Names, addresses and services."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.examples.conftest import finish


def told(*arguments: str) -> list[str]:
    done = finish("hostinfo.py", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_one_address_a_line() -> None:
    assert set(told("localhost")) == {"127.0.0.1", "::1"}
    assert told("-4", "localhost") == ["127.0.0.1"]
    for address in ("127.0.0.1", "::1", "192.0.2.7"):
        assert told(address) == [address]


def test_names_of_addresses() -> None:
    assert "localhost" in told("--reverse", "127.0.0.1")
    name = socket.gethostname()
    assert finish("hostinfo.py", name).returncode in {0, 1}  # this machine may not know its own name


def test_an_address_with_several_names() -> None:
    lines = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    several = next((line for line in lines if len(line) > 2 and line[0].startswith("127.")), None)
    if several is None:
        name, others, _ = socket.gethostbyaddr("127.0.0.1")
        assert told("--reverse", "127.0.0.1") == list(dict.fromkeys([name, *others]))
    else:
        assert set(told("--reverse", several[0])) >= set(several[1:])


def test_dotted_decimal_and_back() -> None:
    assert told("0x8002C2F2") == ["128.2.194.242"]
    assert told("--hex", "128.2.194.242") == ["0x8002C2F2"]
    assert told("--hex", "0.0.0.1") == ["0x00000001"]


@pytest.mark.parametrize(
    ("service", "port"), [("echo", 7), ("ssh", 22), ("smtp", 25), ("http", 80), ("ftp", 21)]
)
def test_services(service: str, port: int) -> None:
    try:
        socket.getservbyname(service, "tcp")
    except OSError:
        assert "is no TCP service" in finish("hostinfo.py", "--service", service).stderr
        return
    assert told("--service", service) == [str(port)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nohost.invalid",), "no host is called 'nohost.invalid'"),
        (("0x1FFFFFFFF",), "is no IPv4 address"),
        (("0xhello",), "is no IPv4 address"),
        (("--hex", "::1"), "is no IPv4 address"),
        (("--reverse", "192.0.2.1"), "192.0.2.1 has no name"),
        (("--service", "no-such-service"), "is no TCP service"),
        (("-4", "::1"), "is an IPv6 address"),
    ],
)
def test_what_goes_wrong_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = finish("hostinfo.py", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
