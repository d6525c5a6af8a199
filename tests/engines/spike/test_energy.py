"""Operations are counted as by hand; energy is always a range with a source."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.engines.spike.energy import breakeven, chips, estimate, limits
from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.graph import Affine, Conv2d, Linear, SumPool2d, chain
from tests.engines.spike.nets import every, executed, lif, linear, train

NAMES = list(every(np.random.default_rng(0)))


def by_hand(net, node, given: np.ndarray) -> int:
    """One for every output that an active input reaches through a weight that is not 0."""
    layer, total = node.layer, 0
    match layer:
        case Affine() | Linear():
            return int((layer.weight[:, given.reshape(-1) != 0] != 0).sum())
        case SumPool2d():
            taps, groups = np.ones((1, 1, *layer.kernel)), node.takes[0]
            dilation = (1, 1)
        case Conv2d():
            taps, groups, dilation = layer.weight, layer.groups, layer.dilation
    per, each = taps.shape[1], node.shape[0] // groups
    for c, y, x in np.argwhere(given):
        for o, row, column in np.ndindex(*node.shape):
            if o // each != c // per:
                continue
            k = [
                (at + pad - place * stride) / gap
                for at, place, pad, stride, gap in zip(
                    (y, x), (row, column), layer.padding, layer.stride, dilation, strict=True
                )
            ]
            inside = all(v == int(v) and 0 <= v < n for v, n in zip(k, taps.shape[2:], strict=True))
            kernel = taps[0 if taps.shape[0] == 1 else o, c % per]
            total += bool(inside and kernel[int(k[0]), int(k[1])])
    return total


@pytest.mark.parametrize("name", NAMES)
def test_operations_are_those_of_a_count_by_hand(name):
    rng = np.random.default_rng(2)
    net = every(rng)[name]
    spikes = train(rng, net, 0.2, steps=6)
    run = Executor(net)
    for given in spikes:
        run.step(np.flatnonzero(given))
    for i, (node, count) in enumerate(zip(net.nodes, run.counts(), strict=True)):
        if isinstance(node.layer, Affine | Linear | Conv2d | SumPool2d) and i == 0:
            expected = sum(by_hand(net, node, g.reshape(node.takes)) for g in spikes)
            assert count.synops == expected
            assert count.events == spikes.sum()
    total = executed(net, spikes)
    last = [c for c in run.counts() if c.kind == "Cells"][-1]
    if not isinstance(net.nodes[-1].layer, type(None)) and net.output == last.name:
        assert last.spikes == total.sum()


def test_weights_of_zero_are_no_operations():
    weights = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    run = Executor(chain((3,), Linear(weight=weights), lif((2,))))
    run.step(np.array([0, 1]))
    run.step(np.array([2]))
    count = run.counts()[0]
    assert (count.synops, count.dense, count.events, count.activity) == (3, 12, 3, 0.5)


def test_rates_and_traffic():
    run = Executor(chain((4,), Linear(weight=np.ones((2, 4))), lif((2,))), dtype="float64")
    for _ in range(5):
        run.step(np.arange(4))
    weights, cells = run.counts()
    assert weights.synops == weights.dense == 40
    assert weights.traffic == 8 * (40 + 5 * 2 * 2)
    assert cells.rate == 1.0
    assert cells.neurons == 2


def counts(rate: float):
    rng = np.random.default_rng(0)
    run = Executor(chain((100,), linear(rng, 100, 50), lif((50,))))
    for given in train(rng, run.net, rate, 200):
        run.step(np.flatnonzero(given))
    return run.counts()


@pytest.mark.parametrize("key", chips())
def test_energy_is_a_range_with_a_source(key):
    found = estimate(counts(0.1), chips()[key], 1e-3)
    assert found.source
    assert found.trust
    assert found.operations or found.idle
    for pair in (found.operations, found.dense, found.idle, found.total):
        assert pair is None or 0 <= pair[0] <= pair[1]
    assert found.seconds == pytest.approx(0.2)
    assert (found.total is None) == (found.operations is None or found.idle is None)


def test_energy_is_operations_times_the_constant_and_idle_power():
    rows = counts(0.1)
    synops = sum(row.synops for row in rows)
    found = estimate(rows, chips()["truenorth"], 1e-3)
    assert found.operations == pytest.approx((synops * 2.5e-12, synops * 26e-12))
    assert found.dense == pytest.approx((200 * 5000 * 2.5e-12, 200 * 5000 * 26e-12))
    assert found.idle == pytest.approx((0, 0.072 * 0.2))
    assert estimate(rows, chips()["speck"], 1e-3).operations is None


def test_a_chip_without_a_figure_says_so_instead_of_zero():
    found = estimate(counts(0.0), chips()["odin"], 1e-3)
    assert found.operations == (0, 0)
    assert found.idle is None
    assert found.total is None


def test_break_even_names_what_it_is_against():
    quiet, busy = breakeven(counts(0.01)), breakeven(counts(0.6))
    assert {found.limit.against for found in quiet} == {limit.against for limit in limits()}
    assert not any(found.dense_is_cheaper for found in quiet)
    assert all(found.dense_is_cheaper for found in busy)
    assert all(found.limit.source for found in quiet)
    assert not any(found.dense_is_cheaper for found in breakeven(()))
