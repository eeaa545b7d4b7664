"""Three ways to write a handler, and misuse that is loud."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import hailer
from hailer.errors import EndOfStream, UsageError
from hailer.matrix import MODELS
from hailer.runtime.blocking import BlockingConnection  # noqa: TC001 (annotations are looked at)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from hailer.connection import Connection

BLOCKING = [name for name, kind in MODELS.items() if kind.blocking]


def talk(handler: Any, model: Any, *messages: bytes) -> list[bytes]:
    """What a handler answers to messages that come in one batch."""
    with (
        hailer.Server("tcp://127.0.0.1:0", handler, model) as server,
        hailer.connect(server.endpoints[0], receive_timeout=15) as client,
    ):
        client.send_many(messages)
        client.finish()
        return list(client)


async def coroutine(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message.upper())


class Stateful:
    async def __call__(self, connection: Connection) -> None:
        await coroutine(connection)

    async def method(self, connection: Connection) -> None:
        await coroutine(connection)


def reply(message: bytes) -> bytes:
    return message.upper()


def reply_by_name(message):  # type: ignore[no-untyped-def]
    return message.upper()


async def reply_async(message: bytes) -> bytes:
    await hailer.sleep(0)
    return message.upper()


def reply_with_default(message: bytes, greeting: bytes = b"") -> bytes:
    return greeting + message.upper()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "handler",
    [coroutine, Stateful(), Stateful().method, reply, reply_by_name, reply_async, reply_with_default],
    ids=lambda handler: getattr(handler, "__qualname__", "object"),
)
def test_under_every_model(model: str, handler: Any) -> None:
    assert talk(handler, model, b"one", b"two") == [b"ONE", b"TWO"]


@pytest.mark.parametrize("model", BLOCKING)
def test_a_blocking_handler(model: str) -> None:
    def blocking(connection: BlockingConnection) -> None:
        while True:
            try:
                connection.send(b"<%s>" % connection.receive())
            except EndOfStream:
                return

    assert talk(blocking, model, b"one", b"two") == [b"<one>", b"<two>"]


@pytest.mark.parametrize("model", BLOCKING)
def test_a_blocking_handler_that_lets_the_end_out(model: str) -> None:
    def blocking(connection):  # type: ignore[no-untyped-def]
        while True:
            connection.send(connection.receive())

    with hailer.Server("tcp://127.0.0.1:0", blocking, model) as server:  # type: ignore[arg-type]
        with hailer.connect(server.endpoints[0], receive_timeout=15) as client:
            client.send(b"x")
            client.finish()
            assert list(client) == [b"x"]
        assert server.counters.handler_failures == 0


@pytest.mark.parametrize("model", ["select", "epoll", "asyncio"])
def test_a_blocking_handler_is_refused_elsewhere(model: Any) -> None:
    def blocking(connection: BlockingConnection) -> None: ...

    with pytest.raises(UsageError, match=f"hold up every other connection under the {model} model"):
        hailer.Server("tcp://127.0.0.1:0", blocking, model)


def test_none_is_no_answer() -> None:
    assert talk(lambda message: message if message != b"hush" else None, "thread", b"a", b"hush", b"b") == [
        b"a",
        b"b",
    ]


def test_answers_before_a_failure_are_sent(caplog: pytest.LogCaptureFixture) -> None:
    def fails(message: bytes) -> bytes:
        return b"%d" % (6 // int(message))

    assert talk(fails, "thread", b"2", b"3", b"0", b"1") == [b"3", b"2"]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_that_is_no_bytes(caplog: pytest.LogCaptureFixture) -> None:
    assert talk(lambda message: "text", "thread", b"x") == []
    assert "gave a str as its answer: return bytes" in caplog.text
    assert talk(lambda message: bytearray(message[:1]), "thread", b"x") == [b"x"]


async def later(message: bytes) -> bytes:
    return message


@pytest.mark.parametrize("name", ["message", "connection"])
def test_a_function_that_only_calls_a_coroutine_function(name: str, caplog: pytest.LogCaptureFixture) -> None:
    def for_each(message: bytes) -> Coroutine[Any, Any, bytes]:
        return later(message)

    def for_all(connection: Any) -> Coroutine[Any, Any, bytes]:
        return later(connection)

    calls = for_each if name == "message" else for_all
    try:
        assert talk(calls, "thread", b"x") == []
    except hailer.ConnectionLost:
        pass  # the handler ended before the message came, which the system answers with a reset
    assert "gave a coroutine, which nobody awaits: make it async def" in caplog.text


def nothing() -> None: ...


def two(one: bytes, other: bytes) -> bytes: ...  # type: ignore[empty-body]


def unclear(thing):  # type: ignore[no-untyped-def]
    return thing


def generator(message: bytes):  # type: ignore[no-untyped-def]
    yield message


def keyword(*, message: bytes) -> bytes:
    return message


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (3, "is no function"),
        (Stateful, "is a class"),
        (nothing, "has to take one argument"),
        (two, "has to take one argument"),
        (partial(two, one=b""), "the partial of two has to take one argument"),
        (keyword, "has to take one argument"),
        (unclear, "cannot be told from its parameter 'thing'"),
        (generator, "is a generator"),
    ],
)
def test_what_is_no_handler_is_refused_at_once(wrong: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        hailer.Server("tcp://127.0.0.1:0", wrong)
