"""The relay's core: sessions in, sessions out, and what each read brought in between.

Theory of operation. An edge calls `connect` for a new connection, `receive` with the bytes of each read,
`end` when the peer half-closes, `written` after a write that was short, `lost` when the connection is
gone, and `tick` at the instant `deadline`. After each call it does what stands in `dirty` (write these),
`held` and `released` (stop and go on reading these), `closing` (close these once written) and `aborted`
(close these now), and clears the lists. That is all that the two sides know of each other.

The time is an argument: an instant of a monotonic clock in seconds, and the wall clock's offset to it
for what people read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay import grammar
from hailer.relay.core import commands
from hailer.relay.core.accounts import Accounts
from hailer.relay.core.clock import Clock
from hailer.relay.core.counters import Counters
from hailer.relay.core.denials import MOST_FAILURES, Denials
from hailer.relay.core.limits import Limits
from hailer.relay.core.mail import Mail
from hailer.relay.core.outboxes import Outboxes
from hailer.relay.core.reading import block_taker, take_apart
from hailer.relay.core.rests import Rests
from hailer.relay.core.rooms import Directory
from hailer.relay.grammar import MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.errors import StoreError
    from hailer.relay.core.session import Session
    from hailer.relay.core.work import Work

_SCAN = 1.0
"""Seconds between two looks at every session's clocks."""


