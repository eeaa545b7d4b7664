"""The table of services."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hailer.errors import UsageError
from hailer.services import SERVICES, Service


def test_the_figures_of_the_rfcs() -> None:
    assert {s.name: (s.rfc, s.port) for s in SERVICES.values() if s.rfc is not None} == {
        "echo": (862, 7),
        "discard": (863, 9),
        "chargen": (864, 19),
        "qotd": (865, 17),
        "daytime": (867, 13),
        "time": (868, 37),
        "finger": (1288, 79),
    }
    assert [name for name, s in SERVICES.items() if not s.datagram] == ["finger"]


@pytest.mark.parametrize("service", [s for s in SERVICES.values() if s.rfc is not None and s.name != "qotd"])
def test_the_ports_are_those_of_the_system(service: Service) -> None:
    assert socket.getservbyname(service.name, "tcp") == service.port


def test_a_parameter_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="echo has no parameter 'file': it takes none"):
        SERVICES["echo"].build(file="x")
    with pytest.raises(UsageError, match="it takes directory and relay"):
        SERVICES["finger"].build(user="x")


def test_finger_has_to_be_told_of_whom() -> None:
    for parameters in ({}, {"directory": ".", "relay": "localhost:7000"}):
        with pytest.raises(UsageError, match="directory=PATH or relay=ENDPOINT"):
            SERVICES["finger"].build(**parameters)


def test_the_table_loads_no_event_loop() -> None:
    program = "import sys, hailer.services; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_page_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/services.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:7] for line in page.splitlines() if line.startswith("| `")]
    assert [[cell.strip(" `") for cell in row] for row in rows] == [
        [
            s.name,
            str(s.rfc or ""),
            str(s.port),
            "yes",
            "yes" if s.datagram else "no",
            s.framing.name,
        ]
        for s in SERVICES.values()
    ]
