"""The log: one event a line, as text or as JSON, and nothing in it that a peer could break a line with.

An event is a word and fields; `log_event` logs it by the standard library's logging, so that programs that
embed a server or a relay see it as any other record, with ``event`` and ``fields`` as attributes of the
record. `TextFormatter` and `JsonFormatter` are what the command writes it with.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

__all__ = ["JsonFormatter", "LogFormat", "Seldom", "TextFormatter", "log_event", "make_formatter", "pairs"]

LogFormat = Literal["plain", "text", "json"]

Value = str | int | float

# What needs no quotes: printable ASCII but the space, the quote, the equals sign and the backslash.
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)'s, which systemd reads between < and > at a line's begin (sd-daemon(3))."""


class _Event:
    """An event's text, made when a record is written, and not for who does not want it."""

    __slots__ = ("_fields", "_name")

    def __init__(self, name: str, fields: Mapping[str, Value]) -> None:
        self._name = name
        self._fields = fields

    def __str__(self) -> str:
        return f"{self._name} {pairs(self._fields)}".rstrip()


def log_event(log: logging.Logger, level: int, event: str, /, **fields: Value) -> None:
    """Log one event.

    Args:
        log: the logger.
        level: of logging, such as `logging.INFO`.
        event: a word.
        fields: what belongs to it. Text of peers may be among it, as it came; tokens and session ids never.
    """
    if log.isEnabledFor(level):
        log.log(level, "%s", _Event(event, fields), extra={"event": event, "fields": fields})


def pairs(fields: Mapping[str, Value]) -> str:
    """The fields as ``key=value``, with spaces between and quotes round what needs them.

    In quotes a backslash and a quote have a backslash before them, and whatever could break a line, move a
    cursor or turn the direction of text is an escape of Python's, such as ``\\x1b``.
    """
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in fields.items())


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


class Seldom:
    """Lets an event of each kind pass once a second, and counts the others.

    Args:
        clock: gives the instant, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._more: dict[str, int] = {}

    def passes(self, kind: str) -> int:
        """Say how many events of a kind the next line stands for; 0 when there is to be none now."""
        now = self._clock()
        count = self._more.get(kind, 0) + 1
        if now - self._last.get(kind, float("-inf")) < 1.0:
            self._more[kind] = count
            return 0
        self._last[kind] = now
        self._more.pop(kind, None)
        return count


class _LineFormatter(logging.Formatter):
    """Takes a record apart: its event and fields, or what others log, as the event ``log``."""

    @staticmethod
    def _parts(record: logging.LogRecord) -> tuple[str, dict[str, Value]]:
        event = getattr(record, "event", None)
        fields: dict[str, Value] = {}
        if isinstance(event, str):
            fields.update(getattr(record, "fields", {}))
        else:
            event = "log"
            fields = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["trace"] = logging.Formatter().formatException(record.exc_info)
        return event, fields

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return when.replace("+00:00", "Z")


class TextFormatter(_LineFormatter):
    """``2026-11-21T18:00:00.000Z info login peer=tcp4://127.0.0.1:4711 name=ann``.

    Args:
        journal: for systemd's journal, which keeps the time itself: the level is what that understands.
    """

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        event, fields = self._parts(record)
        level = record.levelname.lower()
        start = f"<{_PRIORITIES.get(level, 6)}>" if self._journal else f"{self._time(record)} {level} "
        return f"{start}{event} {pairs(fields)}".rstrip()


class JsonFormatter(_LineFormatter):
    """One JSON object (RFC 8259) a line, all ASCII: time, level, event, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        event, fields = self._parts(record)
        first = {"time": self._time(record), "level": record.levelname.lower(), "event": event}
        # json escapes all but DEL of what printable() does
        return json.dumps({**first, **fields}, ensure_ascii=True).replace("\x7f", "\\u007f")


def make_formatter(form: LogFormat, stream: TextIO | None = None) -> logging.Formatter:
    """The formatter of that name.

    Args:
        form: which.
        stream: where the log goes: the journal is told from other places.
    """
    if form == "plain":
        return logging.Formatter("hailer: %(message)s")  # for a person; tracebacks have their lines
    return JsonFormatter() if form == "json" else TextFormatter(journal=_leads_to_journal(stream))


def _leads_to_journal(stream: TextIO | None) -> bool:
    """Whether this is what systemd connected to its journal (systemd.exec(5), JOURNAL_STREAM)."""
    said = os.environ.get("JOURNAL_STREAM")
    if stream is None or said is None:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return said == f"{status.st_dev}:{status.st_ino}"
