"""Programs that have spoken these protocols for decades, with ours on the other side."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from hailer.errors import ListenError
from hailer.server import Server
from hailer.services import SERVICES
from hailer.services.clocks import daytime_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RequireProgram
    from tests.services.conftest import Serve


def output(*command: str, given: bytes = b"") -> bytes:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, input=given, capture_output=True, timeout=20, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("scheme", "options"), [("tcp", "-4p"), ("udp", "-4pu")])
def test_rdate_reads_the_time(
    serve: Serve, require_program: RequireProgram, scheme: str, options: str
) -> None:
    served = serve("time", scheme=scheme)
    told = output(require_program("rdate"), options, "-o", str(served.port), "127.0.0.1")
    moment = datetime.strptime(told.decode().strip(), "%a %b %d %H:%M:%S %Z %Y").timestamp()  # noqa: DTZ007
    assert abs(moment - time.time()) < 5


def test_finger_reads_a_plan(tmp_path: Path, require_program: RequireProgram) -> None:
    program = require_program("finger")
    (tmp_path / "alice").write_text("Write more tests.\n")
    service = SERVICES["finger"]
    # The program knows no other port, and only root may listen there: 127.0.0.79 is this machine too.
    try:
        with Server(
            "tcp4://127.0.0.79:79", service.build(directory=str(tmp_path)), "thread", framing=service.framing
        ):
            assert b"Plan:" in output(program, "alice@127.0.0.79")
            assert b"Write more tests." in output(program, "-l", "alice@127.0.0.79")
            assert b"alice" in output(program, "@127.0.0.79")
            assert b"forwarding service denied" in output(program, "alice@elsewhere@127.0.0.79")
    except ListenError as error:
        pytest.skip(f"port 79 is not for us: {error}")


def test_ncat_and_curl_read_the_daytime(serve: Serve, require_program: RequireProgram) -> None:
    ncat, curl = require_program("ncat"), require_program("curl")
    served = serve("daytime")
    today = daytime_line(datetime.now(UTC)).partition(b":")[0][:-3]
    assert today in output(ncat, "--recv-only", "127.0.0.1", str(served.port))
    assert today in output(curl, "-sS", f"telnet://127.0.0.1:{served.port}")


def test_ncat_is_echoed(serve: Serve, require_program: RequireProgram) -> None:
    data = bytes(range(256)) * 1000
    served = serve("echo")
    assert output(require_program("ncat"), "127.0.0.1", str(served.port), given=data) == data


def test_ncat_is_greeted(serve: Serve, require_program: RequireProgram) -> None:
    served = serve("greet")
    said = output(require_program("ncat"), "127.0.0.1", str(served.port), given=b"Hi!\0")
    assert said == b"Hello Client, this is Server. I rec'd this message:\n   Hi!\0"
