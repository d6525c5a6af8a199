"""From pixels to what the net sees and back."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


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
