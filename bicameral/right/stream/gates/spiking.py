"""The spiking gate: events, what is unusual of them as spikes, a small net, a leaky count.

Pictures are brought down to 80 by 60 and turned into events; events of a sensor are taken as they
are. They are counted on a grid of 16 by 12 cells and `Novelty` makes spikes of what a cell does not
always do. The net (two convolutions and a linear layer, each with leaky neurons) runs event by
event; `bench/train_gate.py` trains it. A step is a fifth of a second, as in training: of quicker
pictures some are left out, quicker events are gathered. Slower sources get one step a frame.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from bicameral.engines.spike.exchange import read
from bicameral.engines.spike.execute import Count, Executor
from bicameral.errors import RequestError
from bicameral.right.spikes import Camera, Novelty, Sensor, graded, grey, pooled
from bicameral.right.stream.frame import Events, Frame
from bicameral.right.stream.gates.small import COLUMNS, HEIGHT, ROWS, STEP, WIDTH

SENSOR = Sensor(on=0.05, off=0.05)
LEAK = 0.8


def open() -> Spiking:
    """The gate with the net of this package; ConfigError if the NIR reader is not installed."""
    with resources.as_file(resources.files("bicameral.right.stream.gates") / "spiking.nir") as path:
        return Spiking(Executor(read(path)))


class Spiking:
    """Spikes of the net's output, counted with a leak of a fifth a step."""

    name = "spiking"
    threshold = 1.0

    def __init__(self, net: Executor) -> None:
        self._net = net
        self.reset()

    def reset(self) -> None:
        """The net is at rest and nothing is usual yet."""
        self._net.reset()
        self._encoder = Encoder()
        self._count = 0.0

    def score(self, frame: Frame) -> float:
        """The leaky count; between two steps it stays as it was."""
        if self._encoder.before is not None and frame.at < self._encoder.before:
            self.reset()  # the source began anew
        spikes = self._encoder.spikes(frame)
        if spikes is not None:
            self._count = LEAK * self._count + len(self._net.step(*graded(spikes)))
        return self._count

    def counts(self) -> tuple[Count, ...]:
        """What each layer of the net did since the last reset."""
        return self._net.counts()


class Encoder:
    """Frames of one source to the input spikes of the net; `before` is when it last made some."""

    def __init__(self) -> None:
        self.before: float | None = None
        self._novelty = Novelty(limit=1.5, floor=2.0)
        self._camera: Camera | None = None
        self._gathered: NDArray[np.int64] | int = 0

    def spikes(self, frame: Frame) -> NDArray[np.int64] | None:
        """Graded spikes, (2, rows, columns), or None if the next step is not due yet."""
        due = self.before is None or frame.at - self.before >= STEP
        if frame.events is not None:
            self._gathered = self._gathered + pooled(frame.events, COLUMNS, ROWS)
        elif frame.pixels is None:
            raise RequestError("the gate 'spiking' reads pictures and events alone", param="gate")
        elif due:
            self._gathered = pooled(self._seen(frame.pixels, frame.at), COLUMNS, ROWS)
        if not due:
            return None
        counts, self._gathered, self.before = np.asarray(self._gathered), 0, frame.at
        return self._novelty.spikes(counts)

    def _seen(self, pixels: NDArray[np.uint8], at: float) -> Events:
        picture = grey(pixels, WIDTH, HEIGHT)
        height, width = picture.shape
        camera = self._camera
        if camera is None or (camera.height, camera.width) != picture.shape:
            camera = self._camera = Camera(width, height, SENSOR)
        return camera.see(picture, at)
