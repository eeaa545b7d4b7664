"""Slow receivers: who waits for whom, what is dropped, who is cut.

An outbox is in one of three states:

    open      output is taken
    full      more than `Limits.waiting` bytes wait: whoever adds to it is not read any more
    lagging   it was full for `Limits.patience` seconds: its senders go on, and the messages for it are
              dropped and counted until it has drained; then it is told of each gap, before anything else

Replies and events (JOINED, ANSWERED, PONG ...) are never dropped: a receiver for which there are more of
them while four times the limit wait, or that lets a byte wait for `Limits.slow_seconds`, is cut.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hailer.relay.core.session import Gap

if TYPE_CHECKING:
    from hailer.relay.core.clock import Clock
    from hailer.relay.core.counters import Counters
    from hailer.relay.core.limits import Limits
    from hailer.relay.core.session import Session

_LAG_MEMORY = 10.0
"""Seconds in which a receiver that has lagged is not waited for again: else one that always drains a bit
would hold up its rooms time after time."""

_HARD = 4
"""The hard bound on an outbox, in units of `Limits.waiting`: one batch of each of a few senders fits."""


class Outboxes:
    """The policy of all outboxes; what the edge has to do is left in the lists.

    Attributes:
        dirty: sessions whose outbox got its first chunk: to be written now.
        held: sessions that are not to be read any more, for the time being.
        released: sessions that are to be read again.
        condemned: sessions that are to be closed, each with the reason. They are not closed on the spot:
            the events of one that goes can be too much for the next.
        limit: bytes above which an outbox is full.
        deadline: the instant at which `expire` has something to do.
    """

    def __init__(self, limits: Limits, counters: Counters, clock: Clock) -> None:
        self._clock = clock
        self.dirty: list[Session] = []
        self.held: list[Session] = []
        self.released: list[Session] = []
        self.condemned: dict[Session, bytes] = {}
        self.deadline = float("inf")
        self.limit = limits.waiting
        self._most = limits.waiting * _HARD
        self._patience = limits.patience
        self._slow_seconds = limits.slow_seconds
        self._counters = counters
        self._blocked: dict[Session, None] = {}
        self._full: dict[Session, None] = {}

    # what goes in

    def say(self, target: Session, line: bytes, raw: bytes = b"", by: Session | None = None) -> None:
        """Queue a reply or an event, which is never dropped.

        Args:
            target: its receiver.
            line: the text, each line ended by LF.
            raw: the counted bytes that follow it.
            by: who caused it and waits if the outbox is full; the receiver itself by default.
        """
        if target.closing:
            return
        # Looked at before it is added to, so that one long reply does not cut whoever asked for it.
        if target.waiting > self._most:
            self._condemn(target, b"too slow: too much output waits for you")
            self._wake(self._clock.now)
            return
        if target.crlf:
            line = line.replace(b"\n", b"\r\n")
        self._append(target, line + raw)
        if target.waiting > self.limit:
            self.hold(target if by is None else by, target)

    def takes(self, target: Session, size: int) -> bool:
        """Tell whether so many bytes of messages can be queued for a receiver; else they are not to be.

        An empty outbox takes anything: nothing would come to drain it and end the lagging.
        """
        return not target.lagging and (not target.waiting or target.waiting + size <= self._most)

    def put(self, by: Session, target: Session, chunk: bytes, raw: bytes, count: int, source: bytes) -> bool:
        """Queue messages for a receiver that needs care; drop and count them if it lags.

        Args:
            by: the sender.
            target: the receiver.
            chunk: the messages' lines.
            raw: the counted bytes that follow, of one message.
            count: how many messages these are.
            source: the name or room that a GAP would name.

        Returns:
            Whether they were taken.
        """
        if target.closing:
            return False
        if not self.takes(target, len(chunk) + len(raw)):
            self._drop(target, count, source)
            return False
        if target.crlf:
            chunk = chunk.replace(b"\n", b"\r\n")
        self._append(target, chunk + raw)
        if target.waiting > self.limit:
            self.hold(by, target)
        return True

    def _wake(self, instant: float) -> None:
        self.deadline = min(self.deadline, instant)
        self._clock.wake(instant)

    def _condemn(self, target: Session, reason: bytes) -> None:
        if target not in self.condemned:
            self.condemned[target] = reason
            self._counters.cut_slow += 1
            self._counters.meet("slow_seconds", target)

    def _append(self, target: Session, data: bytes) -> None:
        if not target.chunks:
            self.dirty.append(target)
        target.chunks.append(data)
        target.waiting += len(data)
        if target.blocked and not target.live:  # it took its time over mail; from now on time counts
            self._count_from_now(target, target.waiting)
        target.live = target.waiting

    def put_mail(self, target: Session, data: bytes) -> None:
        """Queue mail, which waits for its receiver as long as that likes."""
        if not target.chunks:
            self.dirty.append(target)
        self.take_care(target)
        target.chunks.append(data)
        target.waiting += len(data)

    @staticmethod
    def take_care(target: Session) -> None:
        """Have each write to a receiver noted, for what waits for it is not all of one kind."""
        if not target.careful:
            target.careful = True
            target.live = target.waiting

    def _count_from_now(self, session: Session, mark: int) -> None:
        session.mark = mark
        session.stalled_since = self._clock.now
        self._wake(self._clock.now + self._slow_seconds)

    # what became of it

    def written(self, session: Session, sent: int) -> None:
        """Take note of a write to a session that is `careful`, or that was short.

        Args:
            session: whose outbox was written; its `chunks` hold what is left.
            sent: bytes that the peer's socket took.
        """
        self.take_care(session)
        session.waiting -= sent
        session.live = max(0, session.live - sent)
        if not session.waiting:
            if session.blocked:
                session.blocked = False
                del self._blocked[session]
        elif not session.blocked:
            session.blocked = True
            self._blocked[session] = None
            self._count_from_now(session, session.live)
        else:
            session.mark -= sent
            if session.mark <= 0:  # all that waited at `stalled_since` is gone: look anew at what waits now
                self._count_from_now(session, session.live)
        if session.full and session.waiting <= self.limit // 4:
            self._recover(session)
        session.careful = (
            session.blocked or session.full or session.crlf or session.closing or session.mailing
        )

    def forget(self, session: Session) -> None:
        """Keep nothing of a session that is gone."""
        self._blocked.pop(session, None)
        self.let_go(session)

    def let_go(self, session: Session) -> None:
        """Hold nobody any more for a session that ends."""
        self._full.pop(session, None)
        session.full = session.lagging = False
        session.gaps = None
        self._release(session)

    def _fill(self, target: Session) -> None:
        if not target.full:
            self.take_care(target)
            target.full = True
            target.full_since = self._clock.now
            self._full[target] = None
            self._wake(self._lags_at(target))

    def _lags_at(self, target: Session) -> float:
        recently = target.full_since - target.lagged_at <= _LAG_MEMORY
        return target.full_since + (0.0 if recently else self._patience)

    def hold(self, by: Session, target: Session) -> None:
        """Have a session wait, unread, until the outbox to which it added has drained."""
        self._fill(target)
        if by.closing or (target.lagging and by is not target):
            return
        if target.waiters is None:
            target.waiters = {}
        if by not in target.waiters:
            target.waiters[by] = None
            by.holders += 1
            if by.holders == 1:
                self._counters.held += 1
                self._counters.meet("waiting", target)
                self.held.append(by)

    def _release(self, target: Session, *, but: Session | None = None) -> None:
        waiters = target.waiters
        if not waiters:
            return
        target.waiters = None
        for waiter in waiters:
            if waiter is but:
                target.waiters = {waiter: None}
                continue
            waiter.holders -= 1
            if not waiter.holders:
                self.released.append(waiter)

    def _drop(self, target: Session, count: int, source: bytes) -> None:
        if target.gaps is None:
            target.gaps = {}
        gap = target.gaps.get(source)
        if gap is None:
            gap = target.gaps[source] = Gap(self._clock.now)
        gap.count += count
        self._counters.dropped += count
        if not target.lagging:  # the hard bound was met first
            self._fill(target)
            self._lag(target)

    def _lag(self, target: Session) -> None:
        target.lagging = True
        target.lagged_at = self._clock.now
        self._counters.lagged += 1
        self._counters.meet("patience", target)
        # its own commands wait on, for their answers are not dropped
        self._release(target, but=target)

    def _recover(self, target: Session) -> None:
        target.full = False
        del self._full[target]
        self._release(target)
        if target.lagging:
            target.lagging = False
            target.lagged_at = self._clock.now
            self.tell_gaps(target)

    def tell_gaps(self, target: Session) -> None:
        """Queue a GAP line for each source of which messages were dropped."""
        gaps, target.gaps = target.gaps, None
        for source, gap in (gaps or {}).items():
            since = timestamp(self._clock.wall + gap.since)
            self.say(target, b"GAP %d %s :since %s\n" % (gap.count, source, since))

    def expire(self) -> None:
        """Do what the time asks for: give up waiting for the full, cut the blocked."""
        self.deadline = float("inf")
        for target in list(self._full):
            if target.lagging:
                continue
            if self._clock.now >= self._lags_at(target):
                self._lag(target)
            else:
                self._wake(self._lags_at(target))
        for session in list(self._blocked):
            cut_at = session.stalled_since + self._slow_seconds
            if session.closing or not session.live:
                continue
            if self._clock.now >= cut_at:
                self._condemn(session, b"too slow: your output waited for %g seconds" % self._slow_seconds)
            else:
                self._wake(cut_at)


def timestamp(seconds: float) -> bytes:
    """An instant of the wall clock as RFC 3339 UTC text with milliseconds, for people to read.

    Args:
        seconds: since 1970-01-01T00:00:00Z.
    """
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").encode()
