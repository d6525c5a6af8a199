"""The loop that trains: a step depends on the seed and its number alone, so it resumes exactly."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from bicameral.engines.vdt import checkpoint, masks
from bicameral.engines.vdt.codec import Codec
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.learn.descent import Descent
from bicameral.engines.vdt.learn.share import ALONE, Share, faster
from bicameral.engines.vdt.network import build, process
from bicameral.errors import ConfigError, WeightsError
from bicameral.types import VideoTask

Count = Annotated[int, Meta(ge=1)]
_MOMENT = "moment."
_EMA_START = 10  # the average forgets faster while it is younger than some times this


class Source(Protocol):
    """Where clips come from."""

    def batch(self, count: int, dice: Generator) -> NDArray[np.uint8]:
        """(count, frames, height, width, channels), decided by `dice` alone."""
        ...


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how fast: AdamW whose rate rises for `warm` steps and falls in the last share,
    and, where `muon` is above 0, Muon at that rate for the matrices of the blocks.

    `tasks` unified draws all seven; `wide` draws how much is given, too. `free` is the share of
    clips of which nothing is given, for guidance. `ema` is how much of the average stays a step.
    """

    steps: Count = 100_000
    batch: Count = 32
    rate: Annotated[float, Meta(gt=0)] = 1e-4
    muon: Annotated[float, Meta(ge=0)] = 0.0
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
        """The learning rate of AdamW at step `step`, counted from 0."""
        falling = max(1, round(self.decay * self.steps))
        left = min(1.0, max(0.0, (self.steps - step) / falling)) if self.decay else 1.0
        return self.rate * min(1.0, (step + 1) / max(self.warm, 1)) * left


class Parted(Source, Protocol):
    """A source of which several processes each take a part of the same batch."""

    def part(self, count: int, dice: Generator, rows: slice) -> NDArray[np.uint8]:
        """Those rows of what `batch` would give; `dice` moves on as if it were all."""
        ...


class Batch(Struct, frozen=True):
    """`clips` are the own rows of a batch as uint8, `masks` all of them; `seed` is of its noise."""

    clips: NDArray[np.uint8]
    masks: masks.Mask
    seed: int


