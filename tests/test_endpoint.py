"""Endpoints: every kind parsed and written, every mistake told with a way out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.endpoint import UNIX_PATH_LIMIT, Endpoint, from_sockaddr, parse_words
from hailer.errors import EndpointError, UsageError

# fmt: off
ACCEPTED = [
    # text, canonical text
    ("localhost:7000", "tcp://localhost:7000"),
    ("LOCALHOST:7000", "tcp://localhost:7000"),
    ("TCP://h:1", "tcp://h:1"),
    ("tcp4://127.0.0.1:0", "tcp4://127.0.0.1:0"),
    ("tcp6://[::1]:65535", "tcp6://[::1]:65535"),
    ("tls://example.org:https", "tls://example.org:https"),
    ("udp://*:53", "udp://*:53"),
    ("udp4://h:1", "udp4://h:1"),
    ("udp6://h:1", "udp6://h:1"),
    ("*:0", "tcp://*:0"),
    ("h:007000", "tcp://h:7000"),
    ("h:whois++", "tcp://h:whois++"),
    ("tcp:7000", "tcp://tcp:7000"),
    ("[::1]:7000", "tcp://[::1]:7000"),
    ("[0:0::0001]:7", "tcp://[::1]:7"),
    ("[2001:DB8::A]:7", "tcp://[2001:db8::a]:7"),
    ("[::FFFF:1.2.3.4]:5", "tcp://[::ffff:1.2.3.4]:5"),
    ("[::ffff:102:304]:5", "tcp://[::ffff:1.2.3.4]:5"),
    ("[fe80::1%eth0]:1", "tcp://[fe80::1%eth0]:1"),
    ("[fe80::1%25]:1", "tcp://[fe80::1%25]:1"),
    ("münchen.example:80", "tcp://münchen.example:80"),
    ("my_host-1.:80", "tcp://my_host-1.:80"),
    ("ws://h", "ws://h:80/"),
    ("ws://h:/", "ws://h:80/"),
    ("wss://h/ws", "wss://h:443/ws"),
    ("ws://[::1]:8080/a/b?c=d@e", "ws://[::1]:8080/a/b?c=d@e"),
    ("ws://h?x=1", "ws://h:80/?x=1"),
    ("unix:/run/x", "unix:/run/x"),
    ("unix:///run/x", "unix:/run/x"),
    ("unix:relative path.sock", "unix:relative path.sock"),
    ("UNIX:@name", "unix:@name"),
    ("unix+dgram:x:y", "unix+dgram:x:y"),
    ("unix+seqpacket:///a", "unix+seqpacket:/a"),
    ("unix:" + "a" * UNIX_PATH_LIMIT, "unix:" + "a" * UNIX_PATH_LIMIT),
    ("unix:@" + "a" * UNIX_PATH_LIMIT, "unix:@" + "a" * UNIX_PATH_LIMIT),
    ("fd://3", "fd://3"),
    ("fd://003", "fd://3"),
    ("fd://systemd", "fd://systemd"),
    ("stdio:", "stdio:"),
]

REFUSED = [
    # text, what the sentence says
    ("", "write HOST:PORT"),
    ("localhost", "no port; write HOST:PORT"),
    ("localhost:", "no port; write HOST:PORT"),
    ("localhost 7000", "no port; write HOST:PORT"),
    ("7000", "port without a host; write localhost:7000, or *:7000"),
    (":7000", "the host is missing; write localhost:7000, or *:7000"),
    ("tcp://", "write HOST:PORT"),
    ("h:65536", "'65536' is out of range; write one from 0 to 65535"),
    ("h:" + "9" * 10_000, "out of range"),
    ("h:-1", "'-1' is neither"),
    ("h:+1", "neither"),
    ("h:1_0", "neither"),
    ("h:\u0663", "neither"),
    ("h:80 ", "'80 ' is neither"),
    ("h:e c", "neither"),
    ("h:\n", "neither"),
    (" h:80", "' h' has characters that no host has"),
    ("a b:80", "no host has"),
    ("a\x1b[2J:80", "'a\\x1b[2J' has characters that no host has"),
    ("a\u202eb:80", "'a\\u202eb' has"),
    ("a%b:80", "no host has"),
    ("a,b:80", "no host has"),
    ("a" * 254 + ":80", "longer than a host's name"),
    ("u:hush@h:1", "no user name or password before 'h:1'"),
    ("tcp://u:hu/sh@h:1", "no user name or password before 'h:1'"),
    ("ws://u@h/", "no user name"),
    ("tcp://h:1/", "path, query or fragment"),
    ("tcp://h:1?x", "path, query or fragment"),
    ("tls://h:1#x", "path, query or fragment"),
    ("::1", "without a port; write [::1]:7000"),
    ("fe80::1%eth0", "write [fe80::1%eth0]:7000"),
    ("2001:db8::g:80", "too many colons"),
    ("1:2:3:4:5:6:7:8:9000", "write [1:2:3:4:5:6:7:8]:9000"),
    ("::1:7000", "write [::1]:7000, or [::1:7000]:7000 if all of it"),
    ("a:b:c", "too many colons"),
    ("[::1]", "no port"),
    ("[::1]7000", "brackets"),
    ("[::1:7000", "brackets"),
    ("[localhost]:1", "stands in brackets but is no IPv6"),
    ("[127.0.0.1]:1", "stands in brackets but is no IPv6"),
    ("[fe80::1%]:1", "no IPv6"),
    ("[fe80::1%a b]:1", "no IPv6"),
    ("[]:1", "no IPv6"),
    ("tcp4://[::1]:1", "write tcp6://"),
    ("udp6://127.0.0.1:1", "write udp4://"),
    ("http://h:1", "'http' is no kind of endpoint; write one of tcp://"),
    ("\x1b://h:1", "'\\x1b' is no kind"),
    ("://h:1", "no kind"),
    ("tcp:h:1", "lacks the slashes; write tcp://"),
    ("tcp:/h:1", "lacks the slashes"),
    ("/run/x", "write unix:PATH"),
    ("./x:1", "write unix:PATH"),
    ("@x", "write unix:PATH"),
    ("unix:", "no path"),
    ("unix://x", "two slashes"),
    ("unix:@", "abstract name"),
    ("unix:a\0b", "control characters"),
    ("unix:a\udcff", "not UTF-8"),
    ("unix:" + "a" * (UNIX_PATH_LIMIT + 1), f"bytes and a Unix socket's path at most {UNIX_PATH_LIMIT};"),
    ("unix:@" + "é" * 54, "108 bytes"),
    ("ws://h/a b", "percent-encode"),
    ("ws://h/é", "percent-encode"),
    ("ws://h/a\r\nHost: evil", "percent-encode"),
    ("ws://h/#a", "fragment"),
    ("ws://", "host is missing"),
    ("fd:3", "write fd://3"),
    ("fd://", "names no descriptor"),
    ("fd://-1", "names no descriptor"),
    ("fd://2147483648", "no descriptor's number"),
    ("stdio:x", "write stdio: alone"),
    ("unixx:/a", "path, query or fragment"),
]
# fmt: on


@pytest.mark.parametrize(("text", "canonical"), ACCEPTED)
def test_it_is_read_and_written_canonically(text: str, canonical: str) -> None:
    endpoint = Endpoint.parse(text)
    assert str(endpoint) == canonical
    assert Endpoint.parse(canonical) == endpoint
    assert hash(Endpoint.parse(canonical)) == hash(endpoint)


@pytest.mark.parametrize(("text", "saying"), REFUSED)
def test_a_mistake_gets_one_sentence_with_the_way_out(text: str, saying: str) -> None:
    with pytest.raises(EndpointError) as caught:
        Endpoint.parse(text)
    sentence = str(caught.value)
    assert saying in sentence
    assert sentence.isprintable()
    assert len(sentence) < 300
    assert "hush" not in sentence
    assert "sh@" not in sentence


def test_the_error_is_also_a_usage_error_and_a_value_error() -> None:
    with pytest.raises(UsageError):
        Endpoint.parse("")
    with pytest.raises(ValueError):
        Endpoint.parse("")


def test_a_bare_host_and_port_takes_the_default_scheme() -> None:
    assert str(Endpoint.parse("h:1", default_scheme="udp")) == "udp://h:1"
    assert str(Endpoint.parse("tls://h:1", default_scheme="udp")) == "tls://h:1"
    assert str(Endpoint.parse("h", default_scheme="wss")) == "wss://h:443/"
    with pytest.raises(EndpointError, match="bare HOST:PORT"):
        Endpoint.parse("h:1", default_scheme="unix")


@pytest.mark.parametrize(
    ("words", "canonical"),
    [
        (["h:1"], "tcp://h:1"),
        (["h", "1"], "tcp://h:1"),
        (["h", "echo"], "tcp://h:echo"),
        (["::1", "7"], "tcp://[::1]:7"),
        (["[::1]", "7"], "tcp://[::1]:7"),
        (["unix:/a"], "unix:/a"),
    ],
)
def test_words_of_a_command_line(words: list[str], canonical: str) -> None:
    assert str(parse_words(words)) == canonical


@pytest.mark.parametrize(
    ("words", "saying"),
    [
        ([], "not 0"),
        (["a", "1", "2"], "not 3"),
        (["tcp://h", "1"], "followed by another word"),
        (["unix:/a", "1"], "followed by another word"),
        (["[h]", "1"], "no IPv6"),
        (["h:1", "2"], "too many colons"),
        (["h", ""], "neither"),
        (["", "1"], "host is missing"),
    ],
)
def test_words_that_are_no_endpoint(words: list[str], saying: str) -> None:
    with pytest.raises(EndpointError, match=saying.replace("[", "\\[")):
        parse_words(words)


def test_words_take_the_default_scheme() -> None:
    assert parse_words(["h", "1"], default_scheme="udp").scheme == "udp"
    assert parse_words(["h:1"], default_scheme="udp").scheme == "udp"
    with pytest.raises(EndpointError):
        parse_words(["h", "1"], default_scheme="nothing")


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.255.3.4:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("unix:/a", True),
        ("unix:@a", True),
        ("wss://LocalHost/", True),
        ("*:1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("127.0.0.1.example:1", False),
        ("localhost.example:1", False),
        ("127.1:1", False),
        ("[::ffff:1.2.3.4]:1", False),
        ("fd://3", False),
        ("fd://systemd", False),
        ("stdio:", False),
        ("128.0.0.1:1", False),
    ],
)
def test_loopback_is_only_what_is_surely_so(text: str, loopback: bool) -> None:
    assert Endpoint.parse(text).is_loopback is loopback


def test_what_each_kind_is() -> None:
    parsed = [Endpoint.parse(canonical) for _, canonical in ACCEPTED]
    assert {e.scheme for e in parsed if e.is_datagram} == {"udp", "udp4", "udp6", "unix+dgram"}
    assert {e.scheme for e in parsed if e.is_local} == {"unix", "unix+dgram", "unix+seqpacket", "fd", "stdio"}


def test_family_hint() -> None:
    hints = {"tcp4://h:1": 4, "udp6://h:1": 6, "h:1": None, "1.2.3.4:1": 4, "ws://[::1]/": 6, "*:1": None}
    hints |= {"unix:/a4": None, "fd://4": None, "stdio:": None}
    assert {text: Endpoint.parse(text).family_hint for text in hints} == hints


def test_address_text() -> None:
    texts = {"h:1": "h:1", "[::1]:1": "[::1]:1", "ws://h/x": "h:80", "unix:/a": "/a", "unix:@a": "@a"}
    texts |= {"fd://3": "descriptor 3", "fd://systemd": "systemd's sockets"}
    texts |= {"stdio:": "standard input and output"}
    assert {text: Endpoint.parse(text).address_text for text in texts} == texts


def test_with_port_reports_what_was_bound() -> None:
    assert str(Endpoint.parse("ws://[::1]:0/x").with_port(4321)) == "ws://[::1]:4321/x"
    with pytest.raises(EndpointError, match="65536"):
        Endpoint.parse("h:0").with_port(65536)
    with pytest.raises(EndpointError, match="do not fit unix"):
        Endpoint.parse("unix:/a").with_port(1)


@pytest.mark.parametrize(
    "parts",
    [
        ("tcp", "h"),
        ("tcp", "h", 1, "/x"),
        ("tcp", "h", 1, "", 3),
        ("tcp", "h", 65536),
        ("tcp", "h", -1),
        ("tcp", "a:b", 1),
        ("fd",),
        ("fd", "", None, "", -1),
        ("stdio", "", None, "x"),
        ("unix", "h", None, "x"),
        ("unix", "", 1, "x"),
        ("nothing",),
    ],
)
def test_parts_that_do_not_fit_the_kind_are_refused(parts: tuple[Any, ...]) -> None:
    with pytest.raises(EndpointError):
        Endpoint(*parts)


def test_a_port_written_as_text_is_the_same_port() -> None:
    assert Endpoint("tcp", "H", "80") == Endpoint("tcp", "h", 80)


@pytest.mark.parametrize(
    ("scheme", "sockaddr", "canonical"),
    [
        ("tcp", ("1.2.3.4", 5), "tcp://1.2.3.4:5"),
        ("tcp", ("::1", 5, 0, 0), "tcp://[::1]:5"),
        ("tcp", ("::ffff:1.2.3.4", 5, 0, 0), "tcp://1.2.3.4:5"),
        ("udp6", ("::ffff:1.2.3.4", 5, 0, 0), "udp://1.2.3.4:5"),
        ("tls", ("fe80::1", 5, 0, 2), "tls://[fe80::1%2]:5"),
        ("tcp", ("fe80::1%eth0", 5, 0, 2), "tcp://[fe80::1%eth0]:5"),
        ("ws", ("1.2.3.4", 5), "ws://1.2.3.4:5/"),
        ("unix", "/run/x", "unix:/run/x"),
        ("unix+dgram", b"\0name", "unix+dgram:@name"),
        ("unix", "@file", "unix:./@file"),
        ("unix", b"\0a\x1b[2J\n\xff\0", "unix:@a\\x1b[2J\\n\\xff\\x00"),
        ("unix", "/a\udcff\u202e", "unix:/a\\xff\\u202e"),
        ("unix", b"\0" + b"a" * UNIX_PATH_LIMIT, "unix:@" + "a" * UNIX_PATH_LIMIT),
        ("unix", "@" + "a" * (UNIX_PATH_LIMIT - 1), "unix:./@" + "a" * (UNIX_PATH_LIMIT - 3)),
        ("unix", "", "unix:"),
        ("unix", None, "unix:"),
        ("unix", b"\0", "unix:"),
    ],
)
def test_from_sockaddr(scheme: str, sockaddr: object, canonical: str) -> None:
    assert str(from_sockaddr(scheme, sockaddr)) == canonical


def test_an_unnamed_peer_says_so() -> None:
    assert from_sockaddr("unix", "").address_text == "an unnamed Unix socket"


@pytest.mark.parametrize(
    ("scheme", "sockaddr"),
    [
        ("tcp", "/x"),
        ("tcp", ("h",)),
        ("unix", ("h", 1)),
        ("fd", ("h", 1)),
        ("tcp", None),
        ("x", ("h", 1)),
    ],
)
def test_no_sockaddr_of_that_kind(scheme: str, sockaddr: object) -> None:
    with pytest.raises(EndpointError):
        from_sockaddr(scheme, sockaddr)


@given(st.binary(max_size=108))
def test_no_unix_peer_can_choose_a_name_that_fails(name: bytes) -> None:
    for sockaddr in (b"\0" + name, name, name.decode("utf-8", "surrogateescape")):
        endpoint = from_sockaddr("unix", sockaddr)
        assert str(endpoint).isprintable()
        if endpoint.path:
            assert Endpoint.parse(str(endpoint)) == endpoint


NAMES = st.from_regex(r"[a-zA-Z0-9ä_]([a-zA-Z0-9ß_-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,8}){0,3}", fullmatch=True)
ZONES = st.from_regex(r"%[a-z0-9:.-]{1,8}", fullmatch=True)
V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str)
ANY_HOST = st.one_of(NAMES, V4, V6, st.just("*"), st.tuples(V6, ZONES).map("".join))
PORTS = st.one_of(st.integers(0, 65535), st.sampled_from(["echo", "whois++", "80x"]))
UNIX_PATHS = st.text(min_size=1, max_size=25).filter(lambda p: p.isprintable() and p != "@")
WEB_PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30)
UNIX_SCHEMES = st.sampled_from(["unix", "unix+dgram", "unix+seqpacket"])
ENDPOINTS = st.one_of(
    st.builds(Endpoint, st.sampled_from(["tcp", "tls", "udp"]), ANY_HOST, PORTS),
    st.builds(Endpoint, st.sampled_from(["tcp4", "udp4"]), st.one_of(NAMES, V4), PORTS),
    st.builds(Endpoint, st.sampled_from(["tcp6", "udp6"]), V6, PORTS),
    st.builds(Endpoint, st.sampled_from(["ws", "wss"]), ANY_HOST, st.one_of(PORTS, st.none()), WEB_PATHS),
    st.builds(Endpoint, UNIX_SCHEMES, st.just(""), st.none(), UNIX_PATHS),
    st.builds(lambda fd: Endpoint("fd", fd=fd), st.integers(0, 2**31 - 1)),
    st.sampled_from([Endpoint("fd", fd="systemd"), Endpoint("stdio")]),
)


@given(ENDPOINTS)
def test_every_endpoint_survives_its_text(endpoint: Endpoint) -> None:
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert str(Endpoint.parse(str(endpoint))) == str(endpoint)


@given(
    st.one_of(
        st.text(),
        st.text("tcpunixws+46:/@[]%.*? 0é\x00-", max_size=30),
        st.builds("{}{}".format, st.sampled_from(["tcp://", "ws://", "unix:", "fd://", "["]), st.text()),
    )
)
def test_any_text_is_an_endpoint_or_an_endpoint_error(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except EndpointError as error:
        assert str(error).isprintable()  # noqa: PT017
        assert len(str(error)) < 400  # noqa: PT017
    else:
        assert str(endpoint).isprintable()
        assert Endpoint.parse(str(endpoint)) == endpoint


def test_standard_input_has_no_address() -> None:
    assert from_sockaddr("stdio", "") == Endpoint("stdio")
