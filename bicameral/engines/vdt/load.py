"""A trained net with its codec, from a checkpoint onto a chip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from msgspec import Struct
from torch import Tensor, nn

from bicameral.engines.vdt import checkpoint
from bicameral.engines.vdt import codec as codecs
from bicameral.engines.vdt.asking import MOST_GUIDANCE
from bicameral.engines.vdt.codec import Codec
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.network import build
from bicameral.errors import WeightsError

NANO = Path(__file__).with_name("nano.safetensors")
_FILE = "model.safetensors"


class Loaded(Struct, frozen=True, eq=False):
    """A net that makes clips, on its device; `half`: it multiplies in bfloat16."""

    design: Design
    net: nn.Module
    codec: Codec
    device: torch.device
    half: bool
    guidance: float = 1.0  # what who trained it found good


def find(path: str) -> Path:
    """The file of `path`: a file, a folder with model.safetensors, or nano, which comes along."""
    if path == "nano":
        return NANO
    found = Path(path).expanduser()
    return found / _FILE if found.is_dir() else found


def called(file: Path) -> str:
    """The name of a net by its file: that of the folder, where the file has no name of its own."""
    return file.resolve().parent.name if file.name == _FILE else file.stem


def load(file: Path, device: torch.device, *, half: bool) -> Loaded:
    """WeightsError if the file is missing, is another's, or lacks a tensor of its design."""
    if not file.is_file():
        raise WeightsError(f"{file} is not there: `bicameral vdt train` makes one")
    design, tensors, about = checkpoint.read(file)
    net = build(design)
    _fill(net, {k: v for k, v in tensors.items() if not k.startswith(codecs.PREFIX)}, file)
    codec = codecs.load(design, tensors)
    if isinstance(codec, nn.Module):
        codec = codec.to(device)
    net = net.to(device).eval().requires_grad_(False)
    return Loaded(design, net, codec, device, half, _guidance(file, about))


def _guidance(file: Path, about: Mapping[str, object]) -> float:
    said = about.get("guidance", 1.0)
    if not isinstance(said, int | float) or not 0 <= said <= MOST_GUIDANCE:
        raise WeightsError(f"{file}: its guidance is {said}, not a number to {MOST_GUIDANCE:g}")
    return float(said)


def _fill(net: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Buffers are what the net makes itself; every parameter must be there, and nothing else."""
    wanted = {name: each.shape for name, each in net.named_parameters()}
    given = {name: each.shape for name, each in tensors.items()}
    if wanted != given:
        wrong = sorted(k for k in wanted.keys() | given.keys() if wanted.get(k) != given.get(k))
        raise WeightsError(
            f"{file}: {len(wrong)} tensors are missing, too many or of another shape than its "
            f"design says, {wrong[0]} for one; is it the model.safetensors of a whole training?"
        )
    net.load_state_dict(dict(tensors), strict=False)  # buffers are not in the file
