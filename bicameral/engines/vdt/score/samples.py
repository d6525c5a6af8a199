"""Clips made by a net to be scored: many at once, several of each, decided by a seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Generator, Tensor

from bicameral.engines.vdt.extend import windows
from bicameral.engines.vdt.load import Loaded
from bicameral.engines.vdt.masks import Mask
from bicameral.engines.vdt.network import process
from bicameral.engines.vdt.parts import spread

Told = Callable[[int], None]  # so many more steps of a clip are done


class Way(Struct, frozen=True, kw_only=True):
    """`samples` of each clip, `batch` clips at once; the batch decides the noise with the seed."""

    samples: int = 4
    steps: int = 20
    guidance: float = 1.0
    seed: int = 0
    batch: int = 32


class Made(Struct, frozen=True, eq=False):
    """The clips from number `first` on: `films` (n, K, T, H, W, C) from 0 to 1, not clipped.

    What was given is in them as it was. `kept_error` is how far the sampler itself was from that,
    in the numbers that the net sees: it must be 0.
    """

    first: int
    films: NDArray[np.float32]
    kept_error: float


def made(
    loaded: Loaded, clips: NDArray[np.uint8], mask: Mask, way: Way, *, key: int, told: Told
) -> Iterator[Made]:
    """Samples of clips (n, T, H, W, C) under masks (n, T, h, w), a batch at a time.

    Clips longer than the net's own are made by windows, and then their masks must be all the same.
    `key` sets the noise of one use apart from others of one seed.
    """
    count = max(1, way.batch // way.samples)
    for first in range(0, len(clips), count):
        part = slice(first, first + count)
        film, kept = _filmed(loaded, clips[part], mask[part], way, _dice(loaded, way, key, first))
        told(len(film) * way.steps * len(windows(mask[0], loaded.design.frames)))
        yield Made(first, film.unflatten(0, (-1, way.samples)).cpu().numpy(), kept)


def compiled(loaded: Loaded, way: Way, said: Callable[[str], None]) -> Loaded:
    """The same through torch's compiler, tried on a batch; as it was, and why, if that fails.

    It takes a minute or two, and then half the time on a CPU. Batches should all be full.
    """
    design = loaded.design
    frames, rows, columns = design.grid
    count = max(1, way.batch // way.samples) * way.samples
    size = (count, frames, design.latent, rows * design.patch, columns * design.patch)
    faster = Loaded(design, torch.compile(loaded.net), loaded.codec, loaded.device, loaded.half)
    once = Way(samples=1, steps=1, batch=count)
    try:
        with torch.inference_mode():  # of which are the tensors, too, or it is compiled anew
            known = torch.zeros(size, device=loaded.device)
            mask = torch.ones((count, *design.grid), device=loaded.device)
            _last(faster, known, mask, once, Generator(loaded.device).manual_seed(0))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said(f"--compile has no effect here: {str(error).strip().splitlines()[0]}")
        return loaded
    return faster


def effort(loaded: Loaded, mask: Mask, way: Way) -> int:
    """How many steps of a clip `made` will tell of, for masks (n, T, h, w)."""
    return len(mask) * way.samples * way.steps * len(windows(mask[0], loaded.design.frames))


def _dice(loaded: Loaded, way: Way, key: int, first: int) -> Generator:
    seed = int(np.random.default_rng((way.seed, key, first)).integers(2**62))
    return Generator(loaded.device).manual_seed(seed)


@torch.inference_mode()
def _filmed(
    loaded: Loaded, clips: NDArray[np.uint8], mask: Mask, way: Way, draw: Generator
) -> tuple[Tensor, float]:
    """(n * K, T, H, W, C), and how far off what was given was."""
    frames, cell = loaded.design.frames, loaded.design.cell
    film = _each(torch.from_numpy(clips), way).to(loaded.device).movedim(-1, 2).float() / 255
    masks = _each(torch.from_numpy(mask), way).to(loaded.device)
    film = torch.where(spread(masks, cell) > 0, 0, film)  # nobody sees what is to be made
    plan = [(slice(0, frames), masks)]
    if mask.shape[1] > frames:
        plan = [
            (w.frames, torch.from_numpy(w.mask).to(masks).expand(len(film), *w.mask.shape))
            for w in windows(mask[0], frames)
        ]
    worst = 0.0
    for where, fresh in plan:
        known = loaded.codec.encode(film[:, where])
        last = _last(loaded, known, fresh, way, draw)
        kept = spread(fresh, loaded.design.patch) <= 0
        worst = max(worst, float(((last - known).abs() * kept).max()))
        pixels = loaded.codec.decode(last).float()
        if where.stop < mask.shape[1]:
            pixels = pixels.clamp(0, 1)  # what the next window goes on from is what was shown
        film[:, where] = torch.where(spread(fresh, cell) > 0, pixels, film[:, where])
    return film.movedim(2, -1), worst


def _last(loaded: Loaded, known: Tensor, mask: Tensor, way: Way, draw: Generator) -> Tensor:
    def net(*inputs: Tensor | None) -> Tensor:
        with torch.autocast(loaded.device.type, torch.bfloat16, enabled=loaded.half):
            out: Tensor = loaded.net(*inputs)
        return out

    # One layout in memory, whatever was cut from what: a compiled net is compiled anew for others.
    steps = process(loaded.design).sample(
        net,
        loaded.design,
        known.contiguous(),
        mask.contiguous(),
        draw,
        steps=way.steps,
        guidance=way.guidance,
    )
    return deque(steps, maxlen=1).pop()


def _each(rows: Tensor, way: Way) -> Tensor:
    return rows.repeat_interleave(way.samples, 0)
