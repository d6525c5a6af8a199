"""NIR files: what is written is read back and fires alike; what is wrong is said."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bicameral.engines.spike import exchange
from bicameral.engines.spike.exchange import read, write
from bicameral.engines.spike.graph import chain
from bicameral.engines.spike.reference import simulate
from bicameral.errors import ConfigError, WeightsError
from tests.engines.spike.nets import every, lif, linear, train

nir = pytest.importorskip("nir", reason="needs pip install 'bicameral[spiking]'")
h5py = pytest.importorskip("h5py", reason="needs pip install 'bicameral[spiking]'")
NAMES = list(every(np.random.default_rng(0)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.nir"
    write(chain((4,), linear(np.random.default_rng(0), 4, 3), lif((3,))), path)
    return path


def refused(path, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_fires_like_the_net_it_was_written_from(name, tmp_path):
    rng = np.random.default_rng(5)
    net = every(rng)[name]
    write(net, tmp_path / "a.nir")
    spikes = train(rng, net, 0.3)
    expected = simulate(net, spikes)
    assert expected.any()
    np.testing.assert_array_equal(simulate(read(tmp_path / "a.nir"), spikes), expected)


# nir 1.0.8 forgets the groups when it checks shapes.
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("conv, grouped", "conv, square")])
def test_nir_itself_reads_what_is_written(name, tmp_path):
    write(every(np.random.default_rng(5))[name], tmp_path / "a.nir")
    graph = nir.read(tmp_path / "a.nir")
    assert len(graph.inputs) == len(graph.outputs) == 1


def test_v_reset_is_left_out_where_old_readers_refuse_it(tmp_path):
    rng = np.random.default_rng(0)
    net = chain((4,), linear(rng, 4, 3), lif((3,)))
    write(net, tmp_path / "a.nir", v_reset=False)
    with h5py.File(tmp_path / "a.nir") as opened:
        assert "v_reset" not in opened["node/nodes/lif_1"]
    spikes = train(rng, net, 0.4)
    np.testing.assert_array_equal(simulate(read(tmp_path / "a.nir"), spikes), simulate(net, spikes))
    with pytest.raises(WeightsError, match="lif_0"):
        write(chain((4,), lif((4,), reset=0.1)), tmp_path / "b.nir", v_reset=False)
    assert not (tmp_path / "b.nir").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 2000, -1])
def test_a_file_that_is_cut_is_refused(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    refused(file, "not a NIR file")


def test_a_file_that_is_something_else_is_refused(file):
    file.write_bytes(b"GGUF" * 1000)
    refused(file, "not a NIR file")
    with h5py.File(file, "w") as opened:
        opened["weights"] = [1, 2, 3]
    refused(file, "not a NIR file")


def test_every_flipped_byte_is_read_or_refused_in_our_words(file):
    """Whatever h5py and nir make of a damaged file, nothing of theirs comes through."""
    good = file.read_bytes()
    rng = np.random.default_rng(11)
    for at in rng.choice(len(good), 150, replace=False):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.integers(8)
        file.write_bytes(bytes(bad))
        try:
            read(file)
        except WeightsError:
            continue


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "none.nir", "no such file")


def built(path, *nodes, edges=None) -> None:
    named = {f"n{i}": node for i, node in enumerate(nodes)}
    edges = edges or list(zip(list(named)[:-1], list(named)[1:], strict=True))
    nir.write(path, nir.NIRGraph(named, edges, type_check=False))


def ends(size=3):
    return nir.Input(np.array([size])), nir.Output(np.array([size]))


def cells(size=3, **changed):
    fields = {f: np.ones(size) for f in ("tau", "r", "v_leak", "v_threshold", "v_reset")}
    return nir.LIF(**(fields | changed))


def test_a_node_that_cannot_run_is_named(tmp_path):
    first, last = ends()
    built(tmp_path / "a.nir", first, nir.Threshold(np.ones(3)), last)
    refused(tmp_path / "a.nir", "node 'n1' is a Threshold; nodes that run are Affine")


def test_a_kind_that_nir_does_not_know_is_refused(file):
    with h5py.File(file, "r+") as opened:
        del opened["node/nodes/lif_1/type"]
        opened["node/nodes/lif_1/type"] = "Cerebellum"
    refused(file, "not a NIR file")


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([nir.Linear(np.ones((3, 4))), cells()], r"n1.*takes 4 inputs.*\(3,\)"),
        ([nir.Linear(np.ones((2, 3))), cells()], r"n2.*LIF.*takes \(3,\).*\(2,\)"),
        ([nir.Affine(np.ones((3, 3)), np.ones(2)), cells()], "n1.*bias"),
        ([nir.Linear(np.ones((1, 3, 3))), cells()], "n1.*3 dimensions instead of 2"),
        ([nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))], "n1"),
        ([cells(tau=np.array([1, -1, 1.0]))], "n1.*tau has to be above 0"),
        ([cells(v_threshold=np.array([1, np.nan, 1]))], "n1.*not finite"),
        ([nir.Delay(np.array([0, 1, -1e-3]))], "n1.*below 0"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, nodes, match):
    first, last = ends()
    built(tmp_path / "a.nir", first, *nodes, last)
    refused(tmp_path / "a.nir", match)


@pytest.mark.parametrize(
    ("edges", "match"),
    [
        ([("n0", "n1"), ("n1", "gone"), ("n1", "n2")], "gone"),
        ([("n0", "n1")], "fed by 0 nodes"),
        ([("n1", "n2")], "'n1' is not fed by the input"),
    ],
)
def test_edges_that_lead_nowhere_are_named(tmp_path, edges, match):
    first, last = ends()
    built(tmp_path / "a.nir", first, cells(), last, edges=edges)
    refused(tmp_path / "a.nir", match)


def test_a_loop_without_a_neuron_is_refused(tmp_path):
    first, last = ends()
    square = nir.Linear(np.eye(3))
    edges = [("n0", "n1"), ("n1", "n2"), ("n2", "n1"), ("n2", "n3")]
    built(tmp_path / "a.nir", first, square, square, last, edges=edges)
    refused(tmp_path / "a.nir", "n1 -> n2 has no neuron")


def test_two_inputs_are_refused(tmp_path):
    first, last = ends()
    edges = [("n0", "n2"), ("n1", "n2"), ("n2", "n3")]
    built(tmp_path / "a.nir", first, first, cells(), last, edges=edges)
    refused(tmp_path / "a.nir", "2 Input nodes")


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.nir", "w") as file:
        file.create_dataset(
            "node/big", shape=(2**40,), dtype="f8", chunks=(2**16,), compression="gzip"
        )
    assert (tmp_path / "a.nir").stat().st_size < 10_000
    refused(tmp_path / "a.nir", "unpacks to")


@pytest.mark.parametrize("link", [h5py.ExternalLink("/etc/passwd", "x"), h5py.SoftLink("/node")])
def test_links_are_refused(file, link):
    with h5py.File(file, "r+") as opened:
        opened["node/elsewhere"] = link
    refused(file, "links")


def test_without_the_library_the_extra_is_named(monkeypatch, file):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ConfigError, match=r"pip install 'bicameral\[spiking\]'"):
        exchange.read(file)
