"""The conformance suite for framings: what every `hailer.framing.Framing` has to do.

For a framing of your own, in any test runner:

    def test_my_framing():
        check_framing(MyFraming())

Nothing is random, so that a failure comes back the next time.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hailer.errors import BadFrame, FramingError, MessageError, MessageTooLong, TruncatedMessage, UsageError
from hailer.framing.base import encoder_of_many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hailer.framing import Framing

__all__ = ["check_framing"]

_LIMIT = 64
_MESSAGES = (
    *(b"hello", b"", b"a", b"two words", b"tab\tand\\backslash", "Grüße".encode(), b"12:34,", b"x" * _LIMIT),
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"a\rb",
        b"\0",
        b"a\0b",
        b"\xff\xfe\x80",
        b"  ",
        b",",
        b":",
        bytes(range(32, 64)),
    ),
)


def check_framing(framing: Framing, *, one_message: bool = False, by_read: bool = False) -> None:
    """Assert that a framing keeps its promises: see `hailer.framing.Framing` and `Decoder`.

    Messages survive whatever the cuts of the stream, cut ones and over-long ones never surface as
    messages, nothing that a peer sends raises, and an end or a fatal error is the last that is told.

    Args:
        framing: the one to check. It has to carry some messages of text with spaces, and ones of 64 bytes.
        one_message: a stream has one message only, which its end ends, as under ``eof``.
        by_read: where a read ends matters, as under ``raw`` and ``short-read``; what cannot hold then is
            not asked.

    Raises:
        AssertionError: it does not.
    """
    carried = _check_encode(framing)
    _check_batches(framing, carried)
    if one_message:
        for message in carried:
            _check_stream(framing, [message], by_read=by_read)
    else:
        _check_stream(framing, carried, by_read=by_read)
        _check_end_after_a_message(framing, carried)
    _check_limit(framing, one_message=one_message, by_read=by_read)
    if not (one_message or by_read):
        _check_truncation(framing, carried)
    _check_any_bytes(framing, by_read=by_read)


def _check_encode(framing: Framing) -> list[bytes]:
    carried = []
    for message in _MESSAGES:
        try:
            framed = framing.encode(message)
        except MessageError as error:
            assert str(error), "a refused message gets a sentence"  # noqa: PT017 (no pytest here)
            continue
        assert message in framed, f"the framed bytes do not hold the message {message!r}"
        carried.append(message)
    for message in (b"hello", b"two words", b"x" * _LIMIT):
        assert message in carried, f"{message!r} cannot be carried"
    assert framing.name, "a framing has a name"
    assert framing.read_size is None or framing.read_size > 0
    for bad in (0, -1):
        try:
            framing.decoder(bad)
        except UsageError:
            pass
        else:
            raise AssertionError(f"a limit of {bad} bytes is accepted")
    return carried


def _check_batches(framing: Framing, carried: list[bytes]) -> None:
    encode_many = encoder_of_many(framing)
    for batch in ([], carried[:1], carried):
        assert encode_many(batch) == b"".join(map(framing.encode, batch)), (
            "encode_many gives other bytes than encode for each"
        )
    for message in _MESSAGES:
        if message not in carried:
            try:
                encode_many([*carried, message])
            except MessageError:
                continue
            raise AssertionError(f"encode_many takes {message!r}, which encode refuses")


def _check_stream(framing: Framing, messages: list[bytes], *, by_read: bool) -> None:
    frames = [framing.encode(message) for message in messages]
    if by_read:
        # The most that can be promised: a message that is sent in one piece, and read in one, arrives.
        for message, frame in zip(messages, frames, strict=True):
            if frame:
                assert _run(framing, [frame]) == [message], f"{message!r} does not survive"
        return
    for pieces in _cuts(b"".join(frames)):
        assert _run(framing, pieces) == messages, f"messages change when the stream is cut as {pieces[:20]!r}"


def _check_end_after_a_message(framing: Framing, messages: list[bytes]) -> None:
    for message in messages:
        frame = framing.encode(message)
        if not frame:
            continue
        decoder = framing.decoder(_LIMIT)
        assert decoder.feed(frame) == [message], f"{message!r} is not given as soon as it is there"
        for _ in range(2):
            assert decoder.feed(b"") == [], "an end between two messages is no news, and comes once"
        assert decoder.feed(frame) == [], "something is given after the end"


def _check_limit(framing: Framing, *, one_message: bool, by_read: bool) -> None:
    fits, over, after = b"x" * _LIMIT, b"x" * (_LIMIT + 1), b"after"
    # A message of the limit's size is taken by every cut; one byte more is refused by every cut.
    for size in (_LIMIT - 1, _LIMIT):
        for pieces in [[framing.encode(fits[:size])]] if by_read else _cuts(framing.encode(fits[:size])):
            assert _run(framing, pieces) == [fits[:size]], (
                f"a message of {size} bytes fails at a limit of {_LIMIT}"
            )
    for large in (over, over + b"x", over * 100):
        frames = [framing.encode(large)] if one_message else [framing.encode(large), framing.encode(after)]
        for pieces in [frames] if by_read else _cuts(b"".join(frames)):
            told = _run(framing, pieces)
            assert told, "an over-long message vanishes"
            if by_read and b"".join(one for one in told if isinstance(one, bytes)) == b"".join(pieces):
                continue  # it has no messages, so that none is too long: what it takes for them is cut
            error = told[0]
            assert isinstance(error, MessageTooLong), f"an over-long message is {error!r}"
            assert error.limit == _LIMIT
            expected = [] if error.fatal or one_message else [after]
            assert told[1:] == expected, f"after an over-long message comes {told[1:]!r}"


def _check_truncation(framing: Framing, messages: list[bytes]) -> None:
    stream = b"".join(map(framing.encode, messages))
    ends = {0}
    for message in messages:
        ends.add(max(ends) + len(framing.encode(message)))
    for cut in range(len(stream)):
        for pieces in ([stream[:cut]], _chunks(stream[:cut], 1), _chunks(stream[:cut], 3)):
            told = _run(framing, pieces)
            error = told.pop() if told and isinstance(told[-1], FramingError) else None
            assert told == messages[: len(told)], f"a message cut at byte {cut} surfaces as {told[-1:]!r}"
            if cut in ends:
                assert error is None, f"an end between two messages is an error: {error!r}"
            else:
                assert isinstance(error, TruncatedMessage), f"an end in a message is no error: {error!r}"
                assert error.fatal
                assert error.partial in stream, "the partial message is not what was sent"


def _check_any_bytes(framing: Framing, *, by_read: bool) -> None:
    random = Random(0)  # noqa: S311 (nothing secret: the same bytes each time)
    alphabets = (bytes(range(256)), b"0123456789:,", b"\0\0\0\1a", b"\r\na", framing.encode(b"a") + b"a")
    for round_ in range(200):
        data = bytes(random.choices(alphabets[round_ % len(alphabets)], k=random.randrange(300)))
        results = [_run(framing, pieces) for pieces in _cuts(data)]
        for told in results:
            for one in told:
                if isinstance(one, bytes):
                    assert len(one) <= _LIMIT, "a message over the limit surfaces"
                else:
                    assert isinstance(one, (MessageTooLong, TruncatedMessage, BadFrame)), f"odd error {one!r}"
                    assert str(one), "an error has a sentence"
                    assert one is told[-1] or not one.fatal, "something is given after a fatal error"
            if not by_read:
                assert _plain(told) == _plain(results[0]), f"{data!r} means something else when it is cut"


def _run(framing: Framing, pieces: Iterable[bytes]) -> list[bytes | FramingError]:
    decoder = framing.decoder(_LIMIT)
    told: list[bytes | FramingError] = []
    for piece in pieces:
        if piece:
            told += decoder.feed(piece)
    told += decoder.feed(b"")
    assert decoder.feed(b"") == [], "something is given after the end"
    assert decoder.feed(framing.encode(b"hello")) == [], "something is given after the end"
    return told


def _plain(told: list[bytes | FramingError]) -> list[object]:
    """Errors made comparable."""
    return [
        one if isinstance(one, bytes) else (type(one), str(one), getattr(one, "partial", None))
        for one in told
    ]


def _cuts(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    for size in (1, 2, 3, 7, 64):
        yield _chunks(data, size)
    random = Random(len(data))  # noqa: S311
    for _ in range(5):
        at, pieces = 0, []
        while at < len(data):
            size = random.randrange(1, 12)
            pieces.append(data[at : at + size])
            at += size
        yield pieces


def _chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
