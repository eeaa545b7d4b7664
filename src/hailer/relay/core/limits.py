"""What a peer can make grow, and where it ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The relay's limits; each default is argued beside its precedents in docs/design/limits.md.

    Attributes:
        connections: connections at once; above it accepting pauses (nothing is dropped).
        per_source: connections at once from one source address; loopback and Unix sockets are exempt.
        login_seconds: time from connecting to a successful HELLO.
        line_seconds: time for one whole line or payload, however it drips.
        idle_seconds: silence after which the relay says PING, and as long again until it cuts.
        ended_seconds: how long a peer that has half-closed waits for the answers to its open questions.
        payload: bytes of one counted payload.
        rooms: rooms that one session is in at once.
        members: members that one room has at once.
        rate: commands a second of one connection, over time; above it the connection is not read for a
            while. 0 is no limit.
        watches: names that one session watches.
        asks: questions of one session that wait for their answer.
        waiting: bytes of output that wait for one receiver before its senders wait for it; the hard
            bound is four times as much.
        patience: seconds that senders wait for a receiver that is behind, before it loses messages.
        slow_seconds: seconds that a byte may wait for its receiver before the receiver is cut.
        parting_seconds: time that a cut or leaving peer has to take the last words.
        mail_entries: entries that wait in one mailbox.
        mail_bytes: bytes that wait in one mailbox.
        mail_total: bytes that wait in all mailboxes together.
        mail_seconds: time that an entry waits for its receiver, an unused session for its sender, and an
            unused name with nothing waiting for its owner, while relays run.
        mailboxes: names that have a mailbox, those of accounts not counted.
        sessions: sessions of one name that have posted and can be resumed.
    """

    connections: int = 10_000
    per_source: int = 100
    login_seconds: float = 30.0
    line_seconds: float = 30.0
    idle_seconds: float = 300.0
    ended_seconds: float = 60.0
    payload: int = 1 << 20
    rooms: int = 100
    members: int = 10_000
    rate: int = 0
    watches: int = 1000
    asks: int = 1000
    waiting: int = 1 << 20
    patience: float = 0.5
    slow_seconds: float = 5.0
    parting_seconds: float = 10.0
    mail_entries: int = 10_000
    mail_bytes: int = 64 << 20
    mail_total: int = 4 << 30
    mail_seconds: float = 30 * 86400.0
    mailboxes: int = 100_000
    sessions: int = 100
