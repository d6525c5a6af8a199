"""Handing an array to another process: one-way latency and throughput, beside what others offer.

    uv pip install numpy pyzmq iceoryx2 ray     # contenders; what is missing is named as such
    python bench/data_path.py                   # --rounds 3, about 15 minutes on two cores
    python bench/data_path.py --scale 0.05      # a first look

A latency is the time from "the array is ready" to "the other process has touched both its ends",
one message in flight, both clocks CLOCK_MONOTONIC. For a way that copies, the array is ready in
private memory; for one that does not, where it will be read. All ways take turns in every round;
p50 is that of the best round of a cell, p99 is over all rounds and mostly tells how busy the
machine was. Prints Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import struct
import sys
import time
import traceback
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.data_path_ways import WAYS, Base64, Iceoryx, IceoryxInPlace, InPlace, OneCopy, RayActor

KB, MB = 2**10, 2**20
SIZES = {KB: 2000, 64 * KB: 2000, 4 * MB: 200, 64 * MB: 30}
STAMP = struct.Struct("q")
MEMCPY = "memcpy in one process"


def name_of(size: int) -> str:
    return f"{size // MB} MB" if size >= MB else f"{size // KB} KB"


def in_a_process(work, *args: object) -> list[int]:
    """What `work` returns, run in a process of its own, so that no library disturbs the next."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        status = 1
        try:
            with os.fdopen(writing, "w") as out:
                json.dump(work(*args), out)
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as source:
        found = source.read()
    os.waitpid(pid, 0)
    return json.loads(found) if found else []


def memcpy(size: int, count: int) -> list[int]:
    source, target = np.zeros(size, "uint8"), np.zeros(size, "uint8")
    found = []
    for n in range(count):
        source[:] = n % 256
        began = time.monotonic_ns()
        np.copyto(target, source)
        _ = target[0], target[-1]
        found.append(time.monotonic_ns() - began)
    return found


def handed_over(way, size: int, count: int) -> list[int]:
    if way is RayActor:
        return through_ray(size, count)
    ends = way.ends(size)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            read_all(way, size, ends, count, writing)
        finally:
            os._exit(0)
    os.close(writing)
    sender = way(size, ends)
    found = []
    for n in range(count):
        sender.prepare(n % 256)
        began = time.monotonic_ns()
        sender.send()
        found.append(STAMP.unpack(os.read(reading, STAMP.size))[0] - began)
    os.waitpid(child, 0)
    return found


def read_all(way, size: int, ends: object, count: int, writing: int) -> None:
    arrays = way.reads(size, ends)
    for n in range(count):
        array = next(arrays)
        first, last = array[0], array[-1]
        stamp = time.monotonic_ns()
        if len(array) != size or first != n % 256 or last != n % 256:
            raise SystemExit(f"{way.name} handed over something else")
        os.write(writing, STAMP.pack(stamp))


def through_ray(size: int, count: int) -> list[int]:
    sender = RayActor(size, None)
    found = []
    for n in range(count):
        sender.prepare(n % 256)
        began = time.monotonic_ns()
        found.append(sender.send() - began)
    sender.ray.shutdown()
    return found


def measure(
    sizes: dict[int, int], rounds: int, scale: float, without: list[str]
) -> dict[tuple[str, int], list]:
    """(way, size) -> nanoseconds of each round."""
    found: dict[tuple[str, int], list] = {}
    for size, usual in sizes.items():
        for each in range(rounds):
            print(f"{name_of(size)}, round {each + 1}", file=sys.stderr)
            count = max(5, round(usual * scale))
            cells = [(MEMCPY, in_a_process(memcpy, size, count))]
            for way in WAYS:
                if way.needs and not importlib.util.find_spec(way.needs):
                    continue
                if any(word in way.name for word in without):
                    continue
                some = max(5, round(count * way.share))
                cells.append((way.name, in_a_process(handed_over, way, size, some)))
            for name, times in cells:
                warm = times[max(2, len(times) // 10) :]
                if warm:
                    found.setdefault((name, size), []).append(warm)
    return found


def middle(rounds: list[list[int]]) -> float:
    """Seconds: the median of the best round."""
    return min(float(np.median(each)) for each in rounds) / 1e9


def tail(rounds: list[list[int]]) -> float:
    return float(np.percentile(np.concatenate(rounds), 99)) / 1e9


def human(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def report(found: dict, sizes: list[int]) -> None:
    print("One-way latency between two processes, p50 / p99:\n")
    print("| way |", " | ".join(map(name_of, sizes)), "|", "x memcpy at the last two |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for name in (MEMCPY, *(way.name for way in WAYS)):
        if not any((name, size) in found for size in sizes):
            print(f"| {name} | {absent(name)} |" + " |" * len(sizes))
            continue
        cells = [cell(found.get((name, size))) for size in sizes]
        shares = [ratio(found, name, MEMCPY, size) for size in sizes[-2:]]
        print(f"| {name} |", " | ".join(cells), "|", " / ".join(shares), "|")
    print("\nGB/s, one message in flight (bytes over p50):\n")
    print("| way |", " | ".join(map(name_of, sizes)), "|")
    print("|---|" + "---|" * len(sizes))
    for name in (MEMCPY, *(way.name for way in WAYS)):
        rates = [found.get((name, size)) for size in sizes]
        if any(rates):
            said = [
                f"{s / middle(r) / 1e9:.3g}" if r else "" for s, r in zip(sizes, rates, strict=True)
            ]
            print(f"| {name} |", " | ".join(said), "|")


def absent(name: str) -> str:
    needs = next((way.needs for way in WAYS if way.name == name), None)
    return "not run" if needs is None or importlib.util.find_spec(needs) else "not installed"


def cell(rounds: list | None) -> str:
    return f"{human(middle(rounds))} / {human(tail(rounds))}" if rounds else "failed"


def ratio(found: dict, name: str, other: str, size: int) -> str:
    if (name, size) not in found or (other, size) not in found:
        return "-"
    return f"{middle(found[name, size]) / middle(found[other, size]):.2g}"


def targets(found: dict, sizes: list[int]) -> None:
    print("\n| to reach | measured |\n|---|---|")
    rows = [
        (4 * MB, "4 MB in place: at most 0.1 of a memcpy", InPlace.name, MEMCPY),
        (4 * MB, "4 MB with one copy: at most 1.1 memcpys", OneCopy.name, MEMCPY),
        (KB, "1 KB in place: at most 1 of iceoryx2 in place", InPlace.name, IceoryxInPlace.name),
        (KB, "1 KB with one copy: at most 1 of iceoryx2", OneCopy.name, Iceoryx.name),
        (4 * MB, "4 MB, base64 over HTTP: at least 100 of one copy", Base64.name, OneCopy.name),
        (4 * MB, "4 MB, base64 over HTTP: of in place", Base64.name, InPlace.name),
    ]
    for size, what, name, other in rows:
        if size in sizes:
            print(f"| {what} | {ratio(found, name, other, size)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual messages")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="bytes")
    parser.add_argument("--without", nargs="*", default=[], help="words in names of ways to skip")
    args = parser.parse_args()
    sizes = {size: SIZES.get(size, 100) for size in args.sizes}
    load = os.getloadavg()[0]
    found = measure(sizes, args.rounds, args.scale, args.without)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, load")
    print(f"{load:.1f} before and {os.getloadavg()[0]:.1f} after; {args.rounds} rounds.\n")
    report(found, list(sizes))
    targets(found, list(sizes))


if __name__ == "__main__":
    main()
