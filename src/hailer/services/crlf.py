"""The lines of the Internet's text protocols: CRLF is sent, a bare LF is understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hailer.errors import MessageError
from hailer.framing import DEFAULT_MAX_MESSAGE, LineFraming

if TYPE_CHECKING:
    from hailer.framing import Decoder

__all__ = ["CrlfFraming"]


@dataclass(frozen=True, slots=True)
class CrlfFraming:
    """Each message is a line: CRLF or LF ends it, and CRLF is sent.

    The RFCs of the small services end their lines with CRLF; people type LF at them all the same.
    """

    name: ClassVar[str] = "crlf"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> Decoder:
        """See `Framing.decoder`."""
        return LineFraming().decoder(max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message with a newline in it."""
        if b"\n" in message:
            raise MessageError("a line cannot hold a newline; send several lines, or take the framing length")
        return message + b"\r\n"
