"""The client's half of the relay protocol without I/O: bytes in, typed events out.

`ClientProtocol.feed` takes what was read, in any pieces. Almost all that a busy client reads is MSG
lines, so a block of lines is split once and the head of each, ``MSG bob alice``, is looked up rather than
parsed: a relay says the same few heads again and again. Everything else takes the way through a table.
`hailer.relay.client.commands` is the other direction.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hailer.errors import BadFrame, FramingError, MessageTooLong, TruncatedMessage
from hailer.relay import grammar
from hailer.relay.client.events import (
    Answered,
    Asked,
    Banner,
    Bye,
    End,
    Event,
    Expired,
    Fail,
    Gap,
    HelpLine,
    Here,
    Joined,
    Left,
    Message,
    Offline,
    Online,
    Other,
    Ping,
    Pong,
    Replier,
    Stored,
    Welcome,
)
from hailer.relay.controls import clean

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_PAYLOAD", "ClientProtocol"]

MAX_PAYLOAD = 1 << 20
"""Bytes of one message: what a relay takes by default."""

_MOST_HEADS = 20_000
"""Heads of MSG lines that are kept: one for each sender and room, about 6 MiB at most."""

_DIGITS = 18
"""Of the longest number that is taken: more than any relay counts, and less than a machine word."""

_VERB = re.compile(rb"[A-Z][A-Z0-9-]{0,31}")
_FIRST = (b"RELAY", b"BYE", b"FAIL")
_COUNTED = {b"MSG": 3, b"MAIL": 4, b"ASKED": 3, b"ANSWERED": 3}
"""The words, the verb among them, before a payload that may be counted."""


class ClientProtocol:
    """What one connection to a relay brings.

    Args:
        max_payload: the most bytes of one counted payload.
        replier: what `Message.reply` sends with.
    """

    def __init__(self, *, max_payload: int = MAX_PAYLOAD, replier: Replier | None = None) -> None:
        self._max_payload = max_payload
        self._replier = replier
        self._rest = bytearray()
        self._payload: tuple[list[bytes], int] | None = None
        self._heads: dict[bytes, tuple[str, str]] = {}
        self._greeted = False
        self._broken = False
        self._store = ""

    def feed(self, data: bytes) -> list[Event | FramingError]:
        """Take what was read.

        Args:
            data: any piece of the stream.

        Returns:
            The events that it completes, in order. If the bytes are none of a relay's, the last item
            is a FramingError; the connection is to be closed, and nothing after it is looked at.
        """
        events: list[Event | FramingError] = []
        if self._broken:
            return events
        try:
            if self._rest:
                data = self._with_earlier(data)
            used = self._blocks(data, events)
            if used < len(data):
                self._rest = bytearray(data[used:])
        except FramingError as error:
            self._broken = True
            self._rest = bytearray()
            events.append(error)
        return events

    def end(self) -> None:
        """Take note of the end of the stream.

        Raises:
            TruncatedMessage: it came in the middle of a line or a payload.
        """
        if (self._rest or self._payload is not None) and not self._broken:
            raise TruncatedMessage(
                "the relay's last line broke off in the middle: connect again", partial=bytes(self._rest)
            )

    def _with_earlier(self, data: bytes) -> bytes:
        """Put what came earlier before what came now, once that can complete something."""
        rest = self._rest
        if self._payload is not None:
            complete = len(rest) + len(data) >= self._payload[1]
        else:
            # only the new bytes are searched: a line that drips in costs no more than one at once
            complete = b"\n" in data or len(rest) + len(data) > grammar.MAX_LINE
        rest += data
        if not complete:
            return b""
        self._rest = bytearray()
        return bytes(rest)

    def _blocks(self, data: bytes, events: list[Event | FramingError]) -> int:
        """Handle whole lines in blocks as long as they are plain; returns how many bytes were used."""
        start, size = 0, len(data)
        while start < size and self._payload is None:
            end = data.rfind(b"\n", start, start + grammar.MAX_LINE + 1) + 1
            block = data[start:end]
            if not end or not clean(block):
                break
            used = self._plain(block, events)
            start += used
            if used < len(block):
                break
        # Counted payloads, CRLF and odd bytes: line by line to the end of what was read. Going back to
        # blocks after each payload would copy the rest each time.
        return self._lines(data, start, events)

    def _plain(self, block: bytes, events: list[Event | FramingError]) -> int:
        """Handle clean lines up to the first that announces a payload; returns how many bytes were used."""
        heads, replier = self._heads, self._replier
        append = events.append
        lines = block.split(b"\n")
        lines.pop()
        for index, line in enumerate(lines):
            head, colon, text = line.partition(b" :")
            pair = heads.get(head)
            if pair is not None and colon:
                append(Message(pair[0], pair[1], text, replier))
            elif line:
                self._line(line, events)
                if self._payload is not None:
                    return sum(map(len, lines[: index + 1])) + index + 1
        return len(block)

    def _lines(self, data: bytes, start: int, events: list[Event | FramingError]) -> int:
        """Handle lines and payloads one by one; returns where what is not whole begins."""
        size = len(data)
        while start < size:
            if self._payload is not None:
                words, count = self._payload
                if size - start < count:
                    break
                self._payload = None
                events.append(self._event(words, data[start : start + count]))
                start += count
                continue
            end = data.find(b"\n", start, start + grammar.MAX_LINE + 1)
            if end < 0:
                if size - start > grammar.MAX_LINE:
                    raise MessageTooLong(
                        f"the relay sent a line of more than {grammar.MAX_LINE} bytes: this is no relay",
                        limit=grammar.MAX_LINE,
                        fatal=True,
                    )
                break
            line = data[start:end]
            start = end + 1
            if line.endswith(b"\r"):
                line = line[:-1]
            if not clean(line):
                raise _no_relay("control characters or bytes that are no UTF-8", line)
            if line:
                self._line(line, events)
        return start

    def _line(self, line: bytes, events: list[Event | FramingError]) -> None:
        head, colon, text = line.partition(b" :")
        words = head.split()
        if not words or _VERB.fullmatch(words[0]) is None:
            raise _no_relay("a line that is no event", line)
        if not self._greeted:
            if words[0] not in _FIRST:
                raise _no_relay("a first line that is no greeting", line)
            self._greeted = True
        if colon:
            event = self._event(words, text)
            if type(event) is Message and event.number is None:
                if len(self._heads) >= _MOST_HEADS:
                    self._heads.clear()
                self._heads[head] = (event.sender, event.to)
            events.append(event)
        elif len(words) != _COUNTED.get(words[0], 0) + 1 or (count := grammar.count_of(words[-1])) is None:
            events.append(self._event(words, None))
        elif count > self._max_payload:
            raise MessageTooLong(
                f"the relay announces a message of {count} bytes: allow more than {self._max_payload} with"
                " max_payload if that is right",
                limit=self._max_payload,
                fatal=True,
            )
        elif count:
            self._payload = (words[:-1], count)
        else:
            events.append(self._event(words[:-1], b""))

    def _event(self, words: list[bytes], text: bytes | None) -> Event:
        verb = words[0]
        if verb == b"MSG" and text is not None and len(words) == 3:
            return Message(_name(words[1]), _place(words[2]), text, self._replier)
        if verb == b"MAIL" and text is not None and len(words) == 4:
            number = _number(words[1])
            return Message(_name(words[2]), _place(words[3]), text, self._replier, number, self._store)
        make = _EVENTS.get(verb)
        if make is None:
            return Other(verb.decode())
        try:
            event = make(words[1:], text)
            if type(event) is Welcome:
                self._store = event.store
            return event  # noqa: TRY300 (what is raised above is what is meant)
        except (ValueError, TypeError):  # too few or too many words, or a text too much or too little
            raise _no_relay("a line with something missing or too much", b" ".join(words)) from None


def _no_relay(what: str, line: bytes) -> BadFrame:
    shown = grammar.printable(line).decode()
    return BadFrame(f'this is no hailer relay, for it sent {what} ("{shown}"): correct the address')


def _name(word: bytes) -> str:
    if not grammar.is_name(word):
        raise _no_relay("a name that is none", word)
    return word.decode()


def _place(word: bytes) -> str:
    if not (grammar.is_name(word) or grammar.is_room(word)):
        raise _no_relay("a name that is none", word)
    return word.decode()


def _text(text: bytes | None) -> str:
    if text is None:
        raise ValueError
    return text.decode("utf-8", "replace")


def _no_text(text: bytes | None) -> None:
    if text is not None:
        raise ValueError


def _asked(words: list[bytes], text: bytes | None) -> Event:
    number, sender = words
    if text is None:
        raise ValueError
    return Asked(_token(number), _name(sender), text)


def _answered(words: list[bytes], text: bytes | None) -> Event:
    number, sender = words
    if text is None:
        raise ValueError
    return Answered(_token(number), _name(sender), text)


def _token(word: bytes) -> str:
    if not grammar.is_token(word):
        raise _no_relay("an id that is none", word)
    return word.decode()


def _in_room(make: type[Joined | Left]) -> Callable[[list[bytes], bytes | None], Event]:
    def made(words: list[bytes], text: bytes | None) -> Event:
        room, name = words
        _no_text(text)
        if not grammar.is_room(room):
            raise ValueError
        return make(room.decode(), _name(name))

    return made


def _presence(make: type[Online | Offline]) -> Callable[[list[bytes], bytes | None], Event]:
    def made(words: list[bytes], text: bytes | None) -> Event:
        (name,) = words
        _no_text(text)
        return make(_name(name))

    return made


def _here(words: list[bytes], text: bytes | None) -> Event:
    _no_text(text)
    room = None
    if words and grammar.is_room(words[0]):
        room, words = words[0].decode(), words[1:]
    return Here(room, tuple(map(_name, words)))


def _end(words: list[bytes], text: bytes | None) -> Event:
    (of,) = words
    _no_text(text)
    return End(of.decode())


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > _DIGITS:
        raise _no_relay("a number that is none", word)
    return int(word)


def _gap(words: list[bytes], text: bytes | None) -> Event:
    count, source = words
    return Gap(_number(count), _place(source), _text(text).removeprefix("since "))


def _stored(words: list[bytes], text: bytes | None) -> Event:
    (number,) = words
    _no_text(text)
    return Stored(_number(number))


def _expired(words: list[bytes], text: bytes | None) -> Event:
    number, to, count = words
    since = _text(text).removeprefix("since ")
    return Expired(_number(number), _place(to), _number(count), since)


def _fail(words: list[bytes], text: bytes | None) -> Event:
    code, command = words
    explanation, number = _text(text), ""
    if command in (b"ASK", b"ANSWER", b"POST"):
        start, colon, end = explanation.partition(": ")
        if colon and grammar.is_token(start.encode()):
            number, explanation = start, end
    return Fail(code.decode(), command.decode(), explanation, number)


def _bye(words: list[bytes], text: bytes | None) -> Event:
    () = words
    return Bye(_text(text) if text is not None else "")


def _welcome(words: list[bytes], text: bytes | None) -> Event:
    _no_text(text)
    name, *rest = words
    options = {key: value.decode() for key, _, value in (word.partition(b"=") for word in rest)}
    stored, mail = (_number(options.get(key, "0").encode()) for key in (b"stored", b"mail"))
    session, relay, store = (options.get(key, "") for key in (b"session", b"relay", b"store"))
    return Welcome(_name(name), session, relay, stored, mail, store)


def _beat(make: type[Ping | Pong]) -> Callable[[list[bytes], bytes | None], Event]:
    def made(words: list[bytes], text: bytes | None) -> Event:
        _no_text(text)
        (token,) = words or [b""]
        return make(token.decode())

    return made


def _help(words: list[bytes], text: bytes | None) -> Event:
    () = words
    return HelpLine(_text(text))


def _banner(words: list[bytes], text: bytes | None) -> Event:
    software, *_ = words
    return Banner(software.decode(), _text(text) if text is not None else "")


def _message(_words: list[bytes], _text: bytes | None) -> Event:
    raise ValueError  # a well-formed one was taken before


_EVENTS: dict[bytes, Callable[[list[bytes], bytes | None], Event]] = {
    b"MSG": _message,
    b"MAIL": _message,
    b"STORED": _stored,
    b"EXPIRED": _expired,
    b"ASKED": _asked,
    b"ANSWERED": _answered,
    b"JOINED": _in_room(Joined),
    b"LEFT": _in_room(Left),
    b"ONLINE": _presence(Online),
    b"OFFLINE": _presence(Offline),
    b"HERE": _here,
    b"END": _end,
    b"GAP": _gap,
    b"FAIL": _fail,
    b"BYE": _bye,
    b"WELCOME": _welcome,
    b"PING": _beat(Ping),
    b"PONG": _beat(Pong),
    b"HELP": _help,
    b"RELAY": _banner,
}
