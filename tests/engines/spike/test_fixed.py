"""Whole numbers: exact, bounded, and honest about what does not fit a chip."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.fixed import Limits, compare, fit, quantise
from bicameral.engines.spike.graph import Affine, Conv2d, Linear, chain
from bicameral.engines.spike.steps import Cells, normalise
from bicameral.errors import ConfigError
from tests.engines.spike.nets import affine, conv, cuba, every, lif, linear, train

HAS_NO_WEIGHTS = ("no weights", "pool first")
NETS = [n for n in every(np.random.default_rng(0)) if n not in HAS_NO_WEIGHTS]


def by_hand(net, spikes: np.ndarray) -> np.ndarray:
    """One layer of LIF in Python's own whole numbers."""
    weights, cells = (node.layer for node in net.nodes)
    rows = weights.weight.astype(int)
    bias = weights.bias.astype(int)
    decay = (cells.decay * 4096).astype(int).tolist()
    threshold, reset = cells.threshold.astype(int).tolist(), cells.reset.astype(int).tolist()
    most = 2 ** (cells.bits - 1) - 1
    u = [0] * len(rows)
    out = np.zeros((len(spikes), len(rows)), dtype=bool)
    for now, given in zip(out, spikes, strict=True):
        for n in range(len(rows)):
            faded = abs(u[n]) * decay[n] // 4096 * (1 if u[n] >= 0 else -1)
            u[n] = faded + int(rows[n][given].sum()) + int(bias[n])
            u[n] = max(-most, min(most, u[n]))
            if u[n] > threshold[n]:
                now[n], u[n] = True, reset[n]
    return out


@pytest.mark.parametrize("bits", [24, 15])
def test_the_arithmetic_is_that_of_whole_numbers(bits):
    rng = np.random.default_rng(1)
    net = normalise(chain((30,), affine(rng, 30, 8), lif((8,), reset=-0.2)))
    whole = quantise(net, Limits(state_bits=bits))
    spikes = train(rng, net, 0.3, 80)
    run = Executor(whole)
    found = np.zeros((80, 8), dtype=bool)
    for now, given in zip(found, spikes, strict=True):
        now[run.step(np.flatnonzero(given))] = True
    assert found.any()
    np.testing.assert_array_equal(found, by_hand(whole, spikes))


@pytest.mark.parametrize("name", NETS)
def test_all_is_whole_and_within_its_bits(name):
    net = quantise(normalise(every(np.random.default_rng(3))[name]))
    for node in net.nodes:
        match node.layer:
            case Affine() | Linear() | Conv2d() as layer:
                weights = layer.weight / 64
                assert (weights == np.rint(weights)).all()
                assert 0 < np.abs(weights).max() <= 127
            case Cells() as cells:
                assert cells.bits == 24
                for values in (cells.threshold, cells.reset, cells.decay * 4096):
                    assert (values == np.rint(values)).all()


@pytest.mark.parametrize("name", NETS)
def test_it_fires_about_as_often_as_in_floating_point(name):
    """One that comes a step later counts twice in `differ`: small nets may differ a lot."""
    rng = np.random.default_rng(7)
    net = normalise(every(rng)[name])
    found = compare(net, [np.flatnonzero(row) for row in train(rng, net, 0.3, 100)])
    assert found.floating > 0
    assert found.steps == 100
    assert abs(found.fixed - found.floating) <= 0.3 * found.floating
    assert abs(found.fixed - found.floating) <= found.differ <= found.fixed + found.floating


def test_fewer_bits_differ_more():
    rng = np.random.default_rng(5)
    net = normalise(chain((64,), linear(rng, 64, 40), lif((40,))))
    spikes = [np.flatnonzero(row) for row in train(rng, net, 0.2, 200)]
    fine, coarse = (compare(net, spikes, Limits(weight_bits=b)).differ for b in (12, 3))
    assert fine < coarse
    assert compare(net, [np.empty(0, dtype=int)] * 3).differ == 0


@pytest.mark.parametrize("name", HAS_NO_WEIGHTS)
def test_neurons_without_weights_of_their_own_are_refused(name):
    with pytest.raises(ConfigError, match="no weights of its own"):
        quantise(normalise(every(np.random.default_rng(0))[name]))


def test_a_threshold_that_no_state_reaches_is_refused():
    net = normalise(chain((4,), linear(np.random.default_rng(0), 4, 3), lif((3,))))
    with pytest.raises(ConfigError, match=r"lif_1.*12 bits never reaches"):
        quantise(net, Limits(state_bits=12))


def test_the_report_counts_what_a_layer_needs():
    rng = np.random.default_rng(0)
    net = normalise(chain((2, 10, 10), conv(rng, 2, 4, padding=(1, 1)), lif((4, 10, 10))))
    (layer,) = fit(net).layers
    assert (layer.neurons, layer.fan_in, layer.synapses, layer.weights) == (400, 18, 7200, 72)
    assert (layer.cores, layer.misfits) == (1, ())
    assert fit(net).fits
    assert fit(net, Limits(core_neurons=150)).layers[0].cores == 3
    assert fit(net, Limits(core_synapses=1000)).cores == 8
    few = fit(net, Limits(core_synapses=1000, cores=4))
    assert not few.fits
    assert "8 cores" in few.misfits[0]


def test_a_fan_in_that_does_not_fit_is_named():
    rng = np.random.default_rng(0)
    net = normalise(chain((5000,), linear(rng, 5000, 3), cuba((3,))))
    report = fit(net)
    assert not report.fits
    assert "5000 inputs" in report.layers[0].misfits[0]


def test_a_loop_counts_both_ways_in():
    net = normalise(every(np.random.default_rng(0))["loop"])
    (layer,) = fit(net).layers
    assert (layer.fan_in, layer.synapses) == (14, 112)
