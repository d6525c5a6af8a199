"""The same file gives the same spikes elsewhere: needs torch and the libraries, else skipped.

`bench/spiking_conformance.py` prints what each makes of a file before and after it was normalised.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bicameral.engines.spike.exchange import write
from bicameral.engines.spike.graph import LIF, Net, chain
from bicameral.engines.spike.portable import obstacles, portable
from bicameral.engines.spike.reference import simulate
from bicameral.engines.spike.steps import normalise
from tests.engines.spike.nets import cuba, every, lif, linear, train

BENCH = Path(__file__).resolve().parents[3] / "bench"
MODULES = {"snnTorch": "snntorch", "SpikingJelly": "spikingjelly", "Norse": "norse"}
LIBRARIES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            find_spec(module) is None or find_spec("nir") is None,
            reason=f"{module} (with torch) and nir are not installed",
        ),
    )
    for name, module in MODULES.items()
]
RNG = np.random.default_rng(0)
NETS = {name: net for name, net in every(RNG).items() if not obstacles(portable(normalise(net)))}
NETS["cuba at rest"] = chain((20,), linear(RNG, 20, 12), cuba((12,)))


def test_most_nets_have_no_obstacle():
    assert {"affine", "r is 1", "if", "conv", "conv, square"} <= set(NETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_normalised_file_fires_alike(library, name, tmp_path, monkeypatch):
    if library == "Norse" and name in ("no weights", "pool first"):
        pytest.skip("Norse ignores r, which these nets cannot do without")
    monkeypatch.syspath_prepend(BENCH)
    from spiking_readers import READERS

    net = NETS[name]
    spikes = train(np.random.default_rng(3), net, 0.3)
    expected = simulate(net, spikes)
    assert expected.any(), "zero spikes agree with anything"
    write(portable(normalise(net)), tmp_path / "a.nir")
    out = READERS[library](tmp_path / "a.nir", spikes, net.input_shape)
    np.testing.assert_array_equal(out, expected)


def mixed() -> Net:
    cells = lif((5,))
    fields = {field: getattr(cells, field) for field in cells.__struct_fields__}
    return chain((5,), LIF(**(fields | {"tau": np.linspace(1e-3, 3e-3, 5)})))


@pytest.mark.parametrize(
    ("net", "what"),
    [
        (every(RNG)["delay"], "Delay"),
        (every(RNG)["loop"], "loop"),
        (every(RNG)["conv, strided"], "not square"),
        (chain((5,), lif((5,), reset=-0.2)), "its rest"),
        (chain((5,), cuba((5,), reset=0.2)), "its rest"),
        (mixed(), "differ in tau"),
    ],
)
def test_what_others_cannot_read_is_named(net, what):
    (said, *_) = obstacles(portable(normalise(net)))
    assert what in said


def test_a_rest_that_is_the_reset_is_no_obstacle():
    assert not obstacles(portable(normalise(chain((5,), lif((5,), leak=0.2, reset=0.2)))))
