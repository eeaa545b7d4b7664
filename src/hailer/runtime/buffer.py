"""Bytes that have come and wait to be pulled."""

from __future__ import annotations

from collections import deque

__all__ = ["ByteQueue"]


class ByteQueue:
    """A queue of bytes that copies little: pieces go in as they came, and whole where they fit.

    Attributes:
        size: bytes in the queue.
    """

    __slots__ = ("_head", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._head = 0  # bytes of the first piece that have been taken
        self.size = 0

    @property
    def pieces(self) -> int:
        """How many pieces there are: each costs memory of its own, however few its bytes."""
        return len(self._pieces)

    def put(self, data: bytes) -> None:
        """Append a piece; an empty one changes nothing."""
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def take(self, limit: int) -> bytes:
        """Take bytes from the front: all that there are, or as many as fit into the limit."""
        if self.size <= limit and not self._head:
            data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
            self.clear()
            return data
        parts = []
        while limit and self._pieces:
            piece = self._pieces[0]
            # Reads of a few bytes walk along the piece: cutting its front off each time would be quadratic.
            part = piece[self._head : self._head + limit]
            parts.append(part)
            limit -= len(part)
            self.size -= len(part)
            self._head += len(part)
            if self._head == len(piece):
                self._pieces.popleft()
                self._head = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._head = 0
        self.size = 0
