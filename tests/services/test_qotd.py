"""Quotations: one a day, short ones, from here or from a file."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from hailer.errors import UsageError
from hailer.services import SERVICES
from hailer.services.qotd import SAYINGS, of_the_day, read_quotations
from tests.services.conftest import Datagrams, exchange

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.conftest import Serve


def wire(lines: tuple[bytes, ...]) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def of_today(answer: bytes, *quotes: tuple[bytes, ...]) -> bool:
    """Whether it is today's, or was when it was asked for a moment ago."""
    today = datetime.now(UTC).date()
    return answer in [wire(of_the_day(quotes, date.fromordinal(today.toordinal() - ago))) for ago in (0, 1)]


def test_our_own_are_short_and_printable() -> None:
    for lines in SAYINGS:
        assert len(wire(lines)) < 512
        assert all(line.decode("ascii").isprintable() and line == line.strip() for line in lines)


def test_each_has_its_day() -> None:
    days = [date.fromordinal(740000 + number) for number in range(len(SAYINGS))]
    assert {of_the_day(SAYINGS, day) for day in days} == set(SAYINGS)


def test_a_stream_gets_it_at_once(serve: Serve) -> None:
    served = serve("qotd")
    assert of_today(served.ask(), *SAYINGS)
    assert of_today(served.ask(b"whatever is said\r\n" * 1000), *SAYINGS)


def test_each_datagram_gets_it() -> None:
    answers = exchange("qotd", Datagrams([b""], [b"one", b"two"]))
    assert len(answers) == 3
    assert all(of_today(answer, *SAYINGS) for answer in answers)


def test_a_file(tmp_path: Path, serve: Serve) -> None:
    file = tmp_path / "quotes"
    file.write_bytes(b"\n  Two\tlines,\r\nthis is the second.   \n\n%\n%\n\nOne.\n% \nNo end")
    quotes = read_quotations(file)
    assert quotes == [(b"  Two   lines,", b"this is the second."), (b"One.",), (b"No end",)]
    handler = SERVICES["qotd"].build(file=str(file))
    assert of_today(serve(handler, SERVICES["qotd"].framing).ask(), *quotes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "has no quotation"),
        (b"%\n\n%\n", "has no quotation"),
        (b"one\n%\n" + b"x" * 510, "quotation 2 in .* has 512 characters"),
        ("Grüße".encode(), "quotation 1 in .* printable ASCII"),
        (b"bell \a", "printable ASCII"),
        (b"x\n%\n" * (1 << 19), "larger than"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, text: bytes, sentence: str) -> None:
    file = tmp_path / "quotes"
    file.write_bytes(text)
    with pytest.raises(UsageError, match=sentence):
        SERVICES["qotd"].build(file=str(file))


def test_the_longest_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "quotes"
    file.write_bytes(b"x" * 509)
    assert read_quotations(file) == [(b"x" * 509,)]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        SERVICES["qotd"].build(file=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="is no file"):
        SERVICES["qotd"].build(file=str(tmp_path))
