"""Feed a target until something is wrong with what comes of it, or for so many inputs.

With atheris installed (`pip install atheris`: there are binaries for few systems) it looks for inputs that
reach code that no other has reached. Without it, or with --plain, inputs are put together by chance from the
words of the target, and each has its time taken.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz.targets import Target

FOUND = Path(__file__).parent / "found"
LONGEST = 65536


def main() -> None:
    """Run one target."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", help="relay, client, framings or endpoints")
    parser.add_argument("--runs", type=int, default=1_000_000, metavar="N", help="inputs (default 1,000,000)")
    parser.add_argument(
        "--seconds", type=int, default=600, metavar="S", help="the most it may take (default 600)"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--plain", action="store_true", help="without atheris, and take the times")
    chosen = parser.parse_args()
    if not chosen.plain and importlib.util.find_spec("atheris"):
        by_coverage(chosen.target, chosen.runs, chosen.seconds, chosen.seed)
    else:
        by_chance(chosen.target, chosen.runs, chosen.seconds, chosen.seed)


def by_coverage(name: str, runs: int, seconds: int, seed: int) -> None:
    """Let atheris look; it ends the process."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

    with atheris.instrument_imports(include=["hailer"]):
        from fuzz.targets import TARGETS  # noqa: PLC0415
    target = TARGETS[name]
    FOUND.mkdir(exist_ok=True)
    words = FOUND / f"{name}.words"
    words.write_text(
        "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words)
    )
    options = [
        f"-runs={runs}",
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        "-max_len=4096",
        "-verbosity=0",
    ]
    options += [f"-dict={words}", f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1"]
    print(f"{name}: atheris, seed {seed}", flush=True)
    atheris.Setup([sys.argv[0], *options], target.run)
    atheris.Fuzz()


def by_chance(name: str, runs: int, seconds: float, seed: int) -> None:
    """Put inputs together by chance; the first that is wrong is kept in a file, and its error raised."""
    from fuzz.targets import TARGETS  # noqa: PLC0415

    target, dice = TARGETS[name], random.Random(seed)
    print(f"{name}: by chance, seed {seed}", flush=True)
    until = time.monotonic() + seconds
    done, slowest = 0, 0.0
    while done < runs and time.monotonic() < until:
        data = make_input(dice, target.words)
        done += 1
        try:
            slowest = max(slowest, seconds_for(target, data))
        except Exception as error:
            FOUND.mkdir(exist_ok=True)
            kept = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            kept.write_bytes(data)
            error.add_note(f"the input is in {kept}")
            raise
    print(f"{name}: {done:,} inputs, the slowest took {slowest * 1000:.1f} ms")


def seconds_for(target: Target, data: bytes) -> float:
    """How much of a processor a target takes; what takes too much is tried again, for caches are cold."""
    taken = float("inf")
    for _ in range(5):
        begun = time.process_time()
        target.run(data)
        taken = min(taken, time.process_time() - begun)
        if taken <= target.seconds:
            return taken
    raise AssertionError(f"{len(data)} bytes took {taken * 1000:.1f} ms")


def make_input(dice: random.Random, words: tuple[bytes, ...]) -> bytes:
    """Some words, and bytes between them; one in a hundred as long as 64 KiB."""
    most = LONGEST if dice.random() < 0.01 else dice.choice((10, 100, 1000))
    data = bytearray(dice.randbytes(2))
    while len(data) < most and dice.random() < 0.995:
        roll = dice.random()
        if roll < 0.8:
            data += dice.choice(words)
        elif roll < 0.9:
            data += dice.randbytes(dice.randrange(4))
        elif roll < 0.95 and most == LONGEST:
            data += dice.choice(words) * dice.randrange(5000)
        else:
            at = dice.randrange(len(data))
            data += data[at : at + dice.randrange(200)]
    for _ in range(dice.randrange(3)):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data[:LONGEST])


if __name__ == "__main__":
    main()
