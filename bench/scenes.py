"""Streams of a fixed camera, made here, with known events: nothing is filmed, all is seeded.

A stream is a textured background under camera noise, one nuisance (its kind), and objects that
enter, cross, stop, leave, or appear and vanish. Objects are boxes, ellipses, textured blobs and
handwritten digits; their contrast, size and speed are drawn wide, so some are hard to see. The
kinds HELD_OUT, the walker and the digits of the test split are for tests alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from nuisances import FPS, HEIGHT, NUISANCES, WIDTH, Array, Nuisance, blurred
from numpy.typing import NDArray

from bicameral.right.stream.frame import Frame

TRAINED = ("quiet", "flicker", "light", "leaves", "rain")
HELD_OUT = ("snow", "water", "shake", "lamp", "night")
QUIET_START = 30.0  # no event before: every gate may learn what is usual here
DATA = Path(os.environ.get("BICAMERAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


@dataclass(frozen=True)
class Event:
    """Something worth waking for, in seconds: from first sight to last, and what it was."""

    start: float
    end: float
    what: str


@dataclass(frozen=True)
class Actor:
    """An object: its mask, its tone or texture, and where it is at each frame of its life."""

    first: int
    mask: Array
    texture: Array
    xs: NDArray[np.int64]
    ys: NDArray[np.int64]
    what: str
    grows: bool = False


@cache
def digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Train and test digits: 8,500 and 1,500, by a fixed permutation."""
    images = np.load(DATA / "mnist" / "mnist10k.npz")["x"]
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[:8500]], images[order[8500:]]


def scaled(image: Array, height: int, width: int) -> Array:
    """Nearest neighbour."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return image[rows[:, None], columns]


def soft(mask: Array) -> Array:
    return blurred(np.pad(mask, 1).astype(np.float32), 1)


def walker(size: int) -> Array:
    """Head, body, two legs."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -0.5 : 0.5 : max(4, size // 2) * 1j]
    head = (x / 0.18) ** 2 + ((y + 0.78) / 0.2) ** 2 < 1
    body = (abs(x) < 0.28) & (y > -0.58) & (y < 0.2)
    legs = (abs(abs(x) - 0.17) < 0.09) & (y >= 0.2)
    return (head | body | legs).astype(np.float32)


def mask(rng: np.random.Generator, shape: str, size: int) -> Array:
    if shape in ("digit", "unseen digit"):
        image = rng.choice(digits()[shape == "unseen digit"])
        return scaled(image.astype(np.float32) / 255, size, size)
    if shape == "walker":
        return walker(max(10, size))
    width = max(4, int(size * rng.uniform(0.5, 1.6)))
    if shape == "box":
        return np.ones((size, width), np.float32)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : width * 1j]
    return (x**2 + y**2 < 1).astype(np.float32)


class Stream:
    """One camera for `seconds`; `truth` is known before the first frame is made."""

    def __init__(
        self, kind: str, seed: int, seconds: float, *, gap: float = 45.0, unseen: bool | None = None
    ) -> None:
        self.kind, self.seed, self.seconds = kind, seed, seconds
        self.frames_total = int(seconds * FPS)
        self._rng = np.random.default_rng([seed, (*TRAINED, *HELD_OUT).index(kind)])
        self._unseen = kind in HELD_OUT if unseen is None else unseen
        self._background = self._made_background()
        self._nuisance = NUISANCES.get(kind, Nuisance)(self._rng, self._background)
        self.actors = self._cast(gap)
        self.truth = [truth(actor) for actor in self.actors]

    def _made_background(self) -> Array:
        rng, night = self._rng, self.kind == "night"
        level = rng.uniform(12, 25) if night else rng.uniform(60, 170)
        image = np.zeros((HEIGHT, WIDTH), np.float32)
        for radius, weight in ((12, 1.0), (3, 0.5)):
            noise = blurred(rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32), radius)
            image += weight * noise / noise.std()
        for _ in range(rng.integers(3, 9)):
            y, x = rng.integers(0, HEIGHT - 10), rng.integers(0, WIDTH - 10)
            image[y : y + rng.integers(8, 50), x : x + rng.integers(8, 60)] += rng.normal() * 1.2
        return np.clip(level * (1 + 0.22 * image), 4, 235).astype(np.float32)

    def _cast(self, gap: float) -> list[Actor]:
        actors, now = [], QUIET_START
        while True:
            now += 6.0 + self._rng.exponential(gap)
            actor = self._actor(int(now * FPS))
            now = (actor.first + len(actor.xs)) / FPS
            if now > self.seconds - 3:
                return actors
            actors.append(actor)

    def _actor(self, first: int) -> Actor:
        rng = self._rng
        shapes = ["box", "ellipse", "digit"]
        shapes = ["unseen digit", "walker", "box", "ellipse"] if self._unseen else shapes
        acts = ["cross", "cross", "visit", "appear", *(["approach"] if self._unseen else [])]
        shape, act = str(rng.choice(shapes)), str(rng.choice(acts))
        shaped = soft(mask(rng, shape, int(np.exp(rng.uniform(np.log(8), np.log(36))))))
        xs, ys = path(rng, act, *shaped.shape)
        contrast = np.exp(rng.uniform(np.log(12), np.log(80))) * rng.choice([-1, 1])
        if self.kind == "night":
            contrast = abs(contrast) * 0.5
        mean = float(self._background.mean())
        tone = mean + contrast if 2 < mean + contrast < 250 else mean - contrast
        grain = blurred(rng.standard_normal(shaped.shape, dtype=np.float32), 1)
        texture = np.clip(tone + grain * rng.choice([0, 0, 25]), 0, 255)
        return Actor(first, shaped, texture, xs, ys, f"{act} {shape}", act == "approach")

    def moving(self) -> NDArray[np.int8]:
        """For training, per frame: 1 something moves or has just changed, 0 nothing is there, -1
        something is there and still."""
        label = np.zeros(self.frames_total, np.int8)
        for actor, event in zip(self.actors, self.truth, strict=True):
            first, last = round(event.start * FPS), round(event.end * FPS)
            label[first : last + FPS] = -1
            here = np.arange(first, last + 1) - actor.first
            steps = np.abs(np.diff(actor.xs, prepend=-999)) + np.abs(np.diff(actor.ys, prepend=0))
            changed = (steps[here] > 0) | actor.grows | (here == here[0])
            label[first : last + 1][changed] = 1
            label[last + 1] = 1
        return label

    def frames(self) -> Iterator[Frame]:
        rng = self._rng
        bank = rng.standard_normal((48, HEIGHT, WIDTH), dtype=np.float32)
        night = self.kind == "night"
        sigma = np.sqrt((2.5 if night else 1.2) ** 2 + (0.15 if night else 0.03) * self._background)
        alive: list[Actor] = []
        coming = list(self.actors)
        for index in range(self.frames_total):
            image = self._nuisance.under(index / FPS)
            while coming and coming[0].first <= index:
                alive.append(coming.pop(0))
            alive = [actor for actor in alive if index - actor.first < len(actor.xs)]
            for actor in alive:
                draw(image, actor, index - actor.first)
            self._nuisance.over(image, index / FPS)
            noise = np.roll(bank[rng.integers(48)], rng.integers(HEIGHT * WIDTH))
            image += sigma * noise
            grey = np.clip(image + 0.5, 0, 255).astype(np.uint8)
            pixels = np.repeat(grey[:, :, None], 3, axis=2)
            pixels.flags.writeable = False
            yield Frame(index=index, at=index / FPS, pixels=pixels)


