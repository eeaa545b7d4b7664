"""hailer chat, on pipes and on a pseudo-terminal, against a real relay."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from hailer.cli.conversation import shown
from hailer.endpoint import Endpoint
from hailer.relay.client.events import Message
from tests.cli.conftest import running_relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Process, Run, Terminal
    from tests.conftest import Connect


def test_plain_conversation(start: Callable[..., Process], connect: Connect, relay: str) -> None:
    bob = connect(Endpoint.parse(relay), "bob")
    bob.send("JOIN #lobby")
    bob.expect("JOINED")
    ann = start("chat", "ann", "--relay", relay)
    bob.expect("JOINED #lobby ann")
    ann.write(b"hello all\n\n  \n//slash\n/msg bob just you\n/to bob\nhere\n")
    bob.expect(
        "MSG ann #lobby :hello all", "MSG ann #lobby :/slash", "MSG ann bob :just you", "MSG ann bob :here"
    )
    bob.send(b"SEND #lobby :hi ann\nSEND ann :psst\nSEND #lobby 5\na\nb\x1b\n")
    ann.read_until(b"#lobby bob: hi ann\nbob (to you): psst\n#lobby bob: a\n    b\\x1b\n    \n")
    bob.send("LEAVE #lobby\nJOIN #lobby")
    ann.read_until(b"* bob left #lobby\n* bob joined #lobby\n")
    ann.write(
        b"/join tea\nin tea\n/who\n/who #lobby\n/leave\n/leave #lobby\nlost words\n"
        b"/foo\n/to #tea\n/msg x\n/quit\n"
    )
    code, out, err = ann.end()
    assert (code, err) == (0, b"")
    assert out.decode().splitlines()[-9:] == [
        "* you are in #tea",
        "* in #tea: ann",
        "* in #lobby: ann, bob",
        "* you left #tea and talk to #lobby now",
        "* you left #lobby",
        "* you talk to nobody: /join #ROOM or /to NAME first",
        "* there is no /foo: /help lists what there is",
        "* you are not in #tea: /join it",
        "* name somebody and say something: /msg bob hello",
    ]
    bob.until("LEFT #lobby ann")


def test_end_of_input_sends_everything_first(hailer: Run, connect: Connect, relay: str) -> None:
    bob = connect(Endpoint.parse(relay), "bob")
    bob.send("JOIN #lobby")
    bob.expect("JOINED")
    done = hailer("chat", "ann", "--relay", relay, data=b"".join(b"%d\n" % n for n in range(500)))
    assert (done.returncode, done.stderr) == (0, b"")
    said = bob.until("LEFT #lobby ann")
    assert said == [
        "JOINED #lobby ann",
        *(f"MSG ann #lobby :{number}" for number in range(500)),
        "LEFT #lobby ann",
    ]


def test_refusals_are_shown_and_it_goes_on(hailer: Run, relay: str) -> None:
    done = hailer("chat", "ann", "--relay", relay, data=b"/msg nobody x\n/join #a b\n/help\n")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("* you are ann in #lobby at ")
    assert lines[1] == "* refused (unknown): nobody of the name nobody was ever here"
    assert "'#a b' is no room" in lines[2]
    assert any("/msg NAME TEXT" in line for line in lines[3:])


def test_reconnects(start: Callable[..., Process], connect: Connect, tmp_path: Path) -> None:
    with running_relay(tmp_path) as relay:
        ann = start("chat", "ann", "--relay", relay, "--retry-delay", "0.05")
        ann.read_until(b"you are ann in #lobby")
    ann.read_until(b"* the connection was lost")
    with running_relay(tmp_path, "--listen", relay):
        ann.read_until(b"again\n")
        bob = connect(Endpoint.parse(relay), "bob")
        bob.send("JOIN #lobby")
        ann.read_until(b"* bob joined #lobby\n")
        ann.write(b"still here\n")
        bob.until("MSG ann #lobby :still here")
        bob.close()
        ann.signal(signal.SIGTERM)
        assert ann.end()[0] == 143


def test_interrupt(start: Callable[..., Process], relay: str) -> None:
    ann = start("chat", "ann", "--relay", relay)
    ann.read_until(b"you are ann")
    ann.signal(signal.SIGINT)
    code, _, err = ann.end()
    assert (code, err) == (130, b"")


def test_what_arrives_leaves_the_typed_line_alone(
    terminal: Callable[..., Terminal], connect: Connect, relay: str
) -> None:
    bob = connect(Endpoint.parse(relay), "bob")
    bob.send("JOIN #lobby")
    bob.expect("JOINED")
    screen = terminal("chat", "ann", "--relay", relay)
    bob.expect("JOINED #lobby ann")
    screen.shows("* you are ann in #lobby")
    screen.wait_for(lambda screen: screen.current == "#lobby>")
    screen.type("half a th")
    screen.wait_for(lambda screen: screen.current == "#lobby> half a th")
    for number in range(30):
        bob.send(f"SEND #lobby :news {number} \u202e")
    screen.shows("#lobby bob: news 29 \\u202e")
    screen.wait_for(lambda screen: screen.current == "#lobby> half a th")
    screen.type("ought\r")
    bob.expect("MSG ann #lobby :half a thought")
    screen.type("/to bob\r")
    screen.wait_for(lambda screen: screen.current == "bob>")
    screen.type("\x04")
    assert screen.end() == 0
    bob.expect("LEFT #lobby ann")
    text = [line for line in screen.screen.lines if "news" in line]
    assert text == [f"#lobby bob: news {number} \\u202e" for number in range(30)]


def test_interrupt_at_the_prompt(terminal: Callable[..., Terminal], connect: Connect, relay: str) -> None:
    bob = connect(Endpoint.parse(relay), "bob")
    bob.send("JOIN #lobby")
    bob.expect("JOINED")
    screen = terminal("chat", "ann", "--relay", relay)
    screen.wait_for(lambda screen: screen.current == "#lobby>")
    screen.type("not sent\x03")
    assert screen.end() == 130
    bob.expect("JOINED #lobby ann", "LEFT #lobby ann")


def test_no_text_can_pass_for_another_line() -> None:
    evil = "x\r\n* bob left #lobby\x9b2J\u2028#lobby bob: lie\n\tend"
    assert shown(Message("eve", "#lobby", evil.encode())).split("\n") == [
        "#lobby eve: x",
        "    * bob left #lobby\\x9b2J\\u2028#lobby bob: lie",
        "        end",
    ]
    assert shown(Message("eve", "ann", b"\xff")) == "eve (to you): \\udcff"
