"""Train the two small gates that ship, from nothing, on scenes made here.

    OMP_NUM_THREADS=1 python bench/train_gate.py

writes spiking.nir and small.npz beside the gates. Seeds are fixed; the data are streams of kinds
TRAINED in bench/scenes.py with training digits (training seeds below 100, validation 100 to
199). The kinds held out, the test digits and the seeds of bench/gates.py are not seen here. The
validation figures are only printed: the weights of the last step are kept.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gates_net
import numpy as np
import scenes
from gates_net import Adam, Array
from numpy.typing import NDArray

from bicameral.right import spikes
from bicameral.right.stream import gates
from bicameral.right.stream.gates import small, spiking

GATES = Path(gates.__file__).parent
WINDOW, WARM = 50, 10  # steps of a training sequence; of these the first only fill the state


class Recorded:
    """What the gates see of some streams: per frame the spikes, the features, the label."""

    def __init__(self, seeds: range, seconds: float, gap: float) -> None:
        streams = [scenes.Stream(k, s, seconds, gap=gap) for k in scenes.TRAINED for s in seeds]
        self.truth = [stream.truth for stream in streams]
        self.labels = np.stack([stream.moving() for stream in streams])
        seen = [self._seen(stream) for stream in streams]
        self.spikes = np.stack([grid for grid, _ in seen])
        self.features = np.stack([features for _, features in seen])

    @staticmethod
    def _seen(stream: scenes.Stream) -> tuple[NDArray[np.uint8], Array]:
        encoder, features = spiking.Encoder(), small.Features()
        grids, rows, width = [], [], 0
        for frame in stream.frames():
            grids.append(encoder.spikes(frame).astype(np.uint8))
            row = features.of(spikes.grey(frame.pixels, small.WIDTH, small.HEIGHT))
            rows.append(row)
            width = 0 if row is None else len(row)
        empty = np.zeros(width, np.float32)
        return np.stack(grids), np.stack([empty if row is None else row for row in rows])


def judged(scores: Array, recorded: Recorded, recall: float) -> float:
    """Share of the frames without any event that score as high as `recall` of the events do."""
    best = []
    for row, truth in zip(scores, recorded.truth, strict=True):
        for event in truth:
            first, last = round(event.start * scenes.FPS), round(event.end * scenes.FPS)
            best.append(row[first : last + scenes.FPS].max())
    threshold = np.sort(best)[int(len(best) * (1 - recall))]
    quiet = recorded.labels == 0
    quiet[:, : int(scenes.QUIET_START) * scenes.FPS] = False
    return float((scores[quiet] >= threshold).mean())


def train_spiking(data: Recorded, held: Recorded, steps: int, batch: int) -> gates_net.Net:
    rng, net = np.random.default_rng(1), gates_net.fresh(1)
    values = {**net.weights, "gain": np.float32([0.5]), "bias": np.float32([-1.5])}
    adam = Adam(values, lambda step: 0.012 * min(1.0, 2 * (1 - step / (steps + 1))))
    net.weights = values
    began = time.monotonic()
    for step in range(1, steps + 1):
        x, label = windows(rng, data, batch)
        count, kept = net.forward(x)
        known = label >= 0
        known[:, :WARM] = False
        logit = values["gain"] * count + values["bias"]
        error = (1 / (1 + np.exp(-logit)) - label) * known / known.sum()
        hidden = kept["s1"].mean() + kept["s2"].mean()
        cost = np.float32(2e-3 / kept["s1"].size)
        gradients = net.backward((error * values["gain"]).astype(np.float32), kept, cost)
        gradients["gain"] = np.float32([(error * count).sum()])
        gradients["bias"] = np.float32([error.sum()])
        adam.update(gradients)
        if step % 400 == 0 or step == steps:
            scores = np.concatenate([net.forward(row[None])[0] for row in floats(held)])
            alarms = [f"{judged(scores, held, recall):.4f}" for recall in (0.9, 0.95, 0.99)]
            print(
                f"step {step}: {time.monotonic() - began:.0f} s, hidden spikes {hidden:.4f}, "
                f"false frames at recall 0.9/0.95/0.99 {' '.join(alarms)}",
                flush=True,
            )
    return net


def floats(recorded: Recorded) -> list[Array]:
    return [np.moveaxis(row, 1, -1).astype(np.float32) for row in recorded.spikes]


def windows(rng: np.random.Generator, data: Recorded, batch: int) -> tuple[Array, Array]:
    """Random stretches of random streams, mirrored at random; half of them end in an event."""
    streams = rng.integers(len(data.labels), size=batch)
    starts = rng.integers(0, data.labels.shape[1] - WINDOW, size=batch)
    for index in range(0, batch, 2):
        busy = np.flatnonzero(data.labels[streams[index], WINDOW:] == 1)
        if len(busy):
            starts[index] = min(
                rng.choice(busy) + rng.integers(0, 20), data.labels.shape[1] - WINDOW
            )
    pick = [slice(start, start + WINDOW) for start in starts]
    x = np.stack([data.spikes[s, p] for s, p in zip(streams, pick, strict=True)])
    label = np.stack([data.labels[s, p] for s, p in zip(streams, pick, strict=True)])
    x = np.moveaxis(x, 2, -1)
    for axis in (2, 3, 4):
        x = np.flip(x, axis) if rng.random() < 0.5 else x
    return x.astype(np.float32), label.astype(np.float32)


def train_small(data: Recorded, held: Recorded, steps: int) -> dict[str, Array]:
    """One hidden layer of 16, by Adam on the logistic loss."""
    rng = np.random.default_rng(2)
    known = data.labels >= 0
    known[:, :50] = False
    x, y = data.features[known], data.labels[known].astype(np.float32)
    mean, scale = x.mean(0), x.std(0) + 1e-3
    x, inputs = (x - mean) / scale, x.shape[1]
    values = {
        "hidden": (rng.standard_normal((inputs, 16)) / np.sqrt(inputs)).astype(np.float32),
        "hidden_bias": np.zeros(16, np.float32),
        "out": (rng.standard_normal(16) / 4).astype(np.float32),
        "out_bias": np.zeros((), np.float32),
    }
    adam = Adam(values, lambda step: 5e-3 * (1 - step / (steps + 1)))
    for _ in range(steps):
        rows = rng.integers(0, len(x), 512)
        hidden = np.tanh(x[rows] @ values["hidden"] + values["hidden_bias"])
        logit = hidden @ values["out"] + values["out_bias"]
        error = (1 / (1 + np.exp(-logit)) - y[rows]) / len(rows)
        back = np.outer(error, values["out"]) * (1 - hidden**2)
        adam.update(
            {
                "hidden": x[rows].T @ back,
                "hidden_bias": back.sum(0),
                "out": hidden.T @ error,
                "out_bias": np.asarray(error.sum(), np.float32),
            }
        )
    weights = {**values, "mean": mean, "scale": scale}
    hidden = np.tanh((held.features - mean) / scale @ values["hidden"] + values["hidden_bias"])
    scores = hidden @ values["out"] + values["out_bias"]
    alarms = [f"{judged(scores, held, recall):.4f}" for recall in (0.9, 0.95, 0.99)]
    print(f"small net: false frames at recall 0.9/0.95/0.99 {' '.join(alarms)}", flush=True)
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=2, help="training streams of each kind")
    parser.add_argument("--seconds", type=float, default=1200, help="length of each")
    parser.add_argument("--steps", type=int, default=1200, help="of the spiking net")
    parser.add_argument("--to", type=Path, default=GATES, help="folder of the weights")
    options = parser.parse_args()
    began = time.monotonic()
    data = Recorded(range(options.streams), options.seconds, gap=15)
    held = Recorded(range(100, 101), options.seconds, gap=25)
    print(f"{data.labels.size} frames made in {time.monotonic() - began:.0f} s", flush=True)
    np.savez(options.to / "small.npz", **train_small(data, held, 6000))
    net = train_spiking(data, held, options.steps, batch=12)
    gates_net.write(net, options.to / "spiking.nir")


if __name__ == "__main__":
    main()
