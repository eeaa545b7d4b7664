"""What happened, counted once a batch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from hailer.relay.core.session import Session


@dataclass(slots=True)
class Counters:
    """Counts since the relay started.

    Attributes:
        sessions: connections taken.
        logins: successful HELLOs.
        denied: HELLOs with a wrong token, or for a name that has no account.
        commands: commands that clients gave, messages among them.
        received: messages that clients sent (SEND, ASK, ANSWER, POST).
        delivered: messages queued for their receivers.
        dropped: messages dropped since their receiver lagged (told by GAP).
        refused: FAIL lines.
        held: times that a sender's reading was paused for a receiver.
        lagged: times that a receiver began to lose messages.
        cut_slow: receivers cut since their output waited too long.
        cut_other: sessions ended by the relay for another reason (idle, login, line time, too long).
        met: for each field of `Limits`, how often it was met.
        met_by: for each limit that was met, the peer and the name of who met it last, empty for all together;
            whoever tells of it takes it away.
        posted: POSTs accepted.
        commits: commits of the store.
        mailed: mailbox entries sent, also those sent again.
        acknowledged: mailbox entries dealt with.
        expired: mailbox entries dropped as they were too old.
        mail_missed: messages to a room that did not fit into a member's mailbox.
        store_failures: times that the store began to fail.
    """

    sessions: int = 0
    logins: int = 0
    denied: int = 0
    commands: int = 0
    received: int = 0
    delivered: int = 0
    dropped: int = 0
    refused: int = 0
    held: int = 0
    lagged: int = 0
    cut_slow: int = 0
    cut_other: int = 0
    met: dict[str, int] = field(default_factory=lambda: {limit.name: 0 for limit in fields(Limits)})
    met_by: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def meet(self, limit: str, session: Session | None = None) -> None:
        """Count that a limit was met.

        Args:
            limit: a field of `Limits`.
            session: who met it; None for all together.
        """
        self.met[limit] += 1
        self.met_by[limit] = ("", b"") if session is None else (session.peer, session.name)

    posted: int = 0
    commits: int = 0
    mailed: int = 0
    acknowledged: int = 0
    expired: int = 0
    mail_missed: int = 0
    store_failures: int = 0
