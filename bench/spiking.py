"""The event-driven executor against spiking libraries, side by side in one run. Prints Markdown.

One thread, batch 1, the same weights and the same spikes; microseconds of processor time per step
(on an idle machine that is time; on a busy one it leaves out the turns of others), best of several
rounds in which all contenders take turns. Before anything is timed, the output spikes of each are
compared with ours; a train without one is a failure. Needs torch, snntorch, spikingjelly, norse and
sinabs beside the package; Norse is under the LGPL and stays a matter of benchmarks. The full run
takes about six minutes.

    OMP_NUM_THREADS=1 python bench/spiking.py [--rounds 7] [--steps 100]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from spiking_contenders import BATCHED, DECAY, STEPPED

from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.graph import (
    LIF,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    Net,
    SumPool2d,
    chain,
)

Layers = list[tuple[Any, ...]]
OURS = "**event-driven**"
OURS_DENSE = "event-driven, input given as dense frames"


def dense_layers(rng: np.random.Generator) -> tuple[Layers, tuple[int, ...]]:
    return [("linear", rng.normal(0.004, 0.05, (1024, 4096))), ("lif",)], (4096,)


def conv_layers(rng: np.random.Generator) -> tuple[Layers, tuple[int, ...]]:
    """Of the size used for hand-written digits and gestures seen by an event camera."""
    layers: Layers = [
        ("conv", rng.normal(0.12, 0.35, (8, 2, 3, 3))),
        ("lif",),
        ("pool", 2),
        ("conv", rng.normal(-0.02, 0.35, (16, 8, 3, 3))),
        ("lif",),
        ("pool", 2),
        ("flatten",),
        ("linear", rng.normal(0.0, 0.4, (10, 784))),
        ("lif",),
    ]
    return layers, (2, 34, 34)


def ours(layers: Layers, shape: tuple[int, ...]) -> Net:
    """The same chain for us; r = tau / dt makes the input of a neuron what its weights say."""
    chained: list[Layer] = []
    tau = 1e-4 / (1 - DECAY)
    one = np.ones(1)
    for kind, *given in layers:
        match kind:
            case "linear":
                chained.append(Linear(weight=given[0]))
            case "conv":
                chained.append(Conv2d(weight=given[0], bias=np.zeros(len(given[0]))))
            case "pool":
                chained.append(SumPool2d(kernel=(given[0],) * 2, stride=(given[0],) * 2))
            case "flatten":
                chained.append(Flatten())
            case "lif":
                cells = {"tau": tau * one, "r": tau / 1e-4 * one, "v_leak": 0 * one}
                chained.append(LIF(**cells, v_threshold=one, v_reset=0 * one))
    return chain(shape, *chained)


class Contest:
    """All contenders on one net and one train of spikes."""

    def __init__(self, layers: Layers, shape: tuple[int, ...], rate: float, steps: int) -> None:
        rng = np.random.default_rng(int(rate * 1e6))
        spikes = rng.random((steps, *shape)) < rate
        self.executor = Executor(ours(layers, shape))
        self.indices = [np.flatnonzero(now) for now in spikes]
        self.flat = spikes.reshape(steps, -1)
        window = torch.from_numpy(spikes.astype(np.float32))
        self.steps = steps
        self.runs: dict[str, Callable[[], Any]] = {}
        for name, build in STEPPED.items():
            self._add(f"{name}, step by step", build(layers), window)
        for name, build in BATCHED.items():
            self._add(f"{name}, batched over time", build(layers), window)
        self.runs[OURS] = self._ours
        self.runs[OURS_DENSE] = self._ours_dense

    def _add(self, name: str, run: Callable[[Any], Any], window: torch.Tensor) -> None:
        self.runs[name] = lambda: run(window)

    def _ours(self) -> list[np.ndarray]:
        self.executor.reset()
        return self.executor.run(self.indices)

    def _ours_dense(self) -> list[np.ndarray]:
        self.executor.reset()
        return [self.executor.step(np.flatnonzero(now)) for now in self.flat]

    def agreement(self) -> tuple[int, dict[str, int]]:
        """Our output spikes, and how many of the output differ for each contender."""
        expected = np.zeros((self.steps, self.executor.outputs), dtype=bool)
        for now, fired in zip(expected, self._ours(), strict=True):
            now[fired] = True
        differ = {}
        for name, run in self.runs.items():
            if name not in (OURS, OURS_DENSE):
                out = run().reshape(self.steps, -1).numpy() > 0
                differ[name] = int((out != expected).sum())
        return int(expected.sum()), differ

    def time(self, rounds: int) -> dict[str, float]:
        """Microseconds of processor time per step, the best of the rounds."""
        best = dict.fromkeys(self.runs, math.inf)
        for _ in range(rounds):
            for name, run in self.runs.items():
                began = time.process_time()
                run()
                best[name] = min(best[name], time.process_time() - began)
        return {name: seconds / self.steps * 1e6 for name, seconds in best.items()}


def table(
    title: str,
    make: Callable[[np.random.Generator], tuple[Layers, tuple[int, ...]]],
    rates: list[float],
    args: argparse.Namespace,
) -> None:
    layers, shape = make(np.random.default_rng(0))
    columns: list[dict[str, float]] = []
    notes: list[str] = []
    for rate in rates:
        contest = Contest(layers, shape, rate, args.steps)
        with contextlib.redirect_stdout(None):
            fired, differ = contest.agreement()
        if not fired:
            raise SystemExit(f"{title} at {rate:.1%}: no output spike, so nothing was compared")
        wrong = ", ".join(f"{name.split(',')[0]} {n}" for name, n in differ.items() if n)
        contest.executor.reset()
        contest.executor.run(contest.indices)
        inner = [c.activity for c in contest.executor.counts() if c.dense]
        share = sum(c.synops for c in contest.executor.counts()) / sum(
            c.dense for c in contest.executor.counts()
        )
        notes.append(
            f"{rate:.1%} in: activity at the layers with weights "
            f"{', '.join(f'{a:.2%}' for a in inner)}; {share:.2%} of the dense operations; {fired} "
            f"output spikes, those that differ from ours: {wrong or 'none'}"
        )
        columns.append(contest.time(args.rounds))
    report(title, rates, columns, notes)


def report(
    title: str, rates: list[float], columns: list[dict[str, float]], notes: list[str]
) -> None:
    print(f"\n### {title}\n")
    print("| processor us per step |" + "|".join(f" {r:.1%} " for r in rates) + "|")
    print("|---" * (len(rates) + 1) + "|")
    for name in columns[0]:
        print(f"| {name} |" + "|".join(f" {c[name]:.0f} " for c in columns) + "|")
    for label, kind in (("step by step", STEPPED), ("batched over time", BATCHED)):
        names = [f"{name}, {label}" for name in kind]
        best = [min(c[name] for name in names) for c in columns]
        ratios = [b / c[OURS] for b, c in zip(best, columns, strict=True)]
        print(f"| best {label} / event-driven |" + "|".join(f" {r:.1f}x " for r in ratios) + "|")
        print_break_even(label, rates, ratios, notes)
    print("\n" + "\n".join(f"- {note}" for note in notes))


def print_break_even(label: str, rates: list[float], ratios: list[float], notes: list[str]) -> None:
    """Where the ratio crosses 1, on a line between the logarithms of neighbours."""
    for (r0, a), (r1, b) in zip(
        zip(rates[:-1], ratios[:-1], strict=True),
        zip(rates[1:], ratios[1:], strict=True),
        strict=True,
    ):
        if a >= 1 > b:
            share = math.log(a) / (math.log(a) - math.log(b))
            cross = math.exp(math.log(r0) + share * (math.log(r1) - math.log(r0)))
            notes.append(f"break-even against {label}: {cross:.1%} activity")
            return
    where = "below all of these" if ratios[0] < 1 else "above all of these"
    notes.append(f"break-even against {label}: {where}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rates = [0.001, 0.01, 0.05, 0.1, 0.2, 0.5]
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, one thread, batch 1, "
        f"{args.steps} steps, best of {args.rounds}"
    )
    table("4096 -> 1024 LIF", dense_layers, rates, args)
    table("2x34x34, two convolutions, 10 outputs", conv_layers, rates, args)


if __name__ == "__main__":
    main()