class Trainer:
    """A net in training; `step` after `step`, `save` and `load` at any of them.

    With `share`, one of several processes in a process group of torch's: each takes its rows of
    the same batch, and their gradients are averaged. `compiled` falls back and says so through
    `said`. `ahead` draws the next batch while this one is computed.
    """

    def __init__(
        self,
        design: Design,
        schedule: Schedule,
        source: Source,
        codec: Codec,
        *,
        device: str = "cpu",
        compiled: bool = False,
        share: Share = ALONE,
        ahead: bool = False,
        said: Callable[[str], None] = lambda text: None,
    ) -> None:
        torch.manual_seed(schedule.seed)
        self.design, self.schedule, self.step_count = design, schedule, 0
        self._source, self._codec, self._device = source, codec, torch.device(device)
        self._share, self._rows = share, share.rows(schedule.batch)
        self.net = build(design).to(self._device)
        self._names = [name for name, _ in self.net.named_parameters()]
        self.average = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        self._descent = Descent(self.net, schedule.rate, schedule.muon)
        self._run: Any = share.joined(self.net, self._device)
        if compiled:
            count = self._rows.stop - self._rows.start
            half = schedule.precision == "bfloat16"
            self._run = faster(self._run, design, count, self._device, half=half, said=said)
        self._ahead = ThreadPoolExecutor(1) if ahead else None
        self._next: tuple[int, Future[Batch]] | None = None

    def step(self) -> float:
        """One update; the mean loss of its batch. ConfigError: there is no gradient to follow."""
        schedule = self.schedule
        loss = self._loss(self._batch())
        loss.backward()
        size = torch.nn.utils.clip_grad_norm_(self.net.parameters(), schedule.clip)
        if not torch.isfinite(size):
            raise ConfigError(
                f"step {self.step_count + 1}: the gradient is no number any more (loss "
                f"{float(loss.detach()):g}): train into another folder at a lower rate"
            )
        self._descent.step(schedule.rate_at(self.step_count) / schedule.rate)
        self.step_count += 1
        self._follow()
        return self._share.mean(loss.detach())

    def _batch(self) -> Batch:
        step = self.step_count
        if self._ahead is None:
            return self._drawn(step)
        held = self._next
        batch = held[1].result() if held and held[0] == step else self._drawn(step)
        if step + 1 < self.schedule.steps:
            self._next = step + 1, self._ahead.submit(self._drawn, step + 1)
        return batch

    def _drawn(self, step: int) -> Batch:
        """All chance of a step, from the seed and its number."""
        schedule = self.schedule
        dice = np.random.default_rng((schedule.seed, step))
        if self._share.count == 1:
            clips = self._source.batch(schedule.batch, dice)
        else:
            clips = cast(Parted, self._source).part(schedule.batch, dice, self._rows)
        masks_ = np.stack([self._mask(dice) for _ in range(schedule.batch)])
        return Batch(clips, masks_, int(dice.integers(2**62)))

    def _loss(self, batch: Batch) -> Tensor:
        draw = torch.Generator(self._device).manual_seed(batch.seed)
        clip = torch.from_numpy(batch.clips).to(self._device).movedim(-1, 2).float() / 255
        with torch.no_grad():
            latent = self._spaced(self._codec.encode(clip))
        mask = torch.from_numpy(batch.masks).to(self._device)
        each = process(self.design).loss(self._own, self.design, latent, mask, draw)
        return each[self._rows].mean()

    def _own(self, *inputs: Tensor | None) -> Tensor:
        """The net, run on the own rows only."""
        half = self.schedule.precision == "bfloat16"
        if self._share.count > 1:
            inputs = tuple(None if each is None else each[self._rows] for each in inputs)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            out: Tensor = self._run(*inputs)
        return self._spaced(out)

    def _spaced(self, rows: Tensor) -> Tensor:
        """Own rows at their places in a whole batch, zeros elsewhere.

        The process then draws the noise of the whole batch, which is how every process has its
        rows of the same noise.
        """
        if self._share.count == 1:
            return rows
        whole = rows.new_zeros((self.schedule.batch, *rows.shape[1:]))
        whole[self._rows] = rows
        return whole

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
        torch._foreach_lerp_(list(self.average.values()), list(self.net.parameters()), 1 - keep)

    def averaged(self, *inputs: Tensor | None) -> Tensor:
        """The net with its averaged weights, as it is sampled from."""
        half = self.schedule.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            out: Tensor = functional_call(self.net, self.average, inputs)
        return out

    def save(self, path: Path, **more: object) -> None:
        """All that is needed to go on from here, in one file; `more` is kept beside it."""
        tensors: dict[str, Tensor] = {f"net.{n}": p for n, p in self.net.named_parameters()}
        tensors |= {f"average.{name}": each for name, each in self.average.items()}
        tensors |= {_MOMENT + name: value for name, value in self._descent.moments().items()}
        about = {"schedule": msgspec.to_builtins(self.schedule), "step": self.step_count, **more}
        checkpoint.save(path, self.design, tensors, **about)

    def load(self, path: Path) -> dict[str, object]:
        """Go on from there, with what was kept beside it; ConfigError if that was another net."""
        design, tensors, about = checkpoint.read(path)
        if design != self.design:
            raise ConfigError(f"{path} is of another design: train into another folder")
        state = self.net.state_dict()
        try:
            state.update({name: tensors[f"net.{name}"] for name in self._names})
            average = {n: tensors[f"average.{n}"].to(self._device) for n in self._names}
            held = {n[len(_MOMENT) :]: each for n, each in tensors.items() if n.startswith(_MOMENT)}
            self._descent.restore(held)
            step = int(str(about["step"]))
        except KeyError as error:
            raise WeightsError(f"{path} is no state of a training: it lacks {error}") from error
        self.net.load_state_dict(state)
        self.average = average
        self.step_count = step
        return about
