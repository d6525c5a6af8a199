"""The loop that trains: a step depends on the seed and its number alone, so it resumes exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from bicameral.engines.vdt import checkpoint, masks
from bicameral.engines.vdt.codec import Codec
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.network import build, process
from bicameral.errors import ConfigError
from bicameral.types import VideoTask

Count = Annotated[int, Meta(ge=1)]
_EMA_START = 10  # the average forgets faster while it is younger than some times this


class Source(Protocol):
    """Where clips come from."""

    def batch(self, count: int, dice: Generator) -> NDArray[np.uint8]:
        """(count, frames, height, width, channels), decided by `dice` alone."""
        ...


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how fast: AdamW whose rate rises for `warm` steps and falls in the last share.

    `tasks` unified draws all seven; `wide` draws how much is given, too. `free` is the share of
    clips of which nothing is given, for guidance. `ema` is how much of the average stays a step.
    """

    steps: Count = 100_000
    batch: Count = 32
    rate: Annotated[float, Meta(gt=0)] = 1e-4
    warm: Annotated[int, Meta(ge=0)] = 200
    decay: Annotated[float, Meta(ge=0, le=1)] = 0.2
    clip: Annotated[float, Meta(gt=0)] = 1.0
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.9999
    free: Annotated[float, Meta(ge=0, le=1)] = 0.1
    wide: bool = True
    tasks: Literal["unified"] | VideoTask = "unified"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        falling = max(1, round(self.decay * self.steps))
        left = min(1.0, max(0.0, (self.steps - step) / falling)) if self.decay else 1.0
        return self.rate * min(1.0, (step + 1) / max(self.warm, 1)) * left


class Trainer:
    """A net in training; `step` after `step`, `save` and `load` at any of them."""

    def __init__(
        self,
        design: Design,
        schedule: Schedule,
        source: Source,
        codec: Codec,
        *,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(schedule.seed)
        self.design, self.schedule, self.step_count = design, schedule, 0
        self._source, self._codec, self._device = source, codec, torch.device(device)
        self.net = build(design).to(self._device)
        self._names = [name for name, _ in self.net.named_parameters()]
        self.average = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        self._optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=schedule.rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self._run: Any = torch.compile(self.net) if compiled else self.net

    def step(self) -> float:
        """One update; the mean loss of its batch."""
        schedule = self.schedule
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.rate_at(self.step_count)
        loss = self._loss()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), schedule.clip)
        self._optimizer.step()
        self.step_count += 1
        self._follow()
        return float(loss.detach())

    def _loss(self) -> Tensor:
        schedule = self.schedule
        dice = np.random.default_rng((schedule.seed, self.step_count))
        clips = torch.from_numpy(self._source.batch(schedule.batch, dice))
        masks_ = torch.from_numpy(np.stack([self._mask(dice) for _ in range(schedule.batch)]))
        seed = int(dice.integers(2**62))
        draw = torch.Generator(self._device).manual_seed(seed)
        clip = clips.to(self._device).movedim(-1, 2).float() / 255
        with torch.no_grad():
            latent = self._codec.encode(clip)
        kind = self._device.type
        half = schedule.precision == "bfloat16"

        def net(*inputs: Tensor | None) -> Tensor:
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                out: Tensor = self._run(*inputs)
            return out

        mask = masks_.to(self._device)
        return process(self.design).loss(net, self.design, latent, mask, draw).mean()

    def _mask(self, dice: Generator) -> masks.Mask:
        schedule, grid = self.schedule, self.design.grid
        if dice.random() < schedule.free:
            return np.ones(grid, np.float32)
        if schedule.tasks == "unified":
            return masks.mixed(grid, dice, wide=schedule.wide)
        return (masks.widened if schedule.wide else masks.fixed)(schedule.tasks, grid, dice)

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(self.schedule.ema, (1 + self.step_count) / (_EMA_START + self.step_count))
        for name, parameter in self.net.named_parameters():
            self.average[name].lerp_(parameter, 1 - keep)

    def save(self, path: Path) -> None:
        """All that is needed to go on from here, in one file."""
        tensors: dict[str, Tensor] = {f"net.{n}": p for n, p in self.net.named_parameters()}
        tensors |= {f"average.{name}": each for name, each in self.average.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            name = self._names[index]
            tensors |= {f"moment.{key}.{name}": value for key, value in state.items()}
        about = {"schedule": msgspec.to_builtins(self.schedule), "step": self.step_count}
        checkpoint.save(path, self.design, tensors, **about)

    def load(self, path: Path) -> None:
        """Go on from there; ConfigError if that was another net."""
        design, tensors, about = checkpoint.read(path)
        if design != self.design:
            raise ConfigError(f"{path} is of another design: train into another folder")
        state = self.net.state_dict()
        state.update({name: tensors[f"net.{name}"] for name in self._names})
        self.net.load_state_dict(state)
        self.average = {n: tensors[f"average.{n}"].to(self._device) for n in self._names}
        held = self._optimizer.state_dict()
        held["state"] = {i: _moments(tensors, name) for i, name in enumerate(self._names)}
        self._optimizer.load_state_dict(held)
        self.step_count = int(str(about["step"]))


def _moments(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    keys = ("step", "exp_avg", "exp_avg_sq")
    return {key: tensors[f"moment.{key}.{name}"] for key in keys}
