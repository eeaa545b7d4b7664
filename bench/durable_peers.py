"""What keeps messages on disk and is measured: how each is found, set, and given its folder."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers import Peer, PeerError, find_mosquitto, find_nats, find_redis, output_of, program_at

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STORES", "at", "build_delay", "find_stores", "slowed"]

STORES = (
    *("hailer", "hailer-memory"),
    *("nats-always", "nats-always-one", "nats", "nats-one"),
    *("redis", "mosquitto"),
    *("sqlite-1", "sqlite-1000"),
    *("redis-memory", "sink"),
)
LIMITS = {"--mail-entries": "100000000", "--mail-bytes": "100000000000", "--mail-total": "100000000000"}
DELAY = """#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int late(const char *name, int fd) {
    const char *delay = getenv("HAILER_BENCH_DELAY"); /* microseconds */
    if (delay) usleep(atoi(delay));
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return late("fsync", fd); }
int fdatasync(int fd) { return late("fdatasync", fd); }
"""


def build_delay(folder: Path) -> Path:
    """Compile what `slowed` needs into a folder.

    Raises:
        PeerError: there is no C compiler, or it refused.
    """
    source, library = folder / "delay.c", folder / "delay.so"
    source.write_text(DELAY)
    compiler = program_at("cc", "install a C compiler")
    output_of([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"])
    return library


def slowed(peer: Peer, library: Path, seconds: float) -> Peer:
    """The same store on a disk whose flushes take so much longer; not for static programs, as nats-server."""
    environment = (f"LD_PRELOAD={library}", f"HAILER_BENCH_DELAY={round(seconds * 1e6)}")
    return dataclasses.replace(peer, command=("env", *environment, *peer.command))


def at(peer: Peer, data: Path) -> Peer:
    """The same store with its files in a folder."""
    command = tuple(part.replace("{data}", str(data)) for part in peer.command)
    return dataclasses.replace(peer, command=command, config=peer.config.replace("{data}", str(data)))


def find_stores(names: Sequence[str], nats: str | None = None) -> tuple[list[Peer], dict[str, str]]:
    """Find the stores by name.

    Returns:
        Those that are here, with `{data}` where the folder of their files belongs, and for each of the others
        the reason why it is not.
    """
    found, missing = [], {}
    for name in names:
        kind, _, variant = name.partition("-")
        try:
            if kind == "hailer":
                found.append(find_hailer_store(name))
            elif kind == "nats":
                found.append(find_jetstream(name, nats))
            elif kind == "redis":
                found.append(find_redis_streams(name))
            elif kind == "mosquitto":
                found.append(find_mosquitto_queues())
            elif kind == "sqlite":
                found.append(find_sqlite(name, int(variant)))
            else:
                command = (sys.executable, str(Path(__file__).with_name("durable_sink.py")), "{port}")
                found.append(
                    Peer(name, "hailer", "bench/durable_sink.py", "says STORED, stores nothing", command)
                )
        except PeerError as error:
            missing[name] = str(error)
    return found, missing


def find_hailer_store(name: str) -> Peer:
    command = [sys.executable, "-m", "hailer"]
    version, text = output_of([*command, "--version"]), output_of([*command, "relay", "--help"])
    if "--store" not in text:
        raise PeerError("this relay has no --store")
    store = "memory" if name == "hailer-memory" else "{data}/mail.db"
    wanted = {"--web": "none", "--store": store} | LIMITS
    switches = [word for option, value in wanted.items() if option in text for word in (option, value)]
    command += ["relay", "--listen", "tcp://127.0.0.1:{port}"]
    settings = "SQLite, synchronous=FULL" if name == "hailer" else "the same without a disk"
    return Peer(name, "hailer", version, f"{settings}; limits of a mailbox raised", (*command, *switches))


def find_jetstream(name: str, path: str | None) -> Peer:
    core = find_nats(path)
    always, one = "-always" in name, name.endswith("-one")
    sync = ", sync_interval: always" if always else ""
    config = 'listen: "127.0.0.1:{port}"\njetstream { store_dir: "{data}"' + sync + " }\n"
    settings = "JetStream, file store, " + ("sync_interval: always" if always else "flushed every 2 minutes")
    settings += ", one stream for all mailboxes" if one else ", a stream for each mailbox"
    command = (core.command[0], "-c", "{config}")
    return Peer(name, "nats-one" if one else "nats", core.version, settings, command, config)


def find_redis_streams(name: str) -> Peer:
    plain = find_redis()
    if name == "redis-memory":
        return dataclasses.replace(plain, name=name, settings="streams, no persistence")
    # A rewrite of the file in the middle would be measured, too; nobody else's log is.
    options = ("--auto-aof-rewrite-percentage", "0", "--dir", "{data}", "--save", "")
    always = ("--appendonly", "yes", "--appendfsync", "always")
    settings = "streams, appendonly yes, appendfsync always"
    return dataclasses.replace(
        plain, name=name, settings=settings, command=(*plain.command[:7], *options, *always)
    )


def find_mosquitto_queues() -> Peer:
    plain = find_mosquitto()
    config = plain.config.replace(
        "persistence false\n",
        "persistence true\npersistence_location {data}/\nautosave_interval 1\nmax_inflight_messages 0\n",
    )
    settings = "QoS 1 to persistent sessions, written to its file every second and not flushed, TCP_NODELAY"
    return dataclasses.replace(plain, settings=settings, config=config)


def find_sqlite(name: str, rows: int) -> Peer:
    command = (sys.executable, "-m", "bench.durable_sqlite", "{data}/mail.db", "--rows", str(rows))
    version = output_of([sys.executable, "-c", "import sqlite3; print('SQLite', sqlite3.sqlite_version)"])
    settings = f"no server: {rows:,} row{'s' * (rows > 1)} a commit, WAL, synchronous=FULL, in Python"
    return Peer(name, "", version, settings, command)
