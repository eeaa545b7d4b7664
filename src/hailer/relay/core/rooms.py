"""Rooms and the directory: who is here, and who wants to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hailer.relay.core.session import Session


class Room:
    """A room and its members in the order in which they joined."""

    __slots__ = ("key", "members", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.key = name.lower()
        self.members: dict[Session, None] = {}


class Directory:
    """Names to sessions, rooms to members, and the watchers of names.

    Keys are lower case; what is shown is as it was registered.
    """

    def __init__(self) -> None:
        self.sessions: dict[bytes, Session] = {}
        self.rooms: dict[bytes, Room] = {}
        self._watchers: dict[bytes, dict[Session, None]] = {}
        self._watch_all: dict[Session, None] = {}

    def find(self, name: bytes) -> Session | None:
        """The session that has this name now."""
        return self.sessions.get(name.lower())

    def names(self) -> list[bytes]:
        """All names, sorted."""
        return [self.sessions[key].name for key in sorted(self.sessions)]

    def enter(self, session: Session, room_name: bytes) -> Room:
        """Make a session a member of a room, which comes into being with its first member."""
        key = room_name.lower()
        room = self.rooms.get(key)
        if room is None:
            room = self.rooms[key] = Room(room_name)
        room.members[session] = None
        session.rooms[key] = room
        return room

    def leave(self, session: Session, room: Room) -> None:
        """Take a session out of a room, which ends with its last member."""
        del room.members[session]
        del session.rooms[room.key]
        if not room.members:
            del self.rooms[room.key]

    def replace(self, old: Session, new: Session) -> None:
        """Give a new session the name and the rooms of the old one; nobody else notices."""
        new.rooms, old.rooms = old.rooms, {}
        for room in new.rooms.values():
            room.members = {new if member is old else member: None for member in room.members}
        self.sessions[old.key] = new

    def watch(self, session: Session, keys: set[bytes]) -> None:
        """Tell a session from now on who comes and goes: these names, or all if there are none."""
        self.unwatch(session)
        session.watched = keys
        if not keys:
            self._watch_all[session] = None
        for key in keys:
            self._watchers.setdefault(key, {})[session] = None

    def unwatch(self, session: Session) -> None:
        """Tell a session no more who comes and goes."""
        if session.watched is None:
            return
        self._watch_all.pop(session, None)
        for key in session.watched:
            watchers = self._watchers[key]
            del watchers[session]
            if not watchers:
                del self._watchers[key]
        session.watched = None

    def watchers(self, key: bytes) -> Iterator[Session]:
        """Whoever wants to know that this name comes or goes."""
        yield from list(self._watch_all)
        yield from list(self._watchers.get(key, ()))
