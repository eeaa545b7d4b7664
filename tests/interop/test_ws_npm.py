"""WebSocket with npm's ws, which most of JavaScript's servers use.

HAILER_NODE_MODULES names a directory that holds it: ``npm install --prefix DIR ws@8`` makes DIR/node_modules.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hailer
from hailer.endpoint import Endpoint
from hailer.errors import EndOfStream
from hailer.relay.app import RelayServer, Settings
from hailer.server import Server
from hailer.services.echo import echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.app import ModelName as RelayModelName
    from hailer.server import ModelName

CLIENT = """
const WebSocket = require('ws');
const client = new WebSocket(process.argv[1]);
const messages = ['hello', 'Grüße', Buffer.from([255, 0]), '', 'x'.repeat(70000), Buffer.alloc(200000, 128)];
let came = 0;
client.on('open', () => {
  messages.forEach((message) => client.send(message));
  client.ping('are you there');
});
client.on('pong', (data) => console.log('pong', data.toString()));
client.on('message', (data, isBinary) => {
  const sent = messages[came++];
  if (isBinary === (typeof sent === 'string') || !data.equals(Buffer.from(sent))) console.log('changed');
  if (came === messages.length) client.close(4000, 'enough');
});
client.on('close', (code, reason) => console.log('closed', came, code, reason.toString()));
client.on('error', (error) => console.log('error', error.message));
"""

SERVER = """
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: true });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('close', (code) => { console.log('closed', code); server.close(); });
});
"""


@pytest.fixture
def node(require_program: Callable[[str], str]) -> Callable[[str, str], subprocess.Popen[str]]:
    """Starts Node on a program, with an argument."""
    program = require_program("node")
    modules = os.environ.get("HAILER_NODE_MODULES", "")
    if not (Path(modules) / "ws").is_dir():
        sentence = "npm's ws is not installed: install it and name its directory in HAILER_NODE_MODULES"
        if os.environ.get("HAILER_NO_SKIP") == "1":
            pytest.fail(sentence)
        pytest.skip(sentence)

    def start(code: str, argument: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [program, "-e", code, argument],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NODE_PATH": modules},
        )

    return start


@pytest.mark.parametrize("model", ["asyncio", "thread", "epoll"])
def test_its_client(node: Callable[[str, str], subprocess.Popen[str]], model: ModelName) -> None:
    with (
        Server("ws://127.0.0.1:0/", echo, model, drain=0.2) as server,
        node(CLIENT, str(server.endpoints[0])) as process,
    ):
        try:
            told, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert sorted(told.splitlines()) == ["closed 6 4000 enough", "pong are you there"]


def test_its_server(node: Callable[[str, str], subprocess.Popen[str]]) -> None:
    async def main(port: str) -> None:
        async with await hailer.connect(f"ws://127.0.0.1:{port}/") as connection:
            messages = [b"hello", "Grüße".encode(), b"\xff\x00", b"", b"x" * 70_000, b"\x80" * 200_000]
            await connection.send_many(messages)
            came: list[bytes] = []
            while len(came) < len(messages):
                came += await connection.receive_many(timeout=10)
            assert came == messages
            await connection.finish()
            with pytest.raises(EndOfStream):
                await connection.receive(timeout=10)

    with node(SERVER, "") as process:
        try:
            assert process.stdout is not None
            asyncio.run(main(process.stdout.readline().strip()))
            assert process.stdout.read() == "closed 1000\n"
        finally:
            process.kill()


TALKER = """
const WebSocket = require('ws');
const client = new WebSocket(process.argv[1]);
client.on('open', () => ['HELLO node', 'SEND node :Grüße', 'QUIT'].forEach((line) => client.send(line)));
client.on('message', (data, isBinary) => process.stdout.write(isBinary ? 'binary' : data.toString()));
client.on('close', (code) => console.log('closed', code));
client.on('error', (error) => console.log('error', error.message));
"""


@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_it_talks_to_a_relay(
    node: Callable[[str, str], subprocess.Popen[str]], model: RelayModelName
) -> None:
    with (
        RelayServer(
            Settings(listen=(Endpoint.parse("ws://127.0.0.1:0/"),), model=model, drain=0.2)
        ) as server,
        node(TALKER, str(server.endpoints[0])) as process,
    ):
        try:
            told, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    lines = told.splitlines()
    assert lines[0].startswith("RELAY ")
    assert lines[1].startswith("WELCOME node ")
    assert lines[2:] == ["MSG node node :Grüße", "BYE :you quit", "closed 1000"]
