"""One suite of scenarios over model x transport x framing: what is possible works, what is not says why."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

import hailer
from hailer.cli.matrix import matrix_as_markdown
from hailer.errors import ConnectionEnded, EndOfStream, FramingError, MessageError, TimedOut, UsageError
from hailer.framing import as_framing
from hailer.matrix import FRAMINGS, MODELS, TRANSPORTS, why_not
from hailer.net.certificates import client_context, server_context
from tests.matrix.handler import handle

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from hailer.runtime.blocking import BlockingConnection

PATIENCE = 15.0
LIMIT = 100_000

EXAMPLES = {"delimiter:TEXT": "delimiter:END", "short-read[:SIZE]": "short-read:4"}
CELLS = [
    (model, transport, EXAMPLES.get(framing, framing))
    for model, transport in itertools.product(MODELS, TRANSPORTS)
    for framing in FRAMINGS
]
POSSIBLE = [cell for cell in CELLS if why_not(*cell) is None]
IN_PROCESS = [cell for cell in POSSIBLE if cell[1] != "stdio"]
DATAGRAMS = ("udp", "unix+dgram")


def is_marked(cell: tuple[str, str, str]) -> bool:
    """Whether messages are told apart whatever the reads are."""
    _, transport, framing = cell
    return TRANSPORTS[transport].records or framing in (
        "line",
        "crlf",
        "null",
        "length",
        "netstring",
        "delimiter:END",
    )


def has_half_close(cell: tuple[str, str, str]) -> bool:
    """Datagrams have no end, and WebSocket has no half of one."""
    return not TRANSPORTS[cell[1]].records or cell[1] == "unix+seqpacket"


MARKED = list(filter(is_marked, IN_PROCESS))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the server and for the client."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "cert.pem")
    )
    (folder / "cert.pem").chmod(0o600)
    return server_context(folder / "cert.pem"), client_context(ca=folder / "ca.pem")


class Cell:
    """A server in one cell of the matrix, and how to connect to it."""

    def __init__(
        self,
        cell: tuple[str, str, str],
        folder: Path,
        certificates: tuple[ssl.SSLContext, ssl.SSLContext],
    ) -> None:
        self.model, self.transport, self.framing = cell
        self.kind = TRANSPORTS[self.transport]
        self.encrypted = self.transport in ("tls", "wss")
        self._tls = certificates
        self._folder = folder
        self.datagrams = self.transport in DATAGRAMS

    @contextmanager
    def serve(self) -> Iterator[hailer.Server]:
        """Serve the handler until the end of the block."""
        endpoint = f"{self.transport}://127.0.0.1:0"
        if self.transport == "fd":
            with socket.create_server(("127.0.0.1", 0)) as inherited:
                endpoint = f"fd://{os.dup(inherited.fileno())}"
        elif self.transport.startswith("unix"):
            endpoint = f"{self.transport}:{self._folder}/s"
        server = hailer.Server(
            endpoint,
            handle,
            self.model,  # type: ignore[arg-type] # a name from the table of models
            framing=None if self.kind.records else self.framing,
            max_message=LIMIT,
            tls=self._tls[0] if self.encrypted else None,
            workers=2,
            idle_timeout=PATIENCE,
        )
        with server:
            yield server

    def connect(self, server: hailer.Server, max_message: int = 2 * LIMIT) -> BlockingConnection:
        """Connect by the same transport and framing."""
        return hailer.connect(
            server.endpoints[0],
            framing=None if self.kind.records else self.framing,
            max_message=max_message,
            receive_timeout=PATIENCE,
            tls=self._tls[1] if self.encrypted else None,
        ).open()


@pytest.fixture
def cell(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> Cell:
    return Cell(request.param, tmp_path, certificates)


def test_all_cells_are_there() -> None:
    assert len(CELLS) == 7 * 10 * 9
    # 7 models over 5 kinds of streams with 9 framings but 2 over stdio, and over 5 kinds of records.
    assert len(POSSIBLE) == 7 * 5 * 9 - 2 * 9 + 7 * 5


@pytest.mark.parametrize("cell", IN_PROCESS, indirect=True, ids="-".join)
def test_what_is_sent_comes_back(cell: Cell) -> None:
    with cell.serve() as server, cell.connect(server) as client:
        client.send(b"hello")
        if cell.framing == "eof":
            client.finish()
            assert client.receive() == b"hello"
            return
        assert client.receive() == b"hello"
        if not is_marked((cell.model, cell.transport, cell.framing)):
            client.send(b"more")
            assert client.receive() == b"more"
            return
        messages = [b"", b"x", b"two words", b"\xff\xfe\r.", b"y" * 9000]
        if not cell.datagrams:  # those may be lost when they come faster than they are read
            messages += [b"%d" % number for number in range(500)]
        if cell.transport == "unix+seqpacket" and sys.platform != "linux":
            messages.remove(b"")
        for start in range(0, len(messages), 50):
            batch = messages[start : start + 50]
            client.send_many(batch)
            answers = [client.receive() for _ in batch]
            if cell.model == "prefork" and cell.datagrams:  # each may be answered by another process
                batch, answers = sorted(batch), sorted(answers)
            assert answers == batch


@pytest.mark.parametrize(
    # Not for raw and short-read: each read is a message, so that there is no limit to meet.
    "cell",
    [*MARKED, *(cell for cell in IN_PROCESS if cell[2] == "eof")],
    indirect=True,
    ids="-".join,
)
def test_the_limit_takes_what_fits_and_cuts_nothing(cell: Cell) -> None:
    limit = LIMIT
    if cell.transport == "udp":
        limit = 65_507
    over = b"x" * (LIMIT + 1)
    with cell.serve() as server:
        with cell.connect(server) as client:
            client.send(b"y" * limit)
            if cell.framing == "eof":
                client.finish()
            assert client.receive() == b"y" * limit
        with cell.connect(server) as client:
            if cell.transport == "udp":
                with pytest.raises(MessageError):
                    client.send(over)
                return
            with suppress(ConnectionEnded):  # the server may have gone before it has read all of it
                client.send(over)
                if cell.framing == "eof":
                    client.finish()
            # Where nothing can follow a message that is too long, the connection may end instead.
            with suppress(ConnectionEnded, FramingError):
                assert client.receive() == b"over %d" % LIMIT
        with cell.connect(server) as client:
            client.send(b"still there")
            if cell.framing == "eof":
                client.finish()
            assert client.receive() == b"still there"


@pytest.mark.parametrize(
    "cell", [cell for cell in MARKED if has_half_close(cell)], indirect=True, ids="-".join
)
def test_the_answers_come_after_a_half_close(cell: Cell) -> None:
    with cell.serve() as server, cell.connect(server) as client:
        client.send_many([b"one", b"two"])
        client.finish()
        assert [client.receive(), client.receive()] == [b"one", b"two"]
        with pytest.raises(EndOfStream):
            client.receive()


@pytest.mark.parametrize("cell", IN_PROCESS, indirect=True, ids="-".join)
def test_the_server_outlives_failures_and_resets(cell: Cell) -> None:
    with cell.serve() as server:
        client = cell.connect(server)
        client.send(b"unfinished business")
        client.abort()
        client.close()
        with cell.connect(server) as client:
            client.send(b"fail")
            if cell.framing == "eof":
                client.finish()
                assert client.receive() == b""  # what a stream without a byte says
            # Nobody tells a datagram's sender that there will be no answer.
            with pytest.raises((ConnectionEnded, FramingError, TimedOut)):
                client.receive(0.05 if cell.datagrams else PATIENCE)
        with cell.connect(server) as client:
            client.send(b"next")
            if cell.framing == "eof":
                client.finish()
            assert client.receive() == b"next"
        assert server.counters.handler_failures <= 1


@pytest.mark.parametrize(
    "cell", [cell for cell in MARKED if cell[0] != "iterative"], indirect=True, ids="-".join
)
def test_two_at_once(cell: Cell) -> None:
    with cell.serve() as server, cell.connect(server) as one, cell.connect(server) as other:
        one.send(b"first")
        assert one.receive() == b"first"
        other.send(b"second")
        assert other.receive() == b"second"
        one.send(b"third")
        assert one.receive() == b"third"


@pytest.mark.parametrize(
    ("model", "framing"), [(model, framing) for model, kind, framing in POSSIBLE if kind == "stdio"]
)
def test_standard_input_and_output(model: str, framing: str) -> None:
    chosen = as_framing(framing)
    message = b"hello" if framing != "short-read:4" else b"hi"
    handler = Path(__file__).with_name("handler.py")
    command = [sys.executable, "-m", "hailer", "serve", f"{handler}:handle", "stdio:"]
    done = subprocess.run(
        [*command, "--model", model, "--framing", framing],
        input=chosen.encode(message),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, chosen.encode(message)), done.stderr


@pytest.mark.parametrize("cell", [cell for cell in CELLS if why_not(*cell) is not None], ids="-".join)
def test_what_cannot_be_says_why(
    cell: tuple[str, str, str], certificates: tuple[ssl.SSLContext, ...]
) -> None:
    model, transport, framing = cell
    endpoint = {"fd": "fd://3", "stdio": "stdio:"}.get(transport, f"{transport}://127.0.0.1:0")
    if transport.startswith("unix"):
        endpoint = f"{transport}:/tmp/never-made"
    tls = certificates[0] if transport in ("tls", "wss") else None
    with pytest.raises(UsageError, match=re.escape(why_not(*cell) or "")):
        hailer.Server(endpoint, handle, model, framing=framing, tls=tls)  # type: ignore[arg-type]


def test_the_page_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs/reference/matrix.md"
    assert matrix_as_markdown() in page.read_text(encoding="utf-8"), (
        "run python docs/reference/make_matrix_page.py"
    )
