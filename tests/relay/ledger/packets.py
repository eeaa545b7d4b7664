"""Mail over a network device that loses, doubles, delays and reorders real packets (Linux, as root).

The device is a TUN in a network namespace of its own: ``unshare --net python packets.py DIRECTORY POSTS``.
Whatever is sent to 10.9.0.2 comes back as if from there: with the two addresses of a packet exchanged its
checksums still hold, so a client that connects to 10.9.0.2 reaches the relay on 10.9.0.1, and nothing else
has to be rewritten.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.relay.ledger.load import ROOMY, Load
from tests.relay.ledger.running import RelayProcess

HERE, THERE = "10.9.0.1", "10.9.0.2"

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


class Mirror(threading.Thread):
    """Reads packets from the device and writes them back, most of them.

    Attributes:
        met: how many packets were passed on, lost, doubled and held back.
    """

    def __init__(self, dice: random.Random, *, loss: float, double: float, hold: float) -> None:
        super().__init__(daemon=True)
        self.dice = dice
        self.fates = {"lost": loss, "doubled": double, "held back": hold}
        self.met: Counter[str] = Counter()
        self.tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tun, _TUNSETIFF, struct.pack("16sH", b"tun0", _IFF_TUN | _IFF_NO_PI))
        for command in ("link set lo up", f"address add {HERE}/24 dev tun0", "link set tun0 up"):
            subprocess.run(["ip", *command.split()], check=True)

    def run(self) -> None:
        held: list[tuple[float, int, bytes]] = []
        while True:
            timeout = max(0.0, held[0][0] - time.monotonic()) if held else None
            ready, _, _ = select.select([self.tun], [], [], timeout)
            while held and held[0][0] <= time.monotonic():
                os.write(self.tun, heapq.heappop(held)[2])
            if not ready:
                continue
            packet = os.read(self.tun, 65536)
            if packet[0] >> 4 != 4:
                continue  # not IPv4: the system looks for IPv6 neighbours
            packet = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
            fate = self._fate()
            self.met[fate] += 1
            if fate == "held back":
                due = time.monotonic() + self.dice.uniform(0.001, 0.05)
                heapq.heappush(held, (due, self.met[fate], packet))
            elif fate != "lost":
                os.write(self.tun, packet)
                if fate == "doubled":
                    os.write(self.tun, packet)

    def _fate(self) -> str:
        roll = self.dice.random()
        for fate, chance in self.fates.items():
            if roll < chance:
                return fate
            roll -= chance
        return "passed"


def main(directory: Path, posts: int) -> None:
    """Post so many over the device; print what became of them as JSON."""
    mirror = Mirror(random.Random(3), loss=0.03, double=0.03, hold=0.05)
    mirror.start()
    with RelayProcess(directory, None, "--insecure", *ROOMY, host=HERE) as relay:

        def dial() -> socket.socket:
            return socket.create_connection((THERE, relay.address[1]), timeout=20)

        with Load(relay, dial=dial, forgetful=0, goes=0.05) as load:
            load.start()
            assert load.ledger.wait(300, acknowledged=posts)
            found = load.finish()
    print(json.dumps({"figures": found.row(), "faults": found.faults, "met": mirror.met}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
