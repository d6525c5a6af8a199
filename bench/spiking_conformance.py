"""Does a NIR file mean the same to every library? Prints Markdown.

Each net is written twice: as it is, and in the portable dialect. Each library runs both on the
same spikes; its output is compared, spike for spike, with the plain reference simulator. A train
without a spike is a failure, never agreement. Needs snntorch, spikingjelly and norse; no product
code imports them. About a minute.

    python bench/spiking_conformance.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from spiking_readers import READERS, Reader

from bicameral.engines.spike.exchange import write
from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.graph import (
    IF,
    LIF,
    Conv2d,
    CubaLIF,
    Delay,
    Flatten,
    Layer,
    Linear,
    Net,
    SumPool2d,
    arrange,
    chain,
)
from bicameral.engines.spike.portable import portable
from bicameral.engines.spike.reference import simulate
from bicameral.engines.spike.steps import normalise


def neurons(size, kind=LIF, **changed) -> Layer:
    usual = {
        LIF: {"tau": 2e-3, "r": 1, "v_leak": 0, "v_threshold": 1, "v_reset": 0},
        IF: {"r": 1e4, "v_threshold": 1, "v_reset": 0},
        CubaLIF: {
            "tau_syn": 1e-3,
            "tau_mem": 2e-3,
            "r": 20,
            "v_leak": 0,
            "v_threshold": 1,
            "v_reset": 0,
            "w_in": 10,
        },
    }[kind]
    values = usual | changed
    return kind(**{k: np.zeros(size) + np.asarray(v, dtype=float) for k, v in values.items()})


def two_layers(scale: float, kind=LIF, **changed) -> Net:
    """64 -> 32 -> 10."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.02, 0.25, (32, 64)), rng.normal(0.05, 0.35, (10, 32))
    cells = [neurons(size, kind, **changed) for size in (32, 10)]
    return chain((64,), Linear(weight=a * scale), cells[0], Linear(weight=b * scale), cells[1])


def convolutional(groups: int) -> Net:
    rng = np.random.default_rng(5)
    return chain(
        (2, 16, 16),
        Conv2d(weight=rng.normal(1, 6, (4, 2, 3, 3)), bias=np.zeros(4), padding=(1, 1)),
        neurons((4, 16, 16)),
        SumPool2d(kernel=(2, 2), stride=(2, 2)),
        Conv2d(
            weight=rng.normal(1, 6, (8, 4 // groups, 3, 3)),
            bias=rng.normal(0, 0.4, 8),
            padding=(1, 1),
            groups=groups,
        ),
        neurons((8, 8, 8)),
        Flatten(),
        Linear(weight=rng.normal(0.1, 1, (10, 512))),
        neurons(10),
    )


def looped() -> Net:
    rng = np.random.default_rng(6)
    layers: dict[str, Layer] = {
        "in": Linear(weight=rng.normal(0.5, 4, (32, 64))),
        "cells": neurons(32),
        "back": Linear(weight=rng.normal(0, 3, (32, 32))),
    }
    edges = [("input", "in"), ("in", "cells"), ("cells", "back"), ("back", "cells")]
    return arrange(layers, edges, input="input", input_shape=(64,), output="cells")


def delayed() -> Net:
    rng = np.random.default_rng(7)
    lag = Delay(delay=rng.integers(0, 9, 64) * 1e-4)
    return chain((64,), lag, Linear(weight=rng.normal(0.5, 4, (10, 64))), neurons(10))


# What the file says, the net, and the step in seconds that its author had in mind.
CASES: list[tuple[str, Net, float]] = [
    ("LIF, r = 1, weights x 20", two_layers(20), 1e-4),
    ("LIF, r = 20 = tau/dt", two_layers(1, r=20), 1e-4),
    ("LIF, r = 7", two_layers(3, r=7), 1e-4),
    ("LIF meant for dt = 1 ms", two_layers(2), 1e-3),
    ("LIF, v_leak = v_reset = 0.2", two_layers(18, v_leak=0.2, v_reset=0.2), 1e-4),
    ("LIF, v_reset = -0.3", two_layers(20, v_reset=-0.3), 1e-4),
    ("LIF, tau 1-3 ms in a layer", two_layers(20, tau=2e-3), 1e-4),
    ("IF, r = 1/dt", two_layers(0.5, IF), 1e-4),
    ("IF, r = 1", two_layers(5e3, IF, r=1), 1e-4),
    ("CubaLIF, r = tau/dt", two_layers(0.3, CubaLIF), 1e-4),
    ("CubaLIF, r = w_in = 1", two_layers(60, CubaLIF, r=1, w_in=1), 1e-4),
    ("Conv2d, SumPool2d, Flatten", convolutional(1), 1e-4),
    ("Conv2d with groups", convolutional(2), 1e-4),
    ("recurrent LIF", looped(), 1e-4),
    ("Delay", delayed(), 1e-4),
]


def uneven(net: Net) -> Net:
    """The same net with time constants from 1 to 3 ms in each layer."""
    layers = []
    for node in net.nodes:
        if isinstance(node.layer, LIF):
            size = node.shape[0]
            layers.append(neurons(size, tau=np.linspace(1e-3, 3e-3, size)))
        else:
            layers.append(node.layer)
    return chain(net.input_shape, *layers)


CASES = [(name, uneven(net) if "1-3" in name else net, dt) for name, net, dt in CASES]


def verdict(read: Reader, path: Path, spikes: np.ndarray, net: Net, expected: np.ndarray) -> str:
    """Spikes that differ from the reference, of how many; or what the library said."""
    try:
        out = read(path, spikes, net.input_shape)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        text = " ".join(str(error).split()).replace("|", "/")
        return f"{type(error).__name__}: {text[:40]}"
    wrong = int((out != expected).sum()) if out.shape == expected.shape else -1
    if not out.any():
        return "**0 spikes**, no error"
    return "equal" if wrong == 0 else f"**{wrong} differ**"


def own(path: Path, spikes: np.ndarray, _: tuple[int, ...], dt: float = 1e-4) -> np.ndarray:
    from bicameral.engines.spike.exchange import read

    run = Executor(read(path), dt=dt)
    out = np.zeros((len(spikes), run.outputs))
    for now, given in zip(out, spikes, strict=True):
        now[run.step(np.flatnonzero(given))] = 1
    return out


def rows(steps: int, rate: float, folder: Path) -> list[list[str]]:
    table = []
    rng = np.random.default_rng(0)
    for name, net, dt in CASES:
        spikes = rng.random((steps, net.inputs)) < rate
        expected = simulate(net, spikes, dt)
        if not expected.any():
            raise SystemExit(f"{name}: the reference is silent, which proves nothing")
        plain, even = folder / "plain.nir", folder / "portable.nir"
        write(net, plain)
        write(portable(normalise(net, dt)), even)
        row = [name, str(int(expected.sum()))]
        row.append(verdict(lambda *a, dt=dt: own(*a, dt=dt), plain, spikes, net, expected))
        row.append(verdict(own, even, spikes, net, expected))
        for read in READERS.values():
            row += [verdict(read, path, spikes, net, expected) for path in (plain, even)]
        table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=0.1)
    args = parser.parse_args()
    heads = ["file says", "spikes"]
    for name in ("Bicameral", *READERS):
        heads += [f"{name}, as is", f"{name}, normalised"]
    with tempfile.TemporaryDirectory() as folder:
        table = rows(args.steps, args.rate, Path(folder))
    print("|" + "|".join(heads) + "|\n" + "|---" * len(heads) + "|")
    for row in table:
        print("|" + "|".join(row) + "|")


if __name__ == "__main__":
    main()
