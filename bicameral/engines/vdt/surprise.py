"""How little of a clip a net sees coming: the error of its guesses, held against what is there.

A net that has learned how things move and look is surprised where they do not. It is asked twice:
of each frame, hidden by noise but for a trace, from the frames before it (motion); and of the whole
clip under a little noise (looks). All chance is seeded and the same for every clip, so equal clips
are equally surprising. A number by itself says little: see `calibration` for what is usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.typing import NDArray
from torch import Tensor

from bicameral.engines.vdt import ddpm, flow
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.film import Film
from bicameral.engines.vdt.load import Loaded
from bicameral.engines.vdt.network import Net
from bicameral.engines.vdt.parts import split, spread
from bicameral.errors import ModelError, RequestError

Real = NDArray[np.float64]
Level = Annotated[float, Meta(gt=0, le=1)]
_LEAST = 1e-6  # an error below it is of rounding
_BATCH = 32  # clips that go through the net at once
_MOST_NOISE = 0.9  # of a faithful net


class Way(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How errors are measured: by how much noise, and by `draws` noises of `seed`.

    At level 1 nothing is to be seen of what is guessed. The levels were chosen on pairs of possible
    and impossible clips, not those of the tables: see bench/video_surprise.py.
    """

    motion: Level = 0.6
    looks: Level = 0.3
    draws: Annotated[int, Meta(ge=1, le=64)] = 1
    seed: int = 0


class Scale(Struct, frozen=True, kw_only=True):
    """Mean and deviation of both readings over possible clips, which make them comparable."""

    motion: tuple[float, float] = (0.0, 1.0)
    looks: tuple[float, float] = (0.0, 1.0)


class Window(Struct, frozen=True, eq=False):
    """A clip of as many frames as the net learned from.

    `errors` (frames,) are mean squared errors of each frame guessed from those before it, NaN for
    the first ones; `looks` (frames,) those of the worst cell of each frame, restored; `past` that
    of the whole first frames. All are of what the net sees: pixels count from -1 to 1.
    """

    errors: Real
    looks: Real
    past: float

    @property
    def motion(self) -> float:
        """How far the worst frame stands out of its own clip, in e-folds: hard clips are calm."""
        return _log(float(np.nanmax(self.errors) - np.nanmedian(self.errors)))

    @property
    def look(self) -> float:
        """The worst cell of all, in e-folds."""
        return _log(float(self.looks.max()))

    def score(self, scale: Scale) -> float:
        """The higher of both readings, in deviations from what is usual."""
        return max(self._readings(scale))

    def frame(self, scale: Scale) -> int:
        """The one that the score is of."""
        motion, look = self._readings(scale)
        return int(np.nanargmax(self.errors) if motion >= look else self.looks.argmax())

    def _readings(self, scale: Scale) -> tuple[float, float]:
        motion = (self.motion - scale.motion[0]) / scale.motion[1]
        return motion, (self.look - scale.looks[0]) / scale.looks[1]


class Surprise(Struct, frozen=True, kw_only=True):
    """Of a clip: `score`, the number of the most surprising `frame`, and what it comes from.

    `errors` of the frames are as in Window, None where too little went before, the greater where
    windows overlap. `past` is of the window of that frame, and `windows` is how many there were.
    """

    score: float
    frame: int
    errors: tuple[float | None, ...]
    past: float
    windows: int


WAY, PLAIN = Way(), Scale()


def surprise(
    net: Net, design: Design, clip: Tensor, way: Way = WAY, scale: Scale = PLAIN
) -> Surprise:
    """Of a clip (frames, C, H, W) as the net sees it, of as many frames as it learned from or more.

    A longer one is cut into windows that overlap by half, and the most surprising counts.
    RequestError if it is shorter.
    """
    starts = _starts(len(clip), design)
    cut = torch.stack([clip[start : start + design.frames] for start in starts])
    found = list(windows(net, design, cut, way))
    errors = np.full(len(clip), np.nan)
    for start, window in zip(starts, found, strict=True):
        part = errors[start : start + design.frames]
        np.fmax(part, window.errors, out=part)
    most = max(range(len(found)), key=lambda index: found[index].score(scale))
    return Surprise(
        score=found[most].score(scale),
        frame=starts[most] + found[most].frame(scale),
        errors=tuple(None if np.isnan(each) else float(each) for each in errors),
        past=found[most].past,
        windows=len(found),
    )


def of_film(
    name: str, loaded: Loaded, film: Film, way: Way = WAY, scale: Scale = PLAIN
) -> Surprise:
    """`surprise` of a film of bytes (frames, H, W, C); ModelError, of `name`, as `make` does."""
    try:
        with torch.inference_mode():
            clip = seen(loaded, film[None])[0]
            return surprise(computing(loaded), loaded.design, clip, way, scale)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            name, "the clip does not fit the chip's memory now: send a smaller one"
        ) from error


