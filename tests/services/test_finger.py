"""Finger: queries, and answers that no terminal obeys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.services import SERVICES
from hailer.services.finger import MOST_NAMES, SourceError, finger, made_safe
from tests.services.conftest import Datagrams, exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.services.conftest import Serve

CRLF = SERVICES["finger"].framing


class Few:
    """Knows alice, and what is asked."""

    def __init__(self, *names: str) -> None:
        self.known = names or ("alice",)

    async def names(self) -> Sequence[str]:
        return self.known

    async def about(self, name: str, *, wide: bool) -> Sequence[str] | None:
        return [f"{name} {wide}"] if name in self.known else None


class Broken(Few):
    """Cannot be asked."""

    async def names(self) -> Sequence[str]:
        raise SourceError("Not now.")


def ask(query: bytes) -> list[bytes]:
    """Ask over records, for what does not depend on the transport."""
    return exchange(finger(Few("alice", "bob")), Datagrams([query], scheme="unix+seqpacket"))


def test_a_query_and_its_answer(serve: Serve) -> None:
    served = serve(finger(Few()), CRLF)
    assert served.ask(b"alice\r\n") == b"alice False\r\n"
    assert served.ask(b"/W alice\r\n") == b"alice True\r\n"
    assert served.ask(b"alice\n") == b"alice False\r\n", "people type LF"
    assert served.ask(b"\r\n") == b"alice\r\n"
    assert served.ask(b"/W\r\n") == b"alice\r\n"
    assert served.ask(b"carol\r\n") == b"carol: no such user.\r\n"


def test_one_query_for_each_connection(serve: Serve) -> None:
    assert serve(finger(Few()), CRLF).ask(b"alice\r\nalice\r\n") == b"alice False\r\n"


def test_no_query_no_answer(serve: Serve) -> None:
    served = serve(finger(Few()), CRLF)
    assert served.ask() == b""
    assert served.ask(b"alice") == b"", "a query that was cut off may be another one"
    assert served.server.counters.handler_failures == 0


@pytest.mark.parametrize("query", [b"alice@elsewhere", b"@elsewhere", b"/w a@b@c", b"alice @elsewhere"])
def test_nothing_is_forwarded(query: bytes) -> None:
    assert ask(query) == [b"Finger forwarding service denied."]


def test_queries_that_are_none() -> None:
    assert ask(b"alice bob") == [b"One name at a time, please."]
    assert ask(b"a" * 513) == [b"This query is too long."]
    assert ask(b" /w  bob ") == [b"bob True"]
    assert ask(b"/Walice") == [b"/Walice: no such user."]


@pytest.mark.parametrize("framing", [CRLF, "line", "netstring"], ids=["crlf", "line", "netstring"])
def test_an_overlong_query_is_told_so(serve: Serve, framing: str) -> None:
    served = serve(finger(Few()), framing, max_message=100)
    assert b"This query is too long." in served.ask(b"9999:" + b"a" * 200 + b"\r\n")
    assert served.server.counters.handler_failures == 0


def test_many_names_are_cut_with_a_word() -> None:
    names = [f"user{number}" for number in range(MOST_NAMES + 7)]
    lines = exchange(finger(Few(*names)), Datagrams([b""], scheme="unix+seqpacket"))
    assert lines == [*(name.encode() for name in names[:MOST_NAMES]), b"(7 more)"]


def test_a_source_that_cannot_be_asked() -> None:
    assert exchange(finger(Broken()), Datagrams([b""], scheme="unix+seqpacket")) == [b"Not now."]


def test_an_empty_source() -> None:
    source = Few()
    source.known = ()
    assert exchange(finger(source), Datagrams([b""], scheme="unix+seqpacket")) == [b"Nobody is here."]


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert made_safe("\x1b]0;title\x07 and \x9b2J") == rb"\x1b]0;title\x07 and \x9b2J"
    assert made_safe("a\tb") == b"a       b"
    assert made_safe("Grüße \u202e\r\n") == rb"Gr\xfc\xdfe \u202e\r\n"


@given(st.text())
def test_only_printable_ascii_leaves(line: str) -> None:
    assert all(0x20 <= byte < 0x7F for byte in made_safe(line))


@given(st.binary(max_size=600))
def test_any_query_has_an_answer_of_printable_lines(query: bytes) -> None:
    lines = ask(query)
    assert lines
    assert all(0x20 <= byte < 0x7F for line in lines for byte in line)
