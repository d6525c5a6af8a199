"""The executor gives the reference's spikes, whatever the net and however active it is."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.engines.spike.convolve import Convolution
from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.graph import chain
from bicameral.engines.spike.ops import Gather, Spikes
from bicameral.engines.spike.reference import simulate
from bicameral.errors import RequestError, WeightsError
from tests.engines.spike.nets import conv, every, executed, integrate, lif, linear, train

NAMES = list(every(np.random.default_rng(0)))


def net_and_rng(name: str):
    rng = np.random.default_rng(7)
    return every(rng)[name], rng


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_spikes_are_those_of_the_reference(name, rate):
    net, rng = net_and_rng(name)
    spikes = train(rng, net, rate)
    expected = simulate(net, spikes)
    np.testing.assert_array_equal(executed(net, spikes, dtype="float64"), expected)
    if rate >= 0.2:
        assert expected.any(), "a net that is silent proves nothing"


@pytest.mark.parametrize("many", [-1, 10**6], ids=["product", "events"])
@pytest.mark.parametrize("name", [name for name in NAMES if "conv" in name])
def test_a_convolution_is_the_same_either_way(name, many):
    net, rng = net_and_rng(name)
    spikes = train(rng, net, 0.2)
    run = Executor(net, dtype="float64")
    for node in run._nodes:
        if isinstance(node._op, Convolution):
            node._op.many = many
    expected = simulate(net, spikes)
    assert expected.any()
    for given, wanted in zip(spikes, expected, strict=True):
        assert run.step(np.flatnonzero(given)).tolist() == np.flatnonzero(wanted).tolist()


def test_a_convolution_takes_values_either_way():
    rng = np.random.default_rng(0)
    op = conv(rng, 2, 4, stride=(2, 1), padding=(1, 0), groups=2)
    ways = [Convolution(op, (2, 6, 5), (4, 3, 3), np.float64) for _ in range(2)]
    ways[0].many, ways[1].many = -1, 10**6
    for _ in range(3):
        index = np.sort(rng.choice(60, 20, replace=False))
        one, other = (way.run(Spikes(index, index / 7)) for way in ways)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_starts_anew(name):
    net, rng = net_and_rng(name)
    spikes = [np.flatnonzero(row) for row in train(rng, net, 0.3)]
    run = Executor(net)
    first = run.run(spikes)
    counts = run.counts()
    run.reset()
    assert all(count.events == count.spikes == count.synops == 0 for count in run.counts())
    again = run.run(spikes)
    assert any(fired.size for fired in first)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert run.counts() == counts


@pytest.mark.parametrize("outputs", [1, 2, 3, 17, 1024])
@pytest.mark.parametrize("active", [1, 63, 64, 65, 300])
def test_the_sum_of_rows_is_the_same_to_the_last_bit_as_row_by_row(outputs, active):
    rng = np.random.default_rng(3)
    weights = linear(rng, 400, outputs)
    index = np.sort(rng.choice(400, active, replace=False))
    expected = np.zeros(outputs, dtype=np.float32)
    for row in weights.weight.astype(np.float32).T[index]:
        expected += row
    np.testing.assert_array_equal(Gather(weights, np.float32).run(Spikes(index)), expected)


def test_values_count_as_so_many_spikes():
    net = chain((3,), integrate((3,), r=2e3))
    run, plain = Executor(net), Executor(net)
    fired = [run.step(np.array([1]), np.array([3.0])).tolist() for _ in range(4)]
    assert fired == [[], [1], [], [1]]
    assert [plain.step(np.array([1])).tolist() for _ in range(6)][-1] == [1]


@pytest.mark.parametrize(
    "spikes", [[3, 2], [1, 1], [-1, 2], [0, 9], [[1, 2]], [0.5]], ids=lambda s: str(s)
)
def test_spikes_that_are_none_are_refused_and_change_nothing(spikes):
    net = chain((5,), lif((5,)))
    run = Executor(net)
    with pytest.raises(RequestError):
        run.step(np.array(spikes))
    assert run.counts()[0].steps == 0


def test_a_net_that_ends_in_currents_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(WeightsError, match="linear_2"):
        Executor(chain((4,), linear(rng, 4, 4), lif((4,)), linear(rng, 4, 2)))