def path(rng: np.random.Generator, act: str, height: int, width: int) -> tuple[NDArray, NDArray]:
    """Top left corners per frame; a crosser starts and ends out of sight."""
    speed = np.exp(rng.uniform(np.log(8), np.log(60))) / FPS
    if act in ("appear", "approach"):
        frames = int(rng.uniform(3, 10) * FPS)
        x, y = rng.integers(0, WIDTH - width), rng.integers(0, HEIGHT - height)
        return np.full(frames, x), np.full(frames, y)
    across = rng.random() < 0.7
    room, own = (WIDTH, width) if across else (HEIGHT, height)
    along = np.arange(-own, room, speed)
    if act == "visit":
        turn = int(len(along) * rng.uniform(0.3, 0.7))
        stop = np.full(int(rng.uniform(2, 6) * FPS), along[turn])
        back = along[turn::-1] if rng.random() < 0.5 else along[turn:]
        along = np.concatenate([along[:turn], stop, back])
    if rng.random() < 0.5:
        along = room - own - along
    beside = rng.integers(0, (HEIGHT - height) if across else (WIDTH - width))
    drift = beside + np.cumsum(rng.normal(0, 0.3, len(along)))
    along, drift = np.round(along).astype(int), np.round(drift).astype(int)
    return (along, drift) if across else (drift, along)


def shown(actor: Actor, age: int) -> tuple[Array, Array]:
    """Mask and texture at that age; one that comes near grows from a fifth to its whole size."""
    if not actor.grows:
        return actor.mask, actor.texture
    share = 0.2 + 0.8 * age / len(actor.xs)
    size = [max(3, int(n * share)) for n in actor.mask.shape]
    return scaled(actor.mask, *size), scaled(actor.texture, *size)


def window(actor: Actor, age: int) -> tuple[int, int, int, int]:
    height, width = shown(actor, age)[0].shape
    x, y = int(actor.xs[age]), int(actor.ys[age])
    return max(0, y), min(HEIGHT, y + height), max(0, x), min(WIDTH, x + width)


def draw(image: Array, actor: Actor, age: int) -> None:
    top, bottom, left, right = window(actor, age)
    if top >= bottom or left >= right:
        return
    covers, texture = shown(actor, age)
    y, x = int(actor.ys[age]), int(actor.xs[age])
    part = (slice(top - y, bottom - y), slice(left - x, right - x))
    seen = image[top:bottom, left:right]
    seen += covers[part] * (texture[part] - seen)


def truth(actor: Actor) -> Event:
    """From the first to the last frame that shows at least 30 % of the object."""
    seen = []
    for age in range(len(actor.xs)):
        top, bottom, left, right = window(actor, age)
        area = shown(actor, age)[0].size
        if max(0, bottom - top) * max(0, right - left) >= 0.3 * area:
            seen.append(age)
    return Event((actor.first + seen[0]) / FPS, (actor.first + seen[-1]) / FPS, actor.what)
