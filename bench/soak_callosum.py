"""Millions of hand-overs while either side is killed at random; then everything is counted.

    python bench/soak_callosum.py --count 10000000     # a quarter of an hour, if nothing else runs
    python bench/soak_callosum.py --count 20000        # a first look

Half of the messages go to readers that are killed: the writer lives on and hands what was not
acknowledged to the next. The other half come from writers that are killed: the reader lives on.
Every message carries its number and a checksum. Prints Markdown; exits 1 if anything was lost,
torn, leaked or handed over twice without being marked.
"""

from __future__ import annotations

import argparse
import mmap
import os
import platform
import random
import signal
import struct
import sys
import time
import zlib
from collections import deque
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bicameral.callosum.channel import Local, pair
from bicameral.callosum.edge import Edge
from bicameral.callosum.link import Link
from bicameral.callosum.packets import LinkError
from bicameral.callosum.pool import Pool

LABEL = struct.Struct("<QI")  # number, checksum
NOISE = np.random.default_rng(1).integers(0, 256, 2**21, "uint8")
SIZES = (64, 700, 4096, 20_000, 300_000)
ODDS = (40, 30, 20, 9, 1)
EDGE = Edge(kind="frames", queue=64, in_flight=16)
POOL = 16 * 2**20


def fill(pool: Pool, link: Link, number: int, rng: random.Random) -> None:
    size = rng.choices(SIZES, ODDS)[0]
    with pool.loan((size,), "uint8", timeout=600) as loan:
        start = number % 2**20
        loan.array[:] = NOISE[start : start + size]
        label = LABEL.pack(number, zlib.crc32(loan.array))
        tensor = loan.seal()
        link.send("frames", label, [tensor], timeout=600)


def good(message) -> tuple[int, bool]:
    """The number of a message, and whether it is whole."""
    number, checksum = LABEL.unpack(message.body)
    return number, zlib.crc32(message.array()) == checksum


class Journal:
    """Shared with the readers: how often each message was read, and what was wrong."""

    def __init__(self, count: int) -> None:
        self.read = np.frombuffer(mmap.mmap(-1, max(count, 1)), "uint8")
        self.found = np.frombuffer(mmap.mmap(-1, 64), "int64")  # torn, unmarked, marked


def read_on(link: Link, journal: Journal) -> None:
    """Releases late, as a reader with a pipeline would, so that a kill finds messages in hand."""
    held: deque = deque()
    while True:
        try:
            message = link.take(0.05)
        except LinkError:
            return
        while held and (message is None or len(held) > 3):
            held.popleft().release()
        if message is None:
            continue
        number, whole = good(message)
        journal.found[0] += not whole
        if journal.read[number]:
            journal.found[2 if message.again else 1] += 1
        journal.read[number] = min(255, int(journal.read[number]) + 1)
        held.append(message)


def reader(journal: Journal) -> tuple[int, Local]:
    """A process that reads, and our end of the way to it."""
    ours, theirs = pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        link = Link(takes=["frames"], beat=None)
        link.attach(Local(theirs))
        read_on(link, journal)
        os._exit(0)
    theirs.close()
    return pid, Local(ours)


def writer(first: int, last: int, seed: int) -> tuple[int, Local]:
    """A process that writes messages from `first` on, and our end of the way to it."""
    ours, theirs = pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        pool = Pool(POOL)
        link = Link(sends=[EDGE], pool=pool, beat=None)
        link.attach(Local(theirs))
        rng = random.Random(seed)
        for number in range(first, last):
            fill(pool, link, number, rng)
        while not link.lost and link.stats()["out frames"].in_flight:
            link.wait(1)
            link.pump()
        os._exit(0)
    theirs.close()
    return pid, Local(ours)


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def readers_die(count: int, kills: int, rng: random.Random) -> dict[str, int]:
    journal = Journal(count)
    pool = Pool(POOL)
    link = Link(sends=[EDGE], pool=pool, beat=None)
    deaths = set(rng.sample(range(count), kills))
    pid, channel = reader(journal)
    link.attach(channel)
    watch = Watch()
    for number in range(count):
        fill(pool, link, number, rng)
        if number in deaths:
            killed(pid)
            while not link.lost:
                link.pump()
            pid, channel = reader(journal)
            link.attach(channel)
            watch.look()
    while pool.stats().leases:
        link.wait(1)
        link.pump()
    counts = link.stats()["out frames"]
    link.close()
    os.waitpid(pid, 0)
    result = watch.grown() | {
        "messages": count,
        "kills": kills,
        "acknowledged": counts.left,
        "sent again": counts.resent,
        "read twice, marked": int(journal.found[2]),
        "read twice, not marked": int(journal.found[1]),
        "torn": int(journal.found[0]),
        "lost": int((journal.read == 0).sum()),
        "leases left": pool.stats().leases,
        "copies": counts.copies + pool.stats().copies,
    }
    pool.close()
    return result


def writers_die(count: int, kills: int, rng: random.Random) -> dict[str, int]:
    deaths = set(rng.sample(range(count), kills))
    link = Link(takes=["frames"], beat=None)
    pid, channel = writer(0, count, 0)
    link.attach(channel)
    watch = Watch()
    number = torn = gaps = dead = 0
    while number < count:
        try:
            message = link.take(600)
        except LinkError:
            pid, channel = writer(number, count, dead)
            link.attach(channel)
            watch.look()
            continue
        said, whole = good(message)
        torn += not whole
        gaps += said != number
        number = said + 1
        message.release()
        if said in deaths:
            dead += 1
            killed(pid)
    link.close()
    os.waitpid(pid, 0)
    return watch.grown() | {
        "messages": count,
        "kills": dead,
        "torn": torn,
        "lost": gaps,
        "segments still mapped": Path("/proc/self/maps").read_text().count("memfd:bicameral"),
    }


class Watch:
    """Memory and descriptors of this process: after the first kills, and now."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def look(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        shared = int(Path("/proc/self/statm").read_text().split()[2])
        memory = (pages - shared) * os.sysconf("SC_PAGE_SIZE")
        self.seen.append((memory, len(os.listdir("/proc/self/fd"))))

    def grown(self) -> dict[str, int]:
        if len(self.seen) < 2:
            return {}
        first, last = self.seen[len(self.seen) // 10], self.seen[-1]
        return {
            "private memory grown, bytes": last[0] - first[0],
            "descriptors": last[1] - first[1],
        }


NONE = ("read twice, not marked", "torn", "lost", "leases left", "copies", "descriptors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--kills", type=int, default=None, help="by default one in 5000 messages")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    rng = random.Random(seed)
    kills = args.kills if args.kills is not None else max(4, args.count // 5000)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, seed {seed}\n", flush=True)
    wrong = []
    for name, work in (("readers killed", readers_die), ("writers killed", writers_die)):
        began = time.monotonic()
        result = work(args.count // 2, kills // 2, rng)
        took = time.monotonic() - began
        print(f"| {name} | |\n|---|---|")
        for key, value in result.items():
            print(f"| {key} | {value} |")
        print(f"| hand-overs a second | {args.count // 2 / took:.0f} |\n", flush=True)
        wrong += [f"{name}: {key} {result[key]}" for key in NONE if result.get(key)]
        if result.get("private memory grown, bytes", 0) > 16 * 2**20:
            wrong.append(f"{name}: memory grew")
    print("Nothing lost, torn or leaked." if not wrong else f"WRONG: {'; '.join(wrong)}")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
