"""What happens to a connection with a relay, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from hailer.errors import HailerError
    from hailer.relay.client.events import Gap

__all__ = ["Telling"]


class Telling:
    """Callbacks of a client that tell a person what happens to its connection.

    Args:
        relay: where the relay is.
        tell: called with each sentence.
    """

    def __init__(self, relay: Endpoint, tell: Callable[[str], object]) -> None:
        self._relay = relay
        self._tell = tell
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
        self._lost = True
        self._tell(f"the connection was lost: {error}")

    def _on_gap(self, gap: Gap) -> None:
        messages = "1 message" if gap.count == 1 else f"{gap.count} messages"
        were = "was" if gap.count == 1 else "were"
        self._tell(
            f"{messages} of {gap.source} {were} lost since {gap.since}: they came faster than they were"
            " read, or the mailbox was full"
        )
