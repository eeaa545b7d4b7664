"""`hailer bench endpoint` as a person runs it."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
import trustme

from hailer import Server, server_context
from hailer.services.chargen import chargen
from hailer.services.echo import echo

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Process, Run

QUICK = ("bench", "endpoint", "--short", "--seconds", "0.1", "--no-plots")


@pytest.fixture
def server() -> Iterator[str]:
    """Where an echo is."""
    with Server("tcp4://127.0.0.1:0", echo) as running:
        yield str(running.endpoints[0])


def test_the_tour(hailer: Run, server: str) -> None:
    done = hailer(*QUICK, server)
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode()
    for seen in (
        "connect, 8 clients",
        "pingpong, 1 client",
        "pingpong, 32 clients",
        "stream, 1 client",
        "Connections accepted",
        "Messages delivered",
        "Latency, so many of a hundred within",
        "measured: 0.1 s each after 0.01 s to warm up, 1 round",
        f"{server}: process {os.getpid()} (",  # found by who listens there
        "Processor time",
    ):
        assert seen in out
    assert b"4 measurements" in done.stderr


def test_results_for_a_program(hailer: Run, server: str) -> None:
    done = hailer(*QUICK, "--kind", "pingpong", "--clients", "3", "--json", "-", "--interval", server)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["kind"] == "endpoint"
    (row,) = results["rows"]
    assert row["subject"] == server
    assert row["figures"]["messages_per_s"] > 100
    assert 0 < row["figures"]["p50_us"] <= row["figures"]["p99_us"] <= row["figures"]["max_us"]
    (curve,) = results["percentiles"]
    assert curve["points"][-1][0] == 100
    assert b"messages/s" in done.stderr  # the seconds that passed are no results here


def test_two_runs_are_compared(hailer: Run, server: str, tmp_path: Path) -> None:
    one = (*QUICK, "--kind", "pingpong", server)
    assert hailer(*one, "--json", str(tmp_path / "old.json")).returncode == 0
    done = hailer(*one, "--compare", str(tmp_path / "old.json"), "--html", str(tmp_path / "page.html"))
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_several_processes_and_seconds(hailer: Run, server: str) -> None:
    done = hailer(
        *QUICK, "--kind", "open", "--rate", "300", "--clients", "4", "--processes", "2", "--interval", server
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rb" 0\.0- +0\.\d s .* messages/s .* up .* down", done.stdout)
    assert b"open loop, 300/s, 4 clients" in done.stdout


def test_a_download(hailer: Run) -> None:
    with Server("tcp4://127.0.0.1:0", chargen) as running:
        done = hailer(*QUICK, "--reverse", str(running.endpoints[0]))
    assert done.returncode == 0, done.stderr
    assert b"download, 1 client" in done.stdout
    assert b"Bytes from the server" in done.stdout
    assert b"Messages delivered" not in done.stdout


def test_datagrams(hailer: Run) -> None:
    with Server("udp4://127.0.0.1:0", echo) as running:
        done = hailer(*QUICK, "--rate", "200", str(running.endpoints[0]))
    assert done.returncode == 0, done.stderr
    assert b"Jitter" in done.stdout
    assert b"Messages lost" in done.stdout


def test_tls(hailer: Run, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    with Server("tls://127.0.0.1:0", echo, tls=server_context(tmp_path / "own.pem")) as running:
        where = str(running.endpoints[0])
        done = hailer(*QUICK, "--kind", "connect", "--ca", str(tmp_path / "ca.pem"), where)
        assert done.returncode == 0, done.stderr
        done = hailer(*QUICK, "--kind", "connect", "--insecure", where)
        assert done.returncode == 0, done.stderr
        done = hailer(*QUICK, where)
        assert done.returncode == 35
        assert done.stderr.count(b"\n") == 2  # how long it would take, and what is wrong
        assert b"--ca" in done.stderr


def test_memory_of_connections(hailer: Run, start: Callable[..., Process]) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0")
    where = process.read_until(b"\n").decode().split()[-1]
    done = hailer(*QUICK, "--kind", "idle", "--clients", "200", "--pid", str(process.popen.pid), where)
    assert done.returncode == 0, done.stderr
    assert b"Memory of a connection, KiB" in done.stdout
    assert re.search(rb"Connected at the end +200\n", done.stdout)


def test_ctrl_c_shows_what_there_is(start: Callable[..., Process], server: str) -> None:
    process = start("bench", "endpoint", "--kind", "pingpong", "--seconds", "60", "--interval", server)
    process.read_until(b"messages/s")
    process.signal(signal.SIGINT)
    code, out, err = process.end()
    assert code == 130
    assert b"Messages delivered" in out
    assert b"ended early by Ctrl-C" in out + err
    assert b"Traceback" not in err


def test_ctrl_c_reaches_all_processes(start: Callable[..., Process], server: str) -> None:
    process = start("bench", "endpoint", "--kind", "pingpong", "--clients", "2", "--processes", "2",
                    "--seconds", "60", "--warmup", "0", "--interval", server)  # fmt: skip
    process.read_until(b"messages/s")
    process.signal(signal.SIGINT)
    code, out, err = process.end()
    assert code == 130, err
    assert b"Messages delivered" in out


def test_a_wrong_answer(hailer: Run, serve: Callable[[Callable[[socket.socket], None]], int]) -> None:
    def shout(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100).upper())
        sock.recv(100)

    port = serve(shout)
    done = hailer(*QUICK, "--kind", "pingpong", "--send", "hello", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1].decode()
        == f"hailer: tcp://127.0.0.1:{port} answered 'HELLO\\n' where 'hello\\n' was due: say what is right"
        " with --expect, or look at what the server does"
    )


def test_a_server_that_says_nothing(
    hailer: Run, serve: Callable[[Callable[[socket.socket], None]], int]
) -> None:
    def hear(sock: socket.socket) -> None:
        while sock.recv(100):
            pass

    port = serve(hear)
    done = hailer(*QUICK, "--kind", "pingpong", "--timeout", "0.3", f"127.0.0.1:{port}")
    assert done.returncode == 28
    assert b"does not go on" in done.stderr
    assert done.stdout == b""  # what failed has no figures


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("192.0.2.1:7",), 2, "--yes"),
        (("host.invalid:7",), 6, "no host is called"),
        (("127.0.0.1:1",), 7, "nobody listens"),
        (("-4", "-6", "127.0.0.1:1"), 2, "exclude each other"),
        (("-4", "unix:/none"), 2, "no choice"),
        (("--file", "none", "127.0.0.1:1"), 2, "cannot be read"),
        (("--ca", "none", "127.0.0.1:1"), 2, "not encrypted"),
        (("--timeout", "0", "127.0.0.1:1"), 2, "for ever"),
        (("--rate", "5", "--kind", "stream", "127.0.0.1:1"), 2, "--rate"),
        (("--expect", "sense", "127.0.0.1:1"), 2, "cannot be expected"),
        (("--kind", "connect", "udp://127.0.0.1:1"), 2, "no connections"),
        (("stdio:",), 2, "stdio"),
    ],
)
def test_what_is_wrong_is_one_sentence(hailer: Run, args: tuple[str, ...], code: int, said: str) -> None:
    done = hailer("bench", "endpoint", "-q", "--short", *args)
    assert done.returncode == code
    assert done.stderr.count(b"\n") == 1
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_the_family_is_chosen(hailer: Run, server: str) -> None:
    port = server.rpartition(":")[2]
    assert hailer(*QUICK, "--kind", "pingpong", "-4", f"localhost:{port}").returncode == 0
    assert hailer(*QUICK, "--kind", "pingpong", "-6", f"[::1]:{port}").returncode == 7
