"""`Layers` without sockets: whatever the pieces in which bytes come, the same is said and heard."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from hailer.endpoint import Endpoint
from hailer.errors import ConnectionLost, HailerError
from hailer.relay.edge.layers import Layers, certified_name
from hailer.relay.edge.link import Gate
from tests.relay.edge.layered import SERVER, trusting

PEER = Endpoint.parse("tcp://127.0.0.1:5000")
TEXTS = ["HELLO ann", "SEND bob :é", "", "A\nB", "C\n"]
WANTED = "HELLO ann\nSEND bob :é\n\nA\nB\nC\n".encode() + b"raw \xff bytes"


def make_context() -> ssl.SSLContext:
    """A server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    SERVER.configure_cert(context)
    context.num_tickets = 0
    return context


CONTEXT = make_context()


def layers_of(scheme: str, max_message: int = 1 << 20) -> Layers:
    """Layers as the edge makes them."""
    gate = Gate(tls=CONTEXT, max_message=max_message)
    return Layers(Endpoint.parse(f"{scheme}://127.0.0.1:4000"), PEER, gate)


class Client:
    """The other side, in memory: the frames or bytes to send, through TLS or not."""

    def __init__(self, scheme: str) -> None:
        self.web = ClientProtocol(parse_uri("ws://127.0.0.1:4000/")) if scheme != "tls" else None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl: ssl.SSLObject | None = None
        if scheme != "ws":
            self._ssl = trusting().wrap_bio(self._in, self._out, server_hostname="localhost")
        self.heard = b""
        self.ended = False

    def handshake(self) -> bytes:
        """The next bytes to send until TLS is agreed on; b"" then."""
        if self._ssl is not None:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                pass
        return self._out.read()

    def hear(self, raw: bytes) -> None:
        """Take what the relay wrote."""
        data = raw
        if self._ssl is not None:
            self._in.write(raw)
            data = b""
            try:
                while piece := self._ssl.read(65536):
                    data += piece
                self.ended = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self.ended = True
        if self.web is None:
            self.heard += data
            return
        self.web.receive_data(data)
        for event in self.web.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self.heard += event.data

    def wrap(self, data: bytes) -> bytes:
        """What goes over the wire for it."""
        if self._ssl is None:
            return data
        if data:
            self._ssl.write(data)
        return self._out.read()

    def speak(self) -> bytes:
        """All messages of the test, as they go over the wire."""
        if self.web is None:
            return self.wrap(WANTED)
        for text in TEXTS:
            self.web.send_text(text.encode())
        self.web.send_ping(b"?")
        self.web.send_binary(b"raw \xff", fin=False)
        self.web.send_continuation(b" bytes", fin=True)
        return self.wrap(b"".join(self.web.data_to_send()))

    def leave(self) -> bytes:
        """The goodbye."""
        if self.web is not None:
            self.web.send_close(4000, "enough")
            return self.wrap(b"".join(self.web.data_to_send()))
        assert self._ssl is not None
        with pytest.raises(ssl.SSLWantReadError):
            self._ssl.unwrap()
        return self._out.read()


@settings(max_examples=60)
@given(scheme=st.sampled_from(["tls", "ws", "wss"]), sizes=st.lists(st.integers(1, 700), min_size=1))
def test_any_pieces_make_the_same_stream(scheme: str, sizes: list[int]) -> None:
    layers, client = layers_of(scheme), Client(scheme)
    count = 0
    came = b""

    def carry(raw: bytes) -> None:
        nonlocal count, came
        while raw:
            size = sizes[count % len(sizes)]
            count += 1
            came += layers.feed(raw[:size])
            raw = raw[size:]
        client.hear(layers.output())

    carry(client.handshake())
    carry(client.handshake())
    if client.web is not None:
        assert not layers.opened
        client.web.send_request(client.web.connect())
        carry(client.wrap(b"".join(client.web.data_to_send())))
    assert layers.opened
    for said in (b"one\n", b"two \xff\n" * 30_000, b"three"):
        client.hear(layers.encode(said))
    assert client.heard == b"one\n" + b"two \xff\n" * 30_000 + b"three"
    carry(client.speak())
    assert came == WANTED
    assert not layers.partial
    carry(client.leave())
    assert layers.ended
    assert layers.failure is None
    client.hear(layers.encode(b"answer\n"))  # what came before the goodbye is still answered
    assert client.heard.endswith(b"answer\n")
    client.hear(layers.finish())
    if client.web is not None:
        assert client.web.close_rcvd is not None
        assert client.web.close_rcvd.code == 4000
    if scheme != "ws":
        assert client.ended
    layers.close()


@settings(max_examples=200)
@given(scheme=st.sampled_from(["tls", "ws", "wss"]), pieces=st.lists(st.binary(min_size=1, max_size=300)))
def test_garbage_never_opens_anything(scheme: str, pieces: list[bytes]) -> None:
    layers = layers_of(scheme)
    for piece in pieces:
        assert layers.feed(piece) == b""
    assert layers.feed(b"") == b""
    assert not layers.opened
    assert isinstance(layers.failure, HailerError)
    assert "\n" not in str(layers.failure)
    layers.close()


@settings(max_examples=200)
@given(junk=st.binary(min_size=1, max_size=400), size=st.integers(1, 50))
def test_garbage_frames_end_in_one_failure(junk: bytes, size: int) -> None:
    layers = layers_of("ws", max_message=200)
    client = Client("ws")
    assert client.web is not None
    client.web.send_request(client.web.connect())
    layers.feed(b"".join(client.web.data_to_send()))
    assert layers.opened
    came = b""
    for start in range(0, len(junk), size):
        came += layers.feed(junk[start : start + size])
    layers.feed(b"")
    assert len(came) <= 2 * len(junk)
    assert layers.ended or layers.failure is not None
    layers.encode(b"BYE\n")
    layers.finish()
    layers.close()


def test_an_end_without_goodbye() -> None:
    layers, client = layers_of("tls"), Client("tls")
    for _ in range(2):
        layers.feed(client.handshake())
        client.hear(layers.output())
    assert layers.feed(client.wrap(b"PING x\n")) == b"PING x\n"
    assert layers.feed(b"") == b""
    assert isinstance(layers.failure, ConnectionLost)
    assert not layers.ended


def test_a_message_is_bounded() -> None:
    layers, client = layers_of("ws", max_message=1000), Client("ws")
    assert client.web is not None
    client.web.send_request(client.web.connect())
    layers.feed(b"".join(client.web.data_to_send()))
    client.hear(layers.output())
    client.web.send_text(b"x" * 600, fin=False)
    assert layers.feed(b"".join(client.web.data_to_send())) == b""
    assert layers.partial
    client.web.send_continuation(b"x" * 600, fin=False)
    assert layers.feed(b"".join(client.web.data_to_send())) == b""
    assert layers.speaks


@pytest.mark.parametrize(
    ("subject", "alternatives", "name"),
    [
        (["Ann"], [], b"ann"),
        (["Ann"], ["bob"], b"ann"),
        (["not a name"], ["*.example.org", "Bob.example", "carl"], b"bob.example"),
        ([], ["bob"], b"bob"),
        (["x" * 65], [], b""),
        (["#room", "ann"], [], b"ann"),
        ([], [], b""),
    ],
)
def test_which_name_a_certificate_proves(subject: list[str], alternatives: list[str], name: bytes) -> None:
    certificate = {
        "subject": tuple((("commonName", value),) for value in subject),
        "subjectAltName": (("IP Address", "127.0.0.1"), *(("DNS", value) for value in alternatives)),
    }
    assert certified_name(certificate) == name
    assert certified_name(None) == b""
