"""What has come from a server, held against what was due.

An `Answers` belongs to one connection and looks at what each read put into the buffer, which all share. Those
that know the bytes compare them as a whole, in C and without a copy; the others count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from websockets.frames import Frame, Opcode

from hailer.errors import ConnectionLost
from hailer.text import printable
from hailer.tools.bench.wire.load import WrongAnswer

if TYPE_CHECKING:
    from hailer.tools.bench.wire.load import Load

__all__ = ["BUFFER", "SEND", "Answers", "Script", "make_script"]

BUFFER: Final = 256 * 1024
"""Bytes that one read takes at most."""

SEND: Final = 256 * 1024
"""Bytes that one send offers at most."""

_MOST_HEAD: Final = 64 * 1024


class Answers(Protocol):
    """What one connection still has to bring."""

    reply: bytes
    """What has to be sent because of it (a pong); the client takes it away."""

    def take(self, size: int) -> int:
        """Look at the first bytes of the buffer, which a read brought; say how many answers that completed.

        Raises:
            WrongAnswer: these are not the bytes that were due.
            ConnectionLost: the server said goodbye.
        """


class Script:
    """What a client says again and again, and what is to come back; all clients share it.

    Attributes:
        buffer: where every read goes.
        view: the same, for slices.
        size: bytes of a message on the wire.
        period: bytes after which what is sent repeats itself.
        out: what is sent, as often as it takes for any `SEND` bytes of it to be one slice.
        farewell: what is sent before closing, so that the server sees an orderly end.
    """

    def __init__(self, load: Load, where: str, *, websocket: bool) -> None:
        self.where = where
        self.load = load
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        sent = list(load.messages)
        self.websocket = websocket
        self.farewell = b""
        if websocket:
            sent = [_frame(each, mask=True) for each in load.messages]
            self.farewell = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
        self.size = len(sent[0]) if sent else 0
        run = b"".join(sent)
        self.period = len(run)
        self.out = memoryview(run * (SEND // len(run) + 2) if run else b"")
        self.due = b""
        self.due_size = 0
        self.due_period = 0
        if load.expect in ("echo", "exact"):
            answers = list(load.messages) if load.expect == "echo" else [load.answer]
            if websocket:
                answers = [_frame(each, mask=False) for each in answers]
            whole = b"".join(answers)
            self.due_size, self.due_period = len(answers[0]) if answers else 0, len(whole)
            self.due = whole * (BUFFER // len(whole) + 2) if whole else b""

    def answers(self) -> Answers:
        """Make what looks at one connection."""
        expect = self.load.expect
        if expect == "none" or self.load.reverse or (expect == "any" and self.load.kind == "stream"):
            return Anything(self, 0)
        if expect in ("echo", "exact"):
            return ExactFrames(self) if self.websocket else Exact(self)
        if self.websocket:
            return Frames(self)
        if expect == "http":
            return Http(self)
        if expect in ("line", "mark"):
            return Marked(self, self.load.answer if expect == "mark" else b"\n")
        if self.load.bytes_expected:
            return Counted(self, self.load.bytes_expected)
        return Anything(self, 1 if expect == "any" else 0)


def make_script(load: Load, where: str, *, websocket: bool) -> Script:
    """Make what all clients of a load say and hear."""
    return Script(load, where, websocket=websocket)


def _frame(message: bytes, *, mask: bool) -> bytes:
    """A WebSocket message in one frame, as text if it is that (as `hailer.layers.websocket` has it)."""
    try:
        message.decode()
    except UnicodeDecodeError:
        return Frame(Opcode.BINARY, message).serialize(mask=mask)
    return Frame(Opcode.TEXT, message).serialize(mask=mask)


class Exact:
    """Known bytes, in a known order."""

    __slots__ = ("_due", "_period", "_script", "_size", "_view", "partial", "place", "reply")

    def __init__(self, script: Script) -> None:
        self._script = script
        self._due = script.due
        self._period = script.due_period
        self._size = script.due_size
        self._view = script.view
        self.place = 0
        self.partial = 0
        self.reply = b""

    def take(self, size: int) -> int:
        """See `Answers`."""
        # bytes.startswith compares by memcmp, and any buffer; == of memoryviews compares byte by byte.
        if not self._due.startswith(self._view[:size], self.place):
            raise self._wrong(bytes(self._view[:size]))
        self.place = (self.place + size) % self._period
        size += self.partial
        if size < self._size:
            self.partial = size
            return 0
        done, self.partial = divmod(size, self._size)
        return done

    def _wrong(self, came: bytes) -> WrongAnswer:
        left = self._size - self.partial  # of the answer that is due
        due = self._due[self.place : self.place + left]
        at = next(
            (n for n, (one, other) in enumerate(zip(came, due, strict=False)) if one != other), len(due)
        )
        near = slice(max(0, at - 10), at + 50)
        return WrongAnswer(
            f"{self._script.where} answered {_shown(came[near])} where {_shown(due[near])} was due: say"
            " what is right with --expect, or look at what the server does"
        )


class ExactFrames(Exact):
    """Known WebSocket frames, with pings and a close of the server's own between them."""

    __slots__ = ("_held",)

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._held = b""  # of a control frame that is not all there

    def take(self, size: int) -> int:
        """See `Answers`."""
        if not self._held and self._due.startswith(self._view[:size], self.place):
            return super().take(size)
        data = self._held + bytes(self._view[:size])
        self._held = b""
        done = at = 0
        while at < len(data):
            if not self.partial and data[at] in (0x88, 0x89, 0x8A):
                length = data[at + 1] & 0x7F if at + 1 < len(data) else 0
                if at + 2 + length > len(data) or at + 1 >= len(data):
                    self._held = data[at:]
                    break
                self.reply += _control(data[at], data[at + 2 : at + 2 + length], self._script.where)
                at += 2 + length
                continue
            part = data[at : at + self._size - self.partial]
            if not self._due.startswith(part, self.place):
                raise self._wrong(part)
            self.place = (self.place + len(part)) % self._period
            self.partial = (self.partial + len(part)) % self._size
            done += not self.partial
            at += len(part)
        return done


