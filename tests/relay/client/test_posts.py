"""Posting without sockets: the poster against a small model of a relay, with all kinds of trouble."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from hailer.errors import BadFrame, ConnectionClosed, ConnectionLost, HailerError, Refused
from hailer.relay.client import posts
from hailer.relay.client.events import Fail, RefusedPost, Welcome
from hailer.relay.client.journal import Journal
from hailer.relay.client.line import Post
from hailer.relay.client.outbox import Outbox
from hailer.relay.client.posts import Poster

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hailer.relay.client.outbox import Changes


class Relay:
    """What a relay does with POSTs."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.sessions: dict[str, int] = {}
        self.accepted: dict[str, int] = {}
        self.pending: list[tuple[str, str]] = []
        self.landed: list[tuple[str, str]] = []
        self.trouble = False
        self.wire: Wire | None = None

    def hello(self, wire: Wire, session: str) -> Welcome:
        self.wire = wire
        wire.session = session
        return Welcome("ann", session, stored=self.sessions.get(session, 0))

    def line(self, wire: Wire, line: bytes) -> None:
        verb, *words = line.decode().rstrip("\n").split(" ", 3)
        if verb == "PING":
            wire.back.append(("pong", words[0]))
            return
        number, text = int(words[0]), words[2].removeprefix(":")
        known = self.accepted.setdefault(wire.session, self.sessions.get(wire.session, 0))
        if number <= known:
            return
        if number > known + 1:
            wire.back.append(("fail", Fail("gap", "POST", "a gap", str(number))))
        elif self.trouble:
            wire.back.append(("fail", Fail("store", "POST", "disk full", str(number))))
        elif "bad" in text:
            wire.back.append(("fail", Fail("quota", "POST", "full", str(number))))
        else:
            self.accepted[wire.session] = number
            self.pending.append((wire.session, text))

    def commit(self, lands: bool = True) -> None:
        """Store what was accepted and say so."""
        pending, self.pending = self.pending, []
        for session, text in pending:
            self.sessions[session] = self.sessions.get(session, 0) + 1
            self.stored.append(text)
        for session in dict.fromkeys(session for session, _ in pending):
            self._say_stored(session)

    def fail(self, lands: bool) -> None:
        """Have the commit fail; perhaps it is on the disk all the same."""
        if self.trouble:
            return
        self.trouble = True
        for session in dict.fromkeys(session for session, _ in self.pending):
            stored = self.sessions.get(session, 0)
            if self.wire is not None and self.wire.session == session:
                for number in range(stored + 1, self.accepted[session] + 1):
                    self.wire.back.append(("fail", Fail("store", "POST", "disk full", str(number))))
            self.accepted[session] = stored
        self.landed = self.pending if lands else []
        self.pending = []

    def recover(self) -> None:
        """Find out what the store holds, and go on."""
        self.trouble = False
        landed, self.landed = self.landed, []
        for session, text in landed:
            self.sessions[session] = self.accepted[session] = self.sessions.get(session, 0) + 1
            self.stored.append(text)
        for session in dict.fromkeys(session for session, _ in landed):
            self._say_stored(session)

    def die(self, lands: bool) -> None:
        """Be killed: what was on its way is on the disk or not."""
        if lands:
            self.commit()
        self.pending, self.landed, self.accepted = [], [], {}
        self.trouble = False

    def _say_stored(self, session: str) -> None:
        if self.wire is not None and self.wire.session == session:
            self.wire.back.append(("stored", self.sessions[session]))


class Wire:
    """One connection: takes the link's place for the poster, and holds what is under way."""

    def __init__(self) -> None:
        self.session = ""
        self.out: deque[bytes] = deque()
        self.back: deque[tuple[str, Any]] = deque()
        self._pongs: dict[str, Callable[[], object]] = {}

    def say(self, line: bytes) -> None:
        self.out.append(line)

    def fence(self, on_pong: Callable[[], object]) -> None:
        token = str(len(self._pongs))
        self._pongs[token] = on_pong
        self.say(f"PING {token}\n".encode())

    def look(self) -> None:
        """Nothing to be read is ever left aside here."""

    def hear(self, poster: Poster) -> None:
        """Hand the poster the next thing that the relay said."""
        kind, what = self.back.popleft()
        if kind == "pong":
            self._pongs[what]()
        elif kind == "fail":
            poster.refused(what)
        else:
            poster.stored(what)


