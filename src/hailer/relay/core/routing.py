"""The hot path: a read full of SEND lines, from the sender's bytes to the receivers' outboxes.

What one read brought is one unit of work. Every trick here saves Python calls for each message; none
changes what arrives: each receiver gets what one sender sent it in the order in which it was sent, over
all rooms and names. A block that is anything but plain SENDs is left, untouched, to the line by line way.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import repeat
from typing import TYPE_CHECKING

from hailer.relay import grammar
from hailer.relay.core.session import Route

if TYPE_CHECKING:
    from hailer.relay.core.relay import Relay
    from hailer.relay.core.rooms import Room
    from hailer.relay.core.session import Session

_MOST_ROUTES = 5000
"""Routes that one session keeps: some 3 MiB with the longest names."""

_COLON = repeat(b":")

_LONG = 2048
"""Bytes of a line from which lines are taken one by one: searching the text of all costs more."""

_MANY = 16
"""Receivers in one block from which larger blocks pay."""


def send_block(relay: Relay, session: Session, block: bytes) -> bool:
    """Deliver a block of lines if they are all SENDs that nothing speaks against.

    Args:
        relay: the core.
        session: the sender, logged in.
        block: whole lines of at most `grammar.MAX_TEXT` bytes, so that a MSG line can hold their texts;
            the last one ended by LF.

    Returns:
        False if the block is something else; then nothing was done.
    """
    if session.crlf:
        block = block.replace(b"\r\n", b"\n")
    # "SEND bob :text": the colon ends the head; the head's space is kept, as the proof that it was " :"
    head, colon, text = block.partition(b":")
    route = session.routes.get(head) or find_route(relay, session, head)
    if route is None or not colon:
        return False
    last_line = block.rfind(b"\n", 0, -1) + 1
    if last_line and len(block) - last_line > _LONG:
        return False
    if not grammar.clean(block):
        return False
    target, room, prefix, lf_head, lf_prefix = route
    if not (target.online if room is None else session in room.members):
        del session.routes[head]
        return send_block(relay, session, block)
    if not last_line:
        count = 1
        chunk = prefix + text
    elif block.startswith(head, last_line) and block.count(lf_head) == (count := block.count(b"\n")) - 1:
        # every line has the same head: one replace turns them all, faster than any loop
        chunk = prefix + text.replace(lf_head, lf_prefix)
        session.scatters = False
    else:
        return _scatter(relay, session, block)
    counters = relay.counters
    counters.received += count
    counters.commands += count
    if room is not None:
        broadcast(relay, session, room, chunk, b"", count)
    else:
        _deliver(relay, session, target, chunk, count)
    return True


def _scatter(relay: Relay, session: Session, block: bytes) -> bool:
    """Deliver lines to many names, joined to one chunk for each."""
    groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
    lines = block.split(b"\n")
    lines.pop()
    # map() over the unbound method saves the look-up of a bound one for each line
    for head, colon, text in map(bytes.partition, lines, _COLON):
        if not colon:
            return False
        groups[head].append(text)
    routes = session.routes
    found: dict[Session, tuple[Route, list[bytes]]] = {}
    for head, texts in groups.items():
        route = routes.get(head)
        if route is None or not route.target.online:
            route = find_route(relay, session, head)
        # Rooms share members, and one name can be written in two ways: grouping would change the order.
        if route is None or route.room is not None or route.target in found:
            return False
        found[route.target] = (route, texts)
    session.scatters = len(found) > _MANY
    relay.counters.received += len(lines)
    relay.counters.commands += len(lines)
    for target, (route, texts) in found.items():
        chunk = b"%s%s\n" % (route.prefix, route.lf_prefix.join(texts))
        _deliver(relay, session, target, chunk, len(texts))
    return True


def _deliver(relay: Relay, session: Session, target: Session, chunk: bytes, count: int) -> None:
    if target.careful:
        deliver(relay, session, target, chunk, b"", count)
        return
    relay.counters.delivered += count
    if not target.chunks:
        relay.dirty.append(target)
    target.chunks.append(chunk)
    target.waiting += len(chunk)
    if target.waiting > relay.outboxes.limit:
        relay.outboxes.hold(session, target)


def deliver(relay: Relay, session: Session, target: Session, chunk: bytes, raw: bytes, count: int) -> None:
    """Queue messages for one name; tell the sender of those that were dropped.

    Args:
        relay: the core.
        session: the sender.
        target: the receiver.
        chunk: the MSG lines.
        raw: the counted bytes after them, of one message.
        count: how many messages these are.
    """
    if relay.outboxes.put(session, target, chunk, raw, count, session.name):
        relay.counters.delivered += count
    elif not target.closing:
        why = b"%s is not keeping up: %d of your messages to it dropped" % (target.name, count)
        relay.fail(session, b"slow", b"SEND", why)


def broadcast(relay: Relay, session: Session, room: Room, chunk: bytes, raw: bytes, count: int) -> None:
    """Queue messages for all members of a room but the sender; see `deliver`."""
    whole = chunk + raw if raw else chunk
    size = len(whole)
    dirty, limit = relay.dirty, relay.outboxes.limit
    delivered = 0
    for member in room.members:
        if member is session:
            continue
        if member.careful:
            delivered += relay.outboxes.put(session, member, chunk, raw, count, room.name)
            continue
        delivered += 1
        if not member.chunks:
            dirty.append(member)
        member.chunks.append(whole)  # one object for all of them
        member.waiting += size
        if member.waiting > limit:
            relay.outboxes.hold(session, member)
    relay.counters.delivered += delivered * count


def find_route(relay: Relay, session: Session, head: bytes) -> Route | None:
    """Look up where lines with this head go, and keep it for the session's next ones.

    Args:
        relay: the core.
        session: the sender.
        head: a line up to and without its first colon, such as ``SEND bob ``.

    Returns:
        None if the head is not exactly a SEND to somebody who is here or to a room the session is in.
    """
    words = head.split(b" ")
    if len(words) != 3 or words[0] != b"SEND" or words[2]:
        return None
    to = words[1].lower()
    room = session.rooms.get(to)
    target = session if room is not None else relay.directory.sessions.get(to)
    if target is None:
        return None
    prefix = b"MSG %s %s :" % (session.name, target.name if room is None else room.name)
    route = Route(target, room, prefix, b"\n" + head + b":", b"\n" + prefix)
    if len(session.routes) >= _MOST_ROUTES:
        session.routes.clear()
    session.routes[head] = route
    return route
