"""The relays that are measured: how each is found, set to its fastest, started on one core and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PEER_NAMES", "Cores", "Peer", "PeerError", "cores_to_use", "find_peers", "pinned", "running"]

PEER_NAMES = ("hailer", "nats", "redis", "mosquitto", "floor")
START_TIMEOUT = 15.0  # seconds until a started relay must accept connections
STOP_TIMEOUT = 5.0  # seconds that a stopped relay is given before it is killed


class PeerError(Exception):
    """A relay that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Cores:
    """Where the relay and the load run; None where they are not kept to a core."""

    relay: int | None
    load: int | None

    def __str__(self) -> str:
        if self.relay is None:
            return "relay and load were not kept to cores of their own (this system cannot)"
        if self.relay == self.load:
            return f"relay and load shared core {self.relay}, the only one"
        return f"relay kept to core {self.relay}, load to core {self.load}"


@dataclass(frozen=True)
class Peer:
    """A relay that is on this machine.

    Attributes:
        name: one of `PEER_NAMES`.
        dialect: what it speaks, a key of `bench.dialects.DIALECTS`.
        version: what it says of itself.
        settings: how it is set, for the reader of the results.
        command: what starts it, with `{port}` where its port belongs, and `{config}` its configuration file.
        config: that file's text, with `{port}`.
    """

    name: str
    dialect: str
    version: str
    settings: str
    command: tuple[str, ...]
    config: str = ""


def cores_to_use() -> Cores:
    """The first core for the relay and the last for the load, of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[-1])


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on `core` alone from its first instruction."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def find_peers(
    names: Sequence[str], folder: Path, nats: str | None = None
) -> tuple[list[Peer], dict[str, str]]:
    """Find the relays by name; `folder` is where the floor is built.

    Returns:
        Those that are here, and for each of the others the reason why it is not.
    """
    found, missing = [], {}
    for name in names:
        try:
            if name == "hailer":
                found.append(find_hailer())
            elif name == "nats":
                found.append(find_nats(nats))
            elif name == "redis":
                found.append(find_redis())
            elif name == "mosquitto":
                found.append(find_mosquitto())
            else:
                found.append(build_floor(folder))
        except PeerError as error:
            missing[name] = str(error)
    return found, missing


def find_hailer() -> Peer:
    command = [sys.executable, "-m", "hailer"]
    version, text = output_of([*command, "--version"]), output_of([*command, "relay", "--help"])
    command += ["relay", "--listen", "tcp://127.0.0.1:{port}"]
    wanted = {"--web": "none", "--store": "memory"}
    switches = [word for option, value in wanted.items() if option in text for word in (option, value)]
    return Peer("hailer", "hailer", version, " ".join(["relay", *switches]), (*command, *switches))


def find_nats(path: str | None) -> Peer:
    program = program_at(path or "nats-server", "install nats-server, or name one with --nats PATH")
    # GOMAXPROCS follows the one core that it is kept to.
    command = (program, "-a", "127.0.0.1", "-p", "{port}")
    return Peer(
        "nats", "nats", output_of([program, "--version"]), "core NATS as it comes, no JetStream", command
    )


def find_redis() -> Peer:
    program = program_at("redis-server", "install redis-server")
    # The pubsub limit would cut a receiver that is 32 MiB behind a sender that nothing slows down.
    options = ("--save", "", "--appendonly", "no", "--client-output-buffer-limit", "pubsub 0 0 0")
    version = output_of([program, "--version"]).removeprefix("Redis server ").split(" sha=")[0]
    settings = "no persistence, no limit on a subscriber's output"
    command = (program, "--bind", "127.0.0.1", "--port", "{port}", "--maxclients", "60000", *options)
    return Peer("redis", "redis", "redis-server " + version, settings, command)


def find_mosquitto() -> Peer:
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("mosquitto", path=places)
    if program is None:
        raise PeerError("mosquitto is not on this machine: install mosquitto")
    config = [
        "listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence false",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "max_queued_bytes 0",
        "sys_interval 0",
        "log_type none",
    ]
    settings = "QoS 0, no persistence, TCP_NODELAY, unlimited queues, no log"
    # Its help is the only place where it says its version, and it calls that a failure.
    version = output_of([program, "-h"], successes=(0, 1, 3)).partition("\n")[0]
    command = (program, "-c", "{config}")
    return Peer("mosquitto", "mqtt", version, settings, command, "\n".join(config) + "\n")


def build_floor(folder: Path) -> Peer:
    """Compile the floor into a folder.

    Raises:
        PeerError: there is no C compiler, or it refused.
    """
    compiler = program_at("cc", "install a C compiler")
    program = folder / "floor"
    output_of([compiler, "-O2", "-o", str(program), str(Path(__file__).with_name("floor.c"))])
    version = output_of([compiler, "--version"]).partition("\n")[0]
    return Peer(
        "floor", "floor", f"bench/floor.c, {version}, -O2", "nothing to set", (str(program), "{port}")
    )


def program_at(name: str, advice: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise PeerError(f"{name} is not on this machine: {advice}")
    return str(Path(program).absolute())


def output_of(command: list[str], successes: tuple[int, ...] = (0,), cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{' '.join(command)} did not run: {error}") from None
    if done.returncode not in successes:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise PeerError(f"{' '.join(command)} failed with {done.returncode}: {lines[-1]}")
    return done.stdout.strip()


@contextlib.contextmanager
def running(peer: Peer, core: int | None, folder: Path) -> Iterator[tuple[int, int]]:
    """Start a relay on a free port of loopback; gives its port and process id, and stops it at the end.

    Raises:
        PeerError: it ended, or accepted no connection in time.
    """
    port, config, log = free_port(), folder / f"{peer.name}.conf", folder / f"{peer.name}.log"
    config.write_text(peer.config.replace("{port}", str(port)))
    command = [part.replace("{port}", str(port)).replace("{config}", str(config)) for part in peer.command]
    with log.open("wb") as sink, pinned(core):
        # A session of its own: a Ctrl-C in the terminal goes to us, and we stop it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    try:
        wait_until_open(process, port, log)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    ended = process.poll()
    fate = (
        f"it accepted no connection within {START_TIMEOUT:g} s" if ended is None else f"it ended with {ended}"
    )
    raise PeerError(f"the relay {fate}; it said: {' / '.join(said) or 'nothing'}")
