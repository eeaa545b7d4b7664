"""What a client says, as bytes: checked here, so that a mistake is found before anything is sent."""

from __future__ import annotations

from functools import lru_cache

from hailer.errors import MessageError, UsageError
from hailer.relay import grammar

__all__ = [
    "ack",
    "answer",
    "as_bytes",
    "ask",
    "hello",
    "join",
    "leave",
    "post",
    "quit_line",
    "send",
    "watch",
    "who",
]


def as_bytes(payload: str | bytes, most: int) -> bytes:
    """Give a payload as bytes.

    Args:
        payload: text, sent as UTF-8, or anything like bytes.
        most: the most bytes that it may have.

    Raises:
        MessageError: it has more, or is text that UTF-8 cannot hold.
        UsageError: it is neither text nor bytes.
    """
    if isinstance(payload, str):
        try:
            data = payload.encode()
        except UnicodeEncodeError:
            raise MessageError("a text with lone surrogates cannot be sent: send its bytes instead") from None
    elif isinstance(payload, bytes | bytearray | memoryview):
        data = bytes(payload)
    else:
        raise UsageError(f"a payload is text or bytes, not {type(payload).__name__}: encode it first")
    if len(data) > most:
        raise MessageError(f"a message may have at most {most} bytes, not {len(data)}: send it in parts")
    return data


@lru_cache(maxsize=4096)
def _name(name: str) -> bytes:
    word = name.encode("utf-8", "replace")
    if not grammar.is_name(word):
        raise UsageError(
            f"{name!r} is no name: take 1 to 64 letters of a-z, digits, dots, hyphens and underscores"
        )
    return word


@lru_cache(maxsize=4096)
def _room(room: str) -> bytes:
    word = room.encode("utf-8", "replace")
    if not grammar.is_room(word):
        raise UsageError(f"{room!r} is no room: write # and a name, such as #lobby")
    return word


def _secret(word: str, what: str) -> bytes:
    data = word.encode("utf-8", "replace")
    if not grammar.is_token(data):
        raise UsageError(
            f"the {what} is not well-formed: it has 1 to 64 printable ASCII characters, no space"
        )
    return data


def _place(to: str) -> bytes:
    return _room(to) if to.startswith("#") else _name(to)


def hello(name: str, token: str | None = None, session: str | None = None, *, notices: bool = False) -> bytes:
    """Log in.

    Args:
        name: who to be.
        token: proves it, if the relay has accounts.
        session: the session to go on with, or to begin.
        notices: ask to be told of posts that expire unread.

    Raises:
        UsageError: the name, the token or the session id is not well-formed.
    """
    words = [b"HELLO", _name(name), b"version=%d" % grammar.PROTOCOL_VERSION]
    if token is not None:
        words.append(b"token=" + _secret(token, "token"))
    if session is not None:
        words.append(b"session=" + _secret(session, "session id"))
    if notices:
        words.append(b"notices=1")
    return b" ".join(words) + b"\n"


def send(to: str, payload: bytes) -> bytes:
    """A message to a name or a room, in the text form if that can hold it.

    Raises:
        UsageError: `to` is neither a name nor a room.
    """
    return b"".join(grammar.message(b"SEND", (_place(to),), payload))


def post(number: int, to: str, payload: bytes) -> bytes:
    """Durable mail to a name or a room.

    Raises:
        UsageError: `to` is neither a name nor a room.
    """
    return b"".join(grammar.message(b"POST", (b"%d" % number, _place(to)), payload))


def ack(number: int) -> bytes:
    """The mailbox is dealt with up to and with this entry."""
    return b"ACK %d\n" % number


def ask(number: str, to: str, payload: bytes) -> bytes:
    """A question to a name.

    Raises:
        UsageError: `to` is no name.
    """
    return b"".join(grammar.message(b"ASK", (number.encode(), _name(to)), payload))


def answer(number: str, to: str, payload: bytes) -> bytes:
    """The answer to a question."""
    return b"".join(grammar.message(b"ANSWER", (number.encode(), _name(to)), payload))


def join(room: str) -> bytes:
    """Enter a room.

    Raises:
        UsageError: it is no room.
    """
    return b"JOIN %s\n" % _room(room)


def leave(room: str) -> bytes:
    """Leave a room.

    Raises:
        UsageError: it is no room.
    """
    return b"LEAVE %s\n" % _room(room)


def who(room: str | None) -> bytes:
    """List who is here, or in a room.

    Raises:
        UsageError: it is no room.
    """
    return b"WHO\n" if room is None else b"WHO %s\n" % _room(room)


def watch(names: tuple[str, ...]) -> bytes:
    """Be told who comes and goes.

    Raises:
        UsageError: one of these is no name.
    """
    line = b" ".join([b"WATCH", *map(_name, names)]) + b"\n"
    if len(line) > grammar.MAX_LINE:
        raise UsageError("these are more names than fit into one command: watch all with no name at all")
    return line


def quit_line() -> bytes:
    """Log out."""
    return b"QUIT\n"
