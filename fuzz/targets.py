"""What is fuzzed: each target takes any bytes, and raises when something is wrong with what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hailer.endpoint import Endpoint
from hailer.errors import EndpointError, FramingError
from hailer.framing import framing
from hailer.relay.client.protocol import ClientProtocol
from hailer.relay.core.commands import COMMANDS
from hailer.relay.core.limits import Limits
from tests.relay.core.conftest import Driver, events_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Target(NamedTuple):
    """One thing that is fuzzed.

    Attributes:
        run: takes the bytes.
        words: what its inputs are likely to be made of.
        seconds: what an input of at most 64 KiB may take: most targets parse it twice, and compare.
    """

    run: Callable[[bytes], None]
    words: tuple[bytes, ...]
    seconds: float


def pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    """Take the first byte to say how the rest is cut into reads; gives the rest whole, and cut."""
    if not data:
        return b"", []
    size = (data[0] & 63) + 1 if data[0] < 192 else max(1, len(data) // 2)
    rest = data[1:]
    if len(rest) // size > 2000:  # this is about what is said, not about a million reads
        size = len(rest) // 2000 + 1
    return rest, [rest[at : at + size] for at in range(0, len(rest), size)]


# the relay: what it answers has to be well-formed, to the one who says this and to others

_LIMITS = Limits(payload=5000, rooms=3, watches=3, asks=3, waiting=20_000)


def relay(data: bytes) -> None:
    """A client of a relay says anything, before and after it has logged in."""
    whole, reads = pieces(data)
    driver = Driver(_LIMITS, checks=False)
    other = driver.login("ben", rooms="#r")
    driver.send(other, b"WATCH\n")
    peer = driver.connect()
    if whole[:1] > b"\x40":
        driver.send(peer, b"HELLO ann\n")
    for read in reads:
        if peer.gone or peer.closing:
            break
        if not peer.holders:
            driver.send(peer, read)
    if not peer.gone:
        driver.end(peer)
    driver.check()
    for each in (peer, other):
        events_of(bytes(each.taken), whole=False)


_NAMES = (b"ann", b"ben", b"cy", b"#r", b"#s", b"#" + b"x" * 64)
_TAILS = (
    b" :",
    b" 3\nabc",
    b" 0\n",
    b" 99999999999\n",
    b"\n",
    b"\r\n",
    b" :text\n",
    b"\x00",
    b"\xc2\x80",
    b"\xff",
)
_NUMBERS = (b" 1", b" 2", b" 3", b" -1", b" 00", b" 18446744073709551616")
_RELAY_WORDS = (
    *(verb + b" " for verb in sorted(COMMANDS)),
    *_NAMES,
    *_TAILS,
    *_NUMBERS,
    b" session=s",
    b" token=t",
)


# a client: whatever a relay says becomes events, or one error that ends it


def client(data: bytes) -> None:
    """A relay, or what pretends to be one, says anything to a client."""
    whole, reads = pieces(data)
    at_once = _shown(ClientProtocol(max_payload=5000).feed(whole))
    protocol = ClientProtocol(max_payload=5000)
    came: list[object] = []
    for read in reads:
        for event in protocol.feed(read):
            assert not any(isinstance(one, FramingError) for one in came[-1:]), "something after an error"
            came.append(event)
    assert _shown(came) == at_once, "another cut, other events"


_CLIENT_WORDS = tuple(
    verb + b" "
    for verb in (
        *(b"RELAY", b"WELCOME", b"MSG", b"MAIL", b"STORED", b"EXPIRED", b"ASKED", b"ANSWERED", b"JOINED"),
        *(
            b"LEFT",
            b"ONLINE",
            b"OFFLINE",
            b"HERE",
            b"END WHO",
            b"HELP",
            b"GAP",
            b"FAIL",
            b"BYE",
            b"PING",
            b"PONG",
        ),
    )
)

# framings: the same messages however the stream is cut

_FRAMINGS = ("line", "crlf", "null", "delimiter:END", "length", "netstring", "eof")


def framings(data: bytes) -> None:
    """A peer sends anything to a program that uses one of the framings."""
    if not data:
        return
    decoders = framing(_FRAMINGS[data[0] % len(_FRAMINGS)])
    whole, reads = pieces(data[1:])
    if not whole:
        return
    decoder = decoders.decoder(2000)
    expected = _shown([*decoder.feed(whole), *decoder.feed(b"")])
    decoder = decoders.decoder(2000)
    came = [got for read in [*reads, b""] for got in decoder.feed(read)]
    assert _shown(came) == expected, "another cut, other messages"
    for got in came:
        assert isinstance(got, FramingError) or len(got) <= 2000


def _shown(messages: Sequence[object]) -> list[object]:
    """Messages to be compared; of an error its kind, for it may tell how much had come."""
    return [type(message) if isinstance(message, FramingError) else message for message in messages]


def endpoints(data: bytes) -> None:
    """Somebody gives anything as an endpoint."""
    try:
        endpoint = Endpoint.parse(data.decode("utf-8", "surrogateescape"))
    except EndpointError:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint


_FRAMING_WORDS = (b"\n", b"\r\n", b"\x00", b"END", b"E", b"5:hello,", b"1:", b"\x00\x00\x00\x05hello")
_SCHEMES = (b"tcp://", b"udp6://", b"unix:", b"unix+dgram:@", b"ws://", b"tls://", b"stdio:", b"fd://systemd")
_HOSTS = (
    b"localhost",
    b"[::1]",
    b"[fe80::1%lo]",
    b"*",
    b":0",
    b":65535",
    b":65536",
    b"/path",
    b"?a=b",
    b"%41",
    b"@",
)

TARGETS = {
    # 64 KiB are up to 13,000 commands; what they are answered, such as HELP each time, is looked at as well
    "relay": Target(relay, _RELAY_WORDS, 0.3),
    "client": Target(client, (*_CLIENT_WORDS, *_NAMES, *_TAILS, *_NUMBERS), 0.01),
    "framings": Target(framings, _FRAMING_WORDS, 0.015),
    "endpoints": Target(endpoints, (*_SCHEMES, *_HOSTS), 0.01),
}
