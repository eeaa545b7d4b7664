"""What happened, counted once a batch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counts since the relay started.

    Attributes:
        sessions: connections taken.
        logins: successful HELLOs.
        denied: HELLOs with a wrong token, or for a name that has no account.
        received: messages that clients sent (SEND, ASK, ANSWER).
        delivered: messages queued for their receivers.
        dropped: messages dropped since their receiver lagged (told by GAP).
        refused: FAIL lines.
        held: times that a sender's reading was paused for a receiver.
        lagged: times that a receiver began to lose messages.
        cut_slow: receivers cut since their output waited too long.
        cut_other: sessions ended by the relay for another reason (idle, login, line time, too long).
    """

    sessions: int = 0
    logins: int = 0
    denied: int = 0
    received: int = 0
    delivered: int = 0
    dropped: int = 0
    refused: int = 0
    held: int = 0
    lagged: int = 0
    cut_slow: int = 0
    cut_other: int = 0
