"""Weights and what they are weights of, in one file."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bicameral.engines.vdt import checkpoint  # noqa: E402
from bicameral.engines.vdt.design import Autoencoder, Design  # noqa: E402
from bicameral.errors import WeightsError  # noqa: E402

DESIGN = Design(
    kind="modern", frames=2, height=8, width=8, depth=1, dim=24, heads=2, codec=Autoencoder()
)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.zeros(2, dtype=torch.bfloat16)}
    checkpoint.save(tmp_path / "w.safetensors", DESIGN, tensors, steps=3, data={"x": [1, None]})
    design, read, about = checkpoint.read(tmp_path / "w.safetensors")
    assert design == DESIGN
    assert about == {"steps": 3, "data": {"x": [1, None]}}
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_it_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for value in (1.0, 2.0):
        checkpoint.save(path, DESIGN, {"a": torch.full((2,), value)})
    assert checkpoint.read(path)[1]["a"].tolist() == [2.0, 2.0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_torn_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save(path, DESIGN, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        checkpoint.read(path)


def test_weights_of_something_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="no video diffusion transformer"):
        checkpoint.read(tmp_path / "w.safetensors")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        checkpoint.read(tmp_path / "w.safetensors")
