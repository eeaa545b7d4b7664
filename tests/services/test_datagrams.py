"""The services that the RFCs have on datagrams, on UDP sockets under every model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.services import SERVICES

if TYPE_CHECKING:
    from tests.services.conftest import Serve

QUESTIONS = (b"one", b"", b"two\r\n", b"\0" * 600)


def test_echo(serve: Serve) -> None:
    assert serve("echo", scheme="udp").exchange(*QUESTIONS) == list(QUESTIONS)


def test_chargen(serve: Serve) -> None:
    answers = serve("chargen", scheme="udp").exchange(*QUESTIONS)
    assert [len(answer) for answer in answers] == [3, 0, 5, 512]


@pytest.mark.parametrize("name", ["qotd", "daytime", "time", "hello", "ack", "greet"])
def test_each_is_answered(serve: Serve, name: str) -> None:
    served = serve(name, scheme="udp")
    answers = served.exchange(*QUESTIONS)
    assert all(0 < len(answer) <= 1000 for answer in answers)
    assert name == "greet" or len({len(answer) for answer in answers}) == 1
    assert served.server.counters.handler_failures == 0


def test_discard_says_nothing(serve: Serve) -> None:
    served = serve("discard", scheme="udp")
    with pytest.raises(TimeoutError):
        served.exchange(b"one", patience=0.1)


def test_the_table_says_what_has_datagrams() -> None:
    assert {name for name, service in SERVICES.items() if service.datagram} == {
        *("echo", "chargen", "qotd", "daytime", "time", "hello", "ack", "greet", "discard")
    }
