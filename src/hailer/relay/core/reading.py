"""From what a read brought to commands: blocks of lines on the short way, all else line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay import grammar
from hailer.relay.controls import clean
from hailer.relay.core import commands
from hailer.relay.core.posting import post_block
from hailer.relay.core.routing import send_block, send_each
from hailer.relay.core.session import BLOCK
from hailer.relay.grammar import MAX_LINE, MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.core.relay import Relay
    from hailer.relay.core.session import Session

_P = ord("P")


def block_taker(block: bytes) -> Callable[[Relay, Session, bytes], bool]:
    """What takes a block of lines as a whole, if its first line is any sign."""
    return post_block if block[0] == _P else send_block


def take_apart(relay: Relay, session: Session, data: bytes) -> None:
    """Handle commands as they come; keep what is no whole command, or has to wait.

    Args:
        relay: the core.
        session: who sent them; it is not closing.
        data: what a read brought, none of it if it goes on with what was kept.
    """
    start = 0
    if session.input:
        data, start = _with_earlier(relay, session, data)
    size = len(data)
    while start < size and not session.holders and not session.closing:
        if session.payload is not None:
            if size - start < session.payload[1]:
                break
            start = _payload(relay, session, session.payload, data, start)
            continue
        end = _short_lines(data, start, session.block)
        if end > start:
            block = data if start == 0 and end == size else data[start:end]
            if session.online and block_taker(block)(relay, session, block):
                start = end
                continue
            if end - start > BLOCK:
                session.block = BLOCK  # less of it may do
                continue
        else:
            end = data.find(b"\n", start, start + MAX_LINE + 1) + 1
            if not end:
                if size - start > MAX_LINE:
                    relay.too_long(session, b"LINE", b"a line may have %d bytes" % MAX_LINE)
                break
        start = _lines(relay, session, data, start, end)
    if session.closing:
        return
    if start < size:
        session.input = bytearray(memoryview(data)[start:])
        session.backlog = session.holders > 0
    # the time for one line or payload counts from the first byte of it, however many reads it takes
    if start or (size and session.payload is None):
        session.input_since = relay.clock.now


def _with_earlier(relay: Relay, session: Session, data: bytes) -> tuple[bytes, int]:
    """Handle what came earlier, once what came now completes it.

    Only the new bytes are searched, and only what completes a line or payload is copied: one that drips in
    costs no more than one at once, and a stream of reads that all end within a line is not copied whole.

    Returns:
        What is to be handled next, and the place where that begins.
    """
    earlier = session.input
    if session.backlog:
        session.input = bytearray()
        session.backlog = False
        return b"".join((earlier, data)), 0
    if session.payload is not None:
        missing = session.payload[1] - len(earlier)
    else:
        too_long = len(earlier) + len(data) > MAX_LINE
        missing = data.find(b"\n") + 1 or len(data) + (not too_long)
    if missing > len(data):
        earlier += data
        return b"", 0
    session.input = bytearray()
    take_apart(relay, session, b"".join((earlier, memoryview(data)[:missing])))
    if session.input:  # it has to wait
        session.input += memoryview(data)[missing:]
        return b"", 0
    return data, missing


def _lines(relay: Relay, session: Session, data: bytes, start: int, end: int) -> int:
    """Handle lines one by one, with the payloads between them.

    Args:
        relay: the core.
        session: who sent them.
        data: what holds them.
        start: where the first begins.
        end: the place after some LF. A payload may reach beyond it: slicing a new block after each
            payload would cost the square of their number.

    Returns:
        The place up to which `data` was used.
    """
    while start < end and not session.holders and not session.closing:
        if session.online and data.startswith(b"SEND ", start):
            after = send_each(relay, session, data, start, end)
            if after > start:
                start = after
                continue
        stop = data.find(b"\n", start)
        line = data[start:stop]
        begin, start = start, stop + 1
        if line.endswith(b"\r"):
            line = line[:-1]
            if not session.online:
                session.crlf = session.careful = True
        if not line:
            continue
        if not clean(line):
            verb = grammar.shown_verb(line.split(b" ", 1)[0])
            why = b"not UTF-8, or control characters; send such bytes counted (see HELP)"
            relay.fail(session, b"bad-text", verb, why)
            continue
        head, colon, text = line.partition(b" :")
        words = head.split()
        if not words:
            continue
        count = None if colon else commands.counted(words)
        if not count and _waits(relay, session, words):
            return begin
        if colon:
            commands.run(relay, session, words, text)
        elif count is None:
            commands.run(relay, session, words, None)
        elif count > (relay.limits.payload if session.online else MAX_LINE):
            relay.counters.meet("payload", session)
            relay.too_long(session, b"PAYLOAD", b"a payload may have %d bytes" % relay.limits.payload)
        elif not count:
            commands.run(relay, session, words[:-1], b"")
        else:
            session.payload = (words[:-1], count)
            if len(data) - start < count:
                break
            start = _payload(relay, session, session.payload, data, start)
    return start


def _payload(
    relay: Relay, session: Session, announced: tuple[list[bytes], int], data: bytes, start: int
) -> int:
    """Carry out the command whose payload begins here and is whole; returns the place after what was used."""
    words, count = announced
    if _waits(relay, session, words):
        return start
    session.payload = None
    commands.run(relay, session, words, data[start : start + count])
    return start + count


def _waits(relay: Relay, session: Session, words: list[bytes]) -> bool:
    """Have a session wait that posts while too much is not stored yet; gives whether it does.

    Before and not after the post is accepted: a thousand senders that may each post once more would be
    a thousand posts to the largest room.
    """
    waits = relay.mail.crowded and session.online and words[0].upper() == b"POST"
    if waits:
        relay.mail.hold_back(session)
    return waits


def _short_lines(data: bytes, start: int, most: int) -> int:
    """The place after the lines of at most MAX_TEXT bytes that begin here, up to `most` bytes of them.

    It goes in steps of MAX_TEXT: a longer line is noticed without a look at each line.

    Returns:
        `start` if the first line is longer, or not whole.
    """
    end, size = start, len(data)
    while end < size and end - start <= most - MAX_TEXT:
        step = data.rfind(b"\n", end, end + MAX_TEXT) + 1
        if not step:
            break
        end = step
    return end


def whole_lines(data: bytes) -> int:
    """The place after the lines of at most MAX_TEXT bytes with which this begins."""
    return _short_lines(data, 0, len(data) + MAX_TEXT)