class Scene:
    """A poster, a relay, and what became of each post."""

    def __init__(self, outbox: Path | None = None) -> None:
        self.relay = Relay()
        self.wire: Wire | None = None
        self.outbox = outbox
        self.posted: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.kept: set[str] = set()  # what was on the client's disk when it was killed
        self.poster = self._new()

    def _new(self) -> Poster:
        self.journal = None if self.outbox is None else Journal(self.outbox)
        return Poster(limit=100, on_refused=self._refused, journal=self.journal)

    def _refused(self, post: RefusedPost) -> bool:
        self.outcomes[post.payload.decode()] = "refused"
        return True

    async def _put(self, text: str) -> None:
        try:
            await self.poster.put(Post("bob", text.encode()), confirm=True)
            self.outcomes[text] = "stored"
        except Refused:
            self.outcomes[text] = "refused"

    def post(self, text: str) -> None:
        self.posted.append(text)
        self.tasks[text] = asyncio.ensure_future(self._put(text))

    async def login(self) -> None:
        for _ in range(2):
            wire = Wire()
            if await self.poster.resume(self.relay.hello(wire, self.poster.session)):
                break
        else:
            raise AssertionError("no session goes on")
        self.wire = wire
        self.poster.attach(wire)  # type: ignore[arg-type]  # what a poster needs of a link

    def cut(self) -> None:
        """Lose the connection with all that is under way."""
        self.poster.lost()
        self.wire = self.relay.wire = None

    async def kill(self) -> None:
        """End the client's process at once: what is not on its disk is gone."""
        if self.journal is None:
            return
        if self.wire is not None:
            self.cut()
        self.kept |= {post.payload.decode() for post in self.poster._line if post.kept}
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.tasks = {}
        work = self.journal._task
        assert work is not None
        work.cancel()
        await asyncio.wait([work])
        await asyncio.get_running_loop().run_in_executor(self.journal._thread, self.journal._outbox.close)
        self.journal._thread.shutdown()
        self.poster = self._new()
        await self.poster.open("ann")

    async def step(self, action: str, number: int) -> None:
        if action == "post":
            for each in range(number):
                self.post(f"{len(self.posted)}{'bad' if each == 5 else ''}")
        elif action == "cancel" and self.tasks:
            list(self.tasks.values())[number % len(self.tasks)].cancel()
        elif action == "read" and self.wire is not None:
            for _ in range(min(number + 1, len(self.wire.out))):
                self.relay.line(self.wire, self.wire.out.popleft())
        elif action == "hear" and self.wire is not None:
            for _ in range(min(number + 1, len(self.wire.back))):
                self.wire.hear(self.poster)
        elif action == "commit":
            self.relay.commit()
        elif action == "fail":
            self.relay.fail(lands=number % 2 == 0)
        elif action == "recover":
            self.relay.recover()
        elif action == "die":
            self.relay.die(lands=number % 2 == 0)
            if self.wire is not None:
                self.cut()
        elif action == "cut" and self.wire is not None:
            self.cut()
        elif action == "login" and self.wire is None:
            await self.login()
        elif action == "kill":
            await self.kill()
        await turns()

    async def end(self) -> None:
        """Let everything go well until all is said."""
        self.relay.recover()
        if self.wire is None:
            await self.login()
        assert self.wire is not None
        deadline = time.monotonic() + 20  # an outbox waits for its disk
        while self.poster.count:
            assert time.monotonic() < deadline, "some posts never end"
            while self.wire.out or self.wire.back or self.relay.pending:
                while self.wire.out:
                    self.relay.line(self.wire, self.wire.out.popleft())
                self.relay.commit()
                while self.wire.back:
                    self.wire.hear(self.poster)
                await turns()
            await turns()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self.poster.close()
        self.check()

    def check(self) -> None:
        stored = self.relay.stored
        assert len(stored) == len(set(stored)), "a post was stored twice"
        assert stored == [text for text in self.posted if text in stored], "the order changed"
        for text in self.posted:
            outcome = self.outcomes.get(text)
            if outcome == "stored":
                assert text in stored, f"{text} was lost"
            elif outcome == "refused":
                assert text not in stored
            elif text in self.kept or (text in self.tasks and not self.tasks[text].cancelled()):
                assert text in stored, f"nothing became of {text}"


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


