"""Runs gates over streams and keeps every score, so that thresholds are set afterwards."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scenes
from numpy.typing import NDArray

from bicameral.right.spikes import Novelty, grey
from bicameral.right.stream.gates import Gate, open_gate, small

GRACE = 1.0  # an alarm this long after an event still counts for it
COOL_DOWN = 1.0  # at most one call a second, for every gate


class Unusual:
    """Frame difference on the grid with `Novelty`, but no net: what the net adds is measured."""

    name = "unusual difference"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._novelty = Novelty()

    def score(self, frame: scenes.Frame) -> float:
        picture = grey(frame.pixels, small.WIDTH, small.HEIGHT)
        before, self._before = self._before, picture
        if before is None:
            return 0.0
        excess = self._novelty.excess(small.cells(np.abs(picture - before)))
        return max(0.0, float(small.area(excess).max()))


# Of two settings the one with fewer calls on the calibration streams is taken. Block motion takes
# eight times as long as any other, so it has one: its default of 3.0 misses faint objects.
ARMS: dict[str, tuple[Callable[[], Gate], ...]] = {
    "none": (partial(open_gate, "none"),),
    "frame difference": tuple(partial(open_gate, "difference", contrast=c) for c in (8.0, 20.0)),
    "block motion": (partial(open_gate, "motion", contrast=1.5),),
    "unusual difference": (Unusual,),
    "small net": (partial(open_gate, "small"),),
    "spiking net": (partial(open_gate, "spiking"),),
}


@dataclass(frozen=True)
class Run:
    """One gate with one setting on one stream: all its scores and what they cost."""

    stream: scenes.Stream
    scores: NDArray[np.float64]
    cpu: float
    counts: tuple = ()

    @property
    def hours(self) -> float:
        return (len(self.scores) / scenes.FPS - scenes.QUIET_START) / 3600


def run(stream: scenes.Stream, arms: dict[str, tuple], kept: Path | None) -> dict[str, list[Run]]:
    """All gates side by side on one pass over the stream; each is timed by its own CPU time.

    What the folder `kept` already holds of this stream is not run again.
    """
    names = [(name, index) for name, makes in arms.items() for index in range(len(makes))]
    files = [_file(kept, stream, *each) for each in names]
    todo = [i for i, file in enumerate(files) if not (file and file.exists())]
    gates = [arms[names[i][0]][names[i][1]]() for i in todo]
    scores, cpu = np.zeros((len(gates), stream.frames_total)), np.zeros(len(gates))
    for frame in stream.frames() if gates else ():
        for index, gate in enumerate(gates):
            began = time.thread_time()
            scores[index, frame.index] = gate.score(frame)
            cpu[index] += time.thread_time() - began
    counts = [gate.counts() if hasattr(gate, "counts") else () for gate in gates]
    made = dict(zip(todo, zip(scores, cpu, counts, strict=True), strict=True))
    found: dict[str, list[Run]] = {name: [] for name in arms}
    for index, ((name, _), file) in enumerate(zip(names, files, strict=True)):
        if index in made and file:
            file.write_bytes(pickle.dumps(made[index]))
        # Only ever what an earlier run of this script wrote.
        values = made[index] if index in made else pickle.loads(file.read_bytes())
        found[name].append(Run(stream, *values))
    return found


def _file(kept: Path | None, stream: scenes.Stream, name: str, setting: int) -> Path | None:
    where = f"{stream.kind}-{stream.seed}-{stream.seconds:g}-{name.replace(' ', '_')}-{setting}"
    return kept / where if kept else None


@dataclass(frozen=True)
class Result:
    """What a threshold gives on some streams."""

    events: int
    found: int
    calls: int
    idle_calls: int
    hours: float
    delays: NDArray[np.float64]

    @property
    def recall(self) -> float:
        return self.found / self.events

    @property
    def per_hour(self) -> float:
        return self.calls / self.hours


def windows(stream: scenes.Stream) -> Iterator[tuple[int, int]]:
    """First frame of each event and the first frame too late for it."""
    for event in stream.truth:
        yield round(event.start * scenes.FPS), round((event.end + GRACE) * scenes.FPS) + 1


def threshold(runs: list[Run], recall: float) -> float:
    """The highest that still finds that share of the events."""
    best = [run.scores[a:b].max() for run in runs for a, b in windows(run.stream)]
    best.sort(reverse=True)
    return float(best[math.ceil(recall * len(best)) - 1])


def calls(scores: NDArray[np.float64], limit: float) -> NDArray[np.int64]:
    """Frames that wake the reasoning: at or above the limit and not within the cool-down."""
    gap, made, next_free = round(COOL_DOWN * scenes.FPS), [], int(scenes.QUIET_START) * scenes.FPS
    for index in np.flatnonzero(scores >= limit):
        if index >= next_free:
            made.append(index)
            next_free = index + gap
    return np.array(made, np.int64)


def judged(runs: list[Run], limit: float) -> Result:
    events, found, total, idle, delays = 0, 0, 0, 0, []
    for run in runs:
        made = calls(run.scores, limit)
        total += len(made)
        busy = np.zeros(len(run.scores) + scenes.FPS * 2, bool)
        for first, last in windows(run.stream):
            busy[first:last] = True
            events += 1
            inside = made[(made >= first) & (made < last)]
            if len(inside):
                found += 1
                delays.append((inside[0] - first) / scenes.FPS)
        idle += int((~busy[made]).sum())
    hours = sum(run.hours for run in runs)
    return Result(events, found, total, idle, hours, np.array(delays))


def wilson(found: int, events: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, found / events
    middle = share + z * z / (2 * events)
    half = z * math.sqrt(share * (1 - share) / events + z * z / (4 * events**2))
    return (middle - half) / (1 + z * z / events), (middle + half) / (1 + z * z / events)
