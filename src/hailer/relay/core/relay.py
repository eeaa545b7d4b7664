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
from hailer.relay.core.counters import Counters
from hailer.relay.core.denials import MOST_FAILURES, Denials
from hailer.relay.core.limits import Limits
from hailer.relay.core.mail import Mail
from hailer.relay.core.outboxes import Outboxes
from hailer.relay.core.posting import post_block
from hailer.relay.core.rooms import Directory
from hailer.relay.core.routing import send_block
from hailer.relay.grammar import MAX_LINE, MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.errors import StoreError
    from hailer.relay.core.session import Session
    from hailer.relay.core.work import Work

_BLOCK = 65536
_WIDE = 4 * _BLOCK
"""Bytes that are routed together, and for a sender to many names, for whom more mean fewer chunks for each.
Not more for all: the system's allocator gives memory back and forth for objects over 128 KiB, which costs
more than it saves; and the shortest SENDs, 16 times as long as MSGs, have to fit the bound of an outbox."""

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
        self.denials = Denials()
        self.sessions: dict[Session, None] = {}
        self.new_id = new_id
        self.version = version.encode()
        self.outboxes = Outboxes(self.limits, self.counters)
        self.outboxes.wall = wall
        self.dirty = self.outboxes.dirty
        self.held = self.outboxes.held
        self.released = self.outboxes.released
        self.closing: list[Session] = []
        self.aborted: list[Session] = []
        self.answered: list[Session] = []
        self.notices: list[tuple[str, str, bytes]] = []
        self._rate = self.limits.rate
        self._resting: dict[Session, float] = {}
        self._rest_ends = float("inf")
        self.mail = Mail(self)
        self._next_scan = float("-inf")

    @property
    def deadline(self) -> float:
        """The instant at which `tick` has something to do."""
        return min(
            self._next_scan,
            self.outboxes.deadline,
            self.denials.deadline,
            self._rest_ends,
            self.mail.deadline,
        )

    # what an edge calls

    def expect(self, session: Session, now: float) -> None:
        """Mind the time to log in of a connection that is not ready for words yet; `connect` follows."""
        self.outboxes.now = now
        self.sessions[session] = None

    def connect(self, session: Session, now: float) -> None:
        """Take a new connection and greet it."""
        self.outboxes.now = now
        self.sessions[session] = None
        self.counters.sessions += 1
        session.tokens = self._rate
        self.say(session, b"RELAY hailer/%s :say HELLO and a name to log in, or HELP\n" % self.version)

    def refuse(self, session: Session, reason: bytes, now: float) -> None:
        """Turn a new connection away with a reason."""
        self.outboxes.now = now
        self.sessions[session] = None
        self.counters.sessions += 1
        self.close(session, reason)

    def receive(self, session: Session, data: bytes, now: float) -> None:
        """Handle what one read brought; with ``b""``, go on with what a released session still has."""
        if self._rate:
            before = self.counters.commands
            self._receive(session, data, now)
            self._spend(session, self.counters.commands - before)
        else:
            self._receive(session, data, now)

    def _receive(self, session: Session, data: bytes, now: float) -> None:
        self.outboxes.now = session.heard = now
        # The usual read, some whole SENDs and nothing before them, is through with the fewest questions.
        if (
            session.online
            and data.endswith(b"\n")
            and not (session.input or session.payload or session.holders or session.ended)
            and len(data) <= MAX_TEXT
            and (send_block(self, session, data) or post_block(self, session, data))
        ):
            return
        if not session.closing:
            self._take_apart(session, data)
        if session.ended:
            self._finish(session)
        self._settle()

    def _take_apart(self, session: Session, data: bytes) -> None:
        """Handle commands as they come; keep what is no whole command, or has to wait."""
        if session.input:
            data = self._with_earlier(session, data)
        start, size = 0, len(data)
        while start < size and not session.holders and not session.closing:
            if session.payload is not None:
                if size - start < session.payload[1]:
                    break
                start = self._payload(session, session.payload, data, start)
                continue
            end = _short_lines(data, start, _WIDE if session.scatters else _BLOCK)
            if end > start:
                block = data if start == 0 and end == size else data[start:end]
                if session.online and (send_block(self, session, block) or post_block(self, session, block)):
                    start = end
                    continue
            else:
                end = data.find(b"\n", start, start + MAX_LINE + 1) + 1
                if not end:
                    if size - start > MAX_LINE:
                        self._too_long(session, b"LINE", b"a line may have %d bytes" % MAX_LINE)
                    break
            start = self._lines(session, data, start, end)
        if session.closing:
            return
        if start < size:
            session.input = bytearray(data[start:])
            session.backlog = session.holders > 0
        # the time for one line or payload counts from the first byte of it, however many reads it takes
        if start or (size and session.payload is None):
            session.input_since = self.outboxes.now

    def end(self, session: Session, now: float) -> None:
        """Take note that the peer has half-closed; it still gets the answers to what it asked."""
        self.outboxes.now = now
        if session.closing:
            return
        session.ended = True
        self._finish(session)
        self._settle()

    def written(self, session: Session, sent: int, now: float) -> None:
        """Take note of a short write, or of any write to a `careful` session."""
        self.outboxes.now = now
        self.outboxes.written(session, sent)
        if session.mailing:
            self.mail.drained(session)

    def lost(self, session: Session, now: float) -> None:
        """Take note that a connection is gone; everything about it is forgotten."""
        self.outboxes.now = now
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
        self.outboxes.now = now
        if now >= self.outboxes.deadline:
            self.outboxes.expire()
        for session, why in self.denials.due(now):
            self._denied(session, why)
        if now >= self._rest_ends:
            self._end_rests()
        if now >= self.mail.deadline:
            self.mail.tick(now)
        if now >= self._next_scan:
            self._next_scan = now + _SCAN
            for session in list(self.sessions):
                self._look_at_clocks(session)
        self._settle()

    def set_accounts(self, accounts: Accounts, now: float) -> None:
        """Put another table of accounts in the place of the one that was.

        Whoever is connected under a name whose account is gone, or that has become somebody's account, gets
        BYE. A new token alone ends no connection: it was made with what was right then.
        """
        self.outboxes.now = now
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
        self.outboxes.now = now
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
        self.outboxes.now = now
        self.mail.done(work, result, error)
        self._settle()

    def give_up(self, session: Session, now: float) -> None:
        """Forget a connection that no word can be sent to any more; its edge closes it in its own way."""
        self.outboxes.now = now
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
        self.denials.add(session, why, self.outboxes.now)
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

    def _spend(self, session: Session, commands: int) -> None:
        """Take commands from a session's bucket, which holds those of one second; none is left: it rests.

        Counted after a batch, for a look before each command would cost more than many commands do: a
        burst may be as long as one read, and is paid for by a longer rest.
        """
        now, rate = self.outboxes.now, self._rate
        session.tokens = min(session.tokens + (now - session.tokens_at) * rate, rate) - commands
        session.tokens_at = now
        if session.tokens < 0 and not session.closing and session not in self._resting:
            self.counters.meet("rate", session)
            until = self._resting[session] = now - session.tokens / rate
            self._rest_ends = min(self._rest_ends, until)
            session.holders += 1
            if session.holders == 1:
                self.held.append(session)

    def _end_rests(self) -> None:
        now = self.outboxes.now
        for session in [session for session, until in self._resting.items() if now >= until]:
            del self._resting[session]
            session.heard = session.input_since = now  # till now it was we who did not read it
            session.holders -= 1
            if not session.holders:
                self.released.append(session)
        self._rest_ends = min(self._resting.values(), default=float("inf"))

    def _part(self, session: Session) -> None:
        session.closing = session.careful = True
        session.closing_since = self.outboxes.now
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

    def _with_earlier(self, session: Session, data: bytes) -> bytes:
        """Put what came earlier before what came now, once that can make a difference."""
        earlier = session.input
        if not session.backlog:
            # Only the new bytes are searched: a line that drips in costs no more than one at once.
            if session.payload is not None:
                complete = len(earlier) + len(data) >= session.payload[1]
            else:
                complete = b"\n" in data or len(earlier) + len(data) > MAX_LINE
            if not complete:
                earlier += data
                return b""
        session.input = bytearray()
        session.backlog = False
        return bytes(earlier + data)

    def _lines(self, session: Session, data: bytes, start: int, end: int) -> int:
        """Handle lines one by one, with the payloads between them.

        Args:
            session: who sent them.
            data: what holds them.
            start: where the first begins.
            end: the place after some LF. A payload may reach beyond it: slicing a new block after each
                payload would cost the square of their number.

        Returns:
            The place up to which `data` was used.
        """
        while start < end and not session.holders and not session.closing:
            stop = data.find(b"\n", start)
            # a SEND among other commands still takes the short way
            is_send = session.online and data.startswith(b"SEND ", start) and stop - start < MAX_TEXT
            if is_send and send_block(self, session, data[start : stop + 1]):
                start = stop + 1
                continue
            line = data[start:stop]
            start = stop + 1
            if line.endswith(b"\r"):
                line = line[:-1]
                if not session.online:
                    session.crlf = session.careful = True
            if not line:
                continue
            if not grammar.clean(line):
                verb = grammar.shown_verb(line.split(b" ", 1)[0])
                why = b"not UTF-8, or control characters; send such bytes counted (see HELP)"
                self.fail(session, b"bad-text", verb, why)
                continue
            head, colon, text = line.partition(b" :")
            words = head.split()
            if not words:
                continue
            if colon:
                commands.run(self, session, words, text)
            elif (count := commands.counted(words)) is None:
                commands.run(self, session, words, None)
            elif count > (self.limits.payload if session.online else MAX_LINE):
                self.counters.meet("payload", session)
                self._too_long(session, b"PAYLOAD", b"a payload may have %d bytes" % self.limits.payload)
            elif not count:
                commands.run(self, session, words[:-1], b"")
            else:
                session.payload = (words[:-1], count)
                if len(data) - start < count:
                    break
                start = self._payload(session, session.payload, data, start)
        return start

    def _payload(self, session: Session, announced: tuple[list[bytes], int], data: bytes, start: int) -> int:
        """Carry out the command whose payload begins here and is whole; returns the place after it."""
        words, count = announced
        session.payload = None
        commands.run(self, session, words, data[start : start + count])
        return start + count

    def _too_long(self, session: Session, what: bytes, why: bytes) -> None:
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
        if self._resting.pop(session, None) is not None:
            session.holders -= 1

    @staticmethod
    def _read_no_more(session: Session) -> None:
        # others may keep a session that is gone in their routes for long: it is to be small then
        session.input = bytearray()
        session.payload = None
        session.routes = {}

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
        limits, now = self.limits, self.outboxes.now
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


def _short_lines(data: bytes, start: int, most: int) -> int:
    """The place after the lines of at most MAX_TEXT bytes that begin here, up to `most` bytes of them.

    It goes in steps of MAX_TEXT: a longer line is noticed without a look at each line.

    Returns:
        `start` if the first line is longer, or not whole.
    """
    end, size = start, len(data)
    while end < size and end - start <= most - MAX_TEXT:
        step = data.rfind(b"\n", end, end + MAX_TEXT) + 1
        if not step:
            break
        end = step
    return end