class Relay:
    """The state of one relay.

    Args:
        limits: what a peer can make grow.
        new_id: gives a fresh session id that nobody can guess.
        version: of the software, for the banner and WELCOME.
        accounts: who may have which name; without them every name is for anybody.
        wall: the wall clock less the clock of all `now` arguments, in seconds.

    Attributes:
        dirty: sessions whose outbox is to be written.
        held: sessions that are not to be read for the time being.
        released: sessions that are to be read again, after a `receive` with what they still have.
        closing: sessions to be closed once their outbox is written.
        aborted: sessions to be closed now.
        deadline: the instant at which `tick` wants to be called.
        answered: half-closed sessions that wait for one answer less; perhaps it was the last.
        notices: what is worth a line in the log: what happened (``login``, ``replaced``, ``denied``), to
            which peer, and the name that it is about.
        clock: the time, as whoever calls has told it.
        mail: all that is durable, and what is to be done about it (see `Mail`).
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        new_id: Callable[[], bytes],
        version: str = "0",
        wall: float = 0.0,
        accounts: Accounts | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.counters = Counters()
        self.directory = Directory()
        self.accounts = accounts or Accounts()
        self.clock = Clock(wall)
        self.denials = Denials(self.clock)
        self.sessions: dict[Session, None] = {}
        self.new_id = new_id
        self.version = version.encode()
        self.outboxes = Outboxes(self.limits, self.counters, self.clock)
        self.dirty = self.outboxes.dirty
        self.held = self.outboxes.held
        self.released = self.outboxes.released
        self.closing: list[Session] = []
        self.aborted: list[Session] = []
        self.answered: list[Session] = []
        self.notices: list[tuple[str, str, bytes]] = []
        self.rests = Rests(self)
        self.mail = Mail(self)
        self._next_scan = float("-inf")

    @property
    def deadline(self) -> float:
        """The instant at which `tick` may have something to do."""
        return self.clock.deadline

    # what an edge calls

    def expect(self, session: Session, now: float) -> None:
        """Mind the time to log in of a connection that is not ready for words yet; `connect` follows."""
        self.clock.now = now
        self.sessions[session] = None

    def connect(self, session: Session, now: float) -> None:
        """Take a new connection and greet it."""
        self.clock.now = now
        self.sessions[session] = None
        self.counters.sessions += 1
        session.tokens = self.limits.rate
        self.say(session, b"RELAY hailer/%s :say HELLO and a name to log in, or HELP\n" % self.version)

    def refuse(self, session: Session, reason: bytes, now: float) -> None:
        """Turn a new connection away with a reason."""
        self.clock.now = now
        self.sessions[session] = None
        self.counters.sessions += 1
        self.close(session, reason)

    def receive(self, session: Session, data: bytes, now: float) -> None:
        """Handle what one read brought; with ``b""``, go on with what a released session still has."""
        if self.rests.rate:
            before = self.counters.commands
            self._receive(session, data, now)
            self.rests.spend(session, self.counters.commands - before)
        else:
            self._receive(session, data, now)

    def _receive(self, session: Session, data: bytes, now: float) -> None:
        self.clock.now = session.heard = now
        # The usual read, some whole SENDs and nothing before them, is through with the fewest questions.
        if (
            session.online
            and data.endswith(b"\n")
            and not (session.input or session.payload or session.holders or session.ended)
            and len(data) <= MAX_TEXT
            and block_taker(data)(self, session, data)
        ):
            return
        if not session.closing:
            take_apart(self, session, data)
        if session.ended:
            self._finish(session)
        self._settle()

    def end(self, session: Session, now: float) -> None:
        """Take note that the peer has half-closed; it still gets the answers to what it asked."""
        self.clock.now = now
        if session.closing:
            return
        session.ended = True
        self._finish(session)
        self._settle()

    def written(self, session: Session, sent: int, now: float) -> None:
        """Take note of a short write, or of any write to a `careful` session."""
        self.clock.now = now
        self.outboxes.written(session, sent)
        if session.mailing:
            self.mail.delivery.drained(session)

    def lost(self, session: Session, now: float) -> None:
        """Take note that a connection is gone; everything about it is forgotten."""
        self.clock.now = now
        session.closing = True
        self._leave(session)
        self._end_waits(session)
        self._read_no_more(session)
        session.chunks.clear()
        session.waiting = 0
        self.sessions.pop(session, None)
        self.outboxes.forget(session)
        self._settle()

    def tick(self, now: float) -> None:
        """Do what is due: time-outs, and the ends of patience."""
        self.clock.now = now
        if now >= self.outboxes.deadline:
            self.outboxes.expire()
        for session, why in self.denials.due(now):
            self._denied(session, why)
        if now >= self.rests.deadline:
            self.rests.end()
        if now >= self.mail.deadline:
            self.mail.tick(now)
        if now >= self._next_scan:
            self._next_scan = now + _SCAN
            for session in list(self.sessions):
                self._look_at_clocks(session)
        self._settle()
        self.clock.deadline = min(
            self._next_scan,
            self.outboxes.deadline,
            self.denials.deadline,
            self.rests.deadline,
            self.mail.deadline,
        )

    def set_accounts(self, accounts: Accounts, now: float) -> None:
        """Put another table of accounts in the place of the one that was.

        Whoever is connected under a name whose account is gone, or that has become somebody's account, gets
        BYE. A new token alone ends no connection: it was made with what was right then.
        """
        self.clock.now = now
        before, self.accounts = self.accounts, accounts
        for key, session in list(self.directory.sessions.items()):
            was, account = before.get(key), accounts.get(key)
            if was is not None and (account is None or account.made != was.made):
                self.close(session, b"your account was removed")
            elif was is None and account is not None:
                self.close(session, b"this name has an account now: log in with its token")
            elif account is None and not accounts.guests:
                self.close(session, b"this relay lets in accounts only now")
        self.mail.boxes.keep(accounts)
        self._settle()

    def shut_down(self, now: float, reason: bytes = b"the relay is shutting down") -> None:
        """Say BYE to everybody, and to nobody who else has gone: that would be the square of their number."""
        self.clock.now = now
        self.directory = Directory()
        for session in self.sessions:
            session.online = False
            self.mail.depart(session)
            session.rooms = {}
            session.watched = session.asks = session.asked = None
        for session in self.sessions:
            self.close(session, reason)
        self.mail.end()

    def stored(self, work: Work, result: object, error: StoreError | None, now: float) -> None:
        """Take what came of a piece of work of the store (see `Mail`)."""
        self.clock.now = now
        self.mail.done(work, result, error)
        self._settle()

    def give_up(self, session: Session, now: float) -> None:
        """Forget a connection that no word can be sent to any more; its edge closes it in its own way."""
        self.clock.now = now
        if not session.closing:
            self._part(session)
            self._settle()

    # what the commands call

    def say(self, session: Session, line: bytes, raw: bytes = b"", by: Session | None = None) -> None:
        """Queue a reply or an event; see `Outboxes.say`."""
        self.outboxes.say(session, line, raw, by)

    def fail(self, session: Session, code: bytes, command: bytes, explanation: bytes) -> None:
        """Refuse a command."""
        self.counters.refused += 1
        self.say(session, grammar.fail(code, command, explanation))

    def deny(self, session: Session, why: bytes) -> None:
        """Refuse a log-in; the answer comes late, and until then the session is not read."""
        self.counters.denied += 1
        session.failures += 1
        self.denials.add(session, why, self.clock.now)
        session.holders += 1
        self.held.append(session)

    def close(self, session: Session, reason: bytes) -> None:
        """Say BYE, free the name at once, and have the connection closed once the words are out."""
        if session.closing:
            return
        if session.gaps:
            self.outboxes.tell_gaps(session)
        self._part(session)
        farewell = grammar.bye(reason)
        # not by say(): a full outbox must not keep the last word out, nor cut who is being cut
        if not session.chunks:
            self.dirty.append(session)
        session.chunks.append(farewell.replace(b"\n", b"\r\n") if session.crlf else farewell)
        session.waiting += len(session.chunks[-1])
        session.reason = reason
        self.closing.append(session)

    def notice(self, event: str, session: Session, name: bytes) -> None:
        """Leave word for the log."""
        self.notices.append((event, session.peer, name))

    # inside

    def _part(self, session: Session) -> None:
        session.closing = session.careful = True
        session.closing_since = self.clock.now
        self._leave(session)
        self._end_waits(session)
        self._read_no_more(session)
        self.outboxes.let_go(session)

    def _settle(self) -> None:
        """Close whoever was found to be too slow or has its last answer, and whoever is so by that.

        Here and not on the spot: a chain of sessions that wait for each other would be as deep a recursion.
        """
        condemned, answered = self.outboxes.condemned, self.answered
        while condemned or answered:
            if condemned:
                session, reason = condemned.popitem()
                session.cut = True
                self.close(session, reason)
            else:
                self._finish(answered.pop())

    def too_long(self, session: Session, what: bytes, why: bytes) -> None:
        """End a session whose line or payload is over the limit."""
        self.counters.cut_other += 1
        self.fail(session, b"too-long", what, why)
        session.cut = True
        self.close(session, b"too long")

    def _finish(self, session: Session) -> None:
        """Close a half-closed session when nothing is left to be answered."""
        if session.backlog or session in self.denials:
            return
        if session.input or session.payload is not None:
            why = b"the input ended in the middle of a command, which was not carried out"
            self.fail(session, b"truncated", b"LINE" if session.payload is None else b"PAYLOAD", why)
            self._read_no_more(session)
        if not (session.asks or self.mail.owes(session)):
            self.close(session, b"end of input")

    def _denied(self, session: Session, why: bytes) -> None:
        """Say the no whose time has come, and read on; or close, after too many."""
        self.fail(session, b"denied", b"HELLO", why)
        session.holders -= 1
        if session.failures >= MOST_FAILURES:
            self.counters.cut_other += 1
            session.cut = True
            self.close(session, b"too many failed log-ins")
            return
        if not session.holders:
            self.released.append(session)
        if session.ended:
            self.answered.append(session)

    def _end_waits(self, session: Session) -> None:
        if self.denials.drop(session):
            session.holders -= 1
        self.rests.drop(session)

    @staticmethod
    def _read_no_more(session: Session) -> None:
        # others may keep a session that is gone in their routes for long: it is to be small then
        session.input = bytearray()
        session.payload = None
        session.routes = {}
        session.room_routes = {}

    def _leave(self, session: Session) -> None:
        """Take a session out of the directory and tell whoever is to know; may be called twice."""
        if not session.online:
            return
        session.online = False
        directory = self.directory
        directory.unwatch(session)
        del directory.sessions[session.key]
        for room in list(session.rooms.values()):
            directory.leave(session, room)
            self.tell_room(room.members, b"LEFT %s %s\n" % (room.name, session.name), session)
        for watcher in directory.watchers(session.key):
            self.say(watcher, b"OFFLINE %s\n" % session.name, by=session)
        commands.drop_questions(self, session)
        self.mail.depart(session)

    def tell_room(self, members: dict[Session, None], line: bytes, by: Session) -> None:
        """Queue an event for all members of a room."""
        for member in list(members):
            self.say(member, line, by=by)

    def _look_at_clocks(self, session: Session) -> None:
        limits, now = self.limits, self.clock.now
        if session.closing:
            if now - session.closing_since >= limits.parting_seconds:
                self.counters.meet("parting_seconds", session)
                self.aborted.append(session)
            return
        if not session.online and now - session.since >= limits.login_seconds:
            limit, why = "login_seconds", b"no HELLO came within %g seconds" % limits.login_seconds
        elif session.holders:
            return  # it is we who do not read it
        elif (
            session.input or session.payload or session.partial
        ) and now - session.input_since >= limits.line_seconds:
            limit = "line_seconds"
            why = b"a line or payload took longer than %g seconds" % limits.line_seconds
        elif session.ended and now - session.heard >= limits.ended_seconds:
            limit, why = "ended_seconds", b"no answer came within %g seconds" % limits.ended_seconds
        elif now - session.heard >= limits.idle_seconds * 2:
            limit = "idle_seconds"
            why = b"nothing was heard of you for %g seconds" % (limits.idle_seconds * 2)
        else:
            if now - session.heard < limits.idle_seconds:
                session.pinged = False
            elif not session.pinged and session.online:
                session.pinged = True
                self.say(session, b"PING relay\n")
            return
        self.counters.cut_other += 1
        self.counters.meet(limit, session)
        session.cut = True
        self.close(session, why)
