"""Bytes that mean something elsewhere, in every field of POST, between every two transports, are data."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from websockets.sync.client import connect as connect_websocket

from hailer.endpoint import Endpoint
from tests.relay.core.conftest import events_of
from tests.relay.ledger.running import RelayProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRANSPORTS = ("tcp4", "unix", "tls", "ws", "wss")

HOSTILE = {
    "CR": b"\r",
    "NUL": b"\0",
    "ESC": b"\x1b[2J\x1b]0;title\x07",
    "DEL": b"\x7f",
    "tab": b"\t",
    "C1 as UTF-8": b"\xc2\x9b31m",
    "C1 as a byte": b"\x9b31m",
    "bad UTF-8": b"\xff\xfe\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "bidi": "\u202egnp.\u2066x\u2069".encode(),
    "line separators": "\u2028\u2029".encode(),
}

NO_TEXT = HOSTILE.keys() - {"bidi", "line separators"}
"""What no text may have in it: what else is odd is for who shows it to escape."""

FORGED = b"\nMAIL 77 boss ben :forged\nBYE :forged\nPOST 78 ben :forged\n"


class Wire:
    """A client over any transport: bytes out, all bytes in."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext) -> None:
        self._web: Any = None
        self._opened = ExitStack()
        self.got = b""
        if endpoint.scheme == "unix":
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.connect(endpoint.path)
        else:
            assert isinstance(endpoint.port, int)
            self._sock = socket.create_connection(("127.0.0.1", endpoint.port), timeout=10)
        self._sock.settimeout(10)
        if endpoint.scheme.startswith(("tls", "wss")):
            self._sock = context.wrap_socket(self._sock, server_hostname="127.0.0.1")
        if endpoint.scheme.startswith("ws"):
            address = f"ws://127.0.0.1:{endpoint.port}/"
            self._web = self._opened.enter_context(
                connect_websocket(address, sock=self._sock, compression=None, proxy=None)
            )

    def send(self, data: bytes) -> None:
        if self._web is not None:
            self._web.send(data)
        else:
            self._sock.sendall(data)

    def until(self, ending: bytes) -> bytes:
        """All that came, once it has this in it."""
        while ending not in self.got:
            data = self._web.recv(timeout=10) if self._web is not None else self._sock.recv(65536)
            assert data, f"the stream ended with {self.got[-300:]!r}"
            self.got += data.encode() if isinstance(data, str) else data
        return self.got

    def close(self) -> None:
        self._opened.close()
        self._sock.close()


@pytest.fixture(scope="module")
def context_and_options(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, list[str]]:
    """A client's context, and what the relay needs for TLS."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "cert.pem", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context, ["--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]


@pytest.fixture
def relay(tmp_path: Path, context_and_options: tuple[ssl.SSLContext, list[str]]) -> Iterator[RelayProcess]:
    """A relay on all transports that logs everything, and how to connect to each."""
    options = ["-vv", *context_and_options[1]]
    for transport in TRANSPORTS[1:]:
        where = f"unix:{tmp_path / 'relay.sock'}" if transport == "unix" else f"{transport}://127.0.0.1:0"
        options += ["--listen", where]
    with RelayProcess(tmp_path, None, *options) as running:
        yield running


def test_hostile_bytes_are_data(
    relay: RelayProcess, context_and_options: tuple[ssl.SSLContext, list[str]]
) -> None:
    context = context_and_options[0]
    endpoints = dict(zip(TRANSPORTS, map(Endpoint.parse, relay.endpoints), strict=True))
    for here, endpoint in endpoints.items():
        for there, other in endpoints.items():
            ann, ben = Wire(endpoint, context), Wire(other, context)
            try:
                check_pair(ann, ben, f"from {here} to {there}")
            finally:
                ann.close()
                ben.close()
    assert relay.stop() == 0
    check_log(relay.log.read_bytes())


def check_pair(ann: Wire, ben: Wire, which: str) -> None:
    ben.send(b"HELLO ben session=b\n")
    ben.until(b"WELCOME")
    ann.send(b"HELLO ann session=a\n")
    said = ann.until(b" store=")
    welcome = events_of(said.partition(b" store=")[0] + b" store=0\n")[-1]
    stored = int(next(word for word in welcome.words if word.startswith(b"stored=")).removeprefix(b"stored="))
    expected: list[bytes] = []
    refused = 0
    for bad in HOSTILE.values():
        number = b"%d" % (stored + len(expected) + 1)
        in_text = b"a%sPOST 5 ben :b" % bad
        lines = [
            b"PO%sST %s ben :x\n" % (bad, number),
            b"POST %s%s ben :x\n" % (number, bad),
            b"POST %s b%sen :x\n" % (number, bad),
            b"POST %s ben%s\n" % (number, bad),
            b"POST %s ben %s1\nx\n" % (number, bad),
            b"POST %s ben%s :x\n" % (number, bad),
        ]
        refused += len(lines) + 1  # the x after what is no count is a command of its own
        try:
            fine = in_text.decode().isprintable() or bad in map(HOSTILE.get, HOSTILE.keys() - NO_TEXT)
        except UnicodeDecodeError:
            fine = False
        if fine:
            expected.append(in_text)
        else:
            refused += 1
        lines.append(b"POST %s ben :%s\n" % (number, in_text))
        payload = bad + FORGED + bad
        lines.append(b"POST %d ben %d\n%s" % (stored + len(expected) + 1, len(payload), payload))
        expected.append(payload)
        ann.send(b"".join(lines))
    last = b"last %s" % which.encode()
    ann.send(b"POST %d ben :%s\nPING done\n" % (stored + len(expected) + 1, last))
    expected.append(last)
    told = events_of(ann.until(b"PONG done\n"), whole=False)
    fails = [event for event in told if event.verb == b"FAIL"]
    assert len(fails) == refused, which
    ann.until(b"STORED %d\n" % (stored + len(expected)))
    came = [event for event in events_of(ben.until(last + b"\n")) if event.verb == b"MAIL"]
    assert [event.text for event in came] == expected, which
    assert all(event.words[2:] == (b"ann", b"ben") for event in came)
    newest = came[-1].words[1]
    ben.send(b"ACK %s\nPING acked\n" % newest)
    assert b"forged" not in ben.until(b"PONG acked\n").rpartition(last)[2]
    # the reason of a QUIT is what the log shows of a peer's words
    ann.send(b"QUIT %d\n%s" % (len(HOSTILE["bidi"]), HOSTILE["bidi"]))
    ann.until(b"BYE ")
    ben.send(b"QUIT %d\n%s" % (len(FORGED), FORGED))
    ben.until(b"BYE ")


_EVENT = re.compile(
    rb'20[-0-9]{8}T[0-9:.]{12}Z (debug|info|warning|error) [a-z-]+( [a-z_]+=([!#-~]+|"([ !#-\[\]-~]|\\.)*"))*'
)


def check_log(log: bytes) -> None:
    lines = log.splitlines()
    assert len(lines) > len(TRANSPORTS) ** 2 * 4
    for line in lines:
        assert _EVENT.fullmatch(line), line
        assert line.isascii()
    pairs = len(TRANSPORTS) ** 2
    for event in (b" login ", b" bye "):
        assert sum(event in line for line in lines) == pairs * 2, event
    assert not any(event in line for event in (b" fault ", b" error ") for line in lines)
