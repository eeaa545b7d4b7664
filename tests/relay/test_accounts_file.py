"""The accounts file: what its lines may be, how it is changed, who may read it."""

from __future__ import annotations

import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import StoreError, UsageError
from hailer.relay.accounts import AccountFile, Entry, accounts_beside, parse
from hailer.relay.core.accounts import Account, Accounts

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGEST = "0123456789abcdef" * 4
TIME = "2026-11-21T18:30:00Z"


@pytest.fixture
def file(tmp_path: Path) -> AccountFile:
    """An accounts file that does not exist yet, in a directory that does not either."""
    return AccountFile(tmp_path / "state" / "relay.db.accounts")


def names(file: AccountFile) -> list[str]:
    return [entry.name for entry in file.read()]


# lines


def test_parse() -> None:
    text = f"# a note\n\n  Ann {DIGEST} {TIME}\r\nbob\t{DIGEST.upper()} {TIME} 2026-11-22T00:00:00.5Z\n#"
    ann, bob = parse(text.encode(), "f")
    assert (ann.name, ann.account.digest.hex(), ann.account.made, ann.rotated) == (
        "Ann",
        DIGEST,
        TIME.encode(),
        b"",
    )
    assert (bob.name, bob.account.digest.hex(), bob.rotated) == ("bob", DIGEST, b"2026-11-22T00:00:00.5Z")
    assert parse(b"", "f") == []


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        f"ann {DIGEST}",
        f"ann {DIGEST} {TIME} {TIME} {TIME}",
        f"ann {DIGEST[1:]} {TIME}",
        f"ann {DIGEST}0 {TIME}",
        f"ann {'g' * 64} {TIME}",
        f"#ann {DIGEST} {TIME}"[1:].replace("ann", "a:n"),
        f"{'n' * 65} {DIGEST} {TIME}",
        f"J\u00fcrg {DIGEST} {TIME}",
        f"ann {DIGEST} yesterday",
        f"ann {DIGEST} 2026-13-21T18:30:00Z",
        f"ann {DIGEST} 2026-11-21T18:30:00",
        f"ann {DIGEST} {TIME} {DIGEST}",
        f"BOB {DIGEST} {TIME}",
    ],
)
def test_a_bad_line_is_named_and_not_shown(line: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse(f"bob {DIGEST} {TIME}\n\n{line}\n".encode(), "some/file")
    said = str(caught.value)
    assert "line 3 of some/file" in said
    assert said.count("\n") == 0
    assert DIGEST[:8] not in said
    assert "ggg" not in said


_WORDS = st.sampled_from(["ann", "Bob", "c-d", "#x", "a:b", DIGEST, DIGEST[:-1], TIME, TIME[:-1], ""])
_LINES = st.lists(
    st.one_of(
        st.lists(_WORDS, max_size=5).map(" ".join),
        st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).map(lambda name: f"{name} {DIGEST} {TIME}"),
    ),
    max_size=6,
).map(lambda lines: "\n".join(lines).encode())


@given(st.one_of(st.binary(max_size=300), _LINES))
def test_any_bytes_are_accounts_or_one_sentence(text: bytes) -> None:
    try:
        entries = parse(text, "f")
    except StoreError as error:
        number = re.match(r"line (\d+) of f is wrong", str(error))
        assert number is not None
        wrong = int(number[1])
        lines = text.split(b"\n")
        assert lines[wrong - 1].strip()
        parse(b"\n".join(lines[: wrong - 1]), "f")  # what stands before it is well-formed
    else:
        assert len({entry.name.lower() for entry in entries}) == len(entries)
        assert all(len(entry.account.digest) == 32 for entry in entries)


@given(
    st.lists(
        st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True), unique_by=str.lower, min_size=1, max_size=5
    ),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, given: list[str], digest: bytes
) -> None:
    file = AccountFile(tmp_path_factory.mktemp("accounts") / "f")
    entries = [
        Entry(Account(name.encode(), digest, TIME.encode()), TIME.encode() * (len(name) % 2))
        for name in given
    ]
    file._write(entries)
    assert file.read() == entries


# changes


def test_a_life(file: AccountFile) -> None:
    assert not file.exists()
    token = file.add("Ann")
    file.add("bob")
    before = file.read()[0]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    assert before.account.digest == sha256(token.encode()).digest()
    made = datetime.fromisoformat(before.account.made.decode())
    assert abs((datetime.now(UTC) - made).total_seconds()) < 60
    assert file.load(Accounts(), guests=False).admit(b"ann", token.encode(), b"").allowed
    new = file.rotate("ANN")
    after = file.read()[0]
    assert names(file) == ["Ann", "bob"]
    assert after.account.made == before.account.made
    assert after.rotated >= before.account.made
    table = file.load(Accounts(), guests=True)
    assert table.guests
    assert not table.admit(b"ann", token.encode(), b"").allowed
    assert table.admit(b"ann", new.encode(), b"").allowed
    file.remove("aNN")
    assert names(file) == ["bob"]
    file.add("ann")
    assert file.read()[1].account.made > before.account.made
    written = file.path.read_text()
    assert token not in written
    assert new not in written


