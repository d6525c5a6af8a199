"""What a video diffusion transformer is made of, as a value: shapes, sizes, and what it predicts.

Sizes S and L are those of VDT (Lu et al., arXiv 2305.13311); nano runs on a CPU.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from bicameral.errors import ConfigError

Count = Annotated[int, Meta(ge=1, le=2**16)]
_LEAST_HEAD = 6  # a pair of numbers for each axis


class Autoencoder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A codec of one frame: `factor` pixels a side to one latent, `channels` of them.

    `hidden` is the width of its first convolution.
    """

    factor: Literal[2, 4, 8] = 4
    channels: Count = 4
    hidden: Count = 32


class Design(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`frames`, `height`, `width` (pixels) and `channels` are those of the clips it learns from.

    faithful: the paper's block and noise prediction; its `frames`, `height` and `width` are fixed.
    modern: rectified flow, mask channel, a time for each token, rotary positions; any size.
    `condition` adaln tells what is given to the modulation instead of the tokens: an ablation.
    `predicts` is what a modern net puts out: the velocity, or the clean clip, from which the
    velocity follows; the better for patches of more numbers than the net is wide (Li and He,
    arXiv 2511.13720). `shift` moves the drawn noise levels up. `codec` None: pixels.
    """

    kind: Literal["faithful", "modern"]
    frames: Count
    height: Count
    width: Count
    channels: Annotated[int, Meta(ge=1, le=4)] = 3
    patch: Count = 2
    depth: Count
    dim: Count
    heads: Count
    attention: Literal["factorized", "full"] = "factorized"
    condition: Literal["tokens", "adaln"] = "tokens"
    predicts: Literal["velocity", "clean"] = "velocity"
    shift: Annotated[float, Meta(gt=0, le=100)] = 1.0
    codec: Autoencoder | None = None

    def __post_init__(self) -> None:
        cell = self.cell
        if self.height % cell or self.width % cell:
            raise ConfigError(
                f"{self.height} x {self.width} pixels do not divide into cells of {cell}"
            )
        if self.dim % self.heads or self.dim // self.heads % 2:
            raise ConfigError(f"dim {self.dim} does not divide into {self.heads} even heads")
        if self.kind == "faithful":
            self._as_the_paper()
        elif self.dim // self.heads < _LEAST_HEAD:
            raise ConfigError(
                f"heads of {self.dim // self.heads} do not turn by row, column and frame:"
                f" they take {_LEAST_HEAD} numbers or more"
            )

    def _as_the_paper(self) -> None:
        if self.attention == "full":
            raise ConfigError("a faithful net attends over time, then over space: not full")
        if self.predicts == "clean":
            raise ConfigError("a faithful net predicts the noise: leave predicts out")
        if self.dim % 4:
            raise ConfigError(f"dim {self.dim} does not divide by 4, into sines of two axes")

    @property
    def cell(self) -> int:
        """Pixels a side of what one token stands for, the grain of masks."""
        return self.patch * (self.codec.factor if self.codec else 1)

    @property
    def latent(self) -> int:
        """Channels of what the net sees."""
        return self.codec.channels if self.codec else self.channels

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens."""
        return self.frames, self.height // self.cell, self.width // self.cell


SIZES = {"nano": (6, 128, 2), "s": (12, 384, 6), "l": (28, 1152, 16)}


def named(
    name: str, *, frames: int, height: int, width: int, channels: int = 3, patch: int = 2
) -> Design:
    """The design of `KIND-SIZE`, such as modern-s, for clips of that shape."""
    kind, _, size = name.partition("-")
    if kind not in ("faithful", "modern") or size not in SIZES:
        known = ", ".join(f"{k}-{s}" for k in ("faithful", "modern") for s in SIZES)
        raise ConfigError(f"there is no design '{name}'; there are {known}")
    depth, dim, heads = SIZES[size]
    design = Design(
        kind="modern" if kind == "modern" else "faithful",
        frames=frames,
        height=height,
        width=width,
        channels=channels,
        patch=patch,
        depth=depth,
        dim=dim,
        heads=heads,
    )
    if design.kind == "modern" and size == "nano":
        return replace(design, predicts="clean", shift=4.0)
    return design
