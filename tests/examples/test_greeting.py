"""The greeting server and its client, alone and with telnet and ncat."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from examples.greeting_client import greet
from hailer import Endpoint
from tests.examples.conftest import all_of, children_of, dial, finish, interrupt

if TYPE_CHECKING:
    from tests.conftest import RequireProgram
    from tests.examples.conftest import Start

AWAITING = "\nServer (parent process) awaiting new Client connection.\n\n"
PARENT = "Server (parent process) closed its Client socket.\n" + AWAITING
PESKY = (
    "Found that pesky even-multiple case, but the null byte\n"
    "rec'd indicates we're done - by contract (see 'end of send'\n"
    "comments in source code above).\n"
)
SHORT = "Found a rec'd byte count less than sizeof rd_buf -\ninterpret that to mean 'end of send'.\n"


def client_console(host: str, seconds: int) -> str:
    return (
        f"Client: connecting to server {host}\n"
        "Client sending message to Server ...\n"
        "... done sending message to Server.\n"
        "Client receiving message from Server ...\n"
        "... done receiving message from Server.\n"
        "Complete message from Server read by Client:\n"
        "   Hello Client, this is Server. I rec'd this message:\n"
        f"   Hello Server, this is Client! Used {seconds} sleep seconds.\n"
        "\n"
        "Client exiting.\n"
    )


def child_console(host: str, message: str, reads: str = "") -> str:
    """What a child tells; its number is replaced by PID."""
    return (
        "In Parent process, child's pid: PID.\n"
        "\n"
        "Child process running (proof - it sees its pid as zero: pid 0).\n"
        "Child process closed its copy of parent proc listener socket.\n"
        f"Server got connection from host {host}\n"
        "Child process receiving message from Client ...\n"
        f"{reads}"
        "... child done receiving message from Client.\n"
        "Complete message from Client read by Server Child process:\n"
        f"   {message}\n"
        "Child sending message to Client ...\n"
        "... child done sending message to Client.\n"
        "Forked child process exiting.\n"
    )


def of_child(said: str) -> str:
    """Parent and child talk at the same time: take away what the parent says."""
    assert said.count(PARENT) == 1, said
    said = said.replace(PARENT, "").removeprefix(
        "Now creating child with fork() to handle Client communications.\n"
    )
    return re.sub(r"pid: [1-9]\d*\.", "pid: PID.", said)


@pytest.mark.parametrize(
    ("family", "interface", "host"),
    [
        ((), "0.0.0.0 (all ipv4 interfaces)", "127.0.0.1"),
        (("4",), "0.0.0.0 (all ipv4 interfaces)", "127.0.0.1"),
        (("6",), ":: (all ipv6 interfaces)", "127.0.0.1"),
        (("6",), ":: (all ipv6 interfaces)", "::1"),
    ],
)
def test_consoles_are_those_of_the_document(
    start: Start, port: str, family: tuple[str, ...], interface: str, host: str
) -> None:
    server = start("greeting_server.py", *family, "--port", port)
    opening = server.until(AWAITING)
    assert opening == f"Server listening for connections on interface {interface} ...\n{AWAITING}"
    for seconds in ((), ("1",)) if family == ("6",) and host == "::1" else ((),):
        client = finish("greeting_client.py", host, *seconds, "--port", port)
        count = int(*seconds or "0")
        assert (client.returncode, client.stderr) == (0, "")
        assert client.stdout == client_console(host, count)
        said = server.until("exiting.\n")
        if PARENT not in said:  # the child was quicker
            said += server.until(AWAITING)
        message = f"Hello Server, this is Client! Used {count} sleep seconds."
        assert of_child(said) == child_console(host, message)
    assert interrupt(server) == ""


def test_four_byte_reads_are_shown_and_a_whole_message_takes_thirteen(start: Start, port: str) -> None:
    server = start("greeting_server.py", "--port", port, "--framing", "short-read:4")
    server.until(AWAITING)
    with dial(port) as client:
        client.sendall(b"Hello Server, this is Client! Used 5 sleep seconds.\0")
        answer = all_of(client)
    message = "Hello Server, this is Client! Used 5 sleep seconds."
    assert answer == f"Hello Client, this is Server. I rec'd this message:\n   {message}\0".encode()
    whole = message.encode() + b"\0"
    reads = "".join(f"Read 4 bytes: {whole[at : at + 4]!r}\n" for at in range(0, 52, 4))
    assert reads.count("\n") == 13
    said = server.until("exiting.\n")
    if PARENT not in said:
        said += server.until(AWAITING)
    assert of_child(said) == child_console("127.0.0.1", message, reads + PESKY)
    interrupt(server)


@pytest.mark.parametrize("rule", ["null", "short-read:4"])
def test_a_pause_cuts_a_message_only_under_the_wrong_rule(start: Start, port: str, rule: str) -> None:
    server = start("greeting_server.py", "--port", port, "--framing", rule)
    server.until(AWAITING)
    with dial(port) as client:
        client.sendall(b"Hello Ser")
        server.until("receiving message")
        if rule == "null":
            time.sleep(0.1)  # a pause on the wire is what this is about
        else:
            server.until("Read 1 bytes: b'r'\n" + SHORT)
        client.sendall(b"ver!\0")
        answer = all_of(client).partition(b"\n")[2]
    assert answer == (b"   Hello Server!\0" if rule == "null" else b"   Hello Ser\0")


def test_telnet_gets_the_documents_lines(start: Start, port: str, require_program: RequireProgram) -> None:
    server = start("greeting_server.py", "6", "--port", port)
    server.until(AWAITING)
    telnet = start(require_program("telnet"), "127.0.0.1", port, terminal=True)
    telnet.until("Escape character is '^]'.")
    telnet.type("Hi Server!  I'm telnetting to you this time!\n")
    telnet.until("Hello Client, this is Server. I rec'd this message:\r\n")
    telnet.until("   Hi Server!  I'm telnetting to you this time!\r\n")
    assert "Connection closed by foreign host." in telnet.rest()
    # What telnet sends ends with CRLF: an empty line, as there.
    server.until("   Hi Server!  I'm telnetting to you this time!\n\nChild sending message to Client ...\n")


def test_telnet_under_the_wrong_rule(start: Start, port: str, require_program: RequireProgram) -> None:
    server = start("greeting_server.py", "--port", port, "--framing", "short-read:4")
    server.until(AWAITING)
    telnet = start(require_program("telnet"), "127.0.0.1", port, terminal=True)
    telnet.until("Escape character is '^]'.")
    telnet.type("Hi Server!  I'm telnetting to you this time!\n")
    telnet.until("   Hi Server!  I'm telnetting to you this time!")
    server.until(SHORT)
    server.until("   Hi Server!  I'm telnetting to you this time!\n\nChild sending message to Client ...\n")


@pytest.mark.parametrize("model", ["iterative", "thread", "select", "epoll", "asyncio", "prefork"])
def test_the_same_handler_without_a_fork(start: Start, port: str, model: str) -> None:
    server = start("greeting_server.py", "--port", port, "--model", model)
    server.until("interfaces) ...\n")
    assert finish("greeting_client.py", "127.0.0.1", "--port", port).stdout == client_console("127.0.0.1", 0)
    assert server.until("done sending message to Client.\n") == (
        "Server got connection from host 127.0.0.1\n"
        "Server receiving message from Client ...\n"
        "... server done receiving message from Client.\n"
        "Complete message from Client read by Server:\n"
        "   Hello Server, this is Client! Used 0 sleep seconds.\n"
        "Server sending message to Client ...\n"
        "... server done sending message to Client.\n"
    )
    assert interrupt(server) == ""


def test_clients_that_hold_their_connections_are_there_at_once(start: Start, port: str) -> None:
    server = start("greeting_server.py", "--port", port)
    server.until(AWAITING)
    idle = dial(port)
    server.until("receiving message")
    assert finish("greeting_client.py", "127.0.0.1", "--port", port).returncode == 0
    server.until("exiting.")
    idle.close()
    give_up = time.monotonic() + 5
    while children_of(server):
        assert time.monotonic() < give_up, "a child is left"
        time.sleep(0.01)
    interrupt(server)


def test_a_foreign_client_that_ends_with_a_newline(
    start: Start, port: str, require_program: RequireProgram
) -> None:
    server = start("greeting_server.py", "--port", port)
    server.until(AWAITING)
    ncat = start(require_program("ncat"), "127.0.0.1", port)
    ncat.type("hello\n")
    ncat.until("Hello Client, this is Server. I rec'd this message:\n   hello\n\0")


def test_escapes_of_a_client_do_not_reach_the_terminal(start: Start, port: str) -> None:
    server = start("greeting_server.py", "--port", port)
    server.until(AWAITING)
    with dial(port) as client:
        client.sendall(b"\x1b[2Jclear\0")
        assert all_of(client).endswith(b"   \x1b[2Jclear\0")
    assert "\x1b" not in server.until("exiting.")


def test_the_function_for_other_programs(start: Start, port: str) -> None:
    server = start("greeting_server.py", "--port", port, "--model", "thread")
    answer = greet(Endpoint("tcp", "127.0.0.1", int(port)), timeout=5, retries=20)
    assert answer.endswith(b"\n   Hello Server, this is Client! Used 0 sleep seconds.")
    interrupt(server)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("127.0.0.1",), "nobody listens on 127.0.0.1:"),
        (("nohost.invalid",), "no host is called 'nohost.invalid'"),
        (("127.0.0.1", "-1"), "nobody can sleep less than 0 seconds"),
    ],
)
def test_what_goes_wrong_is_one_sentence(port: str, arguments: tuple[str, ...], sentence: str) -> None:
    client = finish("greeting_client.py", "--port", port, "--", *arguments)
    assert client.returncode != 0
    assert client.stdout == ""
    assert sentence in client.stderr
    assert "Traceback" not in client.stderr


def test_a_server_that_does_not_answer_is_not_waited_for(start: Start, port: str) -> None:
    ignoring = start("greeting_server.py", "--port", port)
    ignoring.until(AWAITING)
    ignoring.process.send_signal(19)  # SIGSTOP: it listens, and does nothing
    client = finish("greeting_client.py", "127.0.0.1", "--port", port, "--timeout", "0.3")
    ignoring.process.send_signal(18)
    assert client.returncode == 1
    assert client.stderr.startswith("greeting_client: ")
    assert client.stdout.endswith("Client receiving message from Server ...\n")


def test_a_port_that_is_taken(start: Start, port: str) -> None:
    start("greeting_server.py", "--port", port).until(AWAITING)
    second = finish("greeting_server.py", "--port", port)
    assert second.returncode == 1
    assert "in use" in second.stderr
    assert second.stderr.count("\n") == 1
