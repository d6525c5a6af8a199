"""Looking at a net in training: its loss and a sample for each of the seven tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bicameral.engines.vdt import masks
from bicameral.engines.vdt.codec import Codec
from bicameral.engines.vdt.learn.sheet import Strip, write
from bicameral.engines.vdt.learn.train import Source, Trainer
from bicameral.engines.vdt.network import process

_CLIPS = 8  # whose loss is measured, the same ones each time
_STEPS = 20  # of sampling


class Looks:
    """Always the same clips, masks and noise, so that what changes from look to look is the net."""

    def __init__(self, trainer: Trainer, source: Source, codec: Codec, device: str) -> None:
        self._trainer, self._codec, self._device = trainer, codec, torch.device(device)
        dice = np.random.default_rng((trainer.schedule.seed, 2**31))
        self._clips = source.batch(_CLIPS, dice)
        self._seed = int(dice.integers(2**62))
        grid = trainer.design.grid
        self._masks = {
            task: np.stack([masks.fixed(task, grid, dice) for _ in range(_CLIPS)])
            for task in masks.TASKS
        }

    @torch.no_grad()
    def losses(self) -> dict[str, float]:
        """Of the averaged weights, by task."""
        latent, design = self._latent(self._clips), self._trainer.design
        found: dict[str, float] = {}
        for task, mask in self._masks.items():
            draw = torch.Generator(self._device).manual_seed(self._seed)
            each = process(design).loss(
                self._trainer.averaged, design, latent, self._tensor(mask), draw
            )
            found[task] = float(each.mean())
        return found

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        """A clip and a sample for each task."""
        clips = self._clips[: len(masks.TASKS)]
        chosen = np.stack([mask[i] for i, mask in enumerate(self._masks.values())])
        made = self._made(clips, chosen)
        cell = self._trainer.design.cell
        wide = chosen.repeat(cell, 2).repeat(cell, 3)
        write(path, list(_strips(clips, wide, made)))

    def _made(self, clips: NDArray[np.uint8], mask: masks.Mask) -> NDArray[np.uint8]:
        design = self._trainer.design
        draw = torch.Generator(self._device).manual_seed(self._seed)
        steps = process(design).sample(
            self._trainer.averaged,
            design,
            self._latent(clips),
            self._tensor(mask),
            draw,
            steps=_STEPS,
        )
        latent = deque(steps, maxlen=1).pop()
        pixels = self._codec.decode(latent.float()).clamp(0, 1) * 255
        array: NDArray[np.uint8] = pixels.round().byte().movedim(2, -1).cpu().numpy()
        return array

    def _latent(self, clips: NDArray[np.uint8]) -> Tensor:
        return self._codec.encode(self._tensor(clips).movedim(-1, 2).float() / 255)

    def _tensor(self, array: NDArray[np.uint8] | masks.Mask) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _strips(clips: NDArray[np.uint8], mask: masks.Mask, made: NDArray[np.uint8]) -> Iterator[Strip]:
    for task, *parts in zip(masks.TASKS, clips, mask, made, strict=True):
        yield Strip(task, *parts)
