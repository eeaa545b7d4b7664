"""What a person asks for becomes loads that mean it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import UsageError
from hailer.framing import framing
from hailer.net.resolve import resolve
from hailer.tools.bench.endpoint import is_of_this_machine
from hailer.tools.bench.endpoint_plan import Asked, plan

if TYPE_CHECKING:
    from hailer.tools.bench.wire import Load

TCP = Endpoint.parse("tcp://localhost:7000")
UDP = Endpoint.parse("udp://localhost:7000")


def loads(endpoint: Endpoint = TCP, **asked: Any) -> list[Load]:
    if isinstance(asked.get("framing"), str):
        asked["framing"] = framing(asked["framing"])
    return [load for _, load in plan(endpoint, Asked(**asked))]


def only(endpoint: Endpoint = TCP, **asked: Any) -> Load:
    (load,) = loads(endpoint, kind="pingpong", **asked)
    return load


def test_the_tour() -> None:
    assert [(load.kind, load.clients) for load in loads()] == [
        ("connect", 8),
        ("pingpong", 1),
        ("pingpong", 32),
        ("stream", 1),
    ]
    assert [(load.kind, load.clients) for load in loads(clients=5)] == [
        ("connect", 5),
        ("pingpong", 1),
        ("pingpong", 5),
        ("stream", 5),
    ]
    assert [load.kind for load in loads(UDP)] == ["pingpong", "pingpong", "stream"]
    assert [load.kind for load in loads(expect="none")] == ["connect", "stream"]
    assert [load.kind for load in loads(expect="http", text="x")] == ["connect", "pingpong", "pingpong"]
    assert [load.kind for load in loads(expect="eof")] == ["connect"]


def test_cases_have_different_titles() -> None:
    for asked in (Asked(), Asked(clients=1), Asked(clients=8)):
        titles = [case.title for case, _ in plan(TCP, asked)]
        assert len(set(titles)) == len(titles)


def test_a_kind_follows_from_what_only_it_has() -> None:
    assert [load.kind for load in loads(rate=100.0)] == ["open"]
    assert [load.kind for load in loads(reverse=True)] == ["stream"]
    assert [load.kind for load in loads(in_flight=5)] == ["pingpong"]


def test_lines_of_a_size() -> None:
    messages = only(size=20).messages
    assert len(set(messages)) == 16
    assert all(len(message) == 20 and message.endswith(b"\n") for message in messages)
    assert len(only().messages[0]) == 64
    assert only(size=1).messages == (b"\n",) * 16


def test_texts_are_lines_unless_they_say_otherwise() -> None:
    assert only(text="hello").messages == (b"hello\n",)
    assert only(text=r"PING\r\n").messages == (b"PING\r\n",)
    assert only(text="hello", framing="raw").messages == (b"hello",)
    assert only(text=r"\x00\xff\\", framing="netstring").messages == (b"3:\x00\xff\\,",)
    assert only(first="AUTH x").first == b"AUTH x\n"
    assert only(data=b"as it is").messages == (b"as it is",)
    assert only(UDP, text="hello").messages == (b"hello",)
    assert only(size=5, framing="length").messages[0] == b"\0\0\0\5" + b"00 aa"


def test_only_our_own_datagrams_get_numbers() -> None:
    assert only(UDP).numbered
    assert not only(UDP, text="hello").numbered
    assert not only(UDP, expect="any").numbered


def test_what_is_expected() -> None:
    assert only(text="x", expect="text:+OK").answer == b"+OK\n"
    assert only(text="x", expect="text:+OK", framing="crlf").answer == b"+OK\r\n"
    assert only(text="x", expect="message", framing="null").answer == b"\0"
    assert only(text="x", expect="message", framing=r"delimiter:\r\r").answer == b"\r\r"
    assert only(text="x", expect="message").expect == "line"
    assert only(UDP, expect="line").expect == "any"
    assert loads(reverse=True)[0].messages == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"text": "x", "size": 5}, "one of --send, --file and --size"),
        ({"text": r"\q"}, "no escape"),
        ({"text": "a\nb", "framing": "line"}, "newline"),
        ({"kind": "open"}, "--rate"),
        ({"kind": "pingpong", "rate": 5.0}, "--rate"),
        ({"kind": "connect", "reverse": True}, "--reverse"),
        ({"kind": "stream", "in_flight": 5}, "in flight"),
        ({"kind": "pingpong", "size": 0}, "nothing to send"),
        ({"expect": "message", "framing": "length"}, "text:TEXT"),
        ({"expect": "nonsense"}, "cannot be expected"),
        ({"data": bytes((16 << 20) + 1)}, "too long"),
    ],
)
def test_what_does_not_fit_together(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        loads(**asked)


def test_datagrams_take_no_framing() -> None:
    with pytest.raises(UsageError, match="--framing"):
        loads(UDP, text="x", framing="null")


def test_which_addresses_are_of_this_machine() -> None:
    for text, ours in (
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.8.9.10:1", True),
        ("unix:/tmp/x", True),
        ("tcp://192.0.2.1:1", False),  # RFC 5737: nobody's
        ("udp://[2001:db8::1]:1", False),
    ):
        assert is_of_this_machine(resolve(Endpoint.parse(text), timeout=5)) is ours