def of_films(loaded: Loaded, films: NDArray[np.uint8], way: Way = WAY) -> list[Window]:
    """`windows` of films (B, T, H, W, C) of bytes."""
    with torch.inference_mode():
        return list(windows(computing(loaded), loaded.design, seen(loaded, films), way))


def windows(net: Net, design: Design, clips: Tensor, way: Way = WAY) -> Iterator[Window]:
    """Of each of the clips (B, T, C, H, W), T as many frames as the net learned from."""
    for batch in clips.split(_BATCH):
        errors = foreseen(net, design, batch, way.motion, way)
        cells = recognised(net, design, batch, way.looks, way)
        past = cells[:, : before(design)].mean((1, 2, 3))
        for row in zip(errors, cells.max((2, 3)), past.tolist(), strict=True):
            yield Window(*row)


def before(design: Design) -> int:
    """How many frames go before the first that can surprise: in two a speed can be seen."""
    return max(2, design.frames // 4)


@torch.no_grad()
def foreseen(net: Net, design: Design, clips: Tensor, level: float, way: Way) -> Real:
    """(B, T) the error of each frame guessed from those before it; NaN where that is not asked."""
    total = torch.full(clips.shape[:2], torch.nan)
    for frame in range(before(design), design.frames):
        mask = torch.ones((len(clips), *design.grid), device=clips.device)
        mask[:, :frame] = 0
        guesses = (restored(net, design, clips, mask, n, level) for n in _noises(clips, way))
        off = sum(((guess - clips)[:, frame] ** 2).mean((1, 2, 3)) for guess in guesses)
        total[:, frame] = torch.as_tensor(off).cpu() / way.draws
    return np.asarray(total.double())


@torch.no_grad()
def recognised(net: Net, design: Design, clips: Tensor, level: float, way: Way) -> Real:
    """(B, T, h, w) the error of each cell when all of the clip is restored at once."""
    mask = torch.ones((len(clips), *design.grid), device=clips.device)
    guesses = (restored(net, design, clips, mask, n, level) for n in _noises(clips, way))
    off = sum(split((guess - clips) ** 2, design.patch).mean(-1) for guess in guesses)
    return np.asarray(torch.as_tensor(off).cpu().double() / way.draws)


def restored(
    net: Net, design: Design, clip: Tensor, mask: Tensor, noise: Tensor, level: float
) -> Tensor:
    """The clip as the net guesses it, in one step, from itself noised to `level` where M is 1."""
    made = spread(mask, design.patch)
    given = (1 - made) * clip
    if design.kind == "modern":
        time = level * mask
        wide = spread(time, design.patch)
        x = (1 - wide) * clip + wide * noise
        return x - wide * flow.velocity(net, design, x, mask, time, given, least=flow.EXACT)
    times, signal, much = _step(level, clip)
    x = torch.where(made > 0, signal * clip + much * noise, clip)
    guess = net(x, mask, times, given).float().chunk(2, dim=2)[0]
    return torch.where(made > 0, (x - much * guess) / signal, clip)


def seen(loaded: Loaded, films: NDArray[np.uint8]) -> Tensor:
    """Films (B, T, H, W, C) of bytes as the net sees them."""
    clips = torch.from_numpy(films).to(loaded.device).movedim(-1, 2).float() / 255
    return loaded.codec.encode(clips)


def computing(loaded: Loaded) -> Net:
    """The net in the precision that it was loaded for."""

    def net(*inputs: Tensor | None) -> Tensor:
        with torch.autocast(loaded.device.type, torch.bfloat16, enabled=loaded.half):
            out: Tensor = loaded.net(*inputs)
        return out

    return net


def _starts(frames: int, design: Design) -> list[int]:
    """Of windows that overlap by half at least, and reach both ends."""
    own = design.frames
    if frames < own or own <= before(design):
        raise RequestError(
            f"a clip of {frames} frames is too short to surprise: this net takes {own} or more, "
            f"and more than {before(design)}",
            param="messages",
        )
    last = frames - own
    return [*range(0, last, max(1, own // 2)), last]


def _noises(clips: Tensor, way: Way) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(way.seed)  # of the CPU, so that chips agree
    for _ in range(way.draws):
        yield torch.randn((1, *clips.shape[1:]), generator=draw).to(clips.device)


def _step(level: float, clip: Tensor) -> tuple[Tensor, float, float]:
    """Of the thousand the one with the same share of noise, and its parts of clip and of noise.

    The last ones keep so little of the clip that a guess of the noise says nothing about it.
    """
    kept = ddpm.kept()
    signal, noise = kept.sqrt(), (1 - kept).sqrt()
    shares = noise / (signal + noise)
    time = max(1, int((shares - min(level, _MOST_NOISE)).abs().argmin()))
    times = torch.full((len(clip),), time, device=clip.device)
    return times, float(signal[time]), float(noise[time])


def _log(error: float) -> float:
    return float(np.log(max(error, _LEAST)))