ACTIONS = {
    "post": 8, "read": 8, "hear": 8, "commit": 6, "cancel": 1,
    "fail": 1, "recover": 2, "die": 1, "cut": 1, "login": 6,
}  # fmt: skip
"""What may happen, and how often beside the others."""


def story(seed: int, length: int, actions: dict[str, int]) -> list[tuple[str, int]]:
    """What happens in one run; longer and better mixed than hypothesis' lists are."""
    chance = random.Random(seed)
    names = chance.choices(list(actions), list(actions.values()), k=length)
    return [(name, chance.randrange(8)) for name in names]


@pytest.mark.parametrize("tens", range(10))
def test_whatever_happens_each_post_is_stored_once_in_order(tens: int) -> None:
    async def run(seed: int) -> None:
        scene = Scene()
        await scene.login()
        for action, number in story(seed, 150, ACTIONS):
            await scene.step(action, number)
        await scene.end()

    with patch.object(posts, "_RETRY", 0.0):
        for seed in range(10 * tens, 10 * tens + 10):
            asyncio.run(run(seed))


@pytest.mark.parametrize("seed", range(25))
async def test_with_an_outbox_also_when_the_client_is_killed(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path / "box")
    with patch.object(posts, "_RETRY", 0.0):
        await scene.poster.open("ann")
        await scene.login()
        for action, number in story(seed, 150, {**ACTIONS, "kill": 2}):
            await scene.step(action, number)
        await scene.end()
    # all that was in the outbox is out of it
    last = Scene(tmp_path / "box")
    await last.poster.open("ann")
    assert last.poster.count == 0
    await last.poster.close()


async def test_a_refusal_concerns_its_post_alone() -> None:
    scene = Scene()
    await scene.login()
    for text in ("0", "1bad", "2", "3bad", "4"):
        scene.post(text)
    await turns()
    await scene.end()
    assert scene.relay.stored == ["0", "2", "4"]
    assert scene.outcomes == {
        "0": "stored",
        "1bad": "refused",
        "2": "stored",
        "3bad": "refused",
        "4": "stored",
    }


