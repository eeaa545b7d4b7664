"""Foreign programs exchange messages with another client, through a relay as people start it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Connect, RequireProgram
    from tests.interop.conftest import Places, Program, Run


def talk(program: Program, relay: Places, connect: Connect, eol: str = "\n") -> None:
    """Both ways, through a room too, and see each other come and go."""
    bob = connect(relay.tcp, "bob")
    bob.send("WATCH Guest")
    assert bob.sync() == []
    program.until("RELAY hailer/")
    program.type(f"HELLO Guest{eol}")
    program.until("WELCOME Guest ")
    assert bob.line() == "ONLINE Guest"
    program.type(f"SEND bob :hello, bob: grüße{eol}")
    assert bob.line() == "MSG Guest bob :hello, bob: grüße"
    bob.send("SEND guest :hello, guest")
    program.until("MSG bob Guest :hello, guest")
    program.type(f"JOIN #den{eol}")
    program.until("JOINED #den Guest")
    bob.send("JOIN #den")
    program.until("JOINED #den bob")
    bob.expect("JOINED #den bob")
    program.type(f"SEND #den :to all{eol}")
    assert bob.line() == "MSG Guest #den :to all"
    program.type(f"SEND nobody :x{eol}")
    program.until("FAIL offline SEND :nobody is not connected")


def leave(program: Program, relay: Places, connect: Connect, eol: str = "\n") -> str:
    """Log out; gives what the program said at last."""
    program.type(f"QUIT :see you{eol}")
    program.until("BYE :see you")
    program.end_input()  # ncat waits for this even when the other side has ended
    said = program.rest()
    connect(relay.tcp, "Guest").sync()  # the name is free again
    return said


def test_telnet_on_a_terminal(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram
) -> None:
    program = run(require_program("telnet"), "127.0.0.1", relay.port, terminal=True)
    program.until("Escape character")
    talk(program, relay, connect)
    program.type("HELP\n")
    program.until("END HELP")
    assert "closed by foreign host" in leave(program, relay, connect)


def test_telnet_with_a_pipe(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram
) -> None:
    program = run(require_program("telnet"), "127.0.0.1", relay.port)
    talk(program, relay, connect)
    leave(program, relay, connect)


@pytest.mark.parametrize("options", [(), ("-C",), ("--no-shutdown",)])
def test_ncat(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram, options: tuple[str, ...]
) -> None:
    program = run(require_program("ncat"), *options, "127.0.0.1", relay.port)
    talk(program, relay, connect)
    leave(program, relay, connect)


def test_ncat_on_a_unix_socket(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram
) -> None:
    program = run(require_program("ncat"), "-U", relay.unix.path)
    talk(program, relay, connect)
    leave(program, relay, connect)


@pytest.mark.parametrize("options", ["-", "-,crnl"])
@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_socat(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram, options: str, over: str
) -> None:
    address = f"UNIX-CONNECT:{relay.unix.path}" if over == "unix" else f"TCP4:127.0.0.1:{relay.port}"
    program = run(require_program("socat"), options, address)
    talk(program, relay, connect)
    leave(program, relay, connect)


def test_socat_on_a_terminal(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram
) -> None:
    program = run(require_program("socat"), "STDIO", f"TCP4:127.0.0.1:{relay.port}", terminal=True)
    talk(program, relay, connect)
    leave(program, relay, connect)


def test_curl(relay: Places, run: Run, connect: Connect, require_program: RequireProgram) -> None:
    """curl sleeps in reading its input, and looks at the socket after each line of it."""
    program = run(require_program("curl"), "-sN", f"telnet://127.0.0.1:{relay.port}")
    bob = connect(relay.tcp, "bob")
    program.type("HELLO Guest\n")
    program.until("WELCOME Guest ")
    program.type("SEND bob :hello, bob\n")
    assert bob.line() == "MSG Guest bob :hello, bob"
    bob.send("SEND guest :hello, guest")
    assert bob.sync() == []
    program.type("PING 1\n")
    program.until("MSG bob Guest :hello, guest")
    program.type("QUIT\n")
    program.until("BYE :you quit")


def test_a_shell_without_any_program(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram
) -> None:
    script = f'exec 3<>/dev/tcp/127.0.0.1/{relay.port}; cat <&3 & while read -r x; do echo "$x" >&3; done'
    program = run(require_program("bash"), "-c", script)
    talk(program, relay, connect)
    program.type("QUIT\n")
    program.until("BYE :you quit")
    program.end_input()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ncat", ("127.0.0.1", "{port}")),
        ("ncat", ("-U", "{path}")),
        ("socat", ("-t5", "-", "TCP4:127.0.0.1:{port}")),
        ("socat", ("-t5", "-", "UNIX-CONNECT:{path}")),
    ],
)
def test_a_script_on_a_pipe_gets_all_its_answers(
    relay: Places,
    run: Run,
    connect: Connect,
    require_program: RequireProgram,
    name: str,
    arguments: tuple[str, ...],
) -> None:
    """The program half-closes at the end of its input: also what another client answers later still comes."""
    bob = connect(relay.tcp, "bob")
    words = (word.format(port=relay.port, path=relay.unix.path) for word in arguments)
    program = run(require_program(name), *words)
    payload = bytes(range(256)) * 40
    program.type(b"HELLO script\nASK 1 bob :time?\nSEND bob %d\n" % len(payload) + payload + b"WHO\n")
    program.end_input()
    assert bob.line() == "ASKED 1 script :time?"
    assert bob.line() == f"MSG script bob {len(payload)}"
    assert bob.raw(len(payload)) == payload
    program.until("END WHO\n")
    bob.send("ANSWER 1 script :noon")
    assert program.rest() == "ANSWERED 1 bob :noon\nBYE :end of input\n"
    assert program.process.returncode == 0


def test_foreign_programs_talk_to_each_other(
    relay: Places, run: Run, require_program: RequireProgram
) -> None:
    programs = {
        "ncat": run(require_program("ncat"), "127.0.0.1", relay.port),
        "socat": run(require_program("socat"), "-", f"UNIX-CONNECT:{relay.unix.path}"),
        "telnet": run(require_program("telnet"), "127.0.0.1", relay.port, terminal=True),
    }
    for name, program in programs.items():
        program.until("RELAY ")
        program.type(f"HELLO {name}\nJOIN #all\n")
        program.until(f"JOINED #all {name}")
    for name, program in programs.items():
        program.type(f"SEND #all :from {name}\n")
        for other, receiver in programs.items():
            if other != name:
                receiver.until(f"MSG {name} #all :from {name}")


def test_a_killed_program_is_seen_to_go(
    relay: Places, run: Run, connect: Connect, require_program: RequireProgram
) -> None:
    program = run(require_program("socat"), "-", f"TCP4:127.0.0.1:{relay.port}")
    talk(program, relay, connect)
    watcher = connect(relay.tcp, "watcher")
    watcher.send("WATCH Guest")
    assert watcher.sync() == []
    program.process.kill()
    assert watcher.line() == "OFFLINE Guest"
