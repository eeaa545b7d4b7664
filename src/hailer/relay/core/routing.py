"""The hot path: a read full of SEND lines, from the sender's bytes to the receivers' outboxes.

What one read brought is one unit of work. Every trick here saves Python calls for each message; none
changes what arrives: each receiver gets what one sender sent it in the order in which it was sent, over
all rooms and names. A block that is anything but plain SENDs is left, untouched, to the line by line way.
"""

from __future__ import annotations

from collections import defaultdict
from io import BytesIO
from itertools import chain, repeat
from typing import TYPE_CHECKING

from hailer.relay.controls import clean
from hailer.relay.core.session import BLOCK, Route
from hailer.relay.grammar import MAX_TEXT, is_text

if TYPE_CHECKING:
    from hailer.relay.core.relay import Relay
    from hailer.relay.core.rooms import Room
    from hailer.relay.core.session import Session

_MOST_ROUTES = 5000
"""Routes that one session keeps: some 3 MiB with the longest names."""

_COLON = repeat(b":")

_HEAD = 256
"""Bytes in which a line's head ends, whatever the names in it."""

_SHORT = 256
"""Bytes of a line below which a search of all text for heads costs less than taking each line."""

_WIDER = ((256, 16 * BLOCK), (16, 4 * BLOCK), (0, BLOCK))
"""Bytes that are routed together by the number of their receivers: the more receivers, the shorter is each
one's share, and each share is a write."""

MOST_TO_ONE = 16384
"""Lines to one receiver in a large block: the shortest are 16 times as long when they go out."""


def send_block(relay: Relay, session: Session, block: bytes) -> bool:
    """Deliver a block of lines if they are all SENDs that nothing speaks against.

    Args:
        relay: the core.
        session: the sender, logged in.
        block: whole lines of at most `MAX_TEXT` bytes, so that a MSG line can hold their texts;
            the last one ended by LF.

    Returns:
        False if the block is something else; then nothing was done.
    """
    if session.crlf:
        block = block.replace(b"\r\n", b"\n")
    # "SEND bob :text": the colon ends the head; the head's space is kept, as the proof that it was " :"
    head, colon, text = block[:_HEAD].partition(b":")
    route = session.routes.get(head) or session.room_routes.get(head) or find_route(relay, session, head)
    if route is None or not colon:
        return False
    if not clean(block):
        return False
    target, room = route.target, route.room
    if not (target.online if room is None else session in room.members):
        del (session.routes if room is None else session.room_routes)[head]
        return send_block(relay, session, block)
    first = block.find(b"\n") + 1
    if first == len(block):
        count = 1
        chunk = route.prefix + (text if first <= _HEAD else block[len(head) + 1 :])
    else:
        start = head + colon
        if not block.startswith(start, block.rfind(b"\n", 0, -1) + 1):
            return _scatter(relay, session, block)
        count, chunk = (_turn_short if first < _SHORT else _turn_long)(block, start, route)
        if not chunk:
            return _scatter(relay, session, block)
        if count > MOST_TO_ONE:
            return False
        session.block = BLOCK
    relay.counters.received += count
    relay.counters.commands += count
    _pass_on(relay, session, route, chunk, b"", count)
    return True


def send_each(relay: Relay, session: Session, data: bytes, start: int, end: int) -> int:
    """Deliver SENDs one by one, as texts or counted, up to one that is not so plain.

    Args:
        relay: the core.
        session: the sender, logged in.
        data: what holds them.
        start: where the first begins.
        end: the place after some LF; a payload may reach beyond it.

    Returns:
        The place after the last one that was delivered.
    """
    size, count = len(data), 0
    while start < end and not session.holders:
        stop = data.find(b"\n", start)
        colon = data.find(b":", start, stop)
        if colon >= 0:
            head, after = data[start:colon], stop + 1
        else:
            # "SEND bob 5": the head is what is before the number
            head = data[start : data.rfind(b" ", start, stop) + 1]
            digits = data[start + len(head) : stop]
            if len(digits) > 9 or not digits.isdigit():
                break
            after = stop + 1 + int(digits)
        route = session.routes.get(head) or session.room_routes.get(head) or find_route(relay, session, head)
        if route is not None and not (
            route.target.online if route.room is None else session in route.room.members
        ):
            route = find_route(relay, session, head)  # somebody else may have the name now
        if route is None:
            break
        raw = b""
        if colon >= 0:
            text = data[colon + 1 : after]
            if len(text) > MAX_TEXT or not clean(text):
                break
            chunk = route.prefix + text
        else:
            payload = data[stop + 1 : after]
            if after > size or not 0 < len(payload) <= relay.limits.payload:
                break
            if is_text(payload):
                chunk = b"%s%s\n" % (route.prefix, payload)
            else:
                chunk, raw = b"%s%d\n" % (route.prefix[:-1], len(payload)), payload
        _pass_on(relay, session, route, chunk, raw, 1)
        count += 1
        start = after
    relay.counters.received += count
    relay.counters.commands += count
    return start


