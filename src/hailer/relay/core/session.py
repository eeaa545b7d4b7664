"""One connected client, as the core sees it: no socket, an outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hailer.relay.core.mailbox import Mailbox, Poster
    from hailer.relay.core.rooms import Room

Chunk = bytes | memoryview

BLOCK = 65536
"""Bytes of lines that are routed together, at first. Not more for all: what a block becomes has to stay in
the processor's cache."""


class Route:
    """Where the lines of one session that start with the same head go, looked up once.

    ``SEND bob :`` of alice is the head ``SEND bob `` here; what its receivers see starts with `prefix`,
    ``MSG alice bob :``. The two with a leading LF turn a whole read of such lines at once. With a room, the
    target is the sender itself and means nothing.
    """

    __slots__ = ("lf_head", "lf_prefix", "prefix", "room", "target")

    def __init__(self, head: bytes, target: Session, room: Room | None, prefix: bytes) -> None:
        self.target = target
        self.room = room
        self.prefix = prefix
        self.lf_head = b"\n" + head + b":"
        self.lf_prefix = b"\n" + prefix


class Gap:
    """Messages of one source that a receiver lost."""

    __slots__ = ("count", "since")

    def __init__(self, since: float) -> None:
        self.count = 0
        self.since = since


class Session:
    """What the relay knows of one connection.

    An edge makes a subclass of it that adds the socket; the core never looks at that. The attributes are
    public between core and edge:

    Attributes:
        chunks: output to be written, in order.
        waiting: bytes in `chunks`.
        blocked: the last write was short: the edge waits until the peer takes more.
        careful: output for it needs more than being appended and written: it is blocked, full or closing, is
            sent mail, or wants CRLF.
        holders: how many receivers this session's reading waits for; it is read only at 0.
        block: bytes of its lines that are routed together.
        routes: where its lines to names go, by their heads; `room_routes`: those to rooms.
        cut: the relay ended it, for a fault of its peer or a limit.
        closing: it has had its BYE: what is in `chunks` is to be written, then it is to be closed.
        reason: what its BYE said.
        mailing: it has not been sent all the mail that is stored for it: more follows when there is room.
        live: of the bytes in `chunks` those up to the end of the last that are no mail, kept while it is
            `careful`. What follows is mail, which waits for as long as its receiver likes.
        box: the mailbox of its name, None if it has none.
        poster: what its POSTs are counted in, None until the first.
        ended: the peer has half-closed: no more input will come.
        host: the peer's address without a port; empty on a Unix socket.
        failures: how often it failed to log in.
        partial: the edge holds a part of something of the peer's, and waits for the rest.
        certified: the name, in lower case, that the peer's certificate proves; empty for none.
    """

    __slots__ = (
        "asked",
        "asks",
        "backlog",
        "block",
        "blocked",
        "box",
        "careful",
        "certified",
        "chunks",
        "closing",
        "closing_since",
        "crlf",
        "cut",
        "ended",
        "failures",
        "full",
        "full_since",
        "gaps",
        "heard",
        "holders",
        "host",
        "id",
        "input",
        "input_since",
        "key",
        "lagged_at",
        "lagging",
        "live",
        "mailing",
        "mark",
        "name",
        "online",
        "partial",
        "payload",
        "peer",
        "pinged",
        "poster",
        "reason",
        "room_routes",
        "rooms",
        "routes",
        "since",
        "stalled_since",
        "tokens",
        "tokens_at",
        "waiters",
        "waiting",
        "watched",
    )

    def __init__(self, peer: str, now: float) -> None:
        self.peer = peer
        self.host = ""
        self.since = now
        self.heard = now
        self.pinged = False
        # who it is
        self.name = b""
        self.key = b""
        self.id = b""
        self.certified = b""
        self.failures = 0
        self.online = False
        self.crlf = False
        # input
        self.input = bytearray()
        self.input_since = now
        self.backlog = False
        self.partial = False
        self.payload: tuple[list[bytes], int] | None = None
        self.routes: dict[bytes, Route] = {}
        self.room_routes: dict[bytes, Route] = {}
        self.block = BLOCK
        self.tokens = 0.0
        self.tokens_at = now
        # output
        self.chunks: list[Chunk] = []
        self.waiting = 0
        self.live = 0
        self.careful = False
        self.blocked = False
        self.full = False
        self.full_since = 0.0
        self.lagging = False
        self.lagged_at = float("-inf")
        self.mark = 0
        self.stalled_since = 0.0
        self.gaps: dict[bytes, Gap] | None = None
        self.waiters: dict[Session, None] | None = None
        self.holders = 0
        # mail
        self.box: Mailbox | None = None
        self.poster: Poster | None = None
        self.mailing = False
        # the end
        self.closing = False
        self.reason = b""
        self.cut = False
        self.closing_since = 0.0
        self.ended = False
        # what it takes part in
        self.rooms: dict[bytes, Room] = {}
        self.watched: set[bytes] | None = None
        self.asks: dict[bytes, Session] | None = None
        self.asked: dict[tuple[Session, bytes], None] | None = None

    def __repr__(self) -> str:
        name = self.name.decode() if self.name else "(not logged in)"
        return f"<session {name} from {self.peer}>"
