"""The lines of the Internet's text protocols: CRLF is sent, a bare LF is understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hailer.errors import MessageError
from hailer.framing.base import DEFAULT_MAX_MESSAGE
from hailer.framing.delimited import LineFraming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.framing.base import Decoder

__all__ = ["CrlfFraming"]


@dataclass(frozen=True, slots=True)
class CrlfFraming:
    """Each message is a line: CRLF or LF ends it, and CRLF is sent.

    What SMTP (RFC 5321 section 2.3.8), HTTP/1.1 (RFC 9112 section 2.2), FTP, telnet and the small services
    end their lines with. People and simple clients type LF at them all the same.
    """

    name: ClassVar[str] = "crlf"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> Decoder:
        """See `Framing.decoder`: that of `LineFraming`."""
        return LineFraming().decoder(max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message with a newline in it."""
        if b"\n" in message:
            raise MessageError("a line cannot hold a newline; send several lines, or take the framing length")
        return message + b"\r\n"

    def encode_many(self, messages: Sequence[bytes]) -> bytes:
        """See `Framing`: the lines are joined and then looked at once."""
        joined = b"\r\n".join([*messages, b""])
        if joined.count(b"\n") != len(messages):
            for message in messages:
                self.encode(message)
        return joined