class Frames:
    """WebSocket messages, whatever they say."""

    __slots__ = ("_held", "_left", "_script", "reply")

    def __init__(self, script: Script) -> None:
        self._script = script
        self._held = b""  # of a frame's head
        self._left = 0  # bytes of a frame's payload that are to come, plus one bit: whether it ends a message
        self.reply = b""

    def take(self, size: int) -> int:
        """See `Answers`."""
        data = self._held + bytes(self._script.view[:size])
        self._held = b""
        at = done = 0
        while at < len(data):
            if self._left:
                part = min(self._left >> 1, len(data) - at)
                at += part
                self._left -= part << 1
                if self._left <= 1:
                    done += self._left
                    self._left = 0
                continue
            head = data[at : at + 10]
            length = head[1] & 0x7F if len(head) > 1 else 0
            extra = {126: 2, 127: 8}.get(length, 0)
            control = bool(head[0] & 8)
            if len(head) < 2 + extra or (control and len(data) < at + 2 + length):
                self._held = data[at:]
                break
            at += 2 + extra
            if control:
                self.reply += _control(head[0], data[at : at + length], self._script.where)
                at += length
                continue
            if extra:
                length = int.from_bytes(head[2 : 2 + extra], "big")
            ends = head[0] >> 7
            if length:
                self._left = length << 1 | ends
            else:
                done += ends
        return done


def _control(first: int, payload: bytes, where: str) -> bytes:
    """Take a control frame; give what answers it."""
    if first == 0x88:
        code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 1005
        said = printable(payload[2:].decode("utf-8", "replace"))
        raise ConnectionLost(
            f"{where} closed the WebSocket (code {code}{': ' + said if said else ''}): look at its limits"
        )
    return Frame(Opcode.PONG, payload).serialize(mask=True) if first == 0x89 else b""


