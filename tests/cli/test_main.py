"""The command as a whole: help, version, completion, exit codes, settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from hailer.cli import relay as relay_verb
from hailer.cli.bench import BENCHES
from hailer.cli.exits import exit_code
from hailer.cli.group import VERBS
from hailer.errors import (
    DialError,
    EndpointError,
    HailerError,
    ListenError,
    Refused,
    ResolveError,
    TimedOut,
    TlsError,
)
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Run

    Serve = Callable[[Callable[[socket.socket], None]], int]


def test_version(hailer: Run) -> None:
    done = hailer("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(rb"hailer [0-9.a-z]+\n", done.stdout)
    assert hailer("-V").stdout == done.stdout


@pytest.mark.parametrize(
    ("args", "unwanted"),
    [
        (["--version"], ["click", "asyncio", "hailer.errors"]),
        (
            ["--help"],
            ["asyncio", "socket", "prompt_toolkit", "hailer.runtime", "hailer.cli.connect", "tomllib"],
        ),
        (["who", "--help"], ["asyncio", "prompt_toolkit", "hailer.runtime", "hailer.cli.connect", "tomllib"]),
        (["bench", "--help"], ["asyncio", "psutil", "hailer.tools", "hailer.cli.publishing", "tomllib"]),
        *((["bench", name, "--help"], ["asyncio", "psutil", "plotext", "tomllib"]) for name in BENCHES),
    ],
)
def test_imports_only_what_it_needs(args: list[str], unwanted: list[str]) -> None:
    code = (
        "import atexit, sys, hailer.cli\n"
        f"atexit.register(lambda: print(*sorted(set({unwanted}) & set(sys.modules)), file=sys.stderr))\n"
        f"sys.argv = ['hailer', *{args}]\n"
        "hailer.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b"\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(hailer: Run, flag: str) -> None:
    done = hailer(flag)
    assert (done.returncode, done.stderr) == (0, b"")
    for verb in VERBS:
        assert f"\n  {verb} ".encode() in done.stdout
    assert b"28 timed out" in done.stdout
    assert done.stdout.endswith(b"Example:\n  hailer relay &\n  hailer chat ann\n")


@pytest.mark.parametrize("verb", [*VERBS, *(f"bench {name}" for name in BENCHES)])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_each_verb_ends_with_an_example(hailer: Run, verb: str, flag: str) -> None:
    done = hailer(*verb.split(), flag)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    example = lines[lines.index("Example:") + 1 :]
    assert example
    assert all(line.startswith("  ") and "hailer " in line for line in example)
    assert b"--verbose" in done.stdout or verb == "bench"  # which only has verbs of its own


def test_nothing_to_do_shows_the_help_as_an_error(hailer: Run) -> None:
    done = hailer()
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Verbs:" in done.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["snd"], b"hailer: there is no verb 'snd', did you mean send (see hailer --help)\n"),
        (["xyzzy"], b"hailer: there is no verb 'xyzzy' (see hailer --help)\n"),
        (["who", "--relai", "x"], b"(see hailer who --help)\n"),
        (["connect"], b"(see hailer connect --help)\n"),
        (["connect", "7000"], b"is a port without a host; write localhost:7000"),
        (["connect", "a", "b", "c"], b"hailer: an endpoint is one word or two, not 3"),
        (["connect", "localhost:7", "--framing", "lines"], b"'lines' is no framing; write one of line"),
        (["connect", "localhost:7", "--timeout", "soon"], b"'soon' is no number of seconds"),
        (["connect", "localhost:7", "--timeout", "nan"], b"'nan' is no number of seconds"),
        (["connect", "localhost:7", "--retries", "-1"], b"--retries"),
        (["who", "--relay", "nonsense"], b"has no port; write HOST:PORT"),
        (["who", "--name", "a b"], b"'a b' is no name"),
        (["relay", "--web", "localhost:80"], b"has no page for localhost:80 yet"),
        (["relay", "--model", "fork"], b"'fork' is not one of"),
        (["relay", "--listen", "tcp://*:0"], b"or say --insecure to allow it"),
    ],
)
def test_wrong_usage_is_one_sentence_with_a_hint(hailer: Run, args: list[str], sentence: bytes) -> None:
    done = hailer(*args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"hailer: ")
    assert sentence in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EndpointError(""), 2),
        (ResolveError(""), 6),
        (DialError(""), 7),
        (TimedOut(""), 28),
        (TlsError(""), 35),
        (ListenError(""), 1),
        (Refused("offline", "SEND", ""), 1),
        (HailerError(""), 1),
    ],
)
def test_exit_codes(error: HailerError, code: int) -> None:
    assert exit_code(error) == code


_BUG = """
import sys, types
from hailer.cli import main
from hailer.cli.group import verb
module = types.ModuleType("hailer.cli.who")
module.command = verb("who", example="hailer who")(lambda: 1 / 0)
sys.modules["hailer.cli.who"] = module
sys.argv = ["hailer", "who"]
main()
"""


def test_a_bug_is_one_line(env: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", _BUG], capture_output=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == (
        b"hailer: this is a bug in hailer: ZeroDivisionError: division by zero;"
        b" run again with HAILER_DEBUG=1 for the traceback\n"
    )
    env["HAILER_DEBUG"] = "1"
    done = subprocess.run([sys.executable, "-c", _BUG], capture_output=True, env=env, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Traceback")


@pytest.mark.parametrize(
    ("words", "expected"),
    [("hailer re", [b"plain,relay", b"plain,recv"]), ("hailer who --js", [b"plain,--json"])],
)
def test_shell_completion(hailer: Run, words: str, expected: list[bytes]) -> None:
    more = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "_HAILER_COMPLETE": "bash_complete",
    }
    done = hailer(env=more)
    assert (done.returncode, done.stdout.splitlines()) == (0, expected)
    for shell in ("zsh", "fish"):
        assert b"hailer" in hailer(env={"_HAILER_COMPLETE": f"{shell}_source"}).stdout


def test_every_limit_is_an_option() -> None:
    assert set(relay_verb.LIMITS) == {field.name for field in fields(Limits)}


def reply(text: bytes) -> Callable[[socket.socket], None]:
    """Answer anything with this."""

    def handle(peer: socket.socket) -> None:
        peer.recv(100)
        peer.sendall(text)

    return handle


class TestSettings:
    """Options, then variables, then hailer.toml."""

    def test_order(self, hailer: Run, serve: Serve, tmp_path: Path) -> None:
        def framed(*args: str, env: dict[str, str] | None = None) -> bytes:
            heard = threading.Event()
            wire = b""

            def handle(peer: socket.socket) -> None:
                nonlocal wire
                wire = peer.recv(100)
                heard.set()

            hailer("connect", f"localhost:{serve(handle)}", *args, data=b"x\n", env=env)
            assert heard.wait(10)
            return wire

        assert framed() == b"x\n"
        (tmp_path / "hailer.toml").write_text('[client]\nframing = "null"\n')
        assert framed() == b"x\0"
        (tmp_path / "hailer.toml").write_text(
            '[client]\nframing = "null"\n[connect]\nframing = "netstring"\n'
        )
        assert framed() == b"1:x,"
        assert framed(env={"HAILER_FRAMING": "length"}) == b"\0\0\0\1x"
        assert framed("--framing", "line", env={"HAILER_FRAMING": "length"}) == b"x\n"

    def test_the_one_in_the_config_directory(self, hailer: Run, serve: Serve, tmp_path: Path) -> None:
        config = tmp_path / "config" / "hailer"
        config.mkdir(parents=True)
        (config / "hailer.toml").write_text("[connect]\nmax-message = 3\n")
        done = hailer("connect", f"localhost:{serve(reply(b'1234' + bytes([10])))}", data=b"x\n")
        assert b"over the limit of 3 bytes" in done.stderr
        (tmp_path / "hailer.toml").write_text("")  # the one here counts alone
        done = hailer("connect", f"localhost:{serve(reply(b'1234' + bytes([10])))}", data=b"x\n")
        assert (done.stdout, done.stderr) == (b"1234\n", b"")

    def test_unknown_keys_are_told(self, hailer: Run, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "hailer.toml").write_text(
            'relay = "x"\n[client]\nnmae = "ann"\n[connect]\nxyzzy = 1\n[conect]\n'
        )
        done = hailer("connect", f"localhost:{serve(reply(b'y' + bytes([10])))}", "--send", "x")
        assert (done.returncode, done.stdout) == (0, b"y\n")
        assert done.stderr.splitlines()[0].endswith(
            b"relay stands in no table and was passed over: put it under [client]"
        )
        assert b"table conect is no setting and was passed over: did you mean connect?" in done.stderr
        assert b"[client] nmae is no setting and was passed over: did you mean name?" in done.stderr
        assert b"[connect] xyzzy is no setting" in done.stderr

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("[client", b"cannot be read"),
            ("[client]\nrelay = { host = 1 }", b"relay takes a text or a number"),
            ('[client]\nrelay = ["a:1", "b:2"]', b"relay takes one value"),
            ('[client]\ntimeout = "soon"', b"'soon' is no number of seconds"),
        ],
    )
    def test_nonsense_is_wrong_usage(self, hailer: Run, tmp_path: Path, text: str, sentence: bytes) -> None:
        (tmp_path / "hailer.toml").write_text(text)
        done = hailer("who")
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert hailer("who", "--help").returncode == 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_somebody_elses_is_not_read(self, hailer: Run, tmp_path: Path, serve: Serve) -> None:
        (tmp_path / "hailer.toml").write_text('[connect]\nframing = "netstring"\n')
        os.chown(tmp_path / "hailer.toml", 12345, 12345)
        done = hailer("connect", f"localhost:{serve(reply(b'y' + bytes([10])))}", "--send", "x")
        assert done.stdout == b"y\n"
        assert b"is somebody else's and was not read" in done.stderr


class TestToken:
    """A token comes from a file that is its owner's alone, or from a variable; never from an argument."""

    def test_there_is_no_option_for_it(self, hailer: Run) -> None:
        assert hailer("who", "--token", "secret").returncode == 2

    def test_a_file_that_others_can_read_is_refused(self, hailer: Run, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("secret")
        file.chmod(0o644)
        done = hailer("who", "--token-file", str(file))
        assert done.returncode == 2
        assert b"make it yours alone with chmod 600" in done.stderr

    def test_missing_file(self, hailer: Run) -> None:
        done = hailer("who", "--token-file", "nowhere")
        assert done.returncode == 2
        assert b"cannot be read from nowhere (no such file or directory)" in done.stderr

    def test_no_terminal_to_ask_at(self, hailer: Run) -> None:
        done = hailer("who", "--token-file", "-")
        assert done.returncode == 2
        assert b"there is no terminal to ask for the token" in done.stderr

    @pytest.mark.parametrize("how", ["file", "variable"])
    def test_it_is_sent(self, hailer: Run, tmp_path: Path, serve: Serve, how: str) -> None:
        hello = b""

        def handle(peer: socket.socket) -> None:
            nonlocal hello
            peer.sendall(b"RELAY test :hello\n")
            while b"\n" not in hello:
                hello += peer.recv(100)
            peer.sendall(b"FAIL denied HELLO :not you\n")

        relay = f"tcp://127.0.0.1:{serve(handle)}"
        if how == "file":
            file = tmp_path / "token"
            file.write_text("secret\n")
            file.chmod(0o600)
            done = hailer("who", "--relay", relay, "--name", "ann", "--token-file", str(file))
        else:
            done = hailer("who", "--relay", relay, "--name", "ann", env={"HAILER_TOKEN": "secret"})
        assert b" token=secret" in hello
        assert done.returncode == 1
        assert b"(denied): not you" in done.stderr
