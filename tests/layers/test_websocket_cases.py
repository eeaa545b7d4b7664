"""What a WebSocket server has to do with right and wrong frames, case by case.

The numbers are those of the groups of Autobahn's test suite, whose program runs under old interpreters
only. Each case is sent in one piece, frame by frame and byte by byte; and the websockets library's own
server, given the same bytes, has to end the connection with the same code.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest
from websockets.asyncio.server import ServerConnection, serve

from hailer.errors import ConnectionLost, FramingError
from hailer.layers.websocket import WebSocketTransport
from hailer.testing.memory import memory_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.transport import Transport

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LARGEST = 16 << 20

Answer = tuple[int, bytes]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A client's frame; its mask of zeros leaves the payload as it is."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([128 | size])
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2)
    else:
        head += b"\xff" + size.to_bytes(8)
    return head + bytes(4) + payload


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason)


def fragments(kind: int, *parts: bytes) -> list[bytes]:
    last = len(parts) - 1
    return [frame(CONT if at else kind, part, fin=at == last) for at, part in enumerate(parts)]


class Case(NamedTuple):
    """Frames to send, what has to be answered, and the code of the Close at the end; 1005 is one without."""

    name: str
    frames: list[bytes]
    answers: list[Answer]
    code: int


GOODBYE = close(1000)


def good(name: str, frames: list[bytes], *answers: Answer) -> Case:
    return Case(name, [*frames, GOODBYE], list(answers), 1000)


def bad(name: str, frames: list[bytes], *answers: Answer, code: int = 1002) -> Case:
    return Case(name, [*frames, frame(PING)], list(answers), code)


def framing() -> Iterator[Case]:
    for kind, group in ((TEXT, "1.1"), (BINARY, "1.2")):
        for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield good(f"{group}.{number}", [frame(kind, b"*" * size)], (kind, b"*" * size))


def pings() -> Iterator[Case]:
    for number, data in enumerate(
        (b"", b"Hello, world!", bytes([0, 255, 254, 253, 0, 255]), b"\xfe" * 125), 1
    ):
        yield good(f"2.{number}", [frame(PING, data)], (PONG, data))
    yield bad("2.5", [frame(PING, b"\xfe" * 126)])
    yield good("2.7", [frame(PONG)])
    yield good("2.8", [frame(PONG, b"unsolicited")])
    yield good("2.9", [frame(PONG, b"unsolicited"), frame(PING, b"x")], (PONG, b"x"))
    many = [b"payload-%d" % number for number in range(10)]
    yield good("2.10", [frame(PING, data) for data in many], *((PONG, data) for data in many))


def reserved() -> Iterator[Case]:
    hello = (TEXT, b"Hello, world!")
    yield bad("3.1", [frame(*hello, rsv=1)])
    yield bad("3.2", [frame(*hello), frame(*hello, rsv=2), frame(PING)], hello)
    yield bad("3.3", [frame(*hello), frame(*hello, rsv=3), frame(PING)], hello)
    yield bad("3.4", [frame(*hello), frame(*hello, rsv=4), frame(PING)], hello)
    yield bad("3.5", [frame(BINARY, b"\0\xff" * 4, rsv=5)])
    yield bad("3.6", [frame(PING, b"Hello", rsv=6)])
    yield bad("3.7", [frame(CLOSE, rsv=7)])
    yield bad("unmasked", [b"\x81\x02hi"])


def opcodes() -> Iterator[Case]:
    hello = (TEXT, b"Hello, world!")
    for group, numbers in (("4.1", range(3, 8)), ("4.2", range(11, 16))):
        for number, opcode in enumerate(numbers, 1):
            before = [hello] if number > 2 else []
            data = b"" if number in (1, 3) else b"payload"
            yield bad(f"{group}.{number}", [*(frame(*one) for one in before), frame(opcode, data)], *before)


def fragmentation() -> Iterator[Case]:
    two = fragments(TEXT, b"fragment1", b"fragment2")
    both = (TEXT, b"fragment1fragment2")
    hello = frame(TEXT, b"Hello")
    lone, lone_open = frame(CONT, b"non-continuation"), frame(CONT, b"non-continuation", fin=False)
    yield bad("5.1", fragments(PING, b"fragment1", b"fragment2"))
    yield bad("5.2", fragments(PONG, b"fragment1", b"fragment2"))
    yield good("5.3", two, both)
    yield good("5.6", [two[0], frame(PING, b"p"), two[1]], (PONG, b"p"), both)
    yield bad("5.9", [lone, hello])
    yield bad("5.12", [lone_open, hello])
    yield bad("5.15", [*two, lone_open, hello], both)
    yield bad("5.16", [lone_open, hello] * 2)
    yield bad("5.17", [lone, hello] * 2)
    yield bad("5.18", [two[0], hello])
    five = fragments(TEXT, *(b"fragment%d" % number for number in range(1, 6)))
    yield good(
        "5.19",
        [*five[:2], frame(PING, b"a"), *five[2:4], frame(PING, b"b"), five[4]],
        (PONG, b"a"),
        (PONG, b"b"),
        (TEXT, b"fragment1fragment2fragment3fragment4fragment5"),
    )
    yield good("5.empty", [*fragments(BINARY, *[b""] * 50, b"x", *[b""] * 50)], (BINARY, b"x"))


# fmt: off
VALID = [
    "cebae1bdb9cf83cebcceb5", "00", "c280", "e0a080", "f0908080", "7f", "dfbf", "efbfbf", "f48fbfbf",
    "ed9fbf", "ee8080", "efbfbd", "efbfbe", "f09fbfbe", "f0afbfbf", "f3bfbfbf", "f48fbfbe",
    "48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121", "efbfb9",
]
INVALID = [
    "ce", "e1", "cebae1bd", "cebae1bdb9cf83cebcce", "f888808080", "fc8480808080", "f7bfbfbf",
    "fbbfbfbfbf", "fdbfbfbfbfbf", "f4908080", "80", "bf", "80bf", "80bf80", "c020c120", "e020", "f020",
    "f820", "fc20", "c0", "e080", "f08080", "df", "efbf", "f7bfbf", "fe", "ff", "fefeffff", "c0af",
    "e080af", "f08080af", "f8808080af", "fc80808080af", "c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf",
    "c080", "e08080", "f0808080", "eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf",
    "eda080edb080", "edafbfedbfbf", "cebae1bdb9cf83cebcceb5eda080656469746564",
]

# fmt: on


def utf8() -> Iterator[Case]:
    yield good("6.1.1", [frame(TEXT)], (TEXT, b""))
    yield good("6.1.2", fragments(TEXT, b"", b"", b""), (TEXT, b""))
    yield good("6.1.3", fragments(TEXT, b"", b"middle", b""), (TEXT, b"middle"))
    for text in VALID:
        data = bytes.fromhex(text)
        yield good(f"6-valid-{text}", [frame(TEXT, data)], (TEXT, data))
        octets = [data[at : at + 1] for at in range(len(data))]
        yield good(f"6-valid-{text}-in-fragments", fragments(TEXT, *octets), (TEXT, data))
    for text in INVALID:
        data = bytes.fromhex(text)
        octets = [data[at : at + 1] for at in range(len(data))]
        yield bad(f"6-invalid-{text}", [frame(TEXT, data)], code=1007)
        yield bad(f"6-invalid-{text}-in-fragments", fragments(TEXT, *octets), code=1007)
        yield good(f"6-binary-{text}", [frame(BINARY, data)], (BINARY, data))
    start, wrong = bytes.fromhex("cebae1bdb9cf83cebcceb5"), bytes.fromhex("f4908080")
    # Before the last fragment has come.
    yield bad("6.4.1", [frame(TEXT, start, fin=False), frame(CONT, wrong, fin=False)], code=1007)
    yield bad(
        "6.4.2",
        [frame(TEXT, start + wrong[:1], fin=False), frame(CONT, wrong[1:], fin=False)],
        code=1007,
    )


def closing() -> Iterator[Case]:
    hello = (TEXT, b"Hello World!")
    yield good("7.1.1", [frame(*hello)], hello)
    yield good("7.1.2", [GOODBYE, GOODBYE])
    yield good("7.1.3", [GOODBYE, frame(PING)])
    yield good("7.1.4", [GOODBYE, frame(*hello)])
    yield bad("7.1.5", [frame(TEXT, b"fragment1", fin=False), GOODBYE, frame(CONT, b"fragment2")])
    large = (TEXT, b"BAsd7&jh23" * 26214)
    yield good("7.1.6", [frame(*large), frame(*hello), GOODBYE, frame(PING)], large, hello)
    yield Case("7.3.1", [close()], [], 1005)
    yield bad("7.3.2", [frame(CLOSE, b"a")])
    yield Case("7.3.3", [close(1000)], [], 1000)
    yield Case("7.3.4", [close(1000, b"Hello World!")], [], 1000)
    yield Case("7.3.5", [close(1000, b"*" * 123)], [], 1000)
    yield bad("7.3.6", [close(1000, b"*" * 124)])
    yield bad("7.5.1", [close(1000, bytes.fromhex("cebae1bdb9cf83cebcceb5eda080656469746564"))], code=1007)
    valid = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for code in valid:
        yield Case(f"7.7-{code}", [close(code)], [], code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield bad(f"7.9-{code}", [close(code)])


def limits() -> Iterator[Case]:
    for kind, group in ((TEXT, "9.1"), (BINARY, "9.2")):
        for number, size in enumerate((64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20), 1):
            yield good(f"{group}.{number}", [frame(kind, b"*" * size)], (kind, b"*" * size))
    whole = b"*" * (1 << 20)
    for size in (64, 1 << 10, 64 << 10):
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        yield good(f"9.3-{size}", fragments(TEXT, *parts), (TEXT, whole))
    messages = [(kind, b"%d" % number) for number in range(500) for kind in (TEXT, BINARY)]
    yield good("9.7", [frame(*one) for one in messages], *messages)
    octets = b"*" * 65536
    parts = [octets[at : at + 1300] for at in range(0, len(octets), 1300)]
    yield good("10.1.1", fragments(TEXT, *parts), (TEXT, octets))
    yield bad("9-over", [frame(BINARY, b"*" * (LARGEST + 1))], code=1009)
    half = b"*" * (LARGEST // 2)
    yield bad("9-over-in-fragments", fragments(BINARY, half, half, b"*"), code=1009)


CASES = [
    case
    for group in (framing, pings, reserved, opcodes, fragmentation, utf8, closing, limits)
    for case in group()
]


def sides(data: bytes) -> list[Answer]:
    """The frames of a server."""
    answers = []
    while data:
        size, at = data[1], 2
        if size == 126:
            size, at = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10]), 10
        assert data[0] & 0x70 == 0x00, "reserved bits"
        assert data[0] & 0x80, "a server of ours sends no fragments"
        answers.append((data[0] & 15, data[at : at + size]))
        assert len(answers[-1][1]) == size, "a frame is cut off"
        data = data[at + size :]
    return answers


def code_of(answers: list[Answer]) -> int:
    assert answers, "nothing was answered"
    opcode, payload = answers[-1]
    assert opcode == CLOSE, f"the last frame is {opcode}"
    return int.from_bytes(payload[:2]) if payload else 1005


async def echo(stream: Transport) -> None:
    """An echo server of ours, for one connection."""
    transport = await WebSocketTransport.accept(stream, max_message=LARGEST)
    while records := await transport.pull_records(LARGEST):
        messages = [record for record in records if isinstance(record, bytes)]
        if messages:
            await transport.push_records(messages)
        if any(isinstance(record, FramingError) for record in records):
            break
    await transport.close()


async def ask_ours(pieces: list[bytes]) -> list[Answer]:
    ours, theirs = memory_pair(room=1 << 30)
    server = asyncio.create_task(echo(theirs))
    await ours.push(REQUEST)
    assert (await ours.pull(4096)).startswith(b"HTTP/1.1 101 ")
    with suppress(ConnectionLost):  # where the server has seen enough
        for piece in pieces:
            await ours.push(piece)
            await asyncio.sleep(0)
    answers = bytearray()
    while data := await ours.pull(1 << 24):
        answers += data
    await server
    await ours.close()
    return sides(bytes(answers))


def whole(case: Case) -> list[bytes]:
    return [b"".join(case.frames)]


def by_frame(case: Case) -> list[bytes]:
    return case.frames


def by_octet(case: Case) -> list[bytes]:
    data = b"".join(case.frames)
    size = max(1, len(data) // 1000)
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("cut", [whole, by_frame, by_octet])
def test_each_case_is_answered_as_it_has_to_be(cut: Callable[[Case], list[bytes]]) -> None:
    async def main() -> None:
        for case in CASES:
            async with asyncio.timeout(20):
                answers = await ask_ours(cut(case))
            assert code_of(answers) == case.code, case.name
            assert answers[:-1] == case.answers, case.name

    asyncio.run(main())


def test_the_library_s_own_server_ends_each_case_with_the_same_code() -> None:
    async def library_echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def ask(port: int, case: Case) -> list[Answer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")

        async def send() -> None:
            try:
                for piece in case.frames:
                    writer.write(piece)
                    await writer.drain()
            except ConnectionError:
                pass

        sending = asyncio.create_task(send())
        answers = bytearray()
        try:
            while data := await reader.read(1 << 20):
                answers += data
        except ConnectionError:
            pass
        await sending
        writer.close()
        return sides(bytes(answers))

    async def main() -> None:
        async with serve(
            library_echo, "127.0.0.1", 0, compression=None, max_size=LARGEST, close_timeout=1
        ) as server:
            port = server.sockets[0].getsockname()[1]
            for case in CASES:
                if case.name in ("6.4.1", "6.4.2", "9.3-64"):
                    # It looks at text when all of it has come, where we look at each fragment, and
                    # refuses many small fragments, which it keeps one by one.
                    continue
                async with asyncio.timeout(20):
                    assert code_of(await ask(port, case)) == case.code, case.name

    asyncio.run(main())
