"""The commands: a table, with the guards run once, and what each does."""

from __future__ import annotations

from dataclasses import dataclass
from hmac import compare_digest
from typing import TYPE_CHECKING

from hailer.relay import grammar
from hailer.relay.core.posting import ack, post
from hailer.relay.core.routing import broadcast, deliver

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.core.relay import Relay
    from hailer.relay.core.session import Session


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table.

    Attributes:
        run: does it; called with the relay, the session, the words after the verb, and the text.
        least: the least number of words after the verb.
        most: the most words after the verb, None for any number.
        text: "none", "optional" or "required": whether a last argument (text or counted) belongs to it.
        before_login: whether it may be said before HELLO.
        usage: how it is written, for HELP and for the explanation of a mistake.
        help: what it does, in a few words.
    """

    run: Callable[[Relay, Session, list[bytes], bytes], None]
    least: int
    most: int | None
    text: str
    before_login: bool
    usage: bytes
    help: bytes


def run(relay: Relay, session: Session, words: list[bytes], text: bytes | None) -> None:
    """Carry out one command, or refuse it with a FAIL.

    Args:
        relay: the core.
        session: who said it.
        words: the verb and the words after it, at least one.
        text: the last argument, None if there was none.
    """
    relay.counters.commands += 1
    verb = words[0].upper()
    command = COMMANDS.get(verb)
    if command is None:
        why = b"no such command; HELP lists them"
        relay.fail(session, b"unknown-command", grammar.shown_verb(verb), why)
        _refuse_browser(relay, session, words)
        return
    if not session.online and not command.before_login:
        relay.fail(session, b"not-logged-in", verb, b"say HELLO and a name first")
        _refuse_browser(relay, session, words)
        return
    count = len(words) - 1
    if (
        count < command.least
        or (command.most is not None and count > command.most)
        or (text is None and command.text == "required")
        or (text is not None and command.text == "none")
    ):
        relay.fail(session, b"bad-syntax", verb, b"write it as: %s" % command.usage)
        return
    command.run(relay, session, words[1:], text or b"")


def _refuse_browser(relay: Relay, session: Session, words: list[bytes]) -> None:
    """Close at a request of HTTP: what follows its head, any page of the web may have written."""
    if not session.online and words[-1].startswith(b"HTTP/"):
        relay.close(session, b"this is no web server")


def counted(words: list[bytes]) -> int | None:
    """How many raw bytes follow this line, None if it is no line that announces some."""
    command = COMMANDS.get(words[0].upper())
    if command is None or command.text == "none" or len(words) != command.least + 2:
        return None
    return grammar.count_of(words[-1])


def _hello(relay: Relay, session: Session, words: list[bytes], _text: bytes) -> None:
    name, options = words[0], {}
    for word in words[1:]:
        key, equals, value = word.partition(b"=")
        if not equals or key not in (b"token", b"session", b"version", b"notices") or key in options:
            relay.fail(session, b"bad-syntax", b"HELLO", b"write it as: %s" % COMMANDS[b"HELLO"].usage)
            return
        options[key] = value
    if session.online:
        relay.fail(session, b"already-logged-in", b"HELLO", b"you are %s; QUIT first" % session.name)
        return
    if not grammar.is_name(name):
        relay.fail(session, b"bad-name", b"HELLO", b"a name is 1 to 64 letters, digits, dots, _ and -")
        return
    if options.get(b"version", b"1") != b"%d" % grammar.PROTOCOL_VERSION:
        relay.fail(session, b"bad-version", b"HELLO", b"this relay speaks version 1")
        return
    # a client may choose the id itself, so that it knows it even when no WELCOME ever reached it
    session_id = options.get(b"session", b"")
    if session_id and not grammar.is_token(session_id):
        relay.fail(session, b"bad-name", b"HELLO", b"a session is 1 to 64 printable characters")
        return
    key = name.lower()
    verdict = relay.accounts.admit(key, options.get(b"token"), session.certified)
    if not verdict.allowed:
        relay.notice("denied", session, name)
        relay.deny(session, verdict.why)
        return
    name = verdict.account or name
    old = relay.directory.sessions.get(key)
    if old is not None:
        same_session = compare_digest(session_id, old.id)
        # A name without an account: the session id, which only its owner was told, is the proof of who it is.
        if not (verdict.account or same_session):
            relay.notice("denied", session, name)
            relay.fail(session, b"taken", b"HELLO", b"%s is here already; take another name" % old.name)
            return
        relay.notice("replaced", old, name)
        relay.directory.replace(old, session)
        old.online = False
        relay.directory.unwatch(old)
        drop_questions(relay, old)
        relay.mail.depart(old)
        relay.close(old, b"replaced")
    else:
        relay.directory.sessions[key] = session
    session.name, session.key, session.online = name, key, True
    session.id = session_id or relay.new_id()
    relay.counters.logins += 1
    relay.notice("login", session, name)
    stored, waiting = relay.mail.arrive(session, notices=options.get(b"notices") == b"1")
    say = b"WELCOME %s session=%s stored=%d relay=hailer/%s mail=%d store=%s\n"
    store = relay.mail.store.encode()
    relay.say(session, say % (name, session.id, stored, relay.version, waiting, store))
    relay.mail.deliver(session)
    if old is None:
        for watcher in relay.directory.watchers(key):
            relay.say(watcher, b"ONLINE %s\n" % name, by=session)


def _send(relay: Relay, session: Session, words: list[bytes], text: bytes) -> None:
    to = words[0]
    relay.counters.received += 1
    if to.startswith(b"#"):
        room = session.rooms.get(to.lower())
        if room is None:
            relay.fail(session, b"not-joined", b"SEND", b"JOIN %s first" % grammar.printable(to, 65))
            return
        chunk, raw = grammar.message(b"MSG", (session.name, room.name), text)
        broadcast(relay, session, room, chunk, raw, 1)
        return
    target = relay.directory.find(to)
    if target is None:
        _offline(relay, session, b"SEND", b"", to)
        return
    chunk, raw = grammar.message(b"MSG", (session.name, target.name), text)
    if target.careful:
        deliver(relay, session, target, chunk, raw, 1)
    else:
        relay.counters.delivered += 1
        relay.say(target, chunk, raw, by=session)


def _offline(relay: Relay, session: Session, verb: bytes, prefix: bytes, to: bytes) -> None:
    if grammar.is_name(to):
        relay.fail(session, b"offline", verb, prefix + b"%s is not connected" % to)
    else:
        why = b"a receiver is a name, or a room such as #lobby"
        relay.fail(session, b"bad-name", verb, prefix + why)


def _join(relay: Relay, session: Session, words: list[bytes], _text: bytes) -> None:
    name = words[0]
    if not grammar.is_room(name):
        relay.fail(session, b"bad-name", b"JOIN", b"a room is # and 1 to 64 letters, digits, dots, _ and -")
        return
    room = session.rooms.get(name.lower())
    if room is not None:  # nothing changes, so nobody else is told
        relay.say(session, b"JOINED %s %s\n" % (room.name, session.name))
        return
    if len(session.rooms) >= relay.limits.rooms:
        relay.counters.meet("rooms", session)
        why = b"you are in %d rooms, which is the most; LEAVE one" % len(session.rooms)
        relay.fail(session, b"too-many", b"JOIN", why)
        return
    if (full := relay.directory.rooms.get(name.lower())) and len(full.members) >= relay.limits.members:
        relay.counters.meet("members", session)
        why = b"%s has %d members, which is the most; JOIN another" % (full.name, len(full.members))
        relay.fail(session, b"too-many", b"JOIN", why)
        return
    room = relay.directory.enter(session, name)
    if session.box is not None:
        relay.mail.boxes.join(session.box, room.name, session.rooms)
    relay.tell_room(room.members, b"JOINED %s %s\n" % (room.name, session.name), session)


def _leave(relay: Relay, session: Session, words: list[bytes], _text: bytes) -> None:
    room = session.rooms.get(words[0].lower())
    # also of a room that one was in before one went away: its posts would still come
    was_member = session.box is not None and relay.mail.leave(session.box, words[0])
    if room is None:
        if was_member:
            relay.say(session, b"LEFT %s %s\n" % (words[0], session.name))
        else:
            relay.fail(session, b"not-joined", b"LEAVE", b"you are not in that room")
        return
    relay.tell_room(room.members, b"LEFT %s %s\n" % (room.name, session.name), session)
    relay.directory.leave(session, room)


def _who(relay: Relay, session: Session, words: list[bytes], _text: bytes) -> None:
    if not words:
        head, names = b"HERE", relay.directory.names()
    else:
        if not grammar.is_room(words[0]):
            relay.fail(session, b"bad-name", b"WHO", b"write it as: %s" % COMMANDS[b"WHO"].usage)
            return
        room = relay.directory.rooms.get(words[0].lower())
        members = sorted(room.members, key=lambda member: member.key) if room else []
        head = b"HERE %s" % (room.name if room else words[0])
        names = [member.name for member in members]
    relay.say(session, b"".join(grammar.listing(head, names)) + b"END WHO\n")


def _watch(relay: Relay, session: Session, words: list[bytes], _text: bytes) -> None:
    if len(words) > relay.limits.watches:
        relay.counters.meet("watches", session)
        why = b"at most %d names can be watched; WATCH alone watches all" % relay.limits.watches
        relay.fail(session, b"too-many", b"WATCH", why)
    elif not all(map(grammar.is_name, words)):
        relay.fail(session, b"bad-name", b"WATCH", b"write it as: %s" % COMMANDS[b"WATCH"].usage)
    else:
        relay.directory.watch(session, {word.lower() for word in words})


def _unwatch(relay: Relay, session: Session, _words: list[bytes], _text: bytes) -> None:
    relay.directory.unwatch(session)


def _ask(relay: Relay, session: Session, words: list[bytes], text: bytes) -> None:
    number, to = words
    if not grammar.is_token(number):
        relay.fail(session, b"bad-name", b"ASK", b"an id is 1 to 64 printable characters")
        return
    relay.counters.received += 1
    # The explanation of a refused ASK starts with its id, so that the asker knows which one it was.
    prefix = number + b": "
    if session.asks is None:
        session.asks = {}
    target = relay.directory.find(to)
    if target is None:
        _offline(relay, session, b"ASK", prefix, to)
    elif number in session.asks:
        relay.fail(session, b"taken", b"ASK", prefix + b"a question with this id waits for its answer")
    elif len(session.asks) >= relay.limits.asks:
        relay.counters.meet("asks", session)
        relay.fail(session, b"too-many", b"ASK", prefix + b"too many questions wait for their answers")
    elif not relay.outboxes.takes(target, len(text)):
        relay.fail(session, b"slow", b"ASK", prefix + b"%s is not keeping up" % target.name)
    else:
        session.asks[number] = target
        if target.asked is None:
            target.asked = {}
        target.asked[session, number] = None
        relay.counters.delivered += 1
        relay.say(target, *grammar.message(b"ASKED", (number, session.name), text), by=session)


def _answer(relay: Relay, session: Session, words: list[bytes], text: bytes) -> None:
    number, to = words
    relay.counters.received += 1
    asker = relay.directory.find(to)
    if asker is None or not session.asked or (asker, number) not in session.asked:
        shown = grammar.printable(number, 64)
        relay.fail(session, b"not-asked", b"ANSWER", shown + b": nobody of that name waits for this answer")
        return
    del session.asked[asker, number]
    if asker.asks is not None:
        del asker.asks[number]
    relay.counters.delivered += 1
    relay.say(asker, *grammar.message(b"ANSWERED", (number, session.name), text), by=session)
    if asker.ended:
        relay.answered.append(asker)


def drop_questions(relay: Relay, session: Session) -> None:
    """Forget the questions of and to a session that goes; whoever waits for its answer is told."""
    for number, target in (session.asks or {}).items():
        if target.asked is not None:
            target.asked.pop((session, number), None)
    session.asks = None
    asked, session.asked = session.asked, None
    for asker, number in asked or ():
        if asker.asks is not None and asker.asks.pop(number, None) is not None:
            why = number + b": %s left before it answered" % session.name
            relay.fail(asker, b"gone", b"ASK", why)
            if asker.ended:
                relay.answered.append(asker)


def _ping(relay: Relay, session: Session, words: list[bytes], _text: bytes) -> None:
    relay.say(session, b" ".join((b"PONG", *words)) + b"\n")


def _pong(_relay: Relay, _session: Session, _words: list[bytes], _text: bytes) -> None:
    """Hearing it was all that mattered."""


def _quit(relay: Relay, session: Session, _words: list[bytes], text: bytes) -> None:
    reason = text if grammar.is_text(text) and text else b"you quit"
    if not relay.mail.hear_out(session, reason):
        relay.close(session, reason)


def _help(relay: Relay, session: Session, _words: list[bytes], _text: bytes) -> None:
    rows = [b"HELP :%s - %s\n" % (command.usage, command.help) for command in COMMANDS.values()]
    rows.append(b"HELP :instead of :text, write a number N, end the line, and send N raw bytes\n")
    relay.say(session, b"".join(rows) + b"END HELP\n")


COMMANDS: dict[bytes, Command] = {
    b"HELLO": Command(
        _hello,
        1,
        5,
        "none",
        True,
        b"HELLO name [token=T] [session=S] [version=1] [notices=1]",
        b"log in as name",
    ),
    b"SEND": Command(
        _send, 1, 1, "required", False, b"SEND to :text", b"to a name that is here, or a #room you are in"
    ),
    b"JOIN": Command(_join, 1, 1, "none", False, b"JOIN #room", b"enter a room"),
    b"LEAVE": Command(_leave, 1, 1, "none", False, b"LEAVE #room", b"leave a room"),
    b"WHO": Command(_who, 0, 1, "none", False, b"WHO [#room]", b"list who is here, or in a room"),
    b"WATCH": Command(
        _watch, 0, None, "none", False, b"WATCH [name ...]", b"be told who comes and goes, or some names"
    ),
    b"UNWATCH": Command(_unwatch, 0, 0, "none", False, b"UNWATCH", b"be told no more"),
    b"ASK": Command(_ask, 2, 2, "required", False, b"ASK id to :text", b"ask a name that is here"),
    b"ANSWER": Command(
        _answer, 2, 2, "required", False, b"ANSWER id to :text", b"answer what ASKED id from :text asked"
    ),
    b"POST": Command(
        post, 2, 2, "required", False, b"POST n to :text", b"durable mail; number them 1, 2, 3 ..."
    ),
    b"ACK": Command(ack, 1, 1, "none", False, b"ACK n", b"the MAIL up to n is dealt with"),
    b"PING": Command(_ping, 0, 1, "none", True, b"PING [token]", b"answered by PONG"),
    b"PONG": Command(_pong, 0, 1, "none", True, b"PONG [token]", b"the answer to a PING"),
    b"QUIT": Command(_quit, 0, 0, "optional", True, b"QUIT [:reason]", b"log out"),
    b"HELP": Command(_help, 0, 0, "none", True, b"HELP", b"this list"),
}
