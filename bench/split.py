"""Perception and reasoning in one process, in two, and two replicas of the whole: same cores.

    python bench/split.py [--rounds 3] [--seconds 40] [--loads 0.4,0.8]

Each request brings a picture of a receipt that is read (OCR), and SmolLM2 answers a question about
it. Every variant gets the same two cores, the same pictures and the same arrivals; their turns are
interleaved, and what is compared is compared within a round. Prints tables for
docs/measurements.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from split_load import Process, Result, Variant, alone, closed, crash, opened, rate

CLIENTS = 4
Cell = tuple[str, str]
"""A variant, and a load: closed, or a fraction."""
Cells = dict[Cell, list[list[Result]]]
Spent = dict[str, list[float]]


def variants(folder: Path, cores: list[int], tokens: int) -> list[Variant]:
    """On two cores: one process with as many threads as cores, or one thread a model; two; two."""
    a, b = cores
    both = f"{a},{b}"

    def process(name: str, on: object, threads: int, slots: int, *more: str) -> Process:
        socket = folder / name
        return Process(
            socket,
            [
                *(str(socket), "--cores", str(on), "--threads", str(threads)),
                *("--slots", str(slots), "--tokens", str(tokens), *more),
            ],
        )

    return [
        Variant("one process, 2 threads a model", [process("one-2", both, 2, 2)]),
        Variant("one process, 1 thread a model", [process("one-1", both, 1, 2)]),
        Variant("two processes, a core each", [process("two", b, 1, 2, "--eyes", str(a))]),
        Variant(
            "two replicas, a core each",
            [process(f"replica-{core}", core, 1, 1) for core in cores],
        ),
    ]


async def measure(found: list[Variant], args: argparse.Namespace) -> tuple[Cells, Spent]:
    """By cell the results of each round; by variant the processor seconds a request of each."""
    cells: Cells = {}
    spent: Spent = {}
    base = 0.0
    for round_ in range(-1, args.rounds):  # the round before the first warms up and sets the rates
        turn = found[round_ % len(found) :] + found[: round_ % len(found)]
        for variant in turn:
            seconds = args.seconds if round_ >= 0 else args.seconds / 4
            before = variant.processor()
            results = await closed(variant, CLIENTS, seconds, 1000 + round_)
            cells.setdefault((variant.name, "closed"), []).append(results)
            used = (variant.processor() - before) / len(results)
            spent.setdefault(variant.name, []).append(used)
        if round_ < 0:
            base = rate(cells[found[0].name, "closed"][0])
            cells.clear()
            spent.clear()
            continue
        for load in args.loads:
            for variant in turn:
                seed = 2000 + round_ * 10 + args.loads.index(load)
                results = await opened(variant, load * base, args.seconds, seed)
                cells.setdefault((variant.name, f"{load:g}"), []).append(results)
    print(f"Load 1 is {base:.2f} requests/s, what the first variant did in the warm-up.\n")
    return cells, spent


def ranged(values: list[float], form: str = "{:.2f}") -> str:
    """The median and, in brackets, the least and the most of the rounds."""
    said = form.format(statistics.median(values))
    return f"{said} ({form.format(min(values))} to {form.format(max(values))})"


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def waits(share: float) -> Callable[[list[Result]], float]:
    return lambda results: quantile([r.wait for r in results if not r.failed], share)


def throughput(found: list[Variant], cells: Cells, spent: Spent) -> None:
    print("| | requests/s, closed loop | against the first | processor s/request ", end="")
    print("| longest pause p90 | right | failed |\n" + "|---" * 7 + "|")
    first = [rate(results) for results in cells[found[0].name, "closed"]]
    for variant in found:
        rounds = cells[variant.name, "closed"]
        rates = [rate(results) for results in rounds]
        ratios = [ours / theirs for ours, theirs in zip(rates, first, strict=True)]
        every = results_of(variant, cells)
        good = [r for r in every if not r.failed]
        pause = quantile([r.told.gap for r in good], 0.9)
        right = sum(r.told.text == "right" for r in good) / max(1, len(good))
        print(
            f"| {variant.name} | {ranged(rates)} | {ranged(ratios)} "
            f"| {ranged(spent[variant.name])} | {pause * 1e3:.0f} ms "
            f"| {right:.0%} | {len(every) - len(good)} of {len(every)} |"
        )


def first_tokens(found: list[Variant], cells: Cells, loads: list[float]) -> None:
    print("\nSeconds to the first token, arrivals at random:\n")
    print("| |" + "".join(f" load {load:g}, p50 | p90 |" for load in loads))
    print("|---" * (1 + 2 * len(loads)) + "|")
    for variant in found:
        row = [variant.name]
        for load in loads:
            rounds = cells[variant.name, f"{load:g}"]
            row += [ranged(list(map(waits(share), rounds))) for share in (0.5, 0.9)]
        print("| " + " | ".join(row) + " |")


def results_of(variant: Variant, cells: Cells) -> list[Result]:
    rounds = [rs for (name, _), rounds in cells.items() if name == variant.name for rs in rounds]
    return [result for results in rounds for result in results]


async def crashes(found: list[Variant], seconds: float) -> None:
    print("\nPerception is killed (SIGKILL) under three clients with pictures and one without:\n")
    print("| | pictures answered | failed | longest without | plain answered | failed | longest |")
    print("|---" * 7 + "|")
    failures: set[str] = set()
    for variant in found[1:]:
        results = await crash(variant, seconds, 9000)
        row = [variant.name]
        for picture in (True, False):
            kind = [r for r in results if r.picture == picture]
            done = sorted(r.told.done for r in kind if not r.failed)
            gap = max((b - a for a, b in pairwise(done)), default=float("nan"))
            row += [str(len(done)), str(len(kind) - len(done)), f"{gap:.1f} s"]
        print("| " + " | ".join(row) + " |", flush=True)
        failures |= {f"{variant.name}: {r.told.error}" for r in results if r.failed}
    print("\n" + "\n".join(sorted(failures)))


async def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = variants(Path(folder), sorted(os.sched_getaffinity(0))[:2], args.tokens)
        try:
            for variant in found:
                await variant.open()
            for variant in found[:2]:
                look, rest, both = await alone(variant, args.alone, 500)
                print(
                    f"{variant.name}, one request at a time: {look * 1e3:.0f} ms of perception, "
                    f"{rest * 1e3:.0f} ms of reasoning, {both * 1e3:.0f} ms in all.\n",
                    flush=True,
                )
            cells, spent = await measure(found, args)
            throughput(found, cells, spent)
            first_tokens(found, cells, args.loads)
            for variant in found:
                if variant.crossed:
                    print(
                        f"\n{variant.name}: {variant.crossed / variant.pictures:.0f} bytes cross."
                    )
            await crashes(found, args.seconds)
        finally:
            for variant in found:
                await variant.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--alone", type=int, default=9, help="requests one at a time")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument(
        "--loads", type=lambda text: [float(part) for part in text.split(",")], default=[0.4, 0.8]
    )
    # So that a run that is stopped takes its processes with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(main(parser.parse_args()))
