"""What happens to a connection with a relay, in words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hailer.relay.client.keeper import is_final

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from hailer.errors import HailerError
    from hailer.relay.client.events import Gap

__all__ = ["LogTelling", "Telling"]


class LogTelling(logging.Handler):
    """Tells a person what the client would log: what nobody waits for, such as another store at the relay.

    Args:
        tell: called with each sentence; None tells nothing.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self.tell: Callable[[str], object] | None = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it."""
        if self.tell is not None:
            self.tell(record.getMessage())


class Telling:
    """Callbacks of a client that tell a person what happens to its connection.

    Args:
        relay: where the relay is.
        tell: called with each sentence.
        again: whether the client connects again; else that is the end of the program, which tells it.
    """

    def __init__(self, relay: Endpoint, tell: Callable[[str], object], *, again: bool = True) -> None:
        self._relay = relay
        self._tell = tell
        self._again = again
        self._lost = False

    @property
    def callbacks(self) -> dict[str, Any]:
        """The arguments of `RelayClient` that have it tell."""
        return {
            "on_connected": self._on_connected,
            "on_disconnected": self._on_disconnected,
            "on_gap": self._on_gap,
        }

    def _on_connected(self) -> None:
        if self._lost:
            self._lost = False
            self._tell(f"connected to {self._relay} again")

    def _on_disconnected(self, error: HailerError) -> None:
        if not self._again or is_final(error):
            return
        self._lost = True
        self._tell(f"the connection was lost: {error}")

    def _on_gap(self, gap: Gap) -> None:
        messages = "1 message" if gap.count == 1 else f"{gap.count} messages"
        were = "was" if gap.count == 1 else "were"
        self._tell(
            f"{messages} of {gap.source} {were} lost since {gap.since}: they came faster than they were"
            " read, or the mailbox was full"
        )
