"""The suite for framings finds the faults that framings have."""

from __future__ import annotations

import pytest

from hailer.errors import BadFrame, FramingError, TruncatedMessage
from hailer.framing import DEFAULT_MAX_MESSAGE, Decoder, NullFraming, RawFraming
from hailer.testing.framing import check_framing

Told = list[bytes | FramingError]


class Faulty:
    """The null framing with one fault, which a subclass of the decoder brings."""

    name = "faulty"
    read_size: int | None = None

    def __init__(self, fault: type[Sound]) -> None:
        self.fault = fault

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> Decoder:
        return self.fault(max_message)

    def encode(self, message: bytes) -> bytes:
        return NullFraming().encode(message)


class Sound:
    def __init__(self, max_message: int) -> None:
        self.inner = NullFraming().decoder(max_message)

    def feed(self, data: bytes) -> Told:
        return self.inner.feed(data)


class SurfacesTruncated(Sound):
    def feed(self, data: bytes) -> Told:
        return [one.partial if isinstance(one, TruncatedMessage) else one for one in super().feed(data)]


class HidesTruncated(Sound):
    def feed(self, data: bytes) -> Told:
        return [one for one in super().feed(data) if not isinstance(one, TruncatedMessage)]


class ForgetsTheLimit(Sound):
    def __init__(self, max_message: int) -> None:
        super().__init__(max(max_message * 2, max_message))


class RefusesTheLimitItself(Sound):
    def __init__(self, max_message: int) -> None:
        super().__init__(max_message - 1 if max_message > 1 else max_message)


class RefusesOddBytes(Sound):
    def feed(self, data: bytes) -> Told:
        return [data.decode("ascii").encode()] and super().feed(data)


class LosesWhatARowOfReadsBrings(Sound):
    def feed(self, data: bytes) -> Told:
        return super().feed(data.lstrip(b"\0"))


class GoesOnAfterAFatalError(Sound):
    def feed(self, data: bytes) -> Told:
        told: Told = []
        for one in super().feed(data):
            told += [BadFrame("odd"), one] if one == b"\1" else [one]
        return told


class RepeatsTheEnd(Sound):
    def feed(self, data: bytes) -> Told:
        return super().feed(data) if data else [*super().feed(data), TruncatedMessage("again")]


def test_a_sound_framing_passes() -> None:
    check_framing(Faulty(Sound))


@pytest.mark.parametrize("fault", Sound.__subclasses__())
def test_a_fault_is_found(fault: type[Sound]) -> None:
    with pytest.raises((AssertionError, UnicodeError)):
        check_framing(Faulty(fault))


def test_reads_as_messages_are_found_where_they_may_not_be() -> None:
    with pytest.raises(AssertionError):
        check_framing(RawFraming())


class Cutting(RawFraming):
    """Passes on the beginning of a large read and drops the rest."""

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> Decoder:  # type: ignore[override]
        inner = RawFraming().decoder(max_message)

        class First:
            def feed(self, data: bytes) -> list[bytes | FramingError]:
                return inner.feed(data)[:1]

        return First()


def test_bytes_that_are_dropped_are_found_where_reads_are_messages() -> None:
    check_framing(RawFraming(), by_read=True)
    with pytest.raises(AssertionError):
        check_framing(Cutting(), by_read=True)
