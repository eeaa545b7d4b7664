"""What keeps messages on disk and is measured: how each is found and set."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.relay.peers import (
    Peer,
    all_of,
    find_hailer,
    find_mosquitto,
    find_nats,
    find_redis,
    output_of,
    program_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["STORES", "at", "build_delay", "find_stores", "slowed"]

STORES: Final = (
    *("hailer", "hailer-memory"),
    *("nats-always", "nats-always-one", "nats", "nats-one"),
    *("redis", "redis-everysec", "mosquitto"),
    *("sqlite-1", "sqlite-1000"),
    *("redis-memory", "sink"),
)
_LIMITS: Final = (
    *("--mail-entries", "100000000"),
    *("--mail-bytes", "100000000000"),
    *("--mail-total", "100000000000"),
)
_DELAY: Final = """#define _GNU_SOURCE
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
    source.write_text(_DELAY)
    compiler = program_at("cc", "install a C compiler")
    output_of([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"])
    return library


def slowed(peer: Peer, library: Path, seconds: float) -> Peer:
    """The same store on a disk whose flushes take so much longer; not for static programs, as nats-server."""
    environment = (f"LD_PRELOAD={library}", f"HAILER_BENCH_DELAY={round(seconds * 1e6)}")
    return replace(peer, command=("env", *environment, *peer.command))


def at(peer: Peer, data: Path) -> Peer:
    """The same store with its files in a folder."""
    command = tuple(part.replace("{data}", str(data)) for part in peer.command)
    return replace(peer, command=command, config=peer.config.replace("{data}", str(data)))


def find_stores(names: Sequence[str], nats: str | None = None) -> tuple[list[Peer], dict[str, str]]:
    """Find the stores by name.

    Args:
        names: some of `STORES`.
        nats: the nats-server to use.

    Returns:
        Those that are here, and for each of the others the reason why it is not.
    """
    finders: dict[str, Callable[[], Peer]] = {
        "hailer": find_hailer_store,
        "hailer-memory": find_hailer_memory,
        "nats-always": lambda: find_jetstream("nats-always", nats),
        "nats-always-one": lambda: find_jetstream("nats-always-one", nats),
        "nats": lambda: find_jetstream("nats", nats),
        "nats-one": lambda: find_jetstream("nats-one", nats),
        "redis": lambda: find_redis_streams("always"),
        "redis-everysec": lambda: find_redis_streams("everysec"),
        "mosquitto": find_mosquitto_queues,
        "sqlite-1": lambda: find_sqlite(1),
        "sqlite-1000": lambda: find_sqlite(1000),
        "redis-memory": lambda: replace(
            find_redis(), name="redis-memory", settings="streams, no persistence"
        ),
        "sink": find_sink,
    }
    return all_of(names, finders)


def storing(peer: Peer) -> Peer:
    """A relay as it keeps messages on disk."""
    assert peer.storing is not None
    return peer.storing


def find_hailer_store() -> Peer:
    """This package's relay."""
    peer = storing(find_hailer())
    settings = "SQLite, synchronous=FULL; limits of a mailbox raised"
    return replace(peer, settings=settings, command=(*peer.command, *_LIMITS))


def find_hailer_memory() -> Peer:
    """The same with all mail in memory."""
    peer = find_hailer()
    settings = "the same without a disk; limits of a mailbox raised"
    return replace(
        peer, name="hailer-memory", settings=settings, command=(*peer.command, *_LIMITS), storing=None
    )


def find_jetstream(name: str, path: str | None) -> Peer:
    """JetStream: flushed with each message or as it comes, a stream for each mailbox or one for all."""
    peer = storing(find_nats(path))
    always, one = "-always" in name, name.endswith("-one")
    config = peer.config.replace(" }", ", sync_interval: always }") if always else peer.config
    settings = "JetStream, file store, " + ("sync_interval: always" if always else "flushed every 2 minutes")
    settings += ", one stream for all mailboxes" if one else ", a stream for each mailbox"
    return replace(peer, name=name, dialect="nats-one" if one else "nats", settings=settings, config=config)


def find_redis_streams(flushed: str) -> Peer:
    """Streams, with the log flushed with each command (``always``), or each second (``everysec``)."""
    peer = storing(find_redis())
    return replace(
        peer,
        name="redis" if flushed == "always" else f"redis-{flushed}",
        settings=f"streams, appendonly yes, appendfsync {flushed}",
        command=tuple(flushed if word == "everysec" else word for word in peer.command),
    )


def find_mosquitto_queues() -> Peer:
    """The queues of persistent sessions."""
    peer = find_mosquitto()
    config = peer.config.replace(
        "persistence false\n",
        "persistence true\npersistence_location {data}/\nautosave_interval 1\nmax_inflight_messages 0\n",
    )
    settings = "QoS 1 to persistent sessions, written to its file every second and not flushed, TCP_NODELAY"
    return replace(peer, settings=settings, config=config)


def find_sqlite(rows: int) -> Peer:
    """No server: what stands on SQLite can store no more than this."""
    version = output_of([sys.executable, "-c", "import sqlite3; print('SQLite', sqlite3.sqlite_version)"])
    settings = f"no server: {rows:,} row{'s' * (rows > 1)} a commit, WAL, synchronous=FULL, in Python"
    command = (sys.executable, "-m", "hailer.tools.bench.durable.sqlite", "{data}/mail.db")
    return Peer(f"sqlite-{rows}", "", version, settings, (*command, "--rows", str(rows)))


def find_sink() -> Peer:
    """What shows how much the load can do."""
    command = (sys.executable, str(Path(__file__).with_name("sink.py")), "{port}")
    return Peer("sink", "hailer", "sink.py", "says STORED, stores nothing", command)
