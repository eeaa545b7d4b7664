from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import EndpointError, ListenError
from hailer.net import unix
from hailer.net.dial import dial
from hailer.net.listen import listen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hailer.net.listener import Listener

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this")


def listen_at(path: Path, mode: int = 0o600) -> Listener:
    (listener,) = listen(Endpoint("unix", path=str(path)), mode=mode)
    return listener


def make_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def serves(listener: Listener) -> bool:
    with dial(listener.endpoint, timeout=5) as client, listener.socket.accept()[0] as accepted:
        client.sendall(b"x")
        return accepted.recv(1) == b"x"


def test_listens_and_removes_its_path(path: Path) -> None:
    with listen_at(path) as listener:
        assert str(listener.endpoint) == f"unix:{path}"
        assert serves(listener)
        assert os.listdir(path.parent) == ["s"]  # noqa: PTH208 (no lock is left either)
    assert not path.exists()
    listener.close()


def test_a_stale_path_is_replaced(path: Path) -> None:
    make_stale(path)
    with listen_at(path) as listener:
        assert serves(listener)


def test_a_live_path_is_not_replaced(path: Path) -> None:
    with listen_at(path) as first:
        with pytest.raises(ListenError, match="is in use by a live server"):
            listen_at(path)
        with first.socket.accept()[0] as probe:
            assert probe.recv(1) == b""  # what a live server sees of it
        assert serves(first)


def test_a_live_server_with_a_full_queue_is_live(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        with socket.socket(socket.AF_UNIX) as filler:
            filler.connect(str(path))
            with pytest.raises(ListenError, match="is in use by a live server"):
                listen_at(path)
    assert path.is_socket()


def test_a_live_datagram_socket_is_not_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ListenError, match="is in use by a live server"):
            listen_at(path)
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link", "dangling link"])
def test_what_is_no_socket_is_never_removed(path: Path, kind: str) -> None:
    target = path.with_name("target")
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        if kind == "link":
            make_stale(target)
        path.symlink_to(target)
    before = path.lstat()
    with pytest.raises(ListenError, match="by a file that is no socket"):
        listen_at(path)
    assert os.path.samestat(before, path.lstat())
    assert target.exists() == (kind == "link")


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_mode_is_as_asked_under_any_umask(path: Path, mask: int, mode: int) -> None:
    with umask(mask), listen_at(path, mode):
        assert mode_of(path) == mode


@linux
def test_the_mode_is_never_wider_from_the_first_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watched(socket.socket):
        def bind(self, address: str) -> None:  # type: ignore[override]
            super().bind(address)
            seen.append(mode_of(Path(address)))

    monkeypatch.setattr(socket, "socket", Watched)
    with umask(0), listen_at(path):
        assert seen == [0o600]


def test_where_the_mode_cannot_be_set_before_bind_it_is_set_before_listen(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise OSError(22, "as on macOS")

    seen: list[int] = []

    class Watched(socket.socket):
        def listen(self, backlog: int = 0) -> None:
            seen.append(mode_of(path))
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Watched)
    monkeypatch.setattr(os, "fchmod", refuse)
    with umask(0), listen_at(path):
        assert seen == [0o600]


def test_of_many_that_find_the_same_stale_path_one_gets_it(path: Path) -> None:
    for _ in range(20):
        make_stale(path)
        start = threading.Barrier(6)
        got: list[Listener] = []
        refused: list[ListenError] = []

        def contend(
            start: threading.Barrier = start, got: list[Listener] = got, refused: list[ListenError] = refused
        ) -> None:
            start.wait()
            try:
                got.append(listen_at(path))
            except ListenError as error:
                refused.append(error)

        threads = [threading.Thread(target=contend) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            assert (len(got), len(refused)) == (1, 5)
            with dial(got[0].endpoint, timeout=5):
                pass
        finally:
            for listener in got:
                listener.close()


def test_of_two_processes_that_find_the_same_stale_path_one_gets_it(path: Path) -> None:
    program = """if True:
        import sys
        from hailer.endpoint import Endpoint
        from hailer.errors import ListenError
        from hailer.net.listen import listen
        print("ready", flush=True)
        input()
        try:
            with listen(Endpoint("unix", path=sys.argv[1]))[0]:
                print("got it", flush=True)
                input()
        except ListenError:
            print("refused", flush=True)
            input()
    """
    make_stale(path)
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    def answers() -> list[str]:
        return [each.stdout.readline().strip() for each in contenders if each.stdout is not None]

    assert answers() == ["ready", "ready"]
    for each in contenders:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    outcomes = answers()
    for each in contenders:
        each.communicate("\n", timeout=10)
    assert sorted(outcomes) == ["got it", "refused"]


def test_a_held_lock_is_waited_for_only_so_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix, "_LOCK_WAIT", 0.05)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ListenError, match="holds the lock"):
            listen_at(path)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        listen_at(path).close()
    finally:
        os.close(descriptor)