class Counted:
    """So many bytes an answer, whatever they are."""

    __slots__ = ("_partial", "_size", "reply")

    def __init__(self, script: Script, size: int) -> None:  # noqa: ARG002 (as the others)
        self._size = size
        self._partial = 0
        self.reply = b""

    def take(self, size: int) -> int:
        """See `Answers`."""
        done, self._partial = divmod(self._partial + size, self._size)
        return done


class Marked:
    """Answers that end in some bytes, such as a newline."""

    __slots__ = ("_mark", "_script", "_tail", "reply")

    def __init__(self, script: Script, mark: bytes) -> None:
        self._script = script
        self._mark = mark
        self._tail = b""
        self.reply = b""

    def take(self, size: int) -> int:
        """See `Answers`."""
        if len(self._mark) == 1:
            return self._script.buffer.count(self._mark, 0, size)
        data = self._tail + bytes(self._script.view[:size])
        done = data.count(self._mark)
        # No part of a mark that was counted may be the beginning of another.
        rest = data[data.rfind(self._mark) + len(self._mark) :] if done else data
        self._tail = rest[-(len(self._mark) - 1) :]
        return done


class Anything:
    """Whatever a read brings is so many answers: one, or none where only bytes are counted."""

    __slots__ = ("_each", "reply")

    def __init__(self, script: Script, each: int) -> None:  # noqa: ARG002 (as the others)
        self._each = each
        self.reply = b""

    def take(self, size: int) -> int:  # noqa: ARG002
        """See `Answers`."""
        return self._each


_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)


class Http:
    """HTTP/1 responses with a length, or in chunks; what they say does not matter, but a 4xx or 5xx does."""

    __slots__ = ("_chunks", "_head", "_left", "_script", "reply")

    def __init__(self, script: Script) -> None:
        self._script = script
        self._head = b""
        self._left = 0  # bytes of the body, or of a chunk
        self._chunks = False
        self.reply = b""

    def take(self, size: int) -> int:
        """See `Answers`."""
        if size <= self._left and not self._chunks:
            self._left -= size
            return not self._left
        data = self._head + bytes(self._script.view[:size])
        self._head = b""
        done = 0
        while data:
            if self._left:
                part = min(self._left, len(data))
                data = data[part:]
                self._left -= part
                done += not self._left and not self._chunks
            elif self._chunks:
                line, newline, rest = data.partition(b"\r\n")
                if not newline:
                    self._hold(data)
                    break
                length = self._chunk(line)
                if length:
                    data, self._left = rest, length + 2
                    continue
                _, end, after = data.partition(b"\r\n\r\n")  # trailers, then the empty line
                if not end:
                    self._hold(data)
                    break
                data, self._chunks = after, False
                done += 1
            else:
                head, end, rest = data.partition(b"\r\n\r\n")
                if not end:
                    self._hold(data)
                    break
                self._begin(head + b"\r\n")
                data = rest
                done += not self._left and not self._chunks
        return done

    def _hold(self, data: bytes) -> None:
        if len(data) > _MOST_HEAD:
            raise WrongAnswer(
                f"{self._script.where} gave an HTTP head without an end: look at what it speaks"
            )
        self._head = data

    def _chunk(self, line: bytes) -> int:
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            raise WrongAnswer(
                f"{self._script.where} gave {_shown(line[:50])} where a chunk's length was due:"
                " look at what it speaks"
            ) from None

    def _begin(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            raise WrongAnswer(
                f"{self._script.where} answered {_shown(head[:60])}, which is no HTTP/1 response:"
                " look at what it speaks"
            )
        if status[1] >= b"400":
            line = head.partition(b"\r\n")[0]
            raise WrongAnswer(f"{self._script.where} answered {_shown(line[:60])}: correct the request")
        length = _LENGTH.search(head)
        self._chunks = length is None and _CHUNKED.search(head) is not None
        if length is None and not self._chunks and status[1] not in (b"204", b"304"):
            raise WrongAnswer(
                f"{self._script.where} ends its responses by closing: load it with the kind connect,"
                " --expect eof"
            )
        self._left = int(length[1]) if length is not None else 0


def _shown(data: bytes) -> str:
    return repr(data)[1:]
