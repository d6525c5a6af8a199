"""From pixels to what the net sees and back."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from bicameral.engines.vdt.design import Autoencoder, Design
from bicameral.errors import WeightsError

PREFIX = "codec."  # of a codec's tensors in a file that holds a net's, too
_GROUPS = 8


class Codec(Protocol):
    """Clips (B, T, C, H, W) with values from 0 to 1, to latents of spread about 1, and back."""

    def encode(self, clip: Tensor) -> Tensor:
        """To what the net sees."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Back to pixels."""
        ...


class Pixels:
    """No codec: values from -1 to 1."""

    def encode(self, clip: Tensor) -> Tensor:
        """From 0…1."""
        return clip * 2 - 1

    def decode(self, latent: Tensor) -> Tensor:
        """To 0…1, not clipped, so that what was given comes back as it was to a rounding."""
        return (latent + 1) / 2


class Convolutional(nn.Module):
    """Each frame by itself through a small convolutional autoencoder, which loses a little.

    `shift` and `scale` (channels,) bring its latents to mean 0 and spread 1; `measure` sets them.
    """

    def __init__(self, channels: int, made: Autoencoder) -> None:
        super().__init__()
        halvings = made.factor.bit_length() - 1
        widths = [made.hidden * 2**i for i in range(halvings + 1)]
        self.shrink = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1),
            *(_half(a, b) for a, b in pairwise(widths)),
            _ready(widths[-1]),
            nn.Conv2d(widths[-1], made.channels, 1),
        )
        widths.reverse()
        self.grow = nn.Sequential(
            nn.Conv2d(made.channels, widths[0], 3, padding=1),
            *(_double(a, b) for a, b in pairwise(widths)),
            _ready(widths[-1]),
            nn.Conv2d(widths[-1], channels, 3, padding=1),
        )
        self.register_buffer("shift", torch.zeros(made.channels))
        self.register_buffer("scale", torch.ones(made.channels))

    def encode(self, clip: Tensor) -> Tensor:
        """To (B, T, channels, H/factor, W/factor)."""
        latent = self.latent(clip)
        return (latent - self.shift[:, None, None]) / self.scale[:, None, None]

    def decode(self, latent: Tensor) -> Tensor:
        """To pixels from about 0 to 1, not clipped."""
        return self.pixels(latent * self.scale[:, None, None] + self.shift[:, None, None])

    def latent(self, clip: Tensor) -> Tensor:
        """Before they are brought to spread 1."""
        return self.shrink(clip.flatten(0, 1) * 2 - 1).unflatten(0, clip.shape[:2])

    def pixels(self, latent: Tensor) -> Tensor:
        """What `latent` of a clip stands for."""
        return (self.grow(latent.flatten(0, 1)).unflatten(0, latent.shape[:2]) + 1) / 2

    @torch.no_grad()
    def measure(self, clips: Tensor) -> None:
        """Set `shift` and `scale` so that the latents of these clips have mean 0 and spread 1."""
        latent = self.latent(clips)
        self.shift.copy_(latent.mean((0, 1, 3, 4)))
        self.scale.copy_(latent.std((0, 1, 3, 4)).clamp(min=1e-6))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _ready(width), _ready(width)
        self.one = nn.Conv2d(width, width, 3, padding=1)
        self.other = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.other(self.second(self.one(self.first(x))))
        return out


class _Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _ready(width: int) -> nn.Sequential:
    groups = _GROUPS if width % _GROUPS == 0 else 1
    return nn.Sequential(nn.GroupNorm(groups, width), nn.SiLU())


def _half(narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(narrow, wide, 4, stride=2, padding=1), _Residual(wide))


def _double(wide: int, narrow: int) -> nn.Sequential:
    return nn.Sequential(_Residual(wide), _Twice(), nn.Conv2d(wide, narrow, 3, padding=1))


def build(design: Design) -> Convolutional | Pixels:
    """The codec of a design with fresh weights; torch's own seed decides them."""
    return Pixels() if design.codec is None else Convolutional(design.channels, design.codec)


def load(design: Design, tensors: Mapping[str, Tensor]) -> Convolutional | Pixels:
    """The codec of a design out of a file's tensors; WeightsError if they are not its own."""
    made = build(design)
    if isinstance(made, Pixels):
        return made
    own = {n.removeprefix(PREFIX): t for n, t in tensors.items() if n.startswith(PREFIX)}
    try:
        made.load_state_dict({name: tensor.float() for name, tensor in own.items()})
    except RuntimeError as error:
        raise WeightsError(f"the weights of the codec do not fit its design: {error}") from error
    return made.eval().requires_grad_(False)


def tensors(codec: Codec) -> dict[str, Tensor]:
    """What `load` wants to be given, under names that no net has."""
    if not isinstance(codec, Convolutional):
        return {}
    return {PREFIX + name: each for name, each in codec.state_dict().items()}
