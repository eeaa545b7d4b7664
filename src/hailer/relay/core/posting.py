"""POST and ACK: from lines to mailboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay import grammar
from hailer.relay.controls import clean

if TYPE_CHECKING:
    from hailer.relay.core.mailbox import Mailbox, Poster
    from hailer.relay.core.relay import Relay
    from hailer.relay.core.session import Session

_MOST_AT_ONCE = 64 << 20
"""Bytes that one POST to a room may become."""


def post_block(relay: Relay, session: Session, block: bytes) -> bool:
    """Accept a block of lines if they are all POSTs, in order, that nothing speaks against.

    Args:
        relay: the core.
        session: the sender, logged in.
        block: whole lines of at most `grammar.MAX_TEXT` bytes, the last one ended by LF.

    Returns:
        False if the block is something else; then nothing was done.
    """
    mail = relay.mail
    if not block.startswith(b"POST ") or mail.trouble or mail.crowded:
        return False
    poster = mail.poster(session)
    if poster is None:
        return False
    if session.crlf:
        block = block.replace(b"\r\n", b"\n")
    if not clean(block):
        return False
    lines = block.split(b"\n")
    lines.pop()
    texts = _texts_to_one(lines, poster.accepted) or _texts_to_many(lines, poster.accepted)
    if not texts:
        return False
    new: list[tuple[Mailbox, list[bytes]]] = []
    for to, group in texts.items():
        box = mail.boxes.find(to)
        if box is None:  # unknown, or a room
            return False
        tail = b"%s %s :%%s\n" % (session.name, box.name)
        form = b"MAIL %d " + tail
        new.append((box, [form % item for item in enumerate(group, box.last + 1)]))
    sizes = [sum(map(len, entries)) for _, entries in new]
    if not all(mail.takes(box, len(entries), size) for (box, entries), size in zip(new, sizes, strict=True)):
        return False
    for (box, entries), size in zip(new, sizes, strict=True):
        mail.journal.add(box, entries, size)
    relay.counters.commands += len(lines)
    relay.counters.received += len(lines)
    mail.posted(poster, len(lines))
    return True


def _texts_to_one(lines: list[bytes], accepted: int) -> dict[bytes, list[bytes]]:
    """The texts of posts that all go to the same name and are numbered as they should be; empty if not.

    All heads are foretold and compared at once: half the time of taking each line apart.
    """
    words = lines[0].split(b" ", 3)
    if len(words) < 4:
        return {}
    head = b"POST %%d %s :" % words[2] if b"%" not in words[2] else b""
    heads = [head % number for number in range(accepted + 1, accepted + 1 + len(lines))] if head else []
    if not heads or not all(map(bytes.startswith, lines, heads)):
        return {}
    return {words[2]: [line[len(head) :] for line, head in zip(lines, heads, strict=True)]}


def _texts_to_many(lines: list[bytes], accepted: int) -> dict[bytes, list[bytes]]:
    """The texts of posts by their receivers; empty if one is no post, or not numbered as it should be."""
    texts: dict[bytes, list[bytes]] = {}
    number = accepted
    for line in lines:
        head, colon, text = line.partition(b" :")
        words = head.split(b" ")
        number += 1
        # b"%d" % is what int() of a word like b"+1" or b"1_0" is not: exactly this number, as it is written
        if len(words) != 3 or not colon or words[0] != b"POST" or words[1] != b"%d" % number:
            return {}
        same = texts.get(words[2])
        if same is None:
            texts[words[2]] = [text]
        else:
            same.append(text)
    if len(texts) > 1 and len({to.lower() for to in texts}) < len(texts):
        return {}  # one name written in two ways: what was grouped would change its order
    return texts


def post(relay: Relay, session: Session, words: list[bytes], text: bytes) -> None:
    """Accept one POST, or refuse it; see the protocol."""
    mail = relay.mail
    number = grammar.count_of(words[0])
    if not number:
        relay.fail(session, b"bad-syntax", b"POST", b"number the posts of a session 1, 2, 3 ...")
        return
    relay.counters.received += 1
    poster = mail.poster(session)
    if poster is None:
        relay.counters.meet("mailboxes" if session.box is None else "sessions", session)
        why = b"%d: this relay keeps the mail of no more names, or of no more sessions of yours" % number
        relay.fail(session, b"quota", b"POST", why)
    elif number <= poster.accepted:
        return  # sent again: it is stored, or on its way there
    elif number > poster.accepted + 1:
        why = b"%d: the next POST of this session is %d" % (number, poster.accepted + 1)
        relay.fail(session, b"gap", b"POST", why)
    elif mail.trouble:
        mail.refuse(session, range(number, number + 1))
    elif words[1].startswith(b"#"):
        _post_to_room(relay, session, poster, number, words[1], text)
    else:
        _post_to_name(relay, session, poster, number, words[1], text)


def _post_to_name(
    relay: Relay, session: Session, poster: Poster, number: int, to: bytes, text: bytes
) -> None:
    box = relay.mail.boxes.find(to)
    if box is None:
        if grammar.is_name(to):
            guests = relay.accounts.guests
            why = b"%d: nobody of the name %s was ever here" if guests else b"%d: %s has no account"
            relay.fail(session, b"unknown", b"POST", why % (number, to))
        else:
            why = b"%d: a receiver is a name, or a room such as #lobby" % number
            relay.fail(session, b"bad-name", b"POST", why)
        return
    head, raw = grammar.message(b"", (session.name, box.name), text)
    if relay.mail.put(box, b"MAIL %d%b%b" % (box.last + 1, head, raw), session):
        relay.mail.posted(poster, 1)
    else:
        why = b"%d: the mailbox of %s is full; post again once some was taken out" % (number, box.name)
        relay.fail(session, b"quota", b"POST", why)


def _post_to_room(
    relay: Relay, session: Session, poster: Poster, number: int, to: bytes, text: bytes
) -> None:
    room = relay.mail.boxes.rooms.get(to.lower())
    if room is None or session.box not in room.boxes:
        shown = grammar.printable(to, 65)
        relay.fail(session, b"not-joined", b"POST", b"%d: JOIN %s first" % (number, shown))
        return
    if len(text) * len(room.boxes) > _MOST_AT_ONCE:
        why = b"%d: this is too long for a room of %d; send less at once" % (number, len(room.boxes))
        relay.fail(session, b"quota", b"POST", why)
        return
    if not relay.mail.has_room(len(text) * len(room.boxes)):
        relay.counters.meet("mail_total", session)
        relay.fail(session, b"quota", b"POST", b"%d: the mailboxes of all names together are full" % number)
        return
    head, raw = grammar.message(b"", (session.name, room.name), text)
    tail = head + raw
    for box in room.boxes:
        # One that is full must not keep the others from their mail: its owner is told what it missed.
        if box is not session.box and not relay.mail.put(box, b"MAIL %d%b" % (box.last + 1, tail)):
            relay.mail.miss(box, room.name)
    relay.mail.posted(poster, 1)


def ack(relay: Relay, session: Session, words: list[bytes], _text: bytes) -> None:
    """Drop the entries of one's mailbox up to one."""
    number, box = grammar.number_of(words[0]), session.box
    if number is None or box is None:
        relay.fail(session, b"bad-syntax", b"ACK", b"write it as: ACK n")
    elif number > box.sent:
        shown = grammar.printable(words[0], 20)
        relay.fail(session, b"gap", b"ACK", b"%s: you were sent no entry after %d" % (shown, box.sent))
    elif number > box.floor:
        relay.mail.acknowledge(box, number)
