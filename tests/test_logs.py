"""Log lines: one event a line, whatever peers say, as text and as JSON."""

from __future__ import annotations

import json
import logging
import re
import shlex
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from hailer.logs import JsonFormatter, Seldom, TextFormatter, log_event, make_formatter

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NASTY = 'a\r\nb\x00\x1b[2J\x7f\x9b31m\u2028\u202eabc\u2066 "q" =\\ \ud800 ü'


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def logged(event: str, **fields: str | int | float) -> logging.LogRecord:
    """The record of one event."""
    log = logging.Logger("hailer.test")
    log.addHandler(records := Records())
    log_event(log, logging.WARNING, event, **fields)
    (record,) = records.records
    return record


def is_one_safe_line(line: str) -> bool:
    """Whether nothing in it breaks a line, moves a cursor or turns text."""
    unsafe = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    return re.search(unsafe, line) is None


def test_text() -> None:
    line = TextFormatter().format(logged("login", peer="tcp4://127.0.0.1:1", name="ann", count=3))
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning login peer=tcp4://127\.0\.0\.1:1 name=ann count=3",
        line,
    )


def test_text_of_peers_is_quoted_and_can_be_taken_apart() -> None:
    line = TextFormatter().format(logged("bye", why='no "more" \\ = x', peer="", name="a=b"))
    assert line.endswith(r' bye why="no \"more\" \\ = x" peer="" name="a=b"')
    assert shlex.split(line)[3:] == ['why=no "more" \\ = x', "peer=", "name=a=b"]


@given(st.text())
def test_whatever_a_peer_says_is_one_line(text: str) -> None:
    for value in (text, NASTY, text + NASTY):
        record = logged("bye", why=value)
        assert is_one_safe_line(TextFormatter().format(record))
        assert is_one_safe_line(TextFormatter(journal=True).format(record))
        line = JsonFormatter().format(record)
        assert line.isascii()
        assert is_one_safe_line(line)
        assert json.loads(line)["why"] == value


def test_json() -> None:
    read = json.loads(JsonFormatter().format(logged("limit", limit="rooms", count=3)))
    assert read.pop("time").endswith("Z")
    assert read == {"level": "warning", "event": "limit", "limit": "rooms", "count": 3}


def test_what_others_log_is_one_line_too() -> None:
    log = logging.Logger("other")
    log.addHandler(records := Records())
    try:
        int(NASTY)
    except ValueError:
        log.exception("two\nlines by %s", "me")
    (record,) = records.records
    text = TextFormatter().format(record)
    assert is_one_safe_line(text)
    assert r'error log logger=other message="two\nlines by me" trace="Traceback ' in text
    read = json.loads(JsonFormatter().format(record))
    assert (read["event"], read["message"]) == ("log", "two\nlines by me")
    assert "ValueError" in read["trace"]


def test_nothing_is_made_of_what_nobody_wants() -> None:
    class Never:
        def __str__(self) -> str:
            raise AssertionError

    log = logging.Logger("quiet", logging.ERROR)
    log_event(log, logging.INFO, "login", name=Never())  # type: ignore[arg-type]


def test_once_a_second_for_each_kind() -> None:
    now = 100.0
    seldom = Seldom(lambda: now)
    assert [seldom.passes("a") for _ in range(4)] == [1, 0, 0, 0]
    assert seldom.passes("b") == 1
    now = 101.0
    assert seldom.passes("a") == 4
    assert seldom.passes("a") == 0


def test_the_journal_keeps_the_time_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = (tmp_path / "log").stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert make_formatter("text", stream).format(logged("denied", name="ann")) == "<4>denied name=ann"
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert "Z warning denied" in make_formatter("text", stream).format(logged("denied", name="ann"))
