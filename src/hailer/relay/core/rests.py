"""The limit on commands a second: who is over it rests, which is: is not read for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hailer.relay.core.relay import Relay
    from hailer.relay.core.session import Session


class Rests:
    """The sessions that rest.

    Args:
        relay: the core that it is a part of.

    Attributes:
        rate: commands a second; 0 for any number.
        deadline: the instant at which the next rest ends.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.rate = relay.limits.rate
        self.deadline = float("inf")
        self._resting: dict[Session, float] = {}

    def __contains__(self, session: Session) -> bool:
        return session in self._resting

    def __len__(self) -> int:
        return len(self._resting)

    def drop(self, session: Session) -> None:
        """Forget a session that goes."""
        if self._resting.pop(session, None) is not None:
            session.holders -= 1

    def spend(self, session: Session, commands: int) -> None:
        """Take commands from a session's bucket, which holds those of one second; none is left: it rests.

        Counted after a batch, for a look before each command would cost more than many commands do: a
        burst may be as long as one read, and is paid for by a longer rest.
        """
        now, rate = self._relay.clock.now, self.rate
        session.tokens = min(session.tokens + (now - session.tokens_at) * rate, rate) - commands
        session.tokens_at = now
        if session.tokens < 0 and not session.closing and session not in self._resting:
            self._relay.counters.meet("rate", session)
            until = self._resting[session] = now - session.tokens / rate
            self.deadline = min(self.deadline, until)
            self._relay.clock.wake(until)
            session.holders += 1
            if session.holders == 1:
                self._relay.held.append(session)

    def end(self) -> None:
        """Read those again whose time has come."""
        now = self._relay.clock.now
        for session in [session for session, until in self._resting.items() if now >= until]:
            del self._resting[session]
            session.heard = session.input_since = now  # till now it was we who did not read it
            session.holders -= 1
            if not session.holders:
                self._relay.released.append(session)
        self.deadline = min(self._resting.values(), default=float("inf"))
