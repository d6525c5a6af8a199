"""Does a gate pay, and which? Calls saved at equal recall, as Markdown.

    OMP_NUM_THREADS=1 nice python bench/gates.py            # about an hour on a busy core
    OMP_NUM_THREADS=1 nice python bench/gates.py --minutes 10

Streams are made by bench/scenes.py: 160x120 at 5 frames a second, seeds that training never saw.
Every gate gives a score per frame; a frame at or above the threshold makes a call, at most one a
second. Thresholds are set on calibration streams (seeds from 1000) for the recall asked for, one
for all streams of a group, and reported on test streams (seeds from 2000). An event is found if a
call falls between its first sight and one second after its last.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import gates_clips
import numpy as np
import scenes
from gates_streams import ARMS, Run, judged, run, threshold, wilson

RECALLS = (0.95, 0.99)
GROUPS = {"kinds seen in training": scenes.TRAINED, "kinds held out": scenes.HELD_OUT}
CALIBRATION, TEST = 1000, 2000
NODE = 1148.0  # yes/no calls a second of a node of eight B200, computed from MLPerf, published
CHIPS = {  # pJ per synaptic operation, published or computed from published figures; idle power, W
    "Speck": (None, 0.42e-3),
    "Tianjic": (1.54, None),
    "TrueNorth": (2.5, 72e-3),
    "Loihi 2, at full power of Hala Point": (6.8, None),
    "SpiNNaker 2": (10.0, None),
    "Loihi 1": (23.6, None),
}

Runs = dict[str, list[list[Run]]]


def measured(
    arms: dict[str, tuple], kinds: tuple[str, ...], base: int, minutes: float, kept: Path | None
) -> Runs:
    """Per gate and setting, one run for each stream of the group."""
    found: Runs = {name: [[] for _ in makes] for name, makes in arms.items()}
    for kind in kinds:
        stream = scenes.Stream(kind, base, minutes * 60, gap=30)
        for name, runs in run(stream, arms, kept).items():
            for settings, one in zip(found[name], runs, strict=True):
                settings.append(one)
        print(f"{kind} {base}: {len(stream.truth)} events", file=sys.stderr, flush=True)
    return found


def chosen(calibration: list[list[Run]], recall: float) -> tuple[int, float]:
    """The setting with the fewest calls at that recall, and its threshold."""
    limits = [threshold(runs, recall) for runs in calibration]
    cost = [judged(runs, at).calls for runs, at in zip(calibration, limits, strict=True)]
    best = int(np.argmin(cost))
    return best, limits[best]


def table(calibration: Runs, test: Runs, recall: float, seconds: float) -> Iterator[str]:
    yield (
        "| gate | recall reached | calls/h | of these without an event | saved | "
        "delay p50 / p95 s | streams, local | streams, 8xB200 | calls/h if set in hindsight |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, settings in calibration.items():
        setting, limit = chosen(settings, recall)
        runs = test[name][setting]
        got = judged(runs, limit)
        low, high = wilson(got.found, got.events)
        hindsight = judged(runs, threshold(runs, recall)).per_hour
        p50, p95 = np.percentile(got.delays, [50, 95])
        rate = got.per_hour / 3600
        yield (
            f"| {name} | {got.recall:.3f} [{low:.3f}, {high:.3f}] | {got.per_hour:.0f} | "
            f"{got.idle_calls / got.hours:.0f} | {1 - rate:.1%} | {p50:.1f} / {p95:.1f} | "
            f"{1 / seconds / rate:.2g} | {NODE / rate:,.0f} | {hindsight:.0f} |"
        )


def verdict(calibration: Runs, test: Runs, recall: float) -> str:
    """Spiking against frame difference, both at the threshold that fits the test streams."""
    hours = {}
    for name, settings in calibration.items():
        runs = test[name][chosen(settings, recall)[0]]
        hours[name] = judged(runs, threshold(runs, recall)).per_hour
    spiking, difference = hours["spiking net"], hours["frame difference"]
    winner = "the spiking net" if spiking < difference else "frame difference"
    best = min(hours, key=hours.__getitem__)
    return (
        f"At recall {recall:g} on these very streams, the spiking net makes {spiking:.0f} calls an "
        f"hour and frame difference {difference:.0f}: **{winner} wins**. Best of all: {best} "
        f"({hours[best]:.0f})."
    )


def by_kind(tests: dict[str, Runs], recall: float) -> Iterator[str]:
    """Calls per hour with a threshold for each camera, set in hindsight for the same recall."""
    names = next(iter(tests.values()))
    yield f"| calls/h at recall {recall:g} | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for runs in tests.values():
        for index, one in enumerate(runs["none"][0]):
            cells = []
            for settings in runs.values():
                some = [[setting[index]] for setting in settings]
                cells.append(f"{min(judged(s, threshold(s, recall)).per_hour for s in some):.0f}")
            yield f"| {one.stream.kind} ({len(one.stream.truth)} events) | {' | '.join(cells)} |"


def cost(every: list[Runs]) -> Iterator[str]:
    yield "| gate | CPU s per hour of stream | ms per frame |"
    yield "|---|---|---|"
    for name in every[0]:
        runs = [run for some in every for run in some[name][0]]
        frames = sum(len(run.scores) for run in runs)
        each = sum(run.cpu for run in runs) / frames
        yield f"| {name} | {each * scenes.FPS * 3600:.1f} | {each * 1000:.2f} |"


def spikes(every: list[Runs]) -> Iterator[str]:
    """What the net did, per hour of stream."""
    runs = [run for some in every for run in some["spiking net"][0]]
    hours = sum(len(run.scores) for run in runs) / scenes.FPS / 3600
    totals: dict[str, np.ndarray] = {}
    for one in runs:
        for c in one.counts:
            row = np.array([c.steps * c.inputs, c.events, c.steps * c.neurons, c.spikes])
            row = np.append(row, [c.synops, c.dense])
            totals[f"{c.name} ({c.kind})"] = totals.get(f"{c.name} ({c.kind})", 0) + row
    yield "| layer | inputs active | neurons that spike | synops/h | dense synops/h |"
    yield "|---|---|---|---|---|"
    for name, (inputs, events, neurons, fired, synops, dense) in totals.items():
        active = f"{events / inputs:.2%}" if events else ""
        rate = f"{fired / neurons:.2%}" if neurons else ""
        yield f"| {name} | {active} | {rate} | {synops / hours:,.0f} | {dense / hours:,.0f} |"
    synops, dense = (sum(row[i] for row in totals.values()) / hours for i in (4, 5))
    yield f"| all | | | {synops:,.0f} | {dense:,.0f} |"
    yield ""
    yield "| chip | pJ/synop | dynamic, J per hour of stream | idle, J per hour |"
    yield "|---|---|---|---|"
    for chip, (pico, idle) in CHIPS.items():
        dynamic = f"{synops * pico * 1e-12:.1e}" if pico else "no constant published"
        yield f"| {chip} | {pico or ''} | {dynamic} | {idle * 3600 if idle else 'unknown'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40, help="of each test stream")
    parser.add_argument("--calibration", type=float, help="minutes, as many as of test if not set")
    parser.add_argument("--call-seconds", type=float, default=3.9, help="of a local yes/no call")
    parser.add_argument("--clips", type=Path, help="folder of real video clips (*.mp4)")
    parser.add_argument("--keep", type=Path, help="folder of scores, to go on where it stopped")
    parser.add_argument("--gates", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    arms = {name: ARMS[name] for name in options.gates}
    tests, calibrations = {}, {}
    for group, kinds in GROUPS.items():
        minutes = options.calibration or options.minutes
        calibrations[group] = measured(arms, kinds, CALIBRATION, minutes, options.keep)
        tests[group] = measured(arms, kinds, TEST, options.minutes, options.keep)
        for recall in RECALLS:
            hours = sum(run.hours for run in tests[group]["none"][0])
            print(f"\n**{group}, recall {recall:g}**, {hours:.1f} h of test streams\n")
            lines = table(calibrations[group], tests[group], recall, options.call_seconds)
            print(*lines, sep="\n")
            print("\n" + verdict(calibrations[group], tests[group], recall), flush=True)
    print("\n**Each camera by itself**\n", *by_kind(tests, 0.95), sep="\n")
    every = [*calibrations.values(), *tests.values()]
    print("\n**Cost**\n", *cost(every), sep="\n")
    print("\n**What the spiking net does**\n", *spikes(every), sep="\n", flush=True)
    if options.clips:
        limits = {
            name: chosen(settings, 0.95)
            for name, settings in calibrations["kinds seen in training"].items()
        }
        print("\n**Real clips**\n", *gates_clips.table(options.clips, limits), sep="\n")


if __name__ == "__main__":
    main()
