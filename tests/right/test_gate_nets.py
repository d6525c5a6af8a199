"""The gates that ship with trained nets wake for what is new and refuse what they cannot read."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from importlib import resources

import numpy as np
import pytest

from bicameral.errors import RequestError
from bicameral.right.spikes import Camera, grey
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.gates import Gate, open_gate

FOLDER = resources.files("bicameral.right.stream.gates")
QUIET, BUSY = 100, 25  # frames


@pytest.fixture(
    params=[
        "small",
        pytest.param(
            "spiking",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("nir") is None,
                reason="nir is not installed: pip install 'bicameral[spiking]'",
            ),
        ),
    ]
)
def gate(request) -> Gate:
    return open_gate(request.param)


spiking_only = pytest.mark.parametrize("gate", ["spiking"], indirect=True)


def pictures(seed: int = 0, size: tuple[int, int] = (120, 160)) -> Iterator[np.ndarray]:
    """A noisy still scene; then a bright box crosses it."""
    chance = np.random.default_rng(seed)
    scene = chance.uniform(60, 140, (size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1)
    for index in range(QUIET + BUSY):
        image = scene + chance.normal(0, 1.5, scene.shape)
        if index >= QUIET:
            left = (index - QUIET) * 6
            image[40:70, left : left + 20] = 210
        yield np.repeat(np.clip(image, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def frames(*, seed: int = 0, every: float = 0.2, start: float = 0.0) -> Iterator[Frame]:
    for index, pixels in enumerate(pictures(seed)):
        yield Frame(index=index, at=start + index * every, pixels=pixels)


def as_events(make: Callable[[], Iterator[Frame]], sensor) -> Iterator[Frame]:
    camera = Camera(80, 60, sensor)
    for frame in make():
        events = camera.see(grey(frame.pixels, 80, 60), frame.at)
        yield Frame(index=frame.index, at=frame.at, events=events)


def scores(gate: Gate, source: Iterator[Frame]) -> np.ndarray:
    return np.array([gate.score(frame) for frame in source])


def test_an_object_scores_far_above_noise(gate):
    got = scores(gate, frames())
    assert np.isfinite(got).all()
    assert (got >= 0).all()
    assert got[0] == 0
    assert got[QUIET + 2 :].max() >= gate.threshold
    assert got[20:QUIET].max() < gate.threshold


def test_another_scene_after_a_reset_is_judged_afresh(gate):
    first = scores(gate, frames(seed=1))
    gate.reset()
    assert scores(gate, frames(seed=1)).tolist() == first.tolist()


def test_the_clock_of_a_source_may_begin_anew_or_stand_still(gate):
    scores(gate, frames(start=1000.0))
    later = scores(gate, frames(start=0.0))
    assert np.isfinite(later).all()
    frozen = next(frames())
    assert all(np.isfinite(gate.score(frozen)) for _ in range(5))


def test_a_black_or_frozen_picture_is_quiet_and_a_new_size_is_taken(gate):
    black = [np.zeros((120, 160, 3), np.uint8)] * 40
    tiny = [np.full((7, 5, 3), 90, np.uint8)] * 40
    source = (Frame(index=i, at=i * 0.2, pixels=p) for i, p in enumerate([*black, *tiny]))
    assert scores(gate, source).max() < gate.threshold


def test_sound_is_refused(gate):
    sound = Frame(index=0, at=0.0, samples=np.zeros(160, np.float32))
    with pytest.raises(RequestError) as refused:
        gate.score(sound)
    assert refused.value.param == "gate"


def test_the_small_net_refuses_events_by_name():
    from bicameral.right.stream.gates.spiking import SENSOR

    frame = next(as_events(frames, SENSOR))
    with pytest.raises(RequestError, match="spiking"):
        open_gate("small").score(frame)


@spiking_only
def test_events_of_a_sensor_score_as_the_pictures_they_came_from(gate):
    from bicameral.right.stream.gates.spiking import SENSOR

    from_pictures = scores(gate, frames())
    gate.reset()
    from_events = scores(gate, as_events(frames, SENSOR))
    assert from_events.tolist() == from_pictures.tolist()
    assert from_events.max() > 0


@spiking_only
def test_a_quicker_source_is_not_stepped_more_often(gate):
    scores(gate, frames(every=1 / 30))
    steps = gate.counts()[0].steps
    assert 0.8 * (QUIET + BUSY) / 6 < steps < 1.2 * (QUIET + BUSY) / 6


@spiking_only
def test_the_net_gives_the_spikes_of_the_reference(gate):
    from pathlib import Path

    from bicameral.engines.spike.exchange import read
    from bicameral.engines.spike.execute import Executor
    from bicameral.engines.spike.reference import simulate
    from bicameral.right.spikes import graded
    from bicameral.right.stream.gates.spiking import Encoder

    encoder = Encoder()
    counts = [encoder.spikes(frame) for frame in frames()]
    net = read(Path(str(FOLDER / "spiking.nir")))
    run = Executor(net)
    reference = simulate(net, np.array([c.ravel() for c in counts]))
    assert reference.sum() > 0
    for given, expected in zip(counts, reference, strict=True):
        assert run.step(*graded(given)).tolist() == np.flatnonzero(expected).tolist()


def test_the_weights_that_ship_are_small():
    for name in ("small.npz", "spiking.nir"):
        assert 0 < len((FOLDER / name).read_bytes()) < 60_000