@pytest.mark.parametrize("name", ["", "a b", "#room", "n" * 65, "J\u00fcrg", "\udcff", "a\nb"])
def test_names_that_are_none(file: AccountFile, name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        file.add(name)
    assert not file.path.parent.exists()


def test_a_name_has_one_account(file: AccountFile) -> None:
    file.add("Ann")
    before = file.path.read_bytes()
    with pytest.raises(StoreError, match="Ann has an account already"):
        file.add("ann")
    with pytest.raises(StoreError, match="there is no account 'bob'"):
        file.rotate("bob")
    with pytest.raises(StoreError, match="there is no account 'bob'"):
        file.remove("bob")
    assert file.path.read_bytes() == before


def test_a_bad_line_is_not_written_over(file: AccountFile) -> None:
    file.add("Ann")
    with file.path.open("ab") as text:
        text.write(b"bob his-token\n")
    before = file.path.read_bytes()
    with pytest.raises(StoreError, match=r"line 3 of .*relay\.db\.accounts is wrong"):
        file.add("carl")
    assert file.path.read_bytes() == before


def test_it_is_its_owners_alone(file: AccountFile) -> None:
    old = os.umask(0)
    try:
        file.add("ann")
        file.rotate("ann")
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in file.path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_what_others_can_touch_is_refused(file: AccountFile, mode: int) -> None:
    file.add("ann")
    file.path.chmod(mode)
    for work in (file.read, lambda: file.add("bob"), lambda: file.remove("ann")):
        with pytest.raises(StoreError, match=f"open to others .*{mode:o}.* chmod 600"):
            work()
    file.path.chmod(0o600)
    assert names(file) == ["ann"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "f").touch()
    with pytest.raises(StoreError, match="is no file"):
        AccountFile(tmp_path / "pipe").read()
    with pytest.raises(StoreError, match=r"is no file|is a directory"):
        AccountFile(tmp_path / "folder").read()
    with pytest.raises(StoreError, match=r"cannot be read .no such file"):
        AccountFile(tmp_path / "nothing").read()
    with pytest.raises(
        StoreError, match=r"cannot be changed .not a directory|cannot be changed .file exists"
    ):
        AccountFile(tmp_path / "folder" / "f" / "x").add("ann")


def test_a_link_is_followed_and_stays(tmp_path: Path, file: AccountFile) -> None:
    file.add("ann")
    link = tmp_path / "link"
    link.symlink_to(file.path)
    AccountFile(link).add("bob")
    assert link.is_symlink()
    assert names(file) == ["ann", "bob"]


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    file = AccountFile(tmp_path / "f")
    for target in ("nowhere", "elsewhere"):
        (tmp_path / "elsewhere").touch()
        (tmp_path / "f.lock").unlink(missing_ok=True)
        (tmp_path / "f.lock").symlink_to(tmp_path / target)
        with pytest.raises(StoreError, match=r"cannot be changed"):
            file.add("ann")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_belongs_to_the_owner_of_its_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 12345, 12345)
    file = AccountFile(tmp_path / "f")
    file.add("ann")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()} == {(12345, 12345)}
    os.chown(file.path, 23456, 23456)
    file.rotate("ann")
    assert file.path.stat().st_uid == 23456


def test_twenty_at_once_lose_nothing(file: AccountFile) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = AccountFile(file.path)
            mine.add(f"n{number}")
            mine.rotate(f"n{number}")
            if number % 2:
                mine.remove(f"n{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(names(file)) == sorted(f"n{number}" for number in range(0, 20, 2))


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow over 50 bytes: a full disk for who has none."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_cannot_be_written_leaves_the_old(file: AccountFile, request: pytest.FixtureRequest) -> None:
    file.add("ann")
    before = file.path.read_bytes()
    request.getfixturevalue("small_files")
    with pytest.raises(StoreError, match=r"cannot be written .file too large"):
        file.add("bob")
    assert file.path.read_bytes() == before
    assert {path.name for path in file.path.parent.iterdir()} == {file.path.name, file.path.name + ".lock"}


_KILLED = """
import os, sys
from pathlib import Path
from hailer.relay.accounts import AccountFile
where = sys.argv[1]
def die(*_): os.kill(os.getpid(), 9)
if where == "fsync":
    os.fsync = die
else:
    Path.replace = die
AccountFile(Path(sys.argv[2])).add("bob")
"""


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_kill_in_the_middle_leaves_the_old_and_locks_nobody_out(file: AccountFile, where: str) -> None:
    file.add("ann")
    run = subprocess.run([sys.executable, "-c", _KILLED, where, str(file.path)], check=False, timeout=30)
    assert run.returncode == -signal.SIGKILL
    assert names(file) == ["ann"]
    file.add("carl")
    assert names(file) == ["ann", "carl"]
    assert not file.path.with_name(file.path.name + ".new").exists()


# where it is


def test_they_are_beside_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for store in (None, "memory"):
        assert accounts_beside(store) == tmp_path / "hailer" / "relay.db.accounts"
    assert accounts_beside("a/b.db") == Path("a/b.db.accounts")
    for store in ("", ".", "/"):
        with pytest.raises(UsageError, match="is no file"):
            accounts_beside(store)


# a relay's table


def test_a_relay_with_accounts_is_never_opened_by_their_going(file: AccountFile) -> None:
    nobody = file.load(Accounts(), guests=None)
    assert nobody.guests
    file.add("ann")
    ann = file.load(nobody, guests=None)
    assert not ann.guests
    file.remove("ann")
    assert not file.load(ann, guests=None).guests
    file.path.unlink()
    with pytest.raises(StoreError, match="is gone: put it back"):
        file.load(ann, guests=None)


@pytest.mark.parametrize("guests", [False, True])
def test_what_was_asked_for_counts(file: AccountFile, guests: bool) -> None:
    assert file.load(Accounts(), guests=guests).guests is guests
    file.add("ann")
    assert file.load(Accounts(), guests=guests).guests is guests
