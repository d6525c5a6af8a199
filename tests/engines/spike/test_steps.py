"""Conventions: whatever r, dt, v_leak, v_reset and scale a file uses, it fires as it means to."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.engines.spike.exchange import read, write
from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.graph import IF, LIF, Delay, Linear, Net, chain
from bicameral.engines.spike.portable import portable
from bicameral.engines.spike.reference import simulate
from bicameral.engines.spike.steps import normalise
from bicameral.errors import ConfigError, WeightsError
from tests.engines.spike.nets import cuba, every, executed, full, integrate, lif, linear, train

NAMES = list(every(np.random.default_rng(0)))
DTS = [1e-4, 5e-5, 2.5e-4, 1e-3]


def neurons(net: Net):
    return [n.layer for n in net.nodes if isinstance(n.layer, LIF | IF)]


@pytest.mark.parametrize("dt", DTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_portable_net_fires_alike_at_the_step_others_assume(name, dt):
    rng = np.random.default_rng(7)
    net = every(rng)[name]
    spikes = train(rng, net, 0.3)
    expected = simulate(net, spikes, dt)
    assert expected.any()
    np.testing.assert_array_equal(executed(net, spikes, dt=dt, dtype="float64"), expected)
    again = portable(normalise(net, dt))
    np.testing.assert_array_equal(simulate(again, spikes, 1e-4), expected)
    np.testing.assert_array_equal(executed(again, spikes, dtype="float64"), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_through_a_file_keeps_the_train(name, tmp_path):
    pytest.importorskip("nir", reason="needs pip install 'bicameral[spiking]'")
    rng = np.random.default_rng(9)
    net = every(rng)[name]
    spikes = train(rng, net, 0.3)
    write(portable(normalise(net)), tmp_path / "a.nir")
    expected = simulate(net, spikes)
    assert expected.any()
    np.testing.assert_array_equal(
        executed(read(tmp_path / "a.nir"), spikes, dtype="float64"), expected
    )


@pytest.mark.parametrize("r", [0.5, 1.0, 20.0])
def test_r_is_folded_whatever_it_is(r):
    rng = np.random.default_rng(1)
    weights = linear(rng, 20, 12)
    scaled = Linear(weight=weights.weight * 20 / r)
    spikes = train(rng, chain((20,), lif((20,))), 0.3)
    expected = simulate(chain((20,), weights, lif((12,), r=20)), spikes)
    assert expected.any()
    net = portable(normalise(chain((20,), scaled, lif((12,), r=r))))
    assert all((n.r == 1).all() for n in neurons(net))
    np.testing.assert_array_equal(executed(net, spikes, dtype="float64"), expected)


def test_the_portable_net_has_nothing_that_readers_differ_on():
    rng = np.random.default_rng(1)
    uneven = LIF(
        tau=full((6,), 2e-3),
        r=np.linspace(5, 20, 6),
        v_leak=np.linspace(-0.1, 0.3, 6),
        v_threshold=np.linspace(0.5, 1.5, 6),
        v_reset=np.linspace(-0.1, 0.3, 6),
    )
    net = chain((20,), linear(rng, 20, 6), uneven)
    even = portable(normalise(net))
    (cells,) = neurons(even)
    for field, value in {"r": 1, "v_leak": 0, "v_reset": 0, "v_threshold": 1}.items():
        assert (getattr(cells, field) == value).all(), field
    spikes = train(rng, net, 0.3)
    expected = simulate(net, spikes)
    assert expected.any()
    np.testing.assert_array_equal(executed(even, spikes, dtype="float64"), expected)


def test_neurons_that_differ_in_tau_keep_their_r():
    rng = np.random.default_rng(1)
    mixed = LIF(
        tau=np.linspace(5e-4, 3e-3, 6),
        r=full((6,), 15),
        v_leak=full((6,), 0),
        v_threshold=full((6,), 1),
        v_reset=full((6,), 0),
    )
    net = chain((20,), linear(rng, 20, 6), mixed)
    (cells,) = neurons(portable(normalise(net)))
    np.testing.assert_allclose(cells.r, cells.tau / 1e-4)


def test_a_negative_r_is_folded_into_weights_and_refused_without():
    rng = np.random.default_rng(2)
    net = chain((20,), Linear(weight=-linear(rng, 20, 5).weight), lif((5,), r=-20))
    spikes = train(rng, net, 0.3)
    expected = simulate(net, spikes)
    assert expected.any()
    np.testing.assert_array_equal(executed(net, spikes, dtype="float64"), expected)
    with pytest.raises(WeightsError, match="lif_0"):
        normalise(chain((5,), lif((5,), r=-1)))


def test_a_step_longer_than_a_time_constant_is_refused():
    with pytest.raises(ConfigError, match=r"lif_0.*tau is down to 0.002 s.*smaller dt"):
        normalise(chain((3,), lif((3,))), 3e-3)
    with pytest.raises(ConfigError, match="tau_syn"):
        normalise(chain((3,), cuba((3,))), 1.5e-3)
    assert Executor(chain((3,), integrate((3,))), dt=1.0).net.dt == 1.0


@pytest.mark.parametrize("dt", [0, -1e-4, float("nan"), float("inf")])
def test_a_step_that_is_none_is_refused(dt):
    with pytest.raises(ConfigError, match="dt"):
        normalise(chain((3,), lif((3,))), dt)


def test_a_delay_beyond_all_measure_is_refused():
    with pytest.raises(ConfigError, match="delay_0"):
        normalise(chain((3,), Delay(delay=full((3,), 1e3)), lif((3,))))


def test_float32_loses_no_spike_of_these_nets():
    """Not a law: a voltage within 1e-7 of its threshold may go either way. None does here."""
    lost = total = 0
    for name in NAMES:
        rng = np.random.default_rng(4)
        net = every(rng)[name]
        spikes = train(rng, net, 0.2)
        expected = simulate(net, spikes)
        total += int(expected.sum())
        lost += int((executed(net, spikes) != expected).sum())
    assert total > 100
    assert lost == 0
