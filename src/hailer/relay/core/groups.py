"""A sender's lines taken apart elsewhere: grouped by receiver there, delivered here.

With workers (docs/design/workers.md), the one that read a block of SENDs to many names may group it, for
that is most of the work that such a block is. It goes by the routes that the core has told it. What it read
comes along unchanged: whatever speaks against the groups, the block is taken as if nobody had grouped it.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from io import BytesIO
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from hailer.relay.controls import clean
from hailer.relay.core.reading import whole_lines
from hailer.relay.core.routing import MOST_TO_ONE, deliver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hailer.relay.core.relay import Relay
    from hailer.relay.core.session import Route, Session

_COLON = repeat(b":")

_HEAD = struct.Struct("=II")
_GROUP = struct.Struct("=III")


class Told(NamedTuple):
    """A route as it is told to who groups: a number to name it by, and how its messages begin."""

    number: int
    prefix: bytes


class Group(NamedTuple):
    """The messages of one block for one receiver: how many, and what the receiver sees."""

    number: int
    """The route's."""
    messages: int
    chunk: bytes


def group(block: bytes, routes: Mapping[bytes, Told]) -> list[Group] | None:
    """Group lines by their receivers.

    Args:
        block: whole lines.
        routes: by head, such as ``SEND bob ``; no two of them to the same receiver.

    Returns:
        None if any line is something else than a well-formed SEND of these routes.
    """
    if not clean(block) or whole_lines(block) < len(block):
        return None
    texts: defaultdict[bytes, list[bytes]] = defaultdict(list)
    # as in routing: a file in memory finds lines by memchr
    for head, _, text in map(bytes.partition, BytesIO(block), _COLON):
        texts[head].append(text)
    groups = []
    for head, mine in texts.items():
        route = routes.get(head)
        if route is None or len(mine) > MOST_TO_ONE:
            return None
        groups.append(Group(route.number, len(mine), route.prefix + route.prefix.join(mine)))
    return groups


def pack(groups: Sequence[Group], block: bytes) -> list[bytes]:
    """Make of groups, and the block that they were made of, what `unpack` takes when it is joined."""
    table = [_HEAD.pack(len(groups), len(block))]
    table += [_GROUP.pack(number, count, len(chunk)) for number, count, chunk in groups]
    return [b"".join(table), *[chunk for _, _, chunk in groups], block]


def unpack(data: memoryview) -> tuple[list[Group], memoryview]:
    """Give the groups, and the block."""
    many, size = _HEAD.unpack_from(data)
    place = _HEAD.size + many * _GROUP.size
    groups = []
    for number, count, length in _GROUP.iter_unpack(data[_HEAD.size : place]):
        groups.append(Group(number, count, bytes(data[place : place + length])))
        place += length
    return groups, data[len(data) - size :]


def deliver_groups(
    relay: Relay, session: Session, routes: Sequence[Route], groups: Sequence[Group], now: float
) -> bool:
    """Deliver a block that was grouped.

    Args:
        relay: the core.
        session: the sender.
        routes: by number.
        groups: the block.
        now: the time.

    Returns:
        False if anything speaks against it; then nothing was done.
    """
    if not session.online or session.input or session.payload or session.holders or session.ended:
        return False
    for number, _, _ in groups:
        if not routes[number].target.online:
            return False
    relay.clock.now = session.heard = now
    counters = relay.counters
    count = sum([messages for _, messages, _ in groups])
    counters.received += count
    counters.commands += count
    dirty, limit = relay.dirty, relay.outboxes.limit
    for number, messages, chunk in groups:
        target = routes[number].target
        if target.careful:
            deliver(relay, session, target, chunk, b"", messages)
            count -= messages
            continue
        if not target.chunks:
            dirty.append(target)
        target.chunks.append(chunk)
        target.waiting += len(chunk)
        if target.waiting > limit:
            relay.outboxes.hold(session, target)
    counters.delivered += count
    if relay.rests.rate:
        relay.rests.spend(session, sum([messages for _, messages, _ in groups]))
    return True


class Balance:
    """How much of what could be grouped a worker groups, so that it works as much as the relay's process.

    Args:
        wrap: the counts of work are modulo this and one.
    """

    def __init__(self, wrap: int) -> None:
        self._wrap = wrap
        self._share = 0.0
        self._turn = 0.0
        self._here = self._there = 0

    def compare(self, here: int, there: int) -> None:
        """Take note of how much this process and the other have worked, in any unit, since they began."""
        worked_here, worked_there = here - self._here, (there - self._there) & self._wrap
        self._here, self._there = here, there
        if worked_here + worked_there > 0:
            change = 0.3 * (worked_there - worked_here) / (worked_there + worked_here)
            self._share = min(1.0, max(0.0, self._share + change))

    def is_turn(self) -> bool:
        """Whether to group the next block."""
        self._turn += self._share
        if self._turn < 1:
            return False
        self._turn -= 1
        return True
