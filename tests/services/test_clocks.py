"""The clocks: their formats, and when they answer."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from hailer.services.clocks import daytime_line, time_bytes
from tests.services.conftest import Datagrams, exchange

if TYPE_CHECKING:
    from tests.services.conftest import Serve

DAYTIME = "%A, %B %d, %Y %H:%M:%S-UTC\r\n"


def near(moment: datetime) -> bool:
    return abs((datetime.now(UTC) - moment).total_seconds()) < 5


def test_the_line_is_as_in_the_rfc() -> None:
    moment = datetime(1982, 2, 22, 17, 37, 43, tzinfo=UTC)
    assert daytime_line(moment) == b"Monday, February 22, 1982 17:37:43-UTC"


def test_all_days_and_months_have_their_names() -> None:
    for number in range(1, 13):
        moment = datetime(2026, number, number + 10, tzinfo=UTC)
        assert daytime_line(moment).decode() + "\r\n" == moment.strftime(DAYTIME)


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        # The notes of RFC 868 itself.
        (0, 2_208_988_800),
        (datetime(1976, 1, 1, tzinfo=UTC).timestamp(), 2_398_291_200),
        (datetime(1980, 1, 1, tzinfo=UTC).timestamp(), 2_524_521_600),
        (datetime(1983, 5, 1, tzinfo=UTC).timestamp(), 2_629_584_000),
        # Where 32 bits end.
        (datetime(2036, 2, 7, 6, 28, 15, tzinfo=UTC).timestamp(), 0xFFFF_FFFF),
        (datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC).timestamp(), 0),
        (datetime(2036, 2, 7, 6, 28, 17, 900_000, tzinfo=UTC).timestamp(), 1),
    ],
)
def test_seconds_since_1900(seconds: float, value: int) -> None:
    assert time_bytes(seconds) == value.to_bytes(4, "big")


def test_daytime_comes_at_once_and_ends(serve: Serve) -> None:
    served = serve("daytime")
    with served.connect() as client:  # which says nothing and does not finish
        data = b""
        while more := client.recv(100):
            data += more
    assert near(datetime.strptime(data.decode(), DAYTIME).replace(tzinfo=UTC))
    assert served.ask(b"x" * 100_000).endswith(b"-UTC\r\n"), "what is said does not cost the answer"


def test_time_comes_at_once_and_ends(serve: Serve) -> None:
    client = serve("time").connect()
    data = b""
    while more := client.recv(100):
        data += more
    assert len(data) == 4
    assert abs(int.from_bytes(data, "big") - 2_208_988_800 - time.time()) < 5


def test_daytime_in_another_framing(serve: Serve) -> None:
    assert serve("daytime", "line").ask().endswith(b"-UTC\n")


@pytest.mark.parametrize("scheme", ["udp", "udp4", "unix+dgram"])
def test_datagrams_are_answered_each(scheme: str) -> None:
    answers = exchange("daytime", Datagrams([b"", b"when?"], [b""], scheme=scheme))
    assert len(answers) == 3
    assert all(answer.endswith(b"-UTC\r\n") for answer in answers)
    assert [len(answer) for answer in exchange("time", Datagrams([b"", b"?"], [b""], scheme=scheme))] == [
        4
    ] * 3


def test_records_on_a_connection_are_served_like_a_stream() -> None:
    (record,) = exchange("daytime", Datagrams([b"unread"], scheme="unix+seqpacket"))
    assert record.endswith(b"-UTC")
    assert len(exchange("time", Datagrams(scheme="unix+seqpacket"))) == 1


def test_no_datagram_no_answer() -> None:
    assert exchange("time", Datagrams()) == exchange("daytime", Datagrams()) == []
