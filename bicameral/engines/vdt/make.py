"""Makes the clip that was wished for, window after window and step after step, in one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from msgspec import Struct
from torch import Generator, Tensor

from bicameral.engines.vdt.extend import Window, windows
from bicameral.engines.vdt.film import Film
from bicameral.engines.vdt.load import Loaded
from bicameral.engines.vdt.network import process
from bicameral.engines.vdt.wishes import Wish
from bicameral.errors import Broken, ModelError

_SEEDS = 2**64


class Manner(Struct, frozen=True, kw_only=True):
    """How to sample: steps of each window, 1 for no guidance, and the seed of all chance."""

    steps: int
    guidance: float
    seed: int


def make(
    name: str,
    loaded: Loaded,
    wish: Wish,
    manner: Manner,
    *,
    told: Callable[[int, int], None],
    gone: Callable[[], bool],
) -> Film | None:
    """The clip, its kept pixels as they were given; None if `gone` says between steps to stop.

    After each step `told` gets its number, from 1 on, and how many there are. Equal wishes, manners
    and machines give equal clips. ModelError, as of the model called `name`, if the chip's memory
    is too small; Broken if the net puts out what is no number.
    """
    plan = windows(wish.mask, loaded.design.frames)
    film, steps = wish.film.copy(), _Steps(len(plan) * manner.steps, told, gone)
    draw = Generator(loaded.device).manual_seed(manner.seed % _SEEDS)
    try:
        with torch.inference_mode():
            for window in plan:
                state = steps.through(_sampled(loaded, film, window, manner, draw))
                if state is None:
                    return None
                _put(film, _pixels(name, loaded, state), window, wish, loaded.design.cell)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            name,
            f"a clip of {film.shape[2]} x {film.shape[1]} pixels does not fit the chip's memory "
            "now: ask for a smaller one, or serve with fewer slots",
        ) from error
    return film[: wish.frames]


class _Steps:
    """Counts the steps of all windows."""

    def __init__(
        self, total: int, told: Callable[[int, int], None], gone: Callable[[], bool]
    ) -> None:
        self._done, self._total, self._told, self._gone = 0, total, told, gone

    def through(self, states: Iterator[Tensor]) -> Tensor | None:
        """The last of `states`, None if it was stopped before."""
        last = None
        for state in states:
            last, self._done = state, self._done + 1
            if self._gone():
                return None
            self._told(self._done, self._total)
        return last


def _sampled(
    loaded: Loaded, film: Film, window: Window, manner: Manner, draw: Generator
) -> Iterator[Tensor]:
    """What the net sees of the window's clip after each step."""
    clip = torch.from_numpy(film[window.frames]).to(loaded.device).movedim(-1, 1).float() / 255
    mask = torch.from_numpy(window.mask).to(loaded.device)
    nothing = bool((window.mask == 1).all())  # is given, so there is nothing to be led by
    kind = loaded.device.type

    def net(*inputs: Tensor | None) -> Tensor:
        with torch.autocast(kind, torch.bfloat16, enabled=loaded.half):
            out: Tensor = loaded.net(*inputs)
        return out

    return process(loaded.design).sample(
        net,
        loaded.design,
        loaded.codec.encode(clip[None]),
        mask[None],
        draw,
        steps=manner.steps,
        guidance=1.0 if nothing else manner.guidance,
    )


def _pixels(name: str, loaded: Loaded, state: Tensor) -> Film:
    """(frames, height, width, channels), rounded to the nearest of 256 values."""
    clip = loaded.codec.decode(state)[0].float()
    if not bool(clip.isfinite().all()):
        raise Broken(name, "the net puts out what is no number: set precision to float32")
    shades = (clip.clamp(0, 1) * 255).round().to(torch.uint8)
    film: Film = shades.movedim(1, -1).cpu().numpy()
    return film


def _put(film: Film, made: Film, window: Window, wish: Wish, cell: int) -> None:
    """Take over what was made, but for pixels that are kept though their token was not."""
    fresh = np.repeat(np.repeat(window.mask > 0, cell, axis=1), cell, axis=2)
    fresh &= ~wish.kept[window.frames]
    film[window.frames][fresh] = made[fresh]
