"""Training of a codec, before the net that works on its latents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from bicameral.engines.vdt import checkpoint
from bicameral.engines.vdt.codec import Convolutional, build
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.learn.train import Count, Source
from bicameral.errors import ConfigError, WeightsError

_NOISE = 0.1  # spread of a latent's posterior, where there is a KL weight
_MEASURED = 8  # batches whose latents tell the spread


class CodecSchedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adam, at a rate that falls to nothing along half a cosine; `batch` in clips.

    `kl` above 0 makes it a variational autoencoder whose posterior has a fixed spread (Kingma and
    Welling, arXiv 1312.6114): noise is added to the latents, and their square is kept small.
    """

    steps: Count = 2000
    batch: Count = 8
    rate: Annotated[float, Meta(gt=0)] = 1e-3
    kl: Annotated[float, Meta(ge=0)] = 1e-6
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        return self.rate * 0.5 * (1 + float(np.cos(np.pi * step / self.steps)))


class CodecTrainer:
    """A codec in training; a step depends on the seed and its number alone."""

    def __init__(
        self, design: Design, schedule: CodecSchedule, source: Source, *, device: str = "cpu"
    ) -> None:
        torch.manual_seed(schedule.seed)
        made = build(design)
        if not isinstance(made, Convolutional):
            raise ConfigError("a design without a codec has none to train: set codec")
        self.codec: Convolutional = made.to(device)
        self.design, self.schedule, self.step_count = design, schedule, 0
        self._source, self._device = source, torch.device(device)
        self._optimizer = torch.optim.Adam(self.codec.parameters(), lr=schedule.rate)

    def step(self) -> float:
        """One update; the mean squared error of its pixels, from 0 to 1."""
        schedule = self.schedule
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.rate_at(self.step_count)
        dice = np.random.default_rng((schedule.seed, self.step_count))
        clip = self._clip(dice)
        draw = torch.Generator(self._device).manual_seed(int(dice.integers(2**62)))
        latent = self.codec.latent(clip)
        small = schedule.kl * latent.square().mean() / 2
        if schedule.kl:
            latent = latent + _NOISE * torch.randn(
                latent.shape, generator=draw, device=self._device
            )
        error = (self.codec.pixels(latent) - clip).square().mean()
        self._optimizer.zero_grad(set_to_none=True)
        (error + small).backward()
        self._optimizer.step()
        self.step_count += 1
        return float(error.detach())

    def done(self) -> Convolutional:
        """The codec, its latents brought to spread 1, for use and no more for training."""
        dice = np.random.default_rng((self.schedule.seed, self.schedule.steps))
        self.codec.measure(torch.cat([self._clip(dice) for _ in range(_MEASURED)]))
        return self.codec.eval().requires_grad_(False)

    def _clip(self, dice: np.random.Generator) -> Tensor:
        clips = torch.from_numpy(self._source.batch(self.schedule.batch, dice))
        return clips.to(self._device).movedim(-1, 2).float() / 255

    def save(self, path: Path, **more: object) -> None:
        """All that is needed to go on from here, in one file."""
        tensors = {f"codec.{name}": each for name, each in self.codec.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"moment.{key}.{index}": value for key, value in state.items()}
        about = {"schedule": msgspec.to_builtins(self.schedule), "step": self.step_count, **more}
        checkpoint.save(path, self.design, tensors, **about)

    def load(self, path: Path) -> dict[str, object]:
        """Go on from there; ConfigError if that was another codec."""
        design, tensors, about = checkpoint.read(path)
        if design != self.design:
            raise ConfigError(f"{path} is of another design: train into another folder")
        try:
            own = {name: tensors[f"codec.{name}"] for name in self.codec.state_dict()}
            count = len(list(self.codec.parameters()))
            keys = ("step", "exp_avg", "exp_avg_sq")
            moments = {i: {k: tensors[f"moment.{k}.{i}"] for k in keys} for i in range(count)}
            step = int(str(about["step"]))
        except KeyError as error:
            raise WeightsError(f"{path} is no state of a codec: it lacks {error}") from error
        self.codec.load_state_dict(own)
        held = self._optimizer.state_dict()
        held["state"] = moments
        self._optimizer.load_state_dict(held)
        self.step_count = step
        return about


@torch.no_grad()
def floor(codec: Convolutional, source: Source, device: str, count: int = 16) -> float:
    """Decibels of signal to noise of clips that went through the codec and back."""
    clips = torch.from_numpy(source.batch(count, np.random.default_rng(0))).to(device)
    clip = clips.movedim(-1, 2).float() / 255
    back = codec.decode(codec.encode(clip)).clamp(0, 1)
    return float(-10 * (back - clip).square().mean().clamp(min=1e-10).log10())