async def test_a_relay_that_has_lost_its_store_gets_a_new_session(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    await scene.login()
    session = scene.poster.session
    for text in ("0", "1"):
        scene.post(text)
    await turns()
    for _ in range(2):
        await scene.step("read", 1)
    scene.relay.commit()
    await scene.step("hear", 5)
    scene.post("2")
    await turns()
    scene.cut()
    scene.relay = Relay()
    scene.relay.stored = ["0", "1"]  # they were fetched before
    await scene.end()
    assert scene.relay.stored == ["0", "1", "2"]
    assert scene.poster.session != session
    assert "its store was lost" in caplog.text


async def test_a_relay_that_has_more_than_was_sent_gets_a_new_session(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    scene = Scene(tmp_path / "box")
    await scene.poster.open("ann")
    await scene.login()
    scene.post("0")
    await settled(lambda: scene.wire is not None and scene.wire.out)
    scene.cut()
    scene.relay.sessions[scene.poster.session] = 7
    scene.relay.stored = ["0", *"abcdef"]
    scene.posted += "abcdef"
    scene.post("1")
    await scene.end()
    assert scene.relay.stored == [*"0abcdef1"]
    assert "an old copy" in caplog.text


async def settled(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 (it comes about in another thread)
        await asyncio.sleep(0.001)


async def test_a_relay_cannot_know_posts_of_a_new_session() -> None:
    poster = Scene().poster
    with pytest.raises(BadFrame):
        await poster.resume(Welcome("ann", poster.session, stored=1))


async def test_what_no_relay_says_ends_the_connection() -> None:
    scene = Scene()
    await scene.login()
    with pytest.raises(ConnectionLost, match="never sent"):
        scene.poster.stored(1)
    scene.post("0")
    await turns()
    with pytest.raises(ConnectionLost, match="misses a post"):
        scene.poster.refused(Fail("gap", "POST", "?", "1"))
    scene.poster.refused(Fail("quota", "POST", "?", "9"))  # of nothing that is under way
    scene.poster.refused(Fail("quota", "POST", "?", "\u0663"))
    await scene.end()
    assert scene.relay.stored == ["0"]


async def test_a_relay_without_mail_refuses_them_all() -> None:
    scene = Scene()
    await scene.login()
    for text in ("0", "1"):
        scene.post(text)
    await turns()
    scene.poster.refused(Fail("unsupported", "POST", "this relay keeps no mail"))
    await turns()
    assert scene.outcomes == {"0": "refused", "1": "refused"}
    assert all(task.done() for task in scene.tasks.values())


async def test_a_post_that_was_not_sent_is_withdrawn_by_a_cancellation() -> None:
    scene = Scene()
    scene.post("0")
    await turns()
    scene.tasks["0"].cancel()
    await turns()
    assert scene.poster.count == 0
    await scene.login()
    scene.post("1")
    await turns()
    scene.tasks["1"].cancel()
    await scene.end()
    assert scene.relay.stored == ["1"]  # it was sent already


async def test_posting_waits_when_the_line_is_full_and_keeps_the_order() -> None:
    scene = Scene()
    await scene.login()
    for number in range(350):
        scene.post(str(number))
    await turns()
    assert scene.poster.count == 100
    for _ in range(100):
        if len(scene.relay.stored) == 350:
            break
        assert scene.wire is not None
        await scene.step("read", 1000)
        await scene.step("commit", 0)
        await scene.step("hear", 1000)
    await scene.end()
    assert scene.relay.stored == [str(number) for number in range(350)]


async def test_what_waits_is_told_of_the_end() -> None:
    scene = Scene()
    scene.post("0")
    await scene.login()
    await turns()
    scene.cut()
    scene.post("1")
    await turns()
    drain = asyncio.ensure_future(scene.poster.drain())
    await turns()
    scene.poster.end(ConnectionClosed("the client was closed: make another"))
    with pytest.raises(ConnectionLost, match="it is unknown whether the post was stored"):
        await scene.tasks["0"]
    with pytest.raises(ConnectionClosed, match="the post was not sent"):
        await scene.tasks["1"]
    with pytest.raises(ConnectionClosed):
        await drain
    with suppress(HailerError):
        await scene._put("2")
    assert scene.outcomes == {}


async def test_nothing_goes_out_before_it_is_on_disk(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "box")
    await scene.poster.open("ann")
    await scene.login()
    allowed = threading.Semaphore(0)

    def commit(self: Outbox, changes: Changes) -> None:
        assert allowed.acquire(timeout=10)
        real(self, changes)

    def out() -> int:
        assert scene.wire is not None
        return len(scene.wire.out)

    real = Outbox.commit
    with patch.object(Outbox, "commit", commit):
        scene.post("0")
        await asyncio.sleep(0.01)
        for number in range(1, 5):
            scene.post(f"{number}{'bad' if number == 1 else ''}")
        await asyncio.sleep(0.01)
        assert out() == 0
        allowed.release()
        await settled(out)
        assert out() == 1
        allowed.release()  # what came during the first commit shares the second
        await settled(lambda: out() == 5)
        await scene.step("read", 7)
        await scene.step("hear", 7)
        await scene.step("read", 7)
        await scene.step("hear", 7)  # the fence is back, but the refusal is not on disk
        await asyncio.sleep(0.02)
        assert out() == 0
        allowed.release(10)
        await settled(out)
    await scene.end()
    assert scene.relay.stored == ["0", "2", "3", "4"]
