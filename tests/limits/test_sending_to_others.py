"""A handler sends to the peers of others, as in a chat: each message whole and in order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import hailer
from hailer.net.certificates import server_context
from tests.limits.served import PATIENCE

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from hailer.runtime.blocking import BlockingConnection

MODELS = ("thread", "select", "epoll", "asyncio")
SCHEMES = ("tcp", "unix", "unix+seqpacket", "tls", "ws", "wss")
PEOPLE = 4
MESSAGES = 40
SIZE = 60_000
"""More than a socket takes at once, so that senders wait for each other in the middle of messages."""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("model", MODELS)
def test_a_room(model: Any, scheme: str, tmp_path: Path, certificate: Path, trusting: ssl.SSLContext) -> None:
    room: list[hailer.Connection] = []

    async def handle(connection: hailer.Connection) -> None:
        room.append(connection)
        await connection.send(b"welcome")
        async for message in connection:
            for each in room:
                await each.send(message)

    heard: dict[int, list[bytes]] = {}
    failures: list[BaseException] = []

    def person(number: int) -> None:
        try:
            with hailer.connect(endpoint, tls=trusting if uses_tls else None) as connection:
                assert connection.receive(PATIENCE) == b"welcome"
                everybody.wait(PATIENCE)
                sender = threading.Thread(target=speak, args=(number, connection))
                sender.start()
                heard[number] = [connection.receive(PATIENCE) for _ in range(PEOPLE * MESSAGES)]
                sender.join(PATIENCE)
                everybody.wait(PATIENCE)
        except BaseException as error:
            failures.append(error)
            everybody.abort()

    def speak(number: int, connection: BlockingConnection) -> None:
        for count in range(MESSAGES):
            connection.send(message(number, count), PATIENCE)

    uses_tls = scheme in ("tls", "wss")
    path = f"{scheme}:{tmp_path}/s" if scheme.startswith("unix") else f"{scheme}://localhost:0"
    everybody = threading.Barrier(PEOPLE)
    with hailer.Server(path, handle, model, tls=server_context(certificate) if uses_tls else None) as server:
        endpoint = server.endpoints[0]
        people = [threading.Thread(target=person, args=(number,)) for number in range(PEOPLE)]
        for each in people:
            each.start()
        for each in people:
            each.join(3 * PATIENCE)
    assert not failures
    for number in range(PEOPLE):
        by = [[each for each in heard[number] if each.startswith(b"%d " % who)] for who in range(PEOPLE)]
        assert by == [[message(who, count) for count in range(MESSAGES)] for who in range(PEOPLE)]


def message(number: int, count: int) -> bytes:
    start = b"%d %d " % (number, count)
    return start + b"%d" % number * (SIZE - len(start))