def _pass_on(relay: Relay, session: Session, route: Route, chunk: bytes, raw: bytes, count: int) -> None:
    """Queue messages for the name or the room that a route leads to; see `deliver`."""
    if route.room is not None:
        broadcast(relay, session, route.room, chunk, raw, count)
        return
    target = route.target
    if target.careful:
        deliver(relay, session, target, chunk, raw, count)
        return
    relay.counters.delivered += count
    if not target.chunks:
        relay.dirty.append(target)
    target.chunks.append(chunk)
    target.waiting += len(chunk)
    if raw:
        target.chunks.append(raw)
        target.waiting += len(raw)
    if target.waiting > relay.outboxes.limit:
        relay.outboxes.hold(session, target)


def _turn_short(block: bytes, start: bytes, route: Route) -> tuple[int, bytes]:
    """Turn lines that all start alike into what their receivers see.

    Args:
        block: the lines.
        start: what they should start with, up to and with the colon; the last one does.
        route: where they go.

    Returns:
        How many they are, and the lines to be sent; these are empty if one does not start so.
    """
    # removing them tells their number: that goes from one to the next by memchr; count() looks at each byte
    count = len(block) - len(block.replace(b"\n", b""))
    parts = block.split(route.lf_head)
    if len(parts) != count:
        return 0, b""
    parts[0] = parts[0][len(start) :]
    return count, route.prefix + route.lf_prefix.join(parts)


def _turn_long(block: bytes, start: bytes, route: Route) -> tuple[int, bytes]:
    """Do the same where the texts are long: they are not searched for the next line's start."""
    lines = BytesIO(block)
    # start, text, start, text ... : each line's end is found by memchr
    starts = map(lines.read, repeat(len(start)))
    pieces = list(chain.from_iterable(zip(starts, iter(lines.readline, b""), strict=False)))
    count = len(pieces) // 2
    if pieces.count(start) != count:
        return 0, b""
    pieces[::2] = repeat(route.prefix, count)
    return count, b"".join(pieces)


def _scatter(relay: Relay, session: Session, block: bytes) -> bool:
    """Deliver lines to many names, joined to one chunk for each."""
    groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
    # A file in memory gives lines twice as fast as split(), for it finds their ends by memchr. map() over the
    # unbound method saves the look-up of a bound one for each line.
    for head, _, text in map(bytes.partition, BytesIO(block), _COLON):
        groups[head].append(text)
    counts = [len(texts) for texts in groups.values()]
    if max(counts) > MOST_TO_ONE:
        return False
    found = list(map(session.routes.get, groups))
    targets = [route.target for route in found if route is not None and route.target.online]
    if len(targets) < len(found):
        found = [find_route(relay, session, head) for head in groups]
        targets = [route.target for route in found if route is not None and route.room is None]
    # One name can be written in two ways, and rooms share members: grouping would change the order.
    if len(set(targets)) < len(found):
        return False
    count = sum(counts)
    session.block = next(size for many, size in _WIDER if len(found) > many)
    relay.counters.received += count
    relay.counters.commands += count
    dirty, limit = relay.dirty, relay.outboxes.limit
    for target, route, texts in zip(targets, found, groups.values(), strict=True):
        assert route is not None
        prefix = route.prefix
        chunk = prefix + prefix.join(texts)
        if target.careful:
            deliver(relay, session, target, chunk, b"", len(texts))
            count -= len(texts)
            continue
        if not target.chunks:
            dirty.append(target)
        target.chunks.append(chunk)
        target.waiting += len(chunk)
        if target.waiting > limit:
            relay.outboxes.hold(session, target)
    relay.counters.delivered += count
    return True


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
    routes = session.routes if room is None else session.room_routes
    if len(routes) >= _MOST_ROUTES:
        routes.clear()
    route = routes[head] = Route(head, target, room, prefix)
    return route