def test_close_leaves_a_path_that_is_another_one_now(path: Path) -> None:
    first = listen_at(path)
    path.unlink()
    with listen_at(path) as second:
        first.close()
        assert serves(second)


def test_close_finds_its_relative_path_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = listen_at(Path("s"))
    monkeypatch.chdir("/")
    listener.close()
    assert not (tmp_path / "s").exists()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_leaves_the_path_to_its_parent(path: Path) -> None:
    with listen_at(path) as listener:
        child = os.fork()
        if child == 0:
            listener.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert serves(listener)
    assert not path.exists()


def test_a_failure_after_bind_leaves_no_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(socket.socket):
        def listen(self, backlog: int = 0) -> None:
            raise OSError(12, "stubbed")

    monkeypatch.setattr(socket, "socket", Failing)
    with pytest.raises(ListenError, match="no memory"):
        listen_at(path)
    assert not path.exists()


def test_no_such_directory(path: Path) -> None:
    with pytest.raises(ListenError, match="is in no directory: make "):
        listen_at(path / "deeper")


@pytest.mark.parametrize("wrong", ["not ours", "closed to us"])
def test_no_permission(tmp_path: Path, wrong: str) -> None:
    program = """if True:
        import os, sys
        from hailer.endpoint import Endpoint
        from hailer.errors import ListenError
        from hailer.net.listen import listen
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            listen(Endpoint("unix", path=sys.argv[1]))
        except ListenError as error:
            print(error)
    """
    with directory_for_all() as directory:
        directory.chmod(0o555 if wrong == "not ours" else 0o700)
        if os.getuid() != 0 and wrong == "closed to us":
            directory.chmod(0o000)
        path = directory / "s"
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        directory.chmod(0o700)
    assert done.stdout.startswith(f"no permission to listen on unix:{path}: ")


@contextmanager
def directory_for_all() -> Iterator[Path]:
    """A directory whose parents every user may enter, as those of tmp_path are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@linux
def test_an_abstract_name() -> None:
    endpoint = Endpoint("unix", path=f"@hailer-test-{os.getpid()}-{threading.get_ident()}")
    (listener,) = listen(endpoint)
    with listener:
        assert listener.endpoint == endpoint
        assert serves(listener)
        with pytest.raises(ListenError, match="is in use by a live server"):
            listen(endpoint)
    listen(endpoint)[0].close()


def test_an_abstract_name_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EndpointError, match="only Linux"):
        listen(Endpoint("unix", path="@name"))


def test_a_path_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="at most"):
        listen_at(tmp_path / ("x" * 120))


@pytest.mark.parametrize("scheme", ["unix+seqpacket", "unix+dgram"])
def test_records_have_the_same_rules(path: Path, scheme: str) -> None:
    kind = socket.SOCK_DGRAM if scheme == "unix+dgram" else socket.SOCK_SEQPACKET
    endpoint = Endpoint(scheme, path=str(path))
    with socket.socket(socket.AF_UNIX, kind) as dead:
        dead.bind(str(path))
    (listener,) = listen(endpoint, mode=0o620)
    with listener:
        assert listener.endpoint == endpoint
        assert mode_of(path) == 0o620
        with dial(endpoint, timeout=5) as client:
            client.send(b"x")
            accepted = listener.accept()
            assert (accepted.kind, accepted.scheme) == ("record", scheme)
            accepted.close()
        for other in ("unix", "unix+seqpacket", "unix+dgram"):
            with pytest.raises(ListenError, match="is in use by a live server"):
                listen(Endpoint(other, path=str(path)))
    assert not path.exists()


def test_to_look_whether_a_datagram_server_lives_sends_it_nothing(path: Path) -> None:
    endpoint = Endpoint("unix+dgram", path=str(path))
    (listener,) = listen(endpoint)
    with listener:
        with pytest.raises(ListenError):
            listen(endpoint)
        with pytest.raises(BlockingIOError):
            listener.accept()


@linux
@pytest.mark.parametrize("scheme", ["unix+seqpacket", "unix+dgram"])
def test_abstract_names_for_records(tmp_path: Path, scheme: str) -> None:
    endpoint = Endpoint(scheme, path=f"@{tmp_path}")
    (listener,) = listen(endpoint)
    with listener:
        with pytest.raises(ListenError, match="is in use by a live server"):
            listen(endpoint)
        with dial(endpoint, timeout=5) as client:
            client.send(b"x")
            listener.accept().close()


def test_where_there_are_no_abstract_names_a_client_has_a_path(path: Path) -> None:
    with unix.open_datagram_client(abstract=False) as client:
        name = Path(client.getsockname())
        assert name.is_socket()
        (listener,) = listen(Endpoint("unix+dgram", path=str(path)))
        with listener:
            client.sendto(b"x", str(path))
            accepted = listener.accept()
            assert accepted.address == str(name)
            assert accepted.outlet is not None
            accepted.outlet.send(b"answer")
            assert client.recv(10) == b"answer"
            accepted.close()
    assert not name.parent.exists()
