"""What all models share: which errors of accept are survived, and how often they are told."""

from __future__ import annotations

import errno
import logging
import os
import re

import pytest

from hailer.logs import TextFormatter
from hailer.runtime import model
from hailer.runtime.model import AcceptTrouble, Counters


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_full_machine_makes_accepting_pause(number: int) -> None:
    counters = Counters()
    assert AcceptTrouble(counters).pause(OSError(number, os.strerror(number))) > 0
    assert counters.accept_failures == 1


@pytest.mark.parametrize(
    "number", [errno.ECONNABORTED, errno.ECONNRESET, errno.EPROTO, errno.ENETDOWN, errno.ETIMEDOUT]
)
def test_a_connection_that_has_gone_costs_no_pause(number: int) -> None:
    counters = Counters()
    assert AcceptTrouble(counters).pause(OSError(number, "gone")) == 0
    assert counters.accept_failures == 0


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EIO])
def test_every_other_error_is_the_end(number: int) -> None:
    error = OSError(number, "broken")
    with pytest.raises(OSError) as caught:
        AcceptTrouble(Counters()).pause(error)
    assert caught.value is error


def test_one_line_a_second_with_the_number_of_failures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(model.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    trouble = AcceptTrouble(Counters())
    caplog.set_level(logging.WARNING)
    for _ in range(50):
        trouble.note("no more descriptors")
    assert len(caplog.records) == 1
    now += 1
    trouble.note("no more descriptors")
    assert len(caplog.records) == 2
    assert "50 times" in caplog.records[1].getMessage()
    line = TextFormatter().format(caplog.records[1])
    assert re.search(r' warning accept-paused count=50 active=\d+ why=".*" advice=".*ulimit -n.*"$', line)
