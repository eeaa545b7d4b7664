"""The core beside a small model of it that knows nothing of reads, outboxes and routes."""

# attributes change in calls, which mypy does not see
# mypy: disable-error-code="unreachable"

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from tests.relay.core.conftest import Driver, Event, Peer

PROFILE = settings.get_profile("relay")

NAMES = st.sampled_from(["ann", "Ann", "BEN", "ben", "cy"])
ROOMS = st.sampled_from(["#r", "#R", "#s"])
NUMBERS = st.sampled_from(["1", "2"])
TEXTS = st.sampled_from(
    [b"", b"x", b":", b" :a", b"5", b"\n", b"QUIT\n", b"\x00\r\n", b"\xff", b"long" * 100]
)

Line = tuple[str | bytes, ...]


class Party:
    """One connection in the model."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.name = ""
        self.session = 0
        self.out: list[Line] = [("RELAY",)]
        self.here = True
        self.ended = False
        self.lost = False
        self.watched: set[str] | None = None
        self.asks: dict[str, Party] = {}


class Model:
    """Who must receive what: each command takes effect at once, on lists."""

    def __init__(self) -> None:
        self.parties: list[Party] = []
        self.rooms: dict[str, tuple[str, list[Party]]] = {}
        self.questions: list[tuple[Party, str, Party]] = []
        self.sessions = 0

    def find(self, name: str) -> Party | None:
        found = [p for p in self.parties if p.here and p.name.lower() == name.lower() and p.name]
        assert len(found) < 2
        return found[0] if found else None

    def hello(self, me: Party, name: str, session: int) -> None:
        if me.name:
            me.out.append(("FAIL", "already-logged-in", "HELLO"))
            return
        old = self.find(name)
        if old is not None:
            if session != old.session:
                me.out.append(("FAIL", "taken", "HELLO"))
                return
            for _, members in self.rooms.values():
                members[:] = [me if p is old else p for p in members]
            old.here = False
            me.session = old.session
            self.forget_questions(old)
            old.out.append(("BYE", b"replaced"))
        else:
            self.sessions += 1
            me.session = self.sessions
            self.tell_watchers("ONLINE", name)
        me.name = name
        me.out.append(("WELCOME", name))

    def tell_watchers(self, verb: str, name: str) -> None:
        for p in self.parties:
            if p.here and p.watched is not None and (not p.watched or name.lower() in p.watched):
                p.out.append((verb, name))

    def forget_questions(self, gone: Party) -> None:
        mine = [q for q in self.questions if gone in (q[0], q[2])]
        self.questions = [q for q in self.questions if q not in mine]
        for asker, number, target in mine:
            del asker.asks[number]
            if asker is not gone and target is gone:
                asker.out.append(("FAIL", "gone", "ASK"))
        for asker, _, _ in mine:
            if asker.ended and asker.here and not asker.asks:
                self.leave_all(asker, b"end of input")

    def leave_all(self, me: Party, reason: bytes | None) -> None:
        if not me.here:
            return
        me.here = False
        for key, (shown, members) in list(self.rooms.items()):
            if me in members:
                members.remove(me)
                for p in members:
                    p.out.append(("LEFT", shown, me.name))
                if not members:
                    del self.rooms[key]
        if me.name:
            self.tell_watchers("OFFLINE", me.name)
        self.forget_questions(me)
        if reason is not None:
            me.out.append(("BYE", reason))

    def join(self, me: Party, room: str) -> None:
        shown, members = self.rooms.setdefault(room.lower(), (room, []))
        if me in members:
            me.out.append(("JOINED", shown, me.name))
            return
        members.append(me)
        for p in members:
            p.out.append(("JOINED", shown, me.name))

    def leave(self, me: Party, room: str) -> None:
        shown, members = self.rooms.get(room.lower(), (room, []))
        if me not in members:
            me.out.append(("FAIL", "not-joined", "LEAVE"))
            return
        for p in members:
            p.out.append(("LEFT", shown, me.name))
        members.remove(me)
        if not members:
            del self.rooms[room.lower()]

    def send(self, me: Party, to: str, text: bytes) -> None:
        if to.startswith("#"):
            shown, members = self.rooms.get(to.lower(), (to, []))
            if me not in members:
                me.out.append(("FAIL", "not-joined", "SEND"))
            else:
                for p in members:
                    if p is not me:
                        p.out.append(("MSG", me.name, shown, text))
            return
        target = self.find(to)
        if target is None:
            me.out.append(("FAIL", "offline", "SEND"))
        else:
            target.out.append(("MSG", me.name, target.name, text))

    def ask(self, me: Party, number: str, to: str, text: bytes) -> None:
        target = self.find(to)
        if target is None:
            me.out.append(("FAIL", "offline", "ASK"))
        elif number in me.asks:
            me.out.append(("FAIL", "taken", "ASK"))
        else:
            me.asks[number] = target
            self.questions.append((me, number, target))
            target.out.append(("ASKED", number, me.name, text))

    def answer(self, me: Party, number: str, to: str, text: bytes) -> None:
        asker = self.find(to)
        if asker is None or asker.asks.get(number) is not me:
            me.out.append(("FAIL", "not-asked", "ANSWER"))
            return
        del asker.asks[number]
        self.questions.remove((asker, number, me))
        asker.out.append(("ANSWERED", number, me.name, text))
        if asker.ended and not asker.asks:
            self.leave_all(asker, b"end of input")


def _shape(event: Event) -> Line:
    """An event without what the model does not know: explanations and the like."""
    words = [word.decode() for word in event.words]
    if words[0] == "RELAY":
        return ("RELAY",)
    if words[0] == "WELCOME":
        return tuple(words[:2])
    if words[0] == "FAIL" or event.text is None:
        return tuple(words)
    return (*words, event.text)


class Machine(RuleBasedStateMachine):
    """Commands of several peers in any order, reads cut anywhere, writes that are short."""

    parties = Bundle("parties")
    driver_type: type[Driver]

    def __init__(self) -> None:
        super().__init__()
        self.driver = self.driver_type()
        self.model = Model()

    def _connect(self) -> Party:
        party = Party(self.driver.connect())
        self.model.parties.append(party)
        return party

    def _say(self, party: Party, line: bytes, cut: int) -> None:
        peer = party.peer
        for part in (line[: cut % len(line)], line[cut % len(line) :]):
            if part and not peer.gone:
                self.driver.send(peer, part)

    def _listens(self, party: Party) -> bool:
        """Whether the relay would read a command of this one, and it is logged in."""
        return party.here and not party.ended and bool(party.name)

    @initialize(target=parties)
    def first(self) -> Party:
        return self._connect()

    @rule(target=parties, name=NAMES)
    def come(self, name: str) -> Party:
        party = self._connect()
        self._say(party, f"HELLO {name}\n".encode(), 0)
        self.model.hello(party, name, 0)
        return party

    @rule(party=parties, name=NAMES, other=parties, cut=st.integers(0, 99), guess=st.booleans())
    def hello(self, party: Party, name: str, other: Party, cut: int, guess: bool) -> None:
        if party.here and not party.ended:
            session = 77 if guess else other.session
            self._say(party, f"HELLO {name} session=id{session}\n".encode(), cut)
            self.model.hello(party, name, session)

    @rule(party=parties, room=ROOMS, cut=st.integers(0, 99))
    def join(self, party: Party, room: str, cut: int) -> None:
        if self._listens(party):
            self._say(party, f"JOIN {room}\n".encode(), cut)
            self.model.join(party, room)

    @rule(party=parties, room=ROOMS, cut=st.integers(0, 99))
    def leave(self, party: Party, room: str, cut: int) -> None:
        if self._listens(party):
            self._say(party, f"LEAVE {room}\n".encode(), cut)
            self.model.leave(party, room)

    @rule(
        party=parties,
        sends=st.lists(st.tuples(NAMES | ROOMS, TEXTS), min_size=1, max_size=8),
        verb=st.sampled_from([b"SEND", b"SEND", b"SEND", b"send"]),
        cut=st.integers(0, 500),
    )
    def send(self, party: Party, sends: list[tuple[str, bytes]], verb: bytes, cut: int) -> None:
        if not self._listens(party):
            return
        read = []
        for to, text in sends:
            head = b"%s %s" % (verb, to.encode())
            if text.isascii() and text.decode().isprintable():
                read.append(b"%s :%s\n" % (head, text))
            else:
                read.append(b"%s %d\n%s" % (head, len(text), text))
            self.model.send(party, to, text)
        self._say(party, b"".join(read), cut)

    @rule(party=parties, number=NUMBERS, name=NAMES, text=TEXTS, cut=st.integers(0, 99))
    def ask(self, party: Party, number: str, name: str, text: bytes, cut: int) -> None:
        if self._listens(party):
            self._say(party, b"ASK %s %s %d\n%s" % (number.encode(), name.encode(), len(text), text), cut)
            self.model.ask(party, number, name, text)

    @rule(party=parties, number=NUMBERS, name=NAMES, text=TEXTS, cut=st.integers(0, 99))
    def answer(self, party: Party, number: str, name: str, text: bytes, cut: int) -> None:
        if self._listens(party):
            self._say(party, b"ANSWER %s %s %d\n%s" % (number.encode(), name.encode(), len(text), text), cut)
            self.model.answer(party, number, name, text)

    @rule(pick=st.integers(0, 9), text=TEXTS)
    def answer_one(self, pick: int, text: bytes) -> None:
        """Answer a question that was asked, which chance finds too seldom."""
        open_questions = [q for q in self.model.questions if self._listens(q[2])]
        if open_questions:
            asker, number, target = open_questions[pick % len(open_questions)]
            self._say(
                target, b"ANSWER %s %s %d\n%s" % (number.encode(), asker.name.encode(), len(text), text), pick
            )
            self.model.answer(target, number, asker.name, text)

    @rule(party=parties, names=st.lists(NAMES, max_size=2))
    def watch(self, party: Party, names: list[str]) -> None:
        if self._listens(party):
            self._say(party, " ".join(["WATCH", *names]).encode() + b"\n", 3)
            party.watched = {name.lower() for name in names}

    @rule(party=parties)
    def unwatch(self, party: Party) -> None:
        if self._listens(party):
            self._say(party, b"UNWATCH\n", 3)
            party.watched = None

    @rule(party=consumes(parties))
    def quit(self, party: Party) -> None:
        if party.here and not party.ended:
            self._say(party, b"QUIT :done\n", 0)
            self.model.leave_all(party, b"done")

    @rule(party=consumes(parties))
    def lose(self, party: Party) -> None:
        if not party.peer.gone:
            self.driver.lose(party.peer)
            party.lost = True
            self.model.leave_all(party, None)

    @rule(party=parties)
    def end(self, party: Party) -> None:
        # one at a time: the order in which several end together is nobody's business
        if party.here and not any(p.ended and p.here for p in self.model.parties):
            self.driver.end(party.peer)
            party.ended = True
            if not party.asks:
                self.model.leave_all(party, b"end of input")

    @rule(party=parties, size=st.sampled_from([0, 1, 30, 500, None]))
    def take(self, party: Party, size: int | None) -> None:
        self.driver.take(party.peer, size)

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 4.0]))
    def pass_time(self, seconds: float) -> None:
        for party in self.model.parties:  # else some would be cut, in an order that the model does not know
            self.driver.take(party.peer, None)
            if party.here and not party.ended and self.driver.now - party.peer.heard > 20:
                self._say(party, b"\n", 0)
        # nobody is ended or a stranger for so long that it matters
        if not any(p.here and (p.ended or not p.name) for p in self.model.parties):
            self.driver.pass_time(seconds)

    @invariant()
    def everybody_got_what_the_model_says(self) -> None:
        for party in self.model.parties:
            got = [_shape(event) for event in self.driver.peek(party.peer)]
            if party.peer.room_left is None and not party.lost:
                assert got == party.out
            else:
                assert got == party.out[: len(got)]
            assert party.peer.closing != party.here

    def teardown(self) -> None:
        for party in self.model.parties:
            if not party.peer.gone:
                self.driver.lose(party.peer)
        self.driver.check_empty()


def test_the_core_does_what_the_model_does(make_relay: type[Driver]) -> None:
    machine = type("BoundMachine", (Machine,), {"driver_type": make_relay})
    run_machine(machine, settings=PROFILE)


@given(
    crlf=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),  # the sender
            st.sampled_from([b"ann", b"ben", b"#r", b"#s"]),
            st.integers(1, 30),  # messages
            st.integers(1, 400),  # bytes of each
            st.integers(0, 1),  # who takes
            st.sampled_from([0, 0, 100, 1500, 4000, None]),
            st.sampled_from([0.0, 0.0, 0.1, 0.4, 0.6, 2.0]),
        ),
        max_size=40,
    ),
)
@settings(PROFILE)
def test_no_message_is_lost_untold(
    make_relay: type[Driver],
    crlf: bool,
    steps: list[tuple[int, bytes, int, int, int, int | None, float]],
) -> None:
    """Two receivers of whom either may be slow: each message came, or is in the right GAP at its place."""
    relay = make_relay(Limits(waiting=3000))
    receivers = [relay.login("ann", rooms="#r #s", crlf=crlf), relay.login("ben", rooms="#r")]
    senders = [relay.login(f"sender{number}", rooms="#r #s") for number in range(3)]
    for receiver in receivers:
        relay.fresh(receiver)
    sent: dict[tuple[bytes, bytes], int] = {}
    for who, to, count, size, taker, amount, seconds in steps:
        sender = senders[who]
        if not (sender.holders or sender.backlog):
            first = sent.get((sender.name, to), 0)
            sent[sender.name, to] = first + count
            numbers = range(first, first + count)
            relay.send(sender, b"".join(b"SEND %s :%0*d\n" % (to, size, number) for number in numbers))
        relay.take(receivers[taker], amount)
        relay.pass_time(seconds)
        for receiver in receivers:
            assert receiver.waiting <= 3000 * 4 + 13_000  # a block of a sender may come on top
    for receiver in receivers:
        relay.take(receiver, None)
    assert not any(sender.holders or sender.backlog or sender.closing for sender in senders)
    for receiver in receivers:
        if receiver.gone:
            continue  # cut, and not read for the parting time either: its stream may end anywhere
        came: dict[tuple[bytes, bytes], int] = {}
        missing: dict[bytes, int] = {}
        for event in relay.fresh(receiver):
            if event.verb == b"GAP":
                missing[event.words[2]] = missing.get(event.words[2], 0) + int(event.words[1])
            elif event.verb == b"MSG":
                key, number = (event.words[1], event.words[2]), int(event.text or b"")
                source = event.words[2] if event.words[2].startswith(b"#") else event.words[1]
                skipped = number - came.get(key, 0)
                assert skipped >= 0, "out of order or twice"
                assert missing.get(source, 0) >= skipped, "lost before it was told"
                if skipped:
                    missing[source] -= skipped
                came[key] = number + 1
        if receiver.closing:
            continue  # it was cut; its last GAPs count what it missed till then, no more came
        for (name, to), total in sent.items():
            if to == receiver.name or (to in receiver.rooms):
                source = to if to.startswith(b"#") else name
                missing[source] = missing.get(source, 0) - (total - came.get((name, to), 0))
        assert not any(missing.values()), "a GAP of another number than was lost"
