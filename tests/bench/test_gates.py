"""The benchmark of gates and the training of the spiking one: arithmetic, gradients, the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
DATA = Path(os.environ.get("BICAMERAL_DATA", BENCH.parents[1] / "shared" / "data"))
needs_digits = pytest.mark.skipif(
    not (DATA / "mnist" / "mnist10k.npz").is_file(), reason="BICAMERAL_DATA names no mnist"
)


@pytest.fixture
def streams(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import gates_streams

    return gates_streams


@pytest.fixture
def net(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import gates_net

    return gates_net


class Scene:
    """A stream of 100 s with two events, at 40 s and at 60 s, of two seconds each."""

    def __init__(self, streams) -> None:
        event = streams.scenes.Event
        self.truth = [event(40.0, 42.0, "box"), event(60.0, 62.0, "box")]


@pytest.fixture
def scored(streams):
    scores = np.zeros(500)
    scores[205] = 0.9  # in the first event
    scores[314] = 0.4  # in the second, its last moment of grace is frame 315
    scores[250:260] = 0.5  # nothing is there
    scores[10] = 1.0  # before anything counts
    return [streams.Run(Scene(streams), scores, 0.0)]


def test_the_threshold_is_the_highest_that_finds_as_many(streams, scored):
    assert streams.threshold(scored, 0.5) == 0.9
    assert streams.threshold(scored, 0.95) == 0.4


def test_calls_delays_and_misses_are_counted(streams, scored):
    got = streams.judged(scored, 0.5)
    assert (got.found, got.events, got.calls, got.idle_calls) == (1, 2, 3, 2)
    assert got.delays.tolist() == [1.0]
    assert got.hours == pytest.approx(70 / 3600)
    got = streams.judged(scored, 0.4)
    assert (got.found, got.calls, got.idle_calls) == (2, 4, 2)
    assert got.delays.tolist() == [1.0, 2.8]


def test_at_most_one_call_a_second_and_none_before_the_first_event_may_come(streams):
    made = streams.calls(np.ones(500), 0.5)
    assert made[0] == 150
    assert set(np.diff(made)) == {5}


def test_the_interval_of_a_share_holds_it_and_shrinks(streams):
    low, high = streams.wilson(95, 100)
    assert (round(low, 3), round(high, 3)) == (0.888, 0.978)
    wide, narrow = (np.diff(streams.wilson(n * 95, n * 100))[0] for n in (1, 10))
    assert narrow < wide / 2


@needs_digits
@pytest.mark.parametrize("kind", ["quiet", "leaves", "lamp"])
def test_a_stream_is_the_same_for_a_seed_and_shows_its_events(streams, kind):
    scenes = streams.scenes
    one, two = (scenes.Stream(kind, 7, 120, gap=8) for _ in range(2))
    assert one.truth == two.truth
    assert one.truth
    assert one.truth != scenes.Stream(kind, 8, 120, gap=8).truth
    for first, second in zip(one.frames(), two.frames(), strict=True):
        assert (first.pixels == second.pixels).all()
    label = one.moving()
    for event in one.truth:
        assert label[round(event.start * scenes.FPS)] == 1
    assert (label[: int(scenes.QUIET_START) * scenes.FPS] == 0).all()


@needs_digits
def test_no_digit_is_in_both_splits(streams):
    train, test = ({image.tobytes() for image in some} for some in streams.scenes.digits())
    assert (len(train), len(test), train & test) == (8500, 1500, set())


def test_the_way_back_through_a_convolution_is_its_adjoint(net):
    chance = np.random.default_rng(0)
    x = chance.standard_normal((3, 6, 8, net.CHANNELS)).astype(np.float32)
    weight = chance.standard_normal((net.CHANNELS, 9 * net.CHANNELS)).astype(np.float32)
    out = net.columns(x, 3, 1) @ weight.T
    back = chance.standard_normal(out.shape).astype(np.float32)
    assert (out * back).sum() == pytest.approx((x * net.uncolumns(back, weight)).sum(), rel=1e-3)


def test_the_gradient_of_the_last_layer_is_that_of_its_surrogate(net):
    """Where no neuron spikes a membrane is linear in its weights, so the sum can be written out."""
    chance = np.random.default_rng(1)
    current = chance.uniform(0, 0.05, (1, 6, 4)).astype(np.float32)
    beta = np.full(4, 0.5, np.float32)
    spikes, membranes = net.fire(current, beta)
    assert spikes.sum() == 0
    back = net.unfire(np.ones_like(current), spikes, membranes, beta)
    slope = 1 / (1 + net.SLOPE * np.abs(membranes - 1)) ** 2
    expected = [sum(slope[0, t, 0] * 0.5 ** (t - s) for t in range(s, 6)) for s in range(6)]
    assert back[0, :, 0] == pytest.approx(np.array(expected), rel=1e-5)


def test_the_file_gives_the_spikes_of_the_net_that_was_trained(net, tmp_path):
    pytest.importorskip("nir", reason="pip install 'bicameral[spiking]'")
    from bicameral.engines.spike.exchange import read
    from bicameral.engines.spike.execute import Executor
    from bicameral.right.spikes import graded

    trained = net.fresh(3)
    net.write(trained, tmp_path / "net.nir")
    chance = np.random.default_rng(4)
    x = chance.poisson(0.2, (40, *net.GRID))
    score, kept = trained.forward(np.moveaxis(x, 1, -1)[None].astype(np.float32))
    run = Executor(read(tmp_path / "net.nir"))
    fired = [run.step(*graded(counts)) for counts in x]
    assert [f.tolist() for f in fired] == [np.flatnonzero(s).tolist() for s in kept["s3"][0]]
    assert sum(len(f) for f in fired) > 20
    assert score[0, -1] > 0
    hidden = {count.name: count.spikes for count in run.counts()}
    assert (hidden["lif1"], hidden["lif2"]) == (kept["s1"].sum(), kept["s2"].sum())
    assert (tmp_path / "net.nir").stat().st_size < 60_000
