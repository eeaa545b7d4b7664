"""The framing of the services that speak in lines."""

from __future__ import annotations

import pytest

from hailer.errors import MessageError
from hailer.services.crlf import CrlfFraming
from hailer.testing.framing import check_framing


def test_it_is_a_framing() -> None:
    check_framing(CrlfFraming())


def test_crlf_is_sent_and_both_are_understood() -> None:
    framing = CrlfFraming()
    assert framing.encode(b"one") == b"one\r\n"
    assert framing.decoder().feed(b"one\r\ntwo\n") == [b"one", b"two"]
    with pytest.raises(MessageError):
        framing.encode(b"one\ntwo")
