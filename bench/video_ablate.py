"""One choice of the design changed at a time, everything else equal; used by bench/video.py.

The losses of different objectives are not comparable with one another; the scores are.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from msgspec.structs import asdict, replace
from torch.func import functional_call
from video_speed import flops

from bicameral.engines.vdt.codec import Pixels
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.learn.clips import Shape
from bicameral.engines.vdt.learn.sources import opened
from bicameral.engines.vdt.learn.train import Schedule, Trainer
from bicameral.engines.vdt.load import Loaded
from bicameral.engines.vdt.score.samples import Way
from bicameral.engines.vdt.score.seven import EACH, MEAN, MODEL, ONE, Result
from bicameral.engines.vdt.score.whole import Wanted, examine

TASKS = ("predict", "interpolate")
REFERENCE = Design(
    kind="modern",
    frames=8,
    height=32,
    width=32,
    patch=8,
    depth=4,
    dim=96,
    heads=2,
    predicts="clean",
    shift=4.0,
)
FAITHFUL = replace(REFERENCE, kind="faithful", predicts="velocity", shift=1.0)
MUON = 0.02
CONTENDERS: dict[str, tuple[Design, dict[str, Any]]] = {
    "the reference: modern, unified, tokens, time then space, clean, Muon": (REFERENCE, {}),
    "single task: predict only": (REFERENCE, {"tasks": "predict"}),
    "told by adaptive norm, not by tokens": (replace(REFERENCE, condition="adaln"), {}),
    "attention over all tokens": (replace(REFERENCE, attention="full"), {}),
    "predicts the velocity": (replace(REFERENCE, predicts="velocity"), {}),
    "AdamW alone": (REFERENCE, {"muon": 0.0}),
    "faithful: the paper's net, noise in 1000 steps": (FAITHFUL, {}),
}


def ablations(
    steps: int, batch: int, clips: int, way: Way, seeds: int, rate: float, only: str = ""
) -> str:
    """Each contender trained by the same seeds, data and steps, and scored, as Markdown.

    `only` those whose name has it.
    """
    head = ["net", "parameters", "GFLOP", "CPU s", "own loss"]
    head += [f"{task}: {what}" for task in TASKS for what in ("one", "mean", "units", "lost %")]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    floors: dict[str, dict[str, float]] = {}
    for name, (design, more) in CONTENDERS.items():
        if only not in name:
            continue
        rows = []
        for seed in range(seeds):
            usual = {"rate": rate, "muon": MUON, "precision": "bfloat16", "warm": steps // 6}
            schedule = Schedule(
                steps=steps, batch=batch, ema=0.99, seed=seed, decay=0.5, **{**usual, **more}
            )
            loaded, told = _trained(design, schedule)
            wanted = Wanted(data="balls:box", clips=clips, tasks=TASKS, beyond=False, longer=False)
            scores, _ = examine(loaded, wanted, way, lambda *each: None)
            rows.append([*told, *(n for r in scores.results for n in _numbers(r))])
            floors = {r.task: _floors(r) for r in scores.results}
            print(f"{name}, seed {seed}: {rows[-1]}", file=sys.stderr, flush=True)
        cells = [_cell([row[at] for row in rows]) for at in range(len(rows[0]))]
        lines.append(
            f"| {name} | {_count(design):,} | {flops(design) / 1e9:.3f} | "
            + " | ".join(cells)
            + " |"
        )
    for task, found in floors.items():
        told = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        lines.append(f"\nFloors of {task}, MSE: {told}.")
    return "\n".join(lines)


def _trained(design: Design, schedule: Schedule) -> tuple[Loaded, list[float]]:
    shape = Shape(frames=design.frames, height=design.height, width=design.width, channels=3)
    trainer = Trainer(design, schedule, opened("balls:box").within(shape), Pixels())
    began = time.process_time()
    losses = [trainer.step() for _ in range(schedule.steps)]
    took = time.process_time() - began

    def net(*inputs: Any) -> Any:
        return functional_call(trainer.net, trainer.average, inputs)

    half = schedule.precision == "bfloat16"
    tail = losses[-max(1, len(losses) // 10) :]
    loaded = Loaded(design, net, Pixels(), torch.device("cpu"), half)  # type: ignore[arg-type]
    return loaded, [took, sum(tail) / len(tail)]


def _numbers(result: Result) -> list[float]:
    motion = result.motion[EACH]
    lost = 100 * (motion["lost"] or 0) / max(1, motion["due"] or 0)
    far = motion["position"]
    return [
        result.scores[ONE].mse,
        result.scores[MEAN].mse,
        float("nan") if far is None else far,
        lost,
    ]


def _floors(result: Result) -> dict[str, float]:
    return {n: asdict(s)["mse"] for n, s in result.scores.items() if n not in MODEL}


def _count(design: Design) -> int:
    from bicameral.engines.vdt.network import build

    return sum(p.numel() for p in build(design).parameters())


def _cell(values: list[float]) -> str:
    low, high = min(values), max(values)
    middle = sum(values) / len(values)
    return f"{middle:.2f}" if len(values) == 1 else f"{middle:.2f} [{low:.2f}, {high:.2f}]"
